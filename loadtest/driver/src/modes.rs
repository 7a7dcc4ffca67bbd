//! The routing modes under shifts, reloads and kills.
//!
//! For each mode: shift from 0 % to 100 % in steps and compare, at each step, what the origins got with what
//! was asked for; reload with an endpoint more and one fewer; kill and arm again and again. A step is counted only
//! after `/v1/wait` says that nothing older is open, so each counted request was decided at that weight.
//!
//! oha sends the same header fields with every request. So the modes with many people give the key in the query, or
//! have none and get a new cookie each time; those with one person hold a cookie or header still, and are
//! checked for what such a person is promised: one side, and the one that `explain` says.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Daemon, Probe};
use crate::oha::{Load, Seen};
use crate::origin::Origins;
use crate::{Outcome, Setup};

const STEPS: [u32; 6] = [0, 10, 25, 50, 75, 100];
/// How far, in standard deviations, a share may be off: less than one step in a million by chance.
const SIGMAS_MAX: f64 = 5.0;
/// The load is stopped when all is done, and ends by itself if that takes longer than this.
const LOAD_MAX: Duration = Duration::from_secs(120);
/// Probes after each kill, each on a connection of its own, so that every worker thread is asked.
const PROBES: usize = 8;

struct Mode {
    name: &'static str,
    split: &'static str,
    path: &'static str,
    person: Person,
}

#[derive(PartialEq)]
enum Person {
    Many,
    OneCookie,
    OneHeader,
}

const MODES: [Mode; 5] = [
    Mode { name: "request", split: "{by: request}", path: "/", person: Person::Many },
    Mode { name: "cookie, all new", split: "{by: cookie}", path: "/", person: Person::Many },
    Mode { name: "cookie, one", split: "{by: cookie}", path: "/", person: Person::OneCookie },
    Mode {
        name: "user, random",
        split: "{by: user, user: [query:user]}",
        path: "/\\?user=u[0-9]{8}",
        person: Person::Many,
    },
    Mode {
        name: "user, one",
        split: "{by: user, user: [header:x-user-id]}",
        path: "/",
        person: Person::OneHeader,
    },
];

pub fn run(setup: &Setup, time: Duration) -> Outcome<Vec<String>> {
    println!(
        "{:<16} {:>9} {:>8} {:>7} {:>7}  {:<33} {:>6} {:>6} {:>6} {:>7} {:>6} {:>7} {:>8}",
        "by",
        "requests",
        "req/s",
        "p50 ms",
        "p99 ms",
        "green % at 0/10/25/50/75/100 %",
        "off",
        "kills",
        "late",
        "reloads",
        "failed",
        "resets",
        "CPU µs"
    );
    let (mut broken, mut fastest_cpu) = (Vec::new(), f64::MAX);
    for (at, mode) in MODES.iter().enumerate() {
        let row = drive(setup, &format!("mode-{at}"), mode, time)?;
        row.print(mode.name);
        fastest_cpu = fastest_cpu.min(row.cpu.as_secs_f64());
        broken.extend(row.broken(mode.name));
    }
    println!(
        "off: the worst step, in standard deviations (at most {SIGMAS_MAX}); a person alone is on one side or the other.\n\
         late: requests on green that began after the kill's acknowledgement. resets: of those failed, by oha's words.\n\
         CPU µs: user and system time of the proxy's process by requests, read in ticks of 1/{} s: ±{:.1} % or less.",
        setup.ticks_per_second,
        200.0 / setup.ticks_per_second / fastest_cpu
    );
    Ok(broken)
}

#[derive(Default)]
struct Row {
    seen: Seen,
    cpu: Duration,
    /// Green's part at each step, 0 to 1.
    shares: Vec<f64>,
    /// The largest deviation, in standard deviations.
    off: f64,
    kills: u32,
    late: u64,
    reloads: u32,
    /// What the proxy counts as failures of the origins, even if the client did not notice.
    hidden: u64,
}

impl Row {
    fn print(&self, name: &str) {
        let shares: Vec<_> = self.shares.iter().map(|share| format!("{:.1}", share * 100.0)).collect();
        let Self { seen, cpu, off, kills, late, reloads, .. } = self;
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{name:<16} {:>9} {:>8.0} {:>7.2} {:>7.2}  {:<33} {off:>5.1}σ {kills:>6} {late:>6} {reloads:>7} {:>6} {:>7} {:>8.1}",
            seen.requests,
            seen.per_second,
            millis(seen.p50),
            millis(seen.p99),
            shares.join(" / "),
            seen.failed(),
            seen.resets(),
            cpu.as_secs_f64() * 1e6 / seen.requests.max(1) as f64,
        );
    }

    fn broken(&self, name: &str) -> Vec<String> {
        let mut broken = Vec::new();
        for (what, count) in &self.seen.failures {
            broken.push(format!("{name}: {count} requests failed: {what}"));
        }
        if self.seen.requests == 0 {
            broken.push(format!("{name}: no request was made"));
        }
        if self.hidden > 0 {
            broken.push(format!(
                "{name}: the proxy counted {} failures of origins that never fail",
                self.hidden
            ));
        }
        if self.late > 0 {
            broken
                .push(format!("{name}: {} requests reached green after a kill was acknowledged", self.late));
        }
        if self.off > SIGMAS_MAX {
            broken.push(format!("{name}: a share is {:.1} standard deviations off", self.off));
        }
        broken
    }
}

struct Scene {
    origins: Origins,
    daemon: Daemon,
}

fn drive(setup: &Setup, folder: &str, mode: &Mode, time: Duration) -> Outcome<Row> {
    let origins = Origins::start()?;
    let configs = [false, true].map(|more| services(mode, &origins, more));
    let daemon = Daemon::start(setup, folder, &configs[0], "shop")?;
    let mut scene = Scene { origins, daemon };
    let (field, bucket) = scene.introduce(&mode.person)?;
    let mut probes = (0..PROBES).map(|_| scene.daemon.probe()).collect::<Outcome<Vec<_>>>()?;

    let mut row = Row::default();
    let cpu = scene.daemon.cpu()?;
    let url = format!("http://{}{}", scene.daemon.address, mode.path);
    let load = Load::start(setup, &url, LOAD_MAX, field.as_deref())?;
    for weight in STEPS {
        scene.step(weight, time.mul_f64(0.08), bucket, &mut row)?;
    }
    let fifty = scene.daemon.admin.shift("shop", 50)?.generation;
    scene.daemon.admin.wait("shop", fifty)?;
    let begun = Instant::now();
    while row.reloads == 0 || begun.elapsed() < time.mul_f64(0.25) {
        row.reloads += 1;
        scene.daemon.reload(&configs[row.reloads as usize % 2])?;
        thread::sleep(Duration::from_millis(40));
    }
    let begun = Instant::now();
    while row.kills == 0 || begun.elapsed() < time.mul_f64(0.25) {
        scene.kill(&mut probes, &mut row)?;
    }
    row.seen = load.stop()?;
    row.cpu = scene.daemon.cpu()? - cpu;
    row.hidden = scene.failures()?;
    Ok(row)
}

/// `more`: blue has a second endpoint.
fn services(mode: &Mode, origins: &Origins, more: bool) -> String {
    let (blue, green, split) = (origins.blue_port, origins.green_port, mode.split);
    let second = if more { format!(", \"http://127.0.0.2:{blue}\"") } else { String::new() };
    format!(
        "  shop:\n    blue: [\"http://127.0.0.1:{blue}\"{second}]\n    green: http://127.0.0.1:{green}\n    \
         split: {split}\n    health: {{interval: 500ms, timeout: 500ms}}\n"
    )
}

impl Scene {
    /// The header field that makes every request one person's, and where that person stands.
    fn introduce(&mut self, person: &Person) -> Outcome<(Option<String>, Option<u64>)> {
        let (field, asked) = match person {
            Person::Many => return Ok((None, None)),
            Person::OneHeader => ("x-user-id: alice".to_owned(), "user=alice".to_owned()),
            Person::OneCookie => {
                self.daemon.admin.shift("shop", 50)?;
                let answer = self.daemon.probe()?.get("/", "")?;
                let set = answer.field("set-cookie").ok_or("no visitor cookie was set")?;
                let cookie = set.split(';').next().unwrap_or_default();
                let id = cookie.split('.').nth(2).ok_or("the visitor cookie has no id")?;
                (format!("cookie: {cookie}"), format!("visitor={id}"))
            }
        };
        let explained = self.daemon.admin.get(&format!("/v1/services/shop/explain?{asked}"))?;
        Ok((Some(field), explained["bucket"].as_u64()))
    }

    fn step(&mut self, weight: u32, hold: Duration, bucket: Option<u64>, row: &mut Row) -> Outcome<()> {
        let generation = self.daemon.admin.shift("shop", weight)?.generation;
        self.daemon.admin.wait("shop", generation)?;
        let before = self.origins.hits();
        thread::sleep(hold);
        let after = self.origins.hits();
        let green = (after.green - before.green) as f64;
        let all = (after.blue - before.blue) as f64 + green;
        if all == 0.0 {
            let why = "no request came while the weight was";
            return Err(format!(
                "{why} {weight}%: the disk was slow and the load is over; give it more time"
            )
            .into());
        }
        let share = green / all;
        let wanted = match bucket {
            Some(bucket) => f64::from(bucket < u64::from(weight) * 1000),
            None => f64::from(weight) / 100.0,
        };
        row.shares.push(share);
        // Binomial; at 0 and 1 there is no chance about it.
        let deviation = (wanted * (1.0 - wanted) / all).sqrt();
        let off = if share == wanted { 0.0 } else { (share - wanted).abs() / deviation };
        row.off = row.off.max(off);
        Ok(())
    }

    /// Kill, look whether anybody still gets to green, and open again.
    fn kill(&mut self, probes: &mut [Probe], row: &mut Row) -> Outcome<()> {
        let admin = &mut self.daemon.admin;
        let killed = admin.kill("shop")?;
        for probe in probes {
            row.late += u64::from(probe.get("/", "")?.body != "blue");
        }
        // What was decided before may still be on its way; once it is gone, nothing follows.
        admin.wait("shop", killed.generation)?;
        let green = self.origins.hits().green;
        thread::sleep(Duration::from_millis(20));
        row.late += self.origins.hits().green - green;
        row.kills += 1;
        admin.arm("shop")?;
        let fifty = admin.shift("shop", 50)?.generation;
        admin.wait("shop", fifty)
    }

    fn failures(&mut self) -> Outcome<u64> {
        let status: Value = self.daemon.admin.get("/v1/services/shop")?;
        let of =
            |variant: &str| status["variants"][variant]["failures"].as_u64().ok_or("no failures in status");
        Ok(of("blue")? + of("green")?)
    }
}
