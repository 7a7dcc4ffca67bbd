//! Splits that nothing moves on: left between 0 and 100 % for longer than the service says.
//!
//! Two versions at once are a means, not a state: what was shifted to 10 % by hand on a Friday and forgotten is found by the next
//! incident. A rollout that moves by itself is looked after by its gates; whatever stands still is counted here. It is told, and moves
//! nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::commit::{Control, by_us};
use super::desired::{Desired, ServiceState};
use crate::clock::Timestamp;
use crate::rollout::{Hold, Phase, span};
use crate::store::AuditEntry;

impl Control {
    /// Since when a service's split stands between 0 and 100 %, if that is longer than `split.expires`.
    pub fn split_expired(&self, service: &str, at: Timestamp) -> Option<Timestamp> {
        let live = self.live();
        let expires = live.config(service)?.split_expires?;
        stands_since(live.desired.service(service)?).filter(|since| at.since(*since) > expires)
    }
}

/// Since when nothing moves a split that stands between 0 and 100 %.
fn stands_since(state: &ServiceState) -> Option<Timestamp> {
    if !state.weight.is_partial() {
        return None;
    }
    let Some(rollout) = state.running() else { return Some(state.changed.time) };
    let is_endless = rollout.current_stage().is_some_and(|stage| stage.hold == Hold::Endless);
    let stands = is_endless || matches!(rollout.phase, Phase::Paused { .. });
    stands.then_some(rollout.since)
}

/// What was told, so that each is told once.
#[derive(Debug, Default)]
pub(super) struct Expired(HashMap<Arc<str>, Timestamp>);

impl Expired {
    /// Tells each split that has expired since the last look.
    pub fn look(&mut self, control: &Control, desired: &Desired, at: Timestamp) {
        let found: Vec<(Arc<str>, Timestamp, Duration)> = {
            let live = control.live();
            let expiring =
                live.configs().filter_map(|config| Some((&config.settings.name, config.split_expires?)));
            expiring
                .filter_map(|(name, expires)| {
                    let since = stands_since(desired.service(name)?)?;
                    (at.since(since) > expires).then(|| (name.clone(), since, expires))
                })
                .collect()
        };
        self.0.retain(|name, told| found.iter().any(|(found, since, _)| found == name && since == told));
        for (name, since, expires) in found {
            if self.0.insert(name.clone(), since).is_some() {
                continue;
            }
            let weight = desired.service(&name).map(|state| state.weight).unwrap_or_default();
            let sentence = format!(
                "{name} stands at {weight} for {}, which is longer than its split.expires of {}: shift it on, or back",
                span(at.since(since)),
                span(expires)
            );
            control.record(AuditEntry {
                time: at,
                service: Some(name.to_string()),
                reason: Some(sentence),
                ..by_us("split-expired", control.generation())
            });
        }
    }
}
