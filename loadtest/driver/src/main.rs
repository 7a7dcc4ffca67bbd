//! Drives the real binary under load, prints a table, and fails if a promise was broken.
//!
//! Started by `loadtest/run`, `loadtest/kill-latency`, `loadtest/services-10k` and `loadtest/endpoints`, which build it
//! and find oha. The origins are threads of this process: they count what reaches them, and the count is compared with what
//! was configured. Only the proxy's own CPU time is charged to the proxy.

mod admin;
mod daemon;
mod distribution;
mod endpoints;
mod front;
mod http;
mod instance;
mod kill_latency;
mod modes;
mod oha;
mod origin;
mod posts;
mod services;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Where everything is.
struct Setup {
    tidegate: PathBuf,
    oha: PathBuf,
    /// Only `endpoints` asks for it, and does without.
    haproxy: Option<PathBuf>,
    /// A folder that whoever started this removes.
    folder: PathBuf,
    /// How many ticks of `/proc/PID/stat` make a second.
    ticks_per_second: f64,
}

fn main() -> ExitCode {
    let broken = match run() {
        Ok(broken) => broken,
        Err(error) => vec![error.to_string()],
    };
    for what in &broken {
        eprintln!("loadtest: FAILED: {what}");
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was broken, one sentence each.
fn run() -> Outcome<Vec<String>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let Some(("instance", rest)) = arguments.split_first().map(|(what, rest)| (what.as_str(), rest)) {
        return instance::run(rest).map(|()| Vec::new());
    }
    let setup = Setup {
        tidegate: variable("LOADTEST_TIDEGATE")?.into(),
        oha: variable("LOADTEST_OHA")?.into(),
        haproxy: variable("LOADTEST_HAPROXY").ok().filter(|path| !path.is_empty()).map(PathBuf::from),
        folder: variable("LOADTEST_FOLDER")?.into(),
        ticks_per_second: variable("LOADTEST_TICKS")?.parse()?,
    };
    let mut arguments = arguments.into_iter();
    let (what, number) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let number: u32 = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
    match what.as_str() {
        "modes" => modes::run(&setup, Duration::from_secs(number.into())),
        "kill-latency" => kill_latency::run(&setup, number),
        "endpoints" => endpoints::run(&setup, Duration::from_secs(number.into())),
        "services" => services::run(&setup, Duration::from_secs(number.into())),
        _ => Err(format!("{what:?} is not modes, kill-latency, endpoints or services").into()),
    }
}

fn variable(name: &str) -> Outcome<String> {
    std::env::var(name).map_err(|_| format!("{name} is not set; start loadtest/run instead").into())
}
