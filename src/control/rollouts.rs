//! Rollouts as the control plane runs them: evidence in, transitions out.

use std::sync::Arc;

use super::commit::Control;
use crate::rollout::{PerRole, Signal, View};
use crate::telemetry::Remembered;
use crate::traffic::PerVariant;

impl Control {
    /// The rollout of a service, also one that has ended; `None` if there never was one.
    pub fn rollout(&self, _service: &str) -> Option<View> {
        None
    }

    /// Every rollout that has not ended, by service.
    pub fn rollouts(&self) -> Vec<View> {
        Vec::new()
    }

    /// Takes in a value for the metric gate `gate`; `None` is no evidence. `false`: no such service or gate.
    pub fn push_reading(&self, _service: &str, _gate: &str, _value: PerRole<Option<f64>>) -> bool {
        false
    }

    /// Takes in an alarm, for the next tick. `false`: no such service.
    pub fn signal(&self, _service: &str, _signal: Signal) -> bool {
        false
    }

    /// Takes in a hook's answer; it counts until the next transition.
    pub fn confirm(&self, _service: &str, _hook: &Arc<str>, _yes: bool) {}

    /// What is remembered of a service's failures, for people.
    pub fn remembered(&self, _service: &str) -> Option<PerVariant<Remembered>> {
        None
    }
}
