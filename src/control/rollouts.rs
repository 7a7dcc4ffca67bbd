//! Rollouts as the control plane runs them: evidence in, transitions out.
//!
//! Everybody else meets rollouts here. What is asked for often is answered from the state in force and from what
//! the last tick concluded, and never waits for a tick that is under way.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::attempt::Attempt;
use super::change::{Change, Selection};
use super::checkpoints::{Checkpoints, from_bytes};
use super::commit::{Control, Who, by_us};
use super::desired::Desired;
use super::inbox::{Answered, Inbox, Pushed};
use super::recorder::Recorder;
use super::saver::Sink;
use super::ticker::{Shown, Ticker, Verdicts};
use crate::clock::{self, Timestamp};
use crate::rollout::{PerRole, Signal, View};
use crate::routing::Service;
use crate::store::{AuditEntry, RecordLog, RecordReader};
use crate::telemetry::{Remembered, ServiceSlot, Tallies, Trials};
use crate::traffic::PerVariant;

/// Where the evidence of rollouts is kept.
pub struct EvidenceDisk {
    /// What the last checkpoint held; the error says what was wrong with it.
    pub kept: Result<Option<Vec<u8>>, String>,
    /// Checkpoints; written and durable when it returns.
    pub checkpoints: Sink,
    /// Records for replays; `None`: nothing is recorded.
    pub records: Option<(RecordLog, RecordReader)>,
}

impl EvidenceDisk {
    /// Keeps nothing.
    pub fn none() -> Self {
        Self { kept: Ok(None), checkpoints: Box::new(|_| Ok(())), records: None }
    }
}

/// What the metrics page says of a service's rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutFigures {
    /// The stage, from 1; 0 before its first and after its last.
    pub stage: usize,
    /// Each gate's evidence against the candidate; empty after the end.
    pub evidence: Vec<(Arc<str>, f64)>,
    /// How many ticks of the service concluded what, since the process started.
    pub verdicts: Verdicts,
    /// Failures of candidates beyond what stable would have had at its rate, since the process started; never falls.
    pub excess_failures: f64,
}

/// The running part of all rollouts.
pub(super) struct Rollouts {
    ticker: Mutex<Ticker>,
    trials: Mutex<Trials>,
    shown: Mutex<HashMap<Arc<str>, Arc<Shown>>>,
    words: Mutex<HashMap<Arc<str>, String>>,
    wake: Notify,
    pub(super) inbox: Inbox,
    pub(super) checkpoints: Checkpoints,
    pub(super) recorder: Recorder,
}

impl Rollouts {
    /// Starts the threads that write. The second of the pair is what a person has to be told about the checkpoint.
    pub fn start(
        disk: EvidenceDisk,
        tallies: Arc<Tallies>,
        now: Timestamp,
    ) -> io::Result<(Self, Option<String>)> {
        let (kept, mut alarm) = match disk.kept {
            Ok(bytes) => (bytes.unwrap_or_default(), None),
            Err(why) => (Vec::new(), Some(format!("the evidence of rollouts: {why}"))),
        };
        let (guards, unread) = from_bytes(&kept);
        if unread > 0 {
            alarm = Some(format!("the evidence of {unread} rollout(s) could not be read"));
        }
        let rollouts = Self {
            ticker: Mutex::new(Ticker::new(guards, now)),
            trials: Mutex::new(Trials::new(tallies)),
            shown: Mutex::default(),
            words: Mutex::default(),
            wake: Notify::new(),
            inbox: Inbox::default(),
            checkpoints: Checkpoints::start(disk.checkpoints)?,
            recorder: Recorder::start(disk.records)?,
        };
        Ok((rollouts, alarm))
    }

    pub fn trials(&self) -> MutexGuard<'_, Trials> {
        self.trials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn show(&self, shown: Vec<(Arc<str>, Arc<Shown>)>) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).extend(shown);
    }

    pub fn hide(&self, service: &str) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).remove(service);
    }

    /// Notes what was said about the last transition of a service, if anything, for its record.
    pub fn say(&self, service: &Arc<str>, sentence: Option<String>) {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        match sentence {
            Some(sentence) => drop(words.insert(service.clone(), sentence)),
            None => drop(words.remove(service)),
        }
    }

    pub fn last_words(&self, service: &str) -> String {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).remove(service).unwrap_or_default()
    }

    pub fn shown(&self, service: &str) -> Option<Arc<Shown>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).get(service).cloned()
    }

    /// Asks for a beat now.
    pub fn ring(&self) {
        self.wake.notify_one();
    }

    /// Hands clocks and evidence to the disk.
    pub fn checkpoint_now(&self, control: &Control, now: Instant) {
        self.ticker().checkpoint(control, now, true);
    }

    fn ticker(&self) -> MutexGuard<'_, Ticker> {
        self.ticker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// Once a second, and at once after [`Control::alarmed`]: every rollout that runs gets what its traffic brought.
    /// While changes are refused nothing is ticked either.
    pub fn tick_rollouts(&self, now: Instant, at: Timestamp) {
        let mut ticker = self.inner.rollouts.ticker();
        if self.closed().is_none() {
            ticker.beat(self, now, at);
        }
    }

    /// Resolves when rollouts should be ticked at once: a candidate fails again and again, or somebody sent an alarm.
    pub async fn alarmed(&self) {
        tokio::select! {
            () = self.inner.rollouts.wake.notified() => {}
            () = self.inner.tallies.alarm().notified() => {}
        }
    }

    /// How many rollouts run, as of the last tick.
    pub fn running_rollouts(&self) -> usize {
        self.inner.rollouts.ticker().len()
    }

    /// The rollout of a service, also one that has ended; `None` if there never was one.
    pub fn rollout(&self, service: &str) -> Option<View> {
        let (desired, service) = {
            let live = self.live();
            (live.desired.clone(), live.service(service)?.clone())
        };
        self.view(&desired, &service)
    }

    /// Every rollout that has not ended, by service.
    pub fn rollouts(&self) -> Vec<View> {
        let (desired, table) = {
            let live = self.live();
            (live.desired.clone(), self.table())
        };
        let runs = |service: &&Arc<Service>| {
            desired.service(&service.settings.name).is_some_and(|state| state.running().is_some())
        };
        let mut views: Vec<_> =
            table.services().iter().filter(runs).filter_map(|service| self.view(&desired, service)).collect();
        views.sort_by(|one, other| one.service.cmp(&other.service));
        views
    }

    /// Takes in a value for the metric gate `gate`; `None` is no evidence. `false`: no such service or gate.
    pub fn push_reading(&self, service: &str, gate: &str, value: PerRole<Option<f64>>) -> bool {
        let desired = self.desired();
        let Some(state) = desired.service(service) else { return false };
        let Some(rollout) = state.running() else { return false };
        let stage = rollout.plan.stages.get(rollout.stage);
        let gates = stage.map_or(&rollout.plan.gates, |stage| rollout.plan.gates_of(stage));
        let Some(gate) = gates.metrics.iter().find(|metric| &*metric.name == gate) else { return false };
        let pushed = Pushed { value, at: clock::now() };
        self.inner.rollouts.inbox.reading(&state.name, &gate.name, pushed);
        true
    }

    /// Takes in an alarm: a critical one fails the rollout that runs, at once; another one freezes the service. `false`:
    /// no such service.
    pub fn signal(&self, service: &str, signal: Signal) -> bool {
        let name = match self.live().service(service) {
            Some(service) => service.settings.name.clone(),
            None => return false,
        };
        let weight = if signal.critical { "critical " } else { "" };
        let sentence = format!("{weight}signal {}", signal.name);
        self.record(AuditEntry {
            actor: signal.actor.to_string(),
            service: Some(name.to_string()),
            reason: Some(sentence.clone()),
            ..by_us("signal", self.generation())
        });
        if !signal.critical {
            let selection = Selection::Named(vec![name.clone()]);
            let freeze = Attempt {
                control: self.clone(),
                change: Change::Freeze { selection, on: true },
                who: Who { actor: signal.actor.to_string(), claimed: None, reason: Some(sentence) },
                key: None,
                read_at: clock::now(),
            };
            // Toward stable, and never refused for a service that is configured.
            let _ = freeze.at_once();
        }
        self.inner.rollouts.inbox.signal(&name, signal);
        self.inner.rollouts.ring();
        true
    }

    /// Takes in a hook's answer; it counts until the next transition.
    pub fn confirm(&self, service: &str, hook: &Arc<str>, yes: bool) {
        let desired = self.desired();
        let Some(state) = desired.service(service) else { return };
        let Some(rollout) = state.running() else { return };
        let answered = Answered { rollout: rollout.id, transitions: rollout.transitions, yes };
        self.inner.rollouts.inbox.confirm(&state.name, hook, answered);
    }

    /// What is remembered of a service's failures, for people.
    pub fn remembered(&self, service: &str) -> Option<PerVariant<Remembered>> {
        let slot = ServiceSlot(self.live().service(service)?.slot);
        Some(self.inner.rollouts.trials().remembered(slot))
    }

    /// The files that hold what a service's rollouts saw, newest first. Reads a folder.
    pub fn records(&self, service: &str) -> io::Result<Vec<PathBuf>> {
        self.record_reader().map_or(Ok(Vec::new()), |reader| reader.files(service))
    }

    /// Reads the records on other threads; `None` where nothing is recorded.
    pub fn record_reader(&self) -> Option<RecordReader> {
        self.inner.rollouts.recorder.reader().cloned()
    }

    /// Lines of records that could not be written.
    pub fn records_dropped(&self) -> u64 {
        self.inner.rollouts.recorder.dropped()
    }

    /// What the metrics page says of a service's rollouts; `None` before the first tick of one.
    pub fn rollout_figures(&self, desired: &Desired, service: &str) -> Option<RolloutFigures> {
        let shown = self.inner.rollouts.shown(service)?;
        let runs = desired.service(service)?.running().filter(|rollout| rollout.id == shown.rollout);
        let readings = shown.tick.readings.iter().filter(|_| runs.is_some());
        Some(RolloutFigures {
            stage: runs.map_or(0, |rollout| rollout.current_stage().map_or(0, |_| rollout.stage + 1)),
            evidence: readings.map(|reading| (reading.gate.clone(), reading.evidence)).collect(),
            verdicts: shown.verdicts,
            excess_failures: shown.excess_failures,
        })
    }

    /// How many services have a step on its way over the disk.
    #[cfg(test)]
    pub(super) fn steps_under_way(&self) -> usize {
        self.inner.rollouts.ticker().steps_under_way()
    }

    /// Every guard as it is now.
    #[cfg(test)]
    pub(super) fn guards(&self) -> Vec<(Arc<str>, crate::rollout::Guard)> {
        self.inner.rollouts.ticker().guards()
    }

    /// Writes the last checkpoint, and ends the threads.
    pub(super) fn stop_rollouts(&self) {
        let rollouts = &self.inner.rollouts;
        rollouts.checkpoint_now(self, clock::now());
        self.end_rollouts();
    }

    /// Ends the threads.
    pub(super) fn end_rollouts(&self) {
        let rollouts = &self.inner.rollouts;
        rollouts.checkpoints.stop();
        rollouts.recorder.stop();
    }

    fn view(&self, desired: &Desired, service: &Service) -> Option<View> {
        let name = &service.settings.name;
        let state = desired.service(name)?;
        let rollout = state.rollout.clone()?;
        // What was concluded before the last transition is no longer so.
        let shown = self.inner.rollouts.shown(name).filter(|shown| {
            (shown.rollout, shown.transitions) == (rollout.id, rollout.transitions) && !rollout.has_ended()
        });
        Some(View {
            service: name.clone(),
            candidate: state.candidate(),
            weight: state.weight,
            versions: PerVariant::from_fn(|variant| service.groups[variant].version().cloned()),
            held_ms: shown.as_ref().map_or(0, |shown| shown.held_ms),
            tick: shown.map(|shown| shown.tick.clone()),
            rollout,
            freeze: state.freeze.clone(),
        })
    }
}
