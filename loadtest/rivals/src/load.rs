//! Who asks, and how many answers it counted.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Outcome, variable};

/// One kind of load on one proxy.
#[derive(Clone)]
pub enum Load {
    /// HTTP/1.1 by wrk. `script` is Lua, `FOLDER` in it stands for the folder of the run.
    Wrk { tls: bool, connections: u32, path: &'static str, script: Option<String> },
    /// HTTP/2 with TLS by h2load.
    H2load { connections: u32, streams: u32, path: &'static str },
    /// Full TLS 1.3 handshakes, a request each, by ourselves: the others resume or open all at once.
    Handshakes { connections: u32 },
    /// A fixed rate, by ourselves: wrk has none, and oha's timer is a millisecond's.
    OpenLoop { per_second: u32, connections: u32, path: &'static str },
}

/// What it counted.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Counted {
    /// Good answers.
    pub requests: u64,
    pub failed: u64,
    /// How long it took by its own watch.
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

/// In microseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Counted {
    /// `took` in nanoseconds, one for each good or bad answer that came.
    pub fn with_latencies(mut took: Vec<u64>, failed: u64, time: std::time::Duration) -> Self {
        took.sort_unstable();
        let at = |share: f64| {
            let index = ((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1));
            took.get(index).map_or(0.0, |&ns| ns as f64 / 1e3)
        };
        let latency = Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) };
        Self { requests: took.len() as u64, failed, seconds: time.as_secs_f64(), latency: Some(latency) }
    }
}

impl Load {
    /// The command for a slice. `name` is for the script's file.
    pub fn command(&self, to: &Addresses, seconds: f64, folder: &Path, name: &str) -> Outcome<Vec<String>> {
        let ourselves =
            || Ok::<_, Box<dyn std::error::Error + Send + Sync>>(words([std::env::current_exe()?.display()]));
        // wrk knows whole seconds.
        let whole = (seconds.round() as u64).max(1);
        Ok(match self {
            Self::Wrk { tls, connections, path, script } => {
                let (scheme, address) = if *tls { ("https", &to.tls) } else { ("http", &to.plain) };
                let mut command = words([variable("COMPARE_WRK")?]);
                command.extend(words(["-t1", &format!("-c{connections}"), &format!("-d{whole}s")]));
                if let Some(script) = script {
                    let file = folder.join(format!("{name}.lua"));
                    std::fs::write(&file, script.replace("FOLDER", &folder.display().to_string()))?;
                    command.extend(words(["-s", &file.display().to_string()]));
                }
                command.push(format!("{scheme}://{address}{path}"));
                command
            }
            Self::H2load { connections, streams, path } => words([
                variable("COMPARE_H2LOAD")?,
                "-t1".to_owned(),
                format!("-c{connections}"),
                format!("-m{streams}"),
                format!("-D{whole}"),
                format!("https://{}{path}", to.tls),
            ]),
            Self::Handshakes { connections } => {
                let mut command = ourselves()?;
                command.extend(words([
                    "handshakes",
                    &to.tls,
                    &connections.to_string(),
                    &seconds.to_string(),
                ]));
                command
            }
            Self::OpenLoop { per_second, connections, path } => {
                let mut command = ourselves()?;
                let (rate, connections) = (per_second.to_string(), connections.to_string());
                command.extend(words([
                    "open-loop",
                    &to.plain,
                    path,
                    &rate,
                    &connections,
                    &seconds.to_string(),
                ]));
                command
            }
        })
    }

    pub fn read(&self, said: &str) -> Outcome<Counted> {
        let counted = match self {
            Self::Wrk { .. } => read_wrk(said),
            Self::H2load { .. } => read_h2load(said),
            Self::Handshakes { .. } | Self::OpenLoop { .. } => serde_json::from_str(said.trim()).ok(),
        };
        counted.ok_or_else(|| format!("cannot read what the generator said:\n{said}").into())
    }
}

/// Where a proxy listens.
#[derive(Clone)]
pub struct Addresses {
    pub plain: String,
    pub tls: String,
}

fn words<const N: usize>(words: [impl ToString; N]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// `  310022 requests in 3.00s, 12.34MB read`, and lines for what went wrong if something did.
fn read_wrk(said: &str) -> Option<Counted> {
    let mut counted = Counted::default();
    for line in said.lines().map(str::trim) {
        if let Some((requests, rest)) = line.split_once(" requests in ") {
            counted.requests = requests.parse().ok()?;
            counted.seconds = seconds(rest.split(',').next()?)?;
        } else if let Some(responses) = line.strip_prefix("Non-2xx or 3xx responses: ") {
            counted.failed += responses.parse::<u64>().ok()?;
        } else if let Some(errors) = line.strip_prefix("Socket errors: ") {
            let numbers = errors.split(", ").filter_map(|error| error.split(' ').nth(1));
            counted.failed += numbers.filter_map(|number| number.parse::<u64>().ok()).sum::<u64>();
        }
    }
    counted.requests = counted.requests.saturating_sub(counted.failed);
    (counted.seconds > 0.0).then_some(counted)
}

/// `finished in 3.00s, 51234.33 req/s, …` and `requests: 9 total, 9 started, 9 done, 8 succeeded, 1 failed, …`.
fn read_h2load(said: &str) -> Option<Counted> {
    let mut counted = Counted::default();
    for line in said.lines() {
        if let Some(rest) = line.strip_prefix("finished in ") {
            counted.seconds = seconds(rest.split(',').next()?)?;
        } else if let Some(rest) = line.strip_prefix("status codes: ") {
            let codes = rest.split(", ").map(|code| code.split(' ').next()?.parse::<u64>().ok());
            let codes = codes.collect::<Option<Vec<_>>>()?;
            counted.requests = *codes.first()?;
            counted.failed += codes[1..].iter().sum::<u64>();
        } else if let Some(rest) = line.strip_prefix("requests: ") {
            let failed = rest.split(", ").find_map(|part| part.strip_suffix(" failed"))?;
            counted.failed += failed.parse::<u64>().ok()?;
        }
    }
    (counted.seconds > 0.0).then_some(counted)
}

/// `3.00s`, `900.12ms`, `1.05m`.
fn seconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)];
    units.iter().find_map(|(unit, factor)| {
        let number = text.trim().strip_suffix(unit)?.parse::<f64>().ok()?;
        Some(number * factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_and_h2load_are_read_with_their_failures() {
        #[track_caller]
        fn check(load: &Load, said: &str, expected: Option<(u64, u64, f64)>) {
            let counted =
                load.read(said).ok().map(|counted| (counted.requests, counted.failed, counted.seconds));
            assert_eq!(counted, expected, "{said}");
        }
        let wrk = Load::Wrk { tls: false, connections: 1, path: "/", script: None };
        check(&wrk, "  310022 requests in 3.00s, 12.34MB read\nRequests/sec: 9.9\n", Some((310_022, 0, 3.0)));
        let failed = "  100 requests in 900.00ms, 1KB read\n  \
                      Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 20\n";
        check(&wrk, failed, Some((70, 30, 0.9)));
        check(&wrk, "unable to connect to 127.0.0.1:1 Connection refused\n", None);
        let h2load = Load::H2load { connections: 1, streams: 1, path: "/" };
        let said = "finished in 2.00s, 50.00 req/s, 1.00KB/s\n\
                    requests: 103 total, 103 started, 103 done, 100 succeeded, 3 failed, 0 errored, 0 timeout\n\
                    status codes: 100 2xx, 0 3xx, 1 4xx, 1 5xx\n";
        check(&h2load, said, Some((100, 5, 2.0)));
        check(&h2load, "could not resolve\n", None);
    }

    #[test]
    fn percentiles_are_of_what_is_sorted_here() {
        let took = (1..=1000).rev().map(|us| us * 1000).collect();
        let counted = Counted::with_latencies(took, 2, std::time::Duration::from_secs(1));
        let latency = counted.latency.unwrap();
        assert_eq!((counted.requests, counted.failed), (1000, 2));
        assert_eq!((latency.p50, latency.p99, latency.max), (501.0, 991.0, 1000.0));
    }
}
