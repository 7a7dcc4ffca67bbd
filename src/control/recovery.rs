//! Where traffic is when a process starts.
//!
//! As it was, if the newest state can be read; kills that did not reach it in time are made up for from the
//! kill file. If it cannot be read, nobody knows where traffic should be: everyone goes to stable, every
//! service is locked, and it is said loudly.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::acts;
use super::desired::{Changed, Desired, GENERATIONS_AHEAD, Loaded, ServiceState};
use super::reload::{Keep, left_of};
use super::settings::ServiceConfig;
use crate::clock::Timestamp;
use crate::rollout::{Ending, Phase, Rollout};
use crate::store::Origin;
use crate::traffic::{Cause, Lock, PerVariant, Weight};

/// The actor of what Tidegate does by itself.
pub const TIDEGATE: &str = "tidegate";

/// What the kill file holds: every lock in force when it was written that came with weight 0, by a kill or by a
/// failed rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct KillFile {
    /// Generation numbers up to here may have been given out.
    pub ceiling: u64,
    /// The kills.
    pub kills: Vec<Kills>,
}

/// Services killed by the same change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Kills {
    /// The generation of the change.
    pub generation: u64,
    /// The lock.
    pub lock: Lock,
    /// Which services. `None` if there were too many names for the file: all of them.
    pub services: Option<Vec<Arc<str>>>,
}

impl KillFile {
    /// The kill locks of a state.
    pub fn of(desired: &Desired, ceiling: u64) -> Self {
        let mut kills: Vec<Kills> = Vec::new();
        for state in desired.services().iter() {
            let Some(lock) = state.lock.as_ref().filter(|lock| is_kept(lock.cause)) else { continue };
            // The epoch is the generation of the kill, whatever changed afterwards.
            match kills.iter_mut().rev().find(|kill| kill.generation == state.epoch && kill.lock == *lock) {
                Some(Kills { services: Some(services), .. }) => services.push(state.name.clone()),
                _ => kills.push(Kills {
                    generation: state.epoch,
                    lock: lock.clone(),
                    services: Some(vec![state.name.clone()]),
                }),
            }
        }
        Self { ceiling, kills }
    }

    /// As JSON of at most `bytes_max`: lists of names that do not fit become «all», which is the safe side.
    pub fn to_bytes(&self, bytes_max: usize) -> Vec<u8> {
        let full = serde_json::to_vec(self).unwrap_or_default();
        if full.len() <= bytes_max {
            return full;
        }
        let newest = self.kills.iter().max_by_key(|kill| kill.generation);
        let all = newest.map(|kill| Kills { services: None, ..kill.clone() });
        serde_json::to_vec(&Self { ceiling: self.ceiling, kills: all.into_iter().collect() })
            .unwrap_or_default()
    }
}

/// Whether a lock of this cause is in the kill file. A lost state is found to be lost again.
pub(super) fn is_kept(cause: Cause) -> bool {
    match cause {
        Cause::Kill | Cause::FailedRollout | Cause::DeadCandidate => true,
        Cause::StateLost => false,
    }
}

/// Where to start from.
#[derive(Debug)]
pub struct Start {
    /// The state; it has every configured service.
    pub desired: Desired,
    /// Later generations are larger than this.
    pub ceiling: u64,
    /// What a person has to be told, if anything.
    pub alarm: Option<String>,
}

/// Puts together what the state folder gave. `kills`: what the kill file held; `kills_lost`: it was
/// there and could not be read.
pub fn start(
    payload: Option<Vec<u8>>,
    origin: &Origin,
    kills: Option<KillFile>,
    kills_lost: Option<String>,
    configs: &[Arc<ServiceConfig>],
    now: Timestamp,
) -> Start {
    let (loaded, damage) = match (payload.as_deref().map(Desired::from_bytes), origin) {
        (Some(Ok(loaded)), Origin::Current | Origin::Fresh) => (Some(loaded), None),
        (Some(Ok(loaded)), Origin::Previous { why } | Origin::Lost { why }) => {
            (Some(loaded), Some(why.clone()))
        }
        (Some(Err(error)), _) => (None, Some(format!("the state has an unknown form: {error}"))),
        (None, Origin::Previous { why } | Origin::Lost { why }) => (None, Some(why.clone())),
        (None, Origin::Fresh | Origin::Current) => (None, None),
    };
    let lost = loaded.is_none() && damage.is_some();
    let Loaded { mut desired, ceiling } =
        loaded.unwrap_or(Loaded { desired: Desired::default(), ceiling: 0 });
    let kills = kills.unwrap_or_default();
    let mut ceiling = ceiling.max(kills.ceiling);
    if lost && kills.ceiling == 0 {
        // Nothing says which numbers were used. Milliseconds since 1970 are beyond any that were.
        ceiling = now.as_millis();
    }

    if matches!(origin, Origin::Previous { .. }) {
        // The newest state, which cannot be read, had reserved more.
        ceiling = ceiling.saturating_add(2 * GENERATIONS_AHEAD);
    }
    let generation = ceiling.saturating_add(1);
    let by_us = |generation| Changed { generation, actor: TIDEGATE.to_owned(), time: now };
    desired.add(configs.iter().map(|config| first_state(config, by_us(generation))));
    let is_new = desired.generation == 0;
    let saved_generation = desired.generation;
    if is_new {
        desired.generation = generation;
    }

    let mut made_up = 0;
    for kill in kills.kills.iter().filter(|kill| kill.generation > saved_generation) {
        let named =
            |state: &ServiceState| kill.services.as_ref().is_none_or(|names| names.contains(&state.name));
        let killed: Vec<_> = desired.services().iter().filter(|state| named(state)).cloned().collect();
        for state in killed {
            made_up += 1;
            desired.replace(ServiceState {
                weight: Weight::ZERO,
                mirror: Weight::ZERO,
                epoch: kill.generation,
                lock: Some(kill.lock.clone()),
                rollout: state.rollout.as_ref().map(|rollout| locked_out(rollout, &kill.lock)),
                changed: Changed {
                    generation: kill.generation,
                    actor: kill.lock.actor.clone(),
                    time: kill.lock.at,
                },
                ..ServiceState::clone(&state)
            });
            desired.generation = desired.generation.max(kill.generation);
        }
    }

    let damage = damage.or_else(|| kills_lost.map(|why| format!("the kill file could not be read: {why}")));
    let alarm = match &damage {
        Some(why) => {
            lock_all(&mut desired, generation, why, now);
            Some(format!("{why}. Everyone is on stable and every service is locked"))
        }
        None if made_up > 0 => Some(format!("{made_up} kill(s) came from the kill file, not from the state")),
        None => None,
    };
    for config in configs {
        if let Some(state) = desired.service(&config.settings.name).cloned() {
            let overlay = left_of(&state, config, Keep::All);
            if overlay != state.overlay {
                desired.replace(ServiceState { overlay, ..ServiceState::clone(&state) });
            }
        }
        let state = desired.service(&config.settings.name).cloned();
        if let Some(state) = state.and_then(|state| acts::guarded(&state, config, &by_us(generation))) {
            desired.replace(state);
        }
    }
    Start { desired, ceiling: generation, alarm }
}

/// The state of a service that was never here.
pub fn first_state(config: &ServiceConfig, changed: Changed) -> ServiceState {
    ServiceState {
        name: config.settings.name.clone(),
        stable: config.stable,
        weight: config.initial_weight,
        mirror: config.initial_mirror,
        epoch: changed.generation,
        recognition: config.recognition.clone(),
        lock: None,
        deployed: PerVariant::default(),
        overlay: PerVariant::default(),
        rollout: None,
        freeze: None,
        last_good: None,
        changed,
    }
}

/// The rollout of a service that is locked at a start: it has ended.
fn locked_out(rollout: &Arc<Rollout>, lock: &Lock) -> Arc<Rollout> {
    if rollout.has_ended() {
        return rollout.clone();
    }
    let killed = rollout.killed(lock.at);
    if lock.cause == Cause::Kill {
        return Arc::new(killed);
    }
    let why = lock.reason.clone().unwrap_or_else(|| lock.cause.to_string());
    Arc::new(Rollout { phase: Phase::Ended { how: Ending::RolledBack { why } }, ..killed })
}

fn lock_all(desired: &mut Desired, generation: u64, why: &str, now: Timestamp) {
    let lost =
        Lock { cause: Cause::StateLost, actor: TIDEGATE.to_owned(), at: now, reason: Some(why.to_owned()) };
    let states: Vec<_> = desired.services().iter().cloned().collect();
    for state in states {
        let kept = state.lock.clone().filter(|lock| lock.cause == Cause::Kill);
        desired.replace(ServiceState {
            weight: Weight::ZERO,
            mirror: Weight::ZERO,
            epoch: generation,
            rollout: state.rollout.as_ref().map(|rollout| locked_out(rollout, &lost)),
            lock: Some(kept.unwrap_or_else(|| lost.clone())),
            changed: Changed { generation, actor: TIDEGATE.to_owned(), time: now },
            ..ServiceState::clone(&state)
        });
    }
    desired.generation = generation;
}
