//! Statements, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use sqlparser::ast::{
    AlterSchemaOperation, AlterTableOperation, AlterTypeOperation, CreateIndex, Delete, Expr, FromTable,
    ObjectName, ObjectType, Query, RenameTableNameKind, SchemaName, SetExpr, Statement, TableFactor,
    TableObject, TableWithJoins,
};

use super::kind::Kind;
use super::names::Names;
use super::{Dialect, Finding};

/// How much of a statement is shown.
const SHOWN_MAX: usize = 80;

/// A migration that is judged.
pub(super) struct Judge<'a> {
    pub(super) dialect: Dialect,
    pub(super) names: Names,
    statements: &'a [(u64, Statement)],
    /// Tables that are replaced by a new one which takes over their rows and name.
    rebuilt: BTreeSet<String>,
    /// Where the statement that is judged begins.
    line: u64,
    found: Vec<Finding>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(dialect: Dialect, statements: &'a [(u64, Statement)]) -> Self {
        let names = Names::new(dialect);
        let rebuilt = rebuilt(&names, statements);
        Self { dialect, names, statements, rebuilt, line: 0, found: Vec::new() }
    }

    pub(super) fn findings(mut self) -> Vec<Finding> {
        for (line, statement) in self.statements {
            self.line = *line;
            self.statement(statement);
        }
        self.found
    }

    pub(super) fn find(&mut self, kind: Kind, object: String) {
        self.found.push(Finding::new(self.line, kind, object));
    }

    pub(super) fn unjudged(&mut self, what: &str) {
        let words: Vec<_> = what.split_whitespace().collect();
        let mut shown: String = words.join(" ").chars().take(SHOWN_MAX + 1).collect();
        if shown.chars().count() > SHOWN_MAX {
            shown.pop();
            shown.push('…');
        }
        self.find(Kind::Unjudged, shown);
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::CreateTable(create) => {
                let name = self.names.of(&create.name);
                if create.or_replace && !self.names.is_new(&name) {
                    self.find(Kind::DropTable, name.clone());
                }
                if let Some(query) = &create.query {
                    self.query(query);
                }
                self.names.create(name, create.if_not_exists);
            }
            Statement::CreateVirtualTable { name, if_not_exists, .. }
            | Statement::CreateSequence { name, if_not_exists, .. } => self.create(name, *if_not_exists),
            Statement::CreateView(create) => {
                let name = self.names.of(&create.name);
                // PostgreSQL refuses to take columns away.
                let may_lose = self.dialect != Dialect::PostgreSql;
                if create.or_replace && may_lose && !self.names.is_new(&name) {
                    self.find(Kind::ReplaceView, name.clone());
                }
                self.query(&create.query);
                self.names.create(name, create.if_not_exists || create.or_replace);
            }
            Statement::CreateType { name, .. } => self.create(name, false),
            Statement::CreateDomain(create) => self.create(&create.name, false),
            Statement::CreateFunction(create) => self.create(&create.name, create.or_replace),
            Statement::CreateSchema { schema_name, if_not_exists, .. } => {
                if let SchemaName::Simple(name) | SchemaName::NamedAuthorization(name, _) = schema_name {
                    self.create(name, *if_not_exists);
                }
            }
            Statement::CreateIndex(create) => self.index(create),
            Statement::AlterTable(alter) => {
                let table = self.names.of(&alter.name);
                self.alter(&table, &alter.operations);
            }
            Statement::RenameTable(renames) => {
                for rename in renames {
                    let (old, new) = (self.names.of(&rename.old_name), self.names.of(&rename.new_name));
                    self.renamed(&old, new);
                }
            }
            Statement::AlterView { name, query, .. } => {
                let name = self.names.of(name);
                if !self.names.is_new(&name) {
                    self.find(Kind::ReplaceView, name);
                }
                self.query(query);
            }
            Statement::AlterSchema(alter) => {
                let is_rename = |operation: &AlterSchemaOperation| {
                    matches!(operation, AlterSchemaOperation::Rename { .. })
                };
                if alter.operations.iter().any(is_rename) {
                    let name = self.names.of(&alter.name);
                    self.find(Kind::RenameOther, name);
                }
            }
            Statement::AlterType(alter) => match &alter.operation {
                AlterTypeOperation::Rename(_) | AlterTypeOperation::RenameValue(_) => {
                    let name = self.names.of(&alter.name);
                    if !self.names.is_new(&name) {
                        self.find(Kind::RenameOther, name);
                    }
                }
                AlterTypeOperation::AddValue(_) => {}
            },
            Statement::Drop { object_type, names, .. } => {
                for name in names {
                    self.dropped(object_type, name);
                }
            }
            Statement::DropFunction(drop) => {
                for function in &drop.func_desc {
                    self.drop_as(Kind::DropOther, &function.name);
                }
            }
            Statement::DropProcedure { proc_desc, .. } => {
                for procedure in proc_desc {
                    self.drop_as(Kind::DropOther, &procedure.name);
                }
            }
            Statement::DropTrigger(drop) => self.drop_as(Kind::DropOther, &drop.trigger_name),
            Statement::DropDomain(drop) => self.drop_as(Kind::DropOther, &drop.name),
            Statement::DropPolicy(drop) => {
                let table = self.names.of(&drop.table_name);
                let policy = self.names.column(&table, &drop.name);
                if !self.names.is_new(&table) {
                    self.find(Kind::DropOther, policy);
                }
            }
            Statement::DropExtension(drop) => {
                for name in &drop.names {
                    self.find(Kind::DropOther, name.value.clone());
                }
            }
            Statement::Truncate(truncate) => {
                for target in &truncate.table_names {
                    self.emptied(Kind::Truncate, &target.name);
                }
            }
            Statement::Delete(delete) => self.deleted(delete),
            Statement::Update(update) => {
                if is_everything(update.selection.as_ref()) && update.limit.is_none() && update.from.is_none()
                {
                    for name in tables(std::slice::from_ref(&update.table)) {
                        self.emptied(Kind::UpdateAll, name);
                    }
                }
            }
            Statement::Insert(insert) => {
                if let Some(source) = &insert.source {
                    self.query(source);
                }
            }
            Statement::Query(query) => self.query(query),
            Statement::Prepare { statement, .. } => self.statement(statement),
            Statement::Explain { statement, analyze: true, .. } => self.statement(statement),
            Statement::StartTransaction { statements, .. } => {
                for statement in statements {
                    self.statement(statement);
                }
            }
            Statement::Revoke(revoke) => self.find(Kind::Revoke, revoke.to_string()),
            Statement::Lock(lock) => self.find(Kind::Lock, lock.to_string()),
            Statement::LockTables { .. } => self.find(Kind::Lock, statement.to_string()),
            Statement::Pragma { name, .. } => {
                if self.names.of(name).ends_with("writable_schema") {
                    self.unjudged(&statement.to_string());
                }
            }
            // Adds something, says something, or is about this session only.
            Statement::Analyze(_)
            | Statement::Set(_)
            | Statement::Reset(_)
            | Statement::Assert { .. }
            | Statement::Comment { .. }
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint { .. }
            | Statement::ReleaseSavepoint { .. }
            | Statement::UnlockTables
            | Statement::Use(_)
            | Statement::Grant(_)
            | Statement::CreateRole(_)
            | Statement::CreateUser(_)
            | Statement::CreateDatabase { .. }
            | Statement::CreateExtension(_)
            | Statement::CreateCollation(_)
            | Statement::CreateOperator(_)
            | Statement::CreateOperatorFamily(_)
            | Statement::CreateOperatorClass(_)
            | Statement::CreateTextSearch(_)
            | Statement::CreateTrigger(_)
            | Statement::CreateProcedure { .. }
            | Statement::CreateMacro { .. }
            | Statement::CreatePolicy(_)
            | Statement::AlterIndex { .. }
            | Statement::Explain { .. }
            | Statement::ExplainTable { .. }
            | Statement::ShowVariable { .. }
            | Statement::ShowTables { .. }
            | Statement::Deallocate { .. }
            | Statement::NOTIFY { .. } => {}
            Statement::Vacuum(vacuum) if !vacuum.full => {}
            other => self.unjudged(&other.to_string()),
        }
    }

    fn create(&mut self, name: &ObjectName, only_if_missing: bool) {
        let name = self.names.of(name);
        self.names.create(name, only_if_missing);
    }

    fn index(&mut self, create: &CreateIndex) {
        let table = self.names.of(&create.table_name);
        if let Some(name) = &create.name {
            self.create(name, create.if_not_exists);
        }
        if self.names.is_meant_new(&table) {
            return;
        }
        if create.unique {
            self.find(Kind::AddUnique, table.clone());
        }
        if self.dialect == Dialect::PostgreSql && !create.concurrently {
            self.find(Kind::CreateIndex, table);
        }
    }

    fn dropped(&mut self, object_type: &ObjectType, name: &ObjectName) {
        let kind = match object_type {
            ObjectType::Table => Kind::DropTable,
            ObjectType::View | ObjectType::MaterializedView => Kind::DropView,
            ObjectType::Index => Kind::DropIndex,
            ObjectType::Schema | ObjectType::Database => Kind::DropSchema,
            ObjectType::Collation
            | ObjectType::Role
            | ObjectType::Sequence
            | ObjectType::Stage
            | ObjectType::Type
            | ObjectType::User
            | ObjectType::Stream
            | ObjectType::Warehouse => Kind::DropOther,
        };
        let is_table = kind == Kind::DropTable;
        match self.names.of(name) {
            table if is_table && self.rebuilt.contains(&table) => {
                self.names.rename(&table, None);
                self.find(Kind::RebuildTable, table);
            }
            _ => self.drop_as(kind, name),
        }
    }

    fn drop_as(&mut self, kind: Kind, name: &ObjectName) {
        let name = self.names.of(name);
        if !self.names.is_new(&name) {
            self.find(kind, name.clone());
        }
        self.names.rename(&name, None);
    }

    pub(super) fn renamed(&mut self, old: &str, new: String) {
        let is_new = self.names.is_new(old);
        if !is_new {
            let kind = if self.rebuilt.contains(old) { Kind::RebuildTable } else { Kind::RenameTable };
            self.find(kind, old.to_owned());
        }
        self.names.rename(old, Some(new.clone()));
        if !is_new && self.rebuilt.contains(old) {
            // The old one, which the new one stands in for, is nobody's any more.
            self.names.create(new, false);
        }
    }

    fn deleted(&mut self, delete: &Delete) {
        let is_everything = is_everything(delete.selection.as_ref()) && delete.limit.is_none();
        if !is_everything || delete.using.is_some() {
            return;
        }
        if !delete.tables.is_empty() {
            delete.tables.iter().for_each(|name| self.emptied(Kind::DeleteAll, name));
            return;
        }
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        tables(from).into_iter().for_each(|name| self.emptied(Kind::DeleteAll, name));
    }

    fn emptied(&mut self, kind: Kind, name: &ObjectName) {
        let name = self.names.of(name);
        if !self.names.is_new(&name) {
            self.find(kind, name);
        }
    }

    /// A query may change something on its way.
    fn query(&mut self, query: &Query) {
        for part in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.query(&part.query);
        }
        match &*query.body {
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => self.statement(statement),
            SetExpr::Query(query) => self.query(query),
            SetExpr::Select(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_) | SetExpr::Table(_) => {}
        }
    }
}

/// Tables that a new one stands in for from then on, under the same name and with the same rows: either it takes the old one's name at the end, or
/// the old one makes room for it at the beginning.
fn rebuilt(names: &Names, statements: &[(u64, Statement)]) -> BTreeSet<String> {
    let (mut created, mut copied, mut renamed) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    for (at, (_, statement)) in statements.iter().enumerate() {
        match statement {
            Statement::CreateTable(create) => {
                let table = names.of(&create.name);
                let from = create.query.as_deref().map(|query| sources(names, query)).unwrap_or_default();
                copied.extend(from.into_iter().map(|from| (from, table.clone())));
                created.insert(table, at);
            }
            Statement::Insert(insert) => {
                if let (TableObject::TableName(into), Some(query)) = (&insert.table, &insert.source) {
                    let into = names.of(into);
                    copied.extend(sources(names, query).into_iter().map(|from| (from, into.clone())));
                }
            }
            Statement::AlterTable(alter) => {
                for operation in &alter.operations {
                    if let AlterTableOperation::RenameTable { table_name } = operation {
                        let (RenameTableNameKind::As(new) | RenameTableNameKind::To(new)) = table_name;
                        renamed.push((at, names.of(&alter.name), names.of(new)));
                    }
                }
            }
            Statement::RenameTable(renames) => {
                let renames = renames.iter();
                renamed.extend(renames.map(|one| (at, names.of(&one.old_name), names.of(&one.new_name))));
            }
            _ => {}
        }
    }
    let rebuilt = renamed.into_iter().filter_map(|(at, old, new)| {
        let create = *created.get(&old)?;
        let is_copied = copied.contains(&(new.clone(), old.clone()));
        is_copied.then_some(if create < at { new } else { old })
    });
    rebuilt.collect()
}

/// The tables that a query reads in its first line.
fn sources(names: &Names, query: &Query) -> Vec<String> {
    match &*query.body {
        SetExpr::Select(select) => tables(&select.from).into_iter().map(|name| names.of(name)).collect(),
        _ => Vec::new(),
    }
}

fn tables(from: &[TableWithJoins]) -> Vec<&ObjectName> {
    let relations = from.iter().map(|table| &table.relation);
    let names = relations.filter_map(|relation| match relation {
        TableFactor::Table { name, .. } => Some(name),
        _ => None,
    });
    names.collect()
}

/// Whether a condition leaves nothing out.
fn is_everything(condition: Option<&Expr>) -> bool {
    condition
        .is_none_or(|condition| matches!(condition.to_string().as_str(), "true" | "TRUE" | "1" | "1 = 1"))
}
