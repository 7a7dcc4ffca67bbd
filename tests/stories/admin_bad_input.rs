//! What the admin socket does not understand changes nothing, and it says so in one sentence.

use tidegate::admin::api::{Problem, ProblemKind, Status};
use tokio::net::UnixStream;

use crate::support::{Gate, Wire, get, origin, tidegate, until};

async fn gate() -> (Gate, [crate::support::Origin; 2]) {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    gate.shift("shop", "10%").await;
    (gate, [blue, green])
}

/// What must not have changed.
fn in_force(status: &Status) -> (u64, Vec<(String, String, u64, bool)>) {
    let service = |service: &tidegate::admin::api::ServiceStatus| {
        (service.name.clone(), service.weight.to_string(), service.epoch, service.lock.is_some())
    };
    (status.generation, status.services.iter().map(service).collect())
}

/// Method, path, fields and body; status and kind of the answer.
type Row<'r> = (&'r str, &'r str, &'r [(&'r str, &'r str)], &'r str, u16, ProblemKind);

#[track_caller]
fn assert_one_sentence(problem: &Problem) {
    let text = &problem.error;
    assert!(!text.is_empty() && text.len() < 400 && !text.contains('\n'), "{text:?}");
    assert!(!text.ends_with('.') && !text.contains(". "), "{text:?}");
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    use ProblemKind::{Conflict, Invalid, KeyReused, MethodNotAllowed, NotFound, Stale, TooLarge};
    let (gate, _origins) = gate().await;
    let key = [("idempotency-key", "used")];
    gate.shift_all(&[("shop", "10%")], &key).await.unwrap();
    let before = in_force(&gate.status().await);

    let shift = |share: &str| format!(r#"{{"services":{{"shop":"{share}"}}}}"#);
    let huge = format!(r#"{{"services":{{"shop":"{}"}}}}"#, "x".repeat(10 << 20));
    let long = "x".repeat(200);
    let none: &[(&str, &str)] = &[];
    let rows: &[Row<'_>] = &[
        ("POST", "/v1/shift", none, "{", 400, Invalid),
        ("POST", "/v1/shift", none, "\u{0}\u{1}", 400, Invalid),
        ("POST", "/v1/shift", none, "[]", 400, Invalid),
        ("POST", "/v1/shift", none, "", 400, Invalid),
        ("POST", "/v1/shift", none, r#"{"services":{}}"#, 400, Invalid),
        ("POST", "/v1/shift", none, r#"{"services":{"shop":10}}"#, 400, Invalid),
        ("POST", "/v1/shift", none, r#"{"services":{"shop":"20%"},"wieght":1}"#, 400, Invalid),
        ("POST", "/v1/shift", none, r#"{"services":{"nope":"10%"}}"#, 404, NotFound),
        ("POST", "/v1/shift", none, r#"{"services":{"shop":"20%","nope":"10%"}}"#, 404, NotFound),
        ("POST", "/v1/shift", none, &shift("101%"), 400, Invalid),
        ("POST", "/v1/shift", none, &shift("-1%"), 400, Invalid),
        ("POST", "/v1/shift", none, &shift("0.0001%"), 400, Invalid),
        ("POST", "/v1/shift", none, &shift("5"), 400, Invalid),
        ("POST", "/v1/shift", none, &shift("NaN%"), 400, Invalid),
        ("POST", "/v1/shift", none, &shift("1e9%"), 400, Invalid),
        ("POST", "/v1/shift", none, &shift(""), 400, Invalid),
        ("POST", "/v1/shift", none, &huge, 413, TooLarge),
        ("POST", "/v1/shift", &[("if-match", "1")], &shift("20%"), 412, Stale),
        ("POST", "/v1/shift", &[("if-match", "soon")], &shift("20%"), 400, Invalid),
        ("POST", "/v1/shift", &[("if-match", "-1")], &shift("20%"), 400, Invalid),
        ("POST", "/v1/shift", &key, &shift("20%"), 422, KeyReused),
        ("POST", "/v1/shift", &[("idempotency-key", "")], &shift("20%"), 400, Invalid),
        ("POST", "/v1/shift", &[("idempotency-key", &long)], &shift("20%"), 400, Invalid),
        ("POST", "/v1/kill", none, "{}", 400, Invalid),
        ("POST", "/v1/kill", none, r#"{"services":["nope"]}"#, 404, NotFound),
        ("POST", "/v1/kill", none, r#"{"services":["shop"],"all":true}"#, 400, Invalid),
        ("POST", "/v1/arm", none, r#"{"services":["shop"]}"#, 400, Invalid),
        ("POST", "/v1/arm", none, r#"{"services":["shop"],"note":" "}"#, 400, Invalid),
        ("POST", "/v1/services/nope/deploy", none, r#"{"endpoints":["http://[::1]:1"]}"#, 404, NotFound),
        ("POST", "/v1/services/shop/deploy", none, r#"{"endpoints":["http://[::1]:1"]}"#, 409, Conflict),
        ("POST", "/v1/services/shop/deploy", none, r#"{"endpoints":["gopher://a"]}"#, 400, Invalid),
        ("GET", "/v1/services/nope", none, "", 404, NotFound),
        ("GET", "/v1/services/shop/explain", none, "", 400, Invalid),
        ("GET", "/v1/services/shop/explain?visitor=xyz", none, "", 400, Invalid),
        ("GET", "/v1/wait?service=nope&generation=1", none, "", 404, NotFound),
        ("GET", "/v1/wait?service=shop&generation=x", none, "", 400, Invalid),
        ("GET", "/v1/wait", none, "", 400, Invalid),
        ("GET", "/v1/events?last=1000000", none, "", 400, Invalid),
        ("GET", "/v1/events?last=-1", none, "", 400, Invalid),
        ("POST", "/v1/demo/break", none, "{}", 404, NotFound),
        ("GET", "/v1/shift", none, "", 405, MethodNotAllowed),
        ("DELETE", "/v1/status", none, "", 405, MethodNotAllowed),
        ("GET", "/", none, "", 404, NotFound),
        ("GET", "/v2/status", none, "", 404, NotFound),
        ("GET", "/v1/services/..%2f..%2fetc", none, "", 404, NotFound),
    ];
    for (method, path, fields, body, status, kind) in rows {
        let shown = &body[..body.len().min(60)];
        let refused = gate.ask::<serde_json::Value>(method, path, fields, body).await;
        let Err((got, problem)) = refused else { panic!("{method} {path} {fields:?} {shown} was accepted") };
        assert_eq!((got, problem.kind), (*status, *kind), "{method} {path} {shown}: {problem:?}");
        assert_one_sentence(&problem);
    }
    assert_eq!(in_force(&gate.status().await), before);
    assert_eq!(gate.metrics().await.count("tidegate_locked", &["service=\"shop\""]), 0);
}

#[tokio::test]
async fn a_share_without_its_unit_is_asked_back() {
    let (gate, _origins) = gate().await;
    let (_, problem) = gate.shift_all(&[("shop", "5")], &[]).await.unwrap_err();
    assert!(problem.error.contains("5%"), "{}", problem.error);
}

#[tokio::test]
async fn control_characters_do_not_reach_the_log() {
    let (gate, _origins) = gate().await;
    let body = r#"{"services":["shop"],"reason":"red \u001b[31m\nalert","as":"a\u0007b"}"#;
    let _: serde_json::Value = gate.ask("POST", "/v1/kill", &[], body).await.unwrap();
    // The log has a thread of its own.
    let event = until("the kill is in the log", async || {
        gate.events(1).await.into_iter().find(|event| event.claimed.is_some())
    })
    .await;
    assert_eq!(event.reason.as_deref(), Some("red  [31m alert"));
    assert_eq!(event.claimed.as_deref(), Some("a b"));
}

#[tokio::test]
async fn bytes_that_are_no_request_end_their_own_connection_only() {
    let (gate, _origins) = gate().await;
    for bytes in [&b"\x16\x03\x01\x02\x00"[..], b"hello\r\n\r\n", b"GET  HTTP/1.1\r\n\r\n", &[0; 4096]] {
        let mut wire = Wire::new(UnixStream::connect(gate.socket()).await.unwrap());
        wire.write(bytes).await.unwrap();
        let answer = wire.rest().await.unwrap_or_default();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    let mut wire = Wire::new(UnixStream::connect(gate.socket()).await.unwrap());
    assert_eq!(wire.ask(&get("/v1/status", &[])).await.unwrap().status(), 200);
}
