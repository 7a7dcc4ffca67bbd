//! Launches as people write them: Tidegate's own form, and the older one with validators and actions.
//!
//! Both become the same [`Launch`]. Variables are looked up when a file is read, so that one that is not set is told before anything is
//! begun. What they stand for is recorded with the launch; of secrets only that they are needed.

mod checks;
mod file;
mod older;
mod phases;
mod presets;
mod readiness;
mod shell;
#[cfg(test)]
mod tests;
mod texts;
mod words;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::checks::{http_check, mapping, some_time};
use self::file::{BreakerFile, FlagsFile, HttpLong, LaunchFile, PhaseFile, WarmupFile};
use self::older::OlderFile;
use self::phases::{Drafted, PHASE_TIMEOUT_MAX};
pub use self::presets::{PRESETS, preset};
use self::readiness::{comms, contacts, go_nogo, items, known_roles, window};
use self::texts::Texts;
use self::words::{Hits, Rps, Text, Word};
use super::plan::{Share, name_of};
use super::problem::{ConfigError, Findings, Problem};
use super::scalar::Count;
use super::units::show_duration;
use super::written::{Never, Short, Written};
use super::yaml;
use crate::clock::Timestamp;
use crate::launch::{Breaker, FlagsOff, HttpCheck, Launch, Undo, Warmup};

const LAUNCH_BYTES_MAX: usize = 1 << 20;
const WARMUP_TIMEOUT: Duration = Duration::from_secs(300);
/// The least that an undo gets of `rollback_within`.
const UNDO_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// What a launch file is read with.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// What an environment variable holds.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The service, if the command line says it; it wins over the file.
    pub service: Option<&'a str>,
    /// The moment: a window that is over by then is a problem.
    pub at: Timestamp,
    /// Where relative paths of plans start: the folder of the file.
    pub folder: &'a Path,
}

/// A launch file that can be used.
#[derive(Clone, Debug)]
pub struct Read {
    /// What it says, with every default.
    pub launch: Arc<Launch>,
    /// What works, but hardly as it was meant.
    pub warnings: Vec<Problem>,
    /// Phases that run a command without saying how long it may take, by their ids.
    pub(super) untimed: Vec<Arc<str>>,
}

/// Reads a launch of either form, of at most 1 MiB. `name` is what errors call it; the older form has its name from there, too. Plans that
/// it names are opened, and nothing else.
///
/// # Errors
///
/// The first thing that is not YAML or no known key; else all problems at once, each with place, value, line and cure.
pub fn read(text: &str, name: &str, around: &Around<'_>) -> Result<Read, ConfigError> {
    if text.len() > LAUNCH_BYTES_MAX {
        let name = name.to_owned();
        return Err(ConfigError::TooLarge { name, most: "1 MiB", kind: "launch" });
    }
    let file: Option<LaunchFile> = yaml::read(text, name)?;
    let mut findings = Findings::default();
    let read = launch(&mut findings, file.unwrap_or_default(), name, around);
    let Findings { mut problems, mut warnings } = findings;
    match read {
        Some((launch, untimed)) if problems.is_empty() => {
            warnings.sort_by_key(|warning| warning.line);
            Ok(Read { launch: Arc::new(launch), warnings, untimed })
        }
        _ => {
            problems.sort_by_key(|problem| problem.line);
            Err(ConfigError::Problems { name: name.to_owned(), problems })
        }
    }
}

/// The JSON Schema of launch files, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(LaunchFile).to_value()
}

/// The launch; what is wrong with it is noted, and it is whole only if nothing is.
fn launch(
    findings: &mut Findings,
    mut file: LaunchFile,
    name: &str,
    around: &Around<'_>,
) -> Option<(Launch, Vec<Arc<str>>)> {
    let secrets = file.secrets.take().map(Short::into_items);
    let mut listed = Vec::new();
    for written in secrets.iter().flatten() {
        match texts::is_name(&written.text) {
            true => listed.push(written.text.clone()),
            false => findings.wrong("secrets", written, "is no name of a variable"),
        }
    }
    let mut texts = Texts::new(findings, around, listed);
    let (own_name, mut older) = match file.launch.take() {
        Some(Short::One(written)) => (texts.read("launch", &written).map(|Word(name)| name), None),
        Some(Short::Mapping(older, _)) => (older_name(&mut texts, &older, name), Some(older)),
        Some(Short::List(_, line)) => {
            texts.wrong_at("launch", line, "its name is expected here");
            (None, None)
        }
        None => {
            texts.wrong_at("launch", 1, "what is it called? Add launch: NAME, such as shop-2.0.2");
            (None, None)
        }
    };
    let service = service(&mut texts, &file, older.as_deref());
    let mut word = |key: &str, own: Option<&Written<Word>>, older: Option<&Written<Word>>| {
        let (place, written) = match (own, older) {
            (Some(written), Some(_)) => {
                texts.wrong(key, written, format!("launch.{key} says it, too; leave one out"));
                return None;
            }
            (Some(written), None) => (key.to_owned(), written),
            (None, older) => (format!("launch.{key}"), older?),
        };
        texts.read(&place, written).map(|Word(word)| word)
    };
    let of_older = |key: fn(&OlderFile) -> Option<&Written<Word>>| older.as_deref().and_then(key);
    let version = word("version", file.version.as_ref(), of_older(|older| older.version.as_ref()));
    let environment =
        word("environment", file.environment.as_ref(), of_older(|older| older.environment.as_ref()));
    let tier = file.tier.as_ref().and_then(|tier| texts.read("tier", tier)).map(|tier| tier.0);
    let window = file.window.take().and_then(|file| window(&mut texts, file));
    let contacts = contacts(&mut texts, file.contacts.take());
    let checklist = items(&mut texts, file.checklist.take(), window.is_some());
    let roles = known_roles(&mut texts, file.roles.take(), &contacts, &checklist);
    let go_nogo = file.go_nogo.take().and_then(|file| go_nogo(&mut texts, file, &roles, window.is_some()));
    let threshold = older.as_mut().and_then(|older| older.rollback_threshold.take());
    let breaker = match (file.breaker.take(), threshold) {
        (Some(own), Some(_)) => {
            texts.wrong_at("breaker", own.line(), "launch.rollback_threshold is there, too; leave one out");
            Breaker::default()
        }
        (Some(own), None) => breaker(&mut texts, own),
        (None, Some(threshold)) => older::breaker(&mut texts, &threshold),
        (None, None) => Breaker::default(),
    };
    let flags = file.flags.take().and_then(|file| flags_off(&mut texts, file));
    let warmup = file.warmup.take().and_then(|file| warmup(&mut texts, file));
    let synthetic = file.synthetic.take().map(|file| synthetic(&mut texts, file)).unwrap_or_default();
    let comms = comms(&mut texts, file.comms.take(), window.is_some());
    let within = file.rollback_within.as_ref().and_then(|written| {
        let time = texts.read("rollback_within", written)?;
        if time.is_zero() {
            texts.wrong("rollback_within", written, "no rollback takes no time; write for instance 5m");
        }
        Some((time, written)).filter(|(time, _)| !time.is_zero())
    });
    let mut phases = match (file.phases.take(), older.as_mut().and_then(|older| older.phases.take())) {
        (Some(own), Some(_)) => {
            texts.wrong_at("phases", own.line(), "launch.phases is there, too; leave one out");
            Vec::new()
        }
        (Some(own), None) => phases::listed_phases(
            &mut texts,
            "phases",
            own,
            |phase: &PhaseFile| phase.id.as_ref(),
            phases::phase,
        ),
        (None, Some(older)) => older::phases(&mut texts, older),
        (None, None) => {
            texts.wrong_at("phases", 1, "there is no phase; add phases: [{id: traffic, rollout: canary}]");
            Vec::new()
        }
    };
    if let Some((within, written)) = within {
        divide(&mut texts, &mut phases, within, written);
    } else {
        for drafted in &mut phases {
            drafted.phase.undo_timeout = drafted.undo_timeout.unwrap_or(drafted.phase.undo_timeout);
        }
    }
    let untimed = phases.iter().filter(|drafted| !drafted.timed).map(|drafted| drafted.phase.id.clone());
    let untimed = untimed.collect();
    let phases = phases.into_iter().map(|drafted| drafted.phase).collect();
    let variables = texts.into_variables(secrets);
    let launch = Launch {
        name: own_name?,
        service: service?,
        version,
        environment,
        tier: tier.unwrap_or_default(),
        window,
        rollback_within: within.map(|(within, _)| within),
        breaker,
        flags,
        checklist,
        go_nogo,
        warmup,
        synthetic,
        comms,
        contacts,
        phases,
        variables,
    };
    Some((launch, untimed))
}

/// The older form has no name of its own: the file's, without folder and ending.
fn older_name(texts: &mut Texts<'_, '_>, older: &OlderFile, file_name: &str) -> Option<Arc<str>> {
    match &older.name {
        Some(written) => texts.read("launch.name", written).map(|Word(name)| name),
        None => {
            let stem = Path::new(file_name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let is_named = stem.bytes().any(|byte| byte.is_ascii_alphanumeric());
            Some(if is_named { name_of(stem) } else { "launch".into() })
        }
    }
}

fn service(texts: &mut Texts<'_, '_>, file: &LaunchFile, older: Option<&OlderFile>) -> Option<Arc<str>> {
    let (place, written) = match (&file.service, older.and_then(|older| older.service.as_ref())) {
        (Some(written), Some(_)) => {
            texts.wrong("service", written, "launch.service says it, too; leave one out");
            return None;
        }
        (Some(written), None) => ("service", Some(written)),
        (None, older) => ("launch.service", older),
    };
    let read = written.and_then(|written| texts.read(place, written)).map(|Word(name)| name);
    match (texts.around.service, written) {
        (Some(said), Some(written)) => {
            if read.as_deref().is_some_and(|read| read != said) {
                texts.doubt(place, written, format!("the command line says {said}, and that counts"));
            }
            Some(said.into())
        }
        (Some(said), None) => Some(said.into()),
        (None, Some(_)) => read,
        (None, None) => {
            texts.wrong_at(
                "service",
                1,
                "which service does it release? Add service: NAME, or say --service NAME",
            );
            None
        }
    }
}

fn breaker(texts: &mut Texts<'_, '_>, file: Short<Never, Never, BreakerFile>) -> Breaker {
    let Some((file, line)) = mapping(texts, "breaker", file) else { return Breaker::default() };
    let default = Breaker::default();
    let mut error_rate = None;
    if let Some(written) = &file.error_rate
        && let Some(Share(share)) = texts.read("breaker.error_rate", written)
    {
        let why = match share {
            _ if share <= 0.0 => {
                "the first request that fails would end the launch; write how much is too much, such as 2%"
            }
            _ if share >= 1.0 => "never trips; write how much is too much, such as 2%",
            _ => {
                error_rate = Some(share);
                ""
            }
        };
        if !why.is_empty() {
            texts.wrong("breaker.error_rate", written, why);
        }
    }
    let latency_p99 = file.latency_p99.as_ref().map(|written| {
        some_time(texts, "breaker.latency_p99", Some(written), PHASE_TIMEOUT_MAX, PHASE_TIMEOUT_MAX)
    });
    let failures = file.health_check_failures.as_ref();
    let failures = failures.and_then(|written| texts.read("breaker.health_check_failures", written));
    if file.error_rate.is_none() && file.latency_p99.is_none() && file.health_check_failures.is_none() {
        let why = "watches nothing; add error_rate: 2%, latency_p99: 800ms or health_check_failures: 3";
        texts.wrong_at("breaker", line, why);
    }
    let over = file.over.as_ref().and_then(|written| texts.read("breaker.over", written));
    let min_requests = file.min_requests.as_ref();
    let min_requests = min_requests.and_then(|written| texts.read("breaker.min_requests", written));
    Breaker {
        error_rate,
        latency_p99,
        health_check_failures: failures.map(|Count(count)| count),
        over: over.map_or(default.over, |over| over.0),
        min_requests: min_requests.map_or(default.min_requests, |Count(count)| count.into()),
    }
}

fn flags_off(texts: &mut Texts<'_, '_>, file: Short<Never, Never, FlagsFile>) -> Option<FlagsOff> {
    let (file, line) = mapping(texts, "flags", file)?;
    let cure = "which flags? Add names: [KEY]";
    let names = checks::some_texts(texts, "flags", line, "names", file.names, cure);
    let Some(written) = &file.off else {
        let why = "what switches them off? Add off: HOOK, one of hooks in the daemon's configuration";
        texts.wrong_at("flags", line, why);
        return None;
    };
    let Word(hook) = texts.read("flags.off", written)?;
    Some(FlagsOff { names: names?, hook })
}

fn warmup(texts: &mut Texts<'_, '_>, file: Short<Never, Never, WarmupFile>) -> Option<Warmup> {
    let (file, line) = mapping(texts, "warmup", file)?;
    let rps = texts.read_or("warmup.rps", file.rps.as_ref(), Rps(10)).0;
    let min_hits = texts.read_or("warmup.min_hits", file.min_hits.as_ref(), Hits(100)).0;
    let timeout =
        some_time(texts, "warmup.timeout", file.timeout.as_ref(), WARMUP_TIMEOUT, PHASE_TIMEOUT_MAX);
    let (place, list) = match (file.urls, file.paths) {
        (Some(list), None) => ("warmup.urls", list),
        (None, Some(list)) => ("warmup.paths", list),
        (Some(_), Some(list)) => {
            texts.wrong_at("warmup.paths", list.line(), "urls says it already; leave one out");
            return None;
        }
        (None, None) => {
            texts.wrong_at("warmup", line, "what is asked for? Add urls: [/]");
            return None;
        }
    };
    let items = list.into_items();
    if items.is_empty() {
        texts.wrong_at(place, line, "what is asked for? Add a path, such as /");
    }
    if min_hits > u64::from(rps).saturating_mul(timeout.as_secs().max(1)) {
        let time = show_duration(timeout);
        let why = format!(
            "{rps} requests a second do not come to {min_hits} hits in {time}; raise rps or timeout, or lower min_hits"
        );
        texts.wrong_at("warmup", line, why);
    }
    let paths: Vec<_> = items.iter().map(|written| checks::path(texts, place, written)).collect();
    Some(Warmup { paths: paths.into_iter().collect::<Option<_>>()?, rps, min_hits, timeout })
}

fn synthetic(texts: &mut Texts<'_, '_>, file: Short<Text, file::HttpFile, HttpLong>) -> Vec<HttpCheck> {
    let (items, line) = match file {
        Short::List(items, line) => (items, line),
        Short::One(path) => {
            let line = path.line;
            (vec![Short::One(path)], line)
        }
        Short::Mapping(long, line) => (vec![Short::Mapping(long, line)], line),
    };
    let read = |(at, file): (usize, file::HttpFile)| {
        let line = file.line().max(line);
        http_check(texts, &format!("synthetic[{at}]"), file, line)
    };
    items.into_iter().enumerate().filter_map(read).collect()
}

/// What is left of `rollback_within` is divided over the undos that do not say how long they take.
fn divide(texts: &mut Texts<'_, '_>, phases: &mut [Drafted], within: Duration, written: &Written<Duration>) {
    let undone = |drafted: &Drafted| drafted.phase.undo != Undo::None;
    let said: Duration = phases.iter().filter(|d| undone(d)).filter_map(|drafted| drafted.undo_timeout).sum();
    if said > within {
        let why = format!(
            "the undo timeouts of its phases come to {}; raise it, or lower them",
            show_duration(said)
        );
        texts.wrong("rollback_within", written, why);
        return;
    }
    let unsaid = phases.iter().filter(|drafted| undone(drafted) && drafted.undo_timeout.is_none()).count();
    let share = match u32::try_from(unsaid) {
        Ok(unsaid @ 1..) => (within - said) / unsaid,
        _ => Duration::ZERO,
    };
    // Whole milliseconds, so that what is shown can be written.
    let share = Duration::from_millis(u64::try_from(share.as_millis()).unwrap_or(u64::MAX));
    if unsaid > 0 && share < UNDO_TIMEOUT_MIN {
        let why = format!(
            "leaves {} for each of {unsaid} undos; raise it, or lower undo_timeout where it is written",
            show_duration(share)
        );
        texts.wrong("rollback_within", written, why);
        return;
    }
    for drafted in phases {
        let usual = if undone(drafted) { share } else { drafted.phase.undo_timeout };
        drafted.phase.undo_timeout = drafted.undo_timeout.unwrap_or(usual);
    }
}
