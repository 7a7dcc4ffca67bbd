//! The calls around launches.

use std::time::Duration;

use hyper::Method;

use super::wire::{self, Call};
use super::{Client, ClientError, GRACE, not_understood, post};
use crate::admin::api::{
    CheckedRequest, HeartbeatAnswer, HeartbeatRequest, LaunchRequest, LaunchRollbackRequest,
    LaunchStartRequest, LaunchSummary, LaunchView, LeaseAnswer, LeaseRequest, NoteRequest, ProbeAnswer,
    ProbeRequest, Records, SignRequest, VoteRequest, WarmupAnswer, WarmupRequest,
};

/// What a warm-up may take on the daemon's side before it answers.
const WARMUP_SLICE: Duration = Duration::from_secs(30);

impl Client {
    /// `GET /v1/launches`: the newest first.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn launches(&self) -> Result<Vec<LaunchSummary>, ClientError> {
        self.call(Call::get("/v1/launches"))
    }

    /// `GET /v1/launches/NAME`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn launch(&self, name: &str) -> Result<LaunchView, ClientError> {
        self.call(Call::get(&of(name, "")))
    }

    /// `PUT /v1/launches/NAME`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn plan_launch(&self, request: &LaunchRequest) -> Result<LaunchView, ClientError> {
        let call = post(&of(&request.launch.name, ""), request)?;
        self.call(Call { method: Method::PUT, ..call })
    }

    /// `POST /v1/launches/NAME/sign`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn sign(&self, launch: &str, request: &SignRequest) -> Result<LaunchView, ClientError> {
        self.call(post(&of(launch, "/sign"), request)?)
    }

    /// `POST /v1/launches/NAME/vote`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn vote(&self, launch: &str, request: &VoteRequest) -> Result<LaunchView, ClientError> {
        self.call(post(&of(launch, "/vote"), request)?)
    }

    /// `POST /v1/launches/NAME/checked`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn checked(&self, launch: &str, request: &CheckedRequest) -> Result<LaunchView, ClientError> {
        self.call(post(&of(launch, "/checked"), request)?)
    }

    /// `POST /v1/launches/NAME/start`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn start_launch(
        &self,
        launch: &str,
        request: &LaunchStartRequest,
    ) -> Result<LeaseAnswer, ClientError> {
        self.call(post(&of(launch, "/start"), request)?)
    }

    /// `POST /v1/launches/NAME/lease`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn lease(&self, launch: &str, request: &LeaseRequest) -> Result<LeaseAnswer, ClientError> {
        self.call(post(&of(launch, "/lease"), request)?)
    }

    /// `POST /v1/launches/NAME/heartbeat`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn heartbeat(
        &self,
        launch: &str,
        request: &HeartbeatRequest,
    ) -> Result<HeartbeatAnswer, ClientError> {
        self.call(post(&of(launch, "/heartbeat"), request)?)
    }

    /// `POST /v1/launches/NAME/note`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn note(&self, launch: &str, request: &NoteRequest) -> Result<LaunchView, ClientError> {
        self.call(post(&of(launch, "/note"), request)?)
    }

    /// `POST /v1/launches/NAME/rollback`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn roll_back_launch(
        &self,
        launch: &str,
        request: &LaunchRollbackRequest,
    ) -> Result<LaunchView, ClientError> {
        self.call(post(&of(launch, "/rollback"), request)?)
    }

    /// `GET /v1/launches/NAME/records`: what was noted after a number. If there is nothing yet, `wait` is how long to wait for something; at
    /// most a minute.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn records(&self, launch: &str, after: u64, wait: Duration) -> Result<Records, ClientError> {
        let path = of(launch, &format!("/records?after={after}&wait_ms={}", wait.as_millis()));
        let body = self.exchange(Call::get(&path), wait.saturating_add(GRACE))?;
        serde_json::from_slice(&body).map_err(|source| not_understood(self.socket(), source))
    }

    /// `POST /v1/services/NAME/probe`. The deadline is the request's own, and a little more.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn probe(&self, service: &str, request: &ProbeRequest) -> Result<ProbeAnswer, ClientError> {
        let path = format!("/v1/services/{}/probe", wire::encode(service));
        let limit = Duration::from_millis(request.timeout_ms).saturating_add(GRACE);
        let body = self.exchange(post(&path, request)?, limit)?;
        serde_json::from_slice(&body).map_err(|source| not_understood(self.socket(), source))
    }

    /// `POST /v1/services/NAME/warmup`. The deadline is a little more than the daemon's own 30 s.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn warm_up(&self, service: &str, request: &WarmupRequest) -> Result<WarmupAnswer, ClientError> {
        let path = format!("/v1/services/{}/warmup", wire::encode(service));
        let body = self.exchange(post(&path, request)?, WARMUP_SLICE.saturating_add(GRACE))?;
        serde_json::from_slice(&body).map_err(|source| not_understood(self.socket(), source))
    }
}

fn of(launch: &str, what: &str) -> String {
    format!("/v1/launches/{}{what}", wire::encode(launch))
}
