//! Programs that people use.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// What a program says on both outputs, after it was told `input`; `None` if it is not there, which is said.
pub async fn run(program: &str, arguments: &[&str], input: &[u8]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_vec();
    let ran = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().ok()?;
        // It need not be interested.
        drop(child.stdin.take().map(|mut stdin| stdin.write_all(&input)));
        child.wait_with_output().ok()
    });
    let Some(output) = ran.await.unwrap() else {
        println!("SKIPPED: there is no {program}");
        eprintln!("SKIPPED: {program} is NOT tried: it is not installed");
        return None;
    };
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
