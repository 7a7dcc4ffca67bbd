//! What the control plane is told by the configuration: which services exist, and where they start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::rollout::{Gates, GuardMode, Slo};
use crate::routing::{Recognition, ServiceSettings};
use crate::traffic::{PerVariant, Variant, Weight};
use crate::upstream::{EndpointSpec, Reach};

/// The control plane's settings.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// The state folder; one process at a time.
    pub state: PathBuf,
    /// The services, in no particular order, with unique names and routes that do not overlap.
    pub services: Vec<ServiceConfig>,
}

/// A service as configured: what exists, and the values it starts with.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceConfig {
    /// What the data plane needs to know.
    pub settings: Arc<ServiceSettings>,
    /// How visitors are recognised.
    pub recognition: Recognition,
    /// The place in the stable role at first; default blue.
    pub stable: Variant,
    /// The candidate's weight at first; default 0 %.
    pub initial_weight: Weight,
    /// How long a split may stay between 0 and 100 % without a rollout that moves it; `None`, the default: for ever.
    pub split_expires: Option<Duration>,
    /// The share of stable's visitors whose requests are copied to the candidate at first; default 0 %.
    pub initial_mirror: Weight,
    /// The endpoints of each variant. A deployment replaces the candidate's, until the next one.
    pub endpoints: PerVariant<Vec<EndpointSpec>>,
    /// How the endpoints of each variant are spoken to, also those that a deployment brings.
    pub reach: PerVariant<Reach>,
    /// The version labels.
    pub version: PerVariant<Option<Arc<str>>>,
    /// What the guard does after a manual shift; default roll back.
    pub guard: GuardMode,
    /// The gates of a manual shift, and of plans that have none of their own.
    pub gates: Gates,
    /// The objective, if there is one.
    pub slo: Option<Slo>,
}
