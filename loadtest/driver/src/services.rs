//! One service, and ten thousand: memory, what a shift costs, what a request costs.
//!
//! The services are told apart by path and share two origins. The last row spreads the requests over a
//! thousand of them, so that neither routes nor counters nor connections stay in the processor's caches: the
//! unflattering case. Each service has connections of its own to its endpoints, so a first round that is not
//! counted opens them.

use std::fmt::Write as _;
use std::time::Duration;

use crate::admin::Changed;
use crate::daemon::Daemon;
use crate::distribution::Distribution;
use crate::oha::{Load, Seen};
use crate::origin::Origins;
use crate::{Outcome, Setup};

const MANY: u32 = 10_000;
const SHIFTS: usize = 100;
const SHIFTS_WITHIN: Duration = Duration::from_secs(120);

pub fn run(setup: &Setup, time: Duration) -> Outcome<Vec<String>> {
    let mut broken = Vec::new();
    println!(
        "{:>8} {:>13} {:>8} {:>8} {:>18} {:>18} {:>8} {:>8} {:>8} {:>7}",
        "", "", "start", "RSS", "shift up µs", "shift to 0 % µs", "", "p50", "CPU", ""
    );
    println!(
        "{:>8} {:>13} {:>8} {:>8} {:>9}{:>9} {:>9}{:>9} {:>8} {:>8} {:>8} {:>7}",
        "services", "asked for", "s", "MiB", "live", "all", "live", "all", "req/s", "ms", "µs/req", "failed"
    );
    for (count, path, asked) in [
        (1, "/s00000/x[0-9]{4}", "the one"),
        (MANY, "/s00000/x[0-9]{4}", "one"),
        (MANY, "/s00[0-9]{3}/x", "1,000 of them"),
    ] {
        let folder = format!("services-{}-{asked}", count).replace([' ', ','], "-");
        let seen = drive(setup, &folder, count, path, asked, time)?;
        for (what, failed) in seen.iter().flat_map(|seen| &seen.failures) {
            broken.push(format!("{count} services: {failed} requests failed: {what}"));
        }
        if seen.iter().any(|seen| seen.requests == 0) {
            broken.push(format!("{count} services: no request was made"));
        }
    }
    println!(
        "RSS after the load. Shifts are of one service, medians of {SHIFTS} each under load: live is from the request read to the\n\
         table published (a shift up waits for the disk before that), all is what the client waits, the disk included."
    );
    Ok(broken)
}

fn drive(
    setup: &Setup,
    folder: &str,
    count: u32,
    path: &str,
    asked: &str,
    time: Duration,
) -> Outcome<Vec<Seen>> {
    let origins = Origins::start()?;
    let mut services = String::new();
    for at in 0..count {
        writeln!(
            services,
            "  s{at:05}: {{path: /s{at:05}, blue: \"http://127.0.0.1:{}\", green: \"http://127.0.0.1:{}\", split: {{by: request}}}}",
            origins.blue_port, origins.green_port
        )?;
    }
    let mut daemon = Daemon::start(setup, folder, &services, "s00000")?;
    let url = format!("http://{}{path}", daemon.address);

    Load::start(setup, &url, time / 2, None)?.finish()?;
    // The figures of the requests are not disturbed by shifts, those of the shifts are by requests.
    let cpu = daemon.cpu()?;
    let seen = Load::start(setup, &url, time, None)?.finish()?;
    let cpu = daemon.cpu()? - cpu;
    let rss_kib = daemon.rss_kib()?;
    let load = Load::start(setup, &url, SHIFTS_WITHIN, None)?;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..SHIFTS {
        up.push(daemon.admin.shift("s00000", 50)?);
        down.push(daemon.admin.shift("s00000", 0)?);
    }
    let under_shifts = load.stop()?;

    let ((up_live, up_all), (down_live, down_all)) = (medians(&up), medians(&down));
    println!(
        "{count:>8} {asked:>13} {:>8.2} {:>8.1} {:>9}{:>9} {:>9}{:>9} {:>8.0} {:>8.2} {:>8.1} {:>7}",
        daemon.took.as_secs_f64(),
        rss_kib as f64 / 1024.0,
        up_live,
        up_all,
        down_live,
        down_all,
        seen.per_second,
        seen.p50.as_secs_f64() * 1e3,
        cpu.as_secs_f64() * 1e6 / seen.requests.max(1) as f64,
        seen.failed() + under_shifts.failed(),
    );
    Ok(vec![seen, under_shifts])
}

/// Until live, and until acknowledged, in microseconds.
fn medians(changes: &[Changed]) -> (u128, u128) {
    let median = |part: fn(&Changed) -> Duration| {
        Distribution::of(changes.iter().map(part).collect()).quantile(0.5).as_micros()
    };
    (median(|change| change.live), median(|change| change.acknowledged))
}
