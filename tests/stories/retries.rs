//! Requests are tried again where that helps, and never so that it hurts.

use crate::support::{Load, Mood, connect, get, origin, tidegate, until};

const SHOP: &[&str] = &[r#"service="shop""#, r#"variant="blue""#];

#[tokio::test]
async fn when_half_of_everything_fails_endpoints_get_no_more_than_the_budget_on_top() {
    const REQUESTS: u64 = 2000;
    let (one, two) =
        (origin().says("blue").fails(0.5).start().await, origin().says("blue").fails(0.5).start().await);
    let green = origin().says("green").start().await;
    let gate = tidegate()
        .service_at("shop", &format!("[{}, {}]", one.url(), two.url()), &green.url())
        .with("retries: {on: [connect, reset, 500], budget: 20%, budget_floor: 0, backoff: 1ms}")
        .start()
        .await;
    let seen = gate.get_many("/", REQUESTS).await;
    let asked = one.requests() + two.requests();
    // Two threads, and a burst of ten on each.
    assert!(asked <= REQUESTS + REQUESTS / 5 + 20, "{asked}");
    // What the budget allowed was used, and helped.
    assert!(asked >= REQUESTS + REQUESTS / 5, "{asked}");
    let helped = seen.answers.len() as u64;
    assert!(helped > REQUESTS / 2 && seen.total() as u64 == REQUESTS, "{helped}");

    let metrics = gate.metrics().await;
    assert_eq!(
        metrics.count("tidegate_retries_total", &[SHOP, &[r#"reason="status""#]].concat()),
        asked - REQUESTS
    );
    assert!(metrics.count("tidegate_retry_budget_exhausted_total", SHOP) > 0);
    // Whatever users saw, the variant fails half of its requests.
    let failures = metrics.count("tidegate_failures_total", SHOP);
    assert!((850..1150).contains(&failures), "{failures}");
    assert_eq!(metrics.count("tidegate_requests_total", SHOP), REQUESTS);
}

#[tokio::test]
async fn an_endpoint_that_resets_is_not_noticed_by_those_who_read_and_no_order_is_placed_twice() {
    const REQUESTS: u64 = 300;
    let (works, resets) = (origin().says("blue").start().await, origin().says("blue").start().await);
    let green = origin().says("green").start().await;
    let gate = tidegate()
        .service_at("shop", &format!("[{}, {}]", works.url(), resets.url()), &green.url())
        .with("retries: {budget: 100%, backoff: 1ms}")
        .start()
        .await;
    resets.turns(Mood::Resets);
    gate.get_many("/", REQUESTS).await.assert_none_failed();
    assert!(resets.requests() > 0);

    let before = works.requests() + resets.requests();
    let order = b"POST /order HTTP/1.1\r\nhost: gate.test\r\ncontent-length: 5\r\n\r\nhello".to_vec();
    let orders = Load::begin(gate.address(), move |number| (number < REQUESTS).then(|| order.clone()));
    let seen = orders.result().await;
    assert_eq!(seen.total() as u64, REQUESTS);
    assert_eq!(works.requests() + resets.requests() - before, REQUESTS, "{:?}", seen.failures.first());
}

#[tokio::test]
async fn an_endpoint_never_has_more_requests_at_once_than_it_may_and_the_rest_waits_its_turn() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate()
        .service("shop", &blue, &green)
        .with("limits: {max_in_flight: 3, queue: 4, queue_timeout: 60s}")
        .set("threads: 1")
        .start()
        .await;
    blue.turns(Mood::Holds);
    let mut clients = Vec::new();
    for _ in 0..7 {
        let mut client = connect(gate.address()).await.unwrap();
        client.write(&get("/", &[])).await.unwrap();
        clients.push(client);
    }
    until("three are there and four wait", async || {
        let waiting = gate.metrics().await.count("tidegate_queued", SHOP);
        (blue.waiting() == 3 && waiting == 4).then_some(())
    })
    .await;
    let refused = gate.get("/").await;
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("5")));
    assert_eq!(blue.requests(), 3);
    blue.turns(Mood::Answers);
    for mut client in clients {
        assert_eq!(client.answer().await.unwrap().text(), "blue");
    }
    let metrics = gate.metrics().await;
    assert_eq!(metrics.count("tidegate_queue_duration_seconds_count", SHOP), 4);
    assert_eq!(metrics.count("tidegate_queue_shed_total", &[SHOP, &[r#"reason="full""#]].concat()), 1);
    assert_eq!(metrics.count("tidegate_failures_total", SHOP), 0);
}
