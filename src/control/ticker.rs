//! The beat of all rollouts: evidence in, transitions out.
//!
//! Every second, and at once when the data plane rings, each guard gets what its service's traffic brought and says
//! what has to be done. What is toward stable is done right there, in the tick, and waits for nothing; what is
//! toward the candidate goes to a task of its own, all of a tick together, because each such change waits for the disk.
//! A step that could not be made is found again by the next tick: nothing is queued, so nothing is done twice.
//!
//! A guard whose service has no traffic hears of the passing of time only now and then, so that thousands of idle
//! rollouts cost next to nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::attempt::Attempt;
use super::change::{Change, FoundStep};
use super::commit::{Control, Who, by_us};
use super::desired::{Desired, ServiceState};
use super::evidence::{counted, is_empty};
use super::expiry::Expired;
use super::inbox::{Answered, Mail, Pushed};
use super::recorder::Tape;
use super::recovery::TIDEGATE;
use crate::clock::{self, Timestamp};
use crate::rollout::{
    Guard, GuardMode, Line, Mirrored, News, Reading, Rollout, Signal, Stage, Tick, Verdict,
};
use crate::routing::{Service, Table};
use crate::store::AuditEntry;
use crate::telemetry::{Gauge, ServiceSlot};

/// A guard without news is ticked in one of so many beats.
const IDLE_BEATS: u64 = 4;
/// Splits that stand still are looked for in one of so many beats.
const EXPIRY_BEATS: u64 = 10;
/// A beat so soon after the last one was rung for.
const EARLY: Duration = Duration::from_millis(500);
/// How often clocks and evidence are handed to the disk.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// The same after a transition: soon, and not a hundred times a second.
const CHECKPOINT_SOON: Duration = Duration::from_millis(500);

/// What is known of all rollouts that run. One thread at a time.
pub(super) struct Ticker {
    armed: Vec<Armed>,
    /// The state that `armed` was made from.
    seen: Option<Arc<Desired>>,
    /// Guards without a service: from the last checkpoint, or because their service left the configuration.
    aside: HashMap<Arc<str>, Arc<Guard>>,
    /// Services with a step on its way over the disk.
    advancing: Arc<Mutex<HashSet<Arc<str>>>>,
    began: Timestamp,
    beats: u64,
    /// The last beat that was not early.
    beaten: Option<Instant>,
    checkpointed: Option<Instant>,
    /// Something changed that a crash should not undo.
    is_due: bool,
    expired: Expired,
}

/// A rollout that runs.
struct Armed {
    service: Arc<str>,
    /// Its place in the table.
    at: usize,
    slot: ServiceSlot,
    rollout: Arc<Rollout>,
    guard: Arc<Guard>,
    tape: Arc<Tape>,
    ticked: Instant,
    frozen: bool,
    healthy: bool,
    left_ms: Option<u64>,
    has_step: bool,
    signals: Vec<Signal>,
    readings: BTreeMap<Arc<str>, Pushed>,
    confirms: BTreeMap<Arc<str>, Answered>,
    excess: Excess,
    verdicts: Verdicts,
    /// What had been mirrored by the last tick.
    mirrored: [u64; 3],
}

/// How many ticks of a service concluded what, since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Good enough to go on.
    pub pass: u64,
    /// Not yet.
    pub wait: u64,
    /// Worse than tolerated.
    pub fail: u64,
}

/// Failures of the candidate beyond what stable would have had: in the rollouts before, and in this one.
#[derive(Clone, Copy, Debug, Default)]
struct Excess {
    before: f64,
    most: f64,
}

/// What the last tick of a service concluded.
#[derive(Debug)]
pub(super) struct Shown {
    pub rollout: u64,
    pub transitions: u64,
    pub tick: Tick,
    pub held_ms: u64,
    pub excess_failures: f64,
    pub verdicts: Verdicts,
}

impl Ticker {
    /// `kept`: what the last checkpoint held.
    pub fn new(kept: HashMap<Arc<str>, Guard>, began: Timestamp) -> Self {
        Self {
            armed: Vec::new(),
            seen: None,
            aside: kept.into_iter().map(|(service, guard)| (service, Arc::new(guard))).collect(),
            advancing: Arc::default(),
            began,
            beats: 0,
            beaten: None,
            checkpointed: None,
            is_due: false,
            expired: Expired::default(),
        }
    }

    /// One beat.
    pub fn beat(&mut self, control: &Control, now: Instant, at: Timestamp) {
        // Rung for in between: whoever has nothing to say is not asked.
        let is_early = self.beaten.is_some_and(|before| now.saturating_duration_since(before) < EARLY);
        if !is_early {
            self.beats += 1;
            self.beaten = Some(now);
        }
        // Before the state: what came in is about a rollout that the state has by now.
        let mail = control.inner.rollouts.inbox.drain();
        let (desired, table) = {
            let live = control.live();
            (live.desired.clone(), control.table())
        };
        if self.seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &desired)) {
            self.look_around(control, &desired, &table, now, at);
            self.seen = Some(desired.clone());
        }
        self.hand_out(mail);

        let mut shown = Vec::new();
        let mut later = Vec::new();
        for armed in &mut self.armed {
            let Some(service) = table.services().get(armed.at) else { continue };
            let is_turn = !is_early && (self.beats + u64::from(armed.slot.0)).is_multiple_of(IDLE_BEATS);
            let Some(tick) = armed.tick(control, service, &desired, is_turn, now, at) else { continue };
            if let Some(news) = &tick.news {
                tell(control, &armed.service, news);
            }
            if let Some(act) = &tick.act {
                let found =
                    FoundStep { service: armed.service.clone(), rollout: armed.rollout.id, act: act.clone() };
                if !at_once(control, &found, now) {
                    later.push(found);
                }
            }
            shown.push((armed.service.clone(), Arc::new(armed.show(tick))));
        }
        control.inner.rollouts.show(shown);
        if !is_early && self.beats.is_multiple_of(EXPIRY_BEATS) {
            self.expired.look(control, &desired, at);
        }
        self.advance(control, later, now);
        self.checkpoint(control, now, false);
    }

    /// Hands clocks and evidence to the disk if it is time, or `now_or_never`.
    pub fn checkpoint(&mut self, control: &Control, now: Instant, now_or_never: bool) {
        let since = self.checkpointed.map(|before| now.saturating_duration_since(before));
        let wait = if self.is_due { CHECKPOINT_SOON } else { CHECKPOINT_EVERY };
        let idle = self.armed.is_empty() && !self.is_due;
        if !now_or_never && (idle || since.is_some_and(|since| since < wait)) {
            return;
        }
        let armed = self.armed.iter().map(|armed| (armed.service.clone(), armed.guard.clone()));
        let aside = self.aside.iter().map(|(service, guard)| (service.clone(), guard.clone()));
        control.inner.rollouts.checkpoints.put(armed.chain(aside).collect());
        self.checkpointed = Some(now);
        self.is_due = false;
    }

    /// How many rollouts run.
    pub fn len(&self) -> usize {
        self.armed.len()
    }

    #[cfg(test)]
    pub fn steps_under_way(&self) -> usize {
        self.advancing.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    #[cfg(test)]
    pub fn guards(&self) -> Vec<(Arc<str>, Guard)> {
        self.armed.iter().map(|armed| (armed.service.clone(), Guard::clone(&armed.guard))).collect()
    }

    /// The state is another one: which rollouts run now?
    fn look_around(
        &mut self,
        control: &Control,
        desired: &Desired,
        table: &Table,
        now: Instant,
        at: Timestamp,
    ) {
        let rollouts = &control.inner.rollouts;
        let is_first = self.seen.is_none();
        let before = std::mem::take(&mut self.armed);
        let mut known: HashMap<Arc<str>, Armed> =
            before.into_iter().map(|armed| (armed.service.clone(), armed)).collect();
        for (place, service) in table.services().iter().enumerate() {
            let name = &service.settings.name;
            let Some(state) = desired.service(name) else { continue };
            let mut had = known.remove(name);
            if let Some(had) = &mut had
                && let Some(rollout) = &state.rollout
                && !Arc::ptr_eq(&had.rollout, rollout)
            {
                self.is_due = true;
                if had.rollout.id == rollout.id {
                    had.changed(control, rollout, at);
                }
            }
            let Some(rollout) = state.running() else {
                if let Some(had) = had {
                    rollouts.trials().disarm(had.slot);
                }
                continue;
            };
            let is_new = had.as_ref().is_none_or(|had| had.rollout.id != rollout.id);
            let mut armed = match had {
                Some(had) if had.rollout.id == rollout.id => had,
                Some(_) | None => {
                    self.is_due = true;
                    let guard = self.guard(control, state, rollout, is_first);
                    let mut armed = Armed::new(service, rollout, guard, now);
                    if let Some(before) = rollouts.shown(name) {
                        armed.verdicts = before.verdicts;
                        armed.excess = Excess { before: before.excess_failures, ..Excess::default() };
                    }
                    armed
                }
            };
            if is_new {
                armed.mirrored = control.tallies().mirrored_pairs(armed.slot, service.split.candidate);
            }
            armed.at = place;
            armed.arm(control, service);
            self.armed.push(armed);
        }
        for (name, gone) in known {
            // Its service left the configuration: its clocks stand still until it is back.
            rollouts.trials().disarm(gone.slot);
            rollouts.hide(&name);
            self.aside.insert(name, gone.guard);
            self.is_due = true;
        }
        let runs = |name: &str| desired.service(name).and_then(|state| state.running());
        self.aside.retain(|name, guard| runs(name).is_some_and(|rollout| rollout.id == guard.id));
    }

    /// The guard of a rollout that is armed here for the first time.
    fn guard(
        &mut self,
        control: &Control,
        state: &ServiceState,
        rollout: &Arc<Rollout>,
        is_first: bool,
    ) -> Arc<Guard> {
        match self.aside.remove(&state.name) {
            Some(guard) if guard.id == rollout.id => return guard,
            Some(_) | None => {}
        }
        if is_first && rollout.started < self.began && rollout.mode != GuardMode::Off {
            let sentence =
                "nothing was kept of its evidence: it is judged by what came since the restart only";
            control.record(AuditEntry {
                service: Some(state.name.to_string()),
                reason: Some(sentence.to_owned()),
                ..by_us("recovery", control.generation())
            });
        }
        Arc::new(Guard::new(rollout))
    }

    fn hand_out(&mut self, mut mail: HashMap<Arc<str>, Mail>) {
        if mail.is_empty() {
            return;
        }
        for armed in &mut self.armed {
            if let Some(Mail { signals, readings, confirms }) = mail.remove(&armed.service) {
                armed.signals.extend(signals);
                armed.readings.extend(readings);
                armed.confirms.extend(confirms);
            }
        }
    }

    /// Sends what is toward the candidate on its way over the disk, one at a time for each service.
    fn advance(&self, control: &Control, mut steps: Vec<FoundStep>, now: Instant) {
        let mut advancing = self.advancing.lock().unwrap_or_else(PoisonError::into_inner);
        steps.retain(|step| !advancing.contains(&step.service));
        // Outside a runtime there is nobody to wait for the disk.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if steps.is_empty() {
            return;
        }
        let services: Vec<_> = steps.iter().map(|step| step.service.clone()).collect();
        advancing.extend(services.iter().cloned());
        let under_way = UnderWay { advancing: self.advancing.clone(), services };
        let control = control.clone();
        runtime.spawn(async move {
            // What is refused or not saved is found again by the next tick.
            let _ = control.commit(&Change::Steps(steps), &us(), None, now).await;
            drop(under_way);
        });
    }
}

/// Steps on their way; whatever becomes of them, others may follow.
struct UnderWay {
    advancing: Arc<Mutex<HashSet<Arc<str>>>>,
    services: Vec<Arc<str>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut advancing = self.advancing.lock().unwrap_or_else(PoisonError::into_inner);
        for service in &self.services {
            advancing.remove(service);
        }
    }
}

impl Armed {
    fn new(service: &Service, rollout: &Arc<Rollout>, guard: Arc<Guard>, now: Instant) -> Self {
        let name = service.settings.name.clone();
        Self {
            at: 0,
            slot: ServiceSlot(service.slot),
            rollout: rollout.clone(),
            guard,
            tape: Tape::new(name.clone(), rollout.id),
            service: name,
            ticked: now,
            frozen: false,
            healthy: false,
            left_ms: None,
            has_step: false,
            signals: Vec::new(),
            readings: BTreeMap::new(),
            confirms: BTreeMap::new(),
            excess: Excess::default(),
            verdicts: Verdicts::default(),
            mirrored: [0; 3],
        }
    }

    /// Counts for it from now on. Nothing is counted where nothing is judged.
    fn arm(&self, control: &Control, service: &Service) {
        let rollout = &self.rollout;
        if rollout.mode == GuardMode::Off {
            return control.inner.rollouts.trials().disarm(self.slot);
        }
        let gates = stage(rollout).map_or(&rollout.plan.gates, |stage| rollout.plan.gates_of(stage));
        let gauge = Gauge {
            era: service.era,
            candidate: service.split.candidate,
            rollout: rollout.id,
            latency_ratio: gates.latency.as_ref().map_or(1.0, |latency| latency.ratio),
        };
        control.inner.rollouts.trials().arm(self.slot, gauge);
    }

    /// The same rollout after a transition, which may be its last one.
    fn changed(&mut self, control: &Control, rollout: &Arc<Rollout>, at: Timestamp) {
        let rollouts = &control.inner.rollouts;
        self.rollout = rollout.clone();
        self.confirms.clear();
        let sentence = rollouts.last_words(&self.service);
        if self.is_recorded(control) && !self.tape.is_broken() {
            let rollout = Box::new(Rollout::clone(rollout));
            rollouts.recorder.record(&self.tape, Line::Change { at, rollout, sentence });
        }
    }

    /// What came since the last tick, and what the guard makes of it. `None`: nothing came, and it is not its turn.
    fn tick(
        &mut self,
        control: &Control,
        service: &Service,
        desired: &Desired,
        is_turn: bool,
        now: Instant,
        at: Timestamp,
    ) -> Option<Tick> {
        let rollouts = &control.inner.rollouts;
        let look = rollouts.trials().look(self.slot, now).unwrap_or_default();
        let mirrored = self.mirrored(control, service);
        let frozen = desired.service(&self.service).is_some_and(|state| state.freeze.is_some());
        let healthy = service.groups[service.split.candidate].usable().iter().next().is_some();
        // Whole milliseconds, as they are written down; the rest is for the next tick.
        let elapsed_ms = now.saturating_duration_since(self.ticked).as_millis();
        let elapsed_ms = u64::try_from(elapsed_ms).unwrap_or(u64::MAX);
        let elapsed = Duration::from_millis(elapsed_ms);
        let ends = self.left_ms.is_some_and(|left_ms| left_ms > 0 && elapsed_ms >= left_ms);
        let is_quiet = is_empty(&look)
            && mirrored == Mirrored::default()
            && self.signals.is_empty()
            && self.readings.is_empty()
            && self.confirms.is_empty()
            && healthy
            && (frozen, healthy) == (self.frozen, self.healthy)
            && !self.has_step
            && !ends;
        if is_quiet && !is_turn {
            return None;
        }
        self.ticked += elapsed;
        (self.frozen, self.healthy) = (frozen, healthy);
        let mut evidence = counted(&look, &service.split);
        evidence.mirrored = mirrored;
        evidence.frozen = frozen;
        evidence.candidate_healthy = healthy;
        evidence.signals = std::mem::take(&mut self.signals);
        // The step that follows is void if another transition comes first; the alarm is not. It ends with the rollout.
        self.signals.extend(evidence.signals.iter().find(|signal| signal.critical).cloned());
        evidence.metrics =
            self.readings.iter().map(|(gate, pushed)| (gate.clone(), read(pushed, now))).collect();
        let (rollout, transitions) = (self.rollout.id, self.rollout.transitions);
        self.confirms.retain(|_, answer| (answer.rollout, answer.transitions) == (rollout, transitions));
        evidence.confirms = self.confirms.iter().map(|(hook, answer)| (hook.clone(), answer.yes)).collect();

        if self.is_recorded(control) && self.tape.is_broken() {
            let begin = Line::Begin {
                service: self.service.to_string(),
                at,
                rollout: Box::new(Rollout::clone(&self.rollout)),
                guard: Box::new(Guard::clone(&self.guard)),
            };
            rollouts.recorder.record(&self.tape, begin);
        }
        // The thread that writes checkpoints may hold the guard as it was: then this is another one.
        let tick = Arc::make_mut(&mut self.guard).tick(&self.rollout, at, elapsed, &evidence);
        if self.is_recorded(control) {
            let (evidence, tick) = (Box::new(evidence), Box::new(tick.clone()));
            rollouts.recorder.record(&self.tape, Line::Tick { at, evidence, elapsed_ms, tick });
        }
        self.excess.most = self.excess.most.max(self.guard.judge.excess_failures());
        self.left_ms = tick.left_ms;
        self.has_step = tick.act.is_some();
        let count = match tick.verdict {
            Verdict::Pass => &mut self.verdicts.pass,
            Verdict::Wait { .. } => &mut self.verdicts.wait,
            Verdict::Fail { .. } => &mut self.verdicts.fail,
        };
        *count += 1;
        Some(tick)
    }

    /// What was mirrored since the last tick; nothing where no stage asks.
    fn mirrored(&mut self, control: &Control, service: &Service) -> Mirrored {
        if self.rollout.mirrors().is_none() {
            return Mirrored::default();
        }
        let now = control.tallies().mirrored_pairs(self.slot, service.split.candidate);
        let before = std::mem::replace(&mut self.mirrored, now);
        let [pairs, only_candidate, only_stable] =
            std::array::from_fn(|at| now[at].saturating_sub(before[at]));
        Mirrored { pairs, only_candidate, only_stable }
    }

    /// Where nothing is judged there is nothing to replay.
    fn is_recorded(&self, control: &Control) -> bool {
        control.inner.rollouts.recorder.is_on() && self.rollout.mode != GuardMode::Off
    }

    fn show(&self, tick: Tick) -> Shown {
        Shown {
            rollout: self.rollout.id,
            transitions: self.rollout.transitions,
            tick,
            held_ms: self.guard.held_ms,
            excess_failures: self.excess.before + self.excess.most,
            verdicts: self.verdicts,
        }
    }
}

/// The stage whose gates are looked at, also before the first one.
fn stage(rollout: &Rollout) -> Option<&Stage> {
    rollout.plan.stages.get(rollout.stage)
}

fn read(pushed: &Pushed, now: Instant) -> Reading {
    let age_ms = now.saturating_duration_since(pushed.at).as_millis();
    Reading { value: pushed.value, age_ms: u64::try_from(age_ms).unwrap_or(u64::MAX) }
}

/// Makes a step now, if nobody's chance of the candidate can rise by it; `false`: it has to wait for the disk.
fn at_once(control: &Control, found: &FoundStep, now: Instant) -> bool {
    let attempt = Attempt {
        control: control.clone(),
        change: Change::Steps(vec![found.clone()]),
        who: us(),
        key: None,
        read_at: now,
    };
    // What is refused is found again by the next tick.
    attempt.at_once().unwrap_or(true)
}

pub(super) fn us() -> Who {
    Who { actor: TIDEGATE.to_owned(), claimed: None, reason: None }
}

fn tell(control: &Control, service: &Arc<str>, news: &News) {
    let sentence = match news {
        News::Suspect { why } => why.to_string(),
        News::Failing { why } => why.sentence.clone(),
        News::Cleared { gate } => format!("{gate} is no longer suspect"),
    };
    control.record(AuditEntry {
        time: clock::wall(),
        service: Some(service.to_string()),
        reason: Some(sentence),
        ..by_us("rollout-suspect", control.generation())
    });
}
