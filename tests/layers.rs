//! Who may import whom. The map in ARCHITECTURE.md is drawn from the same table.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Module, and what it may use. Later lines stand above earlier ones.
const MAY_USE: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("shared_list", &[]),
    ("wording", &[]),
    ("traffic", &["clock"]),
    ("rollout", &["traffic", "clock", "wording"]),
    ("launch", &["rollout", "traffic", "clock", "wording"]),
    ("outbound", &[]),
    ("store", &["clock"]),
    ("telemetry", &["traffic", "clock"]),
    ("upstream", &["traffic", "clock"]),
    ("routing", &["upstream", "traffic", "shared_list", "clock"]),
    ("simulate", &["rollout", "traffic", "clock"]),
    (
        "control",
        &[
            "launch",
            "rollout",
            "routing",
            "upstream",
            "telemetry",
            "store",
            "traffic",
            "shared_list",
            "clock",
        ],
    ),
    ("proxy", &["routing", "upstream", "telemetry", "traffic", "clock"]),
    ("admin::socket", &[]),
    ("hooks", &["control", "launch", "outbound", "rollout", "store", "telemetry", "traffic", "clock"]),
    ("admin::api", &["launch", "rollout", "store", "traffic", "clock"]),
    ("admin::client", &["admin::api", "admin::socket", "clock", "wording"]),
    (
        "admin::server",
        &[
            "admin::api",
            "control",
            "launch",
            "rollout",
            "routing",
            "upstream",
            "telemetry",
            "traffic",
            "clock",
        ],
    ),
    (
        "config",
        &[
            "admin::socket",
            "control",
            "hooks",
            "launch",
            "proxy",
            "rollout",
            "routing",
            "upstream",
            "telemetry",
            "traffic",
            "clock",
        ],
    ),
    (
        "app",
        &[
            "config",
            "admin::server",
            "admin::api",
            "proxy",
            "control",
            "hooks",
            "launch",
            "rollout",
            "routing",
            "upstream",
            "telemetry",
            "store",
            "traffic",
            "clock",
        ],
    ),
    ("runner", &["admin::client", "admin::api", "launch", "outbound", "rollout", "traffic", "clock"]),
    (
        "cli",
        &[
            "app",
            "config",
            "runner",
            "launch",
            "admin::client",
            "admin::api",
            "admin::socket",
            "rollout",
            "simulate",
            "traffic",
            "clock",
            "wording",
        ],
    ),
    ("laws", &["config", "proxy", "routing", "upstream"]),
    ("demo", &["cli", "app", "config", "admin::client", "admin::api", "admin::socket", "traffic", "clock"]),
];

#[test]
fn modules_use_only_what_lies_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in rust_files(&root) {
        let relative = file.strip_prefix(&root).unwrap().display().to_string();
        let Some(module) = module_of(&relative) else { continue };
        seen.insert(module.clone());
        let Some((_, may)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("src/{relative}: the module {module} is new; give it a line in tests/layers.rs and a place in ARCHITECTURE.md"));
            continue;
        };
        for used in uses(&without_tests(&fs::read_to_string(&file).unwrap())) {
            if used != module && !may.contains(&used.as_str()) {
                wrong.push(format!(
                    "src/{relative}: {module} uses {used}, which it must not know; pass what is needed as an argument or a \
                     settings type, or move the shared type down to what both may use ({})",
                    may.join(", ")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    for (module, _) in MAY_USE {
        assert!(
            seen.contains(*module),
            "tests/layers.rs has a line for {module}, which is no module any more"
        );
    }
}

#[test]
fn the_planes_never_import_each_other() {
    let may = |module: &str| MAY_USE.iter().find(|(name, _)| *name == module).unwrap().1;
    assert!(!may("proxy").contains(&"control") && !may("control").contains(&"proxy"));
    for (at, (module, may)) in MAY_USE.iter().enumerate() {
        for used in *may {
            let below = MAY_USE[..at].iter().any(|(name, _)| name == used);
            assert!(below, "{module} uses {used}, which does not lie below it");
        }
    }
}

#[test]
fn uses_are_found_in_every_form() {
    let text = "use crate::{clock, traffic::{Variant, Weight}};\nuse crate::admin::api::Status;\nuse crate::admin::{api::X, server};\nlet x = crate::control::Control::new();\n//! see [`crate::proxy`]\n";
    let found = uses(text);
    let found: Vec<_> = found.iter().map(String::as_str).collect();
    assert_eq!(found, ["admin::api", "admin::server", "clock", "control", "traffic"]);
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\n b\n}\n"), "a\n");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_tests = path.file_stem().is_some_and(|name| name == "tests");
        match path.is_dir() {
            _ if is_tests => {}
            true => files.extend(rust_files(&path)),
            false if path.extension().is_some_and(|ending| ending == "rs") => files.push(path),
            false => {}
        }
    }
    files
}

/// The module a file belongs to; the rooms of `admin` count one by one. `None` for the roots.
fn module_of(relative: &str) -> Option<String> {
    let path = relative.trim_end_matches(".rs");
    let mut parts = path.split('/');
    match (parts.next()?, parts.next()) {
        ("main" | "lib", None) | ("admin", Some("mod")) => None,
        ("admin", Some(room)) => Some(format!("admin::{room}")),
        (module, _) => Some(module.to_owned()),
    }
}

fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// Every module named after `crate::`, outside comments.
fn uses(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line.trim(), " "])
        .collect();
    let mut found = BTreeSet::new();
    for (at, prefix) in code.match_indices("crate::") {
        let is_part_of_a_word =
            code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        if !is_part_of_a_word {
            named(&code[at + prefix.len()..], "", &mut found);
        }
    }
    found
}

fn named(rest: &str, inside: &str, found: &mut BTreeSet<String>) {
    let word =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    if let Some(list) = rest.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (at, char) in list.char_indices() {
            match char {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    named(list[start..at].trim(), inside, found);
                    return;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    named(list[start..at].trim(), inside, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let first = word(rest);
    match first.as_str() {
        "" => {}
        "admin" if inside.is_empty() => {
            if let Some(deeper) = rest[first.len()..].strip_prefix("::") {
                named(deeper, "admin", found);
            }
        }
        _ if inside.is_empty() => drop(found.insert(first)),
        _ => drop(found.insert(format!("{inside}::{first}"))),
    }
}
