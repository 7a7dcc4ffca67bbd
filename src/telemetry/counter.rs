//! A number that one thread writes and others read.
//!
//! With a single writer an increment needs no read-modify-write: a relaxed load and a relaxed store
//! are two plain moves, and a reader still never sees the number go back. Who may write is held by
//! types: the handles that reach these methods cannot leave their thread.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts up; wraps after 2^64.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Adds one. Only the owning thread calls it.
    pub(super) fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`. Only the owning thread calls it.
    pub(super) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Begins anew. Only the owning thread calls it.
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
