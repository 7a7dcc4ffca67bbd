//! Whether migrations leave alone what code that runs already needs.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use crate::launch::sql::{Dialect, Finding, findings};

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// How many findings are shown.
const FINDINGS_MAX: usize = 12;

/// Trees of long statements are deep.
const STACK_BYTES: usize = 256 << 20;

/// Reads migrations: files, or folders whose `*.sql` are read in the order of their names.
pub(super) fn ask(
    paths: &[String],
    dialect: &str,
    allow: &[String],
    folder: &Path,
) -> Result<String, String> {
    let dialect = Dialect::named(dialect)
        .ok_or_else(|| format!("the dialect {dialect:?} is none of generic, sqlite, postgresql and mysql"))?;
    let mut files = Vec::new();
    for path in paths {
        files.extend(migrations(&folder.join(path))?);
    }
    if files.is_empty() {
        return Err("there is no migration to look at".to_owned());
    }
    let mut found = Vec::new();
    for file in &files {
        let text = read(file)?;
        let shown = file.strip_prefix(folder).unwrap_or(file).display().to_string();
        let findings = thread::scope(|scope| {
            let reader = thread::Builder::new().name("sql".to_owned()).stack_size(STACK_BYTES);
            let reader = reader.spawn_scoped(scope, || findings(&text, dialect, allow));
            let reader = reader.map_err(|error| format!("start a thread: {error}"))?;
            reader.join().map_err(|_| format!("{shown} cannot be read; look at it by a command"))
        })?;
        found.extend(findings.into_iter().map(|finding| (shown.clone(), finding)));
    }
    if found.is_empty() {
        let s = if files.len() == 1 { "" } else { "s" };
        return Ok(format!("{} migration{s} with nothing in the way of the running version", files.len()));
    }
    Err(said(&found))
}

/// The files that a path means. Of two ways only the one up is.
fn migrations(path: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("read {}: {error}", path.display());
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
        if name.ends_with(".sql") && !name.ends_with(".down.sql") && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("read {}: {error}", file.display());
    let size = fs::metadata(file).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        let max = FILE_BYTES_MAX >> 20;
        return Err(format!(
            "{} has {size} bytes; more than {max} MiB are looked at by a command",
            file.display()
        ));
    }
    fs::read_to_string(file).map_err(failed)
}

/// Findings with their place; what the same kind of them all have in common is said once.
fn said(found: &[(String, Finding)]) -> String {
    let mut said = String::new();
    let mut kinds = Vec::new();
    for (file, Finding { line, kind, object, why, cure }) in found.iter().take(FINDINGS_MAX) {
        _ = write!(said, "{file}:{line}: {kind} {object}");
        match kinds.contains(kind) {
            true => said.push('\n'),
            false => _ = writeln!(said, ": {why}; {cure}"),
        }
        kinds.push(*kind);
    }
    match found.len().saturating_sub(FINDINGS_MAX) {
        0 => {}
        more => _ = writeln!(said, "… and {more} more"),
    }
    said.push_str("what is meant to be so goes into `allow`, as KIND OBJECT");
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_read_in_order_and_each_finding_has_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let migrations = folder.path().join("migrations");
        fs::create_dir(&migrations).unwrap();
        fs::write(
            migrations.join("2.up.sql"),
            "ALTER TABLE users\n  DROP COLUMN a;\nALTER TABLE users DROP COLUMN b;",
        )
        .unwrap();
        fs::write(migrations.join("2.down.sql"), "DROP TABLE users;").unwrap();
        fs::write(migrations.join("1.sql"), "\nDROP TABLE carts;").unwrap();
        fs::write(migrations.join("notes.txt"), "DROP").unwrap();
        let of = |paths: &[&str], allow: &[&str]| {
            let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
            let allow: Vec<_> = allow.iter().map(|allow| (*allow).to_owned()).collect();
            ask(&paths, "postgresql", &allow, folder.path())
        };
        let said = of(&["migrations"], &[]).unwrap_err();
        let lines: Vec<_> = said.lines().collect();
        assert!(
            lines[0].starts_with("migrations/1.sql:2: drop_table carts: the running version fails"),
            "{said}"
        );
        assert!(lines[1].starts_with("migrations/2.up.sql:1: drop_column users.a: "), "{said}");
        assert_eq!(lines[2], "migrations/2.up.sql:3: drop_column users.b");
        assert_eq!(lines[3], "what is meant to be so goes into `allow`, as KIND OBJECT");

        let allow = ["drop_table carts", "drop_column users.a", "drop_column users.b"];
        let said = of(&["migrations"], &allow).unwrap();
        assert_eq!(said, "2 migrations with nothing in the way of the running version");
        assert!(of(&["migrations/1.sql"], &allow[..1]).is_ok());
        assert!(of(&["nowhere"], &[]).unwrap_err().contains("nowhere: No such file"));
        fs::create_dir(folder.path().join("empty")).unwrap();
        assert_eq!(of(&["empty"], &[]).unwrap_err(), "there is no migration to look at");
        fs::write(migrations.join("1.sql"), [0xff, 0xfe]).unwrap();
        assert!(of(&["migrations/1.sql"], &[]).unwrap_err().contains("UTF-8"));
        assert!(ask(&["x".into()], "oracle", &[], folder.path()).unwrap_err().contains("none of generic"));
    }

    #[test]
    fn long_chains_of_operators_do_not_break_it() {
        let folder = tempfile::tempdir().unwrap();
        let chain = format!("SELECT 1{};\nDROP TABLE users;", " + 1".repeat(19_999));
        fs::write(folder.path().join("a.sql"), chain).unwrap();
        let said = ask(&["a.sql".into()], "generic", &[], folder.path()).unwrap_err();
        assert!(said.starts_with("a.sql:2: drop_table users"), "{said}");
    }
}
