//! A gate that has no file descriptor left: it stays up, does not spin, and goes on by itself.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};
use tokio::net::TcpStream;

use crate::support::gate::{cpu_time, process};
use crate::support::{Gate, connect, get, origin, tidegate, until};

/// So long it is watched whether it spins. A thread that does takes about all of it, and has half.
const WATCHED: Duration = Duration::from_secs(1);

async fn assert_does_not_spin(gate: &Gate) {
    let before = cpu_time(gate.pid());
    tokio::time::sleep(WATCHED).await;
    let spent = cpu_time(gate.pid()) - before;
    assert!(spent < WATCHED / 2, "{spent:?} in {WATCHED:?}");
}

#[tokio::test]
async fn clients_that_take_every_place_leave_the_operators_theirs() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).descriptors(128).start_daemon().await;
    let mut kept = connect(gate.address()).await.unwrap();
    assert_eq!(kept.ask(&get("/", &[])).await.unwrap().status(), 200);
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(TcpStream::connect(gate.address()).await.unwrap());
    }
    let refused = ["limit=\"limits.connections\""];
    until("some were turned away", async || {
        (gate.metrics().await.count("tidegate_limit_hits_total", &refused) > 200).then_some(())
    })
    .await;
    // Who was there before is served, and whoever steers it is, too.
    assert_eq!(kept.ask(&get("/", &[])).await.unwrap().status(), 200);
    gate.shift("shop", "50%").await;
    gate.kill("shop").await;
    gate.arm("shop").await;
    assert_does_not_spin(&gate).await;
    assert_eq!(gate.metrics().await.count("tidegate_limit_hits_total", &["limit=\"descriptors\""]), 0);

    drop(crowd);
    until("there is room again", async || {
        let answer = gate.send(&get("/", &[])).await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_any_descriptor_it_waits_for_one_and_serves_whom_it_has() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate()
        .service("shop", &blue, &green)
        .with("health: {interval: 50ms, timeout: 50ms, down: 2}")
        .start_daemon()
        .await;
    let mut kept = connect(gate.address()).await.unwrap();
    assert_eq!(kept.ask(&get("/", &[])).await.unwrap().status(), 200);
    let limited = |limit| prlimit(Some(process(gate.pid())), Resource::Nofile, limit).unwrap();
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let usual = limited(Rlimit { current: Some(3), maximum });

    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut client = connect(gate.address()).await.unwrap();
        client.write(&get("/", &[])).await.unwrap();
        waiting.push(client);
    }
    assert_does_not_spin(&gate).await;
    // The endpoints that it cannot ask are not ill for that.
    assert_eq!(kept.ask(&get("/", &[])).await.unwrap().status(), 200);

    limited(usual);
    for client in &mut waiting {
        assert_eq!(client.answer().await.unwrap().status(), 200);
    }
    let metrics = gate.metrics().await;
    assert!(metrics.count("tidegate_limit_hits_total", &["limit=\"descriptors\""]) > 0);
    assert_eq!(metrics.count("tidegate_failures_total", &[]), 0);
    gate.shift("shop", "50%").await;
}
