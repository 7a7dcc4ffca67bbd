//! The calls around rollouts.

use super::wire::{self, Call};
use super::{Client, ClientError, Terms, post};
use crate::admin::api::{
    ActRequest, Changed, Compiled, FailureStory, FreezeRequest, PlanRequest, ReadingRequest, RolloutView,
    SignalRequest, StartRequest,
};

impl Client {
    /// `GET /v1/services/NAME/rollout`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn rollout(&self, service: &str) -> Result<RolloutView, ClientError> {
        self.call(Call::get(&of(service, "rollout")))
    }

    /// `GET /v1/rollouts`: those that have not ended.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn rollouts(&self) -> Result<Vec<RolloutView>, ClientError> {
        self.call(Call::get("/v1/rollouts"))
    }

    /// `POST /v1/services/NAME/rollout`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn start_rollout(
        &self,
        service: &str,
        request: &StartRequest,
        terms: &Terms,
    ) -> Result<Changed, ClientError> {
        self.call(post(&of(service, "rollout"), request)?.under(terms))
    }

    /// `POST /v1/services/NAME/rollout/VERB`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn act(
        &self,
        service: &str,
        verb: &str,
        request: &ActRequest,
        terms: &Terms,
    ) -> Result<Changed, ClientError> {
        self.call(post(&format!("{}/{verb}", of(service, "rollout")), request)?.under(terms))
    }

    /// `POST /v1/plan`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn plan(&self, request: &PlanRequest) -> Result<Compiled, ClientError> {
        self.call(post("/v1/plan", request)?)
    }

    /// `POST /v1/freeze`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn freeze(&self, request: &FreezeRequest, terms: &Terms) -> Result<Changed, ClientError> {
        self.call(post("/v1/freeze", request)?.under(terms))
    }

    /// `POST /v1/services/NAME/signal`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn signal(&self, service: &str, request: &SignalRequest) -> Result<(), ClientError> {
        self.exchange(post(&of(service, "signal"), request)?, self.deadline).map(|_| ())
    }

    /// `POST /v1/services/NAME/metrics/GATE`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn push(&self, service: &str, gate: &str, reading: &ReadingRequest) -> Result<(), ClientError> {
        let path = format!("{}/{}", of(service, "metrics"), wire::encode(gate));
        self.exchange(post(&path, reading)?, self.deadline).map(|_| ())
    }

    /// `GET /v1/services/NAME/failures`.
    ///
    /// # Errors
    /// As of every call: see [`ClientError`].
    pub fn failures(&self, service: &str) -> Result<FailureStory, ClientError> {
        self.call(Call::get(&of(service, "failures")))
    }
}

fn of(service: &str, what: &str) -> String {
    format!("/v1/services/{}/{what}", wire::encode(service))
}
