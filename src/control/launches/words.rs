//! What the audit log says of a record.

use crate::launch::{Entry, Ledger, Minute, Step, Stop, Told, Verdict};
use crate::rollout::{grouped, span};

/// The event and its sentence; `None` where there is nothing to tell. `ledger` is after the record.
pub(super) fn event(ledger: &Ledger, entry: &Entry) -> Option<(&'static str, String)> {
    let launch = &ledger.launch;
    let phase = |at: &usize| match launch.phases.get(*at) {
        Some(phase) => format!("phase {} of {}, {}", at + 1, launch.phases.len(), phase.id),
        None => format!("phase {}", at + 1),
    };
    let (what, said) = match entry {
        Entry::Planned { launch } => {
            let version = launch.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            let window = launch.window.map(|window| format!(", from {}", window.from)).unwrap_or_default();
            (
                "launch-plan",
                format!("planned: {}{version} in {} phases{window}", launch.service, launch.phases.len()),
            )
        }
        Entry::Signed { item, role, .. } => ("launch-sign", format!("{item} is signed by {role}")),
        Entry::Checked { item, passed, .. } => {
            ("launch-sign", format!("{item} was checked: {}", if *passed { "yes" } else { "no" }))
        }
        Entry::Voted { role, go, note } => {
            let go = if *go { "go" } else { "no-go" };
            let note = note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            ("launch-vote", format!("{role} votes {go}{note}"))
        }
        Entry::Started { candidate, holder, unmet, reason } => {
            let mut said = format!("started, {candidate} is to become stable, run by {holder}");
            if !unmet.is_empty() {
                let reason = reason.as_deref().unwrap_or("no reason given");
                said.push_str(&format!("; although {} ({reason})", unmet.join("; ")));
            }
            ("launch-start", said)
        }
        Entry::Leased { holder } => ("launch-attended", format!("{holder} runs it from here on")),
        Entry::Attended => ("launch-attended", "its runner is back".to_owned()),
        Entry::Unattended { released } => {
            let name = &launch.name;
            let why = if *released { "its runner let go" } else { "its runner was not heard of for 15 s" };
            let cure = format!("`tidegate launch resume {name}` or `tidegate launch rollback {name}`");
            (
                "launch-unattended",
                format!("nobody attends to it: {why}; the gates stay armed, go on with {cure}"),
            )
        }
        Entry::Began { phase: at, step: Step::Execute } => ("launch-phase", format!("{} begins", phase(at))),
        Entry::Began { phase: at, step: Step::Undo } => {
            ("launch-phase", format!("{} is being undone", phase(at)))
        }
        Entry::Began { .. } => return None,
        Entry::Ended { phase: at, step, outcome } => {
            let how = match (step, outcome.verdict) {
                (Step::Verify, Verdict::Passed) => "is verified".to_owned(),
                (Step::Undo, Verdict::Passed) => "is undone".to_owned(),
                (Step::Validate | Step::Execute, Verdict::Passed) => return None,
                (step, Verdict::Failed) => format!("failed to {}", step.as_str()),
                (step, Verdict::TimedOut) => format!("took too long to {}", step.as_str()),
            };
            let why = outcome.said.lines().next().filter(|_| outcome.verdict != Verdict::Passed);
            let why = why.filter(|why| !why.is_empty()).map(|why| format!(": {why}")).unwrap_or_default();
            ("launch-phase", format!("{} {how}{why}", phase(at)))
        }
        Entry::Chose { phase: at, redo } => {
            let choice = if *redo { "is done again" } else { "is not done again" };
            ("launch-phase", format!("{}: what nobody knows the end of {choice}", phase(at)))
        }
        // Told by whoever tripped it, before the disk was asked.
        Entry::Stopped { why: Stop::Breaker { .. } } | Entry::Minute(_) => return None,
        Entry::Stopped { .. } => {
            let why = ledger.why_stopped().unwrap_or_default();
            ("launch-stop", format!("is undone from here on: {why}"))
        }
        Entry::Told { about } => match about {
            Told::Before { ms } => {
                let before = span(std::time::Duration::from_millis(*ms));
                let from = launch.window.map(|window| format!(", at {}", window.from)).unwrap_or_default();
                ("launch-soon", format!("may start in {before}{from}"))
            }
            Told::Progress => ("launch-progress", progress(ledger)),
            Told::Overdue { what } => ("launch-overdue", format!("overdue: {what}")),
            Told::FlagsOff { done: true } => ("launch-flags", "its flags are switched off".to_owned()),
            Told::FlagsOff { done: false } => {
                let names = launch.flags.as_ref().map(|flags| flags.names.join(", ")).unwrap_or_default();
                ("launch-flags", format!("its flags could not be switched off, do it by hand: {names}"))
            }
        },
        Entry::Finished { state } => {
            let why = ledger.why_stopped().map(|why| format!(": {why}")).unwrap_or_default();
            let Minute { down_seconds, .. } = ledger.traffic;
            let (requests, failures) =
                (grouped(ledger.traffic.requests()), grouped(ledger.traffic.failures()));
            let said = format!(
                "{}{why}; {requests} requests, {failures} failed, {down_seconds} s of downtime",
                state.as_str()
            );
            ("launch-end", said)
        }
    };
    Some((what, format!("launch {}: {said}", launch.name)))
}

fn progress(ledger: &Ledger) -> String {
    let (run, phases) = (&ledger.run, &ledger.launch.phases);
    let verified = run.phases.iter().filter(|phase| phase.state.as_str() == "VERIFIED").count();
    let now = run.phases.iter().zip(phases).find(|(run, _)| run.under_way.is_some());
    let now = now.map(|(run, phase)| format!(", {} is {}", phase.id, run.state.as_str())).unwrap_or_default();
    let stopped = ledger.why_stopped().map(|why| format!("; it is being undone: {why}")).unwrap_or_default();
    format!("{verified} of {} phases verified{now}{stopped}", phases.len())
}
