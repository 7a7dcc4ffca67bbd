//! What a rollout is going to do: stages of rising exposure, and the gates they are kept under.
//!
//! A plan is complete: every default is filled in, every name resolved, and it is checked as a whole when it
//! is made ([`Plan::check`]), also when it comes from a file of an earlier process.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::windows::Windows;
use crate::traffic::Weight;

/// A plan.
///
/// It is saved with its rollout, inside the state of a service: a field that a later version adds needs a default, so that
/// an old plan never makes a state unreadable.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Plan {
    /// Its name, also the salt while it runs.
    pub name: Arc<str>,
    /// How long to wait before the first stage; default 0.
    pub delay: Duration,
    /// At least one with weight; weights rise. Those that mirror come first.
    pub stages: Vec<Stage>,
    /// The gates of every stage that has none of its own.
    pub gates: Gates,
    /// α, the chance of rolling back a candidate that is as good as stable, over the whole rollout; default 0.01,
    /// more than 0 and at most 0.2.
    pub false_rollback: f64,
    /// How long at the start of a stage the gates tolerate more, because pools and caches are cold; default 60 s.
    pub warmup: Duration,
    /// What happens when a stage's `max_hold` is over without a verdict.
    pub on_inconclusive: OnInconclusive,
    /// How long stable stays warm after the last stage; then the roles swap. Default 0.
    pub keep: Duration,
    /// When the rollout may start and advance; always by default.
    pub windows: Windows,
    /// The objective of the service, if it has one.
    pub slo: Option<Slo>,
    /// Names of configured hooks that are asked before something happens.
    pub confirm: Confirms,
    /// Names of configured channels that are told; empty: all of them.
    pub notify: Vec<Arc<str>>,
}

/// One step of exposure.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Stage {
    /// The candidate's share; 0 in a stage that mirrors.
    pub weight: Weight,
    /// The share of stable's visitors whose requests are copied to the candidate, in a stage before any weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Weight>,
    /// How long at least.
    pub hold: Hold,
    /// Candidate requests at least; default 0.
    pub min_requests: u64,
    /// After this much armed time without a verdict `on_inconclusive` applies; `None`: never.
    pub max_hold: Option<Duration>,
    /// Whether a person has to `advance` after it.
    pub approval: bool,
    /// Gates in place of the plan's.
    pub gates: Option<Gates>,
    /// λmax: how many times stable's failures are tolerated in the permission to advance; `None`: by weight, 10 up to
    /// 1 %, 5 up to 5 %, 3 up to 25 %, else 2.
    pub tolerate: Option<f64>,
}

impl Plan {
    /// A plan with every default.
    pub fn new(name: impl Into<Arc<str>>, stages: Vec<Stage>) -> Self {
        Self {
            name: name.into(),
            delay: Duration::ZERO,
            stages,
            gates: Gates::standard(),
            false_rollback: 0.01,
            warmup: Duration::from_secs(60),
            on_inconclusive: OnInconclusive::Hold,
            keep: Duration::ZERO,
            windows: Windows::default(),
            slo: None,
            confirm: Confirms::default(),
            notify: Vec::new(),
        }
    }

    /// What a person's shift to `weight` runs: one endless stage.
    pub fn manual(weight: Weight, gates: Gates, slo: Option<Slo>) -> Self {
        Self { gates, slo, ..Self::new("shift", vec![Stage::new(weight, Hold::Endless)]) }
    }

    /// The gates of a stage.
    pub fn gates_of<'p>(&'p self, stage: &'p Stage) -> &'p Gates {
        stage.gates.as_ref().unwrap_or(&self.gates)
    }
}

impl Stage {
    /// A stage with every default.
    pub const fn new(weight: Weight, hold: Hold) -> Self {
        Self {
            weight,
            mirror: None,
            hold,
            min_requests: 0,
            max_hold: None,
            approval: false,
            gates: None,
            tolerate: None,
        }
    }

    /// One at weight 0 that copies requests of this share of visitors, with every other default.
    pub const fn mirrored(share: Weight, hold: Hold) -> Self {
        let mut stage = Self::new(Weight::ZERO, hold);
        stage.mirror = Some(share);
        stage
    }
}

/// How long a stage lasts at least.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// So much armed time.
    For(Duration),
    /// Until the next such time of day, `HH:MM`, in a time zone of the IANA database.
    Until {
        /// Minutes since midnight, 0 to 1439.
        minute_of_day: u16,
        /// For instance `Europe/Berlin`.
        zone: Arc<str>,
    },
    /// Until somebody decides.
    Endless,
}

/// The criteria of a stage. At most one of each kind that Tidegate measures itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Gates {
    /// Failures.
    pub errors: Option<ErrorsGate>,
    /// 4xx.
    pub client_errors: Option<RatioGate>,
    /// Time to the response head.
    pub latency: Option<LatencyGate>,
    /// Successes that are counted for the business.
    pub business: Option<BusinessGate>,
    /// Values from elsewhere.
    pub metrics: Vec<MetricGate>,
    /// A candidate without a usable endpoint.
    pub health: Option<HealthGate>,
    /// Whether somebody said that nothing is to be watched (`gates: none`). No gates without that are a mistake.
    #[serde(default)]
    pub none_said: bool,
}

impl Gates {
    /// What applies when nothing is written: errors 1.1 × and 0.5 % roll back; p99 1.2 × and 4xx 1.5 × pause; 10 s
    /// without a usable endpoint roll back.
    pub fn standard() -> Self {
        Self {
            errors: Some(ErrorsGate {
                ratio: 1.1,
                limit: Some(0.005),
                floor: None,
                on_fail: OnFail::Rollback,
            }),
            client_errors: Some(RatioGate { ratio: 1.5, on_fail: OnFail::Pause }),
            latency: Some(LatencyGate { ratio: 1.2, on_fail: OnFail::Pause }),
            business: None,
            metrics: Vec::new(),
            health: Some(HealthGate { unhealthy_for: Duration::from_secs(10) }),
            none_said: false,
        }
    }

    /// Nothing is watched, and somebody said so.
    pub const fn none() -> Self {
        Self {
            errors: None,
            client_errors: None,
            latency: None,
            business: None,
            metrics: Vec::new(),
            health: None,
            none_said: true,
        }
    }

    /// Whether anything of them reads the candidate's traffic or a metric: without, there is no evidence to wait for.
    pub fn measure(&self) -> bool {
        self.read_traffic() || !self.metrics.is_empty()
    }

    /// Those that need nobody on the candidate.
    #[must_use]
    pub fn without_traffic(&self) -> Self {
        Self { errors: None, client_errors: None, latency: None, business: None, ..self.clone() }
    }

    /// Whether anything of them compares the traffic of the two variants.
    pub fn read_traffic(&self) -> bool {
        self.errors.is_some()
            || self.client_errors.is_some()
            || self.latency.is_some()
            || self.business.is_some()
    }
}

/// What a failed gate does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFail {
    /// Weight 0 and a lock.
    Rollback,
    /// The weight stays; a person decides.
    #[default]
    Pause,
}

/// What happens when a stage cannot decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnInconclusive {
    /// It goes on waiting.
    #[default]
    Hold,
    /// The next stage, all the same.
    Advance,
    /// Back to stable, without a lock's blame: nothing is proven.
    Rollback,
}

/// Failures of the candidate, against stable's and against an absolute limit.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ErrorsGate {
    /// λ0: how many times as often as stable it may fail; default 1.1, at least 1.
    pub ratio: f64,
    /// The share that it may fail whatever stable does, 0 to 1; default 0.005.
    pub limit: Option<f64>,
    /// Below this share it may go on whatever stable does; `None`: the limit, 0.005 without one.
    pub floor: Option<f64>,
    /// Default: roll back.
    pub on_fail: OnFail,
}

/// How many times as often as stable something may happen.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RatioGate {
    /// At least 1.
    pub ratio: f64,
    /// What follows.
    pub on_fail: OnFail,
}

/// Slow requests, against stable's quantiles of the last 5 minutes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct LatencyGate {
    /// c: how many times as long as stable's quantile a request of the candidate may take; default 1.2, at least 1.
    pub ratio: f64,
    /// Default: pause.
    pub on_fail: OnFail,
}

/// Successes per visitor: requests that match.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct BusinessGate {
    /// A method, for instance `POST`; `None`: any.
    pub method: Option<Arc<str>>,
    /// A path prefix by whole segments.
    pub path: Arc<str>,
    /// Status codes from … to, both included.
    pub status: (u16, u16),
    /// λ0: the tolerated ratio of the candidate's successes to stable's; default 0.95, more than 0 and at most 1.
    pub ratio: f64,
    /// Default: roll back.
    pub on_fail: OnFail,
}

/// A value from elsewhere, compared.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct MetricGate {
    /// Its name, unique in the plan.
    pub name: Arc<str>,
    /// Where it comes from.
    pub source: MetricSource,
    /// What is demanded.
    pub pass_if: Compare,
    /// Default: pause. Rolling back is outside the false-rollback budget.
    pub on_fail: OnFail,
    /// How many readings in a row have to miss; default 3, at least 1.
    pub misses: u32,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricSource {
    /// A PromQL query, asked per variant.
    Query {
        /// A source that the configuration names.
        source: Arc<str>,
        /// With `{{service}}`, `{{variant}}`, `{{version}}` and `{{role}}` in it.
        query: Arc<str>,
        /// How often; default 30 s.
        interval: Duration,
    },
    /// Whoever pushes it to the admin API. Older than `stale_after` is no evidence.
    Pushed {
        /// Default 5 min.
        stale_after: Duration,
    },
}

/// A comparison that has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compare {
    /// The candidate's value is at most this.
    AtMost(f64),
    /// The candidate's value is at least this.
    AtLeast(f64),
    /// At most stable's value times this.
    AtMostStable(f64),
    /// At least stable's value times this.
    AtLeastStable(f64),
}

/// How long a candidate may have no usable endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HealthGate {
    /// Default 10 s.
    pub unhealthy_for: Duration,
}

/// An objective: what share of requests may not fail.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Slo {
    /// For instance 0.999; more than 0, less than 1.
    pub objective: f64,
    /// The share of the month's budget that one rollout may burn before it is rolled back; default 0.005.
    pub budget_cap: f64,
}

/// Hooks that are asked, by the name they have in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Confirms {
    /// Before the first stage.
    pub rollout: Vec<Arc<str>>,
    /// Before each rise.
    pub traffic_increase: Vec<Arc<str>>,
    /// Before the roles swap.
    pub promotion: Vec<Arc<str>>,
    /// Asked all the time: yes means roll back.
    pub rollback: Vec<Arc<str>>,
}

/// Why a plan is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {why}")]
pub struct PlanError {
    /// Where: `stages[1].hold`.
    pub place: String,
    /// What is wrong, and the cure.
    pub why: String,
}
