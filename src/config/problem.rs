//! What is wrong with a configuration, all of it at once, each with place, value, line and cure.

use std::fmt;
use std::io;

use thiserror::Error;

use super::scalar::Scalar;
use super::written::Written;

/// Something wrong or doubtful in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `services.shop.split.initial_weight`, or the flag: `--listen`.
    pub place: String,
    /// What stands there, if anything does.
    pub value: Option<String>,
    /// The line, counted from 1; `None` for flags and for what is missing altogether.
    pub line: Option<u64>,
    /// Why it is wrong, and what to do.
    pub why: String,
}

impl Problem {
    fn left(&self) -> String {
        let place = printable(&self.place);
        match &self.value {
            Some(value) => format!("{place} = {}", printable(value)),
            None => place,
        }
    }

    fn right(&self) -> String {
        let why = printable_all(&self.why);
        match self.line {
            Some(line) => format!("line {line}: {why}"),
            None => why,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}    {}", self.left(), self.right())
    }
}

/// What the configuration says cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read {name}")]
    Read {
        /// The file.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Far larger than any file of its kind.
    #[error("{name} is larger than {most}; that is no {kind}")]
    TooLarge {
        /// The file.
        name: String,
        /// The largest: `16 MiB`.
        most: &'static str,
        /// What it should be: `configuration`.
        kind: &'static str,
    },
    /// Not text.
    #[error("{name} line {line} is not UTF-8; save the file as UTF-8")]
    NotText {
        /// The file.
        name: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// Not YAML, an unknown key, or a list where a value belongs. Only the first such mistake is told.
    #[error("{name} line {line}, column {column}: {why}")]
    Yaml {
        /// The file.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// The column, counted from 1.
        column: u64,
        /// What is wrong.
        why: String,
    },
    /// YAML as it should be, with values that cannot be used: all of them.
    #[error("{}", list(name, problems))]
    Problems {
        /// The file.
        name: String,
        /// The problems, in the order of their lines.
        problems: Vec<Problem>,
    },
}

fn list(name: &str, problems: &[Problem]) -> String {
    let lefts: Vec<String> = problems.iter().map(Problem::left).collect();
    let width = lefts.iter().map(|left| left.chars().count()).max().unwrap_or(0).min(64);
    let count = problems.len();
    let mut text = format!("{name} has {count} problem{}", if count == 1 { "" } else { "s" });
    for (left, problem) in lefts.iter().zip(problems) {
        text.push_str(&format!("\n  {left:width$}    {}", problem.right()));
    }
    text
}

const SHOWN_CHARS_MAX: usize = 80;

/// A value in one short line, without anything that a terminal would obey.
fn printable(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return printable_all(text);
    }
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    printable_all(&start) + "…"
}

pub(super) fn printable_all(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = if escaped.is_none() { Some(c) } else { None };
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// The problems and warnings found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Findings {
    /// Something that cannot be used as written.
    pub(super) fn wrong<T>(&mut self, place: &str, written: &Written<T>, why: impl Into<String>) {
        self.problems.push(about(place, written, why));
    }

    /// Something that lacks or contradicts, where no single value is to blame.
    pub(super) fn wrong_at(&mut self, place: &str, value: Option<&str>, line: u64, why: impl Into<String>) {
        self.problems.push(Problem {
            place: place.to_owned(),
            value: value.map(str::to_owned),
            line: Some(line),
            why: why.into(),
        });
    }

    /// Something wrong with a flag.
    pub(super) fn wrong_flag(&mut self, flag: &str, value: &str, why: impl Into<String>) {
        self.problems.push(Problem {
            place: flag.to_owned(),
            value: Some(value.to_owned()),
            line: None,
            why: why.into(),
        });
    }

    /// Something that works, but hardly as it was meant.
    pub(super) fn doubt<T>(&mut self, place: &str, written: &Written<T>, why: impl Into<String>) {
        self.warnings.push(about(place, written, why));
    }

    /// Something that works, but hardly as it was meant, where no single value is to blame.
    pub(super) fn doubt_at(&mut self, place: &str, line: u64, why: impl Into<String>) {
        self.warnings.push(Problem {
            place: place.to_owned(),
            value: None,
            line: Some(line),
            why: why.into(),
        });
    }

    /// Reads a value; a problem is noted, and stands as `None` from there on.
    pub(super) fn read<T: Scalar>(&mut self, place: &str, written: &Written<T>) -> Option<T> {
        T::read(&written.text).map_err(|why| self.wrong(place, written, why)).ok()
    }

    /// Reads a value that may be left out. A wrong one counts as left out, so that the search goes on.
    pub(super) fn read_or<T: Scalar>(
        &mut self,
        section: &str,
        key: &str,
        written: Option<&Written<T>>,
        default: T,
    ) -> T {
        written.and_then(|written| self.read(&below(section, key), written)).unwrap_or(default)
    }
}

fn about<T>(place: &str, written: &Written<T>, why: impl Into<String>) -> Problem {
    Problem {
        place: place.to_owned(),
        value: Some(written.text.clone()),
        line: Some(written.line),
        why: why.into(),
    }
}

/// `key` in `section`, which may be the top of the file.
pub(super) fn below(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_stand_in_columns_and_obey_no_terminal() {
        let problem = |place: &str, value: Option<&str>, line, why: &str| Problem {
            place: place.to_owned(),
            value: value.map(str::to_owned),
            line,
            why: why.to_owned(),
        };
        let error = ConfigError::Problems {
            name: "prod.yaml".to_owned(),
            problems: vec![
                problem("services.shop.path", Some("\u{1b}[2J"), Some(31), "no"),
                problem("--listen", Some("x"), None, "no\n"),
                problem("services", None, Some(2), &"long".repeat(3)),
            ],
        };
        assert_eq!(
            error.to_string(),
            "prod.yaml has 3 problems\n  services.shop.path = \\u{1b}[2J    line 31: no\n  \
             --listen = x                      no\\n\n  services                          line 2: longlonglong"
        );
    }
}
