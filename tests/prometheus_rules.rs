//! The Prometheus rules that are shipped: they do what their tests say, and speak of metrics that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

#[test]
fn promtool_finds_the_rules_right_and_their_tests_pass() {
    if Command::new("promtool").arg("--version").output().is_err() {
        println!("SKIPPED: there is no promtool; apt-get install prometheus");
        eprintln!("SKIPPED: the Prometheus rules are NOT tested: there is no promtool");
        return;
    }
    for arguments in [["check", "rules", "tidegate.rules.yml"], ["test", "rules", "tidegate.rules.test.yml"]]
    {
        let ran = Command::new("promtool").args(arguments).current_dir(folder()).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            ran.status.success(),
            "promtool {}:\n{}{}",
            arguments.join(" "),
            said(&ran.stdout),
            said(&ran.stderr)
        );
    }
}

#[test]
fn rules_speak_only_of_metrics_that_exist() {
    let names = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/names.rs");
    let names = fs::read_to_string(names).unwrap();
    let used = metrics(&read("tidegate.rules.yml"));
    assert!(used.len() > 8, "{used:?}");
    for name in used {
        let family = name.strip_suffix("_bucket").unwrap_or(&name);
        let exists = names.contains(&format!("\"{family}\""));
        assert!(exists, "the rules use {name}, which is no metric in src/telemetry/names.rs");
    }
}

#[test]
fn every_alert_has_a_case_that_fires_and_one_that_does_not() {
    let (rules, cases) = (read("tidegate.rules.yml"), read("tidegate.rules.test.yml"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        let fires = cases.contains(&format!("alertname: {alert}\n        exp_alerts:\n"));
        let is_calm = cases.contains(&format!("alertname: {alert}, exp_alerts: []"));
        assert!(fires && is_calm, "{alert}: fires {fires}, is calm {is_calm}");
    }
}

/// Every word that begins like one of our metrics; recorded series have a colon in their names.
fn metrics(rules: &str) -> BTreeSet<String> {
    let is_of_name = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == ':';
    rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|char: char| !is_of_name(char)))
        .filter(|word| word.starts_with("tidegate_") && !word.contains(':'))
        .map(str::to_owned)
        .collect()
}
