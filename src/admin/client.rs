//! The other end of the admin socket: typed calls with deadlines, for programs that wait for the answer.
//!
//! Each call opens a connection of its own, so that an answer that never comes cannot spoil the next call,
//! and none of them outlives its deadline. If no socket is named, all well-known places are tried, and two
//! daemons that could be meant are a refusal: a command must not shift the wrong traffic.

mod error;
mod follow;
mod launch;
mod rollout;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

pub use crate::wording::printable;
pub use error::ClientError;
pub use follow::Events;

use self::wire::Call;
use super::api::{
    ArmRequest, BreakRequest, Changed, DeployRequest, EndpointsRequest, Event, Explanation, KillRequest,
    MirrorRequest, OverrideAnswer, OverrideRequest, ProblemKind, ReloadRequest, Reloaded, ServiceStatus,
    ShiftRequest, Status, StopRequest, Stopping, UpgradeRequest, Upgraded, WaitQuery,
};
use super::socket;
use crate::clock;

/// How long a call may take unless [`Client::with_deadline`] says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Added to what the server was told to wait, so that its own answer comes first.
const GRACE: Duration = Duration::from_secs(5);

/// Added to the time in which a new process has to be ready: for the last words of the old one, the start of the new
/// one, and both ways back.
const UPGRADE_GRACE: Duration = Duration::from_secs(40);

/// Until a kill that cannot be done at the moment is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What a change depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Only if no named service changed after this generation.
    pub if_generation: Option<u64>,
    /// Makes a repeated request have one effect: up to 128 bytes, without control characters.
    pub idempotency_key: Option<String>,
}

/// Whom to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A user, by the key that the service recognises users by.
    User(String),
    /// A visitor, by the id in the cookie.
    Visitor(String),
}

/// A daemon that answers.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    socket: PathBuf,
    deadline: Duration,
}

impl Client {
    /// The daemon on `socket`.
    ///
    /// # Errors
    /// If nobody answers there, or not to us.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let runtime = wire::runtime()?;
        drop(runtime.block_on(reach(socket, DEADLINE))?);
        Ok(Self { runtime, socket: socket.to_owned(), deadline: DEADLINE })
    }

    /// The daemon on `socket`, or without one the only daemon on this machine.
    ///
    /// # Errors
    /// If nobody answers, or more than one does. A socket that we have no permission for matters only if
    /// no other answers.
    pub fn find(socket: Option<&Path>) -> Result<Self, ClientError> {
        match socket {
            Some(socket) => Self::connect(socket),
            None => Self::only_one_of(socket::candidates()),
        }
    }

    fn only_one_of(candidates: Vec<PathBuf>) -> Result<Self, ClientError> {
        let runtime = wire::runtime()?;
        let (mut answering, mut denied) = (Vec::new(), None);
        for socket in &candidates {
            match runtime.block_on(reach(socket, DEADLINE)) {
                Ok(_) => answering.push(socket.clone()),
                Err(error @ ClientError::NoPermission { .. }) => denied = denied.or(Some(error)),
                Err(_) => {}
            }
        }
        if answering.len() > 1 {
            return Err(ClientError::Several { sockets: answering });
        }
        match (answering.pop(), denied) {
            (Some(socket), _) => Ok(Self { runtime, socket, deadline: DEADLINE }),
            (None, Some(denied)) => Err(denied),
            (None, None) => Err(ClientError::NotRunning { tried: candidates }),
        }
    }

    /// The same with another deadline for each call.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The same daemon once more, for another thread.
    ///
    /// # Errors
    /// [`ClientError::Start`].
    pub fn another(&self) -> Result<Self, ClientError> {
        Ok(Self { runtime: wire::runtime()?, socket: self.socket.clone(), deadline: self.deadline })
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn status(&self) -> Result<Status, ClientError> {
        self.call(Call::get("/v1/status"))
    }

    /// `GET /v1/services/NAME`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn service(&self, name: &str) -> Result<ServiceStatus, ClientError> {
        self.call(Call::get(&format!("/v1/services/{}", wire::encode(name))))
    }

    /// `POST /v1/shift`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn shift(&self, request: &ShiftRequest, terms: &Terms) -> Result<Changed, ClientError> {
        self.call(post("/v1/shift", request)?.under(terms))
    }

    /// `POST /v1/mirror`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn mirror(&self, request: &MirrorRequest, terms: &Terms) -> Result<Changed, ClientError> {
        self.call(post("/v1/mirror", request)?.under(terms))
    }

    /// `POST /v1/kill`. A daemon that cannot do it at the moment, because another one is taking over from it, is asked
    /// again until the deadline: a kill is not to be typed twice.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn kill(&self, request: &KillRequest, terms: &Terms) -> Result<Changed, ClientError> {
        let begun = clock::now();
        loop {
            let killed = self.call(post("/v1/kill", request)?.under(terms));
            match &killed {
                Err(ClientError::Refused { problem, .. })
                    if problem.kind == ProblemKind::Unavailable
                        && clock::now().saturating_duration_since(begun) < self.deadline =>
                {
                    self.rest(ASK_AGAIN);
                }
                _ => return killed,
            }
        }
    }

    /// `POST /v1/arm`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn arm(&self, request: &ArmRequest, terms: &Terms) -> Result<Changed, ClientError> {
        self.call(post("/v1/arm", request)?.under(terms))
    }

    /// `POST /v1/services/NAME/deploy`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn deploy(
        &self,
        service: &str,
        request: &DeployRequest,
        terms: &Terms,
    ) -> Result<Changed, ClientError> {
        let path = format!("/v1/services/{}/deploy", wire::encode(service));
        self.call(post(&path, request)?.under(terms))
    }

    /// `POST /v1/services/NAME/endpoints/VERB`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn endpoints(
        &self,
        service: &str,
        verb: &str,
        request: &EndpointsRequest,
        terms: &Terms,
    ) -> Result<Changed, ClientError> {
        let path = format!("/v1/services/{}/endpoints/{}", wire::encode(service), wire::encode(verb));
        self.call(post(&path, request)?.under(terms))
    }

    /// `GET /v1/services/NAME/explain`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn explain(&self, service: &str, subject: &Subject) -> Result<Explanation, ClientError> {
        let (field, value) = match subject {
            Subject::User(key) => ("user", key),
            Subject::Visitor(id) => ("visitor", id),
        };
        let (service, value) = (wire::encode(service), wire::encode(value));
        self.call(Call::get(&format!("/v1/services/{service}/explain?{field}={value}")))
    }

    /// `POST /v1/services/NAME/override`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn override_cookie(
        &self,
        service: &str,
        request: &OverrideRequest,
    ) -> Result<OverrideAnswer, ClientError> {
        self.call(post(&format!("/v1/services/{}/override", wire::encode(service)), request)?)
    }

    /// `GET /v1/wait`: returns once nothing older than the generation is in flight. The deadline is the
    /// query's own, and a little more.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn wait(&self, query: &WaitQuery) -> Result<(), ClientError> {
        let WaitQuery { service, generation, variant, endpoint, timeout_ms } = query;
        let mut path = format!("/v1/wait?service={}&generation={generation}", wire::encode(service));
        if let (Some(variant), Some(endpoint)) = (variant, endpoint) {
            path.push_str(&format!("&variant={variant}&endpoint={}", wire::encode(endpoint)));
        }
        if let Some(millis) = timeout_ms {
            path.push_str(&format!("&timeout_ms={millis}"));
        }
        let server = Duration::from_millis(timeout_ms.unwrap_or(30_000));
        self.exchange(Call::get(&path), server.saturating_add(GRACE)).map(|_| ())
    }

    /// `POST /v1/reload`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn reload(&self, request: &ReloadRequest) -> Result<Reloaded, ClientError> {
        self.call(post("/v1/reload", request)?)
    }

    /// `POST /v1/stop`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn stop(&self, request: &StopRequest) -> Result<Stopping, ClientError> {
        self.call(post("/v1/stop", request)?)
    }

    /// `POST /v1/upgrade`: returns once the new process serves. The deadline is the request's own, and what the new
    /// process and the disk may take after that.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn upgrade(&self, request: &UpgradeRequest) -> Result<Upgraded, ClientError> {
        let server = Duration::from_millis(request.timeout_ms.unwrap_or(30_000));
        let body = self.exchange(post("/v1/upgrade", request)?, server.saturating_add(UPGRADE_GRACE))?;
        serde_json::from_slice(&body).map_err(|source| not_understood(&self.socket, source))
    }

    /// Returns once nobody listens on the socket any more, looking ten times a second.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] if somebody still does after `limit`.
    pub fn wait_until_gone(&self, limit: Duration) -> Result<(), ClientError> {
        let gone = async {
            while UnixStream::connect(&self.socket).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        self.runtime.block_on(async { timeout(limit, gone).await }).map_err(|_| self.timed_out(limit))
    }

    /// `GET /v1/events?last=N`, oldest first.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn events(&self, last: u32) -> Result<Vec<Event>, ClientError> {
        self.call(Call::get(&format!("/v1/events?last={last}")))
    }

    /// `GET /v1/events?follow=true`: events as they happen, for as long as the daemon runs. Only the start
    /// has a deadline.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn follow(self) -> Result<Events, ClientError> {
        let answer = self.runtime.block_on(async {
            timeout(self.deadline, async {
                let stream = reach(&self.socket, self.deadline).await?;
                wire::start(stream, &self.socket, Call::get("/v1/events?follow=true")).await
            })
            .await
            .unwrap_or_else(|_| Err(self.timed_out(self.deadline)))
        })?;
        Ok(Events::new(self.runtime, self.socket, answer))
    }

    /// `POST /v1/demo/break`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn demo_break(&self, request: &BreakRequest) -> Result<(), ClientError> {
        self.exchange(post("/v1/demo/break", request)?, self.deadline).map(|_| ())
    }

    /// Waits for `pause` without burning the processor: for callers that ask again.
    pub fn rest(&self, pause: Duration) {
        // The sleep is made inside, where the runtime's clock is.
        self.runtime.block_on(async { tokio::time::sleep(pause).await });
    }

    fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let body = self.exchange(call, self.deadline)?;
        serde_json::from_slice(&body).map_err(|source| not_understood(&self.socket, source))
    }

    fn exchange(&self, call: Call, deadline: Duration) -> Result<Vec<u8>, ClientError> {
        self.runtime.block_on(async {
            timeout(deadline, async {
                let stream = reach(&self.socket, deadline).await?;
                let answer = wire::start(stream, &self.socket, call).await?;
                wire::body(answer, &self.socket).await
            })
            .await
            .unwrap_or_else(|_| Err(self.timed_out(deadline)))
        })
    }

    fn timed_out(&self, after: Duration) -> ClientError {
        ClientError::TimedOut { socket: self.socket.clone(), after }
    }
}

fn not_understood(socket: &Path, source: serde_json::Error) -> ClientError {
    ClientError::NotUnderstood { socket: socket.to_owned(), source }
}

fn post<T: Serialize>(path: &str, body: &T) -> Result<Call, ClientError> {
    let body = serde_json::to_vec(body).map_err(ClientError::NotWritten)?;
    Ok(Call { method: Method::POST, path: path.to_owned(), body, terms: Terms::default() })
}

/// Connects; a full backlog, which a unix socket reports at once, is waited for.
async fn reach(socket: &Path, deadline: Duration) -> Result<UnixStream, ClientError> {
    let attempts = async {
        loop {
            match UnixStream::connect(socket).await {
                Err(full) if full.kind() == std::io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => return other,
            }
        }
    };
    match timeout(deadline, attempts).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(ClientError::unreachable(socket, source)),
        Err(_) => Err(ClientError::TimedOut { socket: socket.to_owned(), after: deadline }),
    }
}

#[cfg(test)]
mod tests;
