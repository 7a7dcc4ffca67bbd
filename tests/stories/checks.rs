//! What is asked before and after a phase, of the real thing or of what stands in for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tidegate::launch::{Check, CheckKind, Command, Launch, Limit, Outcome, Policy, Variable, Verdict};
use tidegate::runner::check::{Asking, ask};
use tidegate::traffic::Variant;

use crate::support::origin;
use crate::support::origin::Mood;
use crate::support::peer::{Peer, python_has};
use crate::support::registry::{Door, Registry};

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "a-token-of-the-provider";

fn launch() -> Launch {
    let launch = json!({"name": "shop-2.0.2", "service": "shop", "phases": []});
    let mut launch: Launch = serde_json::from_value(launch).unwrap();
    launch.variables =
        BTreeMap::from([("TAG".into(), Variable::Value("2.0.2".into())), ("TOKEN".into(), Variable::Secret)]);
    launch
}

/// Asks, with a runner whose commands object to whatever they are told of.
async fn asked_within(timeout: Duration, kind: CheckKind) -> Outcome {
    let asked = tokio::task::spawn_blocking(move || {
        let launch = launch();
        let expand = |text: &str| {
            let value = |name: &str| match name {
                "TAG" => Some("2.0.2".to_owned()),
                "TOKEN" => Some(SECRET.to_owned()),
                _ => None,
            };
            tidegate::launch::expand(text, value).map_err(|name| format!("{name} is not set"))
        };
        let mut run = |_: &Command, input: Option<Vec<u8>>, _: Duration| {
            let input: Value = serde_json::from_slice(&input.unwrap_or_default()).unwrap_or_default();
            let said = format!("[\"told of {}\"]", input["name"].as_str().unwrap_or("nothing"));
            Outcome { verdict: Verdict::Passed, said, took_ms: 0 }
        };
        let mut asking = Asking {
            launch: &launch,
            candidate: Variant::Green,
            expand: &expand,
            client: None,
            run: &mut run,
            folder: Path::new("."),
        };
        ask(&Check { kind, timeout }, &mut asking)
    });
    asked.await.unwrap()
}

async fn asked(kind: CheckKind) -> Outcome {
    asked_within(PATIENCE, kind).await
}

#[track_caller]
fn passed(outcome: &Outcome, said: &str) {
    assert_eq!(outcome.verdict, Verdict::Passed, "{}", outcome.said);
    assert!(outcome.said.contains(said), "{}", outcome.said);
}

#[track_caller]
fn failed(outcome: &Outcome, said: &str) {
    assert_eq!(outcome.verdict, Verdict::Failed, "{}", outcome.said);
    assert!(outcome.said.contains(said), "{}", outcome.said);
}

#[tokio::test]
async fn flags_are_what_a_real_provider_says_they_are() {
    if !python_has("openfeature.contrib.provider.ofrep").await {
        return;
    }
    let mut server = Peer::start("ofrep_peer.py", &[]);
    let provider = format!("http://127.0.0.1:{}", server.says().await);

    // The server says what the protocol's own client expects of one.
    let mut client = Peer::start("ofrep_peer.py", &[&provider]);
    assert_eq!(client.asked("boolean new_checkout shop-2.0.2").await, "true");
    assert_eq!(client.asked("boolean new_checkout somebody").await, "false");
    assert_eq!(client.asked("string colour somebody").await, "\"red\"");
    assert_eq!(client.asked("object limits somebody").await, "{\"cart\": 10}");
    assert_eq!(client.asked("boolean nowhere somebody").await, "FLAG_NOT_FOUND");

    let of = async |flags: &[&str], expect: Value, context: Value, token: Option<&str>| {
        let flags = flags.iter().map(|flag| Arc::from(*flag)).collect();
        let Value::Object(context) = context else { panic!("{context}") };
        let (provider, token) = (provider.as_str().into(), token.map(Arc::from));
        asked(CheckKind::FeatureFlagEvaluation { provider, flags, expect, context, token }).await
    };
    let nothing = Value::Object(Map::new());
    passed(
        &of(&["new_checkout"], json!("on"), nothing.clone(), None).await,
        "new_checkout is true (variant on, TARGETING_MATCH)",
    );
    passed(
        &of(&["colour"], json!("red"), nothing.clone(), None).await,
        "colour is \"red\" (variant warm, STATIC)",
    );
    passed(&of(&["retries"], json!(3), nothing.clone(), None).await, "retries is 3");
    passed(&of(&["limits"], json!({"cart": 10}), nothing.clone(), None).await, "limits is {\"cart\":10}");
    let both = of(&["new_checkout", "old_checkout", "nowhere"], json!(true), nothing.clone(), None).await;
    failed(
        &both,
        "old_checkout is false (variant off, STATIC), expected is true\nnowhere: the provider does not know this flag",
    );
    let named = json!({"targetingKey": "shop-${TAG}"});
    passed(&of(&["new_checkout"], json!(true), named, None).await, "new_checkout is true");
    let other = json!({"targetingKey": "somebody"});
    failed(&of(&["new_checkout"], json!(true), other, None).await, "new_checkout is false");
    failed(&of(&["guarded"], json!(false), nothing.clone(), None).await, "does not know who asks (401)");
    passed(&of(&["guarded"], json!(false), nothing.clone(), Some("${TOKEN}")).await, "guarded is false");
    failed(&of(&["guarded"], json!(false), nothing, Some("${TYPO}")).await, "TYPO is not set");
}

#[tokio::test]
async fn an_image_has_to_be_the_one_that_is_pinned() {
    let registry = Registry::start();
    registry.opens_to(Door::Token);
    let digest = registry.put("shop", "2.0.2", "{}");
    let image: Arc<str> = registry.image("shop", "${TAG}").into();
    let of = async |digest: &str| {
        asked(CheckKind::ImageDigest { image: image.clone(), digest: digest.into(), plain_http: None }).await
    };
    passed(&of(&digest).await, &digest);
    registry.put("shop", "2.0.2", "{\"another\": 1}");
    failed(&of(&digest).await, "somebody pushed another image under this name");
    drop(registry);
    failed(&of(&digest).await, "http://127.0.0.1:");
}

#[tokio::test]
async fn a_metric_has_to_have_one_value_within_its_limits() {
    let of = async |result: &str, limit: Limit| {
        let body = format!(
            "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{result}]}}}}"
        );
        let server = origin().says(&body).start().await;
        let (url, query) = (server.url().into(), "sum(up{version=\"${TAG}\"})".into());
        let token = Some("${TOKEN}".into());
        let outcome = asked(CheckKind::Prometheus { url, query, limit, token }).await;
        let last = server.last().head;
        assert!(last.contains("/api/v1/query?query=sum%28up%7Bversion%3D%222.0.2%22%7D%29"), "{last}");
        assert!(last.contains(SECRET), "{last}");
        outcome
    };
    let most = Limit { min: None, max: Some(0.02) };
    passed(&of("{\"metric\":{},\"value\":[1,\"0.02\"]}", most).await, "it is 0.02");
    failed(&of("{\"metric\":{},\"value\":[1,\"0.5\"]}", most).await, "it is 0.5, at most 0.02 is expected");
    failed(&of("{\"metric\":{},\"value\":[1,\"NaN\"]}", most).await, "NaN");
    failed(&of("", most).await, "the query returns nothing");
}

#[tokio::test]
async fn whoever_is_asked_about_a_policy_gets_the_launch_and_no_secret_comes_back() {
    let server = origin().says(&format!("{{\"result\": [\"no window\", \"{SECRET}\"]}}")).start().await;
    let url = format!("{}/v1/data/launch/deny", server.url()).into();
    let denied = asked(CheckKind::Policy { asks: Policy::Url(url) }).await;
    failed(&denied, "denied: no window\ndenied: ***");
    let got = server.last().head;
    assert!(got.contains("/v1/data/launch/deny"), "{got}");

    let command = Command::Argv(vec!["conftest".into()]);
    let denied = asked(CheckKind::Policy { asks: Policy::Run(command) }).await;
    failed(&denied, "denied: told of shop-2.0.2");
}

#[tokio::test]
async fn who_does_not_answer_is_waited_for_only_so_long() {
    let server = origin().start().await;
    server.turns(Mood::Holds);
    let url: Arc<str> = server.url().into();
    let soon = Duration::from_millis(100);
    let policy = asked_within(soon, CheckKind::Policy { asks: Policy::Url(url) }).await;
    assert_eq!((policy.verdict, &*policy.said), (Verdict::TimedOut, "no answer within 0.1 s"));
    let http = asked(CheckKind::Tcp { address: server.address().to_string().into() }).await;
    passed(&http, "accepts connections");
}
