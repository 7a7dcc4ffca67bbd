use std::ffi::OsString;
use std::sync::Arc;

use clap::Parser;

use super::args::Format;
use super::*;
use crate::cli::args::{CommandLine, Verb};
use crate::clock::Timestamp;
use crate::launch::{Entry, Launch, Ledger, Record};
use crate::traffic::Variant;

/// A launch of two phases.
pub(super) fn release() -> Arc<Launch> {
    let minute = serde_json::json!({"secs": 60, "nanos": 0});
    let launch = serde_json::json!({
        "name": "shop-2.0.2", "service": "shop", "version": "2.0.2", "rollback_within": {"secs": 300, "nanos": 0},
        "phases": [
            {"id": "deploy", "action": {"do": "command", "run": {"argv": ["./deploy", "shop:2.0.2"]}},
             "undo": {"undo": "command", "run": {"argv": ["./deploy", "shop:2.0.1"]}},
             "timeout": minute, "undo_timeout": minute, "rollback_on_failure": true},
            {"id": "traffic", "action": {"do": "rollout", "schedule": "canary"}, "undo": {"undo": "disable-traffic"},
             "undo_timeout": minute, "rollback_on_failure": true},
        ],
    });
    serde_json::from_value(launch).unwrap()
}

/// One that runs, and what was noted since; a second from record to record.
pub(super) fn ledger(entries: &[Entry]) -> Ledger {
    let holder = "ada@build-7".into();
    let started = Entry::Started { candidate: Variant::Green, holder, unmet: Vec::new(), reason: None };
    let record = |seq: u64, entry: Entry| Record {
        seq,
        at: Timestamp::from_millis(seq * 1000),
        actor: "uid 0".into(),
        claimed: None,
        entry,
        figures: None,
    };
    let mut ledger = Ledger::begin(&record(1, Entry::Planned { launch: release() })).unwrap();
    for entry in std::iter::once(&started).chain(entries) {
        ledger = ledger.with(&record(ledger.seq + 1, entry.clone())).unwrap();
    }
    ledger
}

fn parse(line: &str) -> Result<Verb, clap::Error> {
    let words = std::iter::once("tidegate").chain(line.split_whitespace());
    CommandLine::try_parse_from(words).map(|command| command.verb)
}

fn verb(line: &str) -> LaunchVerb {
    match parse(line).unwrap_or_else(|error| panic!("{line}: {error}")) {
        Verb::Launch(launch) => launch.verb,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_verb_of_launches_takes_what_it_needs() {
    let LaunchVerb::Plan(plan) =
        verb("launch plan -f l.yaml --service shop --set A=b=c --set B= --book --json")
    else {
        panic!()
    };
    assert_eq!(plan.what.set, [("A".to_owned(), "b=c".to_owned()), ("B".to_owned(), String::new())]);
    assert!(plan.book && plan.reach.json && plan.what.service.as_deref() == Some("shop"));
    let LaunchVerb::Start(start) = verb("launch start -f l.yaml --override --reason why --local --all")
    else {
        panic!()
    };
    assert!(start.overrides && start.told.local && start.told.all && start.name.is_none());
    let LaunchVerb::Start(start) = verb("launch start shop-2.0.2") else { panic!() };
    assert_eq!(start.name.as_deref(), Some("shop-2.0.2"));
    let LaunchVerb::Resume(resume) = verb("launch resume shop-2.0.2 --redo") else { panic!() };
    assert!(resume.redo && !resume.undo);
    let LaunchVerb::Rollback(rollback) = verb("launch rollback --reason why --as ada") else { panic!() };
    assert!(rollback.name.is_none() && rollback.claim.claimed.is_some());
    let LaunchVerb::Sign(sign) = verb("launch sign shop-2.0.2 backup --role devops --evidence s3://b") else {
        panic!()
    };
    assert_eq!((sign.words.len(), sign.role.as_str()), (2, "devops"));
    let LaunchVerb::Vote(vote) = verb("launch vote no-go --role qa --note no") else { panic!() };
    assert_eq!(vote.words, ["no-go"]);
    let LaunchVerb::Report(report) = verb("launch report shop-2.0.2 --format html -o r.html") else {
        panic!()
    };
    assert_eq!((report.format, report.output.is_some()), (Format::Html, true));
    let LaunchVerb::Log(log) = verb("launch log -f") else { panic!() };
    assert!(log.follow);
    assert!(matches!(verb("launch status -w"), LaunchVerb::Status(status) if status.watch));
    assert!(matches!(verb("launch list --json"), LaunchVerb::List(_)));
    assert!(matches!(verb("launch init --preset payment-canary --service shop"), LaunchVerb::Init(_)));
    let Verb::Lint(lint) = parse("lint a.yaml b.yaml --json").unwrap() else { panic!() };
    assert_eq!(lint.files.len(), 2);
}

#[test]
fn what_launches_cannot_mean_is_refused() {
    for line in [
        "launch",
        "launch plan",
        "launch start shop-2.0.2 -f l.yaml",
        "launch start -f l.yaml --override",
        "launch start shop-2.0.2 --set A=b",
        "launch plan -f l.yaml --set A",
        "launch resume --redo --undo",
        "launch sign backup",
        "launch vote go",
        "launch report --format pdf",
        "launch init --preset none",
        "launch keep",
        "lint",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn a_kept_command_keeps_all_of_its_words() {
    for line in ["launch keep 0 git --help -- x -f", "launch keep -- 0 git --help -- x -f"] {
        let LaunchVerb::Keep(keep) = verb(line) else { panic!() };
        assert_eq!(keep.words, ["0", "git", "--help", "--", "x", "-f"].map(OsString::from), "{line}");
    }
}

#[test]
fn a_name_may_be_left_out_when_only_one_can_be_meant() {
    #[track_caller]
    fn check(launches: &[(&str, State)], meant: Meant, expected: Result<&str, &str>) {
        let summary = |(name, state): &(&str, State)| LaunchSummary {
            name: (*name).into(),
            service: "shop".into(),
            state: *state,
            unattended: false,
            phase: None,
            planned: Timestamp::default(),
            started: None,
            ended: None,
        };
        let launches: Vec<_> = launches.iter().map(summary).collect();
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(only(&launches, meant), expected);
    }
    let one = [("a", State::Running), ("b", State::Idle), ("c", State::Completed)];
    check(&one, Meant::Any, Ok("a"));
    check(&one, Meant::Idle, Ok("b"));
    check(&one, Meant::Running, Ok("a"));
    check(&one[1..], Meant::Any, Ok("b"));
    check(&one[2..], Meant::Any, Ok("c"));
    check(&one[2..], Meant::Running, Err("no launch is running; `tidegate launch list` shows all"));
    let two = [("a", State::Idle), ("b", State::Idle)];
    check(&two, Meant::Any, Err("which launch? there are: a, b"));
}

#[test]
fn a_locale_that_is_not_utf_8_gets_ascii() {
    let ascii = |values: &[&str]| shows_ascii_only(values.iter().map(|value| (*value).to_owned()));
    assert!(ascii(&["C"]) && ascii(&["", "POSIX"]) && ascii(&["de_DE.ISO-8859-1"]));
    assert!(!ascii(&["en_US.UTF-8"]) && !ascii(&["C.utf8"]) && !ascii(&["", "C.UTF-8"]) && !ascii(&[]));
}
