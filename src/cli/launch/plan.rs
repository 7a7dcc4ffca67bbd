//! What a launch would do, before it does it.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::args::Plan;
use super::file::Text;
use crate::admin::api::LaunchRequest;
use crate::admin::client::ClientError;
use crate::cli::failure::Failure;
use crate::cli::look::{colored, width};
use crate::cli::paint::{Line, Span, Style};
use crate::cli::{json, reach};
use crate::clock;
use crate::config;
use crate::launch::{Entry, Launch, Ledger, Record, Undo, Unmet};
use crate::rollout::{Mistake, span};

/// What is known of a launch before it is started.
#[derive(Serialize)]
struct Outlook {
    launch: Arc<Launch>,
    /// All undos, each as long as it may take.
    rollback_ms_max: u64,
    unmet: Vec<Unmet>,
    warnings: Vec<String>,
    mistakes: Vec<Mistake>,
    /// What became of asking the daemon.
    daemon: Daemon,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Daemon {
    /// It runs what is here, and it is on its book now.
    Booked,
    /// It could run what is here.
    Agrees,
    NotReachable,
}

pub(super) fn plan(order: Plan, out: &mut dyn Write) -> Result<(), Failure> {
    let Plan { file, book, what, claim, reach: how } = order;
    let text = Text::read(&file)?;
    let read = text.launch(&what)?;
    // What keeps it from being used at all was told just now.
    let mistakes = text.around(&what, |around| config::lint_file(&text.text, &text.name, around));
    let mut warnings: Vec<String> = read.warnings.iter().map(ToString::to_string).collect();
    let request = LaunchRequest { launch: read.launch.clone(), dry_run: !book, claimed: claim.claimed };
    let asked = reach(&how, false).and_then(|client| Ok(client.plan_launch(&request)?));
    let (daemon, unmet) = match asked {
        Ok(view) => {
            warnings.extend(view.warnings);
            (if book { Daemon::Booked } else { Daemon::Agrees }, view.unmet)
        }
        Err(Failure::Client(ClientError::NotRunning { .. })) if !book => {
            (Daemon::NotReachable, unmet(&read.launch)?)
        }
        Err(failure) => return Err(failure),
    };
    let outlook = Outlook {
        rollback_ms_max: u64::try_from(worst_rollback(&read.launch).as_millis()).unwrap_or(u64::MAX),
        launch: read.launch,
        unmet,
        warnings,
        mistakes: mistakes.map(|linted| linted.mistakes).unwrap_or_default(),
        daemon,
    };
    if how.json {
        return json(out, &outlook);
    }
    Ok(out.write_all(told(&outlook, width(), colored()).as_bytes())?)
}

/// What would speak against a start now, of a launch that nobody has heard of.
fn unmet(launch: &Arc<Launch>) -> Result<Vec<Unmet>, Failure> {
    let at = clock::wall();
    let entry = Entry::Planned { launch: launch.clone() };
    let record = Record { seq: 1, at, actor: "tidegate".into(), claimed: None, entry, figures: None };
    let ledger = Ledger::begin(&record).map_err(|misfit| Failure::Failed(misfit.to_string()))?;
    Ok(ledger.unmet(at))
}

fn worst_rollback(launch: &Launch) -> Duration {
    let undone = launch.phases.iter().filter(|phase| phase.undo != Undo::None);
    undone.fold(Duration::ZERO, |sum, phase| sum.saturating_add(phase.undo_timeout))
}

fn told(outlook: &Outlook, width: usize, color: bool) -> String {
    let Outlook { launch, unmet, warnings, mistakes, daemon, .. } = outlook;
    let count = launch.phases.len();
    let version = launch.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let mut lines = vec![Line::new().then(Style::Bold, &launch.name).then(
        Style::Plain,
        &format!(": {}{version}, {count} phase{}", launch.service, if count == 1 { "" } else { "s" }),
    )];
    let mut fact = |label: &str, text: &str| {
        lines.push(
            Line::new().column(Span::new(Style::Dim, &format!("  {label}")), 12).then(Style::Plain, text),
        );
    };
    if let Some(window) = &launch.window {
        fact("window", &format!("from {} for {}", window.from, span(window.lasts)));
    }
    let promised = launch.rollback_within.map(|within| format!("; promised: {}", span(within)));
    let worst = span(worst_rollback(launch));
    fact("rollback", &format!("{worst} at most, all undos together{}", promised.unwrap_or_default()));
    let id = launch.phases.iter().map(|phase| phase.id.chars().count()).max().unwrap_or(0).clamp(5, 24);
    let wide = width.saturating_sub(id + 44).clamp(20, 56) / 2 + 4;
    let row = |style, cells: [&str; 6]| {
        let [mark, name, action, limit, undo, undo_limit] = cells;
        Line::new()
            .column(Span::new(Style::Dim, mark), 5)
            .column(Span::new(style, name).clipped(id), id + 2)
            .column(Span::new(style, action).clipped(wide), wide + 2)
            .column(Span::new(Style::Dim, limit), 14)
            .column(Span::new(style, undo).clipped(wide), wide + 2)
            .then(Style::Dim, undo_limit)
    };
    lines.push(row(Style::Dim, ["", "phase", "does", "for at most", "undone by", "for at most"]));
    for (index, phase) in launch.phases.iter().enumerate() {
        let limit = phase.timeout.map_or_else(|| "as long".to_owned(), span);
        let (action, undo) = (phase.action.to_string(), phase.undo.to_string());
        let undo_limit = if phase.undo == Undo::None { String::new() } else { span(phase.undo_timeout) };
        let number = format!("{:>4}", index + 1);
        lines.push(row(Style::Plain, [&number, &phase.id, &action, &limit, &undo, &undo_limit]));
    }
    let mut note =
        |style, head: &str, text: &str| lines.extend(crate::cli::status::note(style, head, text, width));
    for unmet in unmet {
        note(Style::Bold, "unmet", &unmet.to_string());
    }
    for warning in warnings {
        note(Style::Bold, "warning", warning);
    }
    for Mistake { place, what, cure, severity } in mistakes {
        note(Style::Trouble, severity.as_str(), &format!("{place}: {what}; {cure}"));
    }
    let name = &launch.name;
    match daemon {
        Daemon::Booked => {
            note(Style::Plain, "on the book", &format!("start it with: tidegate launch start {name}"))
        }
        Daemon::Agrees => {}
        Daemon::NotReachable => {
            note(
                Style::Plain,
                "not asked",
                "no daemon is reachable, so whether it could run this is not known",
            );
        }
    }
    let mut text = String::new();
    lines.into_iter().for_each(|line| line.paint(width, color, &mut text));
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rollout::Severity;

    #[test]
    fn a_plan_shows_phases_undos_and_the_longest_rollback() {
        let outlook = Outlook {
            launch: super::super::tests::release(),
            rollback_ms_max: 0,
            unmet: vec![Unmet::NoVote { role: "qa".into(), overdue: false }],
            warnings: vec!["line 3: odd\x1b[2J".to_owned()],
            mistakes: vec![Mistake {
                place: "phases.deploy.undo".into(),
                what: "nothing undoes it".into(),
                cure: "say what does".into(),
                severity: Severity::Danger,
            }],
            daemon: Daemon::Booked,
        };
        let text = told(&outlook, 100, false);
        for expected in [
            "shop-2.0.2: shop 2.0.2, 2 phases\n",
            "  rollback  2 min at most, all undos together; promised: 5 min\n",
            "   1 deploy   ./deploy shop:2.0.2",
            "  unmet: qa has not voted\n",
            "  warning: line 3: odd[2J\n",
            "  danger: phases.deploy.undo: nothing undoes it; say what does\n",
            "  on the book: start it with: tidegate launch start shop-2.0.2\n",
        ] {
            assert!(text.contains(expected), "{expected:?} in\n{text}");
        }
    }
}
