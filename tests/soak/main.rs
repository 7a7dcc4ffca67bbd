//! The long stories: `cargo test --release --test soak -- --nocapture`. Each prints its figures, and fails when a
//! promise does not hold. One at a time, because they measure; Linux, because they look at `/proc`.

#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::Mutex;

use tidegate::admin::api::{Changed, Upgraded};
use tidegate::clock;
use tidegate::config::{self, Overrides};
use tidegate::control::{Change, Control, Disk, Events, EvidenceDisk, LaunchDisk, Selection, Who};
use tidegate::store::{AuditLimits, Origin as Whence, Recovered, StateFolder};
use tidegate::telemetry::Tallies;
use tidegate::traffic::Weight;

mod abuse;
mod browsers;
mod endpoints;
mod launches;
mod rollouts;
mod tunnels;

use support::gate::{Asked, understand};
use support::{By, Gate, Load, Origin, Seen, assert_share, get, origin, tidegate, until};

static ONE: Mutex<()> = Mutex::const_new(());

async fn origins() -> (Origin, Origin) {
    (origin().says("blue").start().await, origin().says("green").start().await)
}

/// Chance, with the seed printed so that a run can be told again.
fn chance() -> fastrand::Rng {
    let seed = clock::wall().as_millis();
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

/// Microseconds at some quantiles.
fn quantiles(mut all: Vec<u64>) -> String {
    all.sort_unstable();
    let at = |quantile: f64| all[((all.len() - 1) as f64 * quantile) as usize];
    format!(
        "{} samples: min {} µs, p50 {} µs, p90 {} µs, p99 {} µs, max {} µs",
        all.len(),
        at(0.0),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    )
}

fn median(all: &[u64]) -> u64 {
    let mut all = all.to_vec();
    all.sort_unstable();
    all[all.len() / 2]
}

fn latencies(seen: &Seen) -> String {
    format!("p50 {:?}, p99 {:?}, p99.9 {:?}", seen.latency(0.5), seen.latency(0.99), seen.latency(0.999))
}

#[tokio::test]
async fn of_a_million_requests_none_reaches_green_after_a_kill_and_none_fails() {
    let _alone = ONE.lock().await;
    let (blue, green) = origins().await;
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    let begun = clock::now();
    let load = gate.load("/");
    let (mut closed, mut live) = (Vec::new(), Vec::new());
    while load.answered() < 1_000_000 {
        gate.shift("shop", "90%").await;
        load.goes_on(300).await;
        let killed = gate.kill("shop").await;
        let acknowledged = clock::now();
        live.push(killed.live_us);
        load.goes_on(300).await;
        gate.arm("shop").await;
        closed.push((acknowledged, clock::now()));
    }
    let took = clock::now() - begun;
    let seen = load.end().await;
    println!(
        "{} requests in {took:?}, {} on green, {} failed, {} kills",
        seen.total(),
        seen.green(),
        seen.failures.len(),
        live.len()
    );
    println!("kill, from the request read to the table published, under load: {}", quantiles(live.clone()));
    seen.assert_none_failed();
    seen.assert_none_on_green_between(&closed);
    assert!(seen.green() > 1_000);
    assert!(median(&live) < 1_000);
}

#[tokio::test]
async fn a_thousand_shifts_and_a_hundred_reloads_under_load_fail_no_request() {
    let _alone = ONE.lock().await;
    let (blue, green) = origins().await;
    let plan = || tidegate().service("shop", &blue, &green).with("split: {by: request}");
    let mut gate = plan().start().await;
    let load = gate.load("/");
    let mut live = Vec::new();
    for step in 0..1_000 {
        live.push(gate.shift("shop", &format!("{}%", (step * 13) % 101)).await.live_us);
        if step % 10 == 9 {
            gate.rewrite(plan().with(&format!("timeouts: {{first_byte: {}s}}", 30 + step)));
            assert!(gate.reload().await.unwrap().applied);
        }
        load.goes_on(20).await;
    }
    let seen = load.end().await;
    println!("{} requests, {} failed; shift: {}", seen.total(), seen.failures.len(), quantiles(live));
    seen.assert_none_failed();
}

#[tokio::test]
async fn ten_thousand_visitors_stay_exactly_where_fifty_weights_put_them() {
    let _alone = ONE.lock().await;
    let (blue, green) = origins().await;
    let gate = tidegate().service("shop", &blue, &green).start().await;
    gate.shift("shop", "10%").await;
    let first = gate.get_many("/", 10_000).await;
    first.assert_none_failed();
    let cookies: Vec<String> = first.answers.iter().map(|answer| answer.cookie.clone().unwrap()).collect();
    let mut places = HashMap::new();
    for change in 0..=50 {
        let weight = if change == 50 { 10 } else { 1 + (change * 37) % 99 };
        gate.shift("shop", &format!("{weight}%")).await;
        let again = cookies.clone();
        let load = Load::begin(gate.address(), move |number| {
            again.get(number as usize).map(|cookie| get("/", &[("cookie", cookie)]))
        });
        let seen = load.result().await;
        seen.assert_none_failed();
        assert_share(seen.green(), 10_000, f64::from(weight) / 100.0);
        places = seen.answers.iter().map(|answer| (answer.number as usize, answer.by)).collect();
    }
    assert!(first.answers.iter().enumerate().all(|(number, answer)| places[&number] == answer.by));
    println!("10,000 visitors, 50 weights, {} on green at 10 %, as at first", first.green());
}

/// A disk that takes its time: the sink says that it has begun, and goes on when it is told to.
#[tokio::test]
async fn a_kill_does_not_wait_for_a_shift_that_waits_for_a_slow_disk() {
    let _alone = ONE.lock().await;
    let folder = support::gate::new_folder();
    let yaml = tidegate().service_at("shop", "http://127.0.0.1:1", "http://127.0.0.1:2").yaml(folder.path());
    let config = config::parse(&yaml, "soak", folder.path(), &Overrides::default()).unwrap();
    let state = StateFolder::open(&folder.path().join("state")).unwrap();
    let log = state.audit_log(AuditLimits::default()).unwrap();
    let events = Arc::new(Events::start(log, state.audit_reader()).unwrap());
    let (begins, begun) = mpsc::channel::<mpsc::Sender<()>>();
    let slow = move |_: &[u8]| {
        let (go, going) = mpsc::channel();
        let _ = begins.send(go);
        going.recv_timeout(Duration::from_millis(200)).map_or(Ok(()), |()| Ok::<_, io::Error>(()))
    };
    let disk = Disk {
        states: Box::new(slow),
        kills: Box::new(|_| Ok(())),
        events,
        evidence: EvidenceDisk::none(),
        launches: LaunchDisk::default(),
    };
    let fresh = Recovered { payload: None, origin: Whence::Fresh };
    let services = config.control.services;
    let control = Control::start_on(disk, fresh, None, None, services, Tallies::new(1)).unwrap();
    for check in control.checks() {
        control.checked(&check, Ok(()));
    }
    let who = Who { actor: "soak".to_owned(), ..Who::default() };
    let mut live = Vec::new();
    let arm = Change::Arm(Selection::All);
    for _ in 0..50 {
        while begun.try_recv().is_ok() {}
        let weights = [("shop".into(), Weight::from_percent(50).unwrap())].into();
        let up = Change::Shift { weights, if_generation: None, take_over: false };
        let waits = {
            let (control, who) = (control.clone(), who.clone());
            tokio::spawn(async move { control.commit(&up, &who, None, clock::now()).await })
        };
        // The disk has the shift in its hands.
        until("the disk is busy", async || begun.try_recv().ok()).await;
        let kill = Change::Kill(Selection::All);
        let killed = control.commit(&kill, &who, None, clock::now()).await.unwrap();
        live.push(killed.live.as_micros() as u64);
        assert!(waits.await.unwrap().is_err(), "the shift finds the lock");
        control.commit(&arm, &who, None, clock::now()).await.unwrap();
    }
    control.stop();
    println!("kill while a shift waits 200 ms for each write: {}", quantiles(live.clone()));
    assert!(median(&live) < 1_000);
}

/// What must be in force after a crash: one of these.
#[derive(Clone, Debug, Default)]
struct Known {
    generation: u64,
    epoch: u64,
    /// Weight and kill lock of the last acknowledged change, and of what was asked for since.
    possible: Vec<(Weight, bool)>,
}

/// Changes at random until the daemon is gone.
async fn storm(gate: &Gate, known: &Mutex<Known>, mut chance: fastrand::Rng) {
    loop {
        let (weight, locked) = known.lock().await.possible.last().copied().unwrap_or_default();
        let (path, body, after) = match chance.u8(0..10) {
            0..6 if !locked => {
                let to = Weight::from_percent(chance.u32(0..=100)).unwrap();
                ("/v1/shift", format!("{{\"services\":{{\"shop\":\"{to}\"}}}}"), (to, false))
            }
            6..8 => ("/v1/kill", r#"{"services":["shop"]}"#.to_owned(), (Weight::ZERO, true)),
            _ => ("/v1/arm", r#"{"services":["shop"],"note":"on"}"#.to_owned(), (weight, false)),
        };
        known.lock().await.possible.push(after);
        let Ok(answer) = gate.try_admin("POST", path, &[], &body).await else { return };
        let changed: Asked<Changed> = understand(&answer);
        let mut known = known.lock().await;
        let Ok(changed) = changed else { panic!("{path} {body} was refused: {changed:?}") };
        let done = &changed.changes[0];
        if done.changed {
            assert!(changed.generation > known.generation, "{} again", changed.generation);
            known.generation = changed.generation;
        }
        let emptied = done.to == Weight::ZERO && done.from != Weight::ZERO;
        if done.changed && (emptied || path == "/v1/kill") {
            known.epoch = known.epoch.max(changed.generation);
        }
        // What is acknowledged as not saved yet may be lost, or not.
        if changed.saved {
            known.possible = vec![after];
        }
        drop(known);
        if path == "/v1/kill" && chance.bool() {
            // The daemon dies with nothing else under way: the kill alone must be what is found.
            std::future::pending::<()>().await;
        }
    }
}

#[tokio::test]
async fn killed_two_hundred_times_in_a_storm_it_always_starts_again_and_knows() {
    let _alone = ONE.lock().await;
    let (blue, green) = origins().await;
    let mut chance = chance();
    let mut gate = tidegate().service("shop", &blue, &green).start_daemon().await;
    let known = Mutex::new(Known { possible: vec![(Weight::ZERO, false)], ..Known::default() });
    let (mut kills, mut undecided, begun) = (0, 0, clock::now());
    for round in 0..220 {
        let moment = Duration::from_micros(chance.u64(0..30_000));
        let before = known.lock().await.generation;
        tokio::select! {
            () = storm(&gate, &known, chance.fork()) => panic!("the daemon died by itself: {}", gate.said()),
            () = tokio::time::sleep(moment) => {}
        }
        gate = gate.dies().begins_again().unwrap_or_else(|why| panic!("round {round}: {why}"));
        let status = gate.status().await;
        let shop = &status.services[0];
        let mut known = known.lock().await;
        let found = (shop.weight, shop.lock.is_some());
        assert!(known.possible.contains(&found), "round {round}: {found:?}, not one of {:?}", known.possible);
        assert!(status.generation > known.generation, "round {round}: {} again", status.generation);
        assert!(shop.epoch >= known.epoch, "round {round}: epoch {} after {}", shop.epoch, known.epoch);
        assert!(!gate.said().contains("stable and every service"), "round {round}: {}", gate.said());
        kills += usize::from(known.possible == [(Weight::ZERO, true)]);
        undecided += usize::from(known.possible.len() > 1);
        assert!(known.generation >= before);
        (known.generation, known.epoch) = (status.generation, shop.epoch);
        known.possible = vec![found];
        drop(known);
        gate.is_ready().await;
    }
    println!(
        "220 times kill -9 in {:?}: {undecided} within a change, {kills} right after an acknowledged kill",
        clock::now() - begun
    );
    let seen = gate.get_many("/", 100).await;
    seen.assert_none_failed();
}

/// A small file system of its own, while it exists.
struct SmallDisk<'p>(&'p Path);

impl<'p> SmallDisk<'p> {
    fn mount(place: &'p Path) -> Option<Self> {
        fs::create_dir_all(place).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(place).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(place))
    }

    fn fill(&self) {
        let mut size = 1 << 20;
        for number in 0.. {
            if size == 0 {
                break;
            }
            let name = self.0.join(format!("filler-{number}"));
            if fs::write(&name, vec![b'x'; size]).is_err() {
                let _ = fs::remove_file(name);
                size /= 2;
            }
        }
        // What is less than a page is gone, too.
        assert!(fs::write(self.0.join("filler-last"), "x").is_err());
        let _ = fs::remove_file(self.0.join("filler-last"));
    }

    fn clear(&self) {
        for entry in fs::read_dir(self.0).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("filler-") {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_stops_shifts_up_and_neither_kills_nor_traffic() {
    let _alone = ONE.lock().await;
    let (blue, green) = origins().await;
    let place = support::gate::new_folder();
    let place = place.path().join("small");
    let Some(disk) = SmallDisk::mount(&place) else {
        println!("SKIPPED: a tmpfs cannot be mounted here; run it as root");
        return;
    };
    let plan = tidegate().set(&format!("state: {}/state", place.display()));
    let gate = plan.service("shop", &blue, &green).with("split: {by: request}").start_daemon().await;
    gate.shift("shop", "30%").await;
    let load = gate.load("/");
    load.goes_on(100).await;
    disk.fill();

    let (status, refused) = gate.shift_all(&[("shop", "60%")], &[]).await.unwrap_err();
    println!("shift up on a full disk: {status} {}", refused.error);
    assert_eq!((status, gate.weight("shop").await.to_string().as_str()), (500, "30%"));
    let killed = gate.kill("shop").await;
    let acknowledged = clock::now();
    println!("kill on a full disk: saved {}, live in {} µs", killed.saved, killed.live_us);
    assert!(killed.changes[0].changed);
    assert_eq!(gate.metrics().await.count("tidegate_state_unsaved", &[]), 1);
    load.goes_on(500).await;
    let seen = load.end().await;
    seen.assert_none_failed();
    seen.assert_none_on_green_between(&[(acknowledged, clock::now())]);

    let gate = gate.dies().begins_again().unwrap_or_else(|why| panic!("on a full disk: {why}"));
    let shop = gate.service("shop").await;
    assert!(shop.lock.is_some() && shop.weight == Weight::ZERO, "{shop:?}");
    assert_eq!(gate.get("/").await.text(), "blue");
    gate.is_ready().await;
    let arm = r#"{"services":["shop"],"note":"there is no room"}"#;
    let armed: Asked<Changed> = gate.ask("POST", "/v1/arm", &[], arm).await;
    assert_eq!(armed.unwrap_err().0, 500);

    disk.clear();
    until("it is saved", async || gate.status().await.saved.then_some(())).await;
    gate.arm("shop").await;
    assert!(gate.shift("shop", "60%").await.saved);
    let gate = gate.dies().begins_again().unwrap();
    assert_eq!(gate.weight("shop").await.to_string(), "60%");
}

#[tokio::test]
async fn a_state_that_cannot_be_replaced_is_the_same_as_a_full_disk() {
    let _alone = ONE.lock().await;
    let (blue, green) = origins().await;
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start_daemon().await;
    gate.shift("shop", "30%").await;
    let load = gate.load("/");
    // A folder in the way of its temporary file fails for root, too.
    let obstacle = gate.folder().join("state/state.tmp");
    let _ = fs::remove_file(&obstacle);
    fs::create_dir(&obstacle).unwrap();
    fs::write(obstacle.join("x"), "x").unwrap();
    assert_eq!(gate.shift_all(&[("shop", "60%")], &[]).await.unwrap_err().0, 500);
    let lower = gate.shift("shop", "20%").await;
    assert!(!lower.saved && lower.changes[0].changed, "toward stable waits for nothing");
    let killed = gate.kill("shop").await;
    load.goes_on(500).await;
    load.end().await.assert_none_failed();
    println!("kill: saved {}, live in {} µs", killed.saved, killed.live_us);
    fs::remove_dir_all(&obstacle).unwrap();
    until("it is saved", async || gate.status().await.saved.then_some(())).await;
    let gate = gate.dies().begins_again().unwrap();
    assert!(gate.service("shop").await.lock.is_some());
}

#[tokio::test]
async fn twenty_upgrades_in_a_row_under_load_fail_no_request() {
    let _alone = ONE.lock().await;
    let (blue, green) = origins().await;
    let plan = tidegate().service("shop", &blue, &green).with("split: {by: request}");
    let mut gate = plan.start_daemon().await;
    let first = gate.pid();
    let load = gate.load("/");
    let (mut took, mut closed) = (Vec::new(), Vec::new());
    for step in 0..20 {
        let weight = format!("{}%", 10 + step);
        gate.shift("shop", &weight).await;
        load.goes_on(2_000).await;
        let upgraded = gate.upgrade("").await.unwrap_or_else(|refused| panic!("{refused:?}"));
        took.push(upgraded.took_ms * 1_000);
        closed.push(upgraded.closed_ms * 1_000);
        assert_eq!(gate.weight("shop").await.to_string(), weight);
        load.goes_on(2_000).await;
    }
    let seen = load.end().await;
    println!(
        "{} requests over 20 upgrades, {} failed; {}",
        seen.total(),
        seen.failures.len(),
        latencies(&seen)
    );
    println!("an upgrade: {}; changes refused: {}", quantiles(took), quantiles(closed));
    seen.assert_none_failed();
    assert!(gate.pid() != first && gate.first_has_ended().await);
}

#[tokio::test]
async fn whoever_is_killed_in_an_upgrade_the_next_start_finds_the_last_acknowledged_weight() {
    let _alone = ONE.lock().await;
    let (blue, green) = origins().await;
    let mut chance = chance();
    let plan = tidegate().service("shop", &blue, &green).with("split: {by: request}");
    let mut gate = plan.start_daemon().await;
    let (mut newest, mut came_through) = (0, 0);
    for round in 0..60_u32 {
        gate.is_ready().await;
        let changed = gate.shift("shop", &format!("{}%", 1 + round)).await;
        assert!(changed.generation > newest, "{} after {newest}", changed.generation);
        newest = changed.generation;
        let old = gate.pid();
        let micros = chance.u64(0..120_000);
        let (socket, body) = (gate.socket(), String::from("{}"));
        let order = tokio::spawn(async move {
            let head =
                format!("POST /v1/upgrade HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", body.len());
            let mut wire = support::Wire::new(tokio::net::UnixStream::connect(socket).await?);
            wire.ask(format!("{head}{body}").as_bytes()).await
        });
        tokio::time::sleep(Duration::from_micros(micros)).await;
        let children = fs::read_to_string(format!("/proc/{old}/task/{old}/children")).unwrap_or_default();
        let mut new: Vec<u32> = of_all_threads(old, &children);
        let (dies, both) = (chance.bool(), chance.u8(0..3) == 0);
        if dies || both {
            support::gate::send(old, rustix::process::Signal::KILL);
        }
        if !dies || both {
            new.iter().for_each(|pid| support::gate::send(*pid, rustix::process::Signal::KILL));
        }
        let answer = order.await.unwrap();
        let upgraded = answer.ok().and_then(|answer| understand::<Upgraded>(&answer).ok());
        came_through += u32::from(upgraded.is_some());
        // Whoever has taken over long ago is nobody's child any more.
        new.extend(upgraded.map(|upgraded| upgraded.new.pid));
        // Whoever is left is asked nothing more: both end, and the next one begins.
        for pid in &new {
            support::gate::send(*pid, rustix::process::Signal::KILL);
            support::gate::has_gone(*pid).await;
        }
        // One that was started a moment ago, and is not known here, ends by itself once it finds nobody to take over from.
        let remains = gate.dies();
        gate = until("the next one begins", async || remains.clone().begins_again().ok()).await;
        assert_eq!(gate.weight("shop").await.to_string(), format!("{}%", 1 + round), "{micros} µs");
        assert!(gate.service("shop").await.lock.is_none());
    }
    println!("60 upgrades with somebody killed, {came_through} of them came through before that");
}

/// The children of a process, whichever of its threads they were started by.
fn of_all_threads(pid: u32, of_first: &str) -> Vec<u32> {
    let mut all = of_first.to_owned();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        all += &fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        all.push(' ');
    }
    let mut pids: Vec<u32> = all.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

#[tokio::test]
async fn twenty_seconds_of_bytes_of_all_kinds_break_no_law() {
    let _alone = ONE.lock().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/run");
    let found = Command::new(script).arg("20").output().unwrap();
    println!("{}", String::from_utf8_lossy(&found.stdout));
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
}

#[tokio::test]
async fn prometheus_scrapes_it_and_promtool_finds_nothing() {
    let _alone = ONE.lock().await;
    let exists = |name: &str| Command::new(name).arg("--version").output().is_ok();
    if !exists("prometheus") || !exists("promtool") {
        println!("SKIPPED: there is no prometheus and promtool; apt-get install prometheus");
        return;
    }
    let (blue, green) = origins().await;
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    gate.shift("shop", "40%").await;
    gate.get_many("/", 2_000).await.assert_none_failed();
    gate.kill("shop").await;

    let folder = gate.folder();
    let page = folder.join("page");
    fs::write(&page, gate.metrics().await.0).unwrap();
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(&page).unwrap())
        .output()
        .unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));

    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: tidegate, static_configs: \
         [{{targets: [\"{}\"]}}]}}]\n",
        gate.telemetry()
    );
    fs::write(folder.join("prometheus.yml"), config).unwrap();
    // A port that is free now; Prometheus does not say which one it took.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
        .arg(format!("--web.listen-address={port}"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let query = get("/api/v1/query?query=sum(tidegate_requests_total)", &[("connection", "close")]);
    let scraped = until("Prometheus has scraped it", async || {
        let answer = support::connect(port).await.ok()?.ask(&query).await.ok()?;
        answer.text().contains("\"2000\"").then(|| answer.text().to_owned())
    })
    .await;
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
    println!("promtool finds nothing; Prometheus says {scraped}");
}

#[tokio::test]
async fn a_hundred_scrapes_a_second_do_not_move_the_latency() {
    let _alone = ONE.lock().await;
    let (blue, green) = origins().await;
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    gate.shift("shop", "50%").await;
    gate.get_many("/", 20_000).await.assert_none_failed();
    let quiet = gate.get_many("/", 100_000).await;
    let mut scrapes = 0;
    let load = Load::begin(gate.address(), {
        let request = get("/", &[]);
        move |number| (number < 100_000).then(|| request.clone())
    });
    let mut every = tokio::time::interval(Duration::from_millis(10));
    let begun = clock::now();
    while load.answered() < 100_000 {
        every.tick().await;
        gate.metrics().await;
        scrapes += 1;
    }
    let took = clock::now() - begun;
    let scraped = load.result().await;
    scraped.assert_none_failed();
    println!("without scrapes: {}", latencies(&quiet));
    println!("with {scrapes} in {took:?}: {}", latencies(&scraped));
    let (quiet, scraped) = (quiet.latency(0.5), scraped.latency(0.5));
    assert!(scraped < quiet * 2, "{quiet:?} became {scraped:?}");
}

/// Resident memory in KiB, and CPU time in ticks, of a process.
fn used(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    (rss.trim().trim_end_matches(" kB").parse().unwrap(), ticks)
}

#[tokio::test]
async fn ten_thousand_services_cost_memory_and_no_request_anything() {
    let _alone = ONE.lock().await;
    let (blue, green) = origins().await;
    let mut report = String::new();
    let mut medians = Vec::new();
    for count in [1, 10_000] {
        let mut plan = tidegate();
        for number in 0..count {
            let name = format!("s{number}");
            plan = plan
                .service(&name, &blue, &green)
                .with(&format!("path: /{name}"))
                .with("split: {by: request}");
        }
        let gate = plan.start_daemon().await;
        gate.shift("s0", "50%").await;
        let (memory, _) = used(gate.pid());
        let mut shifts = Vec::new();
        for step in 0..50 {
            shifts.push(gate.shift("s0", &format!("{}%", 10 + step)).await.live_us);
        }
        let mut kills = Vec::new();
        for _ in 0..20 {
            kills.push(gate.kill("s0").await.live_us);
            gate.arm("s0").await;
            gate.shift("s0", "50%").await;
        }
        gate.get_many("/s0", 10_000).await.assert_none_failed();
        let (_, ticks_before) = used(gate.pid());
        let seen = gate.get_many("/s0", 100_000).await;
        seen.assert_none_failed();
        assert!(seen.answers.iter().any(|answer| answer.by == By::Green));
        let (_, ticks) = used(gate.pid());
        medians.push(seen.latency(0.5));
        let _ = writeln!(
            report,
            "{count} services: {} MiB resident; shift {}; kill {}; 100,000 requests: {}, {} ms of CPU",
            memory / 1024,
            quantiles(shifts),
            quantiles(kills),
            latencies(&seen),
            (ticks - ticks_before) * 10
        );
    }
    print!("{report}");
    assert!(medians[1] < medians[0] * 2, "{medians:?}");
}
