//! What else the machine did, and what it is.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::Outcome;

/// Busy time of all cores so far, in a kernel's ticks: a hundredth of a second nearly everywhere.
pub fn busy() -> Outcome<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().ok_or("no cpu line in /proc/stat")?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _wait, irq, softirq, ..] = fields[..] else {
        return Err("a short cpu line in /proc/stat".into());
    };
    Ok(Duration::from_millis((user + nice + system + irq + softirq) * 10))
}

pub fn description() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let setting =
        |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default().trim().to_owned();
    let (kernel, congestion) = (setting("kernel/osrelease"), setting("net/ipv4/tcp_congestion_control"));
    let model = model.trim_matches([':', ' ', '\t']);
    format!("{cores} × {model}, Linux {kernel}, TCP congestion control {congestion}")
}

/// The first line that a program says of itself.
pub fn first_line(command: &[&str]) -> String {
    let Some((program, arguments)) = command.split_first() else { return String::new() };
    let Ok(said) = Command::new(program).args(arguments).output() else { return "?".to_owned() };
    let said = [said.stdout, said.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    said.lines().find(|line| !line.trim().is_empty()).unwrap_or("?").trim().to_owned()
}
