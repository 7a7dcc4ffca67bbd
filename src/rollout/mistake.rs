//! Mistakes that people make again and again: what is allowed, and hardly ever right.

use std::fmt;

use serde::Serialize;

/// Something that is allowed, and hardly ever right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Where: `phases.deploy.undo`, `stages[1].gates.errors.limit`.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do about it.
    pub cure: String,
    /// How bad it is.
    pub severity: Severity,
}

/// How bad a mistake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a thought.
    Note,
    /// It will go wrong one day.
    Warning,
    /// When a release is bad, users suffer from it.
    Danger,
}

impl Severity {
    /// `note`, `warning` or `danger`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Danger => "danger",
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, what, cure, severity } = self;
        write!(f, "{}: {place}: {what}; {cure}", severity.as_str())
    }
}
