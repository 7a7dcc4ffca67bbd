//! Who has to say yes, who is told, and what is left to read.

use serde_json::Value;
use tidegate::clock::{self, Timestamp};
use tidegate::launch::{State, Step};

use super::{AT_ONCE, RELEASE, WELL, origins, shop};
use crate::support::{Book, Site, origin, tidegate, until};

const ASKED: &str = "
checklist:
  - {id: db-backup, sign: devops, evidence: required}
  - {id: smoke, auto: [./act, smoke]}
go_nogo: {roles: [pm, qa]}
";

/// One that opened an hour ago.
fn open_window() -> String {
    let opened = Timestamp::from_millis(clock::wall().as_millis() - 3_600_000);
    format!("window: {{from: \"{opened}\", for: 24h}}\n")
}

#[tokio::test]
async fn nobody_starts_what_is_not_signed_voted_and_checked() {
    let (_blue, _green, gate, site) = shop().await;
    site.file("launch.yaml", &format!("{RELEASE}{}{ASKED}", open_window()));
    let run = async |line: &str, code: i32| {
        let arguments: Vec<&str> = line.split(' ').collect();
        site.tidegate(&arguments).await.with(code)
    };
    let plan = run("launch plan -f launch.yaml --book", 0).await;
    for part in ["db-backup", "devops", "pm", "qa", "expand", "traffic"] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    let refused = run("launch start -f launch.yaml", 3).await;
    for part in ["db-backup is not signed by devops", "pm has not voted", "qa has not voted"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert_eq!(site.calls(), ["smoke"], "what is automatic was checked");
    let refused = run("launch sign shop-2 db-backup --role devops", 2).await;
    assert!(refused.contains("evidence"), "{refused}");
    run("launch sign shop-2 db-backup --role devops --evidence s3://backups/17", 0).await;
    run("launch vote shop-2 go --role pm", 0).await;
    run("launch vote shop-2 no-go --role qa --note flaky", 0).await;
    let refused = run("launch start -f launch.yaml", 3).await;
    assert!(refused.contains("qa voted no-go: flaky"), "{refused}");
    run("launch vote shop-2 go --role qa", 0).await;
    site.order("smoke", "exit 1");
    let refused = run("launch start -f launch.yaml", 3).await;
    assert!(refused.contains("smoke was checked, and the answer was no"), "{refused}");
    site.no_order("smoke").forget();
    run("launch start -f launch.yaml", 0).await;
    assert_eq!(site.calls(), [&["smoke"], &WELL[..]].concat());
    let report = run("launch report shop-2", 0).await;
    for part in ["s3://backups/17", "devops", "pm", "qa"] {
        assert!(report.contains(part), "{part}: {report}");
    }
    drop(gate);
}

#[tokio::test]
async fn a_start_against_the_odds_needs_a_reason_that_stays_on_record() {
    let (_blue, _green, gate, site) = shop().await;
    site.file("launch.yaml", &format!("{RELEASE}{}{ASKED}", open_window()));
    let refused = site.tidegate(&["launch", "start", "-f", "launch.yaml", "--override"]).await;
    assert!(refused.code != Some(0) && refused.said.contains("reason"), "{}", refused.said);
    let start = ["launch", "start", "-f", "launch.yaml", "--override", "--reason", "the house is on fire"];
    site.tidegate(&start).await.with(0);
    let told = site.tidegate(&["launch", "log", "shop-2"]).await.with(0);
    assert!(told.contains("the house is on fire"), "{told}");
    let report = site.tidegate(&["launch", "report", "shop-2"]).await.with(0);
    assert!(report.contains("the house is on fire") && report.contains("db-backup"), "{report}");
    drop(gate);
}

#[tokio::test]
async fn a_launch_outside_its_window_does_not_start() {
    let (_blue, _green, gate, site) = shop().await;
    let later = format!("{RELEASE}window: {{from: \"2099-01-01 00:00 UTC\", for: 1h}}\n");
    site.file("launch.yaml", &later);
    let refused = site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await.with(3);
    assert!(refused.contains("2099"), "{refused}");
    assert_eq!(Book::of(&gate).state("shop-2").await, State::Idle);
    let over = format!("{RELEASE}window: {{from: \"2020-01-01 00:00 UTC\", for: 1h}}\n");
    site.file("launch.yaml", &over);
    let refused = site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await.with(2);
    assert!(refused.contains("window"), "{refused}");
    assert!(site.calls().is_empty());
}

#[tokio::test]
async fn people_are_told_of_the_start_and_of_the_end() {
    let (blue, green) = origins().await;
    let channel = origin().start().await;
    let gate = tidegate()
        .service("shop", &blue, &green)
        .with("split: {by: request}")
        .set(&format!("notify: {{team: {{url: \"{}/room\"}}}}", channel.url()))
        .start_daemon()
        .await;
    let site = Site::new(&gate, "shop");
    site.file("launch.yaml", &RELEASE.replace("comms: none", "comms: {channels: [team]}"))
        .file("plan.yaml", AT_ONCE);
    site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await.with(0);
    let told = until("the end is told", async || {
        if channel.requests() == 0 {
            return None;
        }
        let told = String::from_utf8_lossy(&channel.last().body).into_owned();
        (told.contains("shop-2") && told.to_lowercase().contains("completed")).then_some(told)
    })
    .await;
    assert!(channel.requests() >= 2, "the start, too: {told}");
}

#[tokio::test]
async fn a_launch_can_be_looked_at_while_it_runs_and_be_taken_back() {
    let (_blue, _green, gate, site) = shop().await;
    site.order("after", "while [ -f hold ]; do sleep 0.05; done").file("hold", "");
    let runner = site.begin(&["launch", "start", "-f", "launch.yaml"]);
    Book::of(&gate).has_begun("shop-2", 3, Step::Execute).await;
    let status = site.tidegate(&["launch", "status", "shop-2"]).await.with(0);
    assert!(status.contains("RUNNING") && status.contains("after"), "{status}");
    let list = site.tidegate(&["launch", "list"]).await.with(0);
    assert!(list.contains("shop-2"), "{list}");
    let json = site.tidegate(&["launch", "status", "shop-2", "--json"]).await.with(0);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["ledger"]["run"]["state"], "RUNNING", "{json}");
    // Roles have swapped by now: somebody moves half of the visitors back by hand, and last-known-good is gone.
    site.tidegate(&["shift", "shop", "50%"]).await.with(0);
    site.tidegate(&["launch", "rollback", "shop-2", "--reason", "cold feet"]).await.with(6);
    runner.ends().await.with(6);
    assert_eq!(site.calls(), [&WELL[..9], &["after-undo", "deploy-undo"]].concat());
    assert_eq!(gate.get("/").await.text(), "blue");
    let log = site.tidegate(&["launch", "log", "shop-2"]).await.with(0);
    assert!(log.contains("cold feet") && log.contains('✓'), "{log}");
}

#[tokio::test]
async fn lint_names_each_well_known_mistake_with_its_cure() {
    let (_blue, _green, _gate, site) = shop().await;
    let plain = "launch: x-1\nservice: shop\n";
    let lint = async |name: &str, text: String| {
        site.file(name, &text);
        site.tidegate(&["lint", name]).await.said
    };
    let watched = "  - {id: watch, for: 30m}\n";
    for (what, text, said) in [
        (
            "nothing watches",
            format!("{plain}phases:\n  - {{id: traffic, rollout: {{plan: none.yaml}}}}\n{watched}"),
            "gate",
        ),
        (
            "contracted too early",
            format!(
                "{plain}breaker: {{error_rate: 2%}}\nphases:\n  - {{id: contract, check: [{{schema_compatibility: {{files: [drop.sql], dialect: sqlite, allow: [drop-column items.old]}}}}], do: [./act, contract], undo: none}}\n  - {{id: traffic, rollout: canary}}\n{watched}"
            ),
            "contract",
        ),
        (
            "nobody looks",
            format!("{plain}breaker: {{error_rate: 2%}}\nphases:\n  - {{id: traffic, rollout: canary}}\n"),
            "observ",
        ),
        (
            "all at once",
            format!(
                "{plain}tier: critical\nbreaker: {{error_rate: 2%}}\nphases:\n  - {{id: traffic, shift: 100%}}\n{watched}"
            ),
            "first step of a critical launch",
        ),
    ] {
        site.file("none.yaml", "gates: none\nstages: [{weight: 50%, hold: 1h}]\n");
        site.file("drop.sql", "ALTER TABLE items DROP COLUMN old;\n");
        let found = lint("linted.yaml", text).await;
        assert!(found.to_lowercase().contains(said), "{what}: {found}");
    }
    site.tidegate(&["lint", concat!(env!("CARGO_MANIFEST_DIR"), "/config/plans/everything.yaml")])
        .await
        .with(0);
}
