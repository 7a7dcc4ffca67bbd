//! The first pass: YAML to the types of the file, with bounds on what YAML may do.

use serde::de::DeserializeOwned;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, MergeKeyPolicy, Options};

use super::ConfigError;
use super::meant::{did_you_mean, listed};
use super::problem::printable_all;

/// The deepest that the file goes is ten: in a plan within a service.
const DEPTH_MAX: usize = 16;
/// Enough for ten thousand services with everything spelled out.
const NODES_MAX: usize = 4_000_000;

pub(super) fn read<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let location = error.location();
        let line = location.map_or(1, |location| location.line()).max(1);
        let name = name.to_owned();
        if let Some((line, column, value)) = unquoted_comparison(text, line) {
            let why = format!(
                "a value that begins with > is a block of text in YAML; put it in quotes: \"{value}\""
            );
            return ConfigError::Yaml { name, line, column, why: printable_all(&why) };
        }
        if let Some((line, column, variable)) = unquoted_variable(text, line) {
            let why = format!("within [ ] and {{ }} a variable has to stand in quotes: \"{variable}\"");
            return ConfigError::Yaml { name, line, column, why: printable_all(&why) };
        }
        ConfigError::Yaml {
            name,
            line,
            column: location.map_or(1, |location| location.column()).max(1),
            why: printable_all(&explain(error.without_snippet())),
        }
    })
}

/// The comparison without quotes in the line of an error, or in the one before it: a `>` that a key or a dash comes before,
/// with more after it than a block's indicators.
fn unquoted_comparison(text: &str, line: u64) -> Option<(u64, u64, String)> {
    for line in [line, line.saturating_sub(1)] {
        let Some(content) = line.checked_sub(1).and_then(|at| text.lines().nth(usize::try_from(at).ok()?))
        else {
            continue;
        };
        for (at, _) in content.match_indices('>') {
            let (before, value) = content.split_at(at);
            let begins =
                before.ends_with([' ', '[', ',', ':']) && before.trim_end().ends_with([':', '-', '[', ',']);
            let value = value.split(['}', ']', ',', '#']).next().unwrap_or_default().trim();
            let compares =
                value.trim_start_matches(['>', '=']).trim().starts_with(|c: char| c.is_alphanumeric());
            if begins && compares {
                let column = before.chars().count() as u64 + 1;
                return Some((line, column, value.chars().take(40).collect()));
            }
        }
    }
    None
}

/// A `${NAME}` without quotes within brackets or braces, in the line of an error or in the one before it: there a brace is YAML's own.
fn unquoted_variable(text: &str, line: u64) -> Option<(u64, u64, String)> {
    for line in [line, line.saturating_sub(1)] {
        let Some(content) = line.checked_sub(1).and_then(|at| text.lines().nth(usize::try_from(at).ok()?))
        else {
            continue;
        };
        for (at, _) in content.match_indices("${") {
            let (before, rest) = content.split_at(at);
            let is_quoted = ['"', '\''].iter().any(|quote| before.matches(*quote).count() % 2 == 1);
            if before.contains(['[', '{']) && !is_quoted {
                let variable: String = rest.chars().take_while(|c| *c != '}').take(40).collect();
                return Some((line, before.chars().count() as u64 + 1, variable + "}"));
            }
        }
    }
    None
}

fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
        },
    }
}

fn explain(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            match did_you_mean(field, expected.iter().copied()) {
                Some(word) => format!("unknown key {field:?}; did you mean {word}?"),
                None => {
                    format!("unknown key {field:?}; known here: {}", listed(expected.iter().copied()))
                }
            }
        }
        Error::SerdeMissingField { field, .. } => format!("the key {field} is missing"),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {key:?} stands here twice; leave one out")
        }
        Error::DuplicateMappingKey { key: None, .. } => "a key stands here twice; leave one out".to_owned(),
        Error::UnknownAnchor { .. } => {
            "a value that begins with * is an alias in YAML; put it in quotes".to_owned()
        }
        Error::Budget { breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. }, .. } => {
            "anchors and aliases (& and *) are not taken; write it out, or put it in quotes".to_owned()
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            format!("nested more than {DEPTH_MAX} levels deep")
        }
        Error::Budget { .. } => "far more than any configuration needs".to_owned(),
        Error::MergeKeyNotAllowed { .. } => "merge keys (<<) are not taken; write it out".to_owned(),
        Error::MultipleDocuments { .. } => "a second YAML document begins here; one is taken".to_owned(),
        other => without_location(&other.to_string()),
    }
}

/// The library ends its messages with the place, which ours begin with.
fn without_location(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    let message = message[..end].replace("expected string scalar", "a single value is expected here");
    message.replace("expected mapping start", "a mapping (key: value) is expected here")
}
