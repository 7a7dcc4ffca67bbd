//! Requests to the new version before users send theirs: warm-up and synthetic checks, made by the daemon over its own connections.

use std::time::Duration;

use super::away::Leave;
use super::hands::{Found, Hands, stopped};
use super::signs::Rest;
use crate::admin::api::{ProbeAnswer, ProbeRequest, WarmupAnswer, WarmupRequest};
use crate::launch::{HttpCheck, Verdict, Warmup};
use crate::rollout::span;

/// How much of a warm-up is asked for at once: after that, there is somebody to listen to.
const WARMUP_SLICE: Duration = Duration::from_secs(10);

/// Between slices that end at once, for want of an endpoint.
const BETWEEN_SLICES: Duration = Duration::from_millis(200);

/// What the daemon takes at once.
const PROBES_MAX: usize = 100;

/// What the daemon takes as a probe's timeout.
const PROBE_LONGEST: Duration = Duration::from_secs(60);

/// For the synthetic checks before the first weight.
const SYNTHETIC_BEFORE: Duration = Duration::from_secs(60);

impl Hands {
    /// The launch's warm-up, if it has one, until each endpoint gave enough answers.
    pub(super) fn warm_up(&self) -> Result<Found, Leave> {
        let Some(planned) = &self.launch().warmup else { return Ok((Verdict::Passed, String::new())) };
        let paths = planned.paths.iter().map(|path| self.expand(path).map(Into::into)).collect();
        let paths = match paths {
            Ok(paths) => paths,
            Err(why) => return Ok((Verdict::Failed, why)),
        };
        let limit = planned.timeout;
        let warmup = Warmup { paths, timeout: limit.min(WARMUP_SLICE), ..planned.clone() };
        let mut request = WarmupRequest { variant: Some(self.candidate()), warmup, done: Default::default() };
        self.waiting("warming up".to_owned(), Some(limit), None);
        loop {
            let asked = self.ask_or_refusal(|| self.client.warm_up(&self.launch().service, &request))?;
            let answer = match asked {
                Ok(answer) => answer,
                Err(refusal) => return Ok((Verdict::Failed, format!("warm-up: {refusal}"))),
            };
            let state = warmth(&answer, planned.min_hits);
            if answer.reached {
                return Ok((Verdict::Passed, format!("warm-up: {state}")));
            }
            if self.is_late(limit) {
                return Ok((Verdict::TimedOut, format!("warm-up: after {} only {state}", span(limit))));
            }
            self.waiting(format!("warming up: {state}"), Some(limit), None);
            request.done = answer.hits;
            match self.rest(BETWEEN_SLICES) {
                Rest::Over => {}
                Rest::Halted => return Err(Leave::Halted),
                Rest::Stopped(why) => return Ok(stopped(&why)),
            }
        }
    }

    /// The launch's synthetic checks, if it has any.
    pub(super) fn synthetic_before(&self) -> Result<Found, Leave> {
        match self.launch().synthetic.is_empty() {
            true => Ok((Verdict::Passed, String::new())),
            false => self.synthetic(SYNTHETIC_BEFORE),
        }
    }

    /// The launch's synthetic checks; without any, the service's health check.
    pub(super) fn synthetic(&self, limit: Duration) -> Result<Found, Leave> {
        let mut requests = Vec::new();
        for check in &self.launch().synthetic {
            match self.expanded(check) {
                Ok(check) => requests.push(check),
                Err(why) => return Ok((Verdict::Failed, why)),
            }
        }
        self.waiting("asking the synthetic checks".to_owned(), Some(limit), None);
        let batches = if requests.is_empty() { vec![&[][..]] } else { requests.chunks(PROBES_MAX).collect() };
        let mut endpoints = 0;
        for batch in batches {
            let timeout = limit.clamp(Duration::from_millis(1), PROBE_LONGEST).as_millis();
            let request = ProbeRequest {
                variant: Some(self.candidate()),
                requests: batch.to_vec(),
                timeout_ms: u64::try_from(timeout).unwrap_or(1),
            };
            match self.ask_or_refusal(|| self.client.probe(&self.launch().service, &request))? {
                Ok(answer) if answer.passed() => endpoints = answer.endpoints.len(),
                Ok(answer) => return Ok((Verdict::Failed, format!("synthetic checks: {}", wrong(&answer)))),
                Err(refusal) => return Ok((Verdict::Failed, format!("synthetic checks: {refusal}"))),
            }
        }
        let checks = match requests.len() {
            0 => "the health check".to_owned(),
            count => format!("{count} synthetic checks"),
        };
        Ok((
            Verdict::Passed,
            format!("{checks}: as expected on {endpoints} endpoints of {}", self.candidate()),
        ))
    }

    fn expanded(&self, check: &HttpCheck) -> Result<HttpCheck, String> {
        let contains = check.contains.as_ref().map(|text| self.expand(text)).transpose()?;
        Ok(HttpCheck {
            path: self.expand(&check.path)?.into(),
            contains: contains.map(Into::into),
            ..check.clone()
        })
    }
}

/// What was not as expected, endpoint by endpoint.
pub(super) fn wrong(answer: &ProbeAnswer) -> String {
    if answer.endpoints.is_empty() {
        return format!("{} has no endpoint", answer.variant);
    }
    let failed = answer.endpoints.iter().flat_map(|(endpoint, probed)| {
        let failed = probed.iter().filter(|probed| !probed.passed);
        failed.map(move |probed| {
            let status = probed.status.map(|status| format!("status {status}"));
            let why = probed.why.clone().or(status).unwrap_or_else(|| "no answer".to_owned());
            format!("{endpoint}{}: {why}", probed.path)
        })
    });
    failed.collect::<Vec<_>>().join("\n")
}

fn warmth(answer: &WarmupAnswer, min_hits: u64) -> String {
    if answer.hits.is_empty() {
        return "no endpoint".to_owned();
    }
    let endpoints = answer.hits.iter().map(|(endpoint, hits)| {
        let failures = match answer.failures.get(endpoint) {
            Some(failures) if *failures > 0 => format!(", {failures} failures"),
            _ => String::new(),
        };
        format!("{endpoint} {hits} of {min_hits} answers{failures}")
    });
    endpoints.collect::<Vec<_>>().join("; ")
}
