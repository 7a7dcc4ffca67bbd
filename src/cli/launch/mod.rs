//! The verbs around launches.
//!
//! `start`, `resume` and `rollback` run commands here, under the lease that the daemon gives; everything else asks the daemon and shows what
//! it says. What a launch does is told in the same sentences everywhere: live, in the log and in the report.

pub(super) mod args;
mod book;
mod drive;
mod file;
pub(super) mod lint;
mod plan;
mod progress;
pub(super) mod show;
mod story;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::process::ExitCode;

use jiff::tz::TimeZone;

use self::args::{Keep, Launch, LaunchVerb};
use super::failure::Failure;
use crate::admin::api::LaunchSummary;
use crate::admin::client::{Client, printable};
use crate::launch::State;
use crate::runner::keeper;

pub(super) fn launch(order: Launch, out: &mut dyn Write) -> Result<(), Failure> {
    match order.verb {
        LaunchVerb::Plan(order) => plan::plan(order, out),
        LaunchVerb::Start(order) => drive::start(order, out),
        LaunchVerb::Status(order) => book::status(&order, out),
        LaunchVerb::Resume(order) => drive::resume(order, out),
        LaunchVerb::Rollback(order) => drive::rollback(order, out),
        LaunchVerb::Sign(order) => book::sign(order, out),
        LaunchVerb::Vote(order) => book::vote(order, out),
        LaunchVerb::Log(order) => story::log(&order, out),
        LaunchVerb::Report(order) => story::report(&order, out),
        LaunchVerb::List(order) => book::list(&order, out),
        LaunchVerb::Init(order) => file::init(&order, out),
        LaunchVerb::Keep(_) => Err(Failure::Usage("`launch keep` is not for people".to_owned())),
    }
}

/// What a keeper ends with is its command's, so it does not come here as a failure.
pub(super) fn keep(order: &Keep) -> ExitCode {
    keeper::keep(&order.words)
}

/// Which launches may be meant by no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meant {
    /// One that has not started.
    Idle,
    /// One that runs.
    Running,
    /// One that runs, else one that has not started, else any.
    Any,
}

/// The name that was given, or of the only launch that can be meant.
fn name_or_only(client: &Client, name: Option<&str>, meant: Meant) -> Result<String, Failure> {
    match name {
        Some(name) => Ok(name.to_owned()),
        None => only(&client.launches()?, meant).map_err(Failure::Usage),
    }
}

fn only(launches: &[LaunchSummary], meant: Meant) -> Result<String, String> {
    const NAMED_MAX: usize = 5;
    let of = |state: State| -> Vec<&str> {
        launches.iter().filter(|launch| launch.state == state).map(|launch| &*launch.name).collect()
    };
    let (running, idle) = (of(State::Running), of(State::Idle));
    let (found, what) = match meant {
        Meant::Idle => (idle, "has not started"),
        Meant::Running => (running, "is running"),
        Meant::Any if !running.is_empty() => (running, "is running"),
        Meant::Any if !idle.is_empty() => (idle, "is on the book"),
        Meant::Any => (launches.iter().map(|launch| &*launch.name).collect(), "is on the book"),
    };
    match found.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(format!("no launch {what}; `tidegate launch list` shows all")),
        many => {
            let named: Vec<&str> = many.iter().copied().take(NAMED_MAX).collect();
            let more = many.len().saturating_sub(NAMED_MAX);
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            Err(printable(&format!("which launch? there are: {}{rest}", named.join(", "))))
        }
    }
}

/// UTC, or this machine's.
fn zone(local: bool) -> TimeZone {
    if local { TimeZone::system() } else { TimeZone::UTC }
}

/// Whether the locale says that nothing but ASCII can be shown. One that says nothing shows everything, as files do.
fn is_ascii() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
    shows_ascii_only(locale)
}

fn shows_ascii_only(mut values: impl Iterator<Item = String>) -> bool {
    let locale = values.find(|value| !value.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        !locale.contains("utf-8") && !locale.contains("utf8")
    })
}
