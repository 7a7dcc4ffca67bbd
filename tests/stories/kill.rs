//! A kill is done when it says so, whatever else goes on.

use tidegate::clock;
use tokio::net::UnixStream;

use crate::support::{Mood, Wire, get, origin, tidegate, until};

#[tokio::test]
async fn no_request_that_begins_after_the_acknowledgement_reaches_green_and_none_fails() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    let load = gate.load("/");
    let mut closed = Vec::new();
    for _ in 0..20 {
        gate.shift("shop", "90%").await;
        load.goes_on(200).await;
        let killed = gate.kill("shop").await;
        let acknowledged = clock::now();
        assert!(killed.saved);
        load.goes_on(200).await;
        gate.arm("shop").await;
        closed.push((acknowledged, clock::now()));
    }
    let seen = load.end().await;
    seen.assert_none_failed();
    assert!(seen.green() > 1000, "green had something to lose: {}", seen.green());
    seen.assert_none_on_green_between(&closed);
}

#[tokio::test]
async fn a_kill_is_idempotent_locks_and_arm_moves_no_traffic() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    gate.shift("shop", "100%").await;
    assert_eq!(gate.get("/").await.text(), "green");
    let first = gate.kill("shop").await;
    let again = gate.kill("shop").await;
    assert!(first.changes[0].changed && !again.changes[0].changed);
    assert_eq!(again.generation, first.generation);
    assert_eq!(gate.get("/").await.text(), "blue");

    let (status, refused) = gate.shift_all(&[("shop", "1%")], &[]).await.unwrap_err();
    assert_eq!(status, 423, "{refused:?}");
    gate.arm("shop").await;
    assert_eq!(gate.weight("shop").await.millipercent(), 0);
    assert_eq!(gate.get("/").await.text(), "blue");
    gate.shift("shop", "100%").await;
    assert_eq!(gate.get("/").await.text(), "green");
}

#[tokio::test]
async fn kill_all_stops_every_service() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate()
        .service("shop", &blue, &green)
        .with("path: /shop")
        .service("cart", &blue, &green)
        .with("path: /cart")
        .start()
        .await;
    gate.shift_all(&[("shop", "100%"), ("cart", "100%")], &[]).await.unwrap();
    assert_eq!(gate.get("/cart").await.text(), "green");
    let killed: tidegate::admin::api::Changed =
        gate.ask("POST", "/v1/kill", &[], r#"{"all":true}"#).await.unwrap();
    assert_eq!(killed.changes.len(), 2);
    for path in ["/shop", "/cart"] {
        assert_eq!(gate.get(path).await.text(), "blue");
    }
}

#[tokio::test]
async fn a_request_on_its_way_to_green_ends_well_after_a_kill() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    gate.shift("shop", "100%").await;
    green.turns(Mood::Holds);
    let mut client = crate::support::connect(gate.address()).await.unwrap();
    client.write(&get("/", &[])).await.unwrap();
    until("green has the request", async || (green.waiting() == 1).then_some(())).await;
    gate.kill("shop").await;
    green.turns(Mood::Answers);
    assert_eq!(client.answer().await.unwrap().text(), "green");
    assert_eq!(client.ask(&get("/", &[])).await.unwrap().text(), "blue");
}

#[tokio::test]
async fn stuck_and_idle_admin_clients_hinder_neither_traffic_nor_kill() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    gate.shift("shop", "50%").await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(UnixStream::connect(gate.socket()).await.unwrap());
    }
    // One stops within a head, one within a body, one follows events and does not read.
    let mut stuck = Vec::new();
    for beginning in [
        "POST /v1/shift HTTP/1.1\r\nhost: tide",
        "POST /v1/shift HTTP/1.1\r\nhost: tidegate\r\ncontent-length: 100\r\n\r\n{\"serv",
        "GET /v1/events?follow=true HTTP/1.1\r\nhost: tidegate\r\n\r\n",
    ] {
        let mut wire = Wire::new(UnixStream::connect(gate.socket()).await.unwrap());
        wire.write(beginning.as_bytes()).await.unwrap();
        stuck.push(wire);
    }
    let load = gate.load("/");
    load.goes_on(500).await;
    let killed = gate.kill("shop").await;
    let acknowledged = clock::now();
    assert!(killed.changes[0].changed && killed.saved);
    load.goes_on(500).await;
    let seen = load.end().await;
    seen.assert_none_failed();
    assert!(seen.green() > 0);
    seen.assert_none_on_green_between(&[(acknowledged, clock::now())]);
    assert_eq!(idle.len(), 1000);
}
