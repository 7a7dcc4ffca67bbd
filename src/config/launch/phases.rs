//! From the file to the phases, each with what undoes it.

use std::sync::Arc;
use std::time::Duration;

use super::checks::{checks, command, mapping, shell, some_time};
use super::file::{CommandFile, PhaseFile, RolloutFile, UndoFile};
use super::shell::as_list;
use super::texts::Texts;
use super::words::{Argument, Text, Word};
use crate::config::ConfigError;
use crate::config::meant::{did_you_mean, listed};
use crate::config::planner::check_plan;
use crate::config::units::show_duration;
use crate::config::written::{List, Never, Short, Written};
use crate::launch::{Action, Phase, Rollout, Undo};
use crate::rollout::SCHEDULES;
use crate::traffic::Weight;

pub(super) const PHASES_MAX: usize = 100;
pub(super) const PHASE_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10 * 60);
const TRAFFIC_TIMEOUT: Duration = Duration::from_secs(60);
/// What an observation may take longer than it lasts, for the daemon to be asked.
const OBSERVE_MARGIN: Duration = Duration::from_secs(60);
const ACTIONS: &str = "do, rollout, shift, for, synthetic or disable_traffic";
const PLAN_BYTES_MAX: u64 = 1 << 20;

/// A phase, and what its file did not say.
pub(super) struct Drafted {
    pub(super) phase: Phase,
    /// Where it stands.
    pub(super) place: String,
    /// Its undo timeout, as far as it was written.
    pub(super) undo_timeout: Option<Duration>,
    /// Whether it was said how long it may take.
    pub(super) timed: bool,
    pub(super) needs: Vec<Written<Word>>,
}

/// Phases as a list.
pub(super) type PhasesFile<P> = Short<Never, Short<Never, Never, Box<P>>, Never>;

/// Every phase of a list by `read`, which gets its place and line; ids are unique, and the order agrees with what they need.
pub(super) fn listed_phases<P>(
    texts: &mut Texts<'_, '_>,
    place: &str,
    file: PhasesFile<P>,
    id: impl Fn(&P) -> Option<&Written<Word>>,
    mut read: impl FnMut(&mut Texts<'_, '_>, &str, Arc<str>, P, u64) -> Option<Drafted>,
) -> Vec<Drafted> {
    let (items, line) = match file {
        Short::List(items, line) => (items, line),
        Short::One(value) => {
            texts.wrong(
                place,
                &value,
                "a list of phases is expected here: [{id: deploy, do: [./deploy], undo: [./undeploy]}]",
            );
            return Vec::new();
        }
        Short::Mapping(never, _) => match never {},
    };
    if items.is_empty() || items.len() > PHASES_MAX {
        let why = match items.len() {
            0 => "there is no phase; add one, such as {id: traffic, rollout: canary}".to_owned(),
            count => format!("{count} are more than {PHASES_MAX}; make several launches of it"),
        };
        texts.wrong_at(place, line, why);
        return Vec::new();
    }
    let mut phases: Vec<Drafted> = Vec::new();
    let mut ids: Vec<(Arc<str>, u64)> = Vec::new();
    let mut is_whole = true;
    for (at, item) in items.into_iter().enumerate() {
        let numbered = format!("{place}[{at}]");
        let Some((file, line)) = mapping(texts, &numbered, item) else {
            is_whole = false;
            continue;
        };
        let read_id = match id(&file) {
            Some(written) => {
                texts.read(&format!("{numbered}.id"), written).map(|Word(id)| (id, written.line))
            }
            None => {
                texts.wrong_at(&numbered, line, "a phase needs a name; add id, such as deploy");
                None
            }
        };
        let name = read_id.as_ref().map_or_else(|| format!("#{at}").into(), |(id, _)| id.clone());
        let own_place = match &read_id {
            Some((id, _)) => format!("{place}.{id}"),
            None => numbered.clone(),
        };
        if let Some((id, line)) = read_id {
            match ids.iter().find(|(other, _)| *other == id) {
                Some((_, first)) => {
                    let why = format!("stands here twice (line {first}); give each phase an id of its own");
                    texts.findings.wrong_at(&format!("{numbered}.id"), Some(&id), line, why);
                }
                None => ids.push((id, line)),
            }
        } else {
            is_whole = false;
        }
        match read(texts, &own_place, name, *file, line) {
            Some(phase) => phases.push(phase),
            None => is_whole = false,
        }
    }
    if is_whole {
        order(texts, &phases);
    }
    phases
}

/// Phases go in the order of the file: what they need has to stand before them.
fn order(texts: &mut Texts<'_, '_>, phases: &[Drafted]) {
    let at = |id: &str| phases.iter().position(|phase| *phase.phase.id == *id);
    for (own, phase) in phases.iter().enumerate() {
        let place = format!("{}.needs", phase.place);
        for written in &phase.needs {
            let id = &phase.phase.id;
            let why = match at(&written.text) {
                Some(other) if other < own => continue,
                Some(other) if other == own => "needs itself; leave it out".to_owned(),
                Some(other) => match way(phases, other, own) {
                    Some(way) => {
                        let way: Vec<&str> = way.iter().map(|at| &*phases[*at].phase.id).collect();
                        format!("a cycle: {id} needs {}; cut it", way.join(", which needs "))
                    }
                    None => format!("comes after {id}; put {} before it", written.text),
                },
                None => {
                    let ids = phases.iter().map(|phase| &*phase.phase.id);
                    match did_you_mean(&written.text, ids.clone()) {
                        Some(meant) => format!("there is no phase {}; did you mean {meant}?", written.text),
                        None => format!("there is no phase {}; there is {}", written.text, listed(ids)),
                    }
                }
            };
            texts.wrong(&place, written, why);
        }
    }
}

/// By which phases one needs another, both included.
fn way(phases: &[Drafted], from: usize, to: usize) -> Option<Vec<usize>> {
    let mut ways = vec![vec![from]];
    let mut seen = vec![from];
    while let Some(way) = ways.pop() {
        let last = way.last().copied()?;
        if last == to {
            return Some(way);
        }
        for need in &phases[last].needs {
            let next = phases.iter().position(|phase| *phase.phase.id == *need.text);
            if let Some(next) = next.filter(|next| !seen.contains(next)) {
                seen.push(next);
                ways.push(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

/// A phase of Tidegate's own form.
pub(super) fn phase(
    texts: &mut Texts<'_, '_>,
    place: &str,
    id: Arc<str>,
    mut file: PhaseFile,
    line: u64,
) -> Option<Drafted> {
    let below = |key: &str| format!("{place}.{key}");
    let title = file.title.as_ref().and_then(|title| texts.text(&below("title"), title));
    let check = file.check.take().map(|file| checks(texts, &below("check"), file)).unwrap_or_default();
    let verify = file.verify.take().map(|file| checks(texts, &below("verify"), file));
    let rollback_on_failure =
        texts.read_or(&below("rollback_on_failure"), file.rollback_on_failure.as_ref(), true);
    let timeout_written = file.timeout.take();
    let undo_timeout = file.undo_timeout.take().map(|written| {
        some_time(texts, &below("undo_timeout"), Some(&written), TRAFFIC_TIMEOUT, PHASE_TIMEOUT_MAX)
    });
    let needs = needs(texts, place, file.needs.take(), file.depends_on.take());
    let undo = file.undo.take();
    let action = action(texts, place, file, line);
    let is_command = matches!(action, Some(Action::Command { .. }));
    let undo = match undo {
        Some(undo) => self::undo(texts, &below("undo"), undo),
        None => match &action {
            Some(Action::Command { .. }) => {
                let why = "what undoes it? Add undo, or undo: none if nothing does and it harms nobody";
                texts.wrong_at(place, line, why);
                None
            }
            Some(action) => Some(usual_undo(action)),
            None => None,
        },
    };
    let timed = timeout_written.is_some() || !is_command;
    let action = action?;
    let timeout = timeout(texts, &below("timeout"), timeout_written.as_ref(), &action);
    let phase = drafted_phase(id, title, check, action, verify, undo?, timeout, rollback_on_failure);
    Some(Drafted { phase, place: place.to_owned(), undo_timeout, timed, needs })
}

#[allow(clippy::too_many_arguments)]
pub(super) fn drafted_phase(
    id: Arc<str>,
    title: Option<Arc<str>>,
    check: Vec<crate::launch::Check>,
    action: Action,
    verify: Option<Vec<crate::launch::Check>>,
    undo: Undo,
    timeout: Option<Duration>,
    rollback_on_failure: bool,
) -> Phase {
    let undo_timeout = match undo {
        Undo::Command { .. } => timeout.unwrap_or(COMMAND_TIMEOUT),
        Undo::None | Undo::DisableTraffic | Undo::Shift { .. } => TRAFFIC_TIMEOUT,
    };
    Phase { id, title, check, action, verify, undo, timeout, undo_timeout, rollback_on_failure }
}

/// What undoes an action of the daemon's.
pub(super) fn usual_undo(action: &Action) -> Undo {
    match action {
        Action::Rollout(_) | Action::Shift { .. } => Undo::DisableTraffic,
        Action::Command { .. } | Action::DisableTraffic | Action::Synthetic | Action::Observe { .. } => {
            Undo::None
        }
    }
}

/// How long an action may take.
pub(super) fn timeout(
    texts: &mut Texts<'_, '_>,
    place: &str,
    written: Option<&Written<Duration>>,
    action: &Action,
) -> Option<Duration> {
    let read =
        |texts: &mut Texts<'_, '_>, default| some_time(texts, place, written, default, PHASE_TIMEOUT_MAX);
    match action {
        Action::Rollout(_) => written.map(|_| read(texts, PHASE_TIMEOUT_MAX)),
        Action::Command { .. } => Some(read(texts, COMMAND_TIMEOUT)),
        Action::Shift { .. } | Action::DisableTraffic | Action::Synthetic => {
            Some(read(texts, TRAFFIC_TIMEOUT))
        }
        Action::Observe { lasts } => {
            let timeout = read(texts, lasts.saturating_add(OBSERVE_MARGIN));
            if let Some(written) = written.filter(|_| timeout <= *lasts) {
                let why = format!("is over before the observation, which lasts {}", show_duration(*lasts));
                texts.wrong(place, written, format!("{why}; leave it out"));
            }
            Some(timeout)
        }
    }
}

fn needs(
    texts: &mut Texts<'_, '_>,
    place: &str,
    needs: Option<List<Word>>,
    depends_on: Option<List<Word>>,
) -> Vec<Written<Word>> {
    let mut found = Vec::new();
    for (key, list) in [("needs", needs), ("depends_on", depends_on)] {
        for written in list.map(Short::into_items).unwrap_or_default() {
            if let Some(Word(id)) = texts.read(&format!("{place}.{key}"), &written) {
                found.push(Written::new(id.to_string(), written.line));
            }
        }
    }
    found
}

fn action(texts: &mut Texts<'_, '_>, place: &str, file: PhaseFile, line: u64) -> Option<Action> {
    let below = |key: &str| format!("{place}.{key}");
    let mut found: Vec<Option<Action>> = Vec::new();
    if let Some(file) = file.command {
        found.push(command_action(texts, &below("do"), file));
    }
    if let Some(file) = file.rollout {
        found.push(rollout(texts, &below("rollout"), file).map(Action::Rollout));
    }
    if let Some(written) = &file.shift {
        found.push(texts.read(&below("shift"), written).and_then(|weight| {
            if weight == Weight::ZERO {
                let why = "nobody is on the candidate at 0%; write disable_traffic: true if that is meant";
                texts.wrong(&below("shift"), written, why);
                return None;
            }
            Some(Action::Shift { weight })
        }));
    }
    if let Some(written) = &file.lasts {
        let lasts = texts.read(&below("for"), written).and_then(|lasts: Duration| {
            let most = PHASE_TIMEOUT_MAX.saturating_sub(OBSERVE_MARGIN);
            let is_right = !lasts.is_zero() && lasts <= most;
            if !is_right {
                texts.wrong(
                    &below("for"),
                    written,
                    "is not more than 0s and less than 7d; write for instance 30m",
                );
            }
            is_right.then_some(lasts)
        });
        found.push(lasts.map(|lasts| Action::Observe { lasts }));
    }
    for (key, written, action) in [
        ("synthetic", &file.synthetic, Action::Synthetic),
        ("disable_traffic", &file.disable_traffic, Action::DisableTraffic),
    ] {
        let Some(written) = written else { continue };
        found.push(match texts.read(&below(key), written) {
            Some(true) => Some(action),
            Some(false) => {
                texts.wrong(&below(key), written, "does nothing; write true, or leave it out");
                None
            }
            None => None,
        });
    }
    if found.len() != 1 {
        let why = match found.len() {
            0 => format!("what does it do? Add one of {ACTIONS}"),
            _ => format!("does more than one thing; make a phase of each: {ACTIONS}"),
        };
        texts.wrong_at(place, line, why);
        return None;
    }
    found.pop()?
}

fn command_action(texts: &mut Texts<'_, '_>, place: &str, file: CommandFile) -> Option<Action> {
    if let Short::One(value) = &file {
        let why = match value.text.trim() {
            "run_synthetic_tests" => "write synthetic: true in place of do",
            "disable_traffic" => "write disable_traffic: true in place of do",
            text if text.starts_with("shift_traffic") => "write shift: 25% in place of do",
            _ => "",
        };
        if !why.is_empty() {
            texts.wrong(place, value, why);
            return None;
        }
    }
    command(texts, place, file).map(|run| Action::Command { run })
}

fn undo(
    texts: &mut Texts<'_, '_>,
    place: &str,
    file: Short<Text, Written<Argument>, UndoFile>,
) -> Option<Undo> {
    match file {
        Short::One(value) => match value.text.trim() {
            "none" => Some(Undo::None),
            "disable_traffic" => Some(Undo::DisableTraffic),
            text => {
                let why = format!(
                    "is neither none nor disable_traffic; a command is a list: {}, or {{sh: \"…\"}}",
                    as_list(text)
                );
                texts.wrong(place, &value, why);
                None
            }
        },
        Short::List(items, line) => {
            command(texts, place, Short::List(items, line)).map(|run| Undo::Command { run })
        }
        Short::Mapping(UndoFile { sh: Some(_), shift: Some(shift) }, _) => {
            texts.wrong(&format!("{place}.shift"), &shift, "sh is there, too; leave one out");
            None
        }
        Short::Mapping(UndoFile { sh: None, shift: Some(shift) }, _) => {
            let weight = texts.read(&format!("{place}.shift"), &shift)?;
            Some(if weight == Weight::ZERO { Undo::DisableTraffic } else { Undo::Shift { weight } })
        }
        Short::Mapping(UndoFile { sh, shift: None }, line) => {
            shell(texts, place, sh.as_ref(), line).map(|run| Undo::Command { run })
        }
    }
}

fn rollout(texts: &mut Texts<'_, '_>, place: &str, file: Short<Word, Never, RolloutFile>) -> Option<Rollout> {
    match file {
        Short::One(written) if written.text == "default" => Some(Rollout::default()),
        Short::One(written) => schedule(texts, place, &written),
        Short::Mapping(RolloutFile { schedule: None, plan: None }, _) => Some(Rollout::default()),
        Short::Mapping(RolloutFile { schedule: Some(_), plan: Some(plan) }, _) => {
            let why = "schedule is there, too; write the schedule into the plan, or leave one out";
            texts.wrong(&format!("{place}.plan"), &plan, why);
            None
        }
        Short::Mapping(RolloutFile { schedule: Some(written), .. }, _) => {
            schedule(texts, &format!("{place}.schedule"), &written)
        }
        Short::Mapping(RolloutFile { plan: Some(written), .. }, _) => {
            plan(texts, &format!("{place}.plan"), &written)
        }
        Short::List(never, _) => match never.into_iter().next()? {},
    }
}

fn schedule(texts: &mut Texts<'_, '_>, place: &str, written: &Written<Word>) -> Option<Rollout> {
    let Word(name) = texts.read(place, written)?;
    if SCHEDULES.contains(&&*name) {
        return Some(Rollout { schedule: Some(name), plan: None });
    }
    let why = match did_you_mean(&name, SCHEDULES) {
        Some(meant) => format!("there is no schedule {name}; did you mean {meant}?"),
        None if name.ends_with(".yaml") || name.ends_with(".yml") => {
            format!("there is no schedule {name}; for a file write {{plan: {name}}}")
        }
        None => format!("there is no schedule {name}; there is {}", listed(SCHEDULES)),
    };
    texts.wrong(place, written, why);
    None
}

fn plan(texts: &mut Texts<'_, '_>, place: &str, written: &Written<Text>) -> Option<Rollout> {
    let Text(name) = texts.read(place, written)?;
    let path = texts.around.folder.join(&*name);
    let (bytes, _) = crate::config::secret::read_file(texts.findings, place, written, &path, PLAN_BYTES_MAX)?;
    let Ok(text) = String::from_utf8(bytes) else {
        texts.wrong(place, written, format!("{} is not UTF-8; save it as UTF-8", path.display()));
        return None;
    };
    match check_plan(&name, &text) {
        Ok(_) => {}
        Err(ConfigError::Problems { problems, .. }) => {
            for problem in problems {
                texts.wrong(place, written, problem.to_string());
            }
            return None;
        }
        Err(error) => {
            texts.wrong(place, written, error.to_string());
            return None;
        }
    }
    Some(Rollout { schedule: None, plan: Some((name, text.into())) })
}
