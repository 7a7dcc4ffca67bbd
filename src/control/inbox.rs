//! What comes in from outside between two ticks: alarms, values, hooks' answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::rollout::{PerRole, Signal};

/// How many alarms of a service wait for a tick at most. The first critical one decides.
const SIGNALS_MAX: usize = 64;

/// A value as it came in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pushed {
    pub value: PerRole<Option<f64>>,
    pub at: Instant,
}

/// An answer, and the moment of the rollout that it was given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub rollout: u64,
    pub transitions: u64,
    pub yes: bool,
}

/// What came in for one service.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub signals: Vec<Signal>,
    pub readings: BTreeMap<Arc<str>, Pushed>,
    pub confirms: BTreeMap<Arc<str>, Answered>,
}

/// What came in since the last tick.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<HashMap<Arc<str>, Mail>>);

impl Inbox {
    /// For the next tick. When there are too many already, a critical one takes the place of another.
    pub fn signal(&self, service: &Arc<str>, signal: Signal) {
        self.with(service, |mail| {
            if mail.signals.len() < SIGNALS_MAX {
                mail.signals.push(signal);
            } else if signal.critical
                && let Some(other) = mail.signals.iter_mut().find(|other| !other.critical)
            {
                *other = signal;
            }
        });
    }

    pub fn reading(&self, service: &Arc<str>, gate: &Arc<str>, pushed: Pushed) {
        self.with(service, |mail| mail.readings.insert(gate.clone(), pushed));
    }

    pub fn confirm(&self, service: &Arc<str>, hook: &Arc<str>, answered: Answered) {
        self.with(service, |mail| mail.confirms.insert(hook.clone(), answered));
    }

    /// Everything, once.
    pub fn drain(&self) -> HashMap<Arc<str>, Mail> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with<T>(&self, service: &Arc<str>, change: impl FnOnce(&mut Mail) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(service.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_signals_is_bounded_and_never_hides_a_critical_one() {
        let inbox = Inbox::default();
        let signal = |critical| Signal { name: "s".into(), critical, actor: "a".into() };
        let shop: Arc<str> = "shop".into();
        for _ in 0..2 * SIGNALS_MAX {
            inbox.signal(&shop, signal(false));
        }
        inbox.signal(&shop, signal(true));
        let mail = inbox.drain().remove(&shop).unwrap();
        assert_eq!(mail.signals.len(), SIGNALS_MAX);
        assert!(mail.signals.iter().any(|signal| signal.critical));
    }
}
