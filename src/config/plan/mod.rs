//! Plans as people write them: Tidegate's own form, stages with percentages and criteria, and Flagger's analysis.
//!
//! All of them become the same [`Plan`], and whatever cannot be said in it is a problem with its cure: a criterion that is dropped
//! in silence is a release that nobody watches.

mod file;
mod flagger;
mod gates;
mod reader;
mod words;

use std::sync::Arc;
use std::time::Duration;

use self::file::{ConfirmFile, StageLong, WindowsFile};
pub(super) use self::file::{GatesFile, PlanFile, SloFile};
use self::flagger::AnalysisFile;
pub(super) use self::gates::{layered, slo};
pub(super) use self::reader::{Known, Reader, unknown};
use self::words::{Lasting, Zone};
pub(super) use self::words::{Name, Percent, Ratio, Share, Statuses, Text, name_of};
use super::scalar::Count;
use super::units::show_duration;
use super::written::{Never, Short, Written};
use crate::rollout::{Confirms, Gates, Hold, Plan, SCHEDULES, Slo, Stage, Windows, schedule};
use crate::traffic::Weight;

const FALSE_ROLLBACK_MAX: f64 = 0.2;

/// What a service says for all of its rollouts.
#[derive(Clone, Debug)]
pub(super) struct Usual {
    pub(super) gates: Gates,
    pub(super) slo: Option<Slo>,
}

impl Default for Usual {
    fn default() -> Self {
        Self { gates: Gates::standard(), slo: None }
    }
}

/// A plan that may lack its name.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) plan: Plan,
    /// Whether its name is its own.
    pub(super) named: bool,
    /// The schedule that it started from.
    pub(super) schedule: Option<Arc<str>>,
}

/// The names of all schedules.
pub(super) fn schedules() -> Vec<Arc<str>> {
    SCHEDULES.iter().map(|name| Arc::from(*name)).collect()
}

/// The plan of a schedule, as it is for a service.
pub(super) fn scheduled(name: &str, usual: &Usual) -> Option<Draft> {
    let mut plan = schedule(name)?;
    plan.gates = usual.gates.clone();
    plan.slo = usual.slo;
    Some(Draft { plan, named: false, schedule: Some(name.into()) })
}

/// A plan as written. What is wrong with it is noted; the draft is whole only if nothing is.
pub(super) fn draft(reader: &mut Reader<'_>, mut file: PlanFile, known: &Known, usual: &Usual) -> Draft {
    let problems_before = reader.findings.problems.len();
    let names = schedules();
    let schedule_name =
        reader.known("schedule", file.schedule.as_ref(), "schedule", "schedule", names.iter());
    let mut base = usual.clone();
    if let Some(name) = reader.known("tier", file.tier.as_ref(), "tier", "tiers", known.tiers.keys()) {
        base.gates = known.tiers.get(&name).cloned().unwrap_or(base.gates);
    }
    let named = reader.read("name", file.name.as_ref()).map(|Name(name)| name);
    let mut plan = match schedule_name.as_deref().and_then(|name| scheduled(name, &base)) {
        Some(draft) => draft.plan,
        None => Plan::new("rollout", Vec::new()),
    };
    plan.name = named.clone().unwrap_or_else(|| "rollout".into());
    let says_gates = file.gates.is_some();
    plan.gates = layered(reader, "gates", file.gates.take(), &base.gates, known);
    plan.slo = match file.slo.take() {
        Some(written) => slo(reader, "slo", Some(written)),
        None => base.slo,
    };
    plan.delay = time(reader, "delay", file.delay.as_ref(), plan.delay);
    plan.warmup = time(reader, "warmup", file.warmup.as_ref(), plan.warmup);
    plan.keep = time(reader, "keep", file.keep.as_ref(), plan.keep);
    plan.false_rollback = false_rollback(reader, file.false_rollback.as_ref(), plan.false_rollback);
    plan.on_inconclusive =
        reader.read("on_inconclusive", file.on_inconclusive.as_ref()).unwrap_or(plan.on_inconclusive);
    plan.windows = windows(reader, file.windows.take().unwrap_or_default());
    plan.confirm = confirms(reader, file.confirm.take().unwrap_or_default(), known);
    plan.notify = reader.known_list("notify", file.notify.take(), "channel", "notify", &known.channels);
    steps(reader, file, known, &mut plan);
    if reader.findings.problems.len() == problems_before {
        reader.check(&plan);
        if !says_gates {
            reader.doubt_unwatched(&plan);
        }
    }
    Draft { plan, named: named.is_some(), schedule: schedule_name }
}

/// The stages, in whichever form.
fn steps(reader: &mut Reader<'_>, mut file: PlanFile, known: &Known, plan: &mut Plan) {
    let analysis = analysis(reader, &mut file);
    match (file.stages, analysis) {
        (Some(stages), None) => {
            plan.stages = self::stages(reader, stages, &plan.gates, known);
        }
        (None, Some((place, analysis, line))) => {
            let gates = plan.gates.clone();
            let read = flagger::read(reader, &place, line, analysis, gates, known);
            (plan.stages, plan.gates) = (read.stages, read.gates);
            for (list, more) in [
                (&mut plan.confirm.rollout, read.confirm.rollout),
                (&mut plan.confirm.traffic_increase, read.confirm.traffic_increase),
                (&mut plan.confirm.promotion, read.confirm.promotion),
                (&mut plan.confirm.rollback, read.confirm.rollback),
            ] {
                let new: Vec<_> = more.into_iter().filter(|name| !list.contains(name)).collect();
                list.extend(new);
            }
        }
        (Some(stages), Some((place, _, line))) => {
            let why = format!("stages say the steps already (line {}); leave one out", stages.line());
            reader.wrong_at(&place, None, line, why);
        }
        (None, None) if plan.stages.is_empty() && file.schedule.is_none() => {
            let why = "there is no stage; add stages: [{weight: 5%, hold: 15m}], or schedule: canary";
            reader.wrong_at("stages", None, reader.line(), why);
        }
        (None, None) => {}
    }
}

/// Flagger's analysis, alone or in its resource.
fn analysis(reader: &mut Reader<'_>, file: &mut PlanFile) -> Option<(String, AnalysisFile, u64)> {
    if let Some(kind) = file.kind.as_ref().filter(|kind| kind.text != "Canary") {
        reader.wrong("kind", kind, "of resources only Flagger's Canary is read");
        file.spec = None;
    }
    if let Some(version) =
        file.api_version.as_ref().filter(|version| !version.text.starts_with("flagger.app/"))
    {
        reader.wrong("apiVersion", version, "of resources only Flagger's Canary is read");
    }
    if let (Some(written), None) = (file.kind.as_ref().or(file.api_version.as_ref()), &file.spec) {
        let why = "the resource lacks its spec";
        reader.wrong("kind", written, why);
    }
    let of_spec = file.spec.take().and_then(|spec| {
        if let Some(written) = &spec.skip_analysis
            && reader.read("spec.skipAnalysis", Some(written)) == Some(true)
        {
            let why = "nothing would be watched; write a plan with stages and gates: none if that is meant";
            reader.wrong("spec.skipAnalysis", written, why);
        }
        spec.analysis.map(|analysis| ("spec.analysis".to_owned(), analysis))
    });
    let alone = file.analysis.take().map(|analysis| ("analysis".to_owned(), analysis));
    let (place, analysis) = of_spec.or(alone)?;
    match analysis {
        Short::Mapping(analysis, line) => Some((place, analysis, line)),
        Short::One(value) => {
            reader.wrong(&place, &value, "a mapping (key: value) is expected here");
            None
        }
        Short::List(never, line) => {
            if never.is_empty() {
                reader.wrong_at(&place, Some("[]"), line, "a mapping (key: value) is expected here");
            }
            None
        }
    }
}

fn stages(
    reader: &mut Reader<'_>,
    written: Short<Never, file::StageFile, Never>,
    gates: &Gates,
    known: &Known,
) -> Vec<Stage> {
    let (items, line) = match written {
        Short::List(items, line) => (items, line),
        Short::One(value) => {
            reader.wrong("stages", &value, "a list of stages is expected here: [{weight: 5%, hold: 15m}]");
            return Vec::new();
        }
        Short::Mapping(never, _) => match never {},
    };
    if items.is_empty() {
        let why = "there is no stage; add one, such as {weight: 5%, hold: 15m}, or write schedule: canary";
        reader.wrong_at("stages", Some("[]"), line, why);
    }
    let count = items.len();
    let mut stages: Vec<Stage> = Vec::new();
    let mut highest: Option<Weight> = None;
    for (index, item) in items.into_iter().enumerate() {
        let at = format!("stages[{index}]");
        let (mut file, line) = match item {
            Short::Mapping(file, line) => (file, line),
            Short::One(value) => {
                reader.wrong(&at, &value, "a stage is a mapping: {weight: 5%, hold: 15m}");
                continue;
            }
            Short::List(_, line) => {
                reader.wrong_at(&at, None, line, "a stage is a mapping: {weight: 5%, hold: 15m}");
                continue;
            }
        };
        reader.saw(&at, line, None);
        let before = highest;
        if let Some(written) = file.mirror.take() {
            if let Some(share) = mirror(reader, &at, &written, &file, before) {
                let stage = stage(reader, &at, line, file, Weight::ZERO, index + 1 == count, gates, known);
                stages.extend(stage.map(|stage| Stage { mirror: Some(share), ..stage }));
            }
            continue;
        }
        if let Some(weight) = weight(reader, &at, line, &file, before) {
            highest = highest.max(Some(weight));
            stages.extend(stage(reader, &at, line, file, weight, index + 1 == count, gates, known));
        }
    }
    stages
}

fn mirror(
    reader: &mut Reader<'_>,
    at: &str,
    written: &Written<Weight>,
    file: &StageLong,
    before: Option<Weight>,
) -> Option<Weight> {
    let place = format!("{at}.mirror");
    let share = reader.read(&place, Some(written))?;
    let why = if file.weight.is_some() || file.percentage.is_some() {
        "a stage mirrors or has weight; make two of it, the one that mirrors first"
    } else if share == Weight::ZERO {
        "copies nothing at 0%; leave the stage out, or write delay"
    } else if before.is_some() {
        "comes after a stage with weight; stages that mirror come first"
    } else {
        return Some(share);
    };
    reader.wrong(&place, written, why);
    None
}

fn weight(
    reader: &mut Reader<'_>,
    at: &str,
    line: u64,
    file: &StageLong,
    before: Option<Weight>,
) -> Option<Weight> {
    let (place, text, line, weight) = match (&file.weight, &file.percentage) {
        (Some(written), None) => {
            let place = format!("{at}.weight");
            let weight = reader.read(&place, Some(written))?;
            (place, &written.text, written.line, weight)
        }
        (None, Some(written)) => {
            let place = format!("{at}.percentage");
            let Percent(weight) = reader.read(&place, Some(written))?;
            (place, &written.text, written.line, weight)
        }
        (Some(_), Some(written)) => {
            reader.wrong(&format!("{at}.percentage"), written, "weight says it already; leave one out");
            return None;
        }
        (None, None) => {
            reader.wrong_at(at, None, line, "how much of the traffic? Add weight, such as 5%");
            return None;
        }
    };
    let why = match before {
        _ if weight == Weight::ZERO => {
            "nobody sees the candidate at 0%; leave the stage out, or write delay".to_owned()
        }
        Some(before) if weight < before => {
            format!("falls: the stage before has {before}; weights rise, so put the stages in order")
        }
        Some(before) if weight == before => {
            format!("the stage before has {before}, too; make them one, with a longer hold")
        }
        _ => return Some(weight),
    };
    reader.wrong_at(&place, Some(text), line, why);
    Some(weight)
}

#[allow(clippy::too_many_arguments)]
fn stage(
    reader: &mut Reader<'_>,
    at: &str,
    line: u64,
    mut file: StageLong,
    weight: Weight,
    is_last: bool,
    usual: &Gates,
    known: &Known,
) -> Option<Stage> {
    let gates_place = format!("{at}.gates");
    let criteria_place = format!("{at}.success_criteria");
    let mut gates = None;
    if file.gates.is_some() {
        gates = Some(layered(reader, &gates_place, file.gates.take(), usual, known));
    }
    if let Some(criteria) = file.success_criteria.take() {
        let base = gates.clone().unwrap_or_else(|| usual.clone());
        gates = gates::from_criteria(reader, &criteria_place, Some(criteria), base).or(gates);
    }
    let hold = hold(reader, at, line, &file, is_last);
    let max_hold_place = format!("{at}.max_hold");
    let max_hold = reader.read(&max_hold_place, file.max_hold.as_ref());
    if let (Some(written), Some(max_hold)) = (&file.max_hold, max_hold) {
        match &hold {
            Some(Hold::For(time)) if max_hold <= *time => {
                let why = format!(
                    "must be more than hold, {}: it is the time to wait for a verdict",
                    show_duration(*time)
                );
                reader.wrong(&max_hold_place, written, why);
            }
            Some(Hold::Endless) => {
                reader.wrong(
                    &max_hold_place,
                    written,
                    "an endless stage has no end to wait for; leave one out",
                );
            }
            _ => {}
        }
    }
    let tolerate_place = format!("{at}.tolerate");
    let tolerate = reader.read(&tolerate_place, file.tolerate.as_ref()).map(|Ratio(ratio)| ratio);
    if let (Some(written), Some(ratio)) = (&file.tolerate, tolerate)
        && !(1.0 < ratio && ratio <= 100.0)
    {
        let why =
            "must be more than 1, at most 100: no traffic proves that two versions fail exactly as often";
        reader.wrong(&tolerate_place, written, why);
    }
    let min_requests = reader.read(&format!("{at}.min_requests"), file.min_requests.as_ref());
    Some(Stage {
        weight,
        mirror: None,
        hold: hold?,
        min_requests: min_requests.map_or(0, |Count(count)| u64::from(count)),
        max_hold,
        approval: reader.read(&format!("{at}.approval"), file.approval.as_ref()).unwrap_or(false),
        gates,
        tolerate,
    })
}

fn hold(reader: &mut Reader<'_>, at: &str, line: u64, file: &StageLong, is_last: bool) -> Option<Hold> {
    let place = format!("{at}.hold");
    let hold = match (&file.hold, &file.duration) {
        (Some(written), None) => reader.read(&place, Some(written))?,
        (None, Some(written)) => {
            let duration_place = format!("{at}.duration");
            let lasting = reader.read(&duration_place, Some(written))?;
            match lasting {
                Lasting::For(time) => Hold::For(time),
                Lasting::Infinity if is_last => Hold::Endless,
                Lasting::Infinity => {
                    let why = "only the last stage may be without an end; write a time, and approval: true to wait for a \
                               person";
                    reader.wrong(&duration_place, written, why);
                    return None;
                }
            }
        }
        (Some(_), Some(written)) => {
            reader.wrong(&format!("{at}.duration"), written, "hold says it already; leave one out");
            return None;
        }
        (None, None) => {
            let why = "how long? Add hold, such as 15m, or endless";
            reader.wrong_at(at, None, line, why);
            return None;
        }
    };
    if hold == Hold::For(Duration::ZERO) {
        let (line, text) = file
            .hold
            .as_ref()
            .map(|written| (written.line, &written.text))
            .or(file.duration.as_ref().map(|written| (written.line, &written.text)))?;
        let why = "no gate can judge in no time; write for instance 15m";
        reader.wrong_at(&place, Some(text), line, why);
        return None;
    }
    Some(hold)
}

fn time(
    reader: &mut Reader<'_>,
    place: &str,
    written: Option<&Written<Duration>>,
    default: Duration,
) -> Duration {
    reader.read(place, written).unwrap_or(default)
}

fn false_rollback(reader: &mut Reader<'_>, written: Option<&Written<Share>>, default: f64) -> f64 {
    let share = reader.read("false_rollback", written).map_or(default, |Share(share)| share);
    if let Some(written) = written.filter(|_| share <= 0.0 || share > FALSE_ROLLBACK_MAX) {
        reader.wrong(
            "false_rollback",
            written,
            "must be more than 0%, because nothing is certain, and at most 20%",
        );
    }
    share
}

fn windows(reader: &mut Reader<'_>, file: WindowsFile) -> Windows {
    let zone = reader.read("windows.zone", file.zone.as_ref()).map(|Zone(zone)| zone).unwrap_or_default();
    if let Some(Short::List(items, line)) = &file.allow
        && items.is_empty()
    {
        let why = "never opens; add a time such as Mon-Fri 09:00-17:00, or leave it out for always";
        reader.wrong_at("windows.allow", Some("[]"), *line, why);
    }
    let mut allowed = Vec::new();
    for (index, written) in file.allow.map(Short::into_items).unwrap_or_default().iter().enumerate() {
        allowed.extend(reader.read(&format!("windows.allow[{index}]"), Some(written)));
    }
    let mut denied = Vec::new();
    for (index, written) in file.deny.map(Short::into_items).unwrap_or_default().iter().enumerate() {
        let date = reader.read(&format!("windows.deny[{index}]"), Some(written));
        denied.extend(date.map(|words::Date(date)| date));
    }
    Windows { allowed, denied, zone }
}

fn confirms(reader: &mut Reader<'_>, file: ConfirmFile, known: &Known) -> Confirms {
    let mut list = |place, written| reader.known_list(place, written, "hook", "hooks", &known.hooks);
    Confirms {
        rollout: list("confirm.rollout", file.rollout),
        traffic_increase: list("confirm.traffic_increase", file.traffic_increase),
        promotion: list("confirm.promotion", file.promotion),
        rollback: list("confirm.rollback", file.rollback),
    }
}
