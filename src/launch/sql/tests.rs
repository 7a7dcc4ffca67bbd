use super::*;

/// `LINE KIND OBJECT` of each finding.
fn found(dialect: Dialect, text: &str) -> Vec<String> {
    let found = findings(text, dialect, &[] as &[&str]);
    found.iter().map(|finding| format!("{} {} {}", finding.line, finding.kind, finding.object)).collect()
}

/// Statements that are one line each, and what is found in them, without the line.
#[track_caller]
fn check(dialect: Dialect, text: &str, expected: &[&str]) {
    let found = found(dialect, text);
    let found: Vec<_> = found.iter().map(|found| found.split_once(' ').unwrap().1).collect();
    assert_eq!(found, expected, "{dialect:?}: {text}");
}

const ALL: [Dialect; 4] = [Dialect::Generic, Dialect::Sqlite, Dialect::PostgreSql, Dialect::MySql];

#[test]
fn what_takes_something_away_or_gives_it_another_name_is_found_in_every_dialect() {
    let check = |text, expected: &[&str]| ALL.iter().for_each(|dialect| check(*dialect, text, expected));
    check("DROP TABLE users", &["drop_table users"]);
    check("DROP TABLE IF EXISTS users, carts;", &["drop_table users", "drop_table carts"]);
    check("DROP VIEW paid", &["drop_view paid"]);
    check("ALTER TABLE users DROP COLUMN old", &["drop_column users.old"]);
    check("ALTER TABLE Users RENAME TO people", &["rename_table users"]);
    check("ALTER TABLE users RENAME COLUMN a TO b", &["rename_column users.a"]);
    check("DELETE FROM users", &["delete_all users"]);
    check("DELETE FROM users WHERE 1 = 1", &["delete_all users"]);
    check("DELETE FROM users WHERE id = 1", &[]);
    check("UPDATE users SET a = 1", &["update_all users"]);
    check("UPDATE users SET a = 1 WHERE id < 1000", &[]);
    check("ALTER TABLE users ADD COLUMN a INT NOT NULL", &["add_not_null_column users.a"]);
    check("ALTER TABLE users ADD COLUMN a INT NOT NULL DEFAULT NULL", &["add_not_null_column users.a"]);
    check("ALTER TABLE users ADD COLUMN a INT NOT NULL DEFAULT 0", &[]);
    check("ALTER TABLE users ADD COLUMN a INT", &[]);
    check("ALTER TABLE users ADD COLUMN a INT REFERENCES carts (id)", &[]);
    check("ALTER TABLE users ADD COLUMN a INT DEFAULT 1 REFERENCES carts (id)", &["add_foreign_key users.a"]);
}

#[test]
fn what_only_adds_is_not_found() {
    let check = |text| {
        ALL.iter().for_each(|dialect| assert_eq!(found(*dialect, text), [""; 0], "{dialect:?}: {text}"))
    };
    check("");
    check("-- nothing\n;;\n/* nothing */");
    check("CREATE TABLE carts (id INT PRIMARY KEY, email VARCHAR(100) NOT NULL UNIQUE)");
    check("INSERT INTO plans (name) VALUES ('free'), ('paid')");
    check("CREATE VIEW paid AS SELECT * FROM users WHERE plan = 'DROP TABLE users'");
    check("SELECT 1");
    check("BEGIN; ALTER TABLE users ADD COLUMN a INT; COMMIT;");
    check("CREATE TABLE a (b INT); DROP TABLE a");
}

#[test]
fn postgresql_has_ways_of_its_own_to_stand_in_the_way() {
    let check = |text, expected: &[&str]| check(Dialect::PostgreSql, text, expected);
    check("ALTER TABLE users ALTER COLUMN a TYPE bigint", &["alter_column_type users.a"]);
    check("ALTER TABLE users ALTER a SET DATA TYPE bigint USING a::bigint", &["alter_column_type users.a"]);
    check("ALTER TABLE users ALTER COLUMN a SET NOT NULL", &["set_not_null users.a"]);
    check("ALTER TABLE users ALTER COLUMN a DROP NOT NULL, ALTER COLUMN a SET DEFAULT 1", &[]);
    check("ALTER TABLE users ALTER COLUMN a DROP DEFAULT", &["drop_default users.a"]);
    check("ALTER TABLE users ALTER COLUMN a ADD GENERATED ALWAYS AS IDENTITY", &["add_identity users.a"]);
    check("TRUNCATE users, carts", &["truncate users", "truncate carts"]);
    check("TRUNCATE TABLE ONLY users RESTART IDENTITY CASCADE", &["truncate users"]);
    check("CREATE INDEX i ON users (email)", &["create_index users"]);
    check("CREATE INDEX CONCURRENTLY i ON users (email)", &[]);
    check("CREATE UNIQUE INDEX CONCURRENTLY i ON users (email)", &["add_unique users"]);
    check("CREATE UNIQUE INDEX i ON users (email)", &["add_unique users", "create_index users"]);
    check("ALTER TABLE users ADD CONSTRAINT c UNIQUE USING INDEX i", &[]);
    check("ALTER TABLE users ADD CONSTRAINT c UNIQUE (email)", &["add_unique users"]);
    check("ALTER TABLE users ADD PRIMARY KEY (id)", &["add_primary_key users"]);
    check(
        "ALTER TABLE users ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES carts (id)",
        &["add_foreign_key users"],
    );
    check("ALTER TABLE users ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES carts (id) NOT VALID", &[]);
    check("ALTER TABLE users VALIDATE CONSTRAINT c", &[]);
    check("ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0)", &["add_check users"]);
    check("ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT VALID", &[]);
    check("ALTER TABLE users DROP CONSTRAINT c", &["drop_constraint users.c"]);
    check("ALTER TABLE users ADD COLUMN a bigserial NOT NULL", &[]);
    check("ALTER TABLE users ADD COLUMN a bigint GENERATED ALWAYS AS IDENTITY NOT NULL", &[]);
    check("ALTER TABLE users ADD COLUMN a timestamptz NOT NULL DEFAULT now()", &[]);
    check(
        "ALTER TABLE users ADD COLUMN a uuid NOT NULL DEFAULT gen_random_uuid()",
        &["add_volatile_default users.a"],
    );
    check("ALTER TABLE users ADD COLUMN a text UNIQUE", &["add_unique users.a"]);
    check(
        "ALTER TABLE users DROP COLUMN IF EXISTS a, DROP COLUMN b",
        &["drop_column users.a", "drop_column users.b"],
    );
    check("ALTER TABLE users ENABLE ROW LEVEL SECURITY", &["enable_row_security users"]);
    check("DROP INDEX CONCURRENTLY IF EXISTS i", &["drop_index i"]);
    check("DROP TYPE mood", &["drop_other mood"]);
    check("DROP SCHEMA shop CASCADE", &["drop_schema shop"]);
    check("DROP FUNCTION f(int)", &["drop_other f"]);
    check("DROP MATERIALIZED VIEW m", &["drop_view m"]);
    check("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", &["rename_other mood"]);
    check("ALTER TYPE mood ADD VALUE 'fine'", &[]);
    check("CREATE OR REPLACE VIEW paid AS SELECT 1", &[]);
    check("REVOKE SELECT ON users FROM app", &["revoke REVOKE SELECT ON users FROM app"]);
    check(
        "WITH gone AS (DELETE FROM users RETURNING *) INSERT INTO old SELECT * FROM gone",
        &["delete_all users"],
    );
    check("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ DELETE FROM users; SELECT 1; $$", &[]);
    check("COMMENT ON TABLE users IS 'people'; ANALYZE users; SET lock_timeout = '2s'", &[]);
    check("ALTER TABLE \"Users\" DROP COLUMN \"Old\"", &["drop_column Users.Old"]);
    check(
        "ALTER TABLE public.users DROP COLUMN a; ALTER TABLE app.users DROP COLUMN a",
        &["drop_column users.a", "drop_column app.users.a"],
    );
    check("VACUUM FULL users", &["cannot_be_judged VACUUM FULL users"]);
}

#[test]
fn mysql_and_sqlite_say_it_in_other_words() {
    let mysql = |text, expected: &[&str]| check(Dialect::MySql, text, expected);
    mysql("ALTER TABLE users MODIFY COLUMN a BIGINT NOT NULL", &["alter_column_type users.a"]);
    mysql("ALTER TABLE users CHANGE COLUMN a a BIGINT", &["alter_column_type users.a"]);
    mysql("ALTER TABLE users CHANGE COLUMN a b BIGINT", &["rename_column users.a"]);
    mysql("RENAME TABLE users TO people, carts TO baskets", &["rename_table users", "rename_table carts"]);
    mysql("ALTER TABLE users DROP PRIMARY KEY", &["drop_primary_key users"]);
    mysql("ALTER TABLE users DROP FOREIGN KEY f", &["drop_constraint users.f"]);
    mysql("ALTER TABLE users DROP INDEX i", &["drop_index users.i"]);
    mysql("ALTER TABLE users ADD INDEX i (a), ALGORITHM=INPLACE, LOCK=NONE", &[]);
    mysql("ALTER TABLE users ADD COLUMN a INT NOT NULL AUTO_INCREMENT UNIQUE", &["add_unique users.a"]);
    mysql("ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT ENFORCED", &[]);
    mysql("ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0)", &["add_check users"]);
    mysql("CREATE INDEX i ON users (email)", &[]);
    mysql("TRUNCATE users", &["truncate users"]);
    mysql("CREATE OR REPLACE VIEW paid AS SELECT 1", &["replace_view paid"]);
    mysql("ALTER TABLE `Users` DROP COLUMN `Old`", &["drop_column users.old"]);
    mysql("LOCK TABLES users WRITE", &["lock LOCK TABLES users WRITE"]);

    let sqlite = |text, expected: &[&str]| check(Dialect::Sqlite, text, expected);
    sqlite("ALTER TABLE users DROP old", &["drop_column users.old"]);
    sqlite("CREATE INDEX i ON users (email)", &[]);
    sqlite("PRAGMA foreign_keys = OFF", &[]);
    sqlite("PRAGMA writable_schema = 1", &["cannot_be_judged PRAGMA writable_schema = 1"]);
    sqlite(
        "CREATE TRIGGER t AFTER INSERT ON users BEGIN UPDATE carts SET a = 1; DELETE FROM old; END; DROP TABLE carts",
        &["drop_table carts"],
    );
}

#[test]
fn what_is_new_in_the_same_migration_belongs_to_nobody_yet() {
    let check = |text, expected: &[&str]| check(Dialect::PostgreSql, text, expected);
    check(
        "CREATE TABLE a (b int); CREATE INDEX i ON a (b); ALTER TABLE a ADD UNIQUE (b); ALTER TABLE a DROP COLUMN b; DROP TABLE a;",
        &[],
    );
    check("CREATE TABLE a (b int); ALTER TABLE a RENAME TO c; DROP TABLE c;", &[]);
    check("CREATE TABLE a (b int); ALTER TABLE a RENAME TO c; DROP TABLE a;", &["drop_table a"]);
    check("CREATE TABLE a (b int); DROP TABLE a; DROP TABLE a;", &["drop_table a"]);
    check("DROP TABLE a; CREATE TABLE a (b int);", &["drop_table a"]);
    check(
        "ALTER TABLE a ADD COLUMN b int; ALTER TABLE a ALTER COLUMN b SET NOT NULL; ALTER TABLE a DROP COLUMN b",
        &[],
    );
    check("CREATE TABLE \"A\" (b int); DROP TABLE a", &["drop_table a"]);
    check("CREATE TABLE app.a (b int); DROP TABLE a", &["drop_table a"]);
    check("CREATE TABLE public.a (b int); DROP TABLE a", &[]);
    check("CREATE VIEW v AS SELECT 1; DROP VIEW v; CREATE TYPE m AS ENUM ('a'); DROP TYPE m", &[]);
    // It may have been there: what only adds to it is meant for the new one, what takes away is not.
    check("CREATE TABLE IF NOT EXISTS a (b int); CREATE INDEX i ON a (b); DROP TABLE a", &["drop_table a"]);
}

#[test]
fn a_table_that_is_rebuilt_is_named_for_what_it_is() {
    let steps = "PRAGMA foreign_keys=OFF;\nBEGIN;\nCREATE TABLE new_users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n\
        INSERT INTO new_users (id, name) SELECT id, name FROM users;\nDROP TABLE users;\n\
        ALTER TABLE new_users RENAME TO users;\nCREATE INDEX i ON users (name);\nCOMMIT;\nPRAGMA foreign_keys=ON;";
    assert_eq!(found(Dialect::Sqlite, steps), ["5 rebuild_table users"]);
    let other_way = "ALTER TABLE users RENAME TO old_users; CREATE TABLE users (id INTEGER); INSERT INTO users SELECT id FROM old_users; DROP TABLE old_users;";
    check(Dialect::Sqlite, other_way, &["rebuild_table users"]);
    let by_query = "CREATE TABLE u AS SELECT id FROM users; DROP TABLE users; ALTER TABLE u RENAME TO users;";
    check(Dialect::Sqlite, by_query, &["rebuild_table users"]);
    // Without its rows it is only dropped.
    let without_rows = "CREATE TABLE u (id INTEGER); DROP TABLE users; ALTER TABLE u RENAME TO users;";
    check(Dialect::Sqlite, without_rows, &["drop_table users"]);
    let another = "CREATE TABLE u (id INTEGER); INSERT INTO u SELECT id FROM carts; DROP TABLE users; ALTER TABLE u RENAME TO users;";
    check(Dialect::Sqlite, another, &["drop_table users"]);
}

#[test]
fn what_cannot_be_read_or_judged_is_never_passed() {
    let text = "CREATE TABLE a (b int);\nFROBNICATE users;\nDROP TABLE users;\nALTER TABLE users ADD COLUMN c int FROBNICATE;\n";
    let found_in = found(Dialect::PostgreSql, text);
    assert!(found_in[0].starts_with("2 cannot_be_read sql parser error"), "{found_in:?}");
    assert_eq!(found_in[1], "3 drop_table users");
    assert!(found_in[2].starts_with("4 cannot_be_read"), "{found_in:?}");
    assert_eq!(found_in.len(), 3);

    for (dialect, text) in [
        (Dialect::PostgreSql, "DO $$ BEGIN DROP TABLE users; END $$"),
        (Dialect::PostgreSql, "\\connect shop"),
        (Dialect::PostgreSql, "SELECT 'no end"),
        (Dialect::MySql, "DELIMITER //\nCREATE PROCEDURE p() BEGIN DROP TABLE users; END //"),
        (Dialect::Generic, "a"),
        (Dialect::Generic, "\u{0}"),
        (Dialect::Sqlite, "CREATE TRIGGER t AFTER INSERT ON users BEGIN UPDATE"),
        (Dialect::PostgreSql, "CALL clean()"),
        (Dialect::PostgreSql, "EXECUTE stored"),
        (Dialect::Generic, "MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE"),
        (Dialect::Sqlite, "ATTACH DATABASE 'x' AS y"),
        (Dialect::PostgreSql, "ALTER TABLE users SET UNLOGGED"),
    ] {
        let found = found(dialect, text);
        assert!(found.iter().any(|found| found.contains("cannot_be_")), "{dialect:?} {text}: {found:?}");
    }
    let deep = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(found(Dialect::Generic, &deep)[0].contains("cannot_be_read"));
    let long = format!("SELECT 1{}; DROP TABLE users", " + 1".repeat(100_000));
    let long = found(Dialect::Generic, &long);
    assert_eq!(long, ["1 cannot_be_read a statement with 100000 operators", "1 drop_table users"]);
    let many = "FROBNICATE; ".repeat(1000);
    assert_eq!(found(Dialect::Generic, &many).len(), UNREADABLE_MAX + 1);
}

#[test]
fn only_what_is_allowed_by_its_kind_and_name_is_left_out() {
    let text = "ALTER TABLE users DROP COLUMN old; ALTER TABLE users DROP COLUMN other; DROP TABLE users";
    let of = |allow: &[&str]| findings(text, Dialect::PostgreSql, allow).len();
    assert_eq!(of(&["drop_column users.old"]), 2);
    assert_eq!(of(&["  DROP_COLUMN   Users.Old "]), 2);
    assert_eq!(of(&["drop_column users.old", "drop_column users.other", "drop_table users"]), 0);
    assert_eq!(
        of(&["drop_column", "drop_column users", "drop_table", "users", "", "drop_column users.*"]),
        3
    );
}

#[test]
fn of_a_file_with_both_ways_only_the_way_up_is_read() {
    let goose =
        "-- +goose Up\nALTER TABLE a ADD COLUMN b INT;\n-- +goose Down\nALTER TABLE a DROP COLUMN b;\n";
    let dbmate =
        "-- migrate:up\nALTER TABLE a ADD COLUMN b INT;\n\n-- migrate:down\nALTER TABLE a DROP COLUMN b;";
    let both = "-- +migrate Down\nDROP TABLE a;\n-- +migrate Up\nDROP TABLE c;\n";
    assert_eq!(found(Dialect::Sqlite, goose), [""; 0]);
    assert_eq!(found(Dialect::Sqlite, dbmate), [""; 0]);
    assert_eq!(found(Dialect::Sqlite, both), ["4 drop_table c"]);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_fail(text in "(?i)((alter|drop|table|users|column|create|index|on|rename|to|begin|end|insert|select|[a-z(),;'\"\\$ \n]|--|/\\*) ?){0,40}") {
        for dialect in ALL {
            findings(&text, dialect, &["drop_table users"]);
        }
    }
}
