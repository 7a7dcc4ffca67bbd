//! How long a kill takes, thousands of times, under load.
//!
//! Each round kills, looks with a fresh request whether green is closed, arms and shifts up again. *Live* is what the
//! daemon says of itself, from the request read to the table published; *acknowledged* is what a client on the
//! socket waits, the disk included.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::admin::Changed;
use crate::daemon::Daemon;
use crate::distribution::Distribution;
use crate::oha::{Load, Seen};
use crate::origin::Origins;
use crate::{Outcome, Setup};

/// oha runs again and again for this long, because how long the kills take is what is to be found out.
const ROUND: Duration = Duration::from_secs(2);
const MEDIAN_MAX: Duration = Duration::from_millis(1);
const TIME_MAX: Duration = Duration::from_secs(600);

pub fn run(setup: &Setup, kills: u32) -> Outcome<Vec<String>> {
    let origins = Origins::start()?;
    let services = format!(
        "  shop: {{blue: \"http://127.0.0.1:{}\", green: \"http://127.0.0.1:{}\", split: {{by: request}}}}\n",
        origins.blue_port, origins.green_port
    );
    let mut daemon = Daemon::start(setup, "kill-latency", &services, "shop")?;
    let url = format!("http://{}/", daemon.address);
    let done = AtomicBool::new(false);
    let (storm, seen) = thread::scope(|scope| {
        let load = scope.spawn(|| under_load(setup, &url, &done).map_err(|error| error.to_string()));
        let storm = storm(&mut daemon, kills);
        done.store(true, Ordering::SeqCst);
        (storm, load.join())
    });
    let storm = storm?;
    let seen = seen.map_err(|_| "the load's thread panicked")??;

    println!(
        "{kills} kills under {:.0} req/s, in µs{:>21}{:>9}{:>9}{:>9}{:>9}",
        per_second(&seen),
        "min",
        "p50",
        "p90",
        "p99",
        "max"
    );
    let kill_live = Distribution::of(storm.kills.iter().map(|kill| kill.live).collect());
    let acknowledged =
        |changes: &[Changed]| Distribution::of(changes.iter().map(|change| change.acknowledged).collect());
    let rows = [
        ("kill: live", &kill_live),
        ("kill: acknowledged (on disk)", &acknowledged(&storm.kills)),
        ("shift up: acknowledged (on disk)", &acknowledged(&storm.shifts)),
    ];
    for (name, distribution) in rows {
        println!("{name:<40}{}", distribution.row());
    }
    let requests: u64 = seen.iter().map(|seen| seen.requests).sum();
    let failed: u64 = seen.iter().map(Seen::failed).sum();
    println!("{requests} requests, {failed} failed; {} of {kills} probes after a kill saw green", storm.late);

    let mut broken = Vec::new();
    for (what, count) in seen.iter().flat_map(|seen| &seen.failures) {
        broken.push(format!("{count} requests failed: {what}"));
    }
    if storm.late > 0 {
        broken.push(format!("{} requests reached green after a kill was acknowledged", storm.late));
    }
    let median = kill_live.quantile(0.5);
    if median >= MEDIAN_MAX {
        broken.push(format!("the median of a kill is {median:?}, and has to be under {MEDIAN_MAX:?}"));
    }
    Ok(broken)
}

fn under_load(setup: &Setup, url: &str, done: &AtomicBool) -> Outcome<Vec<Seen>> {
    let mut rounds = Vec::new();
    while !done.load(Ordering::SeqCst) {
        rounds.push(Load::start(setup, url, ROUND, None)?.finish()?);
    }
    Ok(rounds)
}

fn per_second(seen: &[Seen]) -> f64 {
    seen.iter().map(|seen| seen.per_second).sum::<f64>() / seen.len().max(1) as f64
}

struct Storm {
    kills: Vec<Changed>,
    shifts: Vec<Changed>,
    late: u32,
}

fn storm(daemon: &mut Daemon, kills: u32) -> Outcome<Storm> {
    let mut storm = Storm { kills: Vec::new(), shifts: Vec::new(), late: 0 };
    let begun = Instant::now();
    for _ in 0..kills {
        storm.shifts.push(daemon.admin.shift("shop", 50)?);
        storm.kills.push(daemon.admin.kill("shop")?);
        // A connection of its own each time, so that every worker thread is met.
        storm.late += u32::from(daemon.probe()?.get("/", "connection: close\r\n")?.body != "blue");
        daemon.admin.arm("shop")?;
        if begun.elapsed() > TIME_MAX {
            return Err(format!("{} kills took {TIME_MAX:?}", storm.kills.len()).into());
        }
    }
    Ok(storm)
}
