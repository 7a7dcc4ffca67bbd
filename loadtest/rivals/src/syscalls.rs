//! System calls and instructions of a proxy, in slices of their own because counting costs.
//!
//! `perf stat` counts the kernel's tracepoint for all threads. `strace -c`, where there is no perf, stops the proxy at each
//! call: what it counts is then of a proxy under less load, which waits more often.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Outcome;

const CALLS: &str = "raw_syscalls:sys_enter";
const INSTRUCTIONS: &str = "instructions";

#[derive(Clone, Debug)]
pub struct Counter {
    pub tool: Tool,
    pub counts_instructions: bool,
}

#[derive(Clone, Debug)]
pub enum Tool {
    Perf(String),
    Strace(String),
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub calls: u64,
    pub instructions: Option<u64>,
}

impl Counter {
    /// What works here.
    pub fn find() -> Option<Self> {
        let path = |variable: &str| std::env::var(variable).ok().filter(|path| !path.is_empty());
        if let Some(perf) = path("COMPARE_PERF") {
            let said = Command::new(&perf)
                .args(["stat", "-x,", "-e", CALLS, "-e", INSTRUCTIONS, "--", "true"])
                .output()
                .map(|said| String::from_utf8_lossy(&said.stderr).into_owned())
                .unwrap_or_default();
            if value(&said, CALLS).is_some() {
                let counts_instructions = value(&said, INSTRUCTIONS).is_some();
                return Some(Self { tool: Tool::Perf(perf), counts_instructions });
            }
        }
        let strace = path("COMPARE_STRACE")?;
        let works = Command::new(&strace).args(["-c", "-o", "/dev/null", "true"]).status();
        works
            .is_ok_and(|status| status.success())
            .then_some(Self { tool: Tool::Strace(strace), counts_instructions: false })
    }

    pub fn description(counter: Option<&Self>) -> String {
        match counter {
            None => "Neither perf nor strace works here, so system calls are not counted.".to_owned(),
            Some(Self { tool: Tool::Strace(_), .. }) => {
                "System calls by `strace -c -f`, which slows proxies down; perf cannot count here, instructions neither."
                    .to_owned()
            }
            Some(Self { tool: Tool::Perf(_), counts_instructions: false }) => {
                format!("System calls by `perf stat -e {CALLS}`; this machine does not let perf count instructions.")
            }
            Some(Self { tool: Tool::Perf(_), counts_instructions: true }) => {
                format!("System calls and instructions by `perf stat -e {CALLS} -e {INSTRUCTIONS}`.")
            }
        }
    }

    pub fn start(&self, pids: &[u32]) -> Outcome<Counting> {
        let list = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut command = match &self.tool {
            Tool::Perf(perf) => {
                let mut command = Command::new(perf);
                command.args(["stat", "-x,", "-e", CALLS]);
                if self.counts_instructions {
                    command.args(["-e", INSTRUCTIONS]);
                }
                command.arg("-p").arg(list);
                command
            }
            Tool::Strace(strace) => {
                let mut command = Command::new(strace);
                command.args(["-c", "-f"]);
                for pid in pids {
                    command.arg("-p").arg(pid.to_string());
                }
                command
            }
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        // Until it has attached.
        thread::sleep(Duration::from_millis(300));
        Ok(Counting { counter: self.clone(), child })
    }
}

pub struct Counting {
    counter: Counter,
    child: Child,
}

impl Counting {
    pub fn end(self) -> Outcome<Counts> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT)?;
        let said = self.child.wait_with_output()?;
        let said = String::from_utf8_lossy(&said.stderr);
        let counts = match self.counter.tool {
            Tool::Perf(_) => {
                value(&said, CALLS).map(|calls| Counts { calls, instructions: value(&said, INSTRUCTIONS) })
            }
            Tool::Strace(_) => strace_total(&said).map(|calls| Counts { calls, instructions: None }),
        };
        counts.ok_or_else(|| format!("cannot read what was counted:\n{said}").into())
    }
}

/// `302144,,raw_syscalls:sys_enter,…`, or `<not supported>` in front.
fn value(said: &str, event: &str) -> Option<u64> {
    let line =
        said.lines().find(|line| line.split(',').nth(2).is_some_and(|name| name.starts_with(event)))?;
    line.split(',').next()?.parse().ok()
}

/// `100.00    0.123456           1    302144      1023 total`.
fn strace_total(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_perf_and_strace_say_is_read_and_what_they_cannot_is_not() {
        let perf =
            "302144,,raw_syscalls:sys_enter,2089047,100.00,,\n<not supported>,,instructions:u,0,100.00,,\n";
        assert_eq!(value(perf, CALLS), Some(302_144));
        assert_eq!(value(perf, INSTRUCTIONS), None);
        let strace = "% time     seconds  usecs/call     calls    errors syscall\n\
                      100.00    0.123456           1    302144      1023 total\n";
        assert_eq!(strace_total(strace), Some(302_144));
        assert_eq!(strace_total("strace: attach: Operation not permitted\n"), None);
    }
}
