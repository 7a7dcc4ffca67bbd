//! Changing the split: one step, all or nothing, once, and only on what the caller has seen.

use serde_json::Value;
use tidegate::admin::api::{Changed, ProblemKind};
use tokio::net::UnixStream;

use crate::support::gate::{Asked, understand};
use crate::support::{Gate, Mood, Wire, connect, get, origin, tidegate, until};

/// A shop and a cart behind one gate.
async fn shop_and_cart(blue: &crate::support::Origin, green: &crate::support::Origin) -> Gate {
    tidegate()
        .service("shop", blue, green)
        .with("path: /shop")
        .service("cart", blue, green)
        .with("path: /cart")
        .start()
        .await
}

#[tokio::test]
async fn fifty_shifts_under_load_fail_no_request() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    let load = gate.load("/");
    for step in 0..50 {
        gate.shift("shop", &format!("{}%", (step * 13) % 101)).await;
        load.goes_on(20).await;
    }
    let seen = load.end().await;
    seen.assert_none_failed();
    assert!(seen.blue() > 0 && seen.green() > 0);
}

#[tokio::test]
async fn a_shift_says_what_it_did_and_how_to_undo_it() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    let before = gate.status().await.generation;
    let Changed { host, generation, saved, changes, undo, .. } = gate.shift("shop", "12.5%").await;
    assert!(generation > before && saved && !host.is_empty());
    let texts = (changes[0].from.to_string(), changes[0].to.to_string());
    assert_eq!(texts, ("0%".to_owned(), "12.5%".to_owned()));
    assert_eq!(undo.as_deref(), Some("tidegate shift shop=0%"));
    assert_eq!(gate.status().await.generation, generation);
    // The same again changes nothing.
    let again = gate.shift("shop", "12.5%").await;
    assert_eq!((again.changes[0].changed, again.generation), (false, generation));
}

#[tokio::test]
async fn several_services_shift_together_or_not_at_all() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = shop_and_cart(&blue, &green).await;
    let changed = gate.shift_all(&[("shop", "100%"), ("cart", "100%")], &[]).await.unwrap();
    assert_eq!(changed.changes.len(), 2);
    assert_eq!((gate.get("/shop").await.text(), gate.get("/cart").await.text()), ("green", "green"));

    gate.kill("cart").await;
    let (_, locked) = gate.shift_all(&[("shop", "0%"), ("cart", "10%")], &[]).await.unwrap_err();
    assert_eq!(locked.kind, ProblemKind::Locked);
    assert_eq!(gate.weight("shop").await.millipercent(), 100_000);
}

#[tokio::test]
async fn if_match_fails_only_when_a_named_service_changed() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = shop_and_cart(&blue, &green).await;
    let seen = gate.shift("shop", "1%").await.generation.to_string();
    let seen = [("if-match", seen.as_str())];
    gate.shift("cart", "5%").await;
    // The cart's change is none of the shop's business.
    gate.shift_all(&[("shop", "2%")], &seen).await.unwrap();
    let (status, stale) = gate.shift_all(&[("shop", "3%")], &seen).await.unwrap_err();
    assert_eq!((status, stale.kind), (412, ProblemKind::Stale));
    assert!(stale.error.contains("uid "), "it says who: {}", stale.error);
    let both = gate.shift_all(&[("shop", "3%"), ("cart", "3%")], &seen).await;
    assert_eq!(both.unwrap_err().0, 412);
    assert_eq!(gate.weight("shop").await.to_string(), "2%");
    assert_eq!(gate.weight("cart").await.to_string(), "5%");
}

#[tokio::test]
async fn an_idempotency_key_has_one_effect_also_after_a_restart() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    let key = [("idempotency-key", "release-7")];
    let first = gate.shift_all(&[("shop", "10%")], &key).await.unwrap();
    gate.shift("shop", "30%").await;
    let again = gate.shift_all(&[("shop", "10%")], &key).await.unwrap();
    assert_eq!((again.generation, &again.changes), (first.generation, &first.changes));
    assert_eq!(gate.weight("shop").await.to_string(), "30%");

    let gate = gate.restarts().await;
    let again = gate.shift_all(&[("shop", "10%")], &key).await.unwrap();
    assert_eq!((again.generation, &again.changes), (first.generation, &first.changes));
    assert_eq!(gate.weight("shop").await.to_string(), "30%");

    let (status, reused) = gate.shift_all(&[("shop", "11%")], &key).await.unwrap_err();
    assert_eq!((status, reused.kind), (422, ProblemKind::KeyReused));
}

#[tokio::test]
async fn a_key_counts_also_when_there_was_nothing_to_change() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    gate.shift("shop", "10%").await;
    let key = [("idempotency-key", "release-8")];
    let first = gate.shift_all(&[("shop", "10%")], &key).await.unwrap();
    assert!(!first.changes[0].changed);
    // Meanwhile somebody takes it back. The repeated request must not bring it on again.
    gate.shift("shop", "0%").await;
    let again = gate.shift_all(&[("shop", "10%")], &key).await.unwrap();
    assert_eq!((again.generation, again.live_us, &again.changes), (first.generation, 0, &first.changes));
    assert_eq!(gate.weight("shop").await.millipercent(), 0);
}

#[tokio::test]
async fn the_same_key_at_the_same_moment_has_one_effect() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    let key = [("idempotency-key", "twice")];
    for (name, share) in [("up", "40%"), ("down", "20%")] {
        let key = [("idempotency-key", name)];
        let shares = [("shop", share)];
        let ask = || gate.shift_all(&shares, &key);
        let (one, two, three) = tokio::join!(ask(), ask(), ask());
        let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
        assert_eq!(one.generation, two.generation, "{name}");
        assert_eq!(two.generation, three.generation, "{name}");
    }
    assert!(gate.shift_all(&[("shop", "1%")], &key).await.is_ok());
    let shifts = gate.events(100).await.iter().filter(|event| event.what == "shift").count();
    assert_eq!(shifts, 3);
}

#[tokio::test]
async fn wait_returns_only_when_the_older_request_is_gone() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    blue.turns(Mood::Holds);
    let mut client = connect(gate.address()).await.unwrap();
    client.write(&get("/", &[])).await.unwrap();
    until("blue has the request", async || (blue.waiting() == 1).then_some(())).await;

    let generation = gate.shift("shop", "100%").await.generation;
    let path = format!("/v1/wait?service=shop&generation={generation}");
    let early: Asked<()> = gate.ask("GET", &format!("{path}&timeout_ms=50"), &[], "").await;
    let (status, late) = early.unwrap_err();
    assert_eq!((status, late.kind), (504, ProblemKind::TimedOut));

    let mut waiting = Wire::new(UnixStream::connect(gate.socket()).await.unwrap());
    waiting.write(&get(&path, &[])).await.unwrap();
    // Newer requests are not waited for.
    assert_eq!(gate.get("/").await.text(), "green");
    assert_eq!(blue.waiting(), 1);
    blue.turns(Mood::Answers);
    assert_eq!(client.answer().await.unwrap().text(), "blue");
    assert_eq!(understand(&waiting.answer().await.unwrap()), Ok(()));
}

#[tokio::test]
async fn a_deployment_fills_the_candidate_and_moves_no_traffic() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let newer = origin().says("newer").start().await;
    let gate = tidegate().service("shop", &blue, &green).start().await;
    gate.shift("shop", "1%").await;
    let (status, refused) = gate.deploy("shop", &newer.url(), "2").await.unwrap_err();
    assert_eq!((status, refused.kind), (409, ProblemKind::Conflict));
    gate.shift("shop", "0%").await;
    let (status, refused) = gate.deploy("shop", &blue.url(), "2").await.unwrap_err();
    assert_eq!((status, refused.kind), (409, ProblemKind::Conflict));

    gate.deploy("shop", &newer.url(), "2.0.1").await.unwrap();
    assert_eq!(gate.get("/").await.text(), "blue");
    gate.is_ready().await;
    let candidate = gate.service("shop").await.variants.green;
    assert_eq!((candidate.version.as_deref(), candidate.endpoints.len()), (Some("2.0.1"), 1));
    gate.shift("shop", "100%").await;
    assert_eq!(gate.get("/").await.text(), "newer");
    assert_eq!(green.requests(), 0);
    // What was deployed is state, not configuration.
    let gate = gate.restarts().await;
    assert_eq!(gate.get("/").await.text(), "newer");
}

#[tokio::test]
async fn a_candidate_without_a_healthy_endpoint_gets_no_traffic() {
    let blue = origin().says("blue").start().await;
    let mut green = origin().says("green").start().await;
    let health = "health: {interval: 100ms, timeout: 100ms, up: 1, down: 1}";
    let gate = tidegate().service("shop", &blue, &green).with(health).start().await;
    gate.shift("shop", "100%").await;
    assert_eq!(gate.get("/").await.text(), "green");

    green.stops();
    until("green is unhealthy", async || {
        let green = gate.service("shop").await.variants.green;
        (green.endpoints[0].health == "unhealthy").then_some(())
    })
    .await;
    // Stable answers in its place, and green is charged for it.
    assert_eq!(gate.get("/").await.text(), "blue");
    let green = gate.service("shop").await.variants.green;
    assert_eq!((green.requests, green.spilled), (2, 1));
    gate.shift("shop", "50%").await;
    let (status, refused) = gate.shift_all(&[("shop", "60%")], &[]).await.unwrap_err();
    assert_eq!((status, refused.kind), (409, ProblemKind::Conflict), "{refused:?}");
}

#[tokio::test]
async fn followers_see_every_change_in_order() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    let mut follower = Wire::new(UnixStream::connect(gate.socket()).await.unwrap());
    follower.write(&get("/v1/events?follow=true", &[])).await.unwrap();
    let head = follower.head().await.unwrap().unwrap();
    assert!(head.contains("text/event-stream"), "{head}");
    until("the stream is open", async || follower.line().await.unwrap().starts_with(':').then_some(())).await;

    let body = r#"{"services":{"shop":"10%"},"reason":"a test","as":"ci"}"#;
    let shifted: Changed = gate.ask("POST", "/v1/shift", &[], body).await.unwrap();
    let killed = gate.kill("shop").await;
    gate.arm("shop").await;
    let mut seen = Vec::new();
    until("three changes are told", async || {
        let line = follower.line().await.unwrap();
        if let Some(event) = line.strip_prefix("data: ") {
            seen.push(serde_json::from_str::<Value>(event).unwrap());
        }
        (seen.len() == 3).then_some(())
    })
    .await;
    let what: Vec<_> = seen.iter().map(|event| event["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["shift", "kill", "arm"]);
    assert_eq!(seen[0]["generation"], shifted.generation);
    assert_eq!(seen[0]["reason"], "a test");
    assert_eq!(seen[0]["claimed"], "ci");
    assert!(seen[0]["actor"].as_str().unwrap().starts_with("uid "));
    assert_eq!(seen[1]["generation"], killed.generation);
    // The log says the same.
    let logged: Vec<_> = gate.events(3).await.into_iter().map(|event| event.what).collect();
    assert_eq!(logged, ["shift", "kill", "arm"]);
}
