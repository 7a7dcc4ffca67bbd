//! Answers, and the problems that take their place.

use std::error::Error;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::admin::api::{Problem, ProblemKind};
use crate::control::{CommitError, Refusal, ReloadError};

/// The longest request body.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a client may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

impl ProblemKind {
    /// The HTTP status that goes with it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Stale => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Locked => StatusCode::LOCKED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.kind.status(), Json(self)).into_response()
    }
}

/// A problem in a sentence.
pub fn problem(kind: ProblemKind, error: impl Into<String>) -> Problem {
    Problem { kind, error: error.into() }
}

impl From<CommitError> for Problem {
    fn from(error: CommitError) -> Self {
        let kind = match &error {
            CommitError::Refused(refusal) => refusal_kind(refusal),
            CommitError::KeyReused(_) => ProblemKind::KeyReused,
            CommitError::NotSaved(_) | CommitError::DiskTimeout => ProblemKind::Internal,
            CommitError::Busy | CommitError::Closed(_) => ProblemKind::Unavailable,
        };
        problem(kind, with_causes(&error))
    }
}

impl From<ReloadError> for Problem {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Config(error) => problem(ProblemKind::Invalid, with_causes(&error)),
            ReloadError::Commit(error) => error.into(),
        }
    }
}

fn refusal_kind(refusal: &Refusal) -> ProblemKind {
    match refusal {
        Refusal::UnknownService { .. } | Refusal::UnknownEndpoint { .. } => ProblemKind::NotFound,
        Refusal::Nothing | Refusal::Invalid(_) | Refusal::Plan { .. } => ProblemKind::Invalid,
        Refusal::Stale { .. } | Refusal::Overtaken(_) => ProblemKind::Stale,
        Refusal::Locked { .. } => ProblemKind::Locked,
        Refusal::NoHealthyCandidate { .. }
        | Refusal::CandidateInUse { .. }
        | Refusal::SharedEndpoint { .. }
        | Refusal::OthersEndpoint { .. }
        | Refusal::KnownEndpoint { .. }
        | Refusal::LastEndpoint { .. }
        | Refusal::OverlayLeavesNone { .. }
        | Refusal::RolloutRuns { .. }
        | Refusal::RolloutDrives { .. }
        | Refusal::RolloutMirrors { .. }
        | Refusal::Frozen { .. }
        | Refusal::NoWayBack { .. }
        | Refusal::Rollout { .. } => ProblemKind::Conflict,
    }
}

/// An error and what caused it, in one line.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The whole body of a request.
pub async fn body(request: Request<Body>) -> Result<Bytes, Problem> {
    let read = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(problem(
            ProblemKind::TooLarge,
            format!("the body is larger than {} KiB", BODY_BYTES_MAX / 1024),
        )),
        Ok(Err(_)) => Err(problem(ProblemKind::Invalid, "the body ended early")),
        Err(_) => Err(problem(ProblemKind::Invalid, "the body took longer than 10 s")),
    }
}

/// A body of JSON. An empty one counts as `{}`.
pub fn json<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let text = if body.is_empty() { b"{}" } else { &body[..] };
    serde_json::from_slice(text)
        .map_err(|error| problem(ProblemKind::Invalid, format!("the body is not what was expected: {error}")))
}
