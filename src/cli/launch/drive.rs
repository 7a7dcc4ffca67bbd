//! Runs launches here: `start`, `resume`, `rollback`, and what an end means for whoever typed it.

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process;

use super::args::{Resume, Rollback, Start};
use super::file::Text;
use super::progress::Teller;
use super::{Meant, name_or_only};
use crate::admin::api::{
    LaunchRequest, LaunchRollbackRequest, LaunchStartRequest, LaunchView, LeaseAnswer, LeaseRequest,
};
use crate::admin::client::{Client, printable};
use crate::cli::failure::Failure;
use crate::cli::reach;
use crate::launch::{Ledger, PhaseState, State, Step};
use crate::runner::{self, Ended, Orders};

pub(super) fn start(order: Start, out: &mut dyn Write) -> Result<(), Failure> {
    let Start { name, file, what, overrides, reason, told, claim, reach: how } = order;
    let client = reach(&how, false)?;
    let (view, folder) = match file {
        Some(file) => {
            let text = Text::read(&file)?;
            let launch = text.launch(&what)?.launch;
            let request = LaunchRequest { launch, dry_run: false, claimed: claim.claimed.clone() };
            (client.plan_launch(&request)?, text.folder)
        }
        None => {
            let name = name_or_only(&client, name.as_deref(), Meant::Idle)?;
            (client.launch(&name)?, PathBuf::from("."))
        }
    };
    let LaunchView { ledger, warnings, .. } = view;
    let name = ledger.launch.name.clone();
    let orders = orders(false, false, folder)?;
    if !how.json {
        for warning in warnings {
            writeln!(out, "warning: {}", printable(&warning))?;
        }
    }
    let mut teller = Teller::new(out, &ledger, told, how.json);
    if ledger.run.state == State::Idle {
        runner::check_items(&client, &ledger, &orders, &mut |news| teller.hear(news))?;
    }
    let request = LaunchStartRequest { holder: holder().into(), overrides, reason, claimed: claim.claimed };
    let answer = runner::start(&client, &name, &request)?;
    // The lease is ours: what cannot be heard now must not keep us from going on.
    _ = teller.catch_up(&client, &name);
    attend(&client, answer, &orders, teller, how.json)
}

pub(super) fn resume(order: Resume, out: &mut dyn Write) -> Result<(), Failure> {
    let Resume { name, redo, undo, told, claim, reach: how } = order;
    let client = reach(&how, false)?;
    let name = name_or_only(&client, name.as_deref(), Meant::Running)?;
    let before = client.launch(&name)?.ledger;
    let orders = orders(redo, undo, PathBuf::from("."))?;
    let answer = client.lease(&name, &LeaseRequest { holder: holder().into(), claimed: claim.claimed })?;
    let mut teller = Teller::new(out, &before, told, how.json);
    _ = teller.catch_up(&client, &name);
    attend(&client, answer, &orders, teller, how.json)
}

fn attend(
    client: &Client,
    answer: LeaseAnswer,
    orders: &Orders,
    mut teller: Teller<'_>,
    as_json: bool,
) -> Result<(), Failure> {
    let name = answer.view.ledger.launch.name.clone();
    let ended = runner::attend(client, answer, orders, &mut |news| teller.hear(news));
    over(client, &name, ended, teller, as_json)
}

pub(super) fn rollback(order: Rollback, out: &mut dyn Write) -> Result<(), Failure> {
    let Rollback { name, redo, reason, told, claim, reach: how } = order;
    let client = reach(&how, false)?;
    let name = name_or_only(&client, name.as_deref(), Meant::Running)?;
    let before = client.launch(&name)?.ledger;
    let orders = orders(redo, true, PathBuf::from("."))?;
    let request = LaunchRollbackRequest { reason, claimed: claim.claimed };
    let mut teller = Teller::new(out, &before, told, how.json);
    let tell = &mut |news: &runner::News<'_>| teller.hear(news);
    let ended = runner::roll_back(&client, &name, &holder(), &request, &orders, tell);
    over(&client, &name, ended, teller, how.json)
}

fn over(
    client: &Client,
    name: &str,
    ended: Result<Ended, runner::RunnerError>,
    mut teller: Teller<'_>,
    as_json: bool,
) -> Result<(), Failure> {
    teller.clear();
    let ended = ended?;
    let ledger = runner::view(client, name)?.ledger;
    let end = verdict(&ledger, ended);
    match &end {
        Ok(text) if !as_json => teller.say(text),
        _ => {}
    }
    end.map(|_| ())
}

/// What an end means: a sentence if all is well, else a failure that says what goes on and what to type.
fn verdict(ledger: &Ledger, ended: Ended) -> Result<String, Failure> {
    let name = &ledger.launch.name;
    let report = format!("the whole story: tidegate launch report {name}");
    let why = ledger.why_stopped().map(|why| format!(": {why}")).unwrap_or_default();
    let failure = match ended {
        Ended::Over(State::Completed) => return Ok(format!("{name}: completed; {report}")),
        Ended::Over(State::RolledBack) => Failure::RolledBack(format!("{name}: rolled back{why}\n{report}")),
        Ended::Over(_) => {
            let left: Vec<&str> = ledger
                .launch
                .phases
                .iter()
                .zip(&ledger.run.phases)
                .filter(|(_, run)| run.state == PhaseState::RollbackFailed)
                .map(|(phase, _)| &*phase.id)
                .collect();
            match left.as_slice() {
                [] => Failure::Failed(format!("{name}: failed{why}; what was done stays as it is\n{report}")),
                left => Failure::RollbackFailed(format!(
                    "{name}: the rollback failed{why}\nnot undone, and to be undone by hand: {}\n{report}",
                    left.join(", ")
                )),
            }
        }
        Ended::Choose { phase, step } => Failure::Conflict(choose(ledger, phase, step)),
        Ended::TakenOver => {
            let who = ledger.lease.as_ref().map_or("somebody else", |lease| &*lease.holder);
            Failure::Conflict(format!(
                "{name}: taken over by {who}; what was under way here was ended\n\
                 to look on: tidegate launch log {name} -f"
            ))
        }
        Ended::Interrupted => Failure::Conflict(format!(
            "{name}: interrupted; what was under way here was ended, and nobody attends to it now. \
             Traffic stays where it is, under its gates\n{}",
            ways_on(name)
        )),
    };
    Err(failure)
}

fn choose(ledger: &Ledger, phase: usize, step: Step) -> String {
    let name = &ledger.launch.name;
    let id = ledger.launch.phases.get(phase).map_or("a phase", |phase| &*phase.id);
    let doing = match step {
        Step::Undo => "the undo",
        Step::Validate | Step::Execute | Step::Verify => "the action",
    };
    format!(
        "{name}: {doing} of {id} was cut off, and nobody knows whether it was done. Traffic stays where it is, under its gates\n\
         to do it again:       tidegate launch resume {name} --redo\n\
         to undo the launch:   tidegate launch resume {name} --undo"
    )
}

/// What to type for a launch that nobody attends to.
pub(super) fn ways_on(name: &str) -> String {
    format!("to go on:   tidegate launch resume {name}\nto undo it: tidegate launch rollback {name}")
}

fn orders(redo: bool, undo: bool, folder: PathBuf) -> Result<Orders, Failure> {
    let keeper = env::current_exe()
        .map_err(|error| Failure::Failed(format!("find this program, which keeps commands: {error}")))?;
    Ok(Orders { redo, undo, keeper, folder })
}

/// `ada@build-7 (pid 4711)`.
fn holder() -> String {
    let user =
        ["USER", "LOGNAME"].into_iter().filter_map(|name| env::var(name).ok()).find(|user| !user.is_empty());
    let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    let uname = rustix::system::uname();
    printable(&format!("{user}@{} (pid {})", uname.nodename().to_string_lossy(), process::id()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::ledger;
    use super::*;
    use crate::launch::{Entry, Outcome, Stop, Verdict};

    #[test]
    fn each_end_has_its_exit_code_and_says_what_to_type() {
        #[track_caller]
        fn check(ledger: &Ledger, ended: Ended, code: u8, expected: &[&str]) {
            let (text, found) = match verdict(ledger, ended) {
                Ok(text) => (text, 0),
                Err(failure) => (failure.story(), failure.exit_code()),
            };
            assert_eq!(found, code, "{text}");
            for part in expected {
                assert!(text.contains(part), "{part:?} in {text}");
            }
        }
        let running = ledger(&[]);
        check(
            &running,
            Ended::Over(State::Completed),
            0,
            &["shop-2.0.2: completed", "launch report shop-2.0.2"],
        );
        let stopped =
            ledger(&[Entry::Stopped { why: Stop::Breaker { sentence: "error rate 5 % of 2 %".into() } }]);
        check(&stopped, Ended::Over(State::RolledBack), 6, &["rolled back: error rate 5 % of 2 %"]);
        check(&running, Ended::Over(State::Failed), 1, &["failed; what was done stays"]);
        let step = |step, verdict| {
            let outcome = Outcome { verdict, said: String::new(), took_ms: 1 };
            [Entry::Began { phase: 0, step }, Entry::Ended { phase: 0, step, outcome }]
        };
        let failed = [
            step(Step::Validate, Verdict::Passed),
            step(Step::Execute, Verdict::Failed),
            step(Step::Undo, Verdict::Failed),
        ];
        let failed = ledger(&failed.concat());
        check(
            &failed,
            Ended::Over(State::Failed),
            7,
            &["phase deploy failed", "to be undone by hand: deploy"],
        );
        check(
            &running,
            Ended::Choose { phase: 0, step: Step::Execute },
            3,
            &["the action of deploy", "resume shop-2.0.2 --redo", "resume shop-2.0.2 --undo"],
        );
        check(&running, Ended::TakenOver, 3, &["taken over by ada@build-7", "launch log shop-2.0.2 -f"]);
        check(&running, Ended::Interrupted, 3, &["under its gates", "launch rollback shop-2.0.2"]);
    }
}
