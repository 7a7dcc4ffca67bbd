//! How a service assigns its visitors.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cause, Role, Variant, Weight};

/// What a visitor is recognised by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Nothing: each request is drawn anew.
    Request,
    /// The visitor cookie that Tidegate issues.
    #[default]
    Cookie,
    /// A key that the application gives its users.
    User,
}

/// What to do under [`By::User`] with a visitor without a key. Never silently a draw per request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// Recognise him by cookie.
    #[default]
    Cookie,
    /// Draw each request.
    Request,
    /// Leave him on stable.
    Stable,
}

/// Everything that decides where a visitor goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The place in the candidate's role; the other is stable.
    pub candidate: Variant,
    /// The candidate's share.
    pub weight: Weight,
    /// What visitors are recognised by.
    pub by: By,
    /// What happens under `by: user` to a visitor without a key.
    pub otherwise: Otherwise,
    /// Once on the candidate, always on the candidate, within an epoch.
    pub ratchet: bool,
    /// What was pinned under another epoch does not count.
    pub epoch: u64,
    /// Mixed into every bucket, so that the same people are not first every time.
    pub salt: Arc<str>,
    /// Nothing moves toward the candidate while this is set.
    pub lock: Option<Cause>,
}

impl Split {
    /// The place in the stable role.
    pub const fn stable(&self) -> Variant {
        self.candidate.other()
    }

    /// The role of a place.
    pub fn role(&self, variant: Variant) -> Role {
        if variant == self.candidate { Role::Candidate } else { Role::Stable }
    }

    /// Whether testers, too, are kept off the candidate.
    pub fn is_killed(&self) -> bool {
        self.lock == Some(Cause::Kill)
    }

    /// The share of one place.
    pub fn share(&self, variant: Variant) -> Weight {
        match self.role(variant) {
            Role::Candidate => self.weight,
            Role::Stable => self.weight.rest(),
        }
    }

    /// Whether the visitor cookie can decide anything at the moment. While it cannot, none is read
    /// and none is issued: responses stay cacheable at 0 % and 100 %.
    pub fn wants_cookie(&self, has_user_key: bool) -> bool {
        self.weight.is_partial()
            && match self.by {
                By::Request => false,
                By::Cookie => true,
                By::User => !has_user_key && self.otherwise == Otherwise::Cookie,
            }
    }
}
