//! `tidegate lint`: mistakes that people make again and again, in files of any kind.

use std::io::Write;

use serde::Serialize;

use super::args::Lint;
use super::file::Text;
use crate::admin::api::ServiceStatus;
use crate::cli::failure::Failure;
use crate::cli::{json, reach};
use crate::clock::Timestamp;
use crate::config;
use crate::rollout::{Mistake, Severity};
use crate::wording::printable;

/// What was found in a file.
#[derive(Serialize)]
struct Found {
    file: String,
    kind: &'static str,
    mistakes: Vec<Mistake>,
}

/// All files are looked at before anything is said; one that cannot be read is told of, and the others all the same.
pub(in crate::cli) fn lint(order: &Lint, out: &mut dyn Write) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    for path in &order.files {
        let looked = Text::read(path).and_then(|text| {
            let linted =
                text.around(&order.what, |around| config::lint_file(&text.text, &text.name, around))?;
            Ok(Found { file: text.name, kind: linted.kind, mistakes: linted.mistakes })
        });
        match looked {
            Ok(file) => found.push(file),
            Err(failure) => unreadable.push(failure.story()),
        }
    }
    // Without a daemon there is nothing live to look at, which is no mistake.
    if let Ok(status) = reach(&order.reach, false).and_then(|client| Ok(client.status()?)) {
        found.push(Found { file: status.host, kind: "daemon", mistakes: live(&status.services) });
    }
    if order.reach.json {
        json(out, &serde_json::json!({ "files": found, "unreadable": unreadable }))?;
    } else {
        out.write_all(told(&found).as_bytes())?;
    }
    let count: usize = found.iter().map(|file| file.mistakes.len()).sum();
    match (unreadable.is_empty(), count) {
        (false, _) => Err(Failure::Usage(unreadable.join("\n"))),
        (true, 0) => Ok(()),
        (true, 1) => Err(Failure::Failed("1 finding".to_owned())),
        (true, count) => Err(Failure::Failed(format!("{count} findings"))),
    }
}

/// Splits that were left where they are for longer than they may be.
fn live(services: &[ServiceStatus]) -> Vec<Mistake> {
    let expired = services.iter().filter_map(|service| Some((service, service.split_expired?)));
    let mistake = |(service, since): (&ServiceStatus, Timestamp)| Mistake {
        place: format!("services.{}.split", service.name),
        what: format!("nothing moves {} from {} since {since}", service.candidate, service.weight),
        cure: "promote it, shift it on, or take it back to 0%".to_owned(),
        severity: Severity::Warning,
    };
    expired.map(mistake).collect()
}

fn told(found: &[Found]) -> String {
    let mut text = String::new();
    for Found { file, kind, mistakes } in found {
        if mistakes.is_empty() {
            text.push_str(&printable(&format!("{file}: nothing to say against this {kind}")));
            text.push('\n');
        }
        for Mistake { place, what, cure, severity } in mistakes {
            text.push_str(&printable(&format!("{file}: {}: {place}: {what}", severity.as_str())));
            text.push_str(&format!("\n    {}\n", printable(cure)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_split_that_nobody_moves_on_is_a_mistake() {
        let mut services = crate::cli::status::example(2).services;
        assert!(live(&services).is_empty());
        services[1].split_expired = Some(Timestamp::from_millis(1_767_225_600_000));
        let found: Vec<String> = live(&services).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "warning: services.service-1.split: nothing moves green from 25% since 2026-01-01T00:00:00.000Z; \
              promote it, shift it on, or take it back to 0%"
            ]
        );
    }

    #[test]
    fn a_finding_says_where_what_and_its_cure() {
        let mistake = Mistake {
            place: "phases.deploy.undo".into(),
            what: "nothing undoes it".into(),
            cure: "say what does".into(),
            severity: Severity::Danger,
        };
        let found = |file: &str, mistakes| Found { file: file.to_owned(), kind: "launch", mistakes };
        assert_eq!(
            told(&[found("a.yaml", vec![mistake]), found("b\x1b.yaml", Vec::new())]),
            "a.yaml: danger: phases.deploy.undo: nothing undoes it\n    say what does\n\
             b.yaml: nothing to say against this launch\n"
        );
    }
}
