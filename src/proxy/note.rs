//! What the access log will want to know about a request, kept until its end.
//!
//! Only made when a log is written: most of it is copies of what the request's head takes with it.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::HOST;
use http::request::Parts;

use super::worker::Worker;
use crate::clock::Timestamp;
use crate::telemetry::AccessEntry;
use crate::traffic::{Assignment, Bucket};

/// A line of the log in the making.
#[derive(Debug)]
pub(super) struct Note {
    time: Timestamp,
    request_id: HeaderValue,
    trace_id: Option<String>,
    client_addr: IpAddr,
    method: String,
    host: Option<String>,
    path: String,
    query: Option<String>,
    service: Option<Arc<str>>,
    pub(super) endpoint: RefCell<Option<Arc<str>>>,
    pub(super) retries: Cell<u32>,
    /// Why the first connection that failed did.
    pub(super) unconnected: Cell<Option<&'static str>>,
}

/// How a request ended.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) status: Option<u16>,
    pub(super) bytes: u64,
    pub(super) bytes_received: Option<u64>,
    pub(super) duration: Duration,
    pub(super) ttfb: Option<Duration>,
    pub(super) upstream: Option<Duration>,
    pub(super) assigned: Option<(Assignment, u64)>,
    pub(super) error: Option<&'static str>,
}

impl Note {
    /// `None` when nothing is logged.
    pub(super) fn take(
        worker: &Worker,
        head: &Parts,
        request_id: &HeaderValue,
        client_addr: IpAddr,
        service: Option<&Arc<str>>,
    ) -> Option<Box<Self>> {
        if worker.access_log.is_off() {
            return None;
        }
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let host = head.headers.get(HOST).map(text);
        Some(Box::new(Self {
            time: crate::clock::wall(),
            request_id: request_id.clone(),
            trace_id: head.headers.get("traceparent").and_then(trace_id),
            client_addr,
            method: head.method.as_str().to_owned(),
            host: host.or_else(|| head.uri.authority().map(ToString::to_string)),
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            service: service.cloned(),
            endpoint: RefCell::default(),
            retries: Cell::new(0),
            unconnected: Cell::new(None),
        }))
    }

    /// Writes the line.
    pub(super) fn record(&self, worker: &Worker, ending: &Ending) {
        let endpoint = self.endpoint.borrow();
        let assignment = ending.assigned.map(|(assignment, _)| assignment);
        let entry = AccessEntry {
            time: self.time,
            request_id: self.request_id.to_str().unwrap_or_default(),
            trace_id: self.trace_id.as_deref(),
            client_addr: self.client_addr,
            method: &self.method,
            host: self.host.as_deref(),
            path: &self.path,
            query: self.query.as_deref(),
            status: ending.status,
            bytes: ending.bytes,
            bytes_received: ending.bytes_received,
            duration: ending.duration,
            ttfb: ending.ttfb,
            upstream: ending.upstream,
            service: self.service.as_deref(),
            variant: assignment.map(|assignment| assignment.variant),
            reason: assignment.map(|assignment| assignment.reason),
            generation: ending.assigned.map(|(_, generation)| generation),
            endpoint: endpoint.as_deref(),
            retries: self.retries.get(),
            error: ending.error,
        };
        let draw = || {
            let index = worker.random.borrow_mut().u32(0..Bucket::COUNT);
            Bucket::from_index(index).unwrap_or_else(|| Bucket::of(b"", b""))
        };
        worker.access_log.record(&entry, draw);
    }
}

/// The trace id of a W3C `traceparent`: `00-TRACE-PARENT-FLAGS`.
fn trace_id(value: &HeaderValue) -> Option<String> {
    let id = value.to_str().ok()?.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_has_32_hex_digits() {
        let of = |text: &'static str| trace_id(&HeaderValue::from_static(text));
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").as_deref(), Some(id));
        assert_eq!(of("00-4bf9-00f067aa0ba902b7-01"), None);
        assert_eq!(of("garbage"), None);
    }
}
