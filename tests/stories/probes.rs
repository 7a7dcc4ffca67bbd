//! Requests to endpoints that are no traffic: before a release is let near users, somebody asks.

use serde_json::{Value, json};
use tidegate::admin::api::{ProbeAnswer, Probed, WarmupAnswer};

use crate::support::gate::Asked;
use crate::support::http::Wire;
use crate::support::{Gate, Mood, Origin, origin, tidegate, until};

async fn shop() -> (Origin, Origin, Gate) {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green is up").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    (blue, green, gate)
}

async fn probe(gate: &Gate, body: Value) -> Asked<ProbeAnswer> {
    gate.ask("POST", "/v1/services/shop/probe", &[], &body.to_string()).await
}

async fn warm_up(gate: &Gate, body: Value) -> Asked<WarmupAnswer> {
    gate.ask("POST", "/v1/services/shop/warmup", &[], &body.to_string()).await
}

fn get(path: &str, from: u16, to: u16) -> Value {
    json!({"path": path, "expected": [[from, to]], "retries": 0})
}

/// What the only endpoint said, request by request.
fn only(answer: &ProbeAnswer) -> &[Probed] {
    assert_eq!(answer.endpoints.len(), 1, "{answer:?}");
    answer.endpoints.values().next().unwrap()
}

#[tokio::test]
async fn every_endpoint_of_the_candidate_is_asked_and_none_of_it_is_traffic() {
    let (blue, green, gate) = shop().await;
    let second = origin().says("green is up").start().await;
    gate.endpoint("add", "green", &second.url()).await.unwrap();
    let requests = json!([get("/up", 200, 299), {"path": "/cart?x=1", "expected": [[200, 200]], "contains": "is up", "retries": 0}]);
    let answer = probe(&gate, json!({"requests": requests, "timeout_ms": 20_000})).await.unwrap();
    assert!(answer.passed() && answer.variant.as_str() == "green", "{answer:?}");
    let asked: Vec<_> = answer.endpoints.keys().cloned().collect();
    let mut expected = [green.url(), second.url()];
    expected.sort();
    assert_eq!(asked, expected);
    for answers in answer.endpoints.values() {
        assert_eq!(answers.iter().map(|probed| &*probed.path).collect::<Vec<_>>(), ["/up", "/cart?x=1"]);
        assert!(answers.iter().all(|probed| probed.status == Some(200) && probed.attempts == 1));
    }
    let last = green.last();
    assert!(last.head.starts_with("GET /cart?x=1 HTTP/1.1\r\n"), "{}", last.head);
    assert_eq!(last.field("user-agent"), Some("tidegate-probe"));
    assert_eq!(last.field("host"), Some(&*green.address().to_string()));
    assert_eq!((blue.requests(), gate.metrics().await.0.contains("tidegate_requests_total{")), (0, false));

    // Who is drained is not asked.
    gate.endpoint("drain", "green", &second.url()).await.unwrap();
    let answer =
        probe(&gate, json!({"requests": [get("/up", 200, 299)], "timeout_ms": 20_000})).await.unwrap();
    only(&answer);
}

#[tokio::test]
async fn what_is_not_as_expected_is_said_with_what_it_was() {
    let (blue, green, gate) = shop().await;
    #[track_caller]
    fn check(answer: &ProbeAnswer, said: &[(bool, &str)]) {
        assert!(!answer.passed());
        let found: Vec<_> =
            only(answer).iter().map(|probed| (probed.passed, probed.why.as_deref().unwrap_or(""))).collect();
        assert_eq!(found, said);
    }
    // The first that is wrong is the last that is asked for.
    let requests = json!([get("/up", 200, 200), get("/made", 201, 204), get("/never", 200, 200)]);
    let answer = probe(&gate, json!({"requests": requests, "timeout_ms": 20_000})).await.unwrap();
    check(&answer, &[(true, ""), (false, "GET /made answered 200")]);
    let requests = json!([{"path": "/up", "expected": [[200, 200]], "contains": "2.0.2", "retries": 0}]);
    let answer = probe(&gate, json!({"requests": requests, "timeout_ms": 20_000})).await.unwrap();
    check(&answer, &[(false, "GET /up answered 200 without \"2.0.2\" in its first 64 KiB")]);

    green.turns(Mood::Holds);
    let answer = probe(&gate, json!({"requests": [get("/up", 200, 200)], "timeout_ms": 50})).await.unwrap();
    assert!(only(&answer)[0].why.as_deref().unwrap().starts_with("no answer within "), "{answer:?}");
    green.turns(Mood::Resets);
    let answer =
        probe(&gate, json!({"requests": [get("/up", 200, 200)], "timeout_ms": 20_000})).await.unwrap();
    assert!(only(&answer)[0].why.as_deref().unwrap().starts_with("GET /up: "), "{answer:?}");
    drop(green);
    let answer =
        probe(&gate, json!({"requests": [get("/up", 200, 200)], "timeout_ms": 20_000})).await.unwrap();
    assert!(only(&answer)[0].why.as_deref().unwrap().starts_with("connect to "), "{answer:?}");
    // Nobody asked for it, but there is another variant.
    let answer =
        probe(&gate, json!({"variant": "blue", "requests": [get("/up", 200, 200)], "timeout_ms": 20_000}));
    assert!(answer.await.unwrap().passed() && blue.requests() == 1);
}

#[tokio::test]
async fn an_endpoint_that_comes_up_late_passes_at_a_later_attempt() {
    let (_blue, green, gate) = shop().await;
    green.turns(Mood::Fails);
    let patient = json!([{"path": "/up", "expected": [[200, 200]], "retries": 100}]);
    let asking = probe(&gate, json!({"requests": patient, "timeout_ms": 60_000}));
    let turning = async {
        until("it has been asked", async || (green.requests() > 0).then_some(())).await;
        green.turns(Mood::Answers);
    };
    let (answer, ()) = tokio::join!(asking, turning);
    let answer = answer.unwrap();
    assert!(answer.passed() && only(&answer)[0].attempts >= 2, "{answer:?}");
}

#[tokio::test]
async fn without_a_request_it_is_asked_as_health_checks_do() {
    let (blue, green) = (origin().start().await, origin().start().await);
    let gate = tidegate()
        .service("shop", &blue, &green)
        .with("health: {path: /healthz, interval: 1h}")
        .start()
        .await;
    green.turns(Mood::Fails);
    let answer = probe(&gate, json!({"requests": [], "timeout_ms": 20_000})).await.unwrap();
    let [probed] = only(&answer) else { panic!("{answer:?}") };
    assert_eq!((&*probed.path, probed.status, probed.passed), ("/healthz", Some(500), false));

    let gate = tidegate().service("shop", &blue, &green).start().await;
    let answer = probe(&gate, json!({"requests": [], "timeout_ms": 20_000})).await.unwrap();
    assert!(answer.passed() && only(&answer)[0].status.is_none(), "it accepts connections: {answer:?}");
}

#[tokio::test]
async fn a_warm_up_ends_when_every_endpoint_gave_enough() {
    let (_blue, green, gate) = shop().await;
    let warmup =
        json!({"paths": ["/", "/cart"], "rps": 1000, "min_hits": 50, "timeout": {"secs": 20, "nanos": 0}});
    let answer = warm_up(&gate, json!({"warmup": warmup})).await.unwrap();
    let label = answer.hits.keys().next().unwrap().clone();
    assert!(answer.reached && answer.hits[&label] == 50 && answer.failures.is_empty(), "{answer:?}");
    assert_eq!((green.requests(), green.last().field("user-agent")), (50, Some("tidegate-probe")));
    assert!(green.last().head.starts_with("GET /cart "), "paths take turns");

    // What was reached before counts.
    let answer = warm_up(&gate, json!({"warmup": warmup, "done": {&label: 45}})).await.unwrap();
    assert!(answer.reached && green.requests() == 55, "{answer:?}");

    green.turns(Mood::Fails);
    let brief =
        json!({"paths": ["/"], "rps": 1000, "min_hits": 5, "timeout": {"secs": 0, "nanos": 100_000_000}});
    let answer = warm_up(&gate, json!({"warmup": brief})).await.unwrap();
    assert!(!answer.reached && answer.hits[&label] == 0 && answer.failures[&label] > 0, "{answer:?}");
}

#[tokio::test]
async fn a_warm_up_ends_when_nobody_waits_for_it() {
    let (_blue, green, gate) = shop().await;
    let body = json!({"warmup": {"paths": ["/"], "rps": 1000, "min_hits": 100_000, "timeout": {"secs": 60, "nanos": 0}}}).to_string();
    let mut caller = Wire::new(tokio::net::UnixStream::connect(gate.socket()).await.unwrap());
    let head = format!(
        "POST /v1/services/shop/warmup HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    caller.write(format!("{head}{body}").as_bytes()).await.unwrap();
    until("it has begun", async || (green.requests() > 10).then_some(())).await;
    drop(caller);
    let (mut before, mut quiet) = (0, 0);
    until("it is quiet", async || {
        let now = green.requests();
        (before, quiet) = (now, if now == before { quiet + 1 } else { 0 });
        (quiet == 50).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused() {
    let (_blue, green, gate) = shop().await;
    let many: Vec<_> = (0..101).map(|_| get("/", 200, 200)).collect();
    for (body, status, said) in [
        (json!({"requests": many, "timeout_ms": 1}), 400, "at most 100 requests"),
        (json!({"requests": [], "timeout_ms": 0}), 400, "1 ms to 60 s"),
        (json!({"requests": [], "timeout_ms": 60_001}), 400, "1 ms to 60 s"),
        (json!({"requests": [], "timeout_ms": 1, "variant": "red"}), 400, "red"),
        (json!({"requests": [get("up", 200, 200)], "timeout_ms": 1}), 400, "begins with /"),
        (json!({"requests": [get("/\r\nx: y", 200, 200)], "timeout_ms": 1}), 400, "begins with /"),
        (json!({"requests": [get("/", 300, 200)], "timeout_ms": 1}), 400, "ranges"),
        (json!({"requests": [{"path": "/", "expected": [], "retries": 0}], "timeout_ms": 1}), 400, "ranges"),
        (
            json!({"requests": [{"path": "/", "expected": [[200, 200]], "retries": 101}], "timeout_ms": 1}),
            400,
            "retries",
        ),
    ] {
        let (got, problem) = probe(&gate, body.clone()).await.unwrap_err();
        assert!(got == status && problem.error.contains(said), "{body}: {got} {}", problem.error);
    }
    let warmup = |rps: u32, hits: u64, path: &str, secs: u32| json!({"warmup": {"paths": [path], "rps": rps, "min_hits": hits, "timeout": {"secs": secs, "nanos": 0}}});
    for (body, said) in [
        (warmup(0, 1, "/", 1), "1 to 1000 requests"),
        (warmup(1001, 1, "/", 1), "1 to 1000 requests"),
        (warmup(1, 0, "/", 1), "1 to 100000 answers"),
        (warmup(1, 1, "x", 1), "begins with /"),
        (warmup(1, 1, "/", 0), "timeout"),
    ] {
        let (got, problem) = warm_up(&gate, body.clone()).await.unwrap_err();
        assert!(got == 400 && problem.error.contains(said), "{body}: {got} {}", problem.error);
    }
    let (status, _) = gate
        .ask::<Value>("POST", "/v1/services/nope/probe", &[], r#"{"requests":[],"timeout_ms":1}"#)
        .await
        .unwrap_err();
    assert_eq!(status, 404);
    gate.endpoint("drain", "green", &green.url()).await.unwrap();
    let (status, problem) = probe(&gate, json!({"requests": [], "timeout_ms": 1})).await.unwrap_err();
    assert!(status == 409 && problem.error.contains("green has no endpoint"), "{}", problem.error);
    assert_eq!(green.requests(), 0);
}
