//! One process passes everything on to the next, and nobody outside notices but for connections that are told to close.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tidegate::admin::api::ProblemKind;
use tidegate::traffic::Cause;

use crate::support::gate::{has_gone, new_folder, send};
use crate::support::{Gate, Mood, Origin, connect, get, origin, tidegate, until};

async fn origins() -> (Origin, Origin) {
    (origin().says("blue").start().await, origin().says("green").start().await)
}

/// A program of some lines of shell in the gate's folder.
fn program(gate: &Gate, script: &str) -> PathBuf {
    let path = gate.folder().join("program");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// `tidegate upgrade --binary PATH --timeout TIME`.
fn order(binary: &Path, timeout: Duration) -> String {
    format!("{{\"binary\":{binary:?},\"timeout_ms\":{}}}", timeout.as_millis())
}

#[tokio::test]
async fn three_upgrades_under_load_fail_no_request_and_keep_the_state() {
    let (blue, green) = origins().await;
    let plan = tidegate().service("shop", &blue, &green).with("split: {by: request}").with("path: /shop");
    let mut gate = plan.service("cart", &blue, &green).with("path: /cart").start_daemon().await;
    gate.shift("shop", "40%").await;
    let key = [("idempotency-key", "once")];
    let before = gate.shift_all(&[("shop", "50%")], &key).await.unwrap();
    gate.kill("cart").await;
    let load = gate.load("/shop");
    let mut newest = gate.status().await.generation;
    for _ in 0..3 {
        load.goes_on(300).await;
        let old = gate.pid();
        let upgraded = gate.upgrade("").await.unwrap_or_else(|refused| panic!("{refused:?}"));
        assert_eq!(upgraded.old.pid, old);
        assert!(upgraded.new.pid != old);
        load.goes_on(300).await;
        let status = gate.status().await;
        assert_eq!((status.pid, status.saved, status.draining), (upgraded.new.pid, true, false));
        assert!(status.generation > newest, "{} after {newest}", status.generation);
        newest = status.generation;
        assert_eq!(gate.weight("shop").await.to_string(), "50%");
        assert_eq!(gate.service("cart").await.lock.unwrap().cause, Cause::Kill);
        // What was known of endpoints is known still, so that this is done at once.
        gate.shift("shop", "55%").await;
        gate.shift("shop", "50%").await;
        has_gone_or_first(&mut gate, old).await;
    }
    let seen = load.end().await;
    seen.assert_none_failed();
    assert!(seen.green() > 100 && seen.blue() > 100, "{} {}", seen.blue(), seen.green());
    let again = gate.shift_all(&[("shop", "50%")], &key).await.unwrap();
    assert_eq!(again.generation, before.generation, "the answer was kept");
    let upgraded = gate.events(50).await.into_iter().filter(|event| event.what == "upgraded").count();
    assert_eq!(upgraded, 3);
    assert!(gate.has_ended_when_stopped().await);
}

/// Waits until a process that has passed everything on has ended, whoever's child it is.
async fn has_gone_or_first(gate: &mut Gate, old: u32) {
    if gate.is_first(old) {
        assert!(gate.first_has_ended().await, "it ends well");
    } else {
        has_gone(old).await;
    }
}

#[tokio::test]
async fn what_is_open_ends_in_the_old_process_and_kept_connections_are_told_to_go() {
    let (blue, green) = origins().await;
    let mut gate = tidegate().service("shop", &blue, &green).start_daemon().await;
    let mut kept = connect(gate.address()).await.unwrap();
    assert_eq!(kept.ask(&get("/", &[])).await.unwrap().field("connection"), None);
    blue.turns(Mood::Holds);
    let mut open = connect(gate.address()).await.unwrap();
    open.write(&get("/", &[])).await.unwrap();
    until("blue has the request", async || (blue.waiting() == 1).then_some(())).await;

    gate.upgrade("").await.unwrap();
    kept.write(&get("/", &[])).await.unwrap();
    until("blue has both", async || (blue.waiting() == 2).then_some(())).await;
    blue.turns(Mood::Answers);
    for client in [&mut open, &mut kept] {
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status(), answer.field("connection")), (200, Some("close")));
    }
    assert!(gate.first_has_ended().await);
    let answer = gate.get("/").await;
    assert_eq!((answer.status(), answer.field("connection")), (200, None));
}

#[tokio::test]
async fn a_kill_ends_streams_that_the_old_process_holds() {
    let (blue, green) = origins().await;
    let timeouts = "timeouts: {drain: 10m, grace: 50ms}";
    let mut gate = tidegate().set(timeouts).service("shop", &blue, &green).start_daemon().await;
    gate.shift("shop", "100%").await;
    green.turns(Mood::Holds);
    let mut open = connect(gate.address()).await.unwrap();
    open.write(&get("/", &[])).await.unwrap();
    until("green has the request", async || (green.waiting() == 1).then_some(())).await;
    let mut kept = connect(gate.address()).await.unwrap();
    kept.write(b"GET / HTTP/1.1\r\n").await.unwrap();

    gate.upgrade("").await.unwrap();
    gate.kill("shop").await;
    // Long before the drain's deadline, and green has not answered.
    let ended = tokio::time::timeout(Duration::from_secs(20), open.rest()).await;
    assert!(ended.is_ok() && green.waiting() == 1);
    // A request that was decided there after the kill goes to blue.
    kept.write(b"host: gate.test\r\n\r\n").await.unwrap();
    assert_eq!(kept.answer().await.unwrap().text(), "blue");
    assert!(gate.first_has_ended().await);
}

#[tokio::test]
async fn a_new_process_that_fails_leaves_the_old_one_as_it_was() {
    let (blue, green) = origins().await;
    let mut gate = tidegate().service("shop", &blue, &green).start_daemon().await;
    let pid = gate.pid();
    let soon = Duration::from_millis(300);
    let patient = Duration::from_secs(20);
    let nowhere = gate.folder().join("nowhere");
    let says = "echo about to fail >&2; exit 3";
    let mut checked = 0;
    let load = gate.load("/");
    for (script, timeout, said) in [
        (Some(says), patient, "about to fail"),
        (Some("exec sleep 1000"), soon, "was not ready within 300ms"),
        (Some("exec 0</dev/null; exec sleep 1000"), patient, "before it was ready"),
        (None, patient, "nowhere"),
    ] {
        let binary = script.map_or_else(|| nowhere.clone(), |script| program(&gate, script));
        let (status, problem) = gate.upgrade(&order(&binary, timeout)).await.unwrap_err();
        assert_eq!((status, problem.kind), (500, ProblemKind::Internal), "{problem:?}");
        assert!(problem.error.contains(said), "{problem:?}");
        checked += 1;
        gate.shift("shop", &format!("{checked}%")).await;
    }
    // The file itself is broken by now, which only a new process finds out.
    let file = gate.folder().join("tidegate.yaml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("threads:", "treads:")).unwrap();
    let (_, problem) = gate.upgrade("").await.unwrap_err();
    assert!(problem.error.contains("treads"), "{problem:?}");
    // Another state folder would be another truth.
    let elsewhere = gate.folder().join("elsewhere");
    fs::write(&file, good.replace("/state\n", "/elsewhere\n")).unwrap();
    let (_, problem) = gate.upgrade("").await.unwrap_err();
    assert!(problem.error.contains("needs a restart") && !elsewhere.exists(), "{problem:?}");
    fs::write(&file, &good).unwrap();

    load.goes_on(100).await;
    load.end().await.assert_none_failed();
    assert_eq!((gate.status().await.pid, gate.weight("shop").await.to_string()), (pid, "4%".to_owned()));
    assert!(gate.socket().exists());
    let failed = gate.events(100).await.into_iter().filter(|event| event.what == "upgrade-failed");
    assert_eq!(failed.filter(|event| event.reason.is_some()).count(), 6);
    gate.upgrade("").await.unwrap();
    assert_eq!(gate.weight("shop").await.to_string(), "4%");
}
