//! Requests to a variant's endpoints that are no traffic.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::uri::PathAndQuery;
use axum::routing::post;
use axum::{Extension, Json, Router};

use super::answer::{json, problem};
use super::places::Places;
use super::routes::{Answer, Asked, Tied, Ties, find};
use crate::admin::api::{
    ProbeAnswer, ProbeRequest, Probed, Problem, ProblemKind, WarmupAnswer, WarmupRequest,
};
use crate::control::{self, Answered, Warmed};
use crate::launch::{HttpCheck, Warmup};
use crate::routing::Service;
use crate::traffic::Variant;

const REQUESTS_MAX: usize = 100;
const RETRIES_MAX: u32 = 100;
const TIMEOUT_MS_MAX: u64 = 60_000;
const RPS_MAX: u32 = 1000;
const HITS_MAX: u64 = 100_000;
const TEXT_BYTES_MAX: usize = 4096;

pub(super) fn routes() -> Router<Arc<Ties>> {
    Router::new()
        .route("/v1/services/{service}/probe", post(probe))
        .route("/v1/services/{service}/warmup", post(warm_up))
}

async fn probe(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(places): Extension<Places>,
    request: Request,
) -> Answer<ProbeAnswer> {
    let asked = Asked::read(request).await?;
    let ProbeRequest { variant, requests, timeout_ms } = json(&asked.body)?;
    if requests.len() > REQUESTS_MAX {
        return Err(invalid(format!("a probe makes at most {REQUESTS_MAX} requests")));
    }
    if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
        return Err(invalid("a probe may take 1 ms to 60 s"));
    }
    requests.iter().try_for_each(can_be_asked)?;
    let service = find(&ties, &name)?;
    let variant = askable(&service, variant)?;
    let _place = places.probe()?;
    let answers = control::probe(&service, variant, &requests, Duration::from_millis(timeout_ms)).await;
    let told = |answers: Vec<Answered>| answers.into_iter().map(probed).collect();
    let endpoints = answers.into_iter().map(|(endpoint, answers)| (endpoint, told(answers))).collect();
    Ok(Json(ProbeAnswer { variant, endpoints }))
}

async fn warm_up(
    State(ties): Tied,
    Path(name): Path<String>,
    Extension(places): Extension<Places>,
    request: Request,
) -> Answer<WarmupAnswer> {
    let asked = Asked::read(request).await?;
    let WarmupRequest { variant, warmup, done } = json(&asked.body)?;
    let Warmup { paths, rps, min_hits, timeout } = &warmup;
    if !(1..=REQUESTS_MAX).contains(&paths.len()) {
        return Err(invalid(format!("a warm-up asks for 1 to {REQUESTS_MAX} paths")));
    }
    paths.iter().try_for_each(|path| is_path(path))?;
    if !(1..=RPS_MAX).contains(rps) {
        return Err(invalid(format!("a warm-up makes 1 to {RPS_MAX} requests a second and endpoint")));
    }
    if !(1..=HITS_MAX).contains(min_hits) {
        return Err(invalid(format!("a warm-up asks for 1 to {HITS_MAX} answers of each endpoint")));
    }
    if timeout.is_zero() {
        return Err(invalid("a warm-up needs time: its timeout is 0"));
    }
    let service = find(&ties, &name)?;
    let variant = askable(&service, variant)?;
    let _place = places.probe()?;
    let Warmed { hits, failures, reached } = control::warm_up(&service, variant, &warmup, &done).await;
    Ok(Json(WarmupAnswer { hits, failures, reached }))
}

/// The variant that is meant, if it has an endpoint to ask.
fn askable(service: &Service, variant: Option<Variant>) -> Result<Variant, Problem> {
    let variant = variant.unwrap_or(service.split.candidate);
    if control::asked(service, variant).is_empty() {
        let name = &service.settings.name;
        let error = format!(
            "{name}: {variant} has no endpoint that could be asked; deploy to it, add one or undrain one"
        );
        return Err(problem(ProblemKind::Conflict, error));
    }
    Ok(variant)
}

fn can_be_asked(request: &HttpCheck) -> Result<(), Problem> {
    let HttpCheck { path, expected, contains, retries } = request;
    is_path(path)?;
    if expected.is_empty() || expected.iter().any(|(from, to)| from > to) {
        return Err(invalid(format!("{path}: expected takes ranges of status codes, such as [[200, 399]]")));
    }
    if contains.as_ref().is_some_and(|text| text.len() > TEXT_BYTES_MAX) {
        return Err(invalid(format!(
            "{path}: what the body has to hold is longer than {TEXT_BYTES_MAX} bytes"
        )));
    }
    if *retries > RETRIES_MAX {
        return Err(invalid(format!("{path}: at most {RETRIES_MAX} retries")));
    }
    Ok(())
}

fn is_path(path: &str) -> Result<(), Problem> {
    if path.starts_with('/') && path.parse::<PathAndQuery>().is_ok() {
        return Ok(());
    }
    Err(invalid(format!("{path:?} is no path; it begins with / and has only what a URL may have")))
}

fn probed(answered: Answered) -> Probed {
    let Answered { path, status, why, attempts, took } = answered;
    let ttfb_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    Probed { path, passed: why.is_none(), status, why, attempts, ttfb_us }
}

fn invalid(error: impl Into<String>) -> Problem {
    problem(ProblemKind::Invalid, error)
}
