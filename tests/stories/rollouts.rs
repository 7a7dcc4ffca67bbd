//! Releases that move by themselves, and shut by themselves.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gate, Mood, Origin, get, origin, tidegate, until};

/// Stages of seconds, for traffic of thousands of requests a second.
const QUICK: &str = "
name: quick
warmup: 0s
gates: {latency: none, client_errors: none}
stages:
  - {weight: 20%, hold: 1s, tolerate: 10}
  - {weight: 50%, hold: 1s, tolerate: 10}
  - {weight: 100%, hold: 1s}
";

/// One stage that nothing ends but a person or a gate.
const PATIENT: &str = "
name: patient
warmup: 0s
gates: {latency: none, client_errors: none}
stages:
  - {weight: 20%, hold: 1h}
  - {weight: 50%, hold: 1h}
";

async fn origins() -> (Origin, Origin) {
    (origin().says("blue").start().await, origin().says("green").start().await)
}

async fn shop(blue: &Origin, green: &Origin) -> Gate {
    tidegate().service("shop", blue, green).with("split: {by: request}").start().await
}

async fn start(gate: &Gate, plan: &str) -> Result<Value, (u16, String)> {
    let body = json!({ "plan": { "name": "plan.yaml", "text": plan } }).to_string();
    post(gate, "/v1/services/shop/rollout", &body).await
}

async fn post(gate: &Gate, path: &str, body: &str) -> Result<Value, (u16, String)> {
    gate.ask("POST", path, &[], body).await.map_err(|(status, problem)| (status, problem.error))
}

async fn rollout(gate: &Gate) -> Value {
    gate.ask("GET", "/v1/services/shop/rollout", &[], "").await.expect("a rollout")
}

async fn phase(gate: &Gate) -> String {
    rollout(gate).await["rollout"]["phase"]["phase"].as_str().unwrap().to_owned()
}

/// Waits until it is over, and says how.
async fn ending(gate: &Gate) -> Value {
    until("the rollout is over", async || {
        let rollout = rollout(gate).await["rollout"].clone();
        (rollout["phase"]["phase"] == "ended").then(|| rollout["phase"]["how"].clone())
    })
    .await
}

async fn percent(gate: &Gate) -> String {
    gate.weight("shop").await.to_string()
}

#[tokio::test]
async fn a_good_candidate_goes_through_its_stages_and_becomes_stable() {
    let (blue, green) = origins().await;
    let gate = shop(&blue, &green).await;
    let load = gate.load("/");
    let started = start(&gate, QUICK).await.unwrap();
    assert_eq!(started["changes"][0]["rollout"]["name"], "quick", "{started}");
    assert_eq!(ending(&gate).await["how"], "promoted");
    assert_eq!(gate.candidate("shop").await.as_str(), "blue", "the roles have swapped");
    assert_eq!(percent(&gate).await, "0%");
    let seen = load.end().await;
    seen.assert_none_failed();
    assert_eq!(gate.get("/").await.text(), "green");

    let told: Vec<String> = gate.events(50).await.into_iter().map(|event| event.what).collect();
    for what in ["rollout-start", "rollout-stage", "rollout-promotion"] {
        assert!(told.iter().any(|told| told == what), "{what} is missing: {told:?}");
    }

    // Last-known-good is blue, until somebody deploys over it.
    post(&gate, "/v1/services/shop/rollout/rollback", "{}").await.unwrap();
    assert_eq!(gate.candidate("shop").await.as_str(), "green");
    assert_eq!(gate.get("/").await.text(), "blue");
    post(&gate, "/v1/services/shop/rollout/rollback", "{}").await.unwrap();
    assert_eq!(gate.get("/").await.text(), "blue", "twice is once");
}

#[tokio::test]
async fn a_broken_candidate_is_shut_locked_and_explained() {
    let (blue, green) =
        (origin().says("blue").start().await, origin().says("green").fails(0.3).start().await);
    let gate = shop(&blue, &green).await;
    let load = gate.load("/orders/17");
    start(&gate, PATIENT).await.unwrap();
    let how = ending(&gate).await;
    assert_eq!(how["how"], "rolled-back");
    let why = how["why"].as_str().unwrap();
    assert!(why.contains('%') && why.contains("evidence"), "a sentence with its numbers: {why}");
    assert_eq!(percent(&gate).await, "0%");
    let service = gate.service("shop").await;
    assert_eq!(service.lock.as_ref().map(|lock| lock.cause.to_string()).as_deref(), Some("failed-rollout"));
    load.end().await;

    let (status, refused) = start(&gate, QUICK).await.unwrap_err();
    assert!(status == 423 || status == 409, "{status} {refused}");
    assert!(refused.contains("tidegate arm"), "{refused}");
    let told: Value = gate.ask("GET", "/v1/services/shop/failures", &[], "").await.unwrap();
    let story = told.to_string();
    assert!(story.contains("/orders/*") && story.contains("500"), "{story}");
    gate.arm("shop").await;
    assert_eq!(percent(&gate).await, "0%");
}

#[tokio::test]
async fn a_manual_shift_is_guarded_unless_it_was_said_otherwise() {
    let (blue, green) =
        (origin().says("blue").start().await, origin().says("green").fails(0.3).start().await);
    let gate = tidegate()
        .service("shop", &blue, &green)
        .with("split: {by: request}")
        .service("cart", &blue, &green)
        .with("path: /cart")
        .with("split: {by: request}")
        .with("guard: off")
        .start()
        .await;
    let (shop, cart) = (gate.load("/"), gate.load("/cart"));
    gate.shift("cart", "20%").await;
    gate.shift("shop", "20%").await;
    assert_eq!(ending(&gate).await["how"], "rolled-back");
    assert_eq!(percent(&gate).await, "0%");
    cart.goes_on(1_000).await;
    assert_eq!(gate.weight("cart").await.to_string(), "20%");
    shop.end().await;
    cart.end().await;
}

#[tokio::test]
async fn a_dead_candidate_is_shut_and_its_users_are_spared() {
    let (blue, mut green) = origins().await;
    let gate = shop(&blue, &green).await;
    let load = gate.load("/");
    gate.shift("shop", "20%").await;
    load.goes_on(200).await;
    green.stops();
    assert_eq!(ending(&gate).await["how"], "rolled-back");
    assert_eq!(percent(&gate).await, "0%");
    load.goes_on(200).await;
    let seen = load.end().await;
    let failed = seen.failures.len();
    println!("{failed} of {} requests failed", seen.total());
    assert!(failed < 500, "{failed} of {} requests failed: {:?}", seen.total(), &seen.failures[..3]);
}

#[tokio::test]
async fn a_hung_candidate_is_noticed_long_before_its_deadline() {
    let (blue, green) = origins().await;
    let gate = shop(&blue, &green).await;
    gate.get_many("/", 300).await.assert_none_failed();
    gate.shift("shop", "50%").await;
    green.turns(Mood::Holds);
    // Clients that come whether or not others wait.
    let gate = Arc::new(gate);
    let clients = tokio::spawn({
        let gate = gate.clone();
        async move {
            let mut every = tokio::time::interval(Duration::from_millis(10));
            loop {
                every.tick().await;
                let gate = gate.clone();
                tokio::spawn(async move { gate.send(&get("/", &[])).await });
            }
        }
    });
    let how = ending(&gate).await;
    clients.abort();
    assert_eq!(how["how"], "rolled-back", "{how}");
    assert_eq!(percent(&gate).await, "0%");
    green.turns(Mood::Answers);
}

#[tokio::test]
async fn people_pause_resume_advance_freeze_and_roll_back() {
    let (blue, green) = origins().await;
    let gate = shop(&blue, &green).await;
    let verb = async |verb: &str| post(&gate, &format!("/v1/services/shop/rollout/{verb}"), "{}").await;
    start(&gate, PATIENT).await.unwrap();
    assert_eq!(percent(&gate).await, "20%");

    let (status, refused) = start(&gate, QUICK).await.unwrap_err();
    assert_eq!(status, 409, "{refused}");
    assert!(refused.contains("patient"), "{refused}");
    let (status, refused) = gate.shift_all(&[("shop", "30%")], &[]).await.unwrap_err();
    assert_eq!(status, 409, "{refused:?}");
    assert!(refused.error.contains("--take-over"), "{refused:?}");

    verb("pause").await.unwrap();
    verb("pause").await.unwrap();
    assert_eq!(phase(&gate).await, "paused");
    assert_eq!(percent(&gate).await, "20%", "a pause moves nothing");
    verb("resume").await.unwrap();
    gate.shift("shop", "5%").await;
    assert_eq!((phase(&gate).await.as_str(), percent(&gate).await.as_str()), ("paused", "5%"));
    verb("resume").await.unwrap();
    assert_eq!(percent(&gate).await, "20%");

    post(&gate, "/v1/freeze", r#"{"all":true,"on":true,"reason":"incident 7"}"#).await.unwrap();
    let (status, refused) = verb("advance").await.unwrap_err();
    assert_eq!(status, 409, "{refused}");
    assert!(refused.contains("freeze off"), "{refused}");
    post(&gate, "/v1/freeze", r#"{"all":true,"on":false}"#).await.unwrap();
    verb("advance").await.unwrap();
    assert_eq!(percent(&gate).await, "50%");
    verb("rollback").await.unwrap();
    verb("rollback").await.unwrap();
    assert_eq!((phase(&gate).await.as_str(), percent(&gate).await.as_str()), ("ended", "0%"));
    assert!(gate.service("shop").await.lock.is_none(), "whoever rolls back himself need not unlock");
}

#[tokio::test]
async fn a_critical_signal_rolls_back_and_another_freezes() {
    let (blue, green) = origins().await;
    let gate = shop(&blue, &green).await;
    start(&gate, PATIENT).await.unwrap();
    let signal = async |body: &str| {
        let answer = gate.admin("POST", "/v1/services/shop/signal", &[], body).await;
        assert!(answer.status() < 300, "{}", answer.text());
    };
    signal(r#"{"name":"queue_grows"}"#).await;
    until("it is frozen", async || (!rollout(&gate).await["freeze"].is_null()).then_some(())).await;
    assert_eq!(percent(&gate).await, "20%");
    signal(r#"{"name":"db_corruption","critical":true}"#).await;
    let how = ending(&gate).await;
    assert!(how["why"].as_str().unwrap().contains("db_corruption"), "{how}");
    assert_eq!(percent(&gate).await, "0%");
}

#[tokio::test]
async fn kill_nine_goes_on_in_the_same_stage_and_never_higher() {
    let (blue, green) = origins().await;
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start_daemon().await;
    start(&gate, PATIENT).await.unwrap();
    post(&gate, "/v1/services/shop/rollout/advance", "{}").await.unwrap();
    let before = rollout(&gate).await["rollout"].clone();
    let gate = gate.dies().begins_again().unwrap();
    let after = rollout(&gate).await["rollout"].clone();
    assert_eq!(before, after);
    assert_eq!(percent(&gate).await, "50%");
    gate.is_ready().await;

    let gate = {
        gate.kill("shop").await;
        gate.dies().begins_again().unwrap()
    };
    assert_eq!(percent(&gate).await, "0%");
    assert_eq!(rollout(&gate).await["rollout"]["phase"]["how"]["how"], "killed");
}

#[tokio::test]
async fn what_was_recorded_is_replayed_to_the_bit() {
    let (blue, green) =
        (origin().says("blue").fails(0.02).start().await, origin().says("green").fails(0.1).start().await);
    let gate = shop(&blue, &green).await;
    let load = gate.load("/");
    start(&gate, PATIENT).await.unwrap();
    ending(&gate).await;
    load.end().await;
    let folder = gate.folder().join("state/rollouts");
    let file = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).next().unwrap();
    until("the record is written", async || {
        std::fs::read_to_string(&file).unwrap().contains("rolled back").then_some(())
    })
    .await;
    let replay = |file: &std::path::Path| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["rollout", "replay"])
            .arg(file)
            .output()
            .unwrap();
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr),
        )
    };
    let (code, said) = replay(&file);
    assert_eq!(code, Some(0), "{said}");

    // Somebody who changes what was measured is found out.
    let text = std::fs::read_to_string(&file).unwrap();
    let forged = text.replacen("\"errors\":{\"stable\":[", "\"errors\":{\"stable\":[1", 1);
    assert_ne!(text, forged);
    let copy = gate.folder().join("forged.jsonl");
    std::fs::write(&copy, forged).unwrap();
    let (code, said) = replay(&copy);
    assert_eq!(code, Some(1), "{said}");
}

#[tokio::test]
async fn what_is_no_plan_is_refused_with_the_place_and_the_cure() {
    let (blue, green) = origins().await;
    let gate = shop(&blue, &green).await;
    let check = async |plan: &str, expected: &[&str]| {
        let (status, refused) = start(&gate, plan).await.unwrap_err();
        assert_eq!(status, 400, "{plan}: {refused}");
        for expected in expected {
            assert!(refused.contains(expected), "{plan}: {refused}");
        }
    };
    check("stages: [{weight: 5%}]", &["stages[0]", "hold"]).await;
    check("stages: [{weight: 50%, hold: 1m}, {weight: 5%, hold: 1m}]", &["stages[1]"]).await;
    check("stages: []", &["stages"]).await;
    check("stages: [{weight: 5, hold: 1m}]", &["5%"]).await;
    check("schedule: canarry", &["canary"]).await;
    check("tier: nope\nstages: [{weight: 5%, hold: 1m}]", &["nope"]).await;
    check(
        "stages: [{percentage: 5, duration: 30m, success_criteria: [{metric: error_rate, threshold: > 10%}]}]",
        &["quote"],
    )
    .await;
    assert_eq!(percent(&gate).await, "0%");
}
