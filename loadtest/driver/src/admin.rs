//! The admin socket over one kept connection, so that what is measured is the daemon and not a process start.

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Outcome;
use crate::http::exchange;

pub struct Admin {
    stream: BufReader<UnixStream>,
}

/// What a change said about itself, and how long its answer took from here.
pub struct Changed {
    pub generation: u64,
    pub live: Duration,
    pub acknowledged: Duration,
}

impl Admin {
    pub fn connect(socket: &Path) -> Outcome<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub fn get(&mut self, path: &str) -> Outcome<Value> {
        self.call("GET", path, "")
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Outcome<Value> {
        self.call("POST", path, &body.to_string())
    }

    pub fn shift(&mut self, service: &str, percent: u32) -> Outcome<Changed> {
        self.change("/v1/shift", &json!({ "services": { service: format!("{percent}%") } }))
    }

    pub fn kill(&mut self, service: &str) -> Outcome<Changed> {
        self.change("/v1/kill", &json!({ "services": [service] }))
    }

    pub fn arm(&mut self, service: &str) -> Outcome<Changed> {
        self.change("/v1/arm", &json!({ "services": [service], "note": "load test" }))
    }

    /// Returns once nothing is open that was assigned before `generation`.
    pub fn wait(&mut self, service: &str, generation: u64) -> Outcome<()> {
        self.get(&format!("/v1/wait?service={service}&generation={generation}&timeout_ms=5000")).map(drop)
    }

    fn change(&mut self, path: &str, body: &Value) -> Outcome<Changed> {
        let asked = Instant::now();
        let answer = self.post(path, body)?;
        let acknowledged = asked.elapsed();
        let number = |name: &str| answer[name].as_u64().ok_or_else(|| format!("no {name} in {answer}"));
        Ok(Changed {
            generation: number("generation")?,
            live: Duration::from_micros(number("live_us")?),
            acknowledged,
        })
    }

    fn call(&mut self, method: &str, path: &str, body: &str) -> Outcome<Value> {
        let answer = exchange(&mut self.stream, method, path, "content-type: application/json\r\n", body)?;
        if !(200..300).contains(&answer.status) {
            return Err(format!("{method} {path}: {} {}", answer.status, answer.body).into());
        }
        Ok(if answer.body.is_empty() { Value::Null } else { serde_json::from_str(&answer.body)? })
    }
}
