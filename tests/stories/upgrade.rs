//! One process passes everything on to the next, and nobody outside notices but for connections that are told to close.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tidegate::admin::api::ProblemKind;
use tidegate::traffic::Cause;

use crate::support::gate::{has_gone, new_folder, send};
use crate::support::http::WEBSOCKET;
use crate::support::{Gate, Mood, Origin, Wire, connect, get, origin, tidegate, until};

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

/// An open tunnel.
async fn tunnel(gate: &Gate) -> Wire<tokio::net::TcpStream> {
    let mut tunnel = connect(gate.address()).await.unwrap();
    tunnel.write(&get("/", &WEBSOCKET)).await.unwrap();
    let head = tunnel.head().await.unwrap().unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    tunnel
}

async fn says_back(tunnel: &mut Wire<tokio::net::TcpStream>, text: &str) {
    tunnel.write(format!("{text}\n").as_bytes()).await.unwrap();
    assert_eq!(tunnel.line().await.unwrap(), text);
}

/// Whether a process has a socket that listens there.
fn listens(pid: u32, at: std::net::SocketAddr) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let inodes: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words[1].ends_with(&format!(":{:04X}", at.port())) && words[3] == "0A")
        .map(|words| format!("socket:[{}]", words[9]))
        .collect();
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
    links.any(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
}

async fn predecessors(gate: &Gate) -> Vec<(u32, u64)> {
    gate.status().await.predecessors.into_iter().map(|old| (old.pid, old.tunnels)).collect()
}

#[tokio::test]
async fn tunnels_outlive_upgrades_and_a_kill_reaches_every_process_that_holds_one() {
    let (blue, green) = origins().await;
    let timeouts = "timeouts: {drain: 300ms, grace: 1s}";
    let plan = tidegate().set(timeouts).service("shop", &blue, &green).with("split: {by: request}");
    let mut gate = plan.start_daemon().await;
    gate.shift("shop", "100%").await;
    let (mut tunnels, mut pids) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        tunnels.push(tunnel(&gate).await);
        let old = gate.pid();
        pids.push(old);
        gate.upgrade("").await.unwrap();
        // It takes in who waits at its door before it shuts it.
        until("the old one accepts no more", async || (!listens(old, gate.address())).then_some(())).await;
    }
    // Long after the time of a drain.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for tunnel in &mut tunnels {
        says_back(tunnel, "here").await;
    }
    until("all are known to hold one", async || {
        (predecessors(&gate).await == pids.iter().map(|pid| (*pid, 1)).collect::<Vec<_>>()).then_some(())
    })
    .await;
    let metrics = gate.metrics().await;
    assert_eq!(metrics.count("tidegate_predecessors", &[]), 4);
    assert_eq!(metrics.count("tidegate_predecessor_tunnels", &[]), 4);

    // One in the middle goes, of itself and without a word: the others are none the worse.
    drop(tunnels.remove(2));
    has_gone(pids.remove(2)).await;
    send(pids[1], Signal::KILL);
    has_gone(pids.remove(1)).await;
    drop(tunnels.remove(1));
    until("they are not known any more", async || (predecessors(&gate).await.len() == 2).then_some(())).await;
    for tunnel in &mut tunnels {
        says_back(tunnel, "still here").await;
    }
    let killed = gate.kill("shop").await;
    assert!(killed.unconfirmed.is_empty(), "{killed:?}");
    for tunnel in &mut tunnels {
        // Within the grace period it may go on, then it is reset.
        let ended = tokio::time::timeout(Duration::from_secs(20), tunnel.rest()).await;
        assert!(ended.expect("it ends").is_err());
    }
    assert!(gate.first_has_ended().await);
    has_gone(pids[1]).await;
    until("nobody is left", async || predecessors(&gate).await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_stop_means_those_before_too_and_so_does_the_end_of_whoever_could_kill_them() {
    for dies in [false, true] {
        let (blue, green) = origins().await;
        let plan = tidegate().set("timeouts: {drain: 500ms}").service("shop", &blue, &green);
        let mut gate = plan.start_daemon().await;
        let mut first = tunnel(&gate).await;
        gate.upgrade("").await.unwrap();
        let mut second = tunnel(&gate).await;
        let middle = gate.pid();
        gate.upgrade("").await.unwrap();
        says_back(&mut first, "here").await;
        says_back(&mut second, "here").await;
        if dies {
            send(gate.pid(), Signal::KILL);
        } else {
            gate.asks_to_stop(false);
        }
        assert!(gate.has_ended().await);
        has_gone(middle).await;
        assert!(gate.first_has_ended().await);
        assert!(first.rest().await.is_err() && second.rest().await.is_err());
    }
}

#[tokio::test]
async fn a_change_names_who_does_not_confirm_it() {
    let (blue, green) = origins().await;
    let mut gate = tidegate().service("shop", &blue, &green).start_daemon().await;
    gate.shift("shop", "100%").await;
    let mut held = tunnel(&gate).await;
    let old = gate.pid();
    gate.upgrade("").await.unwrap();
    send(old, Signal::STOP);
    assert_eq!(gate.kill("shop").await.unconfirmed, [old]);
    send(old, Signal::CONT);
    until("it has heard", async || gate.kill("shop").await.unconfirmed.is_empty().then_some(())).await;
    says_back(&mut held, "not yet").await;
}

/// A new process that says it is ready, and then nothing: its number is in the file `pid`.
fn one_that_is_ready_and_hangs(gate: &Gate) -> PathBuf {
    let ready = r#"{"say":"ready","version":"9.9.9"}"#;
    let length = format!("\\000\\000\\000\\{:03o}", ready.len());
    program(
        gate,
        &format!("echo $$ > {}/pid\nprintf '{length}{ready}' >&0\nexec sleep 1000", gate.folder().display()),
    )
}

/// Its number, once it runs.
async fn number_in(folder: &Path) -> u32 {
    let read = || fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok();
    until("the new process runs", async || read()).await
}

/// Sends an order to upgrade whose answer is read later.
async fn ordered(gate: &Gate, body: &str) -> Wire<tokio::net::UnixStream> {
    let mut wire = Wire::new(tokio::net::UnixStream::connect(gate.socket()).await.unwrap());
    let head =
        format!("POST /v1/upgrade HTTP/1.1\r\nhost: tidegate\r\ncontent-length: {}\r\n\r\n", body.len());
    wire.write(format!("{head}{body}").as_bytes()).await.unwrap();
    wire
}

#[tokio::test]
async fn changes_in_between_get_503_and_everything_is_taken_back_from_one_that_dies_too_soon() {
    let (blue, green) = origins().await;
    let mut gate =
        tidegate().service("shop", &blue, &green).with("split: {by: request}").start_daemon().await;
    let before = gate.shift("shop", "20%").await.generation;
    let load = gate.load("/");
    let binary = one_that_is_ready_and_hangs(&gate);
    let mut asked = ordered(&gate, &order(&binary, Duration::from_secs(20))).await;
    let new = number_in(gate.folder()).await;
    let body = "{\"services\":{\"shop\":\"30%\"}}";
    let refused = until("changes are refused", async || {
        let answer = gate.admin("POST", "/v1/shift", &[], body).await;
        (answer.status() == 503).then_some(answer)
    })
    .await;
    assert!(refused.text().contains("is being upgraded; try again"), "{}", refused.text());
    assert_eq!(refused.field("retry-after"), Some("1"));
    let weight = gate.weight("shop").await;
    for (path, body) in [
        ("/v1/kill", "{\"all\":true}"),
        ("/v1/arm", "{\"all\":true,\"note\":\"x\"}"),
        ("/v1/reload", ""),
        ("/v1/upgrade", ""),
        ("/v1/services/shop/signal", "{\"name\":\"x\",\"critical\":true}"),
    ] {
        assert_eq!(gate.admin("POST", path, &[], body).await.status(), 503, "{path}");
    }
    assert_eq!(gate.weight("shop").await, weight);
    load.goes_on(200).await;

    send(new, Signal::KILL);
    let answer = asked.answer().await.unwrap();
    assert_eq!(answer.status(), 500);
    assert!(answer.text().contains("before it was serving"), "{}", answer.text());
    let shifted = gate.shift("shop", "60%").await;
    assert!(shifted.saved && shifted.generation > before);
    load.goes_on(200).await;
    load.end().await.assert_none_failed();
    // The pens are up again: state, events, and the lock.
    let failed = gate.events(10).await.into_iter().find(|event| event.what == "upgrade-failed");
    assert!(failed.is_some_and(|event| event.reason.is_some()));
    assert_eq!(fs::read_to_string(gate.folder().join("state/lock")).unwrap().trim(), gate.pid().to_string());
    gate.upgrade("").await.unwrap();
    let gate = gate.dies().begins_again().unwrap();
    assert_eq!(gate.weight("shop").await.to_string(), "60%");
}

#[tokio::test]
async fn a_second_upgrade_while_one_is_under_way_is_refused() {
    let (blue, green) = origins().await;
    let mut gate = tidegate().service("shop", &blue, &green).start_daemon().await;
    let slow = program(&gate, &format!("echo $$ > {}/pid; exec sleep 1000", gate.folder().display()));
    let mut asked = ordered(&gate, &order(&slow, Duration::from_secs(600))).await;
    let new = number_in(gate.folder()).await;
    let (status, problem) = gate.upgrade("").await.unwrap_err();
    assert_eq!((status, problem.kind), (409, ProblemKind::Conflict), "{problem:?}");
    gate.shift("shop", "10%").await;
    send(new, Signal::KILL);
    assert_eq!(asked.answer().await.unwrap().status(), 500);
    gate.upgrade("").await.unwrap();
    assert_eq!(gate.weight("shop").await.to_string(), "10%");
}

#[tokio::test]
async fn when_all_processes_are_killed_the_next_start_finds_everything() {
    let (blue, green) = origins().await;
    let mut gate = tidegate().service("shop", &blue, &green).start_daemon().await;
    let mut last = gate.shift("shop", "30%").await.generation;
    for _ in 0..2 {
        gate.upgrade("").await.unwrap();
        last = gate.shift("shop", "40%").await.generation.max(last);
        let old = gate.first_has_ended().await;
        assert!(old);
        gate = gate.dies().begins_again().unwrap();
        assert_eq!(gate.weight("shop").await.to_string(), "40%");
        gate.is_ready().await;
        let next = gate.shift("shop", "30%").await.generation;
        assert!(next > last, "{next} after {last}");
    }
}

#[tokio::test]
async fn one_folder_has_one_process_at_any_time() {
    let (blue, green) = origins().await;
    let mut gate = tidegate().service("shop", &blue, &green).start_daemon().await;
    let state = gate.folder().join("state");
    let second = || tidegate().set(&format!("state: {}", state.display())).service("shop", &blue, &green);
    gate.upgrade("").await.unwrap();
    assert!(gate.first_has_ended().await);
    let Err(why) = second().tries_to_start() else { panic!("it must not start") };
    assert!(why.contains(&format!("in use by process {}", gate.pid())), "{why}");
}

#[tokio::test]
async fn the_command_says_what_happened_and_its_exit_code_what_to_think_of_it() {
    let (blue, green) = origins().await;
    let mut gate = tidegate().service("shop", &blue, &green).start_daemon().await;
    let socket = gate.socket();
    let command = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let done = command.arg("upgrade").arg("--socket").arg(&socket).args(words).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code(), text(&done.stdout), text(&done.stderr))
    };
    let fails = program(&gate, "echo no such luck >&2; exit 7");
    let (code, out, said) = command(&["--binary", fails.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("exit status: 7") && said.contains("\n  no such luck"), "{said}");
    let (code, out, said) = command(&["--timeout", "20s", "--reason", "a new version"]);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{out}");
    let old = gate.pid();
    gate.has_successor(gate.status().await.pid);
    let both = format!(", process {old} → {}, in ", gate.pid());
    assert!(out.contains(&both) && out.contains("changes were refused for"), "{out}");
    let (code, out, _) = command(&["--json"]);
    let upgraded: tidegate::admin::api::Upgraded = serde_json::from_str(&out).unwrap();
    assert_eq!((code, upgraded.old.pid), (Some(0), gate.pid()));
    gate.has_successor(upgraded.new.pid);
    let events = gate.events(50).await;
    assert!(events.iter().any(|event| event.reason.as_deref() == Some("a new version")), "{events:?}");
    gate.asks_to_stop(true);
    assert!(gate.has_ended().await);
    assert_eq!(command(&[]).0, Some(5));
}

#[tokio::test]
async fn a_running_rollout_goes_on_where_it_was() {
    let (blue, green) = origins().await;
    let plan = tidegate().service("shop", &blue, &green).with("split: {by: request}");
    let mut gate = plan.start_daemon().await;
    let body =
        r#"{"plan":{"name":"p.yaml","text":"stages: [{weight: 30%, hold: 1h}, {weight: 100%, hold: 1h}]"}}"#;
    let started = gate.admin("POST", "/v1/services/shop/rollout", &[], body).await;
    assert_eq!(started.status(), 200, "{}", started.text());
    until("the first stage", async || (gate.weight("shop").await.to_string() == "30%").then_some(())).await;
    let rollout =
        async |gate: &Gate| gate.service("shop").await.rollout.map(|rollout| (rollout.name, rollout.stage));
    let before = rollout(&gate).await;
    gate.upgrade("").await.unwrap();
    assert_eq!((rollout(&gate).await, gate.weight("shop").await.to_string()), (before, "30%".to_owned()));
    let shifted = gate.admin("POST", "/v1/services/shop/rollout/pause", &[], "").await;
    assert_eq!(shifted.status(), 200, "{}", shifted.text());
}

#[tokio::test]
async fn usr2_does_the_same_and_other_listeners_and_threads_are_taken_over() {
    let (blue, green) = origins().await;
    let plan = || tidegate().service("shop", &blue, &green);
    let mut gate = plan().start_daemon().await;
    let before = gate.address();
    let old = gate.pid();
    gate.rewrite(
        plan().set("threads: 1").set("listen: [{address: \"127.0.0.1:0\"}, {address: \"127.0.0.1:0\"}]"),
    );
    let load = gate.load("/");
    load.goes_on(100).await;
    gate.signal(Signal::USR2);
    let status = until("another process answers", async || {
        let answer = gate.try_admin("GET", "/v1/status", &[], "").await.ok()?;
        let status: tidegate::admin::api::Status = serde_json::from_str(answer.text()).ok()?;
        (status.pid != old).then_some(status)
    })
    .await;
    gate.has_successor(status.pid);
    assert_eq!((status.listen.len(), &status.listen[0]), (2, &before.to_string()));
    assert!(gate.first_has_ended().await);
    load.goes_on(500).await;
    load.end().await.assert_none_failed();
    let other = status.listen[1].parse().unwrap();
    assert_eq!(connect(other).await.unwrap().ask(&get("/", &[])).await.unwrap().status(), 200);
    // More threads than sockets.
    gate.rewrite(plan().set("threads: 4"));
    gate.upgrade("").await.unwrap();
    gate.get_many("/", 500).await.assert_none_failed();
    until("the other address is free", async || connect(other).await.is_err().then_some(())).await;
    assert!(gate.metrics().await.0.contains("tidegate_build_info"));
}

/// What a service manager hears.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(socket)
    }

    /// The next word that is no sign of life.
    fn hears(&self) -> String {
        loop {
            let said = self.next();
            if said != "WATCHDOG=1" {
                return said;
            }
        }
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let read = self.0.recv(&mut bytes).expect("the service manager hears something");
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }
}

#[tokio::test]
async fn the_service_manager_is_told_who_serves_reloads_lives_and_stops() {
    let (blue, green) = origins().await;
    let folder = new_folder();
    let path = folder.path().join("notify");
    let manager = Manager::at(&path);
    let plan = tidegate().service("shop", &blue, &green);
    let plan = plan.environment("NOTIFY_SOCKET", path.to_str().unwrap()).environment("WATCHDOG_USEC", "1000");
    let mut gate = plan.start_daemon().await;
    let first = manager.hears();
    assert!(first.starts_with(&format!("MAINPID={}\nREADY=1\nSTATUS=1 service on ", gate.pid())), "{first}");
    assert_eq!(manager.next(), "WATCHDOG=1");
    gate.reload().await.unwrap();
    assert_eq!((manager.hears(), manager.hears()), ("RELOADING=1".to_owned(), "READY=1".to_owned()));
    gate.upgrade("").await.unwrap();
    let next = manager.hears();
    assert!(next.starts_with(&format!("MAINPID={}\nREADY=1\n", gate.pid())), "{next}");
    // It goes without a word: the service does not stop.
    assert!(gate.first_has_ended().await);
    assert_eq!(manager.next(), "WATCHDOG=1");
    gate.asks_to_stop(false);
    assert!(manager.hears().starts_with("STOPPING=1"));
    assert!(gate.has_ended().await);
}

#[tokio::test]
async fn a_socket_of_the_service_manager_is_used_passed_on_and_left_open() {
    let (blue, green) = origins().await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let plan =
        tidegate().set(&format!("listen: [{{address: \"{address}\"}}]")).service("shop", &blue, &green);
    let mut gate = plan.activated(socket.try_clone().unwrap()).start_daemon().await;
    assert_eq!(gate.address(), address);
    let load = gate.load("/");
    load.goes_on(100).await;
    gate.upgrade("").await.unwrap();
    assert!(gate.first_has_ended().await);
    load.goes_on(100).await;
    load.end().await.assert_none_failed();
    gate.asks_to_stop(false);
    assert!(gate.has_ended().await);
    // Whoever comes now waits for the next start.
    assert!(connect(address).await.is_ok());
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
