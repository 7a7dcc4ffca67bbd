//! Requests to endpoints that nobody sent: whether they answer as expected, and warm-up.
//!
//! They go the same ways as traffic, with the same TLS, and are none: nothing is counted, nobody is ejected for them, and an app can tell
//! them by their `user-agent`. Nothing outlives the future that is awaited, so whoever does not want the answer any more drops it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, FuturesUnordered};
use tokio::time::{sleep, sleep_until, timeout};

use super::checks::check;
use super::grpc_health;
use super::live::CheckKey;
use crate::clock;
use crate::launch::{HttpCheck, Warmup};
use crate::routing::{Service, Standing};
use crate::traffic::Variant;
use crate::upstream::{Endpoint, HealthSettings, Probe, Way};

mod line;

use line::Line;

/// How many endpoints are asked at once.
const ENDPOINTS_AT_ONCE_MAX: usize = 64;
/// How many warm-up requests are under way at one endpoint.
const IN_FLIGHT_MAX: usize = 64;
/// What is looked at of a body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// From one attempt to the next.
const PAUSE: Duration = Duration::from_secs(1);
/// What an attempt has at least, however many are to come.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);
/// How long one call may warm up.
pub const WARMUP_SLICE_MAX: Duration = Duration::from_secs(30);
/// A warm-up request that takes longer has failed.
const WARMUP_REQUEST_MAX: Duration = Duration::from_secs(30);

/// How an endpoint answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was asked for.
    pub path: Arc<str>,
    /// The status, at the last attempt, if there was one.
    pub status: Option<u16>,
    /// What was wrong with the last attempt; `None`: it was as expected.
    pub why: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// How long the last one took to the response head, or to its failure.
    pub took: Duration,
}

/// What a warm-up has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warmed {
    /// By endpoint: answers below 500, those of before included.
    pub hits: BTreeMap<String, u64>,
    /// By endpoint: failures this time.
    pub failures: BTreeMap<String, u64>,
    /// Whether every endpoint gave enough; never without an endpoint.
    pub reached: bool,
}

/// The endpoints of a variant that would be asked: all but those that somebody drains, whatever is known of their health.
pub fn asked(service: &Service, variant: Variant) -> Vec<Arc<Endpoint>> {
    let members = service.groups[variant].members().iter();
    let members = members.filter(|member| member.standing != Standing::Draining);
    members.map(|member| member.endpoint.clone()).collect()
}

/// Asks each endpoint of a variant, side by side; all of it takes no longer than `limit`. No request: as its health checks do. An endpoint
/// is asked no further after the first answer that is not as expected.
pub async fn probe(
    service: &Service,
    variant: Variant,
    requests: &[HttpCheck],
    limit: Duration,
) -> BTreeMap<String, Vec<Answered>> {
    let deadline = clock::now() + limit;
    let health = &service.settings.health[variant];
    stream::iter(asked(service, variant))
        .map(|endpoint| async move {
            let answers = if requests.is_empty() {
                vec![ask_as_health_checks_do(endpoint.way(), health, deadline).await]
            } else {
                ask_all(endpoint.way(), requests, deadline).await
            };
            (endpoint.label().to_string(), answers)
        })
        .buffer_unordered(ENDPOINTS_AT_ONCE_MAX)
        .collect()
        .await
}

/// Sends requests to each endpoint of a variant, so many a second, until each gave enough answers below 500, at most for
/// [`WARMUP_SLICE_MAX`]. `done` are the answers of before.
pub async fn warm_up(
    service: &Service,
    variant: Variant,
    warmup: &Warmup,
    done: &BTreeMap<String, u64>,
) -> Warmed {
    let deadline = clock::now() + warmup.timeout.min(WARMUP_SLICE_MAX);
    let endpoints = asked(service, variant);
    let each = endpoints.iter().map(|endpoint| {
        let before = done.get(&**endpoint.label()).copied().unwrap_or(0);
        async move { (endpoint.label().to_string(), warm(endpoint.way(), warmup, before, deadline).await) }
    });
    let mut each: FuturesUnordered<_> = each.collect();
    let mut warmed = Warmed { reached: !endpoints.is_empty(), ..Warmed::default() };
    while let Some((label, (hits, failures))) = each.next().await {
        warmed.reached &= hits >= warmup.min_hits;
        if failures > 0 {
            warmed.failures.insert(label.clone(), failures);
        }
        warmed.hits.insert(label, hits);
    }
    warmed
}

async fn ask_as_health_checks_do(way: &Way, health: &HealthSettings, deadline: Instant) -> Answered {
    let path: Arc<str> = match &health.probe {
        Probe::Connect => "a connection".into(),
        Probe::Get { path, expect } => {
            let request = HttpCheck {
                path: path.clone(),
                expected: expect.ranges().iter().map(|range| (*range.start(), *range.end())).collect(),
                contains: None,
                retries: 0,
            };
            return ask(way, &request, deadline.min(clock::now() + health.timeout)).await;
        }
        Probe::Grpc { .. } => grpc_health::PATH.into(),
    };
    let begun = clock::now();
    let key = CheckKey { way: way.clone(), settings: health.clone() };
    let why = match timeout(deadline.saturating_duration_since(begun), check(&key)).await {
        Ok(Some(Ok(()))) => None,
        Ok(Some(Err(why))) => Some(why),
        Ok(None) => Some("it could not be tried: this machine has run out of something".to_owned()),
        Err(_) => Some("no answer in time".to_owned()),
    };
    Answered { path, status: None, why, attempts: 1, took: clock::now() - begun }
}

async fn ask_all(way: &Way, requests: &[HttpCheck], deadline: Instant) -> Vec<Answered> {
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        let answered = ask(way, request, deadline).await;
        let is_over = answered.why.is_some();
        answers.push(answered);
        if is_over {
            break;
        }
    }
    answers
}

async fn ask(way: &Way, request: &HttpCheck, deadline: Instant) -> Answered {
    let mut attempts = 0;
    loop {
        let begun = clock::now();
        let rest = deadline.saturating_duration_since(begun);
        // An endpoint that hangs must not cost the attempts that are still to come.
        let left = request.retries.saturating_sub(attempts);
        let limit = (rest.saturating_sub(PAUSE * left) / (left + 1)).max(ATTEMPT_MIN).min(rest);
        attempts += 1;
        let mut head = None;
        let attempt = attempt(way, request, limit, &mut head);
        let why = match timeout(limit, attempt).await {
            Ok(ended) => ended.err(),
            Err(_) => Some(format!("no answer within {} ms", limit.as_millis())),
        };
        let ended = clock::now();
        let (status, took) = head.map_or((None, ended - begun), |(status, at)| (Some(status), at - begun));
        let is_last = attempts > request.retries || ended + PAUSE >= deadline;
        if why.is_none() || is_last {
            return Answered { path: request.path.clone(), status, why, attempts, took };
        }
        sleep(PAUSE).await;
    }
}

/// One attempt; `head` gets the status and when it came.
async fn attempt(
    way: &Way,
    request: &HttpCheck,
    limit: Duration,
    head: &mut Option<(u16, Instant)>,
) -> Result<(), String> {
    let mut line = Line::open(way, limit).await?;
    let path = &request.path;
    let mut body = Vec::new();
    let read = |part: &Bytes| {
        let room = BODY_BYTES_MAX - body.len();
        body.extend_from_slice(part.get(..room).unwrap_or(part));
        body.len() < BODY_BYTES_MAX
    };
    let wanted = request.contains.as_deref();
    let has_come = |status| *head = Some((status, clock::now()));
    let status = line.get(way, path, wanted.map(|_| read), has_come).await?;
    if !request.expected.iter().any(|(from, to)| (*from..=*to).contains(&status)) {
        return Err(format!("GET {path} answered {status}"));
    }
    match wanted {
        Some(text) if memchr::memmem::find(&body, text.as_bytes()).is_none() => {
            Err(format!("GET {path} answered {status} without {text:?} in its first 64 KiB"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Warms one endpoint up: answers below 500, and failures.
async fn warm(way: &Way, warmup: &Warmup, before: u64, deadline: Instant) -> (u64, u64) {
    let period = Duration::from_secs(1) / warmup.rps.max(1);
    let (mut hits, mut failures) = (before, 0);
    let mut idle: Vec<Line> = Vec::new();
    let mut under_way = FuturesUnordered::new();
    let mut paths = warmup.paths.iter().cycle();
    let mut next = clock::now();
    let over = sleep_until(deadline.into());
    let mut over = std::pin::pin!(over);
    while hits < warmup.min_hits {
        // No more than are still needed, if all go well.
        let has_room = under_way.len() < IN_FLIGHT_MAX && under_way.len() as u64 + hits < warmup.min_hits;
        tokio::select! {
            biased;
            () = &mut over => break,
            Some((line, is_hit)) = under_way.next(), if !under_way.is_empty() => {
                idle.extend(line);
                if is_hit { hits += 1 } else { failures += 1 }
            }
            () = sleep_until(next.into()), if has_room => {
                let Some(path) = paths.next() else { break };
                under_way.push(hit(way, path, idle.pop()));
                // What could not be sent in time is not sent in a burst later.
                next = (next + period).max(clock::now());
            }
        }
    }
    (hits, failures)
}

/// One warm-up request: the line, if it can be used again, and whether the answer was below 500.
async fn hit(way: &Way, path: &str, kept: Option<Line>) -> (Option<Line>, bool) {
    let asked = timeout(WARMUP_REQUEST_MAX, async {
        if let Some(mut line) = kept {
            // The endpoint may have closed it meanwhile, which is no failure.
            if let Ok(status) = line.get(way, path, Some(|_: &Bytes| true), |_| ()).await {
                return Ok((line, status));
            }
        }
        let mut line = Line::open(way, WARMUP_REQUEST_MAX).await?;
        let status = line.get(way, path, Some(|_: &Bytes| true), |_| ()).await?;
        Ok::<_, String>((line, status))
    });
    match asked.await {
        Ok(Ok((line, status))) => (line.is_open().then_some(line), status < 500),
        Ok(Err(_)) | Err(_) => (None, false),
    }
}
