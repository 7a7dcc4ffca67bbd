//! What somebody's word makes of one service: shifts, starts, acts, kills, deployments.
//!
//! The machine in [`crate::rollout`] says what becomes of the rollout; here is what that means for the service:
//! its weight, its lock, its roles. Whatever does not raise anybody's chance of the candidate is toward
//! stable, also the way back after a promotion: it returns to what users had before.

use std::sync::Arc;

use super::change::{Direction, Facts, Happened, Refusal, Stamp};
use super::desired::{Changed, Deployed, LastGood, ServiceState};
use super::endpoints::{ENDPOINTS_MAX, too_many};
use super::recovery::is_kept;
use super::settings::ServiceConfig;
use crate::rollout::{self, Act, Circumstances, Effect, Ending, Phase, Plan, Rollout, Shift, Step, Verb};
use crate::traffic::{Cause, Lock, Variant, Weight};

/// What becomes of a service.
#[derive(Debug)]
pub(super) struct Turn {
    pub after: ServiceState,
    pub direction: Direction,
    pub happened: Option<Happened>,
}

impl Turn {
    /// Nothing does.
    pub fn none(state: &ServiceState) -> Self {
        Self { after: state.clone(), direction: Direction::TowardStable, happened: None }
    }

    fn of(before: &ServiceState, after: ServiceState, happened: Option<Happened>) -> Self {
        let rises = after.weight > before.weight || after.mirror > before.mirror;
        let direction = match rises || after.stable != before.stable {
            true => Direction::TowardCandidate,
            false => Direction::TowardStable,
        };
        Self { after, direction, happened }
    }
}

/// Another weight by a person's word. A manual rollout guards it; a planned one is paused by less.
pub(super) fn shift(
    state: &ServiceState,
    weight: Weight,
    take_over: bool,
    facts: &Facts,
    stamp: &Stamp,
) -> Result<Turn, Refusal> {
    if weight > state.weight {
        may_rise(state, facts)?;
    }
    if weight == state.weight && weight > Weight::ZERO && state.running().is_some() {
        return Ok(Turn::none(state));
    }
    let by_hand = by_hand(weight, take_over, &facts.config);
    let around = around(state, facts, stamp);
    let shifted = Rollout::shifted(state.rollout.as_deref(), stamp.generation, &by_hand, &around);
    let rollout = shifted.map_err(|why| match (why, state.planned()) {
        (rollout::Refusal::Driven, Some(rollout)) => {
            let (service, name) = (state.name.clone(), rollout.plan.name.clone());
            Refusal::RolloutDrives { service, name }
        }
        (why, _) => Refusal::Rollout { service: state.name.clone(), why },
    })?;
    let mut after = ServiceState { weight, rollout: rollout.map(Arc::new), ..state.clone() };
    if weight > Weight::ZERO {
        after.last_good = None;
    }
    let paused = state.planned().is_some_and(|before| !matches!(before.phase, Phase::Paused { .. }))
        && after.planned().is_some_and(|after| matches!(after.phase, Phase::Paused { .. }));
    let happened = paused.then(|| {
        let (candidate, from) = (state.candidate(), state.weight);
        Happened::new("pause", format!("paused: {} shifted {candidate} from {from} to {weight}", stamp.actor))
    });
    Ok(Turn::of(state, after, happened))
}

/// Another share of stable's visitors whose requests are copied to the candidate. Nobody gets its answers, but it gets
/// traffic: more of it needs what a shift up needs.
pub(super) fn mirror(state: &ServiceState, share: Weight, facts: &Facts) -> Result<Turn, Refusal> {
    if share > state.mirror {
        may_rise(state, facts)?;
        let drives = |rollout: &Rollout| !matches!(rollout.phase, Phase::Paused { .. });
        if let Some(rollout) = state.planned().filter(|rollout| drives(rollout)) {
            let (service, name) = (state.name.clone(), rollout.plan.name.clone());
            return Err(Refusal::RolloutMirrors { service, name });
        }
    }
    Ok(Turn::of(state, ServiceState { mirror: share, ..state.clone() }, None))
}

/// A rollout by a plan. It takes the place of a manual one.
pub(super) fn start(
    state: &ServiceState,
    plan: &Arc<Plan>,
    facts: &Facts,
    stamp: &Stamp,
) -> Result<Turn, Refusal> {
    if let Some(rollout) = state.planned() {
        let (service, name) = (state.name.clone(), rollout.plan.name.clone());
        return Err(Refusal::RolloutRuns { service, name });
    }
    may_rise(state, facts)?;
    let problems: Vec<_> = plan.check().iter().map(ToString::to_string).collect();
    if !problems.is_empty() {
        let (service, name) = (state.name.clone(), plan.name.clone());
        return Err(Refusal::Plan { service, name, why: problems.join("; ") });
    }
    let started = Rollout::start(stamp.generation, plan.clone(), &around(state, facts, stamp));
    let (rollout, effect) = started.map_err(|why| Refusal::Rollout { service: state.name.clone(), why })?;
    let before = ServiceState { last_good: None, ..state.clone() };
    Ok(effected(&before, rollout, effect, facts, stamp))
}

/// A service that has weight and no rollout (a first start at a weight, a state of an earlier version), with a guard.
/// `None`: it needs none.
pub(super) fn guarded(state: &ServiceState, config: &ServiceConfig, by_us: &Changed) -> Option<ServiceState> {
    if state.weight == Weight::ZERO || state.running().is_some() {
        return None;
    }
    let around = Circumstances {
        at: by_us.time,
        actor: by_us.actor.as_str().into(),
        frozen: state.freeze.is_some(),
        locked: state.lock.is_some(),
        candidate_healthy: false,
    };
    let by_hand = by_hand(state.weight, false, config);
    let rollout = Rollout::shifted(None, by_us.generation, &by_hand, &around).ok()??;
    Some(ServiceState { rollout: Some(Arc::new(rollout)), ..state.clone() })
}

/// Something is done to the rollout. `None`: there is nothing to do.
pub(super) fn act(
    state: &ServiceState,
    act: &Act,
    facts: &Facts,
    stamp: &Stamp,
) -> Result<Option<Turn>, Refusal> {
    if *act == Act::Verb(Verb::Rollback) && state.running().is_none() {
        return way_back(state, facts, stamp);
    }
    let refused = |why| Refusal::Rollout { service: state.name.clone(), why };
    let Some(rollout) = &state.rollout else {
        return match act {
            Act::Verb(_) => Err(refused(rollout::Refusal::None)),
            Act::Step { .. } => Ok(None),
        };
    };
    let taken = rollout.take(act, &around(state, facts, stamp)).map_err(refused)?;
    Ok(taken.map(|(rollout, effect)| effected(state, rollout, effect, facts, stamp)))
}

/// Last-known-good, when no rollout runs: weight 0, and after a promotion the roles as they were.
fn way_back(state: &ServiceState, facts: &Facts, stamp: &Stamp) -> Result<Option<Turn>, Refusal> {
    if state.weight > Weight::ZERO {
        let sentence = format!("rolled back {} from {} to 0%", state.candidate(), state.weight);
        let after = ServiceState { weight: Weight::ZERO, ..state.clone() };
        return Ok(Some(Turn::of(state, after, Some(Happened::new("rollback", sentence)))));
    }
    let promoted = state.rollout.as_ref().filter(|rollout| is_promoted(rollout));
    let (Some(rollout), Some(good)) = (promoted, &state.last_good) else { return Ok(None) };
    let (service, variant) = (state.name.clone(), good.variant);
    if facts.specs[variant] != good.endpoints {
        return Err(Refusal::NoWayBack { service, variant });
    }
    if !facts.healthy[variant] {
        let endpoints = facts.specs[variant].len();
        return Err(Refusal::NoHealthyCandidate { service, candidate: variant, endpoints });
    }
    let taken = rollout.take(&Act::Verb(Verb::Rollback), &around(state, facts, stamp));
    let taken = taken.map_err(|why| Refusal::Rollout { service, why })?;
    Ok(taken.map(|(rollout, effect)| {
        let after = ServiceState {
            stable: variant,
            weight: Weight::ZERO,
            rollout: Some(Arc::new(rollout)),
            last_good: None,
            ..state.clone()
        };
        let happened = Some(Happened::new(effect.happened, effect.sentence));
        Turn { after, direction: Direction::TowardStable, happened }
    }))
}

/// Away from what a launch brought to `candidate`: from its weight, or from the roles that it has swapped. Locked in any
/// case, also where there is no way back any more, which is said.
pub(super) fn trip(
    state: &ServiceState,
    candidate: Variant,
    sentence: &str,
    facts: &Facts,
    stamp: &Stamp,
) -> Turn {
    let has_it = state.weight > Weight::ZERO || state.stable == candidate;
    let back = match state.running() {
        Some(rollout) => {
            let step = Step::Fail { cause: Cause::FailedRollout, sentence: sentence.to_owned() };
            act(state, &Act::Step { after: rollout.transitions, step }, facts, stamp)
        }
        None if has_it => way_back(state, facts, stamp),
        None => Ok(None),
    };
    let (after, sentence) = match back {
        Ok(Some(Turn { after, happened, .. })) => {
            let sentence = match happened.filter(|_| state.running().is_none()) {
                Some(happened) => format!("{}: {sentence}", happened.sentence),
                None => format!("rolled back: {sentence}"),
            };
            (after, sentence)
        }
        Ok(None) => (state.clone(), format!("locked: {sentence}")),
        Err(why) => (state.clone(), format!("locked, and there is no way back ({why}): {sentence}")),
    };
    let kept = state.lock.clone().filter(|lock| is_kept(lock.cause));
    let lock = kept.unwrap_or_else(|| Lock {
        cause: Cause::FailedRollout,
        actor: stamp.actor.clone(),
        at: stamp.time,
        reason: Some(sentence.clone()),
    });
    let after = ServiceState { lock: Some(lock), ..after };
    let happened = Some(Happened::new("rollback", sentence));
    Turn { after, direction: Direction::TowardStable, happened }
}

/// Everybody to stable, and locked.
pub(super) fn kill(state: &ServiceState, stamp: &Stamp) -> Turn {
    let lock = match &state.lock {
        Some(lock) if lock.cause == Cause::Kill => lock.clone(),
        _ => Lock {
            cause: Cause::Kill,
            actor: stamp.actor.clone(),
            at: stamp.time,
            reason: stamp.reason.clone(),
        },
    };
    let mut after = ServiceState { weight: Weight::ZERO, lock: Some(lock), ..state.clone() };
    if let Some(rollout) = state.running() {
        after.rollout = Some(Arc::new(rollout.killed(stamp.time)));
    }
    Turn { after, direction: Direction::TowardStable, happened: None }
}

/// Other endpoints for the candidate.
pub(super) fn deploy(
    state: &ServiceState,
    deployed: &Deployed,
    facts: &Facts,
) -> Result<ServiceState, Refusal> {
    let candidate = state.candidate();
    let service = state.name.clone();
    if state.weight != Weight::ZERO {
        return Err(Refusal::CandidateInUse { service, candidate, weight: state.weight });
    }
    if let Some(rollout) = state.planned() {
        return Err(Refusal::RolloutRuns { service, name: rollout.plan.name.clone() });
    }
    if deployed.endpoints.is_empty() {
        return Err(Refusal::Invalid("a deployment needs at least one endpoint".into()));
    }
    if deployed.endpoints.len() > ENDPOINTS_MAX {
        return Err(too_many(&service, candidate, deployed.endpoints.len()));
    }
    for (at, endpoint) in deployed.endpoints.iter().enumerate() {
        if deployed.endpoints[..at].iter().any(|earlier| earlier.url == endpoint.url) {
            return Err(Refusal::Invalid(format!("{} is named twice", endpoint.url)));
        }
        if facts.specs[state.stable].iter().any(|stable| stable.url == endpoint.url) {
            let (url, stable) = (endpoint.url.to_string(), state.stable);
            return Err(Refusal::SharedEndpoint { service, url, stable });
        }
    }
    let mut after = ServiceState { last_good: None, ..state.clone() };
    after.deployed[candidate] = Some(deployed.clone());
    after.overlay[candidate] = super::overlay::Overlay::default();
    Ok(after)
}

/// What a rollout's transition means for its service.
fn effected(state: &ServiceState, rollout: Rollout, effect: Effect, facts: &Facts, stamp: &Stamp) -> Turn {
    let mut after = ServiceState { rollout: Some(Arc::new(rollout)), ..state.clone() };
    if let Some(weight) = effect.weight {
        after.weight = weight;
    }
    if let Some((cause, reason)) = effect.lock {
        let kept = state.lock.clone().filter(|lock| lock.cause == Cause::Kill);
        after.lock = Some(kept.unwrap_or_else(|| Lock {
            cause,
            actor: stamp.actor.clone(),
            at: stamp.time,
            reason: Some(reason),
        }));
    }
    if effect.swaps_roles {
        let variant = state.stable;
        after.last_good = Some(LastGood { variant, endpoints: facts.specs[variant].clone() });
        after.stable = state.candidate();
        after.weight = Weight::ZERO;
    }
    let happened = (!effect.happened.is_empty()).then(|| Happened::new(effect.happened, effect.sentence));
    Turn::of(state, after, happened)
}

fn by_hand(weight: Weight, take_over: bool, config: &ServiceConfig) -> Shift {
    Shift { weight, take_over, mode: config.guard, gates: config.gates.clone(), slo: config.slo }
}

/// Whether anything may move toward the candidate.
fn may_rise(state: &ServiceState, facts: &Facts) -> Result<(), Refusal> {
    let service = state.name.clone();
    if let Some(lock) = &state.lock {
        return Err(Refusal::Locked { service, lock: lock.clone() });
    }
    if let Some(freeze) = &state.freeze {
        return Err(Refusal::Frozen { service, freeze: freeze.clone() });
    }
    let candidate = state.candidate();
    if !facts.healthy[candidate] {
        let endpoints = facts.specs[candidate].len();
        return Err(Refusal::NoHealthyCandidate { service, candidate, endpoints });
    }
    Ok(())
}

fn around(state: &ServiceState, facts: &Facts, stamp: &Stamp) -> Circumstances {
    Circumstances {
        at: stamp.time,
        actor: stamp.actor.as_str().into(),
        frozen: state.freeze.is_some(),
        locked: state.lock.is_some(),
        candidate_healthy: facts.healthy[state.candidate()],
    }
}

fn is_promoted(rollout: &Rollout) -> bool {
    matches!(&rollout.phase, Phase::Ended { how: Ending::Promoted })
}
