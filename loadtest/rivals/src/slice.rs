//! One slice: a generator against one proxy, and what everybody's clocks say before and after.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::fleet::{Fleet, Proxy};
use crate::load::{Addresses, Counted, Load};
use crate::process::{Process, on_cores};
use crate::{Outcome, machine, process};

/// Longer than any slice; a generator that takes longer hangs.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A line of `slices.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub struct Slice {
    #[serde(flatten)]
    pub counted: Counted,
    /// Time on a processor, in seconds.
    pub proxy_cpu: f64,
    pub load_cpu: f64,
    pub origin_cpu: f64,
    /// What anything else on the machine took, in cores.
    pub others: f64,
    pub wall: f64,
    /// Green's share of what reached the origins by HTTP/1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub green: Option<f64>,
}

impl Slice {
    /// The proxy's µs for each request.
    pub fn cost(&self) -> f64 {
        self.proxy_cpu * 1e6 / self.counted.requests.max(1) as f64
    }
}

/// Without a proxy the load goes to blue itself.
pub fn run(
    fleet: &Fleet,
    proxy: Option<&Proxy>,
    load: &Load,
    time: Duration,
    folder: &Path,
) -> Outcome<Slice> {
    let addresses = match proxy {
        Some(proxy) => proxy.addresses.clone(),
        None => Addresses { plain: fleet.blue.clone(), tls: String::new() },
    };
    let command = load.command(&addresses, time.as_secs_f64(), folder, "load")?;
    let hits = fleet.hits()?;
    let cpu = || proxy.map_or(Duration::ZERO, |proxy| proxy.process.cpu());
    let (proxy_before, origin_before, busy_before) = (cpu(), fleet.origin.cpu(), machine::busy()?);
    let begun = Instant::now();
    let mut child = on_cores(fleet.cores.others, &command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", command.join(" ")))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut generator = Process::of(child);
    let pid = generator.child().id();
    let mut load_cpu = Duration::ZERO;
    // Its clock ends with it: what is read last misses a few milliseconds.
    while !generator.has_ended() {
        load_cpu = process::cpu(pid).unwrap_or(load_cpu).max(load_cpu);
        if begun.elapsed() > ENDS_WITHIN + time {
            return Err(format!("{} does not end", command.join(" ")).into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let wall = begun.elapsed();
    let proxy_cpu = cpu().saturating_sub(proxy_before);
    let origin_cpu = fleet.origin.cpu().saturating_sub(origin_before);
    let busy = machine::busy()?.saturating_sub(busy_before);
    let [blue, green] = fleet.hits()?;
    let (blue, green) = (blue - hits[0], green - hits[1]);
    let (mut said, mut complained) = (String::new(), String::new());
    stdout.ok_or("no output")?.read_to_string(&mut said)?;
    stderr.ok_or("no output")?.read_to_string(&mut complained)?;
    let counted = load.read(&said).map_err(|error| format!("{}: {error}{complained}", command.join(" ")))?;
    Ok(Slice {
        counted,
        proxy_cpu: proxy_cpu.as_secs_f64(),
        load_cpu: load_cpu.as_secs_f64(),
        origin_cpu: origin_cpu.as_secs_f64(),
        others: busy.saturating_sub(proxy_cpu + load_cpu + origin_cpu).as_secs_f64() / wall.as_secs_f64(),
        wall: wall.as_secs_f64(),
        green: (blue + green > 0).then(|| green as f64 / (blue + green) as f64),
    })
}
