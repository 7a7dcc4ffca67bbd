//! Whether a launch can be run at all, as far as it says so itself.
//!
//! Launch files are read with lines and cures elsewhere; here is what has to hold whoever sends one.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::launch::{Action, Breaker, Command, Item, ItemKind, Launch, Phase, Undo, Warmup};
use crate::store::Journals;
use crate::traffic::Weight;

const PHASES_MAX: usize = 100;
const ITEMS_MAX: usize = 200;
const RPS: RangeInclusive<u32> = 1..=1000;
const HITS: RangeInclusive<u64> = 1..=100_000;
/// What telemetry remembers.
const OVER: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(60);

/// All that is wrong with a launch, each with its place, and what to do.
pub fn problems(launch: &Launch, at: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    if !Journals::is_name(&launch.name) {
        found.push(format!(
            "name = {:?}: a launch's name has 1 to 64 letters, digits, '.', '_' and '-', the first one a letter or digit",
            launch.name
        ));
    }
    if let Some(window) = &launch.window {
        if window.lasts.is_zero() {
            found.push("window: it has no length; say how long it is open".to_owned());
        } else if at >= window.closes() {
            found.push(format!("window: it closed at {}; give it another one", window.closes()));
        }
    }
    breaker(&launch.breaker, &mut found);
    if launch.flags.as_ref().is_some_and(|flags| flags.names.is_empty()) {
        found.push("flags: there are none; name them, or leave flags out".to_owned());
    }
    items(&launch.checklist, &mut found);
    if let Some(asked) = &launch.go_nogo {
        if asked.roles.is_empty() {
            found.push("go_nogo.roles: nobody is asked; name roles, or leave go_nogo out".to_owned());
        }
        twice("go_nogo.roles", asked.roles.iter().map(AsRef::as_ref), &mut found);
    }
    if let Some(Warmup { paths, rps, min_hits, .. }) = &launch.warmup
        && (paths.is_empty() || !RPS.contains(rps) || !HITS.contains(min_hits))
    {
        found.push("warmup: it needs a path, 1 to 1000 requests a second, and 1 to 100000 hits".to_owned());
    }
    if launch.comms.every.is_some_and(|every| every < Duration::from_secs(60)) {
        found.push("comms.every: must be at least 1m; nobody reads more".to_owned());
    }
    phases(&launch.phases, &mut found);
    found
}

fn breaker(breaker: &Breaker, found: &mut Vec<String>) {
    if breaker.error_rate.is_some_and(|rate| !(rate > 0.0 && rate < 1.0)) {
        found.push("breaker.error_rate: must be more than 0 and less than 100%".to_owned());
    }
    if breaker.latency_p99.is_some_and(|limit| limit.is_zero()) {
        found.push("breaker.latency_p99: must be more than 0".to_owned());
    }
    if breaker.health_check_failures == Some(0) {
        found.push("breaker.health_check_failures: must be at least 1".to_owned());
    }
    if !OVER.contains(&breaker.over) {
        found.push("breaker.over: must be 10s to 60s".to_owned());
    }
}

fn items(items: &[Item], found: &mut Vec<String>) {
    if items.len() > ITEMS_MAX {
        found.push(format!("checklist: {} items are too many; {ITEMS_MAX} is the most", items.len()));
    }
    twice("checklist", items.iter().map(|item| &*item.id), found);
    for item in items {
        let is_empty = match &item.kind {
            ItemKind::Command { run, .. } => is_nothing(run),
            ItemKind::Person { .. } => false,
        };
        if is_empty {
            found.push(format!("checklist {}: its command is empty", item.id));
        }
    }
}

fn phases(phases: &[Phase], found: &mut Vec<String>) {
    if phases.is_empty() {
        found.push("phases: there is none; nothing would be done".to_owned());
    }
    if phases.len() > PHASES_MAX {
        found.push(format!("phases: {} are too many; {PHASES_MAX} is the most", phases.len()));
    }
    twice("phases", phases.iter().map(|phase| &*phase.id), found);
    for phase in phases {
        let id = &phase.id;
        let action = matches!(&phase.action, Action::Command { run } if is_nothing(run));
        let undo = matches!(&phase.undo, Undo::Command { run } if is_nothing(run));
        if action || undo {
            found.push(format!("phase {id}: a command is empty"));
        }
        if phase.timeout.is_none() && !matches!(phase.action, Action::Rollout(_)) {
            found.push(format!("phase {id}: it needs a timeout; only a rollout ends by itself"));
        }
        if phase.timeout.is_some_and(|timeout| timeout.is_zero()) || phase.undo_timeout.is_zero() {
            found.push(format!("phase {id}: a timeout of 0 lets nothing be done"));
        }
        if matches!(&phase.action, Action::Shift { weight } if *weight > Weight::FULL) {
            found.push(format!("phase {id}: 100% is all there is"));
        }
    }
}

fn twice<'a>(place: &str, names: impl Iterator<Item = &'a str>, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() {
            found.push(format!("{place}: one has no name"));
        } else if !seen.insert(name) {
            found.push(format!("{place}: {name} is there twice; give one of them another name"));
        }
    }
}

fn is_nothing(command: &Command) -> bool {
    match command {
        Command::Argv(argv) => argv.first().is_none_or(|program| program.is_empty()),
        Command::Shell(line) => line.trim().is_empty(),
    }
}
