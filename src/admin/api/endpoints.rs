//! What is said about endpoints that come and go at run time.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::traffic::Variant;

/// `POST /v1/services/NAME/endpoints/VERB`, VERB one of `add`, `remove`, `drain` and `undrain`: changes a variant's
/// endpoints, all that are named or none. Moves nobody to another variant. With `If-Match: N`, only if the service did
/// not change after generation N. What was changed survives a restart and lies over the configuration, until a reload
/// discards it or a deployment replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointsRequest {
    /// Whose endpoints.
    pub variant: Variant,
    /// URLs.
    pub endpoints: Vec<String>,
    /// The share of each among its peers, 1 to 1000, default 1; with `add` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Also where that leaves users with nobody to answer them, or changes a weight.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Why; for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who the caller says it acts for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

/// What became of endpoints; part of a [`super::ServiceChange`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EndpointsChange {
    /// Whose they are.
    pub variant: Variant,
    /// `add`, `remove`, `drain` or `undrain`.
    pub act: String,
    /// Which, with the weights that they have, or had.
    pub endpoints: Vec<EndpointShare>,
    /// What would have been a reason not to, without `force`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<String>,
}

/// An endpoint and its share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EndpointShare {
    /// Where it listens.
    pub url: String,
    /// Its share among its peers.
    pub weight: u16,
}

/// One endpoint; `GET /v1/services/NAME/endpoints` gives an array of them for each variant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EndpointStatus {
    /// Where it listens; with the address in brackets if it is one of several that a name has.
    pub url: String,
    /// `healthy`, `unhealthy` or `unknown`.
    pub health: String,
    /// `in service`; `ejected`; `draining`: it gets nothing new; `leaving`: it is not there any more, but something is
    /// under way there.
    #[serde(default)]
    pub standing: String,
    /// Its share among its peers.
    pub weight: u16,
    /// Requests and tunnels that are under way there.
    #[serde(default)]
    pub in_flight: u64,
    /// Attempts that are over, retries included, since the start.
    #[serde(default)]
    pub requests: u64,
    /// Those of them that failed.
    #[serde(default)]
    pub failures: u64,
    /// How often it was ejected since the start.
    #[serde(default)]
    pub ejections: u64,
    /// The pause that it has because requests failed there, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejected: Option<Ejection>,
    /// Why the last check failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why an endpoint gets no requests for a while, whatever its checks say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ejection {
    /// When it is back at the latest.
    pub until: Timestamp,
    /// What happened.
    pub why: String,
}
