//! When a rollout may start and advance: times of the week, and dates that are denied.
//!
//! Gates and rollbacks know no windows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Allowed times. Empty `allowed` allows always, but on denied dates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Windows {
    /// Any of these.
    pub allowed: Vec<Window>,
    /// None of these dates (`2026-12-24`), from midnight to midnight in `zone`.
    pub denied: Vec<Arc<str>>,
    /// An IANA time zone; empty: UTC.
    pub zone: Arc<str>,
}

/// A time of some days of the week.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Window {
    /// Monday is 0, Sunday 6; empty: every day.
    pub days: Vec<u8>,
    /// Minutes since midnight, 0 to 1439.
    pub from: u16,
    /// Minutes since midnight, 1 to 1440, not included; smaller than `from` means the next day.
    pub to: u16,
}

impl Windows {
    /// Whether a rollout may start or advance at this moment.
    pub fn is_open(&self, _at: Timestamp) -> bool {
        self.allowed.is_empty() && self.denied.is_empty()
    }
}
