//! One run of oha.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::{Outcome, Setup};

pub const CONNECTIONS: u32 = 64;

pub struct Load {
    child: Child,
}

/// What oha saw.
#[derive(Default)]
pub struct Seen {
    pub requests: u64,
    pub per_second: f64,
    pub p50: Duration,
    pub p95: Duration,
    pub p99: Duration,
    /// Everything but a 200, by oha's own words.
    pub failures: BTreeMap<String, u64>,
}

impl Seen {
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Failures whose words say that a connection ended early.
    pub fn resets(&self) -> u64 {
        let ended = |text: &str| ["reset", "closed", "broken pipe"].iter().any(|word| text.contains(word));
        self.failures.iter().filter(|(text, _)| ended(&text.to_lowercase())).map(|(_, count)| count).sum()
    }
}

impl Load {
    /// Asks for URLs that match the pattern `url`, for `time` unless it is stopped, over kept connections.
    pub fn start(setup: &Setup, url: &str, time: Duration, field: Option<&str>) -> Outcome<Self> {
        Self::start_at(setup, url, time, field, None)
    }

    /// The same at so many requests a second; latencies are then from when a request was due.
    pub fn start_at(
        setup: &Setup,
        url: &str,
        time: Duration,
        field: Option<&str>,
        per_second: Option<u32>,
    ) -> Outcome<Self> {
        let mut command = Command::new(&setup.oha);
        command
            .args(["-z", &format!("{}ms", time.as_millis()), "-w", "-t", "10s", "--worker-threads", "1"])
            .args(["-c", &CONNECTIONS.to_string(), "--no-tui", "--output-format", "json"]);
        if let Some(per_second) = per_second {
            command.args(["-q", &per_second.to_string(), "--latency-correction"]);
        }
        if let Some(field) = field {
            command.args(["-H", field]);
        }
        command.args(["--rand-regex-url", url]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        Ok(Self { child })
    }

    /// Ends it now: it tells what it saw so far. Requests under way are neither waited for nor counted.
    pub fn stop(self) -> Outcome<Seen> {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::INT)?;
        self.finish()
    }

    /// Waits for the end. oha ends by itself: every request has a deadline.
    pub fn finish(self) -> Outcome<Seen> {
        let output = self.child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("oha ended with {}", output.status).into());
        }
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let counts = |name: &str| {
            let counts = report[name].as_object().into_iter().flatten();
            counts.map(|(what, count)| (what.clone(), count.as_u64().unwrap_or(0)))
        };
        let mut failures: BTreeMap<_, _> = counts("errorDistribution").collect();
        let mut requests = failures.values().sum();
        for (code, count) in counts("statusCodeDistribution") {
            requests += count;
            if code != "200" {
                failures.insert(format!("status {code}"), count);
            }
        }
        let seconds =
            |value: &Value| Duration::try_from_secs_f64(value.as_f64().unwrap_or(0.0)).unwrap_or_default();
        Ok(Seen {
            requests,
            per_second: report["summary"]["requestsPerSec"].as_f64().unwrap_or(0.0),
            p50: seconds(&report["latencyPercentiles"]["p50"]),
            p95: seconds(&report["latencyPercentiles"]["p95"]),
            p99: seconds(&report["latencyPercentiles"]["p99"]),
            failures,
        })
    }
}
