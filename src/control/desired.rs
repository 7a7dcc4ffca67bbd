//! What should be: where the traffic of every service is, and who put it there.
//!
//! This is what is saved. It is cheap to copy (services are shared), because each change makes a new
//! one and the old one is kept until the new one is in force.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::change::Delta;
use super::overlay::Overlay;
use crate::clock::Timestamp;
use crate::rollout::{Freeze, Rollout};
use crate::routing::Recognition;
use crate::shared_list::SharedList;
use crate::traffic::{Lock, PerVariant, Split, Variant, Weight};
use crate::upstream::EndpointSpec;

/// How many generation numbers are set aside on disk ahead of their use: after a crash the next one is
/// taken from beyond them, so a number that was given out and never saved is not given out again.
pub const GENERATIONS_AHEAD: u64 = 10_000;

/// How long the answer to an idempotency key is kept.
const ANSWERS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How many answers are kept at most; the oldest goes first. All are saved with each change.
const ANSWERS_MAX: usize = 1024;
/// How many services all kept answers speak of at most.
const ANSWERED_SERVICES_MAX: usize = 50_000;

/// The desired state of all services.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// The generation of the last change.
    pub generation: u64,
    services: SharedList<Arc<ServiceState>>,
    index: Arc<HashMap<Arc<str>, usize>>,
    answers: Arc<VecDeque<Arc<Answer>>>,
}

/// The desired state of one service.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ServiceState {
    /// The service's name.
    pub name: Arc<str>,
    /// The place in the stable role.
    pub stable: Variant,
    /// The candidate's weight.
    pub weight: Weight,
    /// The share of stable's visitors whose requests are copied to the candidate. 0 while there is a lock.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mirror: Weight,
    /// Changes whenever the weight becomes 0; what was pinned under another epoch does not count. Epochs
    /// are generation numbers, so they never repeat either.
    pub epoch: u64,
    /// How visitors are recognised.
    pub recognition: Recognition,
    /// Nothing moves toward the candidate while this is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    /// What deployments have put in place of the configured endpoints.
    #[serde(default)]
    pub deployed: PerVariant<Option<Deployed>>,
    /// What was changed about endpoints at run time, over what is configured or deployed.
    #[serde(default, skip_serializing_if = "is_bare")]
    pub overlay: PerVariant<Overlay>,
    /// The newest rollout, also after its end. Whenever the candidate has weight, it has one that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Arc<Rollout>>,
    /// Nothing advances while this is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Freeze>,
    /// What was stable before the roles swapped, as long as nothing else has happened to it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<LastGood>,
    /// The last change: its generation, who made it, and when.
    pub changed: Changed,
}

/// What a rollback after a promotion goes back to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LastGood {
    /// The place; a candidate since.
    pub variant: Variant,
    /// Its endpoints when it was stable: with others, it is not what it was.
    pub endpoints: Vec<EndpointSpec>,
}

/// A trace of a change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Changed {
    /// The generation from which it is in force.
    pub generation: u64,
    /// Who.
    pub actor: String,
    /// When.
    pub time: Timestamp,
}

/// Endpoints that a deployment put in place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Deployed {
    /// The endpoints.
    pub endpoints: Vec<EndpointSpec>,
    /// The version label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
}

/// What was answered to a request with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Answer {
    /// The key.
    pub key: String,
    /// Whose key it is.
    pub actor: String,
    /// A digest of the request.
    pub digest: String,
    /// When it was answered.
    pub time: Timestamp,
    /// From which generation the change is in force.
    pub generation: u64,
    /// How long it took to get there, in microseconds.
    pub live_us: u64,
    /// What changed.
    pub changes: Vec<Delta>,
}

fn is_bare(overlay: &PerVariant<Overlay>) -> bool {
    overlay.iter().all(|(_, overlay)| overlay.is_empty())
}

fn is_zero(share: &Weight) -> bool {
    *share == Weight::ZERO
}

impl ServiceState {
    /// The place in the candidate's role.
    pub fn candidate(&self) -> Variant {
        self.stable.other()
    }

    /// The rollout that runs, manual or planned.
    pub fn running(&self) -> Option<&Arc<Rollout>> {
        self.rollout.as_ref().filter(|rollout| !rollout.has_ended())
    }

    /// The planned rollout that runs.
    pub fn planned(&self) -> Option<&Arc<Rollout>> {
        self.running().filter(|rollout| !rollout.manual)
    }

    /// How visitors are recognised as soon as nobody's fate depends on it: as configured, and by the name of the
    /// planned rollout that runs.
    pub fn recognised(&self, configured: &Recognition) -> Recognition {
        let mut recognition = configured.clone();
        if let Some(rollout) = self.planned() {
            recognition.salt = rollout.plan.name.clone();
        }
        recognition
    }

    /// What the data plane decides by.
    pub fn split(&self) -> Split {
        Split {
            candidate: self.candidate(),
            weight: self.weight,
            by: self.recognition.by,
            otherwise: self.recognition.otherwise,
            ratchet: self.recognition.ratchet,
            epoch: self.epoch,
            salt: self.recognition.salt.clone(),
            lock: self.lock.as_ref().map(|lock| lock.cause),
        }
    }
}

impl Desired {
    /// From services with unique names.
    pub fn new(generation: u64, mut services: Vec<Arc<ServiceState>>) -> Self {
        services.sort_by(|one, other| one.name.cmp(&other.name));
        let index = services.iter().enumerate().map(|(at, service)| (service.name.clone(), at)).collect();
        let services = services.into_iter().collect();
        Self { generation, services, index: Arc::new(index), answers: Arc::default() }
    }

    /// All services by name.
    pub fn services(&self) -> &SharedList<Arc<ServiceState>> {
        &self.services
    }

    /// One service.
    pub fn service(&self, name: &str) -> Option<&Arc<ServiceState>> {
        self.services.get(*self.index.get(name)?)
    }

    /// Replaces the state of a service that is there already; others are left alone.
    pub fn replace(&mut self, state: ServiceState) {
        if let Some(at) = self.index.get(&state.name).copied() {
            self.services.set(at, Arc::new(state));
        }
    }

    /// Adds services that are not there yet.
    pub fn add(&mut self, states: impl IntoIterator<Item = ServiceState>) {
        let mut services: Vec<_> = self.services.iter().cloned().collect();
        services
            .extend(states.into_iter().filter(|state| !self.index.contains_key(&state.name)).map(Arc::new));
        let answers = std::mem::take(&mut self.answers);
        *self = Self { answers, ..Self::new(self.generation, services) };
    }

    /// What was answered to an actor's key.
    pub fn answer(&self, actor: &str, key: &str) -> Option<&Arc<Answer>> {
        self.answers.iter().rev().find(|answer| answer.key == key && answer.actor == actor)
    }

    /// Keeps an answer, and forgets the ones that are too old or too many.
    pub fn keep_answer(&mut self, answer: Answer) {
        let answers = Arc::make_mut(&mut self.answers);
        let now = answer.time;
        answers.retain(|old| {
            now.since(old.time) < ANSWERS_KEPT && (old.key != answer.key || old.actor != answer.actor)
        });
        let mut services: usize = answers.iter().map(|answer| answer.changes.len()).sum();
        services += answer.changes.len();
        while answers.len() >= ANSWERS_MAX || services > ANSWERED_SERVICES_MAX {
            match answers.pop_front() {
                Some(oldest) => services -= oldest.changes.len(),
                None => break,
            }
        }
        answers.push_back(Arc::new(answer));
    }
}

/// The saved form.
#[derive(Deserialize, Serialize)]
struct Saved {
    generation: u64,
    /// Numbers up to this one may have been given out.
    ceiling: u64,
    services: Vec<Arc<ServiceState>>,
    #[serde(default)]
    answers: Arc<VecDeque<Arc<Answer>>>,
}

/// A desired state as it was saved, and the generation numbers that may have been used since.
#[derive(Debug)]
pub struct Loaded {
    /// The state.
    pub desired: Desired,
    /// Later generations are larger than this.
    pub ceiling: u64,
}

impl Desired {
    /// The bytes to save, JSON. `ceiling`: generation numbers up to here may be given out before the next save.
    pub fn to_bytes(&self, ceiling: u64) -> Vec<u8> {
        let saved = Saved {
            generation: self.generation,
            ceiling,
            services: self.services.iter().cloned().collect(),
            answers: self.answers.clone(),
        };
        // Strings, numbers and lists: nothing here that JSON could refuse.
        serde_json::to_vec(&saved).unwrap_or_default()
    }

    /// Reads what [`Desired::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Loaded, serde_json::Error> {
        let saved: Saved = serde_json::from_slice(bytes)?;
        let desired = Self { answers: saved.answers, ..Self::new(saved.generation, saved.services) };
        Ok(Loaded { desired, ceiling: saved.ceiling.max(saved.generation) })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::traffic::{By, Otherwise};

    pub fn recognition(salt: &str) -> Recognition {
        Recognition {
            by: By::Cookie,
            user_keys: vec!["header:x-user-id".parse().unwrap()],
            otherwise: Otherwise::Cookie,
            ratchet: false,
            salt: salt.into(),
        }
    }

    pub fn service(name: &str, percent: u32) -> ServiceState {
        ServiceState {
            name: name.into(),
            stable: Variant::Blue,
            weight: Weight::from_percent(percent).unwrap(),
            mirror: Weight::ZERO,
            epoch: 1,
            recognition: recognition(name),
            lock: None,
            deployed: PerVariant::default(),
            overlay: PerVariant::default(),
            rollout: None,
            freeze: None,
            last_good: None,
            changed: Changed { generation: 1, actor: "tidegate".into(), time: Timestamp::from_millis(0) },
        }
    }

    fn answer(key: &str, time: u64) -> Answer {
        Answer {
            key: key.into(),
            actor: "uid 0".into(),
            digest: "d".into(),
            time: Timestamp::from_millis(time),
            generation: 1,
            live_us: 2,
            changes: vec![],
        }
    }

    #[test]
    fn what_is_saved_is_read_back() {
        let mut desired = Desired::new(41, vec![Arc::new(service("shop", 25)), Arc::new(service("cart", 0))]);
        desired.keep_answer(answer("k", 5));
        let loaded = Desired::from_bytes(&desired.to_bytes(50)).unwrap();
        assert_eq!(loaded.desired.generation, 41);
        assert_eq!(loaded.ceiling, 50);
        let states = |desired: &Desired| desired.services().iter().cloned().collect::<Vec<_>>();
        assert_eq!(states(&loaded.desired), states(&desired));
        assert_eq!(loaded.desired.answer("uid 0", "k"), desired.answer("uid 0", "k"));
        assert!(loaded.desired.answer("uid 1", "k").is_none());
        assert!(Desired::from_bytes(b"{}").is_err());
    }

    #[test]
    fn a_state_from_before_there_were_rollouts_still_loads() {
        let old = br#"{"generation":7,"ceiling":9,"services":[{"name":"shop","stable":"blue","weight":"5%","epoch":1,
            "recognition":{"by":"cookie","user_keys":[],"otherwise":"cookie","ratchet":false,"salt":"shop"},
            "deployed":{"blue":null,"green":null},
            "changed":{"generation":7,"actor":"uid 0","time":"2026-01-01T00:00:00Z"}}]}"#;
        let loaded = Desired::from_bytes(old).unwrap();
        let shop = loaded.desired.service("shop").unwrap();
        assert_eq!(
            (shop.rollout.is_none(), shop.freeze.is_none(), shop.last_good.is_none()),
            (true, true, true)
        );
        assert!(shop.overlay.blue.is_empty() && shop.overlay.green.is_empty());
        let saved = String::from_utf8(loaded.desired.to_bytes(9)).unwrap();
        assert!(!saved.contains("rollout") && !saved.contains("overlay"));
    }

    #[test]
    fn answers_are_kept_for_a_day() {
        let mut desired = Desired::default();
        let day = 24 * 3600 * 1000;
        desired.keep_answer(answer("old", 0));
        desired.keep_answer(answer("new", day - 1));
        assert!(desired.answer("uid 0", "old").is_some());
        desired.keep_answer(answer("newer", day));
        assert!(desired.answer("uid 0", "old").is_none());
        assert!(desired.answer("uid 0", "new").is_some());
        for key in 0..ANSWERS_MAX {
            desired.keep_answer(answer(&key.to_string(), day));
        }
        assert!(desired.answer("uid 0", "new").is_none());
        assert!(desired.answer("uid 0", "0").is_some());
    }
}
