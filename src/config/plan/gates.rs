//! Gates in layers: what Tidegate does by default, what the service or its tier says, the plan, the stage. Each layer says
//! what it wants otherwise, so that asking for one more gate never disarms another.

use std::sync::Arc;
use std::time::Duration;

use super::file::{
    BusinessFile, CriterionFile, CriterionLong, ErrorsFile, GatesFile, MetricFile, RatioFile, SloFile,
};
use super::reader::{Known, Reader};
use super::words::{Limit, Name, Ratio, Share, Statuses, Text, Than, Threshold};
use crate::config::meant::did_you_mean;
use crate::config::problem::below;
use crate::config::scalar::{CheckPath, Count, Nothing};
use crate::config::written::{Never, Short, Written};
use crate::rollout::{
    BusinessGate, ErrorsGate, Gates, HealthGate, LatencyGate, MetricGate, MetricSource, OnFail, RatioGate,
    Slo,
};

const INTERVAL: Duration = Duration::from_secs(30);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const STALE_AFTER: Duration = Duration::from_secs(300);
const MISSES: u32 = 3;
const RATIO_MAX: f64 = 100.0;
const BUDGET_CAP: f64 = 0.005;
/// What a gate that was `none` starts from when a later layer wants it again.
const FALLBACK: ErrorsGate =
    ErrorsGate { ratio: 1.1, limit: Some(0.005), floor: None, on_fail: OnFail::Rollback };
const CLIENT_ERRORS: RatioGate = RatioGate { ratio: 1.5, on_fail: OnFail::Pause };
const LATENCY: LatencyGate = LatencyGate { ratio: 1.2, on_fail: OnFail::Pause };
const OUTSIDE_BUDGET: &str =
    "rolls back outside the false-rollback budget: how often it is wrong is the metric's own affair";
/// The metrics that criteria may name and Tidegate measures itself.
const MEASURED: [&str; 9] = [
    "error_rate",
    "success_rate",
    "client_error_rate",
    "latency",
    "latency_p50",
    "latency_p90",
    "latency_p95",
    "latency_p99",
    "p99_latency",
];

/// The gates of `base`, with what is written otherwise.
pub(in crate::config) fn layered(
    reader: &mut Reader<'_>,
    place: &str,
    written: Option<GatesFile>,
    base: &Gates,
    known: &Known,
) -> Gates {
    let (long, line) = match written {
        None => return base.clone(),
        Some(Short::One(word)) => {
            return match reader.read::<Nothing>(place, Some(&word)) {
                Some(Nothing) => Gates::none(),
                None => base.clone(),
            };
        }
        Some(Short::List(_, line)) => {
            reader.wrong_at(place, None, line, "gates are a mapping: {errors: {limit: 0.5%}}, or none");
            return base.clone();
        }
        Some(Short::Mapping(long, line)) => (long, line),
    };
    let problems_before = reader.findings.problems.len();
    let mut gates = base.clone();
    gates.none_said = false;
    let mut written = 0;
    if let Some(file) = long.errors {
        written += 1;
        let before = gates.errors.take();
        gates.errors = one(reader, &below(place, "errors"), file, |reader, place, file| {
            errors(reader, place, &file, before.unwrap_or(FALLBACK))
        });
    }
    if let Some(file) = long.client_errors {
        written += 1;
        let before = gates.client_errors.take().unwrap_or(CLIENT_ERRORS);
        gates.client_errors = one(reader, &below(place, "client_errors"), file, |reader, place, file| {
            let (ratio, on_fail) = ratio(reader, place, &file, before.ratio, before.on_fail);
            RatioGate { ratio, on_fail }
        });
    }
    if let Some(file) = long.latency {
        written += 1;
        let before = gates.latency.take().unwrap_or(LATENCY);
        gates.latency = one(reader, &below(place, "latency"), file, |reader, place, file| {
            let (ratio, on_fail) = ratio(reader, place, &file, before.ratio, before.on_fail);
            LatencyGate { ratio, on_fail }
        });
    }
    if let Some(file) = long.business {
        written += 1;
        let before = gates.business.take();
        gates.business = one(reader, &below(place, "business"), file, |reader, place, file| {
            business(reader, place, &file, before)
        })
        .flatten();
    }
    if let Some(file) = long.health {
        written += 1;
        gates.health = one(reader, &below(place, "health"), file, |reader, place, file| {
            let place = below(place, "unhealthy_for");
            let time = reader.read(&place, file.unhealthy_for.as_ref());
            if let (Some(written), Some(Duration::ZERO)) = (&file.unhealthy_for, time) {
                reader.wrong(&place, written, "no time at all; write at least 1s, or health: none");
            }
            HealthGate { unhealthy_for: time.unwrap_or(Duration::from_secs(10)) }
        });
    }
    for (name, file) in long.metrics.map(|metrics| metrics.0).unwrap_or_default() {
        written += 1;
        let place = below(&below(place, "metrics"), &name.text);
        let name: Written<Name> = Written::new(name.text, name.line);
        let Some(Name(label)) = reader.read(&place, Some(&name)) else { continue };
        gates.metrics.retain(|gate| gate.name != label);
        let gate = one(reader, &place, file, |reader, place, file| {
            metric(reader, place, &name, label, &file, known)
        });
        gates.metrics.extend(gate.flatten());
    }
    if written == 0 {
        let why = "there is no gate; leave gates out for the usual ones, or write gates: none";
        reader.wrong_at(place, Some("{}"), line, why);
    }
    let found_none = reader.findings.problems.len() == problems_before;
    if found_none && !gates.measure() && gates.health.is_none() {
        let why = "nothing is left that watches; leave a gate, or write gates: none if that is meant";
        reader.wrong_at(place, None, line, why);
    }
    // What is wrong is told once, here, and not again by whatever builds on it.
    if reader.findings.problems.len() == problems_before { gates } else { base.clone() }
}

/// An objective as it is written.
pub(in crate::config) fn slo(reader: &mut Reader<'_>, place: &str, written: Option<SloFile>) -> Option<Slo> {
    let (objective_place, objective, cap) = match written? {
        Short::One(objective) => (place.to_owned(), objective, None),
        Short::Mapping(long, _) => (below(place, "objective"), long.objective, long.budget_cap),
        Short::List(_, line) => {
            reader.wrong_at(place, None, line, "a single objective is expected here, such as 99.9%");
            return None;
        }
    };
    let Share(share) = reader.read(&objective_place, Some(&objective))?;
    if share <= 0.0 || share >= 1.0 {
        reader.wrong(&objective_place, &objective, "must be more than 0% and less than 100%, such as 99.9%");
        return None;
    }
    if share < 0.5 {
        let why = "is the share of requests that may not fail; did you mean the rest to 100%?";
        reader.doubt(&objective_place, &objective, why);
    }
    let cap_place = below(place, "budget_cap");
    let budget_cap = reader.read(&cap_place, cap.as_ref()).map_or(BUDGET_CAP, |Share(share)| share);
    if let (Some(written), true) = (&cap, budget_cap <= 0.0) {
        reader.wrong(&cap_place, written, "nothing could be burnt at all; write for instance 0.5%");
    }
    Some(Slo { objective: share, budget_cap })
}

/// Gates as metrics and thresholds: those of `base`, with what the criteria say.
pub(super) fn from_criteria(
    reader: &mut Reader<'_>,
    place: &str,
    written: Option<Short<Never, CriterionFile, Never>>,
    mut gates: Gates,
) -> Option<Gates> {
    let (criteria, line) = match written? {
        Short::List(criteria, line) => (criteria, line),
        Short::One(value) => {
            reader.read(place, Some(&value));
            return None;
        }
        Short::Mapping(never, _) => match never {},
    };
    if criteria.is_empty() {
        let why = "there is no criterion; leave the key out for the usual gates, or write gates: none";
        reader.wrong_at(place, Some("[]"), line, why);
    }
    gates.none_said = false;
    let mut ratios = LatencyRatios::default();
    for (at, criterion) in criteria.into_iter().enumerate() {
        let place = format!("{place}[{at}]");
        match criterion {
            Short::Mapping(criterion, _) => {
                self::criterion(reader, &place, &criterion, &mut gates, &mut ratios);
            }
            Short::One(value) => {
                let why = "a criterion is a mapping: {metric: error_rate, threshold: \"< 0.5%\"}";
                reader.wrong(&place, &value, why);
            }
            Short::List(_, line) => {
                let why = "a criterion is a mapping: {metric: error_rate, threshold: \"< 0.5%\"}";
                reader.wrong_at(&place, None, line, why);
            }
        }
    }
    Some(gates)
}

/// Whether one of the quantiles has set the ratio, which all of them share.
#[derive(Default)]
struct LatencyRatios(Option<f64>);

fn criterion(
    reader: &mut Reader<'_>,
    place: &str,
    file: &CriterionLong,
    gates: &mut Gates,
    ratios: &mut LatencyRatios,
) {
    let metric_place = below(place, "metric");
    let Some(Name(metric)) = reader.read(&metric_place, Some(&file.metric)) else { return };
    let on_fail_place = below(place, "on_fail");
    let on_fail = reader.read(&on_fail_place, file.on_fail.as_ref());
    let place = below(place, "threshold");
    let Some(threshold) = reader.read::<Threshold>(&place, Some(&file.threshold)) else { return };
    let wrong = |reader: &mut Reader<'_>, why: &str| reader.wrong(&place, &file.threshold, why);
    match &*metric.to_lowercase().replace('-', "_") {
        "error_rate" | "errors" | "error_ratio" => {
            let mut gate = gates.errors.take().unwrap_or(FALLBACK);
            match (threshold.at_most, threshold.than) {
                (true, Than::Share(share)) if share > 0.0 && share < 1.0 => gate.limit = Some(share),
                (true, Than::Stable(ratio)) if (1.0..=RATIO_MAX).contains(&ratio) => gate.ratio = ratio,
                (true, Than::Stable(_)) => wrong(
                    reader,
                    "stable itself would not pass; write at least baseline * 1.0, such as \"<= baseline * 1.1\"",
                ),
                (true, Than::Share(_)) => wrong(reader, "must be more than 0% and less than 100%"),
                (true, Than::Number(_)) => {
                    wrong(reader, "a share needs its unit; write it in percent, such as \"< 0.5%\"");
                }
                (true, Than::Time(_)) => {
                    wrong(reader, "an error rate is no time; write a share such as \"< 0.5%\"")
                }
                (false, _) => wrong(reader, "this would demand errors; did you mean < (or success_rate)?"),
            }
            gate.on_fail = on_fail.unwrap_or(gate.on_fail);
            gates.errors = Some(gate);
        }
        "success_rate" | "success_ratio" | "availability" => {
            let mut gate = gates.errors.take().unwrap_or(FALLBACK);
            match (threshold.at_most, threshold.than) {
                (false, Than::Share(share)) if share > 0.0 && share < 1.0 => gate.limit = Some(rest(share)),
                (false, Than::Share(_)) => wrong(reader, "must be more than 0% and less than 100%"),
                (false, Than::Number(_)) => {
                    wrong(reader, "a share needs its unit; write it in percent, such as \"> 99.5%\"");
                }
                (false, Than::Stable(_)) => wrong(
                    reader,
                    "is compared by its failures; write metric: error_rate, threshold: \"<= baseline * 1.1\"",
                ),
                (false, Than::Time(_)) => wrong(reader, "a success rate is no time; write \"> 99.5%\""),
                (true, _) => wrong(reader, "this would demand errors; did you mean >?"),
            }
            gate.on_fail = on_fail.unwrap_or(gate.on_fail);
            gates.errors = Some(gate);
        }
        "client_error_rate" | "client_errors" | "4xx_rate" | "4xx" => {
            let before = gates.client_errors.take().unwrap_or(CLIENT_ERRORS);
            let mut ratio = before.ratio;
            match (threshold.at_most, threshold.than) {
                (true, Than::Stable(written)) if (1.0..=RATIO_MAX).contains(&written) => ratio = written,
                (true, Than::Stable(_)) => {
                    wrong(reader, "stable itself would not pass; write at least baseline * 1.0")
                }
                _ => wrong(
                    reader,
                    "4xx are judged against stable's, because most are the clients' own; write \"<= baseline * 1.5\"",
                ),
            }
            gates.client_errors = Some(RatioGate { ratio, on_fail: on_fail.unwrap_or(before.on_fail) });
        }
        name => match quantile(name) {
            Some(Ok(())) => {
                let before = gates.latency.take().unwrap_or(LATENCY);
                let mut ratio = before.ratio;
                match (threshold.at_most, threshold.than) {
                    (true, Than::Stable(written)) if (1.0..=RATIO_MAX).contains(&written) => {
                        if ratios.0.is_some_and(|other| other != written) {
                            wrong(
                                reader,
                                "p50, p90, p95 and p99 are judged together, with one ratio; write the same for all",
                            );
                        }
                        ratios.0 = Some(written);
                        ratio = written;
                    }
                    (true, Than::Stable(_)) => {
                        wrong(reader, "stable itself would not pass; write at least baseline * 1.0");
                    }
                    (true, _) => wrong(
                        reader,
                        "an absolute latency is not judged; write \"<= baseline * 1.2\", or ask Prometheus: gates: \
                         {metrics: {NAME: {source: …, query: …, pass_if: …}}}",
                    ),
                    (false, _) => wrong(reader, "this would demand slowness; did you mean <?"),
                }
                gates.latency = Some(LatencyGate { ratio, on_fail: on_fail.unwrap_or(before.on_fail) });
            }
            Some(Err(())) => {
                let why = "judged are p50, p90, p95 and p99, all of them together; write latency_p99, or ask \
                           Prometheus: gates: {metrics: {NAME: {source: …, query: …, pass_if: …}}}";
                reader.wrong(&metric_place, &file.metric, why);
            }
            None => {
                let places = (&*metric_place, &*place, &*on_fail_place);
                pushed(reader, places, file, metric, threshold, on_fail, gates);
            }
        },
    }
}

/// A number that Tidegate does not measure: whoever does pushes it.
fn pushed(
    reader: &mut Reader<'_>,
    (metric_place, place, on_fail_place): (&str, &str, &str),
    file: &CriterionLong,
    name: Arc<str>,
    threshold: Threshold,
    on_fail: Option<OnFail>,
    gates: &mut Gates,
) {
    if let Some(meant) = did_you_mean(&name, MEASURED) {
        let why = format!("there is no metric {name}; did you mean {meant}?");
        reader.wrong(metric_place, &file.metric, why);
        return;
    }
    match threshold.compare() {
        Ok(pass_if) => {
            let source = MetricSource::Pushed { stale_after: STALE_AFTER };
            let on_fail = on_fail.unwrap_or_default();
            gates.metrics.retain(|gate| gate.name != name);
            gates.metrics.push(MetricGate { name, source, pass_if, on_fail, misses: MISSES });
            if let (OnFail::Rollback, Some(written)) = (on_fail, &file.on_fail) {
                reader.doubt(on_fail_place, written, OUTSIDE_BUDGET);
            }
        }
        Err(why) => reader.wrong(place, &file.threshold, why),
    }
}

/// `Some` if a name means latency: whether at a quantile that is judged.
fn quantile(name: &str) -> Option<Result<(), ()>> {
    const OF: [&str; 6] =
        ["latency", "response_time", "request_duration", "duration", "request_latency", "response_latency"];
    let digits = |text: &str| text.strip_prefix('p').filter(|rest| !rest.is_empty()).map(str::to_owned);
    let number = if OF.contains(&name) {
        return Some(Ok(()));
    } else if let Some(number) = digits(name).filter(|number| !number.contains('_')) {
        number
    } else {
        let (first, last) = (name.split_once('_'), name.rsplit_once('_'));
        match (first, last) {
            (Some((p, of)), _) if OF.contains(&of) => digits(p)?,
            (_, Some((of, p))) if OF.contains(&of) => digits(p)?,
            _ => return None,
        }
    };
    let all_digits = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    all_digits.then(|| if ["50", "90", "95", "99"].contains(&&*number) { Ok(()) } else { Err(()) })
}

/// 1 − share, without what subtraction adds in the last bits.
pub(super) fn rest(share: f64) -> f64 {
    ((1.0 - share) * 1e9).round() / 1e9
}

fn one<M, T>(
    reader: &mut Reader<'_>,
    place: &str,
    written: Short<Nothing, Never, M>,
    read: impl FnOnce(&mut Reader<'_>, &str, M) -> T,
) -> Option<T> {
    match written {
        Short::One(word) => {
            reader.read::<Nothing>(place, Some(&word));
            None
        }
        Short::Mapping(file, _) => Some(read(reader, place, file)),
        Short::List(_, line) => {
            reader.wrong_at(place, Some("[]"), line, "a mapping (key: value) is expected here, or none");
            None
        }
    }
}

fn errors(reader: &mut Reader<'_>, place: &str, file: &ErrorsFile, before: ErrorsGate) -> ErrorsGate {
    let limit_place = below(place, "limit");
    let limit = reader.read(&limit_place, file.limit.as_ref()).map_or(before.limit, |Limit(limit)| limit);
    if let (Some(written), Some(share)) = (&file.limit, limit)
        && (share <= 0.0 || share >= 1.0)
    {
        reader.wrong(&limit_place, written, "must be more than 0% and less than 100%; or write none");
    }
    let floor_place = below(place, "floor");
    let floor = reader.read(&floor_place, file.floor.as_ref()).map(|Share(floor)| floor);
    if let (Some(written), Some(share)) = (&file.floor, floor) {
        if share <= 0.0 || share >= 1.0 {
            reader.wrong(&floor_place, written, "must be more than 0% and less than 100%");
        } else if limit.is_some_and(|limit| share > limit) {
            reader.wrong(&floor_place, written, "is above the limit, at which the candidate fails; lower it");
        }
    }
    ErrorsGate {
        ratio: at_least_one(reader, place, file.ratio.as_ref(), before.ratio),
        limit,
        floor: floor.or(before.floor.filter(|floor| limit.is_none_or(|limit| *floor <= limit))),
        on_fail: reader.read(&below(place, "on_fail"), file.on_fail.as_ref()).unwrap_or(before.on_fail),
    }
}

fn ratio(
    reader: &mut Reader<'_>,
    place: &str,
    file: &RatioFile,
    ratio: f64,
    on_fail: OnFail,
) -> (f64, OnFail) {
    let ratio = at_least_one(reader, place, file.ratio.as_ref(), ratio);
    (ratio, reader.read(&below(place, "on_fail"), file.on_fail.as_ref()).unwrap_or(on_fail))
}

fn at_least_one(reader: &mut Reader<'_>, place: &str, written: Option<&Written<Ratio>>, default: f64) -> f64 {
    let place = below(place, "ratio");
    let ratio = reader.read(&place, written).map_or(default, |Ratio(ratio)| ratio);
    if let Some(written) = written.filter(|_| !(1.0..=RATIO_MAX).contains(&ratio)) {
        let why =
            "must be 1 to 100: so many times stable's is tolerated, and below 1 stable itself would not pass";
        reader.wrong(&place, written, why);
    }
    ratio
}

fn business(
    reader: &mut Reader<'_>,
    place: &str,
    file: &BusinessFile,
    before: Option<BusinessGate>,
) -> Option<BusinessGate> {
    let path = reader.read(&below(place, "path"), file.path.as_ref()).map(|CheckPath(path)| Arc::from(path));
    let path = path.or_else(|| before.as_ref().map(|gate| gate.path.clone()));
    if path.is_none() && file.path.is_none() {
        let line = file.method.as_ref().map(|method| method.line).unwrap_or(reader.line());
        reader.wrong_at(place, None, line, "which requests are a success? Add path, such as /checkout");
    }
    let method_place = below(place, "method");
    let method: Option<String> = reader.read(&method_place, file.method.as_ref());
    if let (Some(written), Some(method)) = (&file.method, &method)
        && !method.bytes().all(|byte| byte.is_ascii_uppercase())
    {
        let why = format!("a method has capital letters; did you mean {}?", method.to_uppercase());
        reader.wrong(&method_place, written, why);
    }
    let ratio_place = below(place, "ratio");
    let ratio = reader.read(&ratio_place, file.ratio.as_ref()).map(|Ratio(ratio)| ratio);
    if let (Some(written), Some(ratio)) = (&file.ratio, ratio)
        && ratio > 1.0
    {
        let why = "must be at most 1: the candidate's successes are at least so many times stable's";
        reader.wrong(&ratio_place, written, why);
    }
    let status = reader.read(&below(place, "status"), file.status.as_ref());
    let on_fail = reader.read(&below(place, "on_fail"), file.on_fail.as_ref());
    let usual = BusinessGate {
        method: None,
        path: path.clone()?,
        status: (200, 299),
        ratio: 0.95,
        on_fail: OnFail::Rollback,
    };
    let before = before.unwrap_or(usual);
    Some(BusinessGate {
        method: method.map(Arc::from).or(before.method),
        path: path?,
        status: status.map_or(before.status, |Statuses(from, to)| (from, to)),
        ratio: ratio.unwrap_or(before.ratio),
        on_fail: on_fail.unwrap_or(before.on_fail),
    })
}

fn metric(
    reader: &mut Reader<'_>,
    place: &str,
    label: &Written<Name>,
    name: Arc<str>,
    file: &MetricFile,
    known: &Known,
) -> Option<MetricGate> {
    let pushed = reader.read(&below(place, "pushed"), file.pushed.as_ref()).unwrap_or(false);
    let source = reader.known(
        &below(place, "source"),
        file.source.as_ref(),
        "source",
        "sources",
        known.sources.iter(),
    );
    let query = reader.read(&below(place, "query"), file.query.as_ref()).map(|Text(query)| query);
    let interval_place = below(place, "interval");
    let interval = reader.read(&interval_place, file.interval.as_ref());
    if let (Some(written), Some(time)) = (&file.interval, interval)
        && time < INTERVAL_MIN
    {
        reader.wrong(&interval_place, written, "must be at least 1s");
    }
    let stale_place = below(place, "stale_after");
    let stale_after = reader.read(&stale_place, file.stale_after.as_ref());
    if let (Some(written), Some(Duration::ZERO)) = (&file.stale_after, stale_after) {
        reader.wrong(&stale_place, written, "every number would be too old; write for instance 5m");
    }
    let only = |reader: &mut Reader<'_>, key: &str, line: Option<u64>, why: &str| {
        if let Some(line) = line {
            reader.wrong_at(&below(place, key), None, line, why);
        }
    };
    let source = if pushed {
        let why = "a number that is pushed is not asked for; leave it out, or leave out pushed";
        only(reader, "source", file.source.as_ref().map(|written| written.line), why);
        only(reader, "query", file.query.as_ref().map(|written| written.line), why);
        only(reader, "interval", file.interval.as_ref().map(|written| written.line), why);
        Some(MetricSource::Pushed { stale_after: stale_after.unwrap_or(STALE_AFTER) })
    } else {
        let stale = file.stale_after.as_ref().map(|written| written.line);
        only(reader, "stale_after", stale, "counts only with pushed: true; leave it out");
        if file.source.is_none() || file.query.is_none() {
            let why = "where does the number come from? Add source and query, or pushed: true";
            reader.wrong_at(place, None, label.line, why);
        }
        match (source, query) {
            (Some(source), Some(query)) => {
                Some(MetricSource::Query { source, query, interval: interval.unwrap_or(INTERVAL) })
            }
            _ => None,
        }
    };
    if file.pass_if.is_none() {
        let why = "what is demanded? Add pass_if, such as \"< 0.5%\" or \">= stable * 0.95\"";
        reader.wrong_at(place, None, label.line, why);
    }
    let pass_place = below(place, "pass_if");
    let threshold = reader.read::<Threshold>(&pass_place, file.pass_if.as_ref());
    let misses =
        reader.read(&below(place, "misses"), file.misses.as_ref()).map_or(MISSES, |Count(count)| count);
    let on_fail = reader.read(&below(place, "on_fail"), file.on_fail.as_ref()).unwrap_or_default();
    if let (OnFail::Rollback, Some(written)) = (on_fail, &file.on_fail) {
        reader.doubt(&below(place, "on_fail"), written, OUTSIDE_BUDGET);
    }
    match threshold?.compare() {
        Ok(pass_if) => Some(MetricGate { name, source: source?, pass_if, on_fail, misses }),
        Err(why) => {
            if let Some(written) = &file.pass_if {
                reader.wrong(&pass_place, written, why);
            }
            None
        }
    }
}
