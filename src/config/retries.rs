//! From the file to how a service's requests are tried again, and how many an endpoint gets at once.

use std::time::Duration;

use schemars::{Schema, json_schema};

use super::endpoints::switched;
use super::file::{LimitsFile, RetriesFile, RetriesLong};
use super::problem::{Findings, below};
use super::process::some_time;
use super::scalar::{Bytes, Count, Scalar, Switch, choose};
use super::units::{show_bytes, show_duration};
use super::written::{List, Short};
use crate::routing::{EndpointLimits, Limits, Retries, RetryMethods, RetryOn};

const ATTEMPTS_MAX: u32 = 10;
/// More retries a second than this are no floor.
const FLOOR_MAX: u32 = 10_000;
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Attempts after the first one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempts(u32);

impl Scalar for Attempts {
    fn read(text: &str) -> Result<Self, String> {
        match text.parse::<u32>() {
            Ok(0) => Err("counts those after the first; for none write retries: off".to_owned()),
            Ok(count) if count <= ATTEMPTS_MAX => Ok(Self(count)),
            _ => Err(format!("must be 1 to {ATTEMPTS_MAX}: attempts after the first one")),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": ATTEMPTS_MAX })
    }
}

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryEvent {
    Connect,
    Reset,
    GrpcUnavailable,
    Status(u16),
}

impl Scalar for RetryEvent {
    fn read(text: &str) -> Result<Self, String> {
        match text.parse::<u16>() {
            Ok(code @ 500..=599) => Ok(Self::Status(code)),
            Ok(code @ 400..=499) => Err(format!(
                "{code} says that the request is wrong, and so it would be again; write 500 to 599"
            )),
            Ok(code) => Err(format!("{code} is no failure; statuses from 500 to 599 may be tried again")),
            Err(_) => choose(
                text,
                &[
                    ("connect", Self::Connect),
                    ("reset", Self::Reset),
                    ("grpc-unavailable", Self::GrpcUnavailable),
                ],
            )
            .map_err(|why| format!("{why}; or a status from 500 to 599")),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [
            { "enum": ["connect", "reset", "grpc-unavailable"] },
            { "type": "integer", "minimum": 500, "maximum": 599 },
        ] })
    }
}

impl Scalar for RetryMethods {
    fn read(text: &str) -> Result<Self, String> {
        if text == "all" {
            let why =
                "what is neither safe nor idempotent, such as POST, might be done twice; write idempotent";
            return Err(why.to_owned());
        }
        choose(text, &[("idempotent", Self::Idempotent), ("safe", Self::Safe)])
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["idempotent", "safe"] })
    }
}

/// How many, perhaps none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(pub(super) u32);

impl Scalar for Number {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("{text:?} is not a whole number from 0 to {}", u32::MAX))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
    }
}

/// A time, or `none`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PerhapsTime(pub(super) Option<Duration>);

impl Scalar for PerhapsTime {
    fn read(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        match Duration::read(text)? {
            Duration::ZERO => Err("no time at all; write at least 1ms, or none".to_owned()),
            time => Ok(Self(Some(time))),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [Duration::schema(), { "const": "none" }] })
    }
}

/// `first_byte`: how long a request waits for its response head in all.
pub(super) fn retries(
    findings: &mut Findings,
    at: &str,
    file: Option<RetriesFile>,
    first_byte: Duration,
) -> Option<Retries> {
    if let Some(Short::One(word)) = &file
        && word.text.parse::<u32>().is_ok_and(|count| count > 0)
    {
        let why = format!("did you mean {{attempts: {}}}? They count after the first one", word.text);
        findings.wrong(at, word, why);
        return None;
    }
    let file = match switched(findings, at, file) {
        Ok(file) => file,
        Err(Switch(is_on)) => return is_on.then(Retries::default),
    };
    let default = Retries::default();
    let read = Retries {
        attempts: findings.read_or(at, "attempts", file.attempts.as_ref(), Attempts(default.attempts)).0,
        on: file.on.as_ref().map_or(default.on, |listed| retry_on(findings, &below(at, "on"), listed)),
        methods: findings.read_or(at, "methods", file.methods.as_ref(), default.methods),
        body_bytes_max: body(findings, at, &file, default.body_bytes_max),
        budget: findings.read_or(at, "budget", file.budget.as_ref(), default.budget),
        budget_floor: findings
            .read_or(at, "budget_floor", file.budget_floor.as_ref(), Number(default.budget_floor))
            .0,
        backoff: findings.read_or(at, "backoff", file.backoff.as_ref(), default.backoff),
        per_try: findings.read_or(at, "per_try", file.per_try.as_ref(), PerhapsTime(default.per_try)).0,
    };
    if let Some(written) = file.budget_floor.as_ref().filter(|_| read.budget_floor > FLOOR_MAX) {
        let why = format!("so many a second are no floor; write at most {FLOOR_MAX}, or raise budget");
        findings.wrong(&below(at, "budget_floor"), written, why);
    }
    if let Some(written) = file.backoff.as_ref().filter(|_| read.backoff > BACKOFF_MAX) {
        let why = format!(
            "nobody waits so long before the first retry; write at most {}",
            show_duration(BACKOFF_MAX)
        );
        findings.wrong(&below(at, "backoff"), written, why);
    }
    if let (Some(per_try), Some(written)) = (read.per_try, &file.per_try)
        && per_try >= first_byte
    {
        let why = format!(
            "the request is given up after {} (timeouts.first_byte); make per_try shorter than that",
            show_duration(first_byte)
        );
        findings.wrong(&below(at, "per_try"), written, why);
    }
    Some(read)
}

fn retry_on(findings: &mut Findings, at: &str, listed: &List<RetryEvent>) -> RetryOn {
    let mut on = RetryOn { connect: false, reset: false, grpc_unavailable: false, statuses: Vec::new() };
    let mut seen = Vec::new();
    let items = listed.clone().into_items();
    if items.is_empty() {
        findings.wrong_at(at, Some("[]"), listed.line(), "nothing is tried again; write retries: off");
    }
    for written in &items {
        let Some(event) = findings.read(at, written) else { continue };
        if seen.contains(&event) {
            findings.doubt(at, written, "stands here twice");
            continue;
        }
        seen.push(event);
        match event {
            RetryEvent::Connect => on.connect = true,
            RetryEvent::Reset => on.reset = true,
            RetryEvent::GrpcUnavailable => on.grpc_unavailable = true,
            RetryEvent::Status(code) => on.statuses.push(code),
        }
    }
    on
}

fn body(findings: &mut Findings, at: &str, file: &RetriesLong, default: usize) -> usize {
    let Some(written) = &file.body else { return default };
    let place = below(at, "body");
    let Some(Bytes(bytes)) = findings.read(&place, written) else { return default };
    if bytes > Retries::BODY_BYTES_MAX as u64 {
        let most = show_bytes(Retries::BODY_BYTES_MAX as u64);
        findings.wrong(
            &place,
            written,
            format!("it is kept in memory for each request; write at most {most}"),
        );
    }
    usize::try_from(bytes).unwrap_or(default)
}

/// `requests_max`: what all services together may have.
pub(super) fn limits(
    findings: &mut Findings,
    at: &str,
    file: &LimitsFile,
    requests_max: Option<u32>,
) -> Limits {
    let body = file.body.as_ref().and_then(|body| findings.read(&below(at, "body"), body));
    let place = below(at, "requests");
    let requests = file.requests.as_ref().and_then(|count| findings.read(&place, count));
    if let (Some(all), Some(Count(count)), Some(written)) = (requests_max, requests, &file.requests)
        && count > all
    {
        let why =
            format!("one service cannot have more than all together ({all}); lower it, or leave it out");
        findings.wrong(&place, written, why);
    }
    let in_flight =
        file.max_in_flight.as_ref().and_then(|most| findings.read(&below(at, "max_in_flight"), most));
    let Number(queue_max) = findings.read_or(at, "queue", file.queue.as_ref(), Number(0));
    let default = EndpointLimits::QUEUE_TIMEOUT;
    let queue_timeout = some_time(findings, at, "queue_timeout", file.queue_timeout.as_ref(), default);
    if let Some(written) = file.queue.as_ref().filter(|_| file.max_in_flight.is_none()) {
        let why = "no endpoint is ever full without max_in_flight; add it, or leave queue out";
        findings.wrong(&below(at, "queue"), written, why);
    }
    if let Some(written) = file.queue_timeout.as_ref().filter(|_| queue_max == 0) {
        let why = "nobody waits without queue; add it, or leave queue_timeout out";
        findings.wrong(&below(at, "queue_timeout"), written, why);
    }
    Limits {
        body_bytes_max: body.map(|Bytes(bytes)| bytes),
        requests_max: requests.map(|Count(count)| count),
        endpoint: in_flight.map(|Count(in_flight_max)| EndpointLimits {
            in_flight_max,
            queue_max,
            queue_timeout,
        }),
    }
}
