//! When a failed attempt at an endpoint is followed by another one, and how many requests an endpoint gets at once.

use std::time::Duration;

use crate::traffic::Weight;

/// How a service's requests are tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Attempts after the first one, 1 to 10; default 2.
    pub attempts: u32,
    /// What is followed by another attempt.
    pub on: RetryOn,
    /// What may be sent again although it may have been processed; default the idempotent methods.
    pub methods: RetryMethods,
    /// So much of a body is kept to be sent again, in bytes; default 64 KiB. 0: requests with a body are sent again
    /// only if nothing of it was sent.
    pub body_bytes_max: usize,
    /// How many retries there may be for each request of the variant; default 20 %. Attempts that reached no endpoint do
    /// not count.
    pub budget: Weight,
    /// So many a second there may be whatever the share says; default 3.
    pub budget_floor: u32,
    /// The longest pause before the first retry; it doubles with each, up to ten times this, and is drawn anew each
    /// time. Default 25 ms.
    pub backoff: Duration,
    /// For the response head of an attempt that another one may follow; none by default.
    pub per_try: Option<Duration>,
}

/// What is followed by another attempt; by default `connect` and `reset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// There is no connection, or the endpoint says that it has not looked at the request (RFC 9113 §8.7): nothing was
    /// processed, so this is for all methods.
    pub connect: bool,
    /// The connection broke before the response head was whole.
    pub reset: bool,
    /// A gRPC call was answered with UNAVAILABLE and nothing else ("Trailers-Only").
    pub grpc_unavailable: bool,
    /// Status codes, 500 to 599.
    pub statuses: Vec<u16>,
}

/// What may be sent again although it may have been processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryMethods {
    /// GET, HEAD, OPTIONS, PUT and DELETE (RFC 9110 §9.2.2).
    #[default]
    Idempotent,
    /// GET, HEAD and OPTIONS (RFC 9110 §9.2.1).
    Safe,
}

impl Retries {
    /// The most that may be kept of a body: 1 MiB.
    pub const BODY_BYTES_MAX: usize = 1 << 20;
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 2,
            on: RetryOn::default(),
            methods: RetryMethods::default(),
            body_bytes_max: 64 * 1024,
            budget: Weight::from_percent(20).unwrap_or_default(),
            budget_floor: 3,
            backoff: Duration::from_millis(25),
            per_try: None,
        }
    }
}

impl Default for RetryOn {
    fn default() -> Self {
        Self { connect: true, reset: true, grpc_unavailable: false, statuses: Vec::new() }
    }
}

/// What protects an endpoint from more requests than it can take. Each worker thread keeps to its part of it, rounded up:
/// exact with one thread, and with more up to one less than there are threads beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Requests, streams and tunnels at once, at least 1.
    pub in_flight_max: u32,
    /// Requests that wait for a place; default none.
    pub queue_max: u32,
    /// How long they wait; default 5 s.
    pub queue_timeout: Duration,
}

impl EndpointLimits {
    /// How long requests wait for a place unless it is said.
    pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
}
