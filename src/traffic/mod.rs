//! Which variant does a visitor get? Pure: no clock, no socket, no chance.
//!
//! The promises of the product live here. [`assign`] is a function of a [`Split`], of what the
//! visitor proved about himself and of one random draw, so its laws can be tested by property:
//! raising the weight never takes a visitor off the candidate, lowering it never adds one, and the
//! share is exact because a visitor has a fixed [`Bucket`] and never a remembered variant.

mod assign;
mod bucket;
mod lock;
mod mirror;
mod split;
mod variant;
mod visitor_id;
mod weight;

pub use assign::{Assignment, Reason, RingSet, Visitor, assign};
pub use bucket::Bucket;
pub use lock::{Cause, Lock};
pub use mirror::is_mirrored;
pub use split::{By, Otherwise, Split};
pub use variant::{PerVariant, Role, Variant};
pub use visitor_id::{
    CookieError, Key, KeyError, Keys, OverrideCookie, RatchetCookie, VisitorCookie, VisitorId,
};
pub use weight::{ShareError, Weight};
