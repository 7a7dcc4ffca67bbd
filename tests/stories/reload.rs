//! Another configuration, without a restart: what exists changes, where traffic is does not.

use crate::support::{origin, tidegate};

#[tokio::test]
async fn ten_reloads_under_load_fail_no_request_and_move_no_traffic() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let plan = || tidegate().service("shop", &blue, &green);
    let mut gate = plan().with("split: {by: request}").start().await;
    gate.shift("shop", "50%").await;
    let load = gate.load("/");
    for round in 1..=10 {
        let line = format!("split: {{by: request, initial_weight: {round}%}}");
        let timeouts = format!("timeouts: {{first_byte: {}s}}", 30 + round);
        gate.rewrite(plan().with(&line).with(&timeouts).set(&format!("limits: {{fields: {}}}", 90 + round)));
        let reloaded = gate.reload().await.unwrap();
        assert!(reloaded.applied && !reloaded.changes.is_empty());
        load.goes_on(50).await;
    }
    let seen = load.end().await;
    seen.assert_none_failed();
    assert!(seen.blue() > 0 && seen.green() > 0);
    assert_eq!(gate.weight("shop").await.to_string(), "50%");
}

#[tokio::test]
async fn an_invalid_file_changes_nothing_and_names_its_line() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let mut gate = tidegate().service("shop", &blue, &green).start().await;
    let generation = gate.status().await.generation;
    gate.rewrite(tidegate().service("shop", &blue, &green).with("split: {initial_weight: 5}"));
    let (status, problem) = gate.reload().await.unwrap_err();
    assert_eq!(status, 400);
    assert!(problem.error.contains("5%") && problem.error.contains("line"), "{}", problem.error);
    assert_eq!(gate.status().await.generation, generation);
    assert_eq!(gate.get("/").await.text(), "blue");
}

#[tokio::test]
async fn a_service_that_comes_back_is_where_it_was_locks_included() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let shop = || tidegate().service("shop", &blue, &green).with("path: /shop");
    let both = || shop().service("cart", &blue, &green).with("path: /cart");
    let mut gate = both().start().await;
    gate.shift_all(&[("shop", "100%"), ("cart", "100%")], &[]).await.unwrap();
    gate.kill("cart").await;
    gate.rewrite(shop());
    gate.reload().await.unwrap();
    assert_eq!((gate.get("/cart").await.status(), gate.get("/shop").await.text()), (404, "green"));
    gate.rewrite(both());
    gate.reload().await.unwrap();
    gate.is_ready().await;
    let cart = gate.service("cart").await;
    assert!(cart.lock.is_some() && cart.weight.millipercent() == 0);
    assert_eq!((gate.get("/cart").await.text(), gate.get("/shop").await.text()), ("blue", "green"));
}

#[tokio::test]
async fn what_needs_a_restart_is_said() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let mut gate = tidegate().service("shop", &blue, &green).start().await;
    gate.rewrite(tidegate().set("threads: 1").service("shop", &blue, &green));
    let reloaded = gate.reload().await.unwrap();
    assert!(reloaded.drift.iter().any(|line| line.contains("threads")), "{reloaded:?}");
    assert!(gate.status().await.drift.iter().any(|line| line.contains("threads")));
}
