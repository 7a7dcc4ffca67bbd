//! What the daemon moves for a phase. Asking twice is the same as asking once, so an interrupted phase is simply gone on with.

use std::time::Duration;

use super::away::{self, Leave};
use super::hands::{Found, Hands, stopped};
use super::signs::Rest;
use crate::admin::api::{ActRequest, PlanFile, RolloutStatus, ServiceStatus, ShiftRequest, StartRequest};
use crate::admin::client::Terms;
use crate::clock::Timestamp;
use crate::launch::{Rollout, Verdict};
use crate::rollout::{Ending, Phase};
use crate::traffic::{Variant, Weight};

/// How often is looked at a rollout.
const LOOK: Duration = Duration::from_millis(500);

/// Once to leave a rollout that somebody started since, once for a promotion, and once more.
const WAYS_BACK: usize = 3;

/// How a rollout stands, as seen by the phase that it belongs to.
#[derive(Debug, PartialEq)]
pub(super) enum Progress {
    /// There is none that belongs to the phase.
    Absent,
    /// Under way: what is waited for.
    Running(String),
    /// Over.
    Ended(Found),
}

/// A rollout belongs to a phase by its name, and by having started after the phase's first step.
pub(super) fn progress(rollout: Option<&RolloutStatus>, name: &str, since: Option<Timestamp>) -> Progress {
    let ours = |rollout: &&RolloutStatus| {
        rollout.name == name && !rollout.manual && since.is_none_or(|since| rollout.started >= since)
    };
    let Some(rollout) = rollout.filter(ours) else { return Progress::Absent };
    match &rollout.phase {
        Phase::Ended { how: Ending::Promoted } => {
            Progress::Ended((Verdict::Passed, format!("the rollout {name} promoted")))
        }
        Phase::Ended { how } => Progress::Ended((Verdict::Failed, format!("the rollout {name}: {how}"))),
        Phase::Waiting | Phase::Holding | Phase::Paused { .. } | Phase::Keeping => {
            let RolloutStatus { stage, stages, weight, phase, tick, .. } = rollout;
            let waiting = tick.as_ref().and_then(|tick| tick.waiting.as_ref());
            let why = match (phase, waiting) {
                (Phase::Paused { .. }, Some(waiting)) => format!("{phase}, {waiting}"),
                (_, Some(waiting)) => waiting.to_string(),
                (_, None) => phase.to_string(),
            };
            Progress::Running(format!("{weight}, stage {stage} of {stages}: {why}"))
        }
    }
}

impl Hands {
    pub(super) fn service(&self) -> Result<ServiceStatus, Leave> {
        self.ask_daemon(|| self.client.service(&self.launch().service))
    }

    /// Starts the rollout, unless it has been, and waits until it has ended.
    pub(super) fn roll_out(
        &self,
        rollout: &Rollout,
        since: Option<Timestamp>,
        limit: Option<Duration>,
    ) -> Result<Found, Leave> {
        let launch = self.launch();
        let mut was_seen = false;
        loop {
            let status = self.service()?;
            match progress(status.rollout.as_ref(), &launch.name, since) {
                Progress::Ended(found) => return Ok(found),
                Progress::Running(what) => {
                    was_seen = true;
                    self.waiting(what, limit, since);
                }
                Progress::Absent if was_seen => {
                    let why = format!("the rollout {} gave way to another change of traffic", launch.name);
                    return Ok((Verdict::Failed, why));
                }
                Progress::Absent => {
                    if let Some(why) = self.signs.stopped() {
                        return Ok(stopped(&why));
                    }
                    if let Err(refusal) = self.start(rollout)? {
                        return Ok((Verdict::Failed, refusal));
                    }
                }
            }
            if limit.is_some_and(|limit| self.is_late(limit)) {
                let what = format!("the rollout {} has not ended in time", launch.name);
                return Ok((Verdict::TimedOut, what));
            }
            match self.rest(LOOK) {
                Rest::Over => {}
                Rest::Halted => return Err(Leave::Halted),
                Rest::Stopped(why) => return Ok(stopped(&why)),
            }
        }
    }

    /// Whether it was started is seen by looking at it: an answer that is lost would be a refusal the next time.
    fn start(&self, rollout: &Rollout) -> Result<Result<(), String>, Leave> {
        let launch = self.launch();
        let request = StartRequest {
            schedule: rollout.schedule.as_deref().map(str::to_owned),
            plan: rollout
                .plan
                .as_ref()
                .map(|(name, text)| PlanFile { name: name.to_string(), text: text.to_string() }),
            name: Some(launch.name.to_string()),
            version: launch.version.as_deref().map(str::to_owned),
            reason: Some(self.reason()),
            ..StartRequest::default()
        };
        match self.client.start_rollout(&launch.service, &request, &Terms::default()) {
            Ok(_) => Ok(Ok(())),
            Err(error) if away::is_away(&error) => Ok(Ok(())),
            Err(refusal) => Ok(Err(refusal.to_string())),
        }
    }

    /// Shifts the candidate.
    pub(super) fn shift(&self, weight: Weight, is_undo: bool) -> Result<Found, Leave> {
        let (status, candidate) = (self.service()?, self.candidate());
        if status.stable == candidate {
            let already = format!("{candidate} is stable already");
            return Ok(match weight {
                Weight::FULL => (Verdict::Passed, already),
                _ => (
                    Verdict::Failed,
                    format!("{already}: a shift to {weight} would be one of {}", status.candidate),
                ),
            });
        }
        if let Some(why) = self.signs.stopped().filter(|_| !is_undo) {
            return Ok(stopped(&why));
        }
        self.shift_to(candidate, weight)
    }

    /// Shifts `variant`, which is the service's candidate at the moment.
    fn shift_to(&self, variant: Variant, weight: Weight) -> Result<Found, Leave> {
        let service = &self.launch().service;
        let drives = |rollout: &RolloutStatus| rollout.manual && !rollout.has_ended();
        let request = ShiftRequest {
            services: [(service.to_string(), weight.to_string())].into(),
            take_over: self.service()?.rollout.as_ref().is_some_and(drives),
            reason: Some(self.reason()),
            claimed: None,
        };
        Ok(match self.ask_or_refusal(|| self.client.shift(&request, &Terms::default()))? {
            Ok(_) => (Verdict::Passed, format!("{variant} at {weight}")),
            Err(refusal) => (Verdict::Failed, refusal),
        })
    }

    /// Shifts the candidate, also one that was promoted meanwhile.
    pub(super) fn shift_back(&self, weight: Weight, limit: Duration) -> Result<Found, Leave> {
        if weight == Weight::ZERO || self.service()?.stable == self.candidate() {
            let back = self.disable_traffic(limit)?;
            if weight == Weight::ZERO || back.0 != Verdict::Passed {
                return Ok(back);
            }
        }
        self.shift(weight, true)
    }

    /// Everybody on what was stable when the launch started. Never refused for a lock or a freeze: it only moves toward stable.
    pub(super) fn disable_traffic(&self, limit: Duration) -> Result<Found, Leave> {
        let (service, candidate) = (&self.launch().service, self.candidate());
        self.waiting(format!("taking {candidate} to 0%"), Some(limit), None);
        let mut has_acted = false;
        for _ in 0..WAYS_BACK {
            let Some(what) = exposed(&self.service()?, candidate) else {
                let said = if has_acted { "everybody is back on" } else { "everybody is on" };
                return Ok((Verdict::Passed, format!("{said} {}", candidate.other())));
            };
            if self.is_late(limit) {
                return Ok((Verdict::TimedOut, what));
            }
            let request = ActRequest { reason: Some(self.reason()), claimed: None };
            let back =
                self.ask_or_refusal(|| self.client.act(service, "rollback", &request, &Terms::default()))?;
            if let Err(refusal) = back {
                return Ok((Verdict::Failed, format!("{what}: {refusal}")));
            }
            has_acted = true;
        }
        // Last-known-good is gone, because somebody moved traffic since. What was stable is a candidate like any other.
        let status = self.service()?;
        if status.stable == candidate
            && let (Verdict::Failed | Verdict::TimedOut, why) =
                self.shift_to(candidate.other(), Weight::FULL)?
        {
            return Ok((Verdict::Failed, format!("{candidate} is stable after a rollback: {why}")));
        }
        Ok(match exposed(&self.service()?, candidate) {
            None => (Verdict::Passed, format!("everybody is back on {}", candidate.other())),
            Some(what) => {
                (Verdict::Failed, format!("{what} after a rollback; `tidegate status {service}` says more"))
            }
        })
    }

    fn reason(&self) -> String {
        let phase = self.launch().phases.get(self.at).map_or("", |phase| &phase.id);
        format!("launch {}, phase {phase}", self.launch().name)
    }
}

/// What of the new version users can still get, or will by itself.
pub(super) fn exposed(status: &ServiceStatus, candidate: Variant) -> Option<String> {
    if status.stable == candidate {
        return (status.weight < Weight::FULL).then(|| format!("{candidate} is stable"));
    }
    if status.weight > Weight::ZERO {
        return Some(format!("{candidate} is at {}", status.weight));
    }
    let rollout = status.rollout.as_ref().filter(|rollout| !rollout.has_ended())?;
    Some(format!("the rollout {} of {candidate} has not ended", rollout.name))
}
