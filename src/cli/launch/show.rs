//! A launch as it is shown: where it stands, each phase, what traffic does, and what to type when nobody attends to it. Pure.

use std::time::Duration;

use crate::admin::api::{LaunchSummary, LaunchView};
use crate::cli::paint::{Line, Span, Style};
use crate::cli::status::note;
use crate::clock::Timestamp;
use crate::launch::{Form, Ledger, Mark, Next, PhaseState, State, Step, told_figures};
use crate::rollout::span;

/// In lines for people.
pub(super) fn view(view: &LaunchView, now: Timestamp, form: &Form, width: usize, color: bool) -> String {
    let LaunchView { ledger, unmet, figures, warnings, .. } = view;
    let (launch, run) = (&ledger.launch, &ledger.run);
    let version = launch.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let mut head = Line::new()
        .then(Style::Bold, &launch.name)
        .then(Style::Plain, "  ")
        .then(result(run.state), run.state.as_str())
        .then(Style::Plain, &format!("  {}{version}", launch.service));
    if let Some(candidate) = ledger.candidate {
        head = head.then(Style::Place(candidate), &format!("  {candidate}"));
    }
    if let Some(started) = run.started {
        let length = whole(run.ended.unwrap_or(now).since(started));
        let text = if run.ended.is_some() { format!("took {length}") } else { format!("for {length}") };
        head = head.then(Style::Dim, &format!("  started {}, {text}", form.time(started)));
    }
    let mut lines = vec![head];
    let id = launch.phases.iter().map(|phase| phase.id.chars().count()).max().unwrap_or(0).clamp(5, 24);
    for (phase, run) in launch.phases.iter().zip(&run.phases) {
        let mark = mark(run.state);
        let sign = mark.map_or(" ", |mark| mark.sign(form.ascii));
        let style = if mark == Some(Mark::Bad) { Style::Trouble } else { Style::Plain };
        let took = run.since.map(|since| whole(run.until.unwrap_or(now).since(since))).unwrap_or_default();
        lines.push(
            Line::new()
                .then(style, &format!("  {sign} "))
                .column(Span::new(style, &phase.id).clipped(id), id + 2)
                .column(Span::new(style, run.state.as_str()), 17)
                .column(Span::new(Style::Dim, &took), 13)
                .then(Style::Dim, &phase.action.to_string()),
        );
    }
    if let Some(figures) = figures {
        lines.push(Line::new().then(Style::Plain, "  ").then(Style::Plain, &told_figures(figures)));
    }
    let mut say = |style, head: &str, text: &str| lines.extend(note(style, head, text, width));
    if let Some(why) = ledger.why_stopped() {
        say(Style::Trouble, if run.state.is_over() { "undone" } else { "rolling back" }, &why);
    }
    for unmet in unmet {
        say(Style::Bold, "unmet", &unmet.to_string());
    }
    for warning in warnings {
        say(Style::Bold, "warning", warning);
    }
    if let Some(lease) = ledger.lease.as_ref().filter(|_| run.state == State::Running && !view.unattended) {
        say(Style::Dim, "run by", &format!("{}, since {}", lease.holder, form.time(lease.since)));
    }
    if view.unattended {
        say(Style::Trouble, "unattended", &unattended(ledger));
    }
    let mut text = String::new();
    lines.into_iter().for_each(|line| line.paint(width, color, &mut text));
    form.text(&text)
}

/// Who had it, what goes on, and what to type.
fn unattended(ledger: &Ledger) -> String {
    let name = &ledger.launch.name;
    let who = ledger.lease.as_ref().map(|lease| format!("{} is gone; ", lease.holder)).unwrap_or_default();
    let resume = match ledger.next() {
        Next::Choose { step: Step::Execute, .. } => {
            format!("tidegate launch resume {name} --redo, or --undo")
        }
        Next::Choose { .. } => format!("tidegate launch resume {name}, or --redo"),
        Next::Nothing | Next::Await { .. } | Next::Do { .. } | Next::Finish(_) => {
            format!("tidegate launch resume {name}")
        }
    };
    format!(
        "{who}traffic stays where it is, under its gates; to go on: {resume}; to undo it: tidegate launch rollback {name}"
    )
}

/// In one plain line.
pub(super) fn line(view: &LaunchView) -> String {
    let ledger = &view.ledger;
    let mut text = format!("{}: {}", ledger.launch.name, ledger.run.state.as_str());
    if let Some((phase, run)) =
        ledger.launch.phases.iter().zip(&ledger.run.phases).find(|(_, run)| run.under_way.is_some())
    {
        text.push_str(&format!(", {} {}", phase.id, run.state.as_str()));
    }
    if view.unattended {
        text.push_str(", unattended");
    }
    if let Some(figures) = &view.figures {
        text.push_str(&format!(", {}", told_figures(figures)));
    }
    crate::admin::client::printable(&text)
}

/// All launches, a line each.
pub(super) fn list(launches: &[LaunchSummary], width: usize, color: bool) -> String {
    if launches.is_empty() {
        return "no launch is on the book; `tidegate launch init` writes a file to begin with\n".to_owned();
    }
    let widest = |of: &dyn Fn(&LaunchSummary) -> usize, min: usize| {
        launches.iter().map(of).max().unwrap_or(0).clamp(min, 40) + 2
    };
    let name = widest(&|launch| launch.name.chars().count(), 6);
    let service = widest(&|launch| launch.service.chars().count(), 7);
    let row = |style, cells: [&str; 5]| {
        let [first, second, state, phase, when] = cells;
        Line::new()
            .column(Span::new(style, first).clipped(name - 2), name)
            .column(Span::new(Style::Plain, second).clipped(service - 2), service)
            .column(Span::new(Style::Plain, state), 13)
            .column(Span::new(Style::Plain, phase), 26)
            .then(Style::Dim, when)
    };
    let mut text = String::new();
    row(Style::Dim, ["launch", "service", "state", "phase", "when"]).paint(width, color, &mut text);
    for launch in launches {
        let when = match (launch.ended, launch.started) {
            (Some(ended), _) => format!("ended {ended}"),
            (None, Some(started)) => format!("started {started}"),
            (None, None) => format!("planned {}", launch.planned),
        };
        let cells = [&*launch.name, &*launch.service, launch.state.as_str(), &place(launch), &when];
        row(Style::Bold, cells).paint(width, color, &mut text);
    }
    text
}

/// `deploy (execute), unattended`.
fn place(launch: &LaunchSummary) -> String {
    let mut text = match &launch.phase {
        Some((phase, Some(step))) => format!("{phase} ({})", step.as_str()),
        Some((phase, None)) => phase.to_string(),
        None => String::new(),
    };
    if launch.unattended {
        text.push_str(if text.is_empty() { "unattended" } else { ", unattended" });
    }
    text
}

/// A launch in the status of its service: what runs, and whether somebody has to do something.
pub(in crate::cli) fn remark(launch: &LaunchSummary) -> (Style, String) {
    let place = place(launch);
    let place = if place.is_empty() { String::new() } else { format!(", {place}") };
    let style = if launch.unattended { Style::Trouble } else { Style::Plain };
    (style, format!("launch {} {}{place}", launch.name, launch.state.as_str()))
}

fn result(state: State) -> Style {
    match state {
        State::RolledBack | State::Failed => Style::Trouble,
        State::Idle | State::Running | State::Completed => Style::Bold,
    }
}

fn mark(state: PhaseState) -> Option<Mark> {
    match state {
        PhaseState::Pending | PhaseState::Skipped => None,
        PhaseState::Validating | PhaseState::Executing | PhaseState::Verifying | PhaseState::RollingBack => {
            Some(Mark::Begun)
        }
        PhaseState::Verified => Some(Mark::Good),
        PhaseState::RolledBack => Some(Mark::Note),
        PhaseState::Failed | PhaseState::RollbackFailed => Some(Mark::Bad),
    }
}

fn whole(length: Duration) -> String {
    span(Duration::from_secs(length.as_secs()))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::tests::ledger;
    use super::*;
    use crate::launch::{Entry, Figures};
    use crate::traffic::Variant;

    fn seen(entries: &[Entry], unattended: bool) -> LaunchView {
        let figures = Some(Figures { candidate: Some(Variant::Green), ..Figures::default() });
        LaunchView { ledger: ledger(entries), unmet: Vec::new(), unattended, figures, warnings: Vec::new() }
    }

    #[test]
    fn a_launch_shows_its_phases_and_who_runs_it() {
        let form = Form { zone: TimeZone::UTC, ascii: false, column: 9 };
        let at = Timestamp::from_millis(63_000);
        let seen = seen(&[Entry::Began { phase: 0, step: Step::Validate }], false);
        assert_eq!(
            view(&seen, at, &form, 100, false),
            "shop-2.0.2  RUNNING  shop 2.0.2  green  started 00:00:02, for 1 min 1 s\n\
             \u{20} ▸ deploy   VALIDATING       1 min        ./deploy shop:2.0.2\n\
             \u{20}   traffic  PENDING                       rollout canary\n\
             \u{20} green 0 % · 0 req/s\n  run by: ada@build-7, since 00:00:02\n"
        );
        assert_eq!(line(&seen), "shop-2.0.2: RUNNING, deploy VALIDATING, green 0 % · 0 req/s");
    }

    #[test]
    fn one_that_nobody_attends_to_says_what_goes_on_and_what_to_type() {
        let form = Form { zone: TimeZone::UTC, ascii: true, column: 9 };
        let text = view(&seen(&[], true), Timestamp::from_millis(3000), &form, 200, false);
        let expected = "  unattended: ada@build-7 is gone; traffic stays where it is, under its gates; to go on: \
                        tidegate launch resume shop-2.0.2; to undo it: tidegate launch rollback shop-2.0.2\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.is_ascii());
    }

    #[test]
    fn a_list_has_a_line_for_each_and_a_service_a_remark() {
        let launch = LaunchSummary {
            name: "shop-2.0.2".into(),
            service: "shop".into(),
            state: State::Running,
            unattended: true,
            phase: Some(("deploy".into(), Some(Step::Execute))),
            planned: Timestamp::from_millis(0),
            started: Some(Timestamp::from_millis(1000)),
            ended: None,
        };
        assert_eq!(
            list(std::slice::from_ref(&launch), 120, false),
            "launch      service  state        phase                     when\n\
             shop-2.0.2  shop     RUNNING      deploy (execute), unattended started 1970-01-01T00:00:01.000Z\n"
        );
        assert_eq!(
            remark(&launch),
            (Style::Trouble, "launch shop-2.0.2 RUNNING, deploy (execute), unattended".to_owned())
        );
        assert!(list(&[], 80, false).starts_with("no launch is on the book"));
    }
}
