//! Dark traffic: the candidate gets requests, and nobody gets its answers.

use tidegate::admin::api::{Changed, ServiceStatus};

use crate::support::gate::Asked;
use crate::support::{Gate, Mood, origin, tidegate, until};

async fn mirror(gate: &Gate, share: &str) -> Asked<Changed> {
    gate.ask("POST", "/v1/mirror", &[], &format!(r#"{{"services": {{"shop": "{share}"}}}}"#)).await
}

/// The status once so many copies were compared.
async fn compared(gate: &Gate, count: u64) -> ServiceStatus {
    until("so many were compared", async || {
        let status = gate.service("shop").await;
        Some(status).filter(|status| status.mirror.as_ref().is_some_and(|mirror| mirror.compared >= count))
    })
    .await
}

#[tokio::test]
async fn mirroring_is_set_live_shown_audited_and_survives_a_restart() {
    let (blue, green) =
        (origin().says("blue").start().await, origin().says("green").fails_every(10).start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    assert_eq!(gate.service("shop").await.mirror, None);
    let changed = mirror(&gate, "100%").await.unwrap();
    assert!(changed.saved && changed.changes[0].mirror.to_string() == "100%", "{changed:?}");
    assert_eq!(changed.undo.as_deref(), Some("tidegate mirror shop=0%"));
    let seen = gate.get_many("/", 100).await;
    assert_eq!((seen.blue(), seen.green()), (100, 0));

    let status = compared(&gate, 100).await;
    let told = status.mirror.clone().unwrap();
    assert_eq!((told.compared, told.different, told.only_candidate_failed), (100, 10, 10), "{told:?}");
    assert!(told.candidate_p99_ms.is_some() && told.stable_p99_ms.is_some());
    let green_variant = &status.variants.green;
    assert_eq!(
        (green_variant.requests, green_variant.failures, status.weight.to_string()),
        (0, 0, "0%".into())
    );
    assert!(green.last().field("x-tidegate-mirror").is_some());
    let metrics = gate.metrics().await;
    assert_eq!(metrics.count("tidegate_mirror_requests_total", &[r#"result="different""#]), 10);
    assert_eq!(metrics.count("tidegate_requests_total", &[r#"variant="green""#]), 0);
    assert_eq!(metrics.count("tidegate_mirror_ttfb_seconds_count", &[r#"answer="original""#]), 100);
    let event = gate.events(1).await.remove(0);
    assert_eq!(
        (event.what.as_str(), event.to.as_deref()),
        ("mirror", Some("green 0%, mirroring 100%")),
        "{event:?}"
    );

    let gate = gate.restarts().await;
    assert_eq!(gate.service("shop").await.mirror.unwrap().share.to_string(), "100%");
    mirror(&gate, "0%").await.unwrap();
    let before = green.requests();
    gate.get_many("/", 20).await;
    assert_eq!(green.requests(), before);
}

#[tokio::test]
async fn a_kill_ends_it_and_arm_does_not_begin_it_again() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    mirror(&gate, "100%").await.unwrap();
    gate.get_many("/", 10).await;
    compared(&gate, 10).await;
    gate.kill("shop").await;
    let (status, refused) = mirror(&gate, "1%").await.unwrap_err();
    assert_eq!(status, 423, "{refused:?}");
    gate.arm("shop").await;
    let before = green.requests();
    gate.get_many("/", 20).await;
    assert_eq!(green.requests(), before);
    assert_eq!(gate.service("shop").await.mirror.unwrap().share.millipercent(), 0);
}

#[tokio::test]
async fn users_do_not_notice_a_candidate_that_hangs() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    green.turns(Mood::Holds);
    let gate = tidegate()
        .service("shop", &blue, &green)
        .with("mirror: {share: 100%, max_in_flight: 2, timeout: 1h}")
        .start()
        .await;
    let seen = gate.get_many("/", 500).await;
    seen.assert_none_failed();
    assert_eq!(seen.blue(), 500);
    let metrics = gate.metrics().await;
    let dropped = metrics.count("tidegate_mirror_dropped_total", &[r#"reason="in_flight""#]);
    let (waiting, all) = (green.waiting(), green.requests());
    assert!(dropped >= 490 && waiting == all, "{dropped} dropped, {waiting} of {all} wait");
    assert_eq!(metrics.count("tidegate_failures_total", &[]), 0);
}

#[tokio::test]
async fn a_reload_changes_how_and_not_how_much() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("not blue").start().await);
    let service = |line: &str| tidegate().service("shop", &blue, &green).with(line);
    let mut gate = service("mirror: {share: 100%}").start().await;
    gate.get_many("/", 5).await;
    assert_eq!(compared(&gate, 5).await.mirror.unwrap().different, 0);
    gate.rewrite(service("mirror: {share: 1%, compare: [status, body]}"));
    gate.reload().await.unwrap();
    gate.get_many("/", 5).await;
    let status = compared(&gate, 10).await;
    let told = status.mirror.unwrap();
    assert_eq!((told.share.to_string(), told.body_differs, told.status_differs), ("100%".into(), 5, 0));
    assert_eq!(status.drift, ["100% of stable is mirrored to green, the file starts it at 1%"]);
}

const DARK_FIRST: &str = r#"{"plan": {"name": "plan.yaml", "text":
    "name: dark\nwarmup: 0s\ngates: {latency: none, client_errors: none}\nstages:\n  - {mirror: 100%, hold: 1s}\n  - {weight: 20%, hold: 1h}\n"}}"#;

async fn start_dark(gate: &Gate) {
    let body = DARK_FIRST.replace("\n    ", "");
    let _: serde_json::Value = gate.ask("POST", "/v1/services/shop/rollout", &[], &body).await.unwrap();
}

#[tokio::test]
async fn a_rollout_begins_in_the_dark_and_goes_on_if_copies_are_answered_as_well() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    start_dark(&gate).await;
    assert_eq!(gate.service("shop").await.mirror.unwrap().share.to_string(), "100%");
    let load = gate.load("/");
    until("it has weight", async || (gate.weight("shop").await.to_string() == "20%").then_some(())).await;
    assert!(gate.service("shop").await.mirror.unwrap().share.millipercent() == 0, "the stage is over");
    load.end().await.assert_none_failed();
}

#[tokio::test]
async fn a_candidate_that_fails_in_the_dark_never_meets_a_visitor() {
    let (blue, green) =
        (origin().says("blue").start().await, origin().says("green").fails_every(10).start().await);
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    start_dark(&gate).await;
    let load = gate.load("/");
    until("it is locked", async || gate.service("shop").await.lock).await;
    let seen = load.end().await;
    seen.assert_none_failed();
    assert_eq!(seen.green(), 0);
    let status = gate.service("shop").await;
    let lock = status.lock.unwrap();
    assert!(
        lock.reason.as_ref().is_some_and(|reason| reason.contains("the candidate alone failed")),
        "{lock:?}"
    );
    assert_eq!((status.weight.millipercent(), status.mirror.unwrap().share.millipercent()), (0, 0));
    let before = green.requests();
    gate.get_many("/", 20).await;
    assert_eq!(green.requests(), before);
}
