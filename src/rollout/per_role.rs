//! One of something for stable, one for the candidate.

use serde::{Deserialize, Serialize};

use crate::traffic::{PerVariant, Role, Variant};

/// One `T` for each role. Counts are kept by place; a rollout compares roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct PerRole<T> {
    /// What users get otherwise.
    pub stable: T,
    /// What is being tried.
    pub candidate: T,
}

impl<T> PerRole<T> {
    /// By place, when this place is the candidate.
    pub fn of(places: PerVariant<T>, candidate: Variant) -> Self {
        let PerVariant { blue, green } = places;
        match candidate {
            Variant::Blue => Self { stable: green, candidate: blue },
            Variant::Green => Self { stable: blue, candidate: green },
        }
    }

    /// The one of a role.
    pub const fn get(&self, role: Role) -> &T {
        match role {
            Role::Stable => &self.stable,
            Role::Candidate => &self.candidate,
        }
    }

    /// Each changed by `change`.
    pub fn map<U>(self, mut change: impl FnMut(Role, T) -> U) -> PerRole<U> {
        PerRole {
            stable: change(Role::Stable, self.stable),
            candidate: change(Role::Candidate, self.candidate),
        }
    }
}
