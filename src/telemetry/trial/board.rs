//! What the reader tells the workers about a service's trial, and what they count for it.
//!
//! The board is shared and nearly never written: a request that is not judged reads one word of it. The scores are
//! each worker's own, marked with the era they belong to: a worker that meets a new era empties its scores before it
//! counts, and the reader takes only those of the era it has set. So no outcome of an older era can slip into a
//! newer one, without anybody waiting for anybody.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::SLOW_LIMITS;
use super::visitors::{FAILED, Marked, SEEN, SLOW, VisitorTable};
use crate::telemetry::counter::Counter;
use crate::traffic::{PerVariant, Reason, Variant};

/// Kinds of a [`Cell`] that have a flag of the same index.
pub(super) const FLAGS: usize = 8;
/// Visitors that cannot fail in this window, because they did in the one before.
pub(super) const BARRED: usize = 8;
/// Of the units at risk, those in one half.
pub(super) const HALF_SEEN: usize = 9;
/// Of their failures, those in one half.
pub(super) const HALF_FAILED: usize = 10;
/// All kinds.
pub(super) const KINDS: usize = 11;

/// How many strata there are: user, cookie, draw.
pub(super) const STRATA: usize = 3;
/// The last of them; the others' units are visitors.
pub(in crate::telemetry) const DRAW: usize = 2;

/// What was counted by variant, stratum and kind.
pub(super) type Sums = PerVariant<[[u64; KINDS]; STRATA]>;

/// All services' boards, by slot.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Boards {
    all: Mutex<Vec<Option<Arc<Board>>>>,
    alarm: Arc<Notify>,
    endpoints: Arc<Notify>,
}

impl Boards {
    /// The board of a service; it is made when first asked for.
    pub(in crate::telemetry) fn of(&self, index: usize) -> Arc<Board> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= index {
            all.resize_with(index + 1, || None);
        }
        all[index].get_or_insert_with(|| Arc::new(Board::new(self.alarm.clone()))).clone()
    }

    pub(in crate::telemetry) fn alarm(&self) -> &Notify {
        &self.alarm
    }

    pub(in crate::telemetry) fn endpoints(&self) -> &Arc<Notify> {
        &self.endpoints
    }
}

/// What workers know of one service's trial.
#[derive(Debug)]
pub(in crate::telemetry) struct Board {
    /// The era that is judged, plus one; 0: none.
    armed: AtomicU64,
    /// The place on trial, as a number.
    candidate: AtomicU8,
    /// In ns; `u64::MAX` while unknown.
    slow: PerVariant<[AtomicU64; SLOW_LIMITS]>,
    /// In ns; `u64::MAX` while unknown.
    stall: AtomicU64,
    tables: PerVariant<[OnceLock<Box<VisitorTable>>; DRAW]>,
    alarm: Arc<Notify>,
}

/// Longer than these is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// For each variant; `None` while unknown.
    pub(super) slow: PerVariant<[Option<Duration>; SLOW_LIMITS]>,
    /// Without a response head for so long, a request has failed.
    pub(super) stall: Option<Duration>,
}

impl Board {
    fn new(alarm: Arc<Notify>) -> Self {
        let unknown = || AtomicU64::new(u64::MAX);
        Self {
            armed: AtomicU64::new(0),
            candidate: AtomicU8::new(0),
            slow: PerVariant::from_fn(|_| std::array::from_fn(|_| unknown())),
            stall: unknown(),
            tables: PerVariant::default(),
            alarm,
        }
    }

    /// Begins an era. What was seen of visitors ends with the era before it; who failed is kept, unless
    /// `forgets`.
    pub(super) fn arm(&self, era: u64, candidate: Variant, forgets: bool) {
        self.armed.store(0, Ordering::Relaxed);
        for table in self.tables() {
            if forgets { table.clear() } else { table.turn() }
        }
        self.candidate.store(candidate as u8, Ordering::Relaxed);
        self.armed.store(era.saturating_add(1), Ordering::Release);
    }

    pub(super) fn disarm(&self) {
        self.armed.store(0, Ordering::Relaxed);
    }

    /// Begins a new window of visitors.
    pub(super) fn turn(&self) {
        self.tables().for_each(VisitorTable::turn);
    }

    pub(super) fn set_limits(&self, limits: &Limits) {
        for (variant, cells) in self.slow.iter() {
            for (cell, limit) in cells.iter().zip(limits.slow[variant]) {
                cell.store(ns_or_off(limit), Ordering::Relaxed);
            }
        }
        self.stall.store(ns_or_off(limits.stall), Ordering::Relaxed);
    }

    /// How many different visitors of a variant failed since the rollout began.
    pub(super) fn failed_visitors(&self, variant: Variant) -> u64 {
        self.tables[variant].iter().filter_map(OnceLock::get).map(|table| table.failed_ever()).sum()
    }

    pub(in crate::telemetry) fn is_armed(&self, era: u64) -> bool {
        self.armed.load(Ordering::Acquire) == era.saturating_add(1)
    }

    pub(in crate::telemetry) fn stall(&self) -> Option<Duration> {
        Some(self.stall.load(Ordering::Relaxed)).filter(|ns| *ns != u64::MAX).map(Duration::from_nanos)
    }

    /// The flags of every limit that `waited` is beyond.
    fn slow_flags(&self, variant: Variant, waited: Duration) -> u8 {
        let ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.slow[variant]
            .iter()
            .enumerate()
            .fold(0, |flags, (at, limit)| flags | u8::from(ns > limit.load(Ordering::Relaxed)) << at)
            * SLOW
    }

    fn tables(&self) -> impl Iterator<Item = &VisitorTable> {
        let PerVariant { blue, green } = &self.tables;
        blue.iter().chain(green).filter_map(|table| table.get().map(AsRef::as_ref))
    }
}

fn ns_or_off(limit: Option<Duration>) -> u64 {
    limit.and_then(|limit| u64::try_from(limit.as_nanos()).ok()).unwrap_or(u64::MAX)
}

/// The stratum of a routing decision; `None`: chance had no part in it.
pub(in crate::telemetry) const fn stratum(reason: Reason) -> Option<usize> {
    match reason {
        Reason::User => Some(0),
        Reason::Cookie => Some(1),
        Reason::Draw => Some(DRAW),
        Reason::Killed | Reason::Override | Reason::Weight | Reason::Ratchet => None,
    }
}

/// A judged unit: who, where, in which era.
#[derive(Clone, Copy, Debug)]
pub(in crate::telemetry) struct Unit {
    pub(in crate::telemetry) era: u64,
    pub(in crate::telemetry) variant: Variant,
    pub(in crate::telemetry) stratum: usize,
    /// Well mixed.
    pub(in crate::telemetry) hash: u64,
}

/// What was found out about a unit.
#[derive(Clone, Copy, Debug)]
pub(in crate::telemetry) struct Found {
    /// Of the flags, all but those for slowness.
    pub(in crate::telemetry) flags: u8,
    /// For how long it waited for a response head, if that is to be judged.
    pub(in crate::telemetry) waited: Option<Duration>,
    /// Whether it is the first word on its request.
    pub(in crate::telemetry) is_first: bool,
}

/// One worker's counts for one service's trial.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Score {
    /// As on the board.
    armed: AtomicU64,
    /// Failures of the candidate since it last did well.
    in_a_row: Counter,
    cells: PerVariant<[Cell; STRATA]>,
}

type Cell = [Counter; KINDS];

/// So many failures of the candidate in a row wake whoever judges.
const ALARM_AFTER: u64 = 5;

impl Score {
    /// Counts what was found out, if its era is still judged. Only the owning thread calls it.
    pub(in crate::telemetry) fn judge(&self, board: &Board, unit: &Unit, found: Found) -> bool {
        let Unit { era, variant, stratum, hash } = *unit;
        if !board.is_armed(era) {
            return false;
        }
        self.begin(era.saturating_add(1));
        let slow = found.waited.map_or(0, |waited| board.slow_flags(variant, waited));
        let flags = SEEN | found.flags | slow;
        let marked = if stratum == DRAW {
            let new = if found.is_first { flags } else { flags & !SEEN };
            Marked { new, is_barred: false }
        } else {
            board.tables[variant][stratum].get_or_init(Box::default).mark(hash, flags)
        };
        self.count(variant, stratum, hash, marked);
        if variant as u8 == board.candidate.load(Ordering::Relaxed) {
            self.row(flags & FAILED != 0, found.is_first, board);
        }
        true
    }

    fn count(&self, variant: Variant, stratum: usize, hash: u64, marked: Marked) {
        let Marked { new, is_barred } = marked;
        if new == 0 {
            return;
        }
        let cell = &self.cells[variant][stratum];
        let is_half = hash & 1 == 0;
        let countable = if is_barred { new & !FAILED } else { new };
        for (kind, counter) in cell.iter().enumerate().take(FLAGS) {
            if countable & (1 << kind) != 0 {
                counter.increment();
            }
        }
        if is_barred {
            if new & SEEN != 0 {
                cell[BARRED].increment();
            }
        } else if is_half {
            if new & SEEN != 0 {
                cell[HALF_SEEN].increment();
            }
            if new & FAILED != 0 {
                cell[HALF_FAILED].increment();
            }
        }
    }

    fn row(&self, has_failed: bool, is_first: bool, board: &Board) {
        if has_failed {
            self.in_a_row.increment();
            if self.in_a_row.read() >= ALARM_AFTER {
                self.in_a_row.reset();
                board.alarm.notify_one();
            }
        } else if is_first {
            self.in_a_row.reset();
        }
    }

    fn begin(&self, armed: u64) {
        if self.armed.load(Ordering::Relaxed) != armed {
            self.cells.iter().flat_map(|(_, strata)| strata.as_flattened()).for_each(Counter::reset);
            self.in_a_row.reset();
            self.armed.store(armed, Ordering::Release);
        }
    }

    /// Adds what was counted in an era to `sums`.
    pub(super) fn add_to(&self, sums: &mut Sums, era: u64) {
        if self.armed.load(Ordering::Acquire) != era.saturating_add(1) {
            return;
        }
        for (variant, strata) in self.cells.iter() {
            let cells = strata.as_flattened().iter();
            for (sum, counter) in sums[variant].as_flattened_mut().iter_mut().zip(cells) {
                *sum += counter.read();
            }
        }
    }
}
