//! What `${VAR}` stands for where the launch is run.

use std::env;
use std::sync::Arc;

use super::output::Secrets;
use crate::launch::{self, Command, Launch, Ledger, Undo, Variable};

/// The text with its variables filled in: recorded values, and secrets from the environment.
///
/// # Errors
/// A sentence that says what has no value.
pub(super) fn expand(launch: &Launch, text: &str) -> Result<String, String> {
    launch::expand(text, |name| match launch.variables.get(name)? {
        Variable::Value(value) => Some(value.to_string()),
        Variable::Secret => env::var(name).ok(),
    })
    .map_err(|name| match name.starts_with("${") {
        true => format!("{name}: a variable is written ${{NAME}}"),
        false => format!("{name} is not set in the environment"),
    })
}

/// What must not be said of a launch.
pub(super) fn secrets(launch: &Launch) -> Secrets {
    let variables = launch.variables.iter().map(|(name, variable)| (&**name, variable));
    Secrets::of(variables, |name| env::var(name).ok())
}

/// The secrets of a launch that the environment does not have.
pub fn unset(launch: &Launch) -> Vec<Arc<str>> {
    unset_in(launch, |_| true, |name| env::var_os(name).is_some())
}

/// Those of them that what is left of the launch may need: for a launch that is undone, only what its undos need.
pub(super) fn still_unset(ledger: &Ledger) -> Vec<Arc<str>> {
    let is_set = |name: &str| env::var_os(name).is_some();
    if ledger.run.stopped.is_none() {
        return unset_in(&ledger.launch, |_| true, is_set);
    }
    let phases = ledger.launch.phases.iter().zip(&ledger.run.phases);
    let undos: Vec<_> = phases.filter(|(_, run)| run.touched).map(|(phase, _)| &phase.undo).collect();
    unset_in(&ledger.launch, |name| undos.iter().any(|undo| names(undo, name)), is_set)
}

fn unset_in(
    launch: &Launch,
    is_needed: impl Fn(&str) -> bool,
    is_set: impl Fn(&str) -> bool,
) -> Vec<Arc<str>> {
    let secrets = launch.variables.iter().filter(|(_, variable)| **variable == Variable::Secret);
    secrets.map(|(name, _)| name).filter(|name| is_needed(name) && !is_set(name)).cloned().collect()
}

/// Whether the undo's text has the name in it.
fn names(undo: &Undo, name: &str) -> bool {
    match undo {
        Undo::Command { run: Command::Argv(argv) } => argv.iter().any(|argument| argument.contains(name)),
        Undo::Command { run: Command::Shell(line) } => line.contains(name),
        Undo::None | Undo::DisableTraffic | Undo::Shift { .. } => false,
    }
}
