//! What a process and its children have cost, by the scheduler's own clocks.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::Outcome;

const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// A child on certain cores, which is ended when this is dropped.
pub struct Process(Child);

impl Process {
    /// `cores` as `taskset` wants them; what it writes goes nowhere unless `log` is given.
    pub fn start(
        cores: &str,
        command: &[String],
        folder: &std::path::Path,
        log: Option<&str>,
    ) -> Outcome<Self> {
        let mut starting = on_cores(cores, command);
        starting.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(log) = log {
            let log = fs::File::create(folder.join(log))?;
            starting.stdout(log.try_clone()?).stderr(log);
        }
        let child = starting.spawn().map_err(|error| format!("{}: {error}", command.join(" ")))?;
        Ok(Self(child))
    }

    pub fn of(child: Child) -> Self {
        Self(child)
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub fn has_ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// This process and all below it.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.0.id()];
        let mut at = 0;
        while let Some(&pid) = pids.get(at) {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for task in tasks {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                pids.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
            at += 1;
        }
        pids
    }

    /// Time on a processor so far: the clocks of the processes, so threads that have ended are in it.
    pub fn cpu(&self) -> Duration {
        self.pids().into_iter().filter_map(|pid| cpu(pid).ok()).sum()
    }

    /// Memory in KiB, what processes share counted once.
    pub fn pss_kib(&self) -> Outcome<u64> {
        let mut sum = 0;
        for pid in self.pids() {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
            sum += line.trim().trim_end_matches(" kB").parse::<u64>()?;
        }
        Ok(sum)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pids = self.pids();
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < STOPS_WITHIN {
            if self.has_ended() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        for pid in pids {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

pub fn cpu(pid: u32) -> Outcome<Duration> {
    let clock: ClockId = clock_getcpuclockid(Pid::from_raw(pid as i32))?;
    Ok(clock.now()?.into())
}

/// A command that begins with taking its place.
pub fn on_cores(cores: &str, command: &[String]) -> Command {
    let mut starting = Command::new("taskset");
    starting.arg("-c").arg(cores).args(command);
    starting
}
