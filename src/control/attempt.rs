//! A change on its way: at once if it is toward stable, over the disk if it is toward the candidate.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::{self, Applied, Change, Delta, Direction, Refusal, Selection, Stamp};
use super::commit::{CommitError, Committed, Control, IdempotencyKey, REBASES_MAX, Who};
use super::desired::{Answer, Desired};
use super::endpoints;
use super::live::{Live, Mark};
use super::recovery::is_kept;
use super::saver::Ticket;
use crate::clock;
use crate::store::AuditEntry;
use crate::telemetry::ServiceSlot;
use crate::traffic::{Cause, Variant, Weight};

/// How long a change toward stable waits for the disk before it is acknowledged without.
const SAFE_WAIT: Duration = Duration::from_secs(1);

/// A change on its way.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) control: Control,
    pub(super) change: Change,
    pub(super) who: Who,
    pub(super) key: Option<IdempotencyKey>,
    pub(super) read_at: Instant,
}

enum Step {
    /// In force before, or nothing to do.
    Done(Committed),
    /// In force; the disk follows.
    Wait { committed: Committed, ticket: Ticket, kills: Option<Ticket> },
    /// It has to wait for the disk first.
    Risk(Mark),
}

impl Attempt {
    /// Makes the change, the quick way if it is safe.
    pub(super) async fn make(self) -> Result<Committed, CommitError> {
        let control = self.control.clone();
        let confirmed = |generation| control.predecessors().confirmed(generation);
        let (committed, unconfirmed) = match self.toward_stable()? {
            Step::Done(committed) => {
                let unconfirmed = confirmed(committed.generation).await;
                (committed, unconfirmed)
            }
            Step::Wait { committed, ticket, kills } => {
                let generation = committed.generation;
                tokio::join!(self.saved(committed, ticket, kills), confirmed(generation))
            }
            Step::Risk(mark) => {
                // A task of its own: if the client goes away, what is on disk must still be brought in line with
                // what is in force.
                let made = tokio::spawn(async move { self.toward_candidate(mark).await }).await;
                let committed = made.unwrap_or(Err(CommitError::Busy))?;
                let unconfirmed = confirmed(committed.generation).await;
                (committed, unconfirmed)
            }
        };
        Ok(Committed { unconfirmed, ..committed })
    }

    /// Makes the change now or not at all: `false` if it has to wait for the disk first. Waits for nothing.
    pub(super) fn at_once(&self) -> Result<bool, CommitError> {
        match self.toward_stable()? {
            Step::Done(_) | Step::Wait { .. } => Ok(true),
            Step::Risk(_) => Ok(false),
        }
    }

    /// Makes the change at once, if nobody's chance of the candidate can rise by it.
    fn toward_stable(&self) -> Result<Step, CommitError> {
        let mut live = self.control.live();
        if let Some(before) = self.answered(&live.desired)? {
            return Ok(Step::Done(before));
        }
        is_open(&live)?;
        let (mut applied, mut stamp) = self.apply(&live)?;
        // Whoever takes an endpoint out asks for less of that endpoint, not of the candidate.
        if applied.direction == Direction::TowardStable && !matches!(self.change, Change::Endpoints(_)) {
            self.ask(&mut live, &applied);
        }
        if applied.is_noop() {
            return Ok(self.unchanged(&mut live, applied, stamp));
        }
        if applied.direction == Direction::TowardCandidate {
            return Ok(Step::Risk(live.mark(names(&applied.changes).iter())));
        }
        stamp.generation = self.control.allocate();
        self.keep_answer(&mut applied, &stamp);
        let desired = Arc::new(applied.desired);
        let live_after = self.put_in_force(&mut live, desired.clone(), &applied.changes, stamp.generation);
        // Given to the savers before anybody else can change anything: what is newest is written last.
        let ticket = self.control.save(desired.clone());
        let locks = applied
            .changes
            .iter()
            .any(|delta| delta.changed && delta.lock.as_ref().is_some_and(|lock| is_kept(lock.cause)));
        let kills = locks.then(|| self.control.save_kills(desired));
        drop(live);
        self.record(&applied.changes, &stamp);
        let committed = Committed {
            generation: stamp.generation,
            saved: false,
            unconfirmed: Vec::new(),
            live: live_after,
            changes: applied.changes,
        };
        Ok(Step::Wait { committed, ticket, kills })
    }

    /// From now on, nothing that waits for the disk may land on these services.
    fn ask(&self, live: &mut Live, applied: &Applied) {
        match &self.change {
            Change::Kill(Selection::All) => live.asked_for_stable(None),
            _ => live.asked_for_stable(Some(&names(&applied.changes))),
        }
    }

    /// Waits for the disk, but not for long.
    async fn saved(&self, committed: Committed, ticket: Ticket, kills: Option<Ticket>) -> Committed {
        let ticket = match kills {
            Some(kills) => either(kills, ticket),
            None => ticket,
        };
        let saved = matches!(tokio::time::timeout(SAFE_WAIT, ticket).await, Ok(Ok(Ok(()))));
        Committed { saved, ..committed }
    }

    /// Makes the change after it is on disk, if it still may be made then: if it is not refused now, and if nobody
    /// has asked for less of the candidates since `mark`.
    async fn toward_candidate(&self, mark: Mark) -> Result<Committed, CommitError> {
        let _turn = self.control.take_turn().await;
        for _ in 0..REBASES_MAX {
            let (proposal, changes, stamp) = {
                let live = self.control.live();
                if let Some(before) = self.answered(&live.desired)? {
                    return Ok(before);
                }
                is_open(&live)?;
                let (mut applied, mut stamp) = self.apply(&live)?;
                if live.mark(names(&applied.changes).iter()) != mark {
                    return Err(overtaken(&applied.changes).into());
                }
                if applied.is_noop() {
                    break;
                }
                stamp.generation = self.control.allocate();
                self.keep_answer(&mut applied, &stamp);
                let proposal = self.control.propose(&live, applied.desired);
                (proposal, applied.changes, stamp)
            };
            let desired = proposal.desired.clone();
            let Some(mut live) = self.control.saved_first(proposal).await? else { continue };
            // The state has not changed; health may have, and what people want.
            let still_fits = match self.apply(&live) {
                Err(refusal) => Err(refusal),
                Ok(_) if live.mark(names(&changes).iter()) != mark => Err(overtaken(&changes)),
                Ok(_) => Ok(()),
            };
            if let Err(refusal) = still_fits {
                self.control.overrule(&live);
                return Err(refusal.into());
            }
            let generation = match self.control.last_allocated() == stamp.generation {
                true => stamp.generation,
                // Health flipped meanwhile: tables have larger numbers by now.
                false => self.control.allocate(),
            };
            // On its way to the log before it acts, as it is in the state.
            self.record(&changes, &Stamp { generation, ..stamp });
            let live_after = self.put_in_force(&mut live, desired, &changes, generation);
            drop(live);
            if let Change::Deploy { service, .. } = &self.change {
                self.control.measure_anew(service);
            }
            let unconfirmed = Vec::new();
            return Ok(Committed { generation, saved: true, unconfirmed, live: live_after, changes });
        }
        // Others kept coming in between, or made the same change.
        match self.toward_stable()? {
            Step::Done(committed) => Ok(committed),
            Step::Wait { committed, ticket, kills } => Ok(self.saved(committed, ticket, kills).await),
            Step::Risk(_) => Err(CommitError::Busy),
        }
    }

    /// Applies the change under the next generation number, which is not given out yet.
    fn apply(&self, live: &Live) -> Result<(Applied, Stamp), Refusal> {
        let stamp = Stamp {
            generation: self.control.last_allocated() + 1,
            time: clock::wall(),
            actor: self.who.actor.clone(),
            reason: self.who.reason.clone(),
        };
        let facts = |name: &str| live.facts(name);
        let applied = change::apply(&live.desired, &self.change, &facts, &stamp)?;
        Ok((applied, stamp))
    }

    fn put_in_force(
        &self,
        live: &mut Live,
        desired: Arc<Desired>,
        changes: &[Delta],
        generation: u64,
    ) -> Duration {
        let touched: Vec<_> =
            changes.iter().filter(|delta| delta.changed).map(|delta| delta.service.clone()).collect();
        live.adopt(desired, &touched);
        // Before the table: whoever sees the transition finds what was said about it, and nothing older.
        for delta in changes.iter().filter(|delta| delta.changed) {
            let sentence = delta.happened.as_ref().map(|happened| happened.sentence.clone());
            self.control.inner.rollouts.say(&delta.service, sentence);
        }
        for delta in
            changes.iter().filter(|delta| delta.mirror_before == Weight::ZERO && delta.mirror > Weight::ZERO)
        {
            if let Some(service) = live.service(&delta.service) {
                self.control.mirror_anew(ServiceSlot(service.slot));
            }
        }
        self.control.publish(live, generation);
        let live_after = clock::now().saturating_duration_since(self.read_at);
        // What traffic brings at the new weight is counted from now on, not from the next beat.
        self.control.inner.rollouts.ring();
        live_after
    }

    fn answered(&self, desired: &Desired) -> Result<Option<Committed>, CommitError> {
        let Some(key) = &self.key else { return Ok(None) };
        let Some(answer) = desired.answer(&self.who.actor, &key.key) else { return Ok(None) };
        if answer.digest != key.digest {
            return Err(CommitError::KeyReused(key.key.clone()));
        }
        Ok(Some(Committed {
            generation: answer.generation,
            saved: self.control.is_saved(),
            unconfirmed: Vec::new(),
            live: Duration::from_micros(answer.live_us),
            changes: answer.changes.clone(),
        }))
    }

    fn keep_answer(&self, applied: &mut Applied, stamp: &Stamp) {
        let Some(key) = &self.key else { return };
        let live = match applied.is_noop() {
            true => Duration::ZERO,
            false => clock::now().saturating_duration_since(self.read_at),
        };
        applied.desired.keep_answer(Answer {
            key: key.key.clone(),
            actor: self.who.actor.clone(),
            digest: key.digest.clone(),
            time: stamp.time,
            generation: stamp.generation,
            live_us: u64::try_from(live.as_micros()).unwrap_or(u64::MAX),
            changes: applied.changes.clone(),
        });
    }

    /// There is nothing to do. Whoever gave a key gets the same answer again all the same, also when others
    /// have made changes by then that the repeated request would take back.
    fn unchanged(&self, live: &mut Live, mut applied: Applied, mut stamp: Stamp) -> Step {
        let committed = Committed {
            generation: live.desired.generation,
            saved: self.is_saved(),
            unconfirmed: Vec::new(),
            live: Duration::ZERO,
            changes: applied.changes.clone(),
        };
        if self.key.is_none() {
            return Step::Done(committed);
        }
        // Another state is in force now: a change that waits for the disk looks again, and keeps the answer.
        stamp.generation = live.desired.generation;
        self.keep_answer(&mut applied, &stamp);
        let desired = Arc::new(applied.desired);
        live.adopt(desired.clone(), &[]);
        Step::Wait { committed, ticket: self.control.save(desired), kills: None }
    }

    /// Whether what this change asked for is on disk already.
    fn is_saved(&self) -> bool {
        let saver = &self.control.inner.saver;
        saver.is_saved() || (matches!(self.change, Change::Kill(_)) && saver.are_kills_saved())
    }

    fn is_about_rollouts(&self) -> bool {
        matches!(
            self.change,
            Change::Start { .. } | Change::Rollout { .. } | Change::Steps(_) | Change::Trip { .. }
        )
    }

    fn record(&self, changes: &[Delta], stamp: &Stamp) {
        for delta in changes.iter().filter(|delta| delta.changed) {
            let entry = AuditEntry {
                time: stamp.time,
                what: self.change.kind().to_owned(),
                generation: stamp.generation,
                actor: self.who.actor.clone(),
                claimed: self.who.claimed.clone(),
                service: Some(delta.service.to_string()),
                from: Some(before(delta)),
                to: Some(after(delta)),
                reason: self.who.reason.clone(),
                ..AuditEntry::default()
            };
            if let Some(told) = &delta.endpoints {
                let what = format!("endpoint-{}", told.act.verb());
                let to = Some(endpoints::describe(told));
                self.control.record(AuditEntry { what, from: None, to, ..entry });
                continue;
            }
            let Some(happened) = &delta.happened else {
                self.control.record(entry);
                continue;
            };
            if !self.is_about_rollouts() {
                self.control.record(entry.clone());
            }
            let reason = match &self.who.reason {
                Some(reason) => format!("{} ({reason})", happened.sentence),
                None => happened.sentence.clone(),
            };
            let what = format!("rollout-{}", happened.what);
            self.control.record(AuditEntry { what, reason: Some(reason), ..entry });
        }
    }
}

/// Whether anything may be changed at the moment.
pub(super) fn is_open(live: &Live) -> Result<(), CommitError> {
    live.closed.clone().map_or(Ok(()), |why| Err(CommitError::Closed(why)))
}

fn names(changes: &[Delta]) -> Vec<Arc<str>> {
    changes.iter().map(|delta| delta.service.clone()).collect()
}

fn overtaken(changes: &[Delta]) -> Refusal {
    let names: Vec<&str> = changes.iter().map(|delta| &*delta.service).take(5).collect();
    Refusal::Overtaken(names.join(", "))
}

/// Resolves well when either does, badly when both do not.
fn either(one: Ticket, other: Ticket) -> Ticket {
    let (sender, ticket) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let wait = async |ticket: Ticket| match ticket.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Arc::new(io::Error::other("the saver ended"))),
        };
        let (one, other) = (wait(one), wait(other));
        tokio::pin!(one, other);
        let outcome = tokio::select! {
            Ok(()) = &mut one => Ok(()),
            Ok(()) = &mut other => Ok(()),
            else => Err(Arc::new(io::Error::other("neither the state nor the kill file could be written"))),
        };
        // Whoever does not wait any longer has answered already.
        let _ = sender.send(outcome);
    });
    ticket
}

fn before(delta: &Delta) -> String {
    let candidate = if delta.swapped { delta.candidate.other() } else { delta.candidate };
    describe(candidate, delta.from, delta.lock_before.as_ref().map(|lock| lock.cause))
        + &mirrored(delta, delta.mirror_before)
}

fn after(delta: &Delta) -> String {
    let mut text = describe(delta.candidate, delta.to, delta.lock.as_ref().map(|lock| lock.cause));
    text.push_str(&mirrored(delta, delta.mirror));
    if delta.swapped {
        text.insert_str(0, &format!("{} stable, ", delta.candidate.other()));
    }
    if delta.frozen {
        text.push_str(", frozen");
    }
    if let Some(deployed) = &delta.deployed {
        let urls: Vec<_> = deployed.endpoints.iter().map(|endpoint| endpoint.url.to_string()).collect();
        text.push_str(&format!(" at {}", urls.join(", ")));
        if let Some(version) = &deployed.version {
            text.push_str(&format!(", version {version}"));
        }
    }
    text
}

/// Said where it is or was.
fn mirrored(delta: &Delta, share: Weight) -> String {
    let is_said = delta.mirror > Weight::ZERO || delta.mirror_before > Weight::ZERO;
    if is_said { format!(", mirroring {share}") } else { String::new() }
}

fn describe(candidate: Variant, weight: Weight, lock: Option<Cause>) -> String {
    let lock = lock.map_or_else(String::new, |cause| format!(", locked ({cause})"));
    format!("{candidate} {weight}{lock}")
}
