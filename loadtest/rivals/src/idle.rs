//! What a connection costs that says nothing: the growth of a proxy's memory by connections. Their sockets' memory is the
//! kernel's, about the same for all, and not in it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::fleet::{Fleet, Proxy};
use crate::load::Load;
use crate::process::on_cores;
use crate::{Effort, Outcome, slice};

#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    pub connections: usize,
    pub before_kib: u64,
    pub kept_kib: u64,
    /// Two seconds after all were closed.
    pub closed_kib: u64,
}

impl Idle {
    pub fn each_kib(&self) -> f64 {
        (self.kept_kib as f64 - self.before_kib as f64) / self.connections as f64
    }
}

pub fn run(fleet: &Fleet, proxy: &Proxy, with_tls: bool, effort: &Effort, folder: &Path) -> Outcome<Idle> {
    // A proxy that has worked has its pools and its caches.
    let load = Load::Wrk { tls: with_tls, connections: 64, path: "/", script: None };
    slice::run(fleet, Some(proxy), &load, Duration::from_secs(1), folder)?;
    thread::sleep(Duration::from_secs(2));
    let before_kib = proxy.process.pss_kib()?;
    let address = if with_tls { &proxy.addresses.tls } else { &proxy.addresses.plain };
    let connections = effort.idle_connections;
    let command = [
        std::env::current_exe()?.display().to_string(),
        "idle".to_owned(),
        address.clone(),
        connections.to_string(),
        if with_tls { "tls" } else { "plain" }.to_owned(),
    ];
    let mut child =
        on_cores(fleet.cores.others, &command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut said)?;
    if said.trim() != "kept" {
        let _ = child.kill();
        let _ = child.wait();
        return Err("connections did not get their answers".into());
    }
    thread::sleep(effort.settle);
    let kept_kib = proxy.process.pss_kib()?;
    drop(child.stdin.take());
    child.wait()?;
    thread::sleep(Duration::from_secs(2));
    Ok(Idle { connections, before_kib, kept_kib, closed_kib: proxy.process.pss_kib()? })
}
