//! The binary itself: what it says, where it says it, and its exit code.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use rustix::process::Signal;

fn tidegate(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(line.split_whitespace()).env_clear().env("XDG_RUNTIME_DIR", folder).current_dir(folder);
    command.output().unwrap()
}

/// The real daemon with one service, `shop`, on `admin.sock`; and what it says after its first line.
fn runs(folder: &Path) -> (Child, impl BufRead) {
    let text = "listen: \"127.0.0.1:0\"\ntelemetry: \"off\"\nstate: state\nadmin: {socket: admin.sock}\n\
                services:\n  shop: {blue: http://127.0.0.1:1, green: http://127.0.0.1:2}\n";
    std::fs::write(folder.join("tidegate.yaml"), text).unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "-c", "tidegate.yaml"])
        .env_clear()
        .current_dir(folder)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(daemon.stderr.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    (daemon, said)
}

/// Answers every request with `answer` for as long as the test lives; returns the socket.
fn daemon(folder: &Path, status: &str, answer: &str) -> String {
    let socket = folder.join("fake.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if stream.read(&mut [0; 4096]).unwrap() > 0 {
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    socket.display().to_string()
}

#[track_caller]
fn check(output: &Output, code: i32, said: &str) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    assert!(out.contains(said) || err.contains(said), "{said:?} in {out}{err}");
    assert!(code == 0 || out.is_empty(), "complaints go to standard error: {out}");
}

#[test]
fn help_and_version_succeed_and_mistakes_exit_with_2() {
    let folder = tempfile::tempdir().unwrap();
    check(&tidegate(folder.path(), "--version"), 0, env!("CARGO_PKG_VERSION"));
    check(&tidegate(folder.path(), "--help"), 0, "5 no daemon reachable");
    check(&tidegate(folder.path(), "shift --help"), 0, "--if-generation");
    check(&tidegate(folder.path(), ""), 2, "Usage");
    check(&tidegate(folder.path(), "shit shop 25%"), 2, "shift");
    check(
        &tidegate(folder.path(), "shift shop 25"),
        2,
        "tidegate: shop: a share needs its unit; did you mean 25%?",
    );
    check(&tidegate(folder.path(), "shift shop 101%"), 2, "101% is outside 0% to 100%");
    check(&tidegate(folder.path(), "shift shop -1%"), 2, "tidegate: -1% is outside 0% to 100%");
    check(&tidegate(folder.path(), "deploy shop"), 2, "no endpoint");
    check(&tidegate(folder.path(), "rollout --help"), 0, "Print what a schedule or a file compiles to");
    check(&tidegate(folder.path(), "rollout start --help"), 0, "--take-over");
    check(&tidegate(folder.path(), "freeze maybe"), 2, "on, off");
}

#[test]
fn a_configuration_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let good = "services:\n  shop: {blue: http://127.0.0.1:3001, green: http://127.0.0.1:3002}\n";
    std::fs::write(folder.path().join("good.yaml"), good).unwrap();
    let bad = "services:\n  shop:\n    blue: http://127.0.0.1:3001\n    green: http://127.0.0.1:3002\n    split: {initial_weight: 5}\n";
    std::fs::write(folder.path().join("bad.yaml"), bad).unwrap();
    check(&tidegate(folder.path(), "check -c good.yaml"), 0, "good.yaml is valid: 1 service, shop\n");
    check(&tidegate(folder.path(), "check -c bad.yaml"), 2, "did you mean 5%?");
    check(&tidegate(folder.path(), "run -c bad.yaml"), 2, "did you mean 5%?");
    check(&tidegate(folder.path(), "check -c none.yaml"), 2, "tidegate: read none.yaml: ");

    let found = |line: &str| -> serde_json::Value {
        serde_json::from_slice(&tidegate(folder.path(), line).stdout).unwrap()
    };
    let good = found("check -c good.yaml --json");
    assert_eq!((&good["valid"], &good["services"][0]), (&true.into(), &"shop".into()));
    let bad = found("check -c bad.yaml --json");
    assert_eq!(bad["valid"], false);
    assert!(bad["error"].as_str().unwrap().contains("did you mean 5%?"), "{bad}");
    assert_eq!(tidegate(folder.path(), "check -c bad.yaml --json").status.code(), Some(2));
}

#[test]
fn without_a_daemon_the_exit_code_is_5_and_a_probe_says_1() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        "status",
        "shift shop 5%",
        "kill --all",
        "events",
        "stop",
        "candidate shop",
        "explain shop",
        "rollout start shop --schedule canary",
        "rollout status -w",
        "rollout plan",
        "rollback shop",
        "freeze on --all",
        "signal shop db_corruption",
        "metric push shop conversion --candidate 0.98",
    ] {
        let output = tidegate(folder.path(), &format!("{line} --socket nowhere.sock"));
        check(&output, 5, "tidegate: tidegate is not running: nobody answers on nowhere.sock\n");
    }
    check(&tidegate(folder.path(), "healthcheck --socket nowhere.sock"), 1, "not running");
}

#[test]
fn a_refusal_becomes_an_exit_code() {
    for (status, kind, code) in [
        ("400 Bad Request", "invalid", 2),
        ("404 Not Found", "not_found", 2),
        ("409 Conflict", "conflict", 3),
        ("412 Precondition Failed", "stale", 3),
        ("422 Unprocessable Content", "key_reused", 3),
        ("423 Locked", "locked", 3),
        ("500 Internal Server Error", "internal", 1),
        ("503 Service Unavailable", "unavailable", 1),
        ("504 Gateway Timeout", "timed_out", 4),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let problem = format!(r#"{{"error":"no, because","kind":"{kind}"}}"#);
        let socket = daemon(folder.path(), status, &problem);
        check(
            &tidegate(folder.path(), &format!("kill shop --socket {socket}")),
            code,
            "tidegate: no, because\n",
        );
    }
}

#[test]
fn a_change_is_told_in_words_or_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let answer = r#"{"host":"web-1","generation":41,"saved":true,"live_us":210,"changes":[{"service":"shop","candidate":"green","from":"0%","to":"5%","changed":true}],"undo":"tidegate shift shop 0%"}"#;
    let socket = daemon(folder.path(), "200 OK", answer);
    check(
        &tidegate(folder.path(), &format!("shift shop 5% --wait --socket {socket}")),
        0,
        "shop: green 0 % → 5 %, live in 0.2 ms, saved [web-1, generation 41]\nundo: tidegate shift shop 0%\n\
         nothing older than generation 41 is in flight\n",
    );
    let output = tidegate(folder.path(), &format!("shift shop 5% --wait --json --socket {socket}"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{answer}\n"));
}

#[test]
fn something_done_to_a_rollout_is_told_in_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let answer = r#"{"host":"web-1","generation":41,"saved":true,"live_us":210,"changes":[{"service":"shop","candidate":"green","from":"0%","to":"1%","changed":true,"rollout":{"name":"2.0.1","phase":"holding","done":"started"}}],"undo":"tidegate rollback shop"}"#;
    let socket = daemon(folder.path(), "200 OK", answer);
    check(
        &tidegate(folder.path(), &format!("rollout start shop --schedule canary --socket {socket}")),
        0,
        "shop: rollout 2.0.1 started: green 0 % → 1 %, live in 0.2 ms, saved [web-1, generation 41]\n\
         undo: tidegate rollback shop\n",
    );
    let output = tidegate(folder.path(), &format!("rollback shop --json --socket {socket}"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{answer}\n"));
}

#[test]
fn files_of_rollouts_are_read_with_care() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("long.yaml"), "#".repeat(256 * 1024 + 1)).unwrap();
    std::fs::write(folder.path().join("bad.jsonl"), "{}\n").unwrap();
    let plan = |file: &str| tidegate(folder.path(), &format!("rollout plan -f {file}"));
    check(&plan("long.yaml"), 2, "tidegate: read long.yaml: it is longer than 256 KiB");
    check(&plan("none.yaml"), 2, "tidegate: read none.yaml: ");
    check(&tidegate(folder.path(), "rollout replay none.jsonl"), 2, "tidegate: read none.jsonl: ");
    check(
        &tidegate(folder.path(), "rollout replay bad.jsonl"),
        1,
        "tidegate: bad.jsonl: line 1 is unreadable: ",
    );
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_keeps_nobody_from_stopping() {
    for by in ["signal", "socket"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidegate.yaml");
        let (mut daemon, _said) = runs(folder.path());
        std::fs::remove_file(&file).unwrap();
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        let ask = |line: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
            command.args(line.split_whitespace()).args(["--socket", "admin.sock"]);
            command.env_clear().current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let pid = rustix::process::Pid::from_child(&daemon);
        let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
        let mut reload = (by == "socket").then(|| ask("reload"));
        if reload.is_none() {
            signal(Signal::HUP);
        }
        // Opens once the daemon reads, and is held open so that there is no end.
        let endless = std::fs::File::options().write(true).open(&file).unwrap();
        if let Some(reload) = &mut reload {
            assert!(ask("stop --now").wait().unwrap().success());
            assert!(daemon.wait().unwrap().success(), "{by}");
            reload.wait().unwrap();
        } else {
            signal(Signal::TERM);
            assert!(daemon.wait().unwrap().success(), "{by}");
        }
        drop(endless);
    }
}

#[test]
fn a_daemon_says_what_it_knows_and_what_it_started_with() {
    let folder = tempfile::tempdir().unwrap();
    let ask = |line: &str| tidegate(folder.path(), &format!("{line} --socket admin.sock"));
    let (mut daemon, said) = runs(folder.path());
    check(&ask("status nope"), 2, "tidegate: there is no service \"nope\"; there is shop\n");
    check(&ask("candidate nope"), 2, "tidegate: there is no service \"nope\"; there is shop\n");
    check(&ask("explain --user alice"), 0, "green is at 0%, so user alice gets blue");
    check(&ask("explain --visitor ab"), 2, "\"ab\" is no visitor id: 16 hex digits");
    check(&ask("explain"), 0, "shop: green got no request since this process started\n");
    check(&ask("explain nope"), 2, "tidegate: there is no service \"nope\"; there is shop\n");
    check(
        &ask("rollout status"),
        0,
        "no rollout is running; `tidegate rollout log` tells of those that were\n",
    );
    check(&ask("rollout status shop"), 2, "start one with `tidegate rollout start shop`");
    check(&ask("rollout log"), 0, "shop: nothing happened to its rollouts");
    check(&ask("rollout start --schedule nope"), 2, "tidegate: ");
    let second = tidegate(folder.path(), "run -c tidegate.yaml --state other");
    check(&second, 2, "another tidegate answers on admin.sock");
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(told.matches("answers on").count(), 1, "{told}");
    check(&ask("kill shop shop"), 0, "shop: green stays at 0 %, locked");
    check(&ask("stop --now --wait"), 0, "stopped");
    assert!(daemon.wait().unwrap().success());
    assert_eq!(said.lines().count(), 0, "all was at its start");

    let (mut daemon, mut said) = runs(folder.path());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("tidegate: shop: green 0 %, locked (kill) since 2"), "{line}");
    std::fs::write(folder.path().join("tidegate.yaml"), "nope: 1\nservices:\n").unwrap();
    check(&ask("reload"), 2, "\n");
    check(&ask("stop --now --wait"), 0, "stopped");
    assert!(daemon.wait().unwrap().success());
}
