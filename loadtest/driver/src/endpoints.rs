//! Endpoints that die, hang, fail and are slow: what clients see of it, beside HAProxy with the same settings on the
//! same instances.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::front::Front;
use crate::instance::{Instance, Manner, executions};
use crate::oha::{Load, Seen};
use crate::posts::Posts;
use crate::{Outcome, Setup};

/// What checks need to have found out who is hung.
const SETTLES: Duration = Duration::from_secs(4);
/// A retry storm may take so much more than was asked for: the budget, and what it has at the start.
const STORM_MAX: f64 = 1.22;
/// Far below what two cores can do, so that what is seen is waiting and not a lack of processor time.
const MIRRORED_PER_SECOND: u32 = 2000;

pub fn run(setup: &Setup, time: Duration) -> Outcome<Vec<String>> {
    let mut broken = Vec::new();
    broken.extend(five(setup, time)?);
    broken.extend(slow(setup, time / 4)?);
    broken.extend(storm(setup, (time / 8).max(Duration::from_secs(4)))?);
    broken.extend(mirror(setup, (time / 12).max(Duration::from_secs(2)))?);
    if setup.haproxy.is_none() {
        println!(
            "\nThere is no HAProxy here, so its rows are missing; apt-get install haproxy, or set LOADTEST_HAPROXY."
        );
    }
    Ok(broken)
}

fn group(instances: &[Instance]) -> String {
    let urls: Vec<_> =
        instances.iter().map(|instance| format!("\"http://127.0.0.1:{}\"", instance.port)).collect();
    format!("    blue: [{}]\n", urls.join(", "))
}

fn servers(instances: &[Instance], options: &str) -> String {
    let line = |(at, instance): (usize, &Instance)| {
        format!("  server s{at} 127.0.0.1:{} {options}\n", instance.port)
    };
    instances.iter().enumerate().map(line).collect()
}

fn folder(setup: &Setup, name: &str) -> Outcome<PathBuf> {
    let folder = setup.folder.join(name);
    fs::create_dir(&folder)?;
    Ok(folder)
}

fn named(counts: &BTreeMap<String, u64>) -> String {
    let texts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} × {what}")).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// One dies every second, one hangs, one fails 30 %, two are well.
fn five(setup: &Setup, time: Duration) -> Outcome<Vec<String>> {
    println!(
        "Five endpoints for {} s: one is killed -9 every second and back half a second later, one accepts and never answers, \
         one answers 30 % with 500, two are well. GETs by oha, POSTs beside them.\n\
         {:<10} {:>8} {:>8} {:>7} {:>7}  {:<44} {:>8}  {:<40} {:>6}",
        time.as_secs(),
        "",
        "GETs",
        "req/s",
        "p50 ms",
        "p99 ms",
        "GETs that failed",
        "POSTs",
        "POSTs that failed",
        "twice"
    );
    let mut broken = Vec::new();
    for name in ["tidegate", "haproxy"] {
        let folder = folder(setup, &format!("five-{name}"))?;
        let at_once = Manner::After(Duration::ZERO);
        let manners = [at_once, at_once, at_once, Manner::Hung, Manner::Failing(30)];
        let mut instances = manners
            .into_iter()
            .map(|manner| Instance::start(&folder, manner))
            .collect::<Outcome<Vec<_>>>()?;
        let front = match name {
            "tidegate" => Some(Front::tidegate(
                setup,
                "five",
                &format!(
                    "{}    health: {{path: /up, interval: 1s, timeout: 500ms, up: 2, down: 2}}\n    \
                     timeouts: {{connect: 1s, first_byte: 2s}}\n    \
                     retries: {{attempts: 2, on: [connect, reset], per_try: 500ms, budget: 100%}}\n    \
                     ejection: {{failures: 5, pause: 2s, max_ejected: 60%}}\n",
                    group(&instances)
                ),
            )?),
            _ => Front::haproxy(
                setup,
                "five",
                &format!(
                    "  balance leastconn\n  timeout connect 1s\n  timeout server 500ms\n  timeout queue 2s\n  retries 2\n  \
                     option redispatch 1\n  retry-on conn-failure empty-response response-timeout\n  \
                     http-request disable-l7-retry if METH_POST\n  option httpchk GET /up\n  timeout check 500ms\n{}",
                    servers(
                        &instances,
                        "check inter 1s fall 2 rise 2 observe layer7 error-limit 5 on-error mark-down"
                    )
                ),
            )?,
        };
        let Some(front) = front else { continue };
        thread::sleep(SETTLES);
        if let Some(mortal) = instances.get_mut(2) {
            mortal.dies_every_second();
        }
        let posts = Posts::start(front.address());
        let seen = Load::start(setup, &format!("http://{}/", front.address()), time, None)?.finish()?;
        let answers = posts.stop();
        let twice = executions(&folder)?.values().filter(|times| **times > 1).count();
        let posted: u64 = answers.values().sum();
        let failed: BTreeMap<_, _> =
            answers.into_iter().filter(|(answer, _)| answer != "status 200").collect();
        println!(
            "{name:<10} {:>8} {:>8.0} {:>7.2} {:>7.2}  {:<44} {posted:>8}  {:<40} {twice:>6}",
            seen.requests,
            seen.per_second,
            millis(seen.p50),
            millis(seen.p99),
            named(&seen.failures),
            named(&failed),
        );
        if name == "tidegate" {
            broken.extend(of_five(&seen, posted, twice));
        }
    }
    Ok(broken)
}

/// The endpoint that fails says so to the client; nothing else may reach one.
fn of_five(seen: &Seen, posted: u64, twice: usize) -> Vec<String> {
    let mut broken = Vec::new();
    let ours = seen.failures.iter().filter(|(what, _)| *what != "status 500");
    broken.extend(ours.map(|(what, count)| format!("{count} GETs failed: {what}")));
    if seen.requests == 0 || posted == 0 {
        broken.push("no request was made".to_owned());
    }
    if twice > 0 {
        broken.push(format!("{twice} POSTs were executed twice"));
    }
    broken
}

/// One of five is ten times as slow as the others.
fn slow(setup: &Setup, time: Duration) -> Outcome<Vec<String>> {
    println!(
        "\nFive endpoints for {} s, four answer after 2 ms, one after 20 ms.\n\
         {:<26} {:>8} {:>8} {:>7} {:>7} {:>7}  {:>16}",
        time.as_secs(),
        "",
        "requests",
        "req/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "to the slow one"
    );
    let mut broken = Vec::new();
    let rows = [
        ("tidegate least_requests", "balance: least_requests"),
        ("tidegate round_robin", "balance: round_robin"),
        ("haproxy leastconn", "leastconn"),
        ("haproxy roundrobin", "roundrobin"),
    ];
    for (at, (name, balance)) in rows.into_iter().enumerate() {
        let folder = folder(setup, &format!("slow-{at}"))?;
        let instances = [20, 2, 2, 2, 2]
            .into_iter()
            .map(|millis| Instance::start(&folder, Manner::After(Duration::from_millis(millis))))
            .collect::<Outcome<Vec<_>>>()?;
        let front = if name.starts_with("tidegate") {
            Some(Front::tidegate(
                setup,
                &format!("slow-{at}-front"),
                &format!("{}    {balance}\n", group(&instances)),
            )?)
        } else {
            let limits = "  timeout connect 2s\n  timeout server 60s\n";
            let backend = format!("  balance {balance}\n{limits}{}", servers(&instances, ""));
            Front::haproxy(setup, &format!("slow-{at}-front"), &backend)?
        };
        let Some(front) = front else { continue };
        let seen = Load::start(setup, &format!("http://{}/", front.address()), time, None)?.finish()?;
        let hits: Vec<_> = instances.iter().map(Instance::hits).collect();
        let slow = hits[0] as f64 * 100.0 / hits.iter().sum::<u64>().max(1) as f64;
        println!(
            "{name:<26} {:>8} {:>8.0} {:>7.2} {:>7.2} {:>7.2}  {slow:>15.1}%",
            seen.requests,
            seen.per_second,
            millis(seen.p50),
            millis(seen.p95),
            millis(seen.p99)
        );
        if name.starts_with("tidegate") {
            broken.extend(
                seen.failures.iter().map(|(what, count)| format!("{name}: {count} requests failed: {what}")),
            );
        }
    }
    Ok(broken)
}

/// Every endpoint fails half of the time, and 500 is to be tried again.
fn storm(setup: &Setup, time: Duration) -> Outcome<Vec<String>> {
    println!(
        "\nThree endpoints for {} s that answer 50 % with 500, which is tried again up to twice.\n\
         {:<26} {:>8} {:>8} {:>20} {:>22}",
        time.as_secs(),
        "",
        "requests",
        "req/s",
        "endpoints got",
        "clients saw failures"
    );
    let mut broken = Vec::new();
    for name in ["tidegate, budget 20%", "haproxy"] {
        let kind = name.split(',').next().unwrap_or(name);
        let folder = folder(setup, &format!("storm-{kind}"))?;
        let instances =
            (0..3).map(|_| Instance::start(&folder, Manner::Failing(50))).collect::<Outcome<Vec<_>>>()?;
        let front = if kind == "tidegate" {
            Some(Front::tidegate(
                setup,
                "storm",
                &format!(
                    "{}    ejection: \"off\"\n    retries: {{attempts: 2, on: [connect, reset, 500], budget: 20%}}\n",
                    group(&instances)
                ),
            )?)
        } else {
            let backend = format!(
                "  balance leastconn\n  timeout connect 2s\n  timeout server 60s\n  retries 2\n  option redispatch 1\n  \
                 retry-on conn-failure empty-response 500\n{}",
                servers(&instances, "")
            );
            Front::haproxy(setup, "storm", &backend)?
        };
        let Some(front) = front else { continue };
        let seen = Load::start(setup, &format!("http://{}/", front.address()), time, None)?.finish()?;
        let hits: u64 = instances.iter().map(Instance::hits).sum();
        let times = hits as f64 / seen.requests.max(1) as f64;
        println!(
            "{name:<26} {:>8} {:>8.0} {:>18.2} × {:>20.1} %",
            seen.requests,
            seen.per_second,
            times,
            seen.failed() as f64 * 100.0 / seen.requests.max(1) as f64
        );
        if kind == "tidegate" && times > STORM_MAX {
            broken.push(format!("a retry storm sent {times:.2} × what was asked for, {STORM_MAX} may be"));
        }
    }
    Ok(broken)
}

/// All traffic is mirrored to a candidate that never answers; the same without, in turn.
fn mirror(setup: &Setup, time: Duration) -> Outcome<Vec<String>> {
    println!(
        "\nMirroring to a candidate that accepts and never answers, in turns of {} s at {MIRRORED_PER_SECOND} req/s.\n\
         {:<26} {:>8} {:>8} {:>7} {:>7}",
        time.as_secs(),
        "",
        "requests",
        "req/s",
        "p50 ms",
        "p99 ms"
    );
    let folder = folder(setup, "mirror")?;
    let blue = [Instance::start(&folder, Manner::After(Duration::ZERO))?];
    let green = Instance::start(&folder, Manner::Hung)?;
    let mut broken = Vec::new();
    let mut fronts = Vec::new();
    for share in ["0%", "100%"] {
        let service = format!(
            "{}    green: http://127.0.0.1:{}\n    mirror: {{share: {share}}}\n",
            group(&blue),
            green.port
        );
        fronts.push((share, Front::tidegate(setup, &format!("mirror-{share}"), &service)?));
    }
    for _ in 0..3 {
        for (share, front) in &fronts {
            let url = format!("http://{}/", front.address());
            let seen = Load::start_at(setup, &url, time, None, Some(MIRRORED_PER_SECOND))?.finish()?;
            println!(
                "{:<26} {:>8} {:>8.0} {:>7.2} {:>7.2}",
                format!("share {share}"),
                seen.requests,
                seen.per_second,
                millis(seen.p50),
                millis(seen.p99)
            );
            broken.extend(
                seen.failures
                    .iter()
                    .map(|(what, count)| format!("mirroring {share}: {count} failed: {what}")),
            );
        }
    }
    Ok(broken)
}
