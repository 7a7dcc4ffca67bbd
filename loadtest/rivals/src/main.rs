//! Tidegate beside other proxies, on the same cores, the same origins and the same load. See README.md, `compare`.
//!
//! `loadtest/compare` finds the programs, builds this and starts it. All proxies run at once and are measured in turns, one slice
//! after the other, because a machine's speed changes over minutes. Nothing here fails because something is slow.

mod contest;
mod fleet;
mod forward;
mod idle;
mod load;
mod machine;
mod open_loop;
mod origin;
mod origin_h2;
mod process;
mod product;
mod report;
mod rows;
mod slice;
mod syscalls;
mod tls;
mod visits;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["origin"] => origin::run(),
        ["forward", from, to] => forward::run(from, to),
        ["open-loop", address, path, rate, connections, seconds] => {
            open_loop::run(address, path, rate.parse()?, connections.parse()?, time(seconds)?)
        }
        ["handshakes", address, connections, seconds] => {
            visits::handshakes(address, connections.parse()?, time(seconds)?)
        }
        ["idle", address, connections, tls] => visits::idle(address, connections.parse()?, *tls == "tls"),
        ["rows"] => {
            for row in rows::all() {
                println!("{:<14} {}", row.key, row.title);
            }
            Ok(())
        }
        ["compare", rest @ ..] => compare(rest),
        _ => Err("start loadtest/compare instead".into()),
    }
}

fn time(seconds: &str) -> Outcome<Duration> {
    Ok(Duration::from_secs_f64(seconds.parse()?))
}

/// How long and how often.
pub struct Effort {
    pub rounds: u32,
    pub slice: Duration,
    /// Connections that are kept without a word, and for how long before memory is read.
    pub idle_connections: usize,
    pub settle: Duration,
}

fn compare(arguments: &[&str]) -> Outcome<()> {
    let is_quick = arguments.contains(&"--quick");
    let effort = if is_quick {
        Effort {
            rounds: 2,
            slice: Duration::from_secs(1),
            idle_connections: 1000,
            settle: Duration::from_secs(2),
        }
    } else {
        Effort {
            rounds: 6,
            slice: Duration::from_secs(3),
            idle_connections: 4000,
            settle: Duration::from_secs(15),
        }
    };
    let keys: Vec<_> = arguments.iter().filter(|word| **word != "--quick").collect();
    let mut rows = rows::all();
    if let Some(unknown) = keys.iter().find(|key| !rows.iter().any(|row| row.key == ***key)) {
        let known: Vec<_> = rows.iter().map(|row| row.key).collect();
        return Err(format!("there is no row {unknown}; there are {}", known.join(", ")).into());
    }
    rows.retain(|row| keys.is_empty() || keys.iter().any(|key| **key == row.key));
    let folder = PathBuf::from(variable("COMPARE_FOLDER")?);
    let kept = PathBuf::from(variable("COMPARE_RUN")?);
    contest::run(&rows, &effort, &folder, &kept)
}

pub fn variable(name: &str) -> Outcome<String> {
    std::env::var(name).map_err(|_| format!("{name} is not set; start loadtest/compare instead").into())
}
