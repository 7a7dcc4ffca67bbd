//! The real binary as a child, with a folder, a socket and a port of its own.

use std::fs;
use std::io::BufReader;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::admin::Admin;
use crate::http::{Answer, exchange};
use crate::{Outcome, Setup};

const STARTS_WITHIN: Duration = Duration::from_secs(30);
const STOPS_WITHIN: Duration = Duration::from_secs(15);

pub struct Daemon {
    child: Child,
    pub address: String,
    pub admin: Admin,
    /// From the process started to `service` healthy.
    pub took: Duration,
    config: PathBuf,
    socket: PathBuf,
    ticks_per_second: f64,
}

impl Daemon {
    /// Starts it and waits until the candidate of `service` is healthy. `name` is for its folder, `services` is
    /// the part of the configuration below `services:`.
    pub fn start(setup: &Setup, name: &str, services: &str, service: &str) -> Outcome<Self> {
        let folder = setup.folder.join(name);
        fs::create_dir(&folder)?;
        let (config, socket) = (folder.join("tidegate.yaml"), folder.join("admin.sock"));
        write_config(&config, services)?;
        let log = fs::File::create(folder.join("log"))?;
        let begun = Instant::now();
        let child = Command::new(&setup.tidegate)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut starting = Starting { child: Some(child), folder: &folder, begun };
        let mut admin = starting.until("the admin socket answers", || Admin::connect(&socket).ok())?;
        starting.until("the candidate is healthy", || {
            let status = admin.get(&format!("/v1/services/{service}")).ok()?;
            let endpoints = status["variants"]["green"]["endpoints"].as_array()?;
            endpoints.iter().all(|endpoint| endpoint["health"] == "healthy").then_some(())
        })?;
        let took = begun.elapsed();
        let child = starting.child.take().ok_or("started twice")?;
        let mut daemon = Self {
            child,
            address: String::new(),
            admin,
            took,
            config,
            socket,
            ticks_per_second: setup.ticks_per_second,
        };
        let status = daemon.admin.get("/v1/status")?;
        daemon.address = status["listen"][0].as_str().ok_or("no address in status")?.to_owned();
        Ok(daemon)
    }

    /// Replaces what is below `services:` and reloads.
    pub fn reload(&mut self, services: &str) -> Outcome<Value> {
        write_config(&self.config, services)?;
        self.admin.post("/v1/reload", &serde_json::json!({}))
    }

    /// User and system time so far, of all threads.
    pub fn cpu(&self) -> Outcome<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may hold anything; proc(5) counts utime and stime as 14 and 15.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(Duration::from_secs_f64(ticks / self.ticks_per_second))
    }

    /// Memory in use, in KiB.
    pub fn rss_kib(&self) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// A connection for requests that begin when we say so.
    pub fn probe(&self) -> Outcome<Probe> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Probe(BufReader::new(stream)))
    }
}

impl Drop for Daemon {
    /// As an operator would; with force only if that does not help.
    fn drop(&mut self) {
        // The connection may have been idle for too long.
        if let Ok(mut admin) = Admin::connect(&self.socket) {
            let _ = admin.post("/v1/stop", &serde_json::json!({ "now": true }));
        }
        let begun = Instant::now();
        while begun.elapsed() < STOPS_WITHIN {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        eprintln!("loadtest: tidegate did not stop within {STOPS_WITHIN:?}");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Probe(BufReader<TcpStream>);

impl Probe {
    /// `fields` end in CRLF.
    pub fn get(&mut self, path: &str, fields: &str) -> Outcome<Answer> {
        exchange(&mut self.0, "GET", path, fields, "")
    }
}

/// A child that is ended unless it is taken.
struct Starting<'a> {
    child: Option<Child>,
    folder: &'a Path,
    begun: Instant,
}

impl Starting<'_> {
    fn until<T>(&mut self, what: &str, mut tried: impl FnMut() -> Option<T>) -> Outcome<T> {
        loop {
            if let Some(done) = tried() {
                return Ok(done);
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || self.begun.elapsed() > STARTS_WITHIN {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("tidegate did not get so far that {what}:\n{log}").into());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn write_config(path: &Path, services: &str) -> Outcome<()> {
    let process = "listen: 127.0.0.1:0\nadmin: {socket: admin.sock}\ntelemetry: 127.0.0.1:0\nstate: state\n";
    Ok(fs::write(path, format!("{process}services:\n{services}"))?)
}
