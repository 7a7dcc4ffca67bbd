//! A Python program at either end, told what to do line by line.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long it may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process of a script in `tests/stories`; it ends with this.
pub struct Peer {
    _child: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts it.
    pub fn start(script: &str, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories").join(script);
        let mut child = python()
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let words = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, orders, words }
    }

    /// The next line that it says.
    pub async fn says(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.words.next_line());
        line.await.expect("in time").unwrap().unwrap_or_default()
    }

    /// What it says to an order.
    pub async fn asked(&mut self, order: &str) -> String {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        self.says().await
    }
}

/// Whether Python has a module; if not, that is said.
pub async fn python_has(module: &str) -> bool {
    let tried = python().args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status().await;
    let has_it = tried.is_ok_and(|status| status.success());
    if !has_it {
        println!("SKIPPED: Python's {module} is not there; tests/tools/python installs it");
        eprintln!("SKIPPED: {module} is NOT tried: Python does not have it");
    }
    has_it
}

/// `TIDEGATE_TEST_PYTHON` names another one than what `tests/tools/python` installs, or the system's.
fn python() -> Command {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python/bin/python");
    let program = match std::env::var_os("TIDEGATE_TEST_PYTHON") {
        Some(named) => named,
        None if installed.exists() => installed.into(),
        None => "python3".into(),
    };
    Command::new(program)
}
