//! `tidegate lint`: mistakes that people make again and again, in files of any kind.

use std::io::Write;

use serde::Serialize;

use super::args::Lint;
use super::file::Text;
use crate::cli::failure::Failure;
use crate::cli::json;
use crate::config;
use crate::rollout::Mistake;
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
    if order.json {
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
    use crate::rollout::Severity;

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
