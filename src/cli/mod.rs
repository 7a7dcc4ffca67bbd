//! The command line: words in, one sentence and an exit code out.
//!
//! What is typed becomes [`args`], which becomes what is meant, which becomes calls on the admin socket.
//! Answers go to standard output, as text or with `--json` as the API's own JSON; whatever went wrong goes to
//! standard error, as a sentence that says what to do. Text from outside loses its control characters.

mod args;
mod change;
mod endpoint;
mod failure;
mod figures;
mod launch;
mod look;
mod order;
mod paint;
mod rollout;
mod simulate;
mod start;
pub mod status;
mod steer;
pub mod watch;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use serde::Serialize;

use self::args::{CommandLine, Demo, DemoVerb, Launch, Reach, Verb};
pub use self::change::{reply_to_arm, reply_to_kill, reply_to_shift};
pub use self::failure::Failure;
use self::launch::args::LaunchVerb;
pub use self::look::colored;
pub use self::rollout::reply_to_act;
use crate::admin::client::{Client, printable};
use crate::runner::keeper;

/// Does what the command line says. `demo` runs the demo with the proxy on a port; it stands above this module.
///
/// Returns 0 if that succeeded, 1 if it failed, 2 for a mistake in command line or configuration, 3 for a
/// conflict or a lock, 4 for something that did not happen in time, 5 if no daemon can be reached, 6 if a launch was
/// rolled back, 7 if that failed.
pub fn main(demo: fn(u16) -> Result<(), Failure>) -> ExitCode {
    if let Some(kept) = keeper::asked(env::args_os().skip(1)) {
        return kept;
    }
    let command = match CommandLine::try_parse() {
        Ok(command) => command,
        Err(error) => return misspelled(&error),
    };
    if let Verb::Launch(Launch { verb: LaunchVerb::Keep(order) }) = &command.verb {
        return launch::keep(order);
    }
    let mut out = io::stdout();
    match obey(command.verb, demo, &mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.story());
            ExitCode::from(failure.exit_code())
        }
    }
}

fn obey(verb: Verb, demo: fn(u16) -> Result<(), Failure>, out: &mut dyn Write) -> Result<(), Failure> {
    match verb {
        Verb::Run(order) => start::run(order),
        Verb::Check(order) => start::check(order, out),
        Verb::Demo(Demo { port, verb: None }) => demo(port),
        Verb::Demo(Demo { verb: Some(DemoVerb::Break(order)), .. }) => steer::break_green(order, out),
        Verb::Status(order) => look::status(order, out),
        Verb::Shift(order) => change::shift(order, out),
        Verb::Mirror(order) => change::mirror(order, out),
        Verb::Kill(order) => change::kill(order, out),
        Verb::Arm(order) => change::arm(order, out),
        Verb::Deploy(order) => change::deploy(order, out),
        Verb::Endpoint(order) => endpoint::endpoint(order, out),
        Verb::Candidate(order) => look::candidate(order, out),
        Verb::Explain(order) => look::explain(order, out),
        Verb::Rollout(order) => rollout::rollout(order, out),
        Verb::Launch(order) => launch::launch(order, out),
        Verb::Lint(order) => launch::lint::lint(&order, out),
        Verb::Rollback(order) => rollout::rollback(order, out),
        Verb::Freeze(order) => rollout::freeze(order, out),
        Verb::Signal(order) => rollout::signal(order, out),
        Verb::Metric(order) => rollout::metric(order, out),
        Verb::Events(order) => look::events(order, out),
        Verb::Stop(order) => steer::stop(order, out),
        Verb::Reload(order) => steer::reload(order, out),
        Verb::Upgrade(order) => steer::upgrade(order, out),
        Verb::Healthcheck(order) => look::healthcheck(order, out),
        Verb::Override(order) => steer::tester(order, out),
        Verb::Simulate(order) => simulate::simulate(&order, out),
    }
}

/// Standard error may be gone, too.
fn complain(text: &str) {
    // Line by line, so that a list stays a list.
    let text: Vec<String> = text.lines().map(printable).collect();
    _ = writeln!(io::stderr(), "tidegate: {}", text.join("\n"));
}

/// What clap did not understand, or `--help` and `--version`.
fn misspelled(error: &clap::Error) -> ExitCode {
    if let Some(share) = negative_share(error) {
        complain(&format!("{share} is outside 0% to 100%"));
        return ExitCode::from(2);
    }
    // Nothing can be done for somebody who reads neither stream.
    _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

/// `-1%` looks like a flag, but nobody meant one.
fn negative_share(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    std::env::args_os().skip(1).filter_map(|word| word.into_string().ok()).find(|word| {
        let number = word.strip_prefix('-').and_then(|rest| rest.strip_suffix('%'));
        number.is_some_and(|number| number.parse::<f64>().is_ok())
    })
}

/// The daemon that is meant. What `--timeout` limits is the waiting, if there is any, else each call.
fn reach(how: &Reach, waits: bool) -> Result<Client, Failure> {
    let client = Client::find(how.socket.as_deref())?;
    Ok(match how.timeout {
        Some(limit) if !waits => client.with_deadline(limit),
        _ => client,
    })
}

/// The name of the only service.
fn only_service(client: &Client) -> Result<String, Failure> {
    const NAMED_MAX: usize = 5;
    let mut names: Vec<String> = client.status()?.services.into_iter().map(|service| service.name).collect();
    if names.len() == 1 {
        return Ok(names.remove(0));
    }
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let which = if names.is_empty() { "none".to_owned() } else { format!("{}{rest}", names.join(", ")) };
    Err(Failure::Usage(printable(&format!("which service? there are: {which}"))))
}

/// One JSON object in one line.
fn json<T: Serialize>(out: &mut dyn Write, value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(writeln!(out, "{text}")?)
}

#[cfg(test)]
mod tests;
