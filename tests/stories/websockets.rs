//! WebSockets as a common library speaks them, through everything that happens to a service.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::{tidegate, until};

/// A process of `websocket_peer.py`; it ends with this.
struct Peer {
    _child: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories/websocket_peer.py");
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

    async fn says(&mut self) -> String {
        let line = tokio::time::timeout(std::time::Duration::from_secs(30), self.words.next_line());
        line.await.expect("in time").unwrap().unwrap_or_default()
    }

    async fn asked(&mut self, order: &str) -> String {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        self.says().await
    }
}

/// `TIDEGATE_TEST_PYTHON` names another one.
fn python() -> Command {
    Command::new(std::env::var("TIDEGATE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned()))
}

#[tokio::test]
async fn a_real_websocket_outlives_weight_changes_and_ends_after_a_kill() {
    let has_it = python().args(["-c", "import websockets.sync.server"]).stderr(Stdio::null()).status().await;
    if !has_it.is_ok_and(|status| status.success()) {
        println!("SKIPPED: Python's websockets is not there; python3 -m pip install websockets");
        eprintln!("SKIPPED: WebSockets are NOT tested with a real client: Python's websockets is not there");
        return;
    }
    let (mut blue, mut green) = (Peer::start(&[]), Peer::start(&[]));
    let (blue, green) = (
        (format!("http://127.0.0.1:{}", blue.says().await), blue),
        (format!("http://127.0.0.1:{}", green.says().await), green),
    );
    let gate = tidegate().set("timeouts: {grace: 100ms}").service_at("shop", &blue.0, &green.0).start().await;
    gate.shift("shop", "100%").await;
    let url = format!("ws://{}/chat", gate.address());
    let mut talker = Peer::start(&[&url]);
    assert_eq!(talker.says().await, "open chat");
    assert_eq!(talker.asked("echo").await, "echoed");
    for share in ["50%", "1%", "0%", "20%"] {
        gate.shift("shop", share).await;
        assert_eq!(talker.asked("echo").await, "echoed", "at {share}");
    }
    let open = async |variant: &str| {
        gate.metrics().await.count("tidegate_tunnels", &[&format!("variant=\"{variant}\"")])
    };
    assert_eq!(open("green").await, 1);
    gate.kill("shop").await;
    assert_eq!(talker.asked("wait").await, "closed 1006");
    until("no tunnel leads to green", async || (open("green").await == 0).then_some(())).await;

    let mut talker = Peer::start(&[&url]);
    assert_eq!(talker.says().await, "open chat");
    assert_eq!(talker.asked("echo").await, "echoed");
    assert_eq!(open("blue").await, 1);
    assert_eq!(talker.asked("close").await, "closed 1000");
    until("it is over", async || (open("blue").await == 0).then_some(())).await;
    assert!(gate.has_ended_when_stopped().await);
}
