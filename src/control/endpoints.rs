//! Endpoints that come and go at run time.
//!
//! Weights belong to variants, so none of this moves anybody from one variant to the other. Taking an endpoint out
//! is in force at once: whoever does it has a reason that does not wait for a disk. Bringing one in is a risk, and
//! waits for the disk as a deployment does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::acts::Turn;
use super::change::{Direction, Facts, Refusal};
use super::desired::ServiceState;
use super::live::base;
use crate::traffic::{Variant, Weight};
use crate::upstream::{EndpointSpec, EndpointUrl};

/// How many endpoints a variant has at most once some come at run time.
pub(super) const ENDPOINTS_MAX: usize = 1000;

/// What is done to endpoints: all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", tag = "act", content = "endpoints")]
pub enum EndpointAct {
    /// They are there from now on.
    Add(Vec<EndpointSpec>),
    /// They are not there any more; what is under way there ends as it would.
    Remove(Vec<EndpointSpec>),
    /// They get nothing new.
    Drain(Vec<EndpointSpec>),
    /// They do again.
    Undrain(Vec<EndpointSpec>),
}

impl EndpointAct {
    /// Of endpoints that are there already, only where they listen counts.
    pub fn specs(&self) -> &[EndpointSpec] {
        match self {
            Self::Add(specs) | Self::Remove(specs) | Self::Drain(specs) | Self::Undrain(specs) => specs,
        }
    }

    /// `add`, `remove`, `drain` or `undrain`.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Remove(_) => "remove",
            Self::Drain(_) => "drain",
            Self::Undrain(_) => "undrain",
        }
    }

    /// In the past: `added`, `removed`, `draining` or `in service again`.
    pub const fn done(&self) -> &'static str {
        match self {
            Self::Add(_) => "added",
            Self::Remove(_) => "removed",
            Self::Drain(_) => "draining",
            Self::Undrain(_) => "in service again",
        }
    }

    fn direction(&self) -> Direction {
        match self {
            Self::Remove(_) | Self::Drain(_) => Direction::TowardStable,
            Self::Add(_) | Self::Undrain(_) => Direction::TowardCandidate,
        }
    }
}

/// What became of a variant's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EndpointsChanged {
    /// Whose they are.
    pub variant: Variant,
    /// What was done, with the weights that the endpoints have, or had.
    #[serde(flatten)]
    pub act: EndpointAct,
    /// What would have been a reason not to, if somebody insisted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<String>,
}

/// Changes the endpoints of a variant. `force`: also where that takes away the last one, or changes a weight.
pub(super) fn change(
    state: &ServiceState,
    variant: Variant,
    act: &EndpointAct,
    force: bool,
    facts: &Facts,
) -> Result<(Turn, EndpointsChanged), Refusal> {
    let service = &state.name;
    let specs = act.specs();
    if specs.is_empty() {
        return Err(Refusal::Invalid("no endpoint was named".into()));
    }
    // Before they are compared with each other: a kill waits while they are.
    if specs.len() > ENDPOINTS_MAX {
        return Err(too_many(service, variant, specs.len()));
    }
    if let Some((_, twice)) =
        specs.iter().enumerate().find(|(at, spec)| specs[..*at].iter().any(|earlier| earlier.url == spec.url))
    {
        return Err(Refusal::Invalid(format!("{} is named twice", twice.url)));
    }
    let base = base(&facts.config, state, variant).0;
    let before = &state.overlay[variant];
    let had = before.over(base);
    let mut overlay = before.clone();
    let mut forced = None;
    let mut changed = Vec::with_capacity(specs.len());
    for spec in specs {
        let url = &spec.url;
        let known = had.iter().find(|placed| placed.spec.url == *url);
        match act {
            EndpointAct::Add(_) => {
                if facts.specs[variant.other()].iter().any(|other| other.url == *url) {
                    let (service, url, other) = (service.clone(), url.to_string(), variant.other());
                    return Err(Refusal::OthersEndpoint { service, url, other });
                }
                if let Some(known) = known {
                    let is_other = known.spec.weight != spec.weight;
                    let refusal = Refusal::KnownEndpoint {
                        service: service.clone(),
                        url: url.to_string(),
                        variant,
                        weight: known.spec.weight,
                        drains: known.drains,
                        is_other,
                    };
                    if !(force && is_other) {
                        return Err(refusal);
                    }
                    forced = Some(format!("{url} had weight {}", known.spec.weight));
                }
                overlay = overlay.with(base, spec);
                changed.push(spec.clone());
            }
            EndpointAct::Remove(_) | EndpointAct::Drain(_) | EndpointAct::Undrain(_) => {
                let Some(known) = known else {
                    let listed = had.iter().map(|placed| placed.spec.url.to_string()).take(20);
                    return Err(Refusal::UnknownEndpoint {
                        service: service.clone(),
                        url: url.to_string(),
                        variant,
                        known: listed.collect::<Vec<_>>().join(", "),
                    });
                };
                overlay = match act {
                    EndpointAct::Remove(_) => overlay.without(base, url),
                    EndpointAct::Drain(_) => overlay.draining(url, true),
                    EndpointAct::Add(_) | EndpointAct::Undrain(_) => overlay.draining(url, false),
                };
                changed.push(known.spec.clone());
            }
        }
    }
    let has = overlay.over(base);
    if has.len() > ENDPOINTS_MAX && has.len() > had.len() {
        return Err(too_many(service, variant, has.len()));
    }
    if act.direction() == Direction::TowardStable
        && overlay != *before
        && let Some(refusal) = leaves_none(state, variant, &had, &has, facts)
    {
        if !force {
            return Err(refusal);
        }
        forced = Some(format!("{variant} has none left that could answer"));
    }
    let mut after = state.clone();
    after.overlay[variant] = overlay;
    // The way back after a promotion leads to the same version, on however many machines it is by then.
    if let Some(good) = after.last_good.as_mut().filter(|good| good.variant == variant)
        && good.endpoints == facts.specs[variant]
    {
        good.endpoints = has.iter().map(|placed| placed.spec.clone()).collect();
    }
    let verb = |specs| match act {
        EndpointAct::Add(_) => EndpointAct::Add(specs),
        EndpointAct::Remove(_) => EndpointAct::Remove(specs),
        EndpointAct::Drain(_) => EndpointAct::Drain(specs),
        EndpointAct::Undrain(_) => EndpointAct::Undrain(specs),
    };
    let told = EndpointsChanged { variant, act: verb(changed), forced };
    Ok((Turn { after, direction: act.direction(), happened: None }, told))
}

/// Why a variant cannot have so many.
pub(super) fn too_many(service: &str, variant: Variant, count: usize) -> Refusal {
    Refusal::Invalid(format!(
        "{service}: {variant} would have {count} endpoints; {ENDPOINTS_MAX} is the most"
    ))
}

/// Why a variant that users are sent to would have nobody to answer them.
fn leaves_none(
    state: &ServiceState,
    variant: Variant,
    had: &[super::overlay::Placed],
    has: &[super::overlay::Placed],
    facts: &Facts,
) -> Option<Refusal> {
    let is_stable = variant == state.stable;
    if !is_stable && state.weight == Weight::ZERO {
        return None;
    }
    let is_usable =
        |placed: &&super::overlay::Placed| !placed.drains && facts.usable[variant].contains(&placed.spec.url);
    let nobody = has.iter().all(|placed| placed.drains);
    let nobody_well =
        !has.iter().any(|placed| is_usable(&placed)) && had.iter().any(|placed| is_usable(&placed));
    (nobody || nobody_well).then(|| Refusal::LastEndpoint {
        service: state.name.clone(),
        variant,
        share: (!is_stable).then_some(state.weight),
        others: !nobody,
    })
}

/// The endpoints as a change names them that only says where they listen.
pub fn at(urls: Vec<EndpointUrl>) -> Vec<EndpointSpec> {
    urls.into_iter().map(|url| EndpointSpec { url, weight: 1 }).collect()
}

/// What an audit entry says: `green: http://a:1 (weight 2) added, forced: …`.
pub(super) fn describe(told: &EndpointsChanged) -> String {
    let urls = told.act.specs().iter().map(|spec| match spec.weight {
        1 => spec.url.to_string(),
        weight => format!("{} (weight {weight})", spec.url),
    });
    let urls: Vec<_> = urls.collect();
    let mut text = format!("{}: {} {}", told.variant, urls.join(", "), told.act.done());
    if let Some(why) = &told.forced {
        text.push_str(&format!(", forced: {why}"));
    }
    text
}

/// Which service a change of endpoints is for.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointChange {
    /// The service.
    pub service: Arc<str>,
    /// Whose endpoints.
    pub variant: Variant,
    /// What is done to them.
    pub act: EndpointAct,
    /// Also where that takes away the last one, or changes a weight.
    pub force: bool,
    /// Only if the service did not change after this generation.
    pub if_generation: Option<u64>,
}
