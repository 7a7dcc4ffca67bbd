//! A gate that is told to stop lets open requests end and takes no new ones.

use crate::support::{Mood, connect, get, origin, tidegate, until};

#[tokio::test]
async fn open_requests_end_kept_connections_close_and_nobody_new_is_let_in() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let mut gate = tidegate().service("shop", &blue, &green).start().await;
    let mut kept = connect(gate.address()).await.unwrap();
    assert_eq!(kept.ask(&get("/", &[])).await.unwrap().field("connection"), None);
    blue.turns(Mood::Holds);
    let mut open = connect(gate.address()).await.unwrap();
    open.write(&get("/", &[])).await.unwrap();
    until("blue has the request", async || (blue.waiting() == 1).then_some(())).await;

    gate.asks_to_stop(false);
    until("new clients are refused", async || connect(gate.address()).await.is_err().then_some(())).await;
    // A connection that was kept gets its answer and is told that it was the last.
    kept.write(&get("/", &[])).await.unwrap();
    until("blue has both", async || (blue.waiting() == 2).then_some(())).await;
    blue.turns(Mood::Answers);
    for client in [&mut open, &mut kept] {
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status(), answer.field("connection")), (200, Some("close")));
        assert!(client.rest().await.unwrap().is_empty());
    }
    assert!(gate.has_ended().await);
    assert!(!gate.socket().exists());
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_at_the_deadline() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let mut gate = tidegate().set("timeouts: {drain: 100ms}").service("shop", &blue, &green).start().await;
    blue.turns(Mood::Holds);
    let mut open = connect(gate.address()).await.unwrap();
    open.write(&get("/", &[])).await.unwrap();
    until("blue has the request", async || (blue.waiting() == 1).then_some(())).await;
    gate.asks_to_stop(false);
    assert!(gate.has_ended().await);
    assert!(open.answer().await.is_err());
}

#[tokio::test]
async fn asked_twice_it_ends_at_once() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let mut gate = tidegate().service("shop", &blue, &green).start().await;
    blue.turns(Mood::Holds);
    let mut open = connect(gate.address()).await.unwrap();
    open.write(&get("/", &[])).await.unwrap();
    until("blue has the request", async || (blue.waiting() == 1).then_some(())).await;
    gate.asks_to_stop(false);
    gate.asks_to_stop(true);
    assert!(gate.has_ended().await);
}

#[tokio::test]
async fn stopping_under_load_loses_no_request_that_was_accepted() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let mut gate = tidegate().service("shop", &blue, &green).start().await;
    let load = gate.load("/");
    load.goes_on(500).await;
    gate.asks_to_stop(false);
    assert!(gate.has_ended().await);
    let seen = load.end().await;
    // Whoever comes afterwards finds a closed port, and nothing worse.
    let worse: Vec<_> = seen.failures.iter().filter(|failure| !failure.contains("refused")).take(5).collect();
    assert!(worse.is_empty(), "{worse:?}");
}
