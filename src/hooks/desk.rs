//! What hooks know of rollouts and launches, and may say to them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::notice::TIDEGATE;
use crate::clock;
use crate::control::Control;
use crate::rollout::{PerRole, View};
use crate::store::AuditEntry;

/// How long the same complaint is not said again.
const QUIET: Duration = Duration::from_secs(600);
/// How many different complaints are remembered.
const COMPLAINTS_MAX: usize = 4096;

/// The rollouts of a service by its name.
pub type Look = Arc<dyn Fn(&str) -> Option<View> + Send + Sync>;
/// Takes a value in: service, gate, value.
pub type Push = Arc<dyn Fn(&str, &str, PerRole<Option<f64>>) + Send + Sync>;
/// Takes a hook's answer in: service, hook, whether it was a yes.
pub type Confirm = Arc<dyn Fn(&str, &Arc<str>, bool) + Send + Sync>;
/// The channels that a launch has told; empty: all of them.
pub type Channels = Arc<dyn Fn(&str) -> Vec<Arc<str>> + Send + Sync>;
/// Takes an entry into the audit log.
pub type Record = Arc<dyn Fn(AuditEntry) + Send + Sync>;

/// The few things of the control plane that are used here.
#[derive(Clone)]
pub struct Desk {
    /// The rollout of a service.
    pub look: Look,
    /// Whom a launch has told.
    pub channels: Channels,
    /// A reading of a metric gate.
    pub push: Push,
    /// A hook's answer.
    pub confirm: Confirm,
    /// For people.
    pub record: Record,
    said: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Desk {
    /// The control plane's.
    pub fn of(control: &Control) -> Self {
        let (looked, pushed, confirmed, recorded) =
            (control.clone(), control.clone(), control.clone(), control.clone());
        let launched = control.clone();
        Self::new(
            Arc::new(move |service| looked.rollout(service)),
            Arc::new(move |launch| {
                launched.launch(launch).map(|ledger| ledger.launch.comms.channels.clone()).unwrap_or_default()
            }),
            // A gate that has gone in the meantime needs no value.
            Arc::new(move |service, gate, value| {
                pushed.push_reading(service, gate, value);
            }),
            Arc::new(move |service, hook, yes| confirmed.confirm(service, hook, yes)),
            Arc::new(move |mut entry| {
                entry.generation = recorded.generation();
                recorded.record(entry);
            }),
        )
    }

    /// Any.
    pub fn new(look: Look, channels: Channels, push: Push, confirm: Confirm, record: Record) -> Self {
        Self { look, channels, push, confirm, record, said: Arc::default() }
    }

    /// Says what does not work, as the event `what`: in the log and in the audit log, once every ten minutes for the same
    /// `about`.
    pub fn complain(&self, what: &str, service: Option<&str>, about: &str, sentence: &impl Display) {
        let now = clock::now();
        let key = format!("{what} {} {about}", service.unwrap_or_default());
        {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            said.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
            if said.contains_key(&key) || said.len() >= COMPLAINTS_MAX {
                return;
            }
            said.insert(key, now);
        }
        let sentence = sentence.to_string().replace(char::is_control, " ");
        let at = service.map(|service| format!("{service}: ")).unwrap_or_default();
        eprintln!("tidegate: {at}{sentence}");
        (self.record)(AuditEntry {
            time: clock::wall(),
            what: what.to_owned(),
            actor: TIDEGATE.to_owned(),
            service: service.map(str::to_owned),
            reason: Some(sentence),
            ..AuditEntry::default()
        });
    }
}
