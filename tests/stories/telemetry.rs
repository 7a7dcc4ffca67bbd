//! Origins, status, metrics and access log count the same.

use serde_json::Value;

use crate::support::{Gate, Load, Mood, connect, get, origin, tidegate, until};

async fn all_finished(gate: &Gate) {
    until("nothing is in flight", async || {
        (gate.metrics().await.count("tidegate_in_flight", &[]) == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn metrics_and_status_agree_with_what_the_origins_counted() {
    let blue = origin().says("blue").start().await;
    let green = origin().says("green").fails_every(20).start().await;
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    gate.shift("shop", "30%").await;
    let generation = gate.shift("shop", "40%").await.generation;
    let seen = gate.get_many("/", 5_000).await;
    all_finished(&gate).await;

    let (metrics, status) = (gate.metrics().await, gate.service("shop").await);
    let count = |name, variant: &str, more: &[&str]| {
        let variant = format!("variant=\"{variant}\"");
        metrics.count(name, &[&["service=\"shop\"", variant.as_str()], more].concat())
    };
    for (variant, origin, status) in
        [("blue", &blue, &status.variants.blue), ("green", &green, &status.variants.green)]
    {
        assert_eq!(count("tidegate_requests_total", variant, &["method=\"GET\""]), origin.requests());
        assert_eq!(count("tidegate_assignments_total", variant, &["reason=\"draw\""]), origin.requests());
        assert_eq!(count("tidegate_request_duration_seconds_count", variant, &[]), origin.requests());
        assert_eq!(count("tidegate_upstream_ttfb_seconds_count", variant, &[]), origin.requests());
        assert_eq!(status.requests, origin.requests());
        assert_eq!(count("tidegate_failures_total", variant, &[]), status.failures);
    }
    let failures = green.requests() / 20;
    assert_eq!(status.variants.green.failures, failures);
    assert_eq!(count("tidegate_requests_total", "green", &["code=\"500\""]), failures);
    assert_eq!(seen.failures.len() as u64, failures);
    assert_eq!(blue.requests() + green.requests(), 5_000);
    assert_eq!(metrics.sum("tidegate_weight_ratio", &["variant=\"green\""]), 0.4);
    assert_eq!(metrics.count("tidegate_generation", &[]), generation);
    assert_eq!(metrics.count("tidegate_endpoint_healthy", &[]), 2);
    assert_eq!(metrics.count("tidegate_state_unsaved", &[]), 0);
}

#[tokio::test]
async fn every_request_has_its_line_in_the_access_log() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let file = crate::support::gate::new_folder();
    let path = file.path().join("access.log");
    let gate = tidegate()
        .set(&format!("access_log: {{write: all, file: {}}}", path.display()))
        .service("shop", &blue, &green)
        .with("split: {by: request}")
        .start()
        .await;
    gate.shift("shop", "50%").await;
    let load = Load::begin(gate.address(), |number| {
        let path = format!("/item?token=secret-{number}");
        (number < 500).then(|| get(&path, &[("x-request-id", "not-from-you")]))
    });
    let seen = load.result().await;
    seen.assert_none_failed();
    gate.send(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    drop(gate.stops().await);

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 501);
    assert!(!text.contains("secret") && !text.contains("not-from-you"));
    let of = |variant: &str| lines.iter().filter(|line| line["variant"] == variant).count();
    assert_eq!((of("blue"), of("green")), (seen.blue(), seen.green()));
    let line = lines.iter().find(|line| line["variant"] == "green").unwrap();
    for (key, value) in [
        ("method", Value::from("GET")),
        ("path", "/item".into()),
        ("host", "gate.test".into()),
        ("status", 200.into()),
        ("bytes", 5.into()),
        ("service", "shop".into()),
        ("reason", "draw".into()),
        ("client_addr", "127.0.0.1".into()),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    for key in ["time", "request_id", "duration_us", "ttfb_us", "generation", "endpoint"] {
        assert!(!line[key].is_null(), "{key} in {line}");
    }
    let refused: Vec<_> = lines.iter().filter(|line| line["status"] == 400).collect();
    assert!(refused.len() == 1 && refused[0]["service"].is_null());
}

#[tokio::test]
async fn readyz_says_draining_while_livez_still_lives() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let mut gate = tidegate().service("shop", &blue, &green).start().await;
    let pages = async |gate: &Gate| {
        (gate.telemetry_page("/readyz").await.status(), gate.telemetry_page("/livez").await.status())
    };
    assert_eq!(pages(&gate).await, (200, 200));
    blue.turns(Mood::Holds);
    let mut client = connect(gate.address()).await.unwrap();
    client.write(&get("/", &[])).await.unwrap();
    until("blue has the request", async || (blue.waiting() == 1).then_some(())).await;
    gate.asks_to_stop(false);
    until("it drains", async || (pages(&gate).await == (503, 200)).then_some(())).await;
    assert!(gate.status().await.draining);
    blue.turns(Mood::Answers);
    assert_eq!(client.answer().await.unwrap().text(), "blue");
    assert!(gate.has_ended().await);
}
