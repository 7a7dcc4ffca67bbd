//! Flagger's analysis as a plan.
//!
//! Its weights become stages of one interval each, then everybody; its thresholds become limits beside the gates that the
//! service has anyway. What it does that Tidegate does otherwise or not at all is a problem with a cure, never left
//! out in silence.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::gates::rest;
use super::reader::{Known, Reader};
use super::words::{GoDuration, Name, Percent, Text, number};
use crate::config::meant::{did_you_mean, listed};
use crate::config::problem::below;
use crate::config::scalar::{Count, choose};
use crate::config::written::{Never, Short, Written};
use crate::rollout::{Confirms, Gates, Hold, OnFail, Stage};
use crate::traffic::Weight;

const SUCCESS: &str = "request-success-rate";
const DURATION: &str = "request-duration";
const STAGES_MAX: u32 = 1000;

/// The specification of Flagger's Canary resource.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub(in crate::config) struct CanaryFile {
    /// The plan.
    #[serde(alias = "canaryAnalysis")]
    pub(super) analysis: Option<Short<Never, Never, AnalysisFile>>,
    /// Kubernetes' own; nothing in it matters here.
    #[serde(rename = "targetRef")]
    #[schemars(with = "Option<serde_json::Value>")]
    _target_ref: Option<IgnoredAny>,
    /// Kubernetes' own; nothing in it matters here.
    #[serde(rename = "autoscalerRef")]
    #[schemars(with = "Option<serde_json::Value>")]
    _autoscaler_ref: Option<IgnoredAny>,
    /// Kubernetes' own; nothing in it matters here.
    #[serde(rename = "ingressRef")]
    #[schemars(with = "Option<serde_json::Value>")]
    _ingress_ref: Option<IgnoredAny>,
    /// Kubernetes' own; nothing in it matters here.
    #[serde(rename = "upstreamRef")]
    #[schemars(with = "Option<serde_json::Value>")]
    _upstream_ref: Option<IgnoredAny>,
    /// Kubernetes' own; nothing in it matters here.
    #[serde(rename = "service")]
    #[schemars(with = "Option<serde_json::Value>")]
    _service: Option<IgnoredAny>,
    /// Kubernetes' own; nothing in it matters here.
    #[serde(rename = "provider")]
    _provider: Option<Written<String>>,
    /// Kubernetes' own; nothing in it matters here.
    #[serde(rename = "progressDeadlineSeconds")]
    _progress_deadline_seconds: Option<Written<Count>>,
    /// Only false is taken.
    pub(super) skip_analysis: Option<Written<bool>>,
}

/// Flagger's analysis.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct AnalysisFile {
    /// How long each step is held.
    pub(super) interval: Option<Written<GoDuration>>,
    /// Failed checks until the rollback. Not needed: the gates look each second, at a known chance of a false alarm.
    pub(super) threshold: Option<Written<Count>>,
    /// The last step before everybody, in percent.
    pub(super) max_weight: Option<Written<Percent>>,
    /// From one step to the next, in percent.
    pub(super) step_weight: Option<Written<Percent>>,
    /// The steps, in percent.
    pub(super) step_weights: Option<Short<Never, Written<Percent>, Never>>,
    /// What is watched.
    pub(super) metrics: Option<Short<Never, FlaggerMetricFile, Never>>,
    /// Hooks, by the names that they have in the configuration.
    pub(super) webhooks: Option<Short<Never, WebhookFile, Never>>,
    #[schemars(skip)]
    step_weight_promotion: Option<Unsupported>,
    #[schemars(skip)]
    iterations: Option<Unsupported>,
    #[serde(rename = "match")]
    #[schemars(skip)]
    matches: Option<Unsupported>,
    #[schemars(skip)]
    mirror: Option<Unsupported>,
    #[schemars(skip)]
    mirror_weight: Option<Unsupported>,
    #[schemars(skip)]
    alerts: Option<Unsupported>,
    #[schemars(skip)]
    session_affinity: Option<Unsupported>,
    #[schemars(skip)]
    primary_ready_threshold: Option<Unsupported>,
    #[schemars(skip)]
    canary_ready_threshold: Option<Unsupported>,
}

/// What Flagger knows and a plan cannot say.
type Unsupported = serde_saphyr::Spanned<IgnoredAny>;

pub(in crate::config) type FlaggerMetricFile = Short<Never, Never, FlaggerMetricLong>;

/// A metric of Flagger.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct FlaggerMetricLong {
    /// request-success-rate or request-duration.
    pub(super) name: Option<Written<Text>>,
    /// What it must stay within.
    pub(super) threshold_range: Option<RangeFile>,
    /// The older form of thresholdRange.
    #[schemars(skip)]
    pub(super) threshold: Option<Written<Text>>,
    /// Not needed: the gates look each second.
    pub(super) interval: Option<Written<GoDuration>>,
    #[schemars(skip)]
    template_ref: Option<Unsupported>,
    #[schemars(skip)]
    template_variables: Option<Unsupported>,
    #[schemars(skip)]
    query: Option<Unsupported>,
}

/// From … to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RangeFile {
    /// At least.
    pub(super) min: Option<Written<Text>>,
    /// At most.
    pub(super) max: Option<Written<Text>>,
}

pub(in crate::config) type WebhookFile = Short<Never, Never, WebhookLong>;

/// A webhook of Flagger.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct WebhookLong {
    /// The name of a hook of the configuration.
    pub(super) name: Option<Written<Name>>,
    /// confirm-rollout, pre-rollout, confirm-traffic-increase, confirm-promotion or rollback.
    #[serde(rename = "type")]
    pub(super) kind: Option<Written<Text>>,
    #[schemars(skip)]
    url: Option<Unsupported>,
    #[schemars(skip)]
    timeout: Option<Unsupported>,
    #[schemars(skip)]
    metadata: Option<Unsupported>,
    #[schemars(skip)]
    mute_alert: Option<Unsupported>,
    #[serde(rename = "disableTLS")]
    #[schemars(skip)]
    disable_tls: Option<Unsupported>,
    #[schemars(skip)]
    retries: Option<Unsupported>,
}

/// What an analysis becomes.
pub(super) struct Read {
    pub(super) stages: Vec<Stage>,
    pub(super) gates: Gates,
    pub(super) confirm: Confirms,
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    at: &str,
    line: u64,
    file: AnalysisFile,
    gates: Gates,
    known: &Known,
) -> Read {
    refuse(
        reader,
        at,
        &[
            (
                "stepWeightPromotion",
                &file.step_weight_promotion,
                "nothing is copied back here, the roles swap; leave it out",
            ),
            (
                "iterations",
                &file.iterations,
                "testing without traffic is not a rollout; run the tests before it, and write schedule: blue-green, or stepWeight",
            ),
            (
                "match",
                &file.matches,
                "who sees the candidate is the service's affair; write its split and override",
            ),
            ("mirror", &file.mirror, "requests are not mirrored; leave it out"),
            ("mirrorWeight", &file.mirror_weight, "requests are not mirrored; leave it out"),
            (
                "alerts",
                &file.alerts,
                "write notify: [CHANNEL] beside the analysis; channels are named in the configuration",
            ),
            (
                "sessionAffinity",
                &file.session_affinity,
                "visitors stick anyway, see split of the service; leave it out",
            ),
            (
                "primaryReadyThreshold",
                &file.primary_ready_threshold,
                "endpoints are checked one by one, see health of the service; leave it out",
            ),
            (
                "canaryReadyThreshold",
                &file.canary_ready_threshold,
                "endpoints are checked one by one, see health of the service; leave it out",
            ),
        ],
    );
    if let Some(threshold) = &file.threshold {
        let place = below(at, "threshold");
        if reader.read(&place, Some(threshold)).is_some() {
            let why = "does not count here: the gates look each second, at a known chance of a false alarm";
            reader.doubt(&place, threshold, why);
        }
    }
    let stages = stages(reader, at, line, &file);
    let gates = metrics(reader, &below(at, "metrics"), file.metrics, gates);
    let confirm = webhooks(reader, &below(at, "webhooks"), file.webhooks, known);
    Read { stages, gates, confirm }
}

fn refuse(reader: &mut Reader<'_>, at: &str, keys: &[(&str, &Option<Unsupported>, &str)]) {
    for (key, written, why) in keys {
        if let Some(written) = written {
            reader.wrong_at(&below(at, key), None, written.referenced.line(), *why);
        }
    }
}

fn stages(reader: &mut Reader<'_>, at: &str, line: u64, file: &AnalysisFile) -> Vec<Stage> {
    let interval_place = below(at, "interval");
    if file.interval.is_none() {
        reader.wrong_at(at, None, line, "how long is each step held? Add interval, such as 1m");
    }
    let interval = reader.read(&interval_place, file.interval.as_ref()).map(|GoDuration(time)| time);
    if let (Some(written), Some(time)) = (&file.interval, interval)
        && time.is_zero()
    {
        reader.wrong(&interval_place, written, "no time at all; write for instance 1m");
    }
    let max_place = below(at, "maxWeight");
    let max =
        reader.read(&max_place, file.max_weight.as_ref()).map_or(Weight::FULL, |Percent(weight)| weight);
    let step_place = below(at, "stepWeight");
    let step = reader.read(&step_place, file.step_weight.as_ref()).map(|Percent(weight)| weight);
    let mut weights = Vec::new();
    match (&file.step_weights, &file.step_weight) {
        (Some(list), Some(written)) => {
            let why = format!("stepWeights say the steps already (line {}); leave one out", list.line());
            reader.wrong(&step_place, written, why);
        }
        (Some(Short::List(list, line)), None) => {
            let place = below(at, "stepWeights");
            if list.is_empty() {
                reader.wrong_at(&place, Some("[]"), *line, "there is no step; add one, such as 10");
            }
            for (index, written) in list.iter().enumerate() {
                let place = format!("{place}[{index}]");
                let Some(Percent(weight)) = reader.read(&place, Some(written)) else { continue };
                if weights.last().map_or(weight == Weight::ZERO, |last| weight <= *last) {
                    let why = "weights rise from step to step, and begin above 0%; put them in order";
                    reader.wrong(&place, written, why);
                }
                weights.push(weight);
            }
            if let Some(written) = &file.max_weight {
                reader.doubt(&max_place, written, "stepWeights say where the steps end; leave it out");
            }
        }
        (Some(Short::One(value)), None) => {
            reader.wrong(
                &below(at, "stepWeights"),
                value,
                "a list of steps is expected here, such as [1, 5, 25]",
            );
        }
        (Some(Short::Mapping(never, _)), None) => match *never {},
        (None, Some(written)) => {
            if let Some(step) = step {
                if step == Weight::ZERO {
                    reader.wrong(&step_place, written, "no step at all; write for instance 10");
                } else if let (Some(written), true) = (&file.max_weight, max < step) {
                    reader.wrong(
                        &max_place,
                        written,
                        "is below the first step; raise it, or lower stepWeight",
                    );
                } else if max.millipercent() / step.millipercent() > STAGES_MAX {
                    reader.wrong(&step_place, written, "more than 1000 steps; raise it");
                } else {
                    let mut weight = 0;
                    while weight < max.millipercent() {
                        weight = (weight + step.millipercent()).min(max.millipercent());
                        weights.extend(Weight::from_millipercent(weight));
                    }
                }
            }
        }
        (None, None) => {
            reader.wrong_at(at, None, line, "there is no step; add stepWeight and maxWeight, or stepWeights");
        }
    }
    if weights.last().is_some_and(|last| *last < Weight::FULL) {
        weights.push(Weight::FULL);
    }
    let hold = Hold::For(interval.unwrap_or_default());
    weights
        .into_iter()
        .map(|weight| Stage {
            weight,
            mirror: None,
            hold: hold.clone(),
            min_requests: 0,
            max_hold: None,
            approval: false,
            gates: None,
            tolerate: None,
        })
        .collect()
}

fn metrics(
    reader: &mut Reader<'_>,
    at: &str,
    written: Option<Short<Never, FlaggerMetricFile, Never>>,
    mut gates: Gates,
) -> Gates {
    for (place, line, file) in mappings(reader, at, written) {
        let query = file.template_ref.as_ref().or(file.template_variables.as_ref()).or(file.query.as_ref());
        if let Some(written) = query {
            let why = "queries are written as gates beside the analysis: gates: {metrics: {NAME: {source: …, query: …, \
                       pass_if: \"< 1\"}}}, with a source that the configuration names";
            reader.wrong_at(&place, None, written.referenced.line(), why);
        }
        let name_place = below(&place, "name");
        let Some(Text(name)) = reader.read(&name_place, file.name.as_ref()) else {
            if file.name.is_none() {
                let why = format!("which metric? Add name: {SUCCESS} or {DURATION}");
                reader.wrong_at(&place, None, line, why);
            }
            continue;
        };
        if let Some(written) = &file.interval
            && reader.read(&below(&place, "interval"), Some(written)).is_some()
        {
            let why = "does not count here: the gates look each second";
            reader.doubt(&below(&place, "interval"), written, why);
        }
        let range = file.threshold_range.unwrap_or_default();
        match &*name {
            SUCCESS => success(reader, &place, line, &range, file.threshold.as_ref(), &mut gates),
            DURATION => duration(reader, &place, &range, file.threshold.as_ref(), &mut gates),
            _ if query.is_some() => {}
            name => {
                let why = match did_you_mean(name, [SUCCESS, DURATION]) {
                    Some(meant) => format!("there is no metric {name}; did you mean {meant}?"),
                    None => format!(
                        "there is no metric {name}; there is {SUCCESS} and {DURATION}, and others as gates: {{metrics: \
                         …}} beside the analysis"
                    ),
                };
                if let Some(written) = &file.name {
                    reader.wrong(&name_place, written, why);
                }
            }
        }
    }
    gates
}

/// A bound, in the newer form or the older one, and its place.
fn bound<'w>(
    reader: &mut Reader<'_>,
    place: &str,
    key: &str,
    written: Option<&'w Written<Text>>,
    threshold: Option<&'w Written<Text>>,
) -> Option<(String, &'w Written<Text>)> {
    let older = below(place, "threshold");
    if let (Some(written), Some(threshold)) = (written, threshold) {
        let why = format!("thresholdRange says it already (line {}); leave one out", written.line);
        reader.wrong(&older, threshold, why);
    }
    let newer = written.map(|written| (below(&below(place, "thresholdRange"), key), written));
    newer.or(threshold.map(|threshold| (older, threshold)))
}

/// Milliseconds are not judged: what is slow for one service is fast for another, and stable shows what is usual here.
fn duration(
    reader: &mut Reader<'_>,
    place: &str,
    range: &RangeFile,
    threshold: Option<&Written<Text>>,
    gates: &mut Gates,
) {
    if let Some(written) = &range.min {
        let place = below(&below(place, "thresholdRange"), "min");
        reader.wrong(&place, written, "this would demand slowness; did you mean max?");
    }
    let Some(gate) = gates.latency.take().or_else(|| Gates::standard().latency) else { return };
    if let Some((place, written)) = bound(reader, place, "max", range.max.as_ref(), threshold)
        && let Some(Text(text)) = reader.read(&place, Some(written))
    {
        if number(text.trim()).is_some_and(|milliseconds| milliseconds > 0.0) {
            let on_fail = match gate.on_fail {
                OnFail::Rollback => "rollback",
                OnFail::Pause => "pause",
            };
            let why = format!(
                "is replaced by the latency gate relative to stable (ratio {}, {on_fail}): Tidegate compares with stable \
                 instead of an absolute number; write gates: {{latency: {{ratio: …, on_fail: …}}}} beside the analysis for \
                 another ratio",
                gate.ratio
            );
            reader.doubt(&place, written, why);
        } else {
            reader.wrong(&place, written, "must be more than 0, in milliseconds, such as 500");
        }
    }
    gates.latency = Some(gate);
    gates.none_said = false;
}

fn success(
    reader: &mut Reader<'_>,
    place: &str,
    line: u64,
    range: &RangeFile,
    threshold: Option<&Written<Text>>,
    gates: &mut Gates,
) {
    let range_place = below(place, "thresholdRange");
    if let Some(written) = &range.max {
        reader.wrong(&below(&range_place, "max"), written, "this would demand errors; did you mean min?");
    }
    let Some((place, written)) = bound(reader, place, "min", range.min.as_ref(), threshold) else {
        let why = "how much at least? Add thresholdRange: {min: 99}";
        reader.wrong_at(&range_place, None, line, why);
        return;
    };
    let Some(Text(text)) = reader.read(&place, Some(written)) else { return };
    let share = number(text.trim().trim_end_matches('%').trim()).map(|percent| percent / 100.0);
    match share.filter(|share| *share > 0.0 && *share < 1.0) {
        Some(share) => {
            let mut gate = gates.errors.take().or_else(|| Gates::standard().errors);
            if let Some(gate) = &mut gate {
                gate.limit = Some(rest(share));
                gate.floor = gate.floor.filter(|floor| *floor <= rest(share));
                gate.on_fail = OnFail::Rollback;
            }
            gates.errors = gate;
            gates.none_said = false;
        }
        None => {
            reader.wrong(&place, written, "must be more than 0 and less than 100, in percent, such as 99")
        }
    }
}

fn webhooks(
    reader: &mut Reader<'_>,
    at: &str,
    written: Option<Short<Never, WebhookFile, Never>>,
    known: &Known,
) -> Confirms {
    const KINDS: [(&str, &str); 12] = [
        ("confirm-rollout", "rollout"),
        ("pre-rollout", "rollout"),
        ("confirm-traffic-increase", "traffic_increase"),
        ("confirm-promotion", "promotion"),
        ("rollback", "rollback"),
        ("rollout", ""),
        ("load-test", ""),
        ("skip", ""),
        ("post-rollout", "told"),
        ("event", "told"),
        ("alert", "told"),
        ("notify", "told"),
    ];
    let mut confirm = Confirms::default();
    for (place, line, file) in mappings(reader, at, written) {
        if let Some(url) = &file.url {
            let why = "commands, webhooks and query sources stand in the configuration only; name it under hooks there, and \
                       leave name and type here";
            reader.wrong_at(&below(&place, "url"), None, url.referenced.line(), why);
            continue;
        }
        let why = "belongs to the hook in the configuration; leave it out";
        refuse(
            reader,
            &place,
            &[
                ("timeout", &file.timeout, why),
                ("metadata", &file.metadata, why),
                ("muteAlert", &file.mute_alert, why),
                ("disableTLS", &file.disable_tls, why),
                ("retries", &file.retries, why),
            ],
        );
        if file.name.is_none() {
            let why = "which hook? Add name, as it is under hooks in the configuration";
            reader.wrong_at(&place, None, line, why);
        }
        let kind_place = below(&place, "type");
        let kind = match &file.kind {
            Some(written) => match choose(&written.text, &KINDS) {
                Ok("told") => {
                    let why = "people are told by channels; write notify: [CHANNEL] beside the analysis";
                    reader.wrong(&kind_place, written, why);
                    continue;
                }
                Ok("") => {
                    let why = "is not called here; write confirm-traffic-increase if it has to say yes before each rise";
                    reader.wrong(&kind_place, written, why);
                    continue;
                }
                Ok(kind) => kind,
                Err(_) => {
                    let words =
                        KINDS.iter().filter(|(_, kind)| !matches!(*kind, "" | "told")).map(|(word, _)| *word);
                    let why = match did_you_mean(&written.text, words.clone()) {
                        Some(meant) => format!("did you mean {meant}?"),
                        None => format!("is none of {}", listed(words)),
                    };
                    reader.wrong(&kind_place, written, why);
                    continue;
                }
            },
            None => {
                let why = "what for? Add type: confirm-rollout, confirm-traffic-increase, confirm-promotion or rollback";
                reader.wrong_at(&place, None, line, why);
                continue;
            }
        };
        let name =
            reader.known(&below(&place, "name"), file.name.as_ref(), "hook", "hooks", known.hooks.iter());
        let list = match kind {
            "rollout" => &mut confirm.rollout,
            "traffic_increase" => &mut confirm.traffic_increase,
            "promotion" => &mut confirm.promotion,
            _ => &mut confirm.rollback,
        };
        list.extend(name.filter(|name| !list.contains(name)).into_iter().collect::<Vec<_>>());
    }
    confirm
}

/// The items of a list of mappings, each with its place and line.
fn mappings<T>(
    reader: &mut Reader<'_>,
    at: &str,
    written: Option<Short<Never, Short<Never, Never, T>, Never>>,
) -> Vec<(String, u64, T)> {
    let items = match written {
        None => return Vec::new(),
        Some(Short::List(items, _)) => items,
        Some(Short::One(value)) => {
            reader.wrong(at, &value, "a list is expected here");
            return Vec::new();
        }
        Some(Short::Mapping(never, _)) => match never {},
    };
    let mut found = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let place = format!("{at}[{index}]");
        match item {
            Short::Mapping(mapping, line) => found.push((place, line, mapping)),
            Short::One(value) => reader.wrong(&place, &value, "a mapping (key: value) is expected here"),
            Short::List(_, line) => {
                reader.wrong_at(&place, Some("[]"), line, "a mapping (key: value) is expected here");
            }
        }
    }
    found
}
