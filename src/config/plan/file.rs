//! A plan as it is written, key by key. The comments here are what an editor shows through the JSON Schema.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::flagger::{AnalysisFile, CanaryFile};
use super::words::{Date, Lasting, Limit, Name, Percent, Ratio, Share, Statuses, Text, Threshold, Zone};
use crate::config::scalar::{CheckPath, Count, Nothing};
use crate::config::written::{List, Named, Never, Short, Written};
use crate::rollout::{Hold, OnFail, OnInconclusive, Window};
use crate::traffic::Weight;

/// A rollout: what a plan file holds, or `services.NAME.rollout`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PlanFile {
    /// Its name, also the salt while it runs. Default: the candidate's version, else the schedule and the time.
    pub(super) name: Option<Written<Name>>,
    /// A schedule to start from: canary, payment, aggressive, conservative, emergency, hourly or blue-green.
    pub(super) schedule: Option<Written<Name>>,
    /// How long to wait before the first stage. Default 0s.
    pub(super) delay: Option<Written<Duration>>,
    /// The steps of exposure; weights rise. They replace those of the schedule.
    pub(super) stages: Option<Short<Never, StageFile, Never>>,
    /// What is watched; what is not written stays as it is for the service. none: nothing is.
    pub(super) gates: Option<GatesFile>,
    /// A set of gates that the configuration names under tiers, in place of the service's.
    pub(super) tier: Option<Written<Name>>,
    /// The chance of rolling back a candidate that is as good as stable, over the whole rollout; at most 20%. Default 1%.
    pub(super) false_rollback: Option<Written<Share>>,
    /// How long at the start of a stage more is tolerated, because pools and caches are cold. Default 60s.
    pub(super) warmup: Option<Written<Duration>>,
    /// What happens after max_hold without a verdict. Default hold.
    pub(super) on_inconclusive: Option<Written<OnInconclusive>>,
    /// How long stable stays warm after the last stage; then the roles swap. Default 0s.
    pub(super) keep: Option<Written<Duration>>,
    /// When the rollout may start and advance. Default: always.
    pub(super) windows: Option<WindowsFile>,
    /// The share of requests that may not fail. Default: that of the service.
    pub(super) slo: Option<SloFile>,
    /// Hooks that have to say yes.
    pub(super) confirm: Option<ConfirmFile>,
    /// The channels that are told. Default: all of them.
    pub(super) notify: Option<List<Name>>,
    /// Flagger's form of a plan.
    #[serde(alias = "canaryAnalysis")]
    pub(super) analysis: Option<Short<Never, Never, AnalysisFile>>,
    /// Flagger's Canary resource, as a whole.
    #[serde(rename = "apiVersion")]
    pub(super) api_version: Option<Written<String>>,
    /// Canary, for Flagger's resource.
    pub(super) kind: Option<Written<String>>,
    /// Of Flagger's resource; nothing in it matters here.
    #[serde(rename = "metadata")]
    #[schemars(with = "Option<serde_json::Value>")]
    _metadata: Option<IgnoredAny>,
    /// Of Flagger's resource; its analysis matters here.
    pub(super) spec: Option<CanaryFile>,
}

pub(super) type StageFile = Short<Never, Never, StageLong>;

/// A step of exposure.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StageLong {
    /// The candidate's share: 5%.
    pub(super) weight: Option<Written<Weight>>,
    /// In place of weight, in stages before any: requests of this share of visitors are copied to the candidate, which
    /// nobody gets an answer of.
    pub(super) mirror: Option<Written<Weight>>,
    /// How long at least: 15m, until 09:00 Europe/Berlin, or endless.
    pub(super) hold: Option<Written<Hold>>,
    /// How many requests the candidate must have had at least. Default 0.
    pub(super) min_requests: Option<Written<Count>>,
    /// After so long without a verdict on_inconclusive applies. Default: never.
    pub(super) max_hold: Option<Written<Duration>>,
    /// Whether a person has to say `tidegate rollout advance` after it. Default false.
    pub(super) approval: Option<Written<bool>>,
    /// What is watched in this stage; what is not written stays as it is for the plan. none: nothing is.
    pub(super) gates: Option<GatesFile>,
    /// How many times stable's failures are tolerated when it is to advance. Default by weight: 10 up to 1%, 5 up to 5%,
    /// 3 up to 25%, else 2.
    pub(super) tolerate: Option<Written<Ratio>>,
    /// For weight, in plans that mean percent by a bare number.
    pub(super) percentage: Option<Written<Percent>>,
    /// For hold, also infinity in the last stage.
    pub(super) duration: Option<Written<Lasting>>,
    /// For gates, as metrics and thresholds.
    pub(super) success_criteria: Option<Short<Never, CriterionFile, Never>>,
}

pub(super) type CriterionFile = Short<Never, Never, CriterionLong>;

/// A metric and what it must not pass.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CriterionLong {
    /// error_rate, success_rate, client_error_rate, latency_p99 and its like; any other name is a number that is pushed.
    pub(super) metric: Written<Name>,
    /// "< 0.5%", ">= baseline * 0.95".
    pub(super) threshold: Written<Threshold>,
    /// rollback or pause.
    pub(super) on_fail: Option<Written<OnFail>>,
}

/// Gates, or none.
pub(in crate::config) type GatesFile = Short<Nothing, Never, GatesLong>;

/// What is watched. A gate that is not written stays as it is; none takes it away.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct GatesLong {
    /// Failures: 5xx, refused, reset and late answers.
    pub(super) errors: Option<Short<Nothing, Never, ErrorsFile>>,
    /// 4xx.
    pub(super) client_errors: Option<Short<Nothing, Never, RatioFile>>,
    /// Time to the response head, at p50, p90, p95 and p99.
    pub(super) latency: Option<Short<Nothing, Never, RatioFile>>,
    /// Requests that are a success for the business, by visitor. Default none.
    pub(super) business: Option<Short<Nothing, Never, BusinessFile>>,
    /// A candidate without a usable endpoint.
    pub(super) health: Option<Short<Nothing, Never, HealthGateFile>>,
    /// Values from elsewhere, by name.
    pub(super) metrics: Option<Named<Short<Nothing, Never, MetricFile>, true>>,
}

/// Failures of the candidate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorsFile {
    /// How many times as often as stable it may fail, at least 1. Default 1.1.
    pub(super) ratio: Option<Written<Ratio>>,
    /// The share that may fail whatever stable does; none for no such limit. Default 0.5%.
    pub(super) limit: Option<Written<Limit>>,
    /// Below this share it may go on whatever stable does. Default: the limit.
    pub(super) floor: Option<Written<Share>>,
    /// rollback or pause. Default rollback.
    pub(super) on_fail: Option<Written<OnFail>>,
}

/// Something that may happen more often, or take longer, than with stable.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RatioFile {
    /// How many times as often or as long, at least 1. Default 1.5 for client_errors, 1.2 for latency.
    pub(super) ratio: Option<Written<Ratio>>,
    /// rollback or pause. Default pause.
    pub(super) on_fail: Option<Written<OnFail>>,
}

/// Successes by visitor.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BusinessFile {
    /// The method. Default: any.
    pub(super) method: Option<Written<String>>,
    /// The path at and below which, by whole segments.
    pub(super) path: Option<Written<CheckPath>>,
    /// The status: 200-299, 2xx or 201. Default 200-299.
    pub(super) status: Option<Written<Statuses>>,
    /// The least ratio of the candidate's successes to stable's, at most 1. Default 0.95.
    pub(super) ratio: Option<Written<Ratio>>,
    /// rollback or pause. Default rollback.
    pub(super) on_fail: Option<Written<OnFail>>,
}

/// A candidate without a usable endpoint.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthGateFile {
    /// For so long. Default 10s.
    pub(super) unhealthy_for: Option<Written<Duration>>,
}

/// A value from elsewhere.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricFile {
    /// The source to ask, as the configuration names it under sources.
    pub(super) source: Option<Written<Name>>,
    /// PromQL, with {{service}}, {{variant}}, {{version}} and {{role}}; it must return one number.
    pub(super) query: Option<Written<Text>>,
    /// How often the source is asked. Default 30s.
    pub(super) interval: Option<Written<Duration>>,
    /// true: the number is pushed to the admin API instead.
    pub(super) pushed: Option<Written<bool>>,
    /// When a pushed number is too old to count. Default 5m.
    pub(super) stale_after: Option<Written<Duration>>,
    /// What is demanded, in quotes: "< 0.5%", ">= stable * 0.95".
    pub(super) pass_if: Option<Written<Threshold>>,
    /// How many readings in a row have to miss. Default 3.
    pub(super) misses: Option<Written<Count>>,
    /// rollback or pause. Default pause.
    pub(super) on_fail: Option<Written<OnFail>>,
}

/// When a rollout may start and advance.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WindowsFile {
    /// Times of the week: Mon-Fri 09:00-17:00.
    pub(super) allow: Option<List<Window>>,
    /// Dates on which nothing moves: 2026-12-24.
    pub(super) deny: Option<List<Date>>,
    /// The time zone of both. Default UTC.
    pub(super) zone: Option<Written<Zone>>,
}

/// An objective: 99.9%, or with its budget.
pub(in crate::config) type SloFile = Short<Share, Never, SloLong>;

/// An objective.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SloLong {
    /// The share of requests that may not fail: 99.9%.
    pub(super) objective: Written<Share>,
    /// The share of the month's error budget that one rollout may burn before it is rolled back. Default 0.5%.
    pub(super) budget_cap: Option<Written<Share>>,
}

/// Hooks that are asked, as the configuration names them under hooks.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmFile {
    /// Before the first stage.
    pub(super) rollout: Option<List<Name>>,
    /// Before each rise.
    pub(super) traffic_increase: Option<List<Name>>,
    /// Before the roles swap.
    pub(super) promotion: Option<List<Name>>,
    /// Asked all the time: a yes rolls back.
    pub(super) rollback: Option<List<Name>>,
}
