//! Changes to the desired state, and what they need.
//!
//! A change is applied to a copy: all of it or nothing. Its direction says how it becomes durable. *Toward
//! stable* means that nobody's chance of the candidate can rise: such a change is in force at once, and
//! the disk may follow. Everything else, every mixed change included, is *toward the candidate* and waits for the disk first.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::acts::{self, Turn};
use super::desired::{Changed, Deployed, Desired, ServiceState};
use super::endpoints::{self, EndpointChange, EndpointsChanged};
use super::recovery::is_kept;
pub use super::refusal::Refusal;
use super::settings::ServiceConfig;
use crate::clock::Timestamp;
use crate::rollout::{Act, Freeze, Plan};
use crate::traffic::{Lock, PerVariant, Variant, Weight};
use crate::upstream::{EndpointSpec, EndpointUrl};

/// What somebody wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Other weights for some services, all or none.
    Shift {
        /// The candidate's weight by service.
        weights: BTreeMap<Arc<str>, Weight>,
        /// Only if none of them changed after this generation.
        if_generation: Option<u64>,
        /// Also up while a rollout drives a service: that ends it.
        take_over: bool,
    },
    /// Other shares of stable's visitors whose requests are copied to the candidate, all or none.
    Mirror {
        /// The share by service.
        shares: BTreeMap<Arc<str>, Weight>,
        /// Only if none of them changed after this generation.
        if_generation: Option<u64>,
    },
    /// A rollout of the candidate.
    Start {
        /// The service.
        service: Arc<str>,
        /// What it does.
        plan: Arc<Plan>,
    },
    /// Something is done to a service's rollout.
    Rollout {
        /// The service.
        service: Arc<str>,
        /// What.
        act: Act,
    },
    /// What guards have found, each for its service. What is void or refused by now is left out.
    Steps(Vec<FoundStep>),
    /// A launch is stopped for what its traffic did: its candidate gets nobody any more, and the service is locked.
    Trip {
        /// The service.
        service: Arc<str>,
        /// The place that the launch brings its version to, also if it is stable by now.
        candidate: Variant,
        /// What went wrong.
        sentence: String,
    },
    /// Advances stop, or may go on.
    Freeze {
        /// Of which services.
        selection: Selection,
        /// Whether they stop.
        on: bool,
    },
    /// Everybody to stable, and locked.
    Kill(Selection),
    /// Locks off. Moves no traffic.
    Arm(Selection),
    /// Other endpoints for the candidate, at weight 0 only.
    Deploy {
        /// The service.
        service: Arc<str>,
        /// What takes the place of the candidate's endpoints.
        deployed: Deployed,
    },
    /// Endpoints come, go or rest, whatever the weight. Moves nobody to another variant.
    Endpoints(EndpointChange),
}

impl Change {
    /// Its name in metrics and in the audit log.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Shift { .. } => "shift",
            Self::Mirror { .. } => "mirror",
            Self::Start { .. } | Self::Rollout { .. } | Self::Steps(_) | Self::Trip { .. } => "rollout",
            Self::Freeze { .. } => "freeze",
            Self::Kill(_) => "kill",
            Self::Arm(_) => "arm",
            Self::Deploy { .. } => "deploy",
            Self::Endpoints(_) => "endpoint",
        }
    }
}

/// A step that a guard has found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundStep {
    /// The service.
    pub service: Arc<str>,
    /// The `id` of the rollout that it is for: void for any other.
    pub rollout: u64,
    /// What has to be done.
    pub act: Act,
}

/// Which services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All that are configured.
    All,
    /// These.
    Named(Vec<Arc<str>>),
}

/// Whether somebody's chance of the candidate can rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// No.
    TowardStable,
    /// Yes.
    TowardCandidate,
}

/// What is known about a configured service at the moment of a change.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What the configuration says.
    pub config: Arc<ServiceConfig>,
    /// The endpoints of each variant.
    pub specs: PerVariant<Vec<EndpointSpec>>,
    /// Those of them that requests may be sent to.
    pub usable: PerVariant<Vec<EndpointUrl>>,
    /// Whether one of them is healthy.
    pub healthy: PerVariant<bool>,
}

/// The circumstances of a change.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// The generation that it will be in force from.
    pub generation: u64,
    /// When.
    pub time: Timestamp,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
}

/// A change applied to a copy of the state.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The new state.
    pub desired: Desired,
    /// What became of each service that was named.
    pub changes: Vec<Delta>,
    /// How it becomes durable.
    pub direction: Direction,
}

impl Applied {
    /// Whether there is anything to do.
    pub fn is_noop(&self) -> bool {
        self.changes.iter().all(|delta| !delta.changed)
    }
}

/// What became of one service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Delta {
    /// The service.
    pub service: Arc<str>,
    /// The place in the candidate's role.
    pub candidate: Variant,
    /// The candidate's weight before.
    pub from: Weight,
    /// The candidate's weight after.
    pub to: Weight,
    /// The share that is mirrored, before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mirror_before: Weight,
    /// The share that is mirrored, after.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mirror: Weight,
    /// The lock before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_before: Option<Lock>,
    /// The lock after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    /// What was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Deployed>,
    /// What became of endpoints at run time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<EndpointsChanged>,
    /// Whether the roles have swapped: the candidate is another place than before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub swapped: bool,
    /// Whether advances are frozen afterwards.
    #[serde(default, skip_serializing_if = "is_false")]
    pub frozen: bool,
    /// What became of its rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub happened: Option<Happened>,
    /// Whether anything is different.
    pub changed: bool,
}

/// What became of a rollout, for people.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Happened {
    /// `start`, `stage`, `pause`, `resume`, `rollback`, `promotion` or `keep-over`.
    pub what: String,
    /// A sentence.
    pub sentence: String,
}

impl Happened {
    pub(super) fn new(what: &str, sentence: String) -> Self {
        Self { what: what.to_owned(), sentence }
    }
}

fn is_zero(share: &Weight) -> bool {
    *share == Weight::ZERO
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Applies `change` to a copy of `desired`. `facts` knows the configured services; a service that is
/// only in the state, because the configuration no longer has it, cannot be changed.
pub fn apply(
    desired: &Desired,
    change: &Change,
    facts: &dyn Fn(&str) -> Option<Facts>,
    stamp: &Stamp,
) -> Result<Applied, Refusal> {
    let find = |name: &Arc<str>| match (desired.service(name), facts(name)) {
        (Some(state), Some(facts)) => Ok((state.as_ref(), facts)),
        _ => Err(unknown(desired, name, facts)),
    };
    let selected = |selection: &Selection| -> Result<Vec<Arc<str>>, Refusal> {
        match selection {
            Selection::All => {
                let all = desired.services().iter().map(|state| state.name.clone());
                Ok(all.filter(|name| facts(name).is_some()).collect())
            }
            Selection::Named(names) if names.is_empty() => Err(Refusal::Nothing),
            Selection::Named(names) => Ok(names.clone()),
        }
    };

    let mut next = desired.clone();
    let mut changes = Vec::new();
    let mut direction = Direction::TowardStable;
    let mut put = |before: &ServiceState, turn: Turn, facts: &Facts| {
        if turn.direction == Direction::TowardCandidate {
            direction = Direction::TowardCandidate;
        }
        let (after, changed) = stamped(before, turn.after, facts, stamp);
        // Stages that mirror bring it along.
        if after.mirror > before.mirror {
            direction = Direction::TowardCandidate;
        }
        changes.push(Delta {
            service: before.name.clone(),
            candidate: after.candidate(),
            from: before.weight,
            to: after.weight,
            mirror_before: before.mirror,
            mirror: after.mirror,
            lock_before: before.lock.clone(),
            lock: after.lock.clone(),
            deployed: None,
            endpoints: None,
            swapped: before.stable != after.stable,
            frozen: after.freeze.is_some(),
            happened: turn.happened.filter(|_| changed),
            changed,
        });
        if changed {
            next.replace(after);
        }
    };

    match change {
        Change::Shift { weights, if_generation, take_over } => {
            if weights.is_empty() {
                return Err(Refusal::Nothing);
            }
            for (name, weight) in weights {
                let (state, facts) = find(name)?;
                is_known(state, *if_generation)?;
                put(state, acts::shift(state, *weight, *take_over, &facts, stamp)?, &facts);
            }
        }
        Change::Mirror { shares, if_generation } => {
            if shares.is_empty() {
                return Err(Refusal::Nothing);
            }
            for (name, share) in shares {
                let (state, facts) = find(name)?;
                is_known(state, *if_generation)?;
                put(state, acts::mirror(state, *share, &facts)?, &facts);
            }
        }
        Change::Start { service, plan } => {
            let (state, facts) = find(service)?;
            put(state, acts::start(state, plan, &facts, stamp)?, &facts);
        }
        Change::Rollout { service, act } => {
            let (state, facts) = find(service)?;
            let turn = acts::act(state, act, &facts, stamp)?;
            put(state, turn.unwrap_or_else(|| Turn::none(state)), &facts);
        }
        Change::Steps(steps) => {
            for step in steps {
                let Ok((state, facts)) = find(&step.service) else { continue };
                if state.running().is_none_or(|rollout| rollout.id != step.rollout) {
                    continue;
                }
                if let Ok(Some(turn)) = acts::act(state, &step.act, &facts, stamp) {
                    put(state, turn, &facts);
                }
            }
            if changes.is_empty() {
                // Nobody has asked for less of anything.
                direction = Direction::TowardCandidate;
            }
        }
        Change::Trip { service, candidate, sentence } => {
            let (state, facts) = find(service)?;
            put(state, acts::trip(state, *candidate, sentence, &facts, stamp), &facts);
        }
        Change::Freeze { selection, on } => {
            for name in selected(selection)? {
                let (state, facts) = find(&name)?;
                let by_now =
                    || Freeze { actor: stamp.actor.clone(), at: stamp.time, reason: stamp.reason.clone() };
                let freeze = on.then(|| state.freeze.clone().unwrap_or_else(by_now));
                let direction = if *on { Direction::TowardStable } else { Direction::TowardCandidate };
                let after = ServiceState { freeze, ..state.clone() };
                put(state, Turn { after, direction, happened: None }, &facts);
            }
        }
        Change::Kill(selection) => {
            for name in selected(selection)? {
                let (state, facts) = find(&name)?;
                put(state, acts::kill(state, stamp), &facts);
            }
        }
        Change::Arm(selection) => {
            for name in selected(selection)? {
                let (state, facts) = find(&name)?;
                let after = ServiceState { lock: None, ..state.clone() };
                put(state, Turn { after, direction: Direction::TowardCandidate, happened: None }, &facts);
            }
        }
        Change::Deploy { service, deployed } => {
            let (state, facts) = find(service)?;
            let after = acts::deploy(state, deployed, &facts)?;
            put(state, Turn { after, direction: Direction::TowardCandidate, happened: None }, &facts);
            if let Some(delta) = changes.last_mut() {
                delta.deployed = Some(deployed.clone());
            }
        }
        Change::Endpoints(EndpointChange { service, variant, act, force, if_generation }) => {
            let (state, facts) = find(service)?;
            is_known(state, *if_generation)?;
            let (turn, told) = endpoints::change(state, *variant, act, *force, &facts)?;
            put(state, turn, &facts);
            if let Some(delta) = changes.last_mut() {
                delta.endpoints = Some(told);
            }
        }
    }
    if changes.iter().any(|delta| delta.changed) {
        next.generation = stamp.generation;
    }
    Ok(Applied { desired: next, changes, direction })
}

/// Fills in what follows from a change: the epoch, what recognises visitors, who did it.
fn stamped(
    before: &ServiceState,
    mut after: ServiceState,
    facts: &Facts,
    stamp: &Stamp,
) -> (ServiceState, bool) {
    // The kill file knows a lock by its epoch, also one that came at weight 0.
    let kept =
        |state: &ServiceState| state.lock.as_ref().map(|lock| lock.cause).filter(|cause| is_kept(*cause));
    let mirrors = |state: &ServiceState| state.planned().and_then(|rollout| rollout.mirrors());
    match (mirrors(before), mirrors(&after)) {
        (was, Some(share)) if was != Some(share) => after.mirror = share,
        (Some(_), None) => after.mirror = Weight::ZERO,
        _ => {}
    }
    // Neither a candidate that is locked nor one that was stable until now is to get copies; nobody has asked for that.
    if after.lock.is_some() || before.stable != after.stable {
        after.mirror = Weight::ZERO;
    }
    if *before == after {
        return (after, false);
    }
    let emptied = after.weight == Weight::ZERO && before.weight != Weight::ZERO;
    if emptied || before.stable != after.stable || (kept(&after).is_some() && kept(&after) != kept(before)) {
        after.epoch = stamp.generation;
    }
    if !(before.weight.is_partial() && after.weight.is_partial()) {
        after.recognition = after.recognised(&facts.config.recognition);
    }
    after.changed = Changed { generation: stamp.generation, actor: stamp.actor.clone(), time: stamp.time };
    (after, true)
}

/// Refuses a change by somebody who has not seen the last one.
fn is_known(state: &ServiceState, if_generation: Option<u64>) -> Result<(), Refusal> {
    match if_generation {
        Some(expected) if state.changed.generation > expected => Err(Refusal::Stale {
            service: state.name.clone(),
            generation: state.changed.generation,
            expected,
            actor: state.changed.actor.clone(),
            time: state.changed.time,
        }),
        _ => Ok(()),
    }
}

fn unknown(desired: &Desired, name: &str, facts: &dyn Fn(&str) -> Option<Facts>) -> Refusal {
    let known: Vec<&str> = desired
        .services()
        .iter()
        .map(|state| &*state.name)
        .filter(|name| facts(name).is_some())
        .take(21)
        .collect();
    let known = match known.len() {
        0 => "no service is configured".to_owned(),
        1..=20 => format!("there is {}", known.join(", ")),
        _ => "see `tidegate status` for those there are".to_owned(),
    };
    Refusal::UnknownService { name: name.to_owned(), known }
}

#[cfg(test)]
mod tests {
    use super::super::desired::LastGood;
    use super::super::desired::tests::{recognition, service};
    use super::super::endpoints::EndpointAct;
    use super::super::tests::config;
    use super::*;
    use crate::rollout::{Hold, Stage, Step, Verb};
    use crate::traffic::Cause;
    use proptest::prelude::*;

    fn desired(services: &[ServiceState]) -> Desired {
        Desired::new(10, services.iter().cloned().map(Arc::new).collect())
    }

    fn facts(healthy: bool) -> impl Fn(&str) -> Option<Facts> {
        move |name| {
            let green = if healthy { vec![endpoint("http://green:1")] } else { Vec::new() };
            (name != "gone").then(|| Facts {
                config: Arc::new(ServiceConfig { recognition: recognition("newer"), ..config(name) }),
                specs: PerVariant { blue: vec![endpoint("http://blue:1")], green },
                usable: PerVariant {
                    blue: urls("http://blue:1"),
                    green: if healthy { urls("http://green:1") } else { Vec::new() },
                },
                healthy: PerVariant { blue: true, green: healthy },
            })
        }
    }

    fn urls(url: &str) -> Vec<EndpointUrl> {
        vec![url.parse().unwrap()]
    }

    fn endpoint(url: &str) -> EndpointSpec {
        EndpointSpec { url: url.parse().unwrap(), weight: 1 }
    }

    fn stamp() -> Stamp {
        Stamp {
            generation: 11,
            time: Timestamp::from_millis(1000),
            actor: "uid 1".into(),
            reason: Some("why".into()),
        }
    }

    fn shift(weights: &[(&str, u32)]) -> Change {
        let weights =
            weights.iter().map(|(name, percent)| ((*name).into(), Weight::from_percent(*percent).unwrap()));
        Change::Shift { weights: weights.collect(), if_generation: None, take_over: false }
    }

    fn mirror(service: &str, percent: u32) -> Change {
        let shares = BTreeMap::from([(service.into(), Weight::from_percent(percent).unwrap())]);
        Change::Mirror { shares, if_generation: None }
    }

    fn kill(names: &[&str]) -> Change {
        Change::Kill(Selection::Named(names.iter().map(|name| (*name).into()).collect()))
    }

    fn locked(name: &str) -> ServiceState {
        let lock =
            Lock { cause: Cause::Kill, actor: "uid 2".into(), at: Timestamp::from_millis(5), reason: None };
        ServiceState { lock: Some(lock), ..service(name, 0) }
    }

    #[test]
    fn a_shift_sets_weights_all_or_none() {
        let before = desired(&[service("shop", 5), service("cart", 50)]);
        let applied = apply(&before, &shift(&[("shop", 25), ("cart", 10)]), &facts(true), &stamp()).unwrap();
        assert_eq!(applied.direction, Direction::TowardCandidate);
        assert_eq!(applied.desired.generation, 11);
        let shop = applied.desired.service("shop").unwrap();
        assert_eq!((shop.weight.to_string(), shop.epoch, shop.changed.generation), ("25%".into(), 1, 11));
        assert_eq!(
            &*shop.recognition.salt, "shop",
            "what recognises visitors stays while the share is partial"
        );

        let refused =
            apply(&before, &shift(&[("shop", 0), ("cart", 10), ("nope", 1)]), &facts(true), &stamp());
        assert_eq!(refused.unwrap_err().to_string(), r#"there is no service "nope"; there is cart, shop"#);
    }

    #[test]
    fn only_downward_shifts_are_toward_stable() {
        #[track_caller]
        fn check(weights: &[(&str, u32)], expected: Direction) {
            let before = desired(&[service("shop", 5), service("cart", 50)]);
            let applied = apply(&before, &shift(weights), &facts(true), &stamp()).unwrap();
            assert_eq!(applied.direction, expected);
        }
        check(&[("shop", 4)], Direction::TowardStable);
        check(&[("shop", 5)], Direction::TowardStable);
        check(&[("shop", 6)], Direction::TowardCandidate);
        check(&[("shop", 0), ("cart", 51)], Direction::TowardCandidate);
        check(&[("shop", 0), ("cart", 0)], Direction::TowardStable);
    }

    #[test]
    fn weight_zero_begins_an_epoch_and_lets_new_settings_in() {
        let before = desired(&[service("shop", 5), service("cart", 0)]);
        let applied = apply(&before, &shift(&[("shop", 0), ("cart", 0)]), &facts(true), &stamp()).unwrap();
        let (shop, cart) =
            (applied.desired.service("shop").unwrap(), applied.desired.service("cart").unwrap());
        assert_eq!((shop.epoch, &*shop.recognition.salt), (11, "newer"));
        assert_eq!((cart.epoch, cart.changed.generation), (1, 1), "nothing changed for cart");
        assert!(!applied.changes[0].changed && applied.changes[1].changed);
    }

    #[test]
    fn a_kill_needs_nothing_and_is_idempotent() {
        let before = desired(&[service("shop", 5), service("cart", 0)]);
        let applied = apply(&before, &Change::Kill(Selection::All), &facts(false), &stamp()).unwrap();
        assert_eq!(applied.direction, Direction::TowardStable);
        for state in applied.desired.services().iter() {
            assert_eq!((state.weight, state.epoch), (Weight::ZERO, 11));
            assert_eq!(state.lock.as_ref().unwrap().reason.as_deref(), Some("why"));
        }
        let later = Stamp { generation: 12, actor: "uid 9".into(), ..stamp() };
        let again = apply(&applied.desired, &kill(&["shop"]), &facts(false), &later).unwrap();
        assert!(again.is_noop());
        assert_eq!(again.desired.generation, 11);
        assert_eq!(again.changes[0].lock.as_ref().unwrap().actor, "uid 1");
    }

    #[test]
    fn arm_removes_the_lock_and_moves_no_traffic() {
        let before = desired(&[locked("shop")]);
        let arm = Change::Arm(Selection::Named(vec!["shop".into()]));
        let applied = apply(&before, &arm, &facts(true), &stamp()).unwrap();
        let shop = applied.desired.service("shop").unwrap();
        assert_eq!((shop.weight, shop.lock.as_ref(), shop.epoch), (Weight::ZERO, None, 1));
        assert_eq!(applied.direction, Direction::TowardCandidate);
    }

    #[test]
    fn endpoints_come_and_go_and_the_split_stays() {
        let known = |name: &str| {
            facts(true)(name).map(|facts| {
                let mut config = ServiceConfig::clone(&facts.config);
                let all =
                    |place: &str| ["1", "2"].map(|port| endpoint(&format!("http://{place}:{port}"))).to_vec();
                config.endpoints = PerVariant { blue: all("blue"), green: all("green") };
                let usable =
                    config.endpoints.clone().map(|_, all| all.into_iter().map(|spec| spec.url).collect());
                let specs = config.endpoints.clone();
                Facts { config: Arc::new(config), specs, usable, ..facts }
            })
        };
        let at = |urls: &[&str]| urls.iter().map(|url| endpoint(url)).collect::<Vec<_>>();
        let change = |variant, act, force| {
            Change::Endpoints(EndpointChange {
                service: "shop".into(),
                variant,
                act,
                force,
                if_generation: None,
            })
        };
        let try_it = |percent: u32, variant, act: &EndpointAct, force| {
            let before = desired(&[service("shop", percent)]);
            apply(&before, &change(variant, act.clone(), force), &known, &stamp())
        };
        let (blue, green) = (Variant::Blue, Variant::Green);
        use EndpointAct::{Add, Drain, Remove, Undrain};

        for (variant, act, direction) in [
            (green, Add(at(&["http://new:1", "http://new:2"])), Direction::TowardCandidate),
            (blue, Add(at(&["http://new:1"])), Direction::TowardCandidate),
            (green, Remove(at(&["http://green:1"])), Direction::TowardStable),
            (blue, Drain(at(&["http://blue:2"])), Direction::TowardStable),
            (blue, Undrain(at(&["http://blue:2"])), Direction::TowardCandidate),
        ] {
            let applied = try_it(25, variant, &act, false).unwrap();
            let state = applied.desired.service("shop").unwrap();
            assert_eq!((applied.direction, state.weight.to_string()), (direction, "25%".into()), "{act:?}");
            assert_eq!(state.overlay[variant].is_empty(), matches!(act, Undrain(_)), "{act:?}");
            assert!(state.overlay[variant.other()].is_empty());
            assert_eq!(state.split(), service("shop", 25).split());
        }

        #[track_caller]
        fn refused(result: Result<Applied, Refusal>, expected: &str) {
            let refusal = result.unwrap_err().to_string();
            assert!(refusal.contains(expected), "{refusal}");
        }
        let check = |percent, variant, act: EndpointAct, expected: &str| {
            refused(try_it(percent, variant, &act, false), expected);
        };
        check(0, green, Add(at(&["http://green:1"])), "already, with weight 1, so there is nothing to add");
        check(
            0,
            green,
            Add(at(&["http://blue:1"])),
            "`tidegate endpoint remove shop blue http://blue:1` first",
        );
        check(0, green, Add(at(&["http://new:1", "http://new:1"])), "named twice");
        check(0, green, Add(vec![]), "no endpoint was named");
        check(0, green, Remove(vec![endpoint("http://new:1"); 1001]), "1000 is the most");
        let heavy = Add(vec![EndpointSpec { weight: 5, ..endpoint("http://green:1") }]);
        refused(try_it(0, green, &heavy, false), "say --force to change its weight");
        let unknown = "green has no endpoint http://nope:1; there is http://green:1, http://green:2";
        check(0, green, Remove(at(&["http://nope:1"])), unknown);
        check(0, green, Drain(at(&["http://nope:1"])), unknown);
        check(0, green, Undrain(at(&["http://nope:1"])), unknown);
        let all = |place: &str| at(&[&format!("http://{place}:1"), &format!("http://{place}:2")]);
        let last = "blue, the stable variant, would have no endpoint left";
        check(100, blue, Remove(all("blue")), last);
        check(0, blue, Drain(all("blue")), last);
        check(
            5,
            green,
            Drain(all("green")),
            "green, which has 5% of the traffic, would have no endpoint left",
        );
        assert!(try_it(0, green, &Drain(all("green")), false).is_ok(), "nobody is sent there");

        // Whoever insists is told what it took.
        for (variant, act) in [(blue, Remove(all("blue"))), (green, heavy)] {
            let forced = try_it(5, variant, &act, true).unwrap();
            let told = forced.changes[0].endpoints.clone().unwrap();
            assert!(told.forced.is_some(), "{told:?}");
            let state = forced.desired.service("shop").unwrap();
            let loaded = Desired::from_bytes(&forced.desired.to_bytes(99)).unwrap();
            assert_eq!(loaded.desired.service("shop").unwrap(), state);
        }
        let unforced = try_it(5, green, &Add(at(&["http://new:1"])), true).unwrap();
        assert_eq!(unforced.changes[0].endpoints.clone().unwrap().forced, None, "nothing spoke against it");

        // One that is left and does not answer is as good as none.
        let dead = |name: &str| {
            known(name).map(|mut facts| {
                facts.usable.blue.pop();
                facts
            })
        };
        let drain = change(blue, Drain(at(&["http://blue:1"])), false);
        let result = apply(&desired(&[service("shop", 5)]), &drain, &dead, &stamp());
        refused(result, "would have no healthy endpoint left");

        // The way back after a promotion goes along, if it was open.
        for (known_then, expected) in [(all("green"), 1), (at(&["http://elsewhere:1"]), 1), (vec![], 0)] {
            let was_open = known_then == all("green");
            let good = LastGood { variant: green, endpoints: known_then.clone() };
            let before = desired(&[ServiceState { last_good: Some(good), ..service("shop", 0) }]);
            let remove = change(green, Remove(at(&["http://green:1"])), false);
            let after = apply(&before, &remove, &known, &stamp()).unwrap().desired;
            let good = after.service("shop").unwrap().last_good.clone().unwrap();
            assert_eq!(good.endpoints.len(), expected);
            assert_eq!(good.endpoints == known_then, !was_open);
        }

        // A deployment takes the place of everything.
        let added = try_it(0, green, &Add(at(&["http://new:1"])), false).unwrap().desired;
        let deployed = Deployed { endpoints: at(&["http://next:1"]), version: None };
        let deploy = Change::Deploy { service: "shop".into(), deployed };
        let after = apply(&added, &deploy, &known, &stamp()).unwrap().desired;
        assert!(after.service("shop").unwrap().overlay.green.is_empty());
    }

    #[test]
    fn mirroring_more_is_toward_the_candidate_and_ends_with_a_kill() {
        let before = desired(&[service("shop", 0)]);
        let more = apply(&before, &mirror("shop", 10), &facts(true), &stamp()).unwrap();
        assert_eq!(more.direction, Direction::TowardCandidate);
        let shop = more.desired.service("shop").unwrap();
        assert_eq!((shop.mirror.to_string(), shop.weight, shop.epoch), ("10%".into(), Weight::ZERO, 1));
        let less = apply(&more.desired, &mirror("shop", 5), &facts(false), &stamp()).unwrap();
        assert_eq!(less.direction, Direction::TowardStable);
        let killed = apply(&more.desired, &kill(&["shop"]), &facts(true), &stamp()).unwrap();
        assert_eq!(killed.changes[0].mirror, Weight::ZERO);
        let arm = Change::Arm(Selection::Named(vec!["shop".into()]));
        let armed = apply(&killed.desired, &arm, &facts(true), &stamp()).unwrap();
        assert_eq!(armed.desired.service("shop").unwrap().mirror, Weight::ZERO);
    }

    #[test]
    fn a_stage_that_mirrors_brings_its_share_along_and_takes_it_away() {
        let minute = Hold::For(std::time::Duration::from_secs(60));
        let tenth = Weight::from_percent(10).unwrap();
        let stages = vec![Stage::mirrored(tenth, minute.clone()), Stage::new(tenth, minute)];
        let plan = Arc::new(Plan::new("dark", stages));
        let start = Change::Start { service: "shop".into(), plan };
        let started = apply(&desired(&[service("shop", 0)]), &start, &facts(true), &stamp()).unwrap();
        assert_eq!(started.direction, Direction::TowardCandidate);
        let shop = started.desired.service("shop").unwrap();
        assert_eq!((shop.mirror, shop.weight, &*shop.recognition.salt), (tenth, Weight::ZERO, "dark"));

        let refusal = apply(&started.desired, &mirror("shop", 20), &facts(true), &stamp()).unwrap_err();
        assert!(refusal.to_string().contains("the rollout dark says how much is mirrored"), "{refusal}");
        assert!(apply(&started.desired, &mirror("shop", 5), &facts(true), &stamp()).is_ok());

        let later = Stamp { generation: 12, ..stamp() };
        let after = |act: Act| {
            let act = Change::Rollout { service: "shop".into(), act };
            let applied = apply(&started.desired, &act, &facts(true), &later).unwrap();
            let shop = applied.desired.service("shop").unwrap();
            (shop.mirror, shop.weight, shop.lock.is_some(), applied.direction)
        };
        use Direction::{TowardCandidate, TowardStable};
        assert_eq!(after(Act::Verb(Verb::Advance)), (Weight::ZERO, tenth, false, TowardCandidate));
        assert_eq!(after(Act::Verb(Verb::Pause)), (tenth, Weight::ZERO, false, TowardStable));
        assert_eq!(after(Act::Verb(Verb::Rollback)), (Weight::ZERO, Weight::ZERO, false, TowardStable));
        let fail = Step::Fail { cause: Cause::FailedRollout, sentence: "worse".into() };
        let fail = Act::Step { after: shop.rollout.as_ref().unwrap().transitions, step: fail };
        assert_eq!(after(fail), (Weight::ZERO, Weight::ZERO, true, TowardStable));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_sentence() {
        #[track_caller]
        fn check(state: ServiceState, change: &Change, healthy: bool, expected: &str) {
            let refusal =
                apply(&desired(&[state]), change, &facts(healthy), &stamp()).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{refusal}");
        }
        let deploy = |urls: &[&str]| Change::Deploy {
            service: "shop".into(),
            deployed: Deployed { endpoints: urls.iter().map(|url| endpoint(url)).collect(), version: None },
        };
        let stale = |if_generation| Change::Shift {
            weights: BTreeMap::from([("shop".into(), Weight::ZERO)]),
            if_generation: Some(if_generation),
            take_over: false,
        };
        check(
            locked("shop"),
            &shift(&[("shop", 1)]),
            true,
            "shop is locked (kill, by uid 2 at 1970-01-01T00:00:00.005Z)",
        );
        check(locked("shop"), &mirror("shop", 1), true, "shop is locked");
        check(
            service("shop", 0),
            &mirror("shop", 1),
            false,
            "deploy one first: `tidegate deploy shop http://…`",
        );
        check(service("shop", 0), &shift(&[("shop", 1)]), false, "green has no endpoint; deploy one first");
        check(service("shop", 5), &stale(0), true, "shop changed in generation 1, after 0: by tidegate at");
        check(service("gone", 5), &shift(&[("gone", 1)]), true, "no service is configured");
        check(service("shop", 5), &shift(&[]), true, "no service was named");
        check(service("shop", 5), &kill(&[]), true, "no service was named");
        check(
            service("shop", 5),
            &deploy(&["http://a:1"]),
            true,
            "green has 5% of the traffic; shift it to 0%",
        );
        check(service("shop", 0), &deploy(&[]), true, "at least one endpoint");
        check(service("shop", 0), &deploy(&["http://a:1"; 1001]), true, "1000 is the most");
        check(service("shop", 0), &deploy(&["http://a:1", "http://a:1"]), true, "http://a:1 is named twice");
        check(
            service("shop", 0),
            &deploy(&["http://blue:1"]),
            true,
            "is an endpoint of blue, the stable variant",
        );
        assert!(apply(&desired(&[service("shop", 5)]), &stale(1), &facts(true), &stamp()).is_ok());
    }

    proptest! {
        #[test]
        fn a_change_toward_stable_raises_nobody(
            weights in proptest::collection::vec((0u32..=100, 0u32..=100), 1..5),
        ) {
            let names = ["a", "b", "c", "d"];
            let states: Vec<_> = weights.iter().zip(names).map(|((from, _), name)| service(name, *from)).collect();
            let wanted: Vec<_> = weights.iter().zip(names).map(|((_, to), name)| (name, *to)).collect();
            let applied = apply(&desired(&states), &shift(&wanted), &facts(true), &stamp()).unwrap();
            let raised = weights.iter().any(|(from, to)| to > from);
            prop_assert_eq!(applied.direction == Direction::TowardCandidate, raised);
        }

        #[test]
        fn whatever_is_done_the_laws_hold(
            percent in prop_oneof![Just(0u32), Just(5), Just(100)],
            doings in proptest::collection::vec((doing(), any::<bool>()), 1..14),
        ) {
            let mut desired = desired(&[service("shop", 0)]);
            let mut generation = 11;
            let seed = shift(&[("shop", percent)]);
            for (change, healthy) in std::iter::once((seed, true)).chain(doings) {
                let stamp = Stamp { generation, ..stamp() };
                let before = desired.service("shop").unwrap().clone();
                let Ok(applied) = apply(&desired, &change, &facts(healthy), &stamp) else { continue };
                let after = applied.desired.service("shop").unwrap().clone();
                let delta = applied.changes.first();
                let same_roles = before.stable == after.stable;

                // Direction.
                if applied.direction == Direction::TowardStable && same_roles {
                    prop_assert!(after.weight <= before.weight, "{change:?}");
                }
                if !same_roles && before.weight > Weight::ZERO {
                    prop_assert_eq!(applied.direction, Direction::TowardCandidate);
                }
                if applied.direction == Direction::TowardStable {
                    prop_assert!(after.mirror <= before.mirror, "{change:?}");
                }
                if after.mirror > before.mirror {
                    let candidate_healthy = healthy || before.candidate() == Variant::Blue;
                    prop_assert!(before.freeze.is_none() && candidate_healthy, "{change:?}");
                }
                if after.lock.is_some() || !same_roles {
                    prop_assert_eq!(after.mirror, Weight::ZERO, "{:?}", change);
                }
                // Nothing rises past a lock, a freeze or a dead candidate.
                if after.weight > before.weight {
                    let candidate_healthy = healthy || before.candidate() == Variant::Blue;
                    prop_assert!(
                        before.lock.is_none() && before.freeze.is_none() && candidate_healthy,
                        "{change:?}"
                    );
                }
                // Whatever has weight has a guard that knows how much it may be; whatever is locked has none.
                if after.weight > Weight::ZERO {
                    let rollout = after.running();
                    prop_assert!(rollout.is_some_and(|rollout| after.weight <= rollout.weight_max()), "{change:?}");
                    prop_assert!(after.lock.is_none());
                }
                // Epochs and recognition.
                let emptied = before.weight > Weight::ZERO && after.weight == Weight::ZERO;
                if emptied || !same_roles {
                    prop_assert_eq!(after.epoch, generation);
                }
                if before.recognition != after.recognition {
                    prop_assert!(!(before.weight.is_partial() && after.weight.is_partial()), "{change:?}");
                }
                if !after.weight.is_partial() && after != before {
                    let salt = after.planned().map_or("newer", |rollout| &*rollout.plan.name);
                    prop_assert_eq!(&*after.recognition.salt, salt);
                }
                if let Change::Endpoints(_) = change {
                    let who = |state: &ServiceState| {
                        (state.weight, state.stable, state.epoch, state.lock.clone(), state.rollout.clone())
                    };
                    prop_assert_eq!(who(&after), who(&before), "endpoints move nobody");
                }
                if let Change::Kill(_) | Change::Trip { .. } = change {
                    prop_assert!(after.running().is_none() && after.lock.is_some());
                    prop_assert_eq!((after.weight, applied.direction), (Weight::ZERO, Direction::TowardStable));
                }
                // Words that are repeated have no second effect.
                let repeats = match &change {
                    Change::Rollout { act, .. } => matches!(act, Act::Verb(Verb::Pause | Verb::Rollback)),
                    Change::Steps(_) | Change::Kill(_) | Change::Freeze { .. } | Change::Arm(_) => true,
                    Change::Shift { .. } | Change::Mirror { .. } | Change::Trip { .. } => true,
                    Change::Start { .. } | Change::Deploy { .. } | Change::Endpoints(_) => false,
                };
                if repeats && delta.is_some() {
                    let later = Stamp { generation: generation + 1, actor: "uid 9".into(), ..stamp.clone() };
                    if let Ok(again) = apply(&applied.desired, &change, &facts(healthy), &later) {
                        prop_assert!(again.is_noop(), "{change:?} twice: {:?}", again.changes);
                    }
                }
                // What is saved is read back.
                let loaded = Desired::from_bytes(&applied.desired.to_bytes(99)).unwrap();
                prop_assert_eq!(loaded.desired.service("shop").unwrap(), &after);
                desired = applied.desired;
                generation += 1;
            }
        }
    }

    fn doing() -> impl Strategy<Value = Change> {
        let verbs = [Verb::Pause, Verb::Resume, Verb::Advance, Verb::Promote, Verb::Rollback];
        let verb = proptest::sample::select(verbs.to_vec());
        let fail = Step::Fail { cause: Cause::FailedRollout, sentence: "worse".into() };
        let step = proptest::sample::select(vec![
            Step::Advance,
            Step::Keep,
            Step::Finish,
            fail,
            Step::GiveUp { sentence: "nothing is proven".into() },
        ]);
        let deployed = Deployed { endpoints: vec![endpoint("http://new:1")], version: None };
        prop_oneof![
            3 => (0u32..=100, any::<bool>()).prop_map(|(percent, take_over)| {
                let weights = BTreeMap::from([("shop".into(), Weight::from_percent(percent).unwrap())]);
                Change::Shift { weights, if_generation: None, take_over }
            }),
            2 => (0u32..=100).prop_map(|percent| mirror("shop", percent)),
            3 => any::<bool>().prop_map(|keeps| Change::Start { service: "shop".into(), plan: plan(keeps) }),
            5 => verb.prop_map(|verb| Change::Rollout { service: "shop".into(), act: Act::Verb(verb) }),
            5 => (step, 0u64..5, 11u64..20).prop_map(|(step, after, rollout)| {
                let act = Act::Step { after, step };
                Change::Steps(vec![FoundStep { service: "shop".into(), rollout, act }])
            }),
            1 => any::<bool>().prop_map(|on| Change::Freeze { selection: Selection::All, on }),
            1 => Just(Change::Kill(Selection::All)),
            2 => any::<bool>().prop_map(|blue| Change::Trip {
                service: "shop".into(),
                candidate: if blue { Variant::Blue } else { Variant::Green },
                sentence: "worse".into(),
            }),
            2 => Just(Change::Arm(Selection::All)),
            1 => Just(Change::Deploy { service: "shop".into(), deployed }),
            2 => (any::<bool>(), any::<bool>(), 0usize..4, any::<bool>()).prop_map(|(blue, other, what, force)| {
                let variant = if blue { Variant::Blue } else { Variant::Green };
                let specs = vec![endpoint(if other { "http://other:1" } else { "http://green:1" })];
                let act = match what {
                    0 => EndpointAct::Add(specs),
                    1 => EndpointAct::Remove(specs),
                    2 => EndpointAct::Drain(specs),
                    _ => EndpointAct::Undrain(specs),
                };
                let service = "shop".into();
                Change::Endpoints(EndpointChange { service, variant, act, force, if_generation: None })
            }),
        ]
    }

    fn plan(keeps: bool) -> Arc<Plan> {
        let stage = |percent| {
            Stage::new(Weight::from_percent(percent).unwrap(), Hold::For(std::time::Duration::from_secs(1)))
        };
        let keep = std::time::Duration::from_secs(u64::from(keeps));
        Arc::new(Plan { keep, ..Plan::new("canary-7", vec![stage(5), stage(100)]) })
    }

    #[test]
    fn a_step_for_another_rollout_or_an_older_moment_is_void() {
        let start = Change::Start { service: "shop".into(), plan: plan(false) };
        let before = desired(&[service("shop", 0)]);
        let started = apply(&before, &start, &facts(true), &stamp()).unwrap().desired;
        let rollout = started.service("shop").unwrap().rollout.clone().unwrap();
        let later = Stamp { generation: 12, ..stamp() };
        let check = |id, after, expected| {
            let act = Act::Step { after, step: Step::Advance };
            let steps = Change::Steps(vec![FoundStep { service: "shop".into(), rollout: id, act }]);
            let applied = apply(&started, &steps, &facts(true), &later).unwrap();
            assert_eq!(applied.is_noop(), expected, "{id} {after}");
            assert_eq!(applied.direction, Direction::TowardCandidate, "nobody asked for less");
        };
        check(rollout.id, rollout.transitions, false);
        check(rollout.id, rollout.transitions - 1, true);
        check(rollout.id + 1, rollout.transitions, true);
    }
}
