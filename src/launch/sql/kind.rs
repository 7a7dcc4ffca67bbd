//! What statements do, how that harms, and what to do instead.

use std::fmt;

macro_rules! kinds {
    ($($kind:ident, $name:literal, $why:literal, $cure:literal;)*) => {
        /// What a statement does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each says what it is where it is shown")]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            /// As in `allow`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// How that harms what runs.
            pub const fn why(self) -> &'static str {
                match self {
                    $(Self::$kind => $why,)*
                }
            }

            /// What to do instead.
            pub const fn cure(self) -> &'static str {
                match self {
                    $(Self::$kind => $cure,)*
                }
            }
        }
    };
}

kinds! {
    DropTable, "drop_table", "the running version fails where it uses the table, and its rows are gone",
        "release a version that does not use it; drop it in a later launch";
    DropView, "drop_view", "the running version fails where it uses the view",
        "release a version that does not use it; drop it in a later launch";
    DropColumn, "drop_column", "the running version fails where it names the column, and its values are gone",
        "release a version that does not use it; drop it in a later launch";
    DropIndex, "drop_index", "queries of the running version may need it",
        "make sure that none does, then allow it";
    DropConstraint, "drop_constraint", "the running version may rely on it: an upsert on it fails, rows that it forbids come in",
        "release a version that does not rely on it first";
    DropPrimaryKey, "drop_primary_key", "the running version may rely on it: an upsert on it fails, rows are no longer told apart",
        "add the new key beside it; drop it in a later launch";
    DropDefault, "drop_default", "an insert of the running version that leaves the column out fails, or writes NULL",
        "keep the default until no version needs it";
    DropSchema, "drop_schema", "the running version fails where it uses anything in it, and everything in it is gone",
        "release a version that does not use it; drop it in a later launch";
    DropPartition, "drop_partition", "the rows in it are gone for the running version",
        "release a version that does not need them first";
    DropOther, "drop_other", "the running version fails where it uses it",
        "release a version that does not use it; drop it in a later launch";
    RenameTable, "rename_table", "the running version fails where it uses the old name",
        "create the new one beside it, or a view under the old name, write both, move over, drop the old one in a later launch";
    RenameColumn, "rename_column", "the running version fails where it uses the old name",
        "add a column, write both, copy, read the new one, drop the old one in a later launch";
    RenameOther, "rename_other", "the running version fails where it uses the old name",
        "add the new one beside it; drop the old one in a later launch";
    RebuildTable, "rebuild_table", "the table is rebuilt: a new one is created, filled, and takes the old one's name; whether its columns and constraints still fit \
         the running version cannot be seen here, and writes between copy and rename are lost unless all is one transaction",
        "compare both definitions: columns may only be added, with a default or without NOT NULL; keep it in one transaction, then allow it";
    AlterColumnType, "alter_column_type", "the running version may write what the new type refuses and read what it does not expect; the table may be rewritten \
         under a lock",
        "add a column of the new type, write both, copy, read the new one, drop the old one in a later launch; allow it if it only widens";
    SetNotNull, "set_not_null", "a write of the running version that leaves the column out fails, and so does this, if there are NULLs",
        "release a version that always writes it and fill it; on PostgreSQL add CHECK (… IS NOT NULL) NOT VALID and validate it; then set it in a later launch";
    AddNotNullColumn, "add_not_null_column", "an insert of the running version, which does not know the column, fails, and so does this, if there are rows",
        "give it a default, or let it be NULL until every version writes it";
    AddVolatileDefault, "add_volatile_default", "every row is rewritten under a lock that stops all reads and writes",
        "add the column without the default, set the default, fill the rows in batches";
    AddIdentity, "add_identity", "an insert of the running version that writes the column itself may fail",
        "release a version that leaves it to the database first";
    AddUnique, "add_unique", "a write of the running version that repeats a value fails, and so does this, if there are repeated ones",
        "release a version that never repeats one and clean up; on PostgreSQL create the index CONCURRENTLY and add the constraint USING INDEX; then allow it";
    AddPrimaryKey, "add_primary_key", "a write of the running version that repeats or leaves out a value fails, and the table is locked meanwhile",
        "release a version that always writes a new one and clean up; on PostgreSQL add it USING INDEX; then allow it";
    AddForeignKey, "add_foreign_key", "a write of the running version that refers to nothing fails, and both tables are locked while every row is looked at",
        "release a version that refers only to what there is and clean up; on PostgreSQL add it NOT VALID, and VALIDATE CONSTRAINT afterwards";
    AddCheck, "add_check", "a write of the running version that it forbids fails, and the table is locked while every row is looked at",
        "release a version that keeps to it and clean up; on PostgreSQL add it NOT VALID, and VALIDATE CONSTRAINT afterwards";
    AddExclusion, "add_exclusion", "a write of the running version that it forbids fails, and the table is locked while every row is looked at",
        "release a version that keeps to it and clean up, then allow it";
    CreateIndex, "create_index", "all writes to the table wait until it is built",
        "CREATE INDEX CONCURRENTLY, outside of a transaction";
    ReplaceView, "replace_view", "the running version fails where it uses a column that the new one does not have",
        "only add columns, at the end, then allow it; or create a view under another name";
    EnableRowSecurity, "enable_row_security", "rows that no policy lets through are gone for the running version",
        "create the policies first, try them with the running version's role, then allow it";
    Revoke, "revoke", "the running version may need the right", "release a version that does not need it first";
    Truncate, "truncate", "all rows are gone for the running version",
        "delete what nobody uses, in batches; allow it if the table is meant to be empty";
    DeleteAll, "delete_all", "all rows are gone for the running version, in one transaction that locks them",
        "say which with WHERE, in batches";
    UpdateAll, "update_all", "every row is written in one transaction, which locks it for the running version",
        "fill in batches with WHERE, after the columns are there";
    Lock, "lock", "the running version waits for it", "leave locks to the statements that need them";
    Unjudged, "cannot_be_judged", "what it does to the running version cannot be seen here",
        "look at it by another `schema_compatibility` with a command, or allow it by these words";
    Unreadable, "cannot_be_read", "the parser does not know it, so it cannot be judged",
        "name the right dialect, or look at the migration by a `schema_compatibility` with a command";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
