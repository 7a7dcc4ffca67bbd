//! `ALTER TABLE`.

use sqlparser::ast::{
    AlterColumnOperation, AlterTableOperation as Operation, ColumnDef, ColumnOption, DataType, Expr,
    GeneratedAs, RenameTableNameKind, TableConstraint,
};

use super::Dialect;
use super::judge::Judge;
use super::kind::Kind;

/// Functions whose value differs from row to row, so that PostgreSQL cannot keep one value for all rows.
const VOLATILE: [&str; 6] =
    ["random(", "gen_random_uuid(", "uuid_generate_v", "clock_timestamp(", "nextval(", "timeofday("];

impl Judge<'_> {
    pub(super) fn alter(&mut self, table: &str, operations: &[Operation]) {
        for operation in operations {
            self.operation(table, operation);
        }
    }

    fn operation(&mut self, table: &str, operation: &Operation) {
        // What is surely new belongs to nobody; of what is new only if it was missing, rows may be there.
        let is_new = self.names.is_new(table);
        let is_meant_new = self.names.is_meant_new(table);
        match operation {
            Operation::AddColumn { column_def, if_not_exists, .. } => {
                if !is_meant_new {
                    self.added(table, column_def);
                }
                let column = self.names.column(table, &column_def.name);
                self.names.create(column, *if_not_exists);
            }
            Operation::DropColumn { column_names, .. } => {
                for column in column_names {
                    let column = self.names.column(table, column);
                    if !is_new && !self.names.is_new(&column) {
                        self.find(Kind::DropColumn, column.clone());
                    }
                    self.names.rename(&column, None);
                }
            }
            Operation::RenameColumn { old_column_name, new_column_name } => {
                let (old, new) =
                    (self.names.column(table, old_column_name), self.names.column(table, new_column_name));
                if !is_new && !self.names.is_new(&old) {
                    self.find(Kind::RenameColumn, old.clone());
                }
                self.names.rename(&old, Some(new));
            }
            Operation::RenameTable { table_name } => {
                let (RenameTableNameKind::As(new) | RenameTableNameKind::To(new)) = table_name;
                let new = self.names.of(new);
                self.renamed(table, new);
            }
            Operation::AlterColumn { column_name, op } => {
                let column = self.names.column(table, column_name);
                if is_new || self.names.is_new(&column) {
                    return;
                }
                match op {
                    AlterColumnOperation::SetNotNull => self.find(Kind::SetNotNull, column),
                    AlterColumnOperation::DropDefault => self.find(Kind::DropDefault, column),
                    AlterColumnOperation::SetDataType { .. } => self.find(Kind::AlterColumnType, column),
                    AlterColumnOperation::AddGenerated { .. } => self.find(Kind::AddIdentity, column),
                    AlterColumnOperation::DropNotNull | AlterColumnOperation::SetDefault { .. } => {}
                }
            }
            Operation::ChangeColumn { old_name, new_name, .. } => {
                let (old, new) = (self.names.column(table, old_name), self.names.column(table, new_name));
                if !is_new && !self.names.is_new(&old) {
                    let kind = if old == new { Kind::AlterColumnType } else { Kind::RenameColumn };
                    self.find(kind, old.clone());
                }
                self.names.rename(&old, Some(new));
            }
            Operation::ModifyColumn { col_name, .. } => {
                let column = self.names.column(table, col_name);
                if !is_new && !self.names.is_new(&column) {
                    self.find(Kind::AlterColumnType, column);
                }
            }
            Operation::AddConstraint { constraint, not_valid } => {
                if !is_meant_new {
                    self.constrained(table, constraint, *not_valid);
                }
            }
            _ if is_new => {}
            Operation::DropConstraint { name, .. } | Operation::DropForeignKey { name, .. } => {
                let constraint = self.names.column(table, name);
                self.find(Kind::DropConstraint, constraint);
            }
            Operation::DropPrimaryKey { .. } => self.find(Kind::DropPrimaryKey, table.to_owned()),
            Operation::DropIndex { name } => {
                let index = self.names.column(table, name);
                self.find(Kind::DropIndex, index);
            }
            Operation::SwapWith { .. } => self.find(Kind::RenameTable, table.to_owned()),
            Operation::DropPartitions { .. } | Operation::DetachPartition { .. } => {
                self.find(Kind::DropPartition, table.to_owned());
            }
            Operation::EnableRowLevelSecurity | Operation::ForceRowLevelSecurity => {
                self.find(Kind::EnableRowSecurity, table.to_owned());
            }
            Operation::DisableRowLevelSecurity
            | Operation::NoForceRowLevelSecurity
            | Operation::RenameConstraint { .. }
            | Operation::ValidateConstraint { .. }
            | Operation::ReplicaIdentity { .. }
            | Operation::AddPartitions { .. }
            | Operation::AttachPartition { .. }
            | Operation::SetTblProperties { .. }
            | Operation::SetOptionsParens { .. }
            | Operation::Algorithm { .. }
            | Operation::Lock { .. }
            | Operation::AutoIncrement { .. } => {}
            other => self.unjudged(&format!("alter table {table} {other}")),
        }
    }

    /// A column that the running version does not know.
    fn added(&mut self, table: &str, column: &ColumnDef) {
        let name = self.names.column(table, &column.name);
        let option = |is: fn(&ColumnOption) -> bool| column.options.iter().any(|option| is(&option.option));
        let default = column.options.iter().find_map(|option| match &option.option {
            ColumnOption::Default(value) => Some(value),
            _ => None,
        });
        let fills_itself = is_serial(&column.data_type)
            || option(|option| match option {
                ColumnOption::Generated { generated_as, generation_expr, .. } => {
                    generation_expr.is_some()
                        || matches!(generated_as, GeneratedAs::Always | GeneratedAs::ByDefault)
                }
                ColumnOption::Identity(_) | ColumnOption::Alias(_) | ColumnOption::Materialized(_) => true,
                ColumnOption::DialectSpecific(tokens) => {
                    tokens.iter().any(|token| token.to_string().to_uppercase().starts_with("AUTO"))
                }
                _ => false,
            });
        let has_value = default.is_some_and(|value| !is_null(value)) || fills_itself;
        if option(|option| matches!(option, ColumnOption::PrimaryKey(_))) {
            self.find(Kind::AddPrimaryKey, table.to_owned());
        } else if option(|option| matches!(option, ColumnOption::NotNull)) && !has_value {
            self.find(Kind::AddNotNullColumn, name.clone());
        }
        let is_postgresql = self.dialect == Dialect::PostgreSql;
        if is_postgresql && default.is_some_and(is_volatile) {
            self.find(Kind::AddVolatileDefault, name.clone());
        }
        // A column that is NULL everywhere repeats nothing and refers to nothing; PostgreSQL still locks the table for the index.
        if option(|option| matches!(option, ColumnOption::Unique(_))) && (has_value || is_postgresql) {
            self.find(Kind::AddUnique, name.clone());
        }
        if option(|option| matches!(option, ColumnOption::ForeignKey(_))) && has_value {
            self.find(Kind::AddForeignKey, name);
        }
    }

    fn constrained(&mut self, table: &str, constraint: &TableConstraint, is_later: bool) {
        let kind = match constraint {
            TableConstraint::Unique(_) => Kind::AddUnique,
            TableConstraint::PrimaryKey(_) => Kind::AddPrimaryKey,
            TableConstraint::ForeignKey(_) if is_later => return,
            TableConstraint::ForeignKey(_) => Kind::AddForeignKey,
            TableConstraint::Check(check) if is_later || check.enforced == Some(false) => return,
            TableConstraint::Check(_) => Kind::AddCheck,
            TableConstraint::Exclude(_) => Kind::AddExclusion,
            // What was unique before stays so.
            TableConstraint::UniqueUsingIndex(_) | TableConstraint::PrimaryKeyUsingIndex(_) => return,
            TableConstraint::Index(_) | TableConstraint::FulltextOrSpatial(_) => return,
        };
        self.find(kind, table.to_owned());
    }
}

fn is_serial(data_type: &DataType) -> bool {
    data_type.to_string().to_lowercase().ends_with("serial")
}

fn is_null(value: &Expr) -> bool {
    value.to_string().eq_ignore_ascii_case("null")
}

fn is_volatile(value: &Expr) -> bool {
    let value = value.to_string().to_lowercase();
    VOLATILE.iter().any(|function| value.contains(function))
}
