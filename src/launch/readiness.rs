//! What speaks against a start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::plan::{ItemKind, Window};
use crate::clock::Timestamp;

/// One thing that speaks against a start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "unmet", rename_all = "kebab-case")]
pub enum Unmet {
    /// The window has not opened.
    TooEarly {
        /// When it does.
        opens: Timestamp,
    },
    /// The window has closed.
    TooLate {
        /// When it did.
        closed: Timestamp,
    },
    /// An item is not signed.
    Unsigned {
        /// Which.
        item: Arc<str>,
        /// By whom it should be.
        role: Arc<str>,
        /// Whether it should have been by now.
        overdue: bool,
    },
    /// An item's command has not been run.
    Unchecked {
        /// Which.
        item: Arc<str>,
    },
    /// An item's command said no.
    Refused {
        /// Which.
        item: Arc<str>,
    },
    /// A role has not voted.
    NoVote {
        /// Which.
        role: Arc<str>,
        /// Whether it should have by now.
        overdue: bool,
    },
    /// A role voted no-go.
    NoGo {
        /// Which.
        role: Arc<str>,
        /// Why.
        note: Option<Arc<str>>,
    },
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = |overdue: &bool| if *overdue { " (overdue)" } else { "" };
        match self {
            Self::TooEarly { opens } => write!(f, "the window opens at {opens}"),
            Self::TooLate { closed } => write!(f, "the window closed at {closed}"),
            Self::Unsigned { item, role, overdue } => {
                write!(f, "{item} is not signed by {role}{}", late(overdue))
            }
            Self::Unchecked { item } => write!(f, "{item} has not been checked"),
            Self::Refused { item } => write!(f, "{item} was checked, and the answer was no"),
            Self::NoVote { role, overdue } => write!(f, "{role} has not voted{}", late(overdue)),
            Self::NoGo { role, note: None } => write!(f, "{role} voted no-go"),
            Self::NoGo { role, note: Some(note) } => write!(f, "{role} voted no-go: {note}"),
        }
    }
}

impl Window {
    /// The first moment after it.
    pub fn closes(&self) -> Timestamp {
        let millis = u64::try_from(self.lasts.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.from.as_millis().saturating_add(millis))
    }
}

pub(super) fn unmet(ledger: &Ledger, at: Timestamp) -> Vec<Unmet> {
    let launch = &ledger.launch;
    let mut found = Vec::new();
    if let Some(window) = &launch.window {
        if at < window.from {
            found.push(Unmet::TooEarly { opens: window.from });
        } else if at >= window.closes() {
            found.push(Unmet::TooLate { closed: window.closes() });
        }
    }
    let is_overdue = |due: Option<Duration>| {
        due.zip(launch.window).is_some_and(|(due, window)| {
            let millis = u64::try_from(due.as_millis()).unwrap_or(u64::MAX);
            at.as_millis() >= window.from.as_millis().saturating_sub(millis)
        })
    };
    for item in &launch.checklist {
        let (id, signature) = (&item.id, ledger.signatures.get(&item.id));
        match (&item.kind, signature) {
            (_, Some(signature)) if signature.passed => {}
            (_, Some(_)) => found.push(Unmet::Refused { item: id.clone() }),
            (ItemKind::Person { role, due, .. }, None) => found.push(Unmet::Unsigned {
                item: id.clone(),
                role: role.clone(),
                overdue: is_overdue(*due),
            }),
            (ItemKind::Command { .. }, None) => found.push(Unmet::Unchecked { item: id.clone() }),
        }
    }
    if let Some(asked) = &launch.go_nogo {
        for role in &asked.roles {
            match ledger.votes.get(role) {
                Some(vote) if vote.go => {}
                Some(vote) => found.push(Unmet::NoGo { role: role.clone(), note: vote.note.clone() }),
                None => found.push(Unmet::NoVote { role: role.clone(), overdue: is_overdue(asked.due) }),
            }
        }
    }
    found
}
