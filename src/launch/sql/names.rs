//! Names as the database compares them, and what is new in a migration.

use std::collections::BTreeMap;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use super::Dialect;

/// Where things are if nothing is said.
const DEFAULTS: [&str; 2] = ["public.", "main."];

/// Whether something is new in this migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum New {
    /// Created only if it was not there.
    Perhaps,
    /// Created.
    Surely,
}

/// What is new: tables, views and whatever else has a name, and columns as `TABLE.COLUMN`.
#[derive(Debug)]
pub(super) struct Names {
    dialect: Dialect,
    new: BTreeMap<String, New>,
}

impl Names {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, new: BTreeMap::new() }
    }

    /// As it is compared: without what quotes and cases do not tell apart.
    pub(super) fn of(&self, name: &ObjectName) -> String {
        let parts: Vec<_> = name
            .0
            .iter()
            .map(|part| match part {
                ObjectNamePart::Identifier(ident) => self.ident(ident),
                ObjectNamePart::Function(function) => function.to_string(),
            })
            .collect();
        let name = parts.join(".");
        let short = DEFAULTS.iter().find_map(|schema| name.strip_prefix(schema));
        short.map(str::to_owned).unwrap_or(name)
    }

    /// `TABLE.COLUMN`.
    pub(super) fn column(&self, table: &str, column: &Ident) -> String {
        format!("{table}.{}", self.ident(column))
    }

    fn ident(&self, ident: &Ident) -> String {
        let keeps_case = match self.dialect {
            Dialect::PostgreSql | Dialect::Generic => ident.quote_style.is_some(),
            Dialect::Sqlite | Dialect::MySql => false,
        };
        if keeps_case { ident.value.clone() } else { ident.value.to_lowercase() }
    }

    pub(super) fn create(&mut self, name: String, only_if_missing: bool) {
        let new = if only_if_missing && !self.is_new(&name) { New::Perhaps } else { New::Surely };
        self.new.insert(name, new);
    }

    /// It has another name from here on, or none.
    pub(super) fn rename(&mut self, from: &str, to: Option<String>) {
        let new = self.new.remove(from);
        if let (Some(new), Some(to)) = (new, to) {
            self.new.insert(to, new);
        }
    }

    /// Whether nobody can have used it before.
    pub(super) fn is_new(&self, name: &str) -> bool {
        self.new.get(name) == Some(&New::Surely)
    }

    /// Whether at least this migration expects it to be so.
    pub(super) fn is_meant_new(&self, name: &str) -> bool {
        self.new.contains_key(name)
    }
}
