//! The immutable routing table: control publishes it, the proxy reads it.
//!
//! One table holds everything a request needs to know: which service it is for, how that service is split,
//! which endpoints are healthy. It is replaced as a whole, so a request never sees half a change.

mod host;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod matching;
mod mirror;
mod path;
mod retries;
mod service;
mod success;
mod table;
mod upgrade;

pub use host::{Host, HostError, HostPattern};
pub use matching::{Matcher, Overlap, Route};
pub use mirror::{MirrorMethods, MirrorSettings};
pub use path::{PathError, PathPrefix, normalise};
pub use retries::{EndpointLimits, Retries, RetryMethods, RetryOn};
pub use service::{
    Limits, Recognition, Secret, ServiceSettings, Tell, TesterOverride, Timeouts, UserKey, WhenUnhealthy,
};
pub use success::SuccessRule;
pub use table::{Cut, Group, Member, Publisher, Service, Standing, Table};
pub use upgrade::UpgradeToken;
