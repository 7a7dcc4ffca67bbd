//! How long a kill takes, thousands of times, under load.
//!
//! Each round kills, looks with a fresh request whether green is closed, arms and shifts up again. *Live* is what the
//! daemon says of itself, from the request read to the table published; *acknowledged* is what a client on the
//! socket waits, the disk included.

use std::time::{Duration, Instant};

use crate::admin::Changed;
use crate::daemon::Daemon;
use crate::distribution::Distribution;
use crate::oha::Load;
use crate::origin::Origins;
use crate::{Outcome, Setup};

const MEDIAN_MAX: Duration = Duration::from_millis(1);
/// For all kills together.
const TIME_MAX: Duration = Duration::from_secs(600);

pub fn run(setup: &Setup, kills: u32) -> Outcome<Vec<String>> {
    let origins = Origins::start()?;
    let services = format!(
        "  shop: {{blue: \"http://127.0.0.1:{}\", green: \"http://127.0.0.1:{}\", split: {{by: request}}}}\n",
        origins.blue_port, origins.green_port
    );
    let mut daemon = Daemon::start(setup, "kill-latency", &services, "shop")?;
    let url = format!("http://{}/", daemon.address);
    let load = Load::start(setup, &url, TIME_MAX, None)?;
    let storm = storm(&mut daemon, kills)?;
    let seen = load.stop()?;

    let title = format!("{kills} kills under {:.0} req/s, in µs", seen.per_second);
    println!("{title:<40}{:>9}{:>9}{:>9}{:>9}{:>9}", "min", "p50", "p90", "p99", "max");
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
    let (requests, failed) = (seen.requests, seen.failed());
    println!("{requests} requests, {failed} failed; {} of {kills} probes after a kill saw green", storm.late);

    let mut broken = Vec::new();
    for (what, count) in &seen.failures {
        broken.push(format!("{count} requests failed: {what}"));
    }
    if requests == 0 {
        broken.push("no request was made".to_owned());
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
