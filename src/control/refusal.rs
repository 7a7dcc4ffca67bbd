//! Why a change is not made, each time with the cure.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::clock::Timestamp;
use crate::rollout::Freeze;
use crate::traffic::{Lock, Variant, Weight};

/// Why a change is not made. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No service of that name.
    #[error("there is no service {name:?}; {known}")]
    UnknownService {
        /// The name that was asked for.
        name: String,
        /// What there is instead, as a sentence.
        known: String,
    },
    /// Nothing was named.
    #[error("no service was named")]
    Nothing,
    /// Somebody was faster.
    #[error(
        "{service} changed in generation {generation}, after {expected}: by {actor} at {time}; look at it again"
    )]
    Stale {
        /// The service.
        service: Arc<str>,
        /// Its last change.
        generation: u64,
        /// What the caller knew.
        expected: u64,
        /// Who was faster.
        actor: String,
        /// When.
        time: Timestamp,
    },
    /// Somebody else wanted something of the same services while this waited for the disk.
    #[error(
        "nothing changed: while this waited for the disk, somebody else changed {0} or asked for less of the candidate; look at it again"
    )]
    Overtaken(String),
    /// A lock forbids it.
    #[error("{service} is locked ({}, by {} at {}): {}", .lock.cause, .lock.actor, .lock.at, UnlockHint(.service))]
    Locked {
        /// The service.
        service: Arc<str>,
        /// Its lock.
        lock: Lock,
    },
    /// The candidate could not answer.
    #[error("{service}: {candidate} has {}; {}", EndpointCount(*.endpoints), HealthHint(.service, *.endpoints))]
    NoHealthyCandidate {
        /// The service.
        service: Arc<str>,
        /// The candidate.
        candidate: Variant,
        /// How many endpoints it has.
        endpoints: usize,
    },
    /// A deployment would change what users get.
    #[error("{service}: {candidate} has {weight} of the traffic; shift it to 0% before a deployment")]
    CandidateInUse {
        /// The service.
        service: Arc<str>,
        /// The candidate.
        candidate: Variant,
        /// Its weight.
        weight: Weight,
    },
    /// A deployment onto what serves users.
    #[error("{service}: {url} is an endpoint of {stable}, the stable variant")]
    SharedEndpoint {
        /// The service.
        service: Arc<str>,
        /// The endpoint.
        url: String,
        /// The stable variant.
        stable: Variant,
    },
    /// Both variants at one place.
    #[error(
        "{service}: {url} is an endpoint of {other}, and an endpoint belongs to one variant; \
         `tidegate endpoint remove {service} {other} {url}` first"
    )]
    OthersEndpoint {
        /// The service.
        service: Arc<str>,
        /// The endpoint.
        url: String,
        /// Whose it is.
        other: Variant,
    },
    /// It is there already.
    #[error("{service}: {variant} has {url} already, with weight {weight}{}", KnownHint { is_other: *.is_other, drains: *.drains })]
    KnownEndpoint {
        /// The service.
        service: Arc<str>,
        /// The endpoint.
        url: String,
        /// Whose it is.
        variant: Variant,
        /// Its weight.
        weight: u16,
        /// Whether it gets nothing new.
        drains: bool,
        /// Whether another weight was asked for.
        is_other: bool,
    },
    /// It is not there.
    #[error("{service}: {variant} has no endpoint {url}; {}", KnownList(.known))]
    UnknownEndpoint {
        /// The service.
        service: Arc<str>,
        /// The endpoint.
        url: String,
        /// Whose it would be.
        variant: Variant,
        /// Those that there are, with commas.
        known: String,
    },
    /// Users would be sent to nobody.
    #[error(
        "{service}: {variant}, {}, would have no {}endpoint left; add another one first, or say --force",
        Trafficked(*.share), if *.others { "healthy " } else { "" }
    )]
    LastEndpoint {
        /// The service.
        service: Arc<str>,
        /// Whose it is.
        variant: Variant,
        /// The candidate's weight; `None`: it is stable.
        share: Option<Weight>,
        /// Whether there would be others, none of them healthy.
        others: bool,
    },
    /// By another configuration a variant with traffic would keep only endpoints that were taken out at run time.
    #[error(
        "{service}: {variant}, {}, would have no endpoint left, because at run time was {changed}; take that back \
         first, or reload with --discard-overlay",
        Trafficked(*.share)
    )]
    OverlayLeavesNone {
        /// The service.
        service: Arc<str>,
        /// Whose they are.
        variant: Variant,
        /// The candidate's weight; `None`: it is stable.
        share: Option<Weight>,
        /// What was changed: `removed http://a:80`.
        changed: String,
    },
    /// A second rollout, or a deployment under a running one.
    #[error("{service}: the rollout {name} runs; let it end, or `tidegate rollout rollback {service}` first")]
    RolloutRuns {
        /// The service.
        service: Arc<str>,
        /// The rollout's name.
        name: Arc<str>,
    },
    /// Somebody asks for more copies to a candidate that a rollout drives.
    #[error(
        "{service}: the rollout {name} says how much is mirrored; `tidegate rollout pause {service}` first"
    )]
    RolloutMirrors {
        /// The service.
        service: Arc<str>,
        /// The rollout's name.
        name: Arc<str>,
    },
    /// Somebody asks for more of a candidate that a rollout drives.
    #[error(
        "{service}: the rollout {name} drives it; `tidegate rollout pause {service}` first, or shift with --take-over"
    )]
    RolloutDrives {
        /// The service.
        service: Arc<str>,
        /// The rollout's name.
        name: Arc<str>,
    },
    /// Advances are frozen.
    #[error("{service} is frozen (by {} at {}){}; `tidegate freeze off {service}` first", .freeze.actor, .freeze.at, Because(.freeze.reason.as_deref()))]
    Frozen {
        /// The service.
        service: Arc<str>,
        /// The freeze.
        freeze: Freeze,
    },
    /// A plan that cannot be carried out.
    #[error("{service}: the plan {name} is none: {why}")]
    Plan {
        /// The service.
        service: Arc<str>,
        /// The plan's name.
        name: Arc<str>,
        /// What is wrong with it, and the cure.
        why: String,
    },
    /// The rollout does not do that.
    #[error("{service}: {why}")]
    Rollout {
        /// The service.
        service: Arc<str>,
        /// Why not.
        why: crate::rollout::Refusal,
    },
    /// What was stable before the roles swapped is not what it was.
    #[error(
        "{service}: {variant} has other endpoints than when it was stable, so there is no way back to it; deploy what \
         was there, then start a rollout"
    )]
    NoWayBack {
        /// The service.
        service: Arc<str>,
        /// The place that was stable.
        variant: Variant,
    },
    /// The request makes no sense by itself.
    #[error("{0}")]
    Invalid(String),
}

struct KnownHint {
    is_other: bool,
    drains: bool,
}

impl fmt::Display for KnownHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self { is_other: true, .. } => "; say --force to change its weight",
            Self { drains: true, .. } => " and draining; `tidegate endpoint undrain` brings it back",
            Self { .. } => ", so there is nothing to add",
        })
    }
}

struct KnownList<'l>(&'l str);

impl fmt::Display for KnownList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("it has none at all"),
            known => write!(f, "there is {known}"),
        }
    }
}

struct Trafficked(Option<Weight>);

impl fmt::Display for Trafficked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(share) => write!(f, "which has {share} of the traffic"),
            None => f.write_str("the stable variant"),
        }
    }
}

struct Because<'r>(Option<&'r str>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

struct UnlockHint<'s>(&'s str);

impl fmt::Display for UnlockHint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "find out why, then `tidegate arm {} --note \"…\"`", self.0)
    }
}

struct EndpointCount(usize);

impl fmt::Display for EndpointCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == 0 { "no endpoint" } else { "no healthy endpoint" })
    }
}

struct HealthHint<'s>(&'s str, usize);

impl fmt::Display for HealthHint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(service, endpoints) = self;
        match endpoints {
            0 => write!(f, "deploy one first: `tidegate deploy {service} http://…`"),
            _ => write!(f, "see `tidegate status {service}` for why its checks fail"),
        }
    }
}
