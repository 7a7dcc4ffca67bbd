use std::path::Path;

use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::routes::{Peer, router};
use super::*;
use crate::admin::api::{PLAN_BYTES_MAX, Stopping};
use crate::clock;
use crate::config::{self, Overrides};
use crate::control::{Control, Opened};
use crate::telemetry::Tallies;
use crate::traffic::{Key, Keys};

/// A control plane with one service, `shop`, whose green is 2.0.1; it makes no plans, and says what it was asked for.
struct Server {
    control: Control,
    ties: std::sync::Arc<Ties>,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "state: {}\nservices:\n  shop: {{blue: http://127.0.0.1:1, green: {{endpoints: [http://127.0.0.1:2], version: 2.0.1}}}}\n",
            folder.path().join("state").display()
        );
        let config = config::parse(&text, "test", Path::new("."), &Overrides::default()).unwrap();
        let opened = Opened::open(&config.control.state).unwrap();
        let control = Control::start(opened, config.control.services, Tallies::new(1)).unwrap();
        let keys = Keys::new(Key::new(&[7; 32]).unwrap(), Vec::new());
        let ties = Ties {
            control: control.clone(),
            keys: std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(keys)),
            host: "web-1".to_owned(),
            started: clock::wall(),
            listen: Vec::new(),
            secure: Box::new(Vec::new),
            draining: Box::new(|| false),
            drift: Box::new(Vec::new),
            reload: Box::new(|_, _| Box::pin(async { unreachable!() })),
            stop: Box::new(|_, _| Stopping { drain_ms: 0 }),
            upgrade: Box::new(|_, _| Box::pin(async { unreachable!() })),
            plan: Box::new(|request, _| Err(format!("2 problems\n  {request:?}"))),
            admit: Box::new(|_, _| Ok(Vec::new())),
            speaks: Box::new(|_, _| Ok(())),
            breaks: None,
        };
        Self { control, ties: std::sync::Arc::new(ties), _folder: folder }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let (one, _other) = UnixStream::pair().unwrap();
        let router = router(self.ties.clone()).layer(axum::Extension(Peer::of(&one)));
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path).body(body).unwrap();
        let answer = TowerToHyperService::new(router).call(request).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask(Method::POST, path, &body).await
    }

    async fn read(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path, &Value::Null).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.control.stop();
    }
}

#[tokio::test]
async fn what_cannot_be_meant_about_rollouts_is_refused_by_kind() {
    let server = Server::start();
    let plan = |bytes: usize| json!({"name": "p.yaml", "text": "#".repeat(bytes)});
    for (path, body, status, said) in [
        ("/v1/services/nope/rollout", json!({}), 404, "there is shop"),
        ("/v1/services/nope/rollout/pause", json!({}), 404, "there is shop"),
        ("/v1/services/nope/signal", json!({"name": "x"}), 404, "there is shop"),
        ("/v1/services/nope/metrics/x", json!({"candidate": 1.0}), 404, "there is shop"),
        ("/v1/plan", json!({"service": "nope"}), 404, "there is shop"),
        ("/v1/plan", json!({}), 400, "service"),
        ("/v1/services/shop/rollout/fly", json!({}), 404, "pause, resume, advance, promote and rollback"),
        ("/v1/services/shop/rollout", json!({"shedule": "canary"}), 400, "shedule"),
        ("/v1/services/shop/rollout", json!({"schedule": "canary", "plan": plan(1)}), 400, "not both"),
        ("/v1/services/shop/rollout", json!({"plan": plan(PLAN_BYTES_MAX + 1)}), 413, "longer than 256 KiB"),
        ("/v1/services/shop/rollout", json!({"plan": plan(PLAN_BYTES_MAX)}), 400, "2 problems\n"),
        ("/v1/services/shop/rollout", json!({"schedule": " "}), 400, "the schedule is empty"),
        ("/v1/services/shop/rollout", json!({"name": "n".repeat(129)}), 400, "longer than 128 bytes"),
        ("/v1/services/shop/signal", json!({"name": ""}), 400, "empty"),
        ("/v1/services/shop/signal", json!({}), 400, "name"),
        ("/v1/services/shop/metrics/conversion", json!({"candidate": 1.0}), 404, "conversion"),
        ("/v1/services/shop/metrics/conversion", json!({"candidate": "1"}), 400, "not what was expected"),
        ("/v1/freeze", json!({"on": true}), 400, "name a service, or say all"),
        ("/v1/freeze", json!({"all": true}), 400, "on"),
    ] {
        let (got, problem) = server.post(path, body.clone()).await;
        let text = problem["error"].as_str().unwrap_or_default();
        assert!(got == status && text.contains(said), "{path} {body}: {got} {problem}");
    }
}

#[tokio::test]
async fn a_plan_is_asked_for_with_the_candidates_version() {
    let server = Server::start();
    let (_, own) = server.post("/v1/plan", json!({"service": "shop", "schedule": "canary"})).await;
    let text = own["error"].as_str().unwrap();
    assert!(
        text.contains(r#"schedule: Some("canary")"#) && text.contains(r#"version: Some("2.0.1")"#),
        "{text}"
    );
    let (_, given) = server.post("/v1/plan", json!({"service": "shop", "version": "3\u{1b}"})).await;
    assert!(given["error"].as_str().unwrap().contains(r#"version: Some("3 ")"#), "{given}");
}

#[tokio::test]
async fn what_there_is_not_is_told_as_such() {
    let server = Server::start();
    assert_eq!(server.read("/v1/rollouts").await, (200, json!([])));
    let (status, problem) = server.read("/v1/services/shop/rollout").await;
    assert_eq!((status, &problem["kind"]), (404, &json!("not_found")));
    let (status, story) = server.read("/v1/services/shop/failures").await;
    assert_eq!((status, &story["candidate"]), (200, &json!("green")));
    assert_eq!(story["sentences"][0], "green got no request since this process started");
    assert_eq!(server.read("/v1/services/shop").await.1.get("rollout"), None);
}

#[tokio::test]
async fn a_launch_is_planned_started_and_noted_over_the_socket() {
    let server = Server::start();
    for check in server.control.checks() {
        server.control.checked(&check, Ok(()));
    }
    let put = async |name: &str, launch: Value, dry_run: bool| {
        let body = json!({"launch": launch, "dry_run": dry_run});
        server.ask(Method::PUT, &format!("/v1/launches/{name}"), &body).await
    };
    let phase = json!({
        "id": "observe", "action": {"do": "observe", "lasts": {"secs": 1, "nanos": 0}}, "undo": {"undo": "none"},
        "timeout": {"secs": 60, "nanos": 0}, "undo_timeout": {"secs": 60, "nanos": 0}, "rollback_on_failure": true,
    });
    let launch = json!({"name": "l", "service": "shop", "phases": [phase]});
    let mut empty = launch.clone();
    empty["phases"] = json!([]);
    let (status, answer) = put("l", empty, false).await;
    assert!(status == 400 && answer["error"].as_str().unwrap().contains("there is none"), "{answer}");
    assert_eq!(put("other", launch.clone(), false).await.0, 400);
    let (status, view) = put("l", launch.clone(), true).await;
    assert_eq!((status, &view["ledger"]["seq"]), (200, &json!(1)), "{view}");
    assert_eq!(server.read("/v1/launches/l").await.0, 404, "it was only looked at");
    assert_eq!(put("l", launch, false).await.0, 200);
    assert_eq!(server.post("/v1/launches/l/start", json!({"holder": " "})).await.0, 400);
    let (status, leased) = server.post("/v1/launches/l/start", json!({"holder": "here"})).await;
    assert_eq!((status, &leased["fence"]), (200, &json!(2)), "{leased}");
    for (path, body, status) in [
        ("start", json!({"holder": "here"}), 409),
        ("lease", json!({"holder": "there"}), 409),
        ("sign", json!({"item": "x", "role": "qa"}), 409),
        (
            "note",
            json!({"fence": 2, "after": 1, "note": {"note": "began", "phase": 0, "step": "validate"}}),
            412,
        ),
        (
            "note",
            json!({"fence": 1, "after": 2, "note": {"note": "began", "phase": 0, "step": "validate"}}),
            409,
        ),
        (
            "note",
            json!({"fence": 2, "after": 2, "note": {"note": "began", "phase": 0, "step": "validate"}}),
            200,
        ),
        (
            "note",
            json!({"fence": 2, "after": 2, "note": {"note": "began", "phase": 0, "step": "validate"}}),
            200,
        ),
        ("heartbeat", json!({"fence": 1}), 409),
        ("heartbeat", json!({"fence": 2}), 200),
        ("fly", json!({}), 404),
    ] {
        let (got, answer) = server.post(&format!("/v1/launches/l/{path}"), body.clone()).await;
        assert_eq!(got, status, "{path} {body}: {answer}");
    }
    let (_, status) = server.read("/v1/services/shop").await;
    assert_eq!(status["launch"]["phase"], json!(["observe", "validate"]));
    let (_, records) = server.read("/v1/launches/l/records?after=2").await;
    assert_eq!((records.as_array().unwrap().len(), &records[0]["entry"]), (1, &json!("began")));
    assert_eq!(server.read("/v1/launches/l/records?after=x").await.0, 400);
    let (_, view) = server.post("/v1/launches/l/rollback", json!({"reason": "enough"})).await;
    assert_eq!(view["ledger"]["run"]["stopped"], json!({"by": "person", "reason": "enough"}));
    assert_eq!(server.read("/v1/launches").await.1[0]["name"], "l");
}
