//! Endpoints fail, users do not notice, and gates do.

use tidegate::admin::api::Event;

use crate::support::{Gate, Mood, Origin, assert_share, origin, tidegate, until};

async fn origins() -> (Origin, Origin, Origin) {
    let blue = async || origin().says("blue").start().await;
    (blue().await, blue().await, origin().says("green").start().await)
}

fn list(endpoints: &[&Origin]) -> String {
    let urls: Vec<_> = endpoints.iter().map(|endpoint| endpoint.url()).collect();
    format!("[{}]", urls.join(", "))
}

/// Waits for an event whose `to` has these words.
async fn told(gate: &Gate, what: &str, words: &str) -> Event {
    until(&format!("{what} {words} is told"), async || {
        let is_it =
            |event: &Event| event.what == what && event.to.as_ref().is_some_and(|to| to.contains(words));
        gate.events(100).await.into_iter().find(is_it)
    })
    .await
}

#[tokio::test]
async fn an_endpoint_that_fails_in_a_row_gets_a_pause_and_comes_back_slowly() {
    let (well, ill, green) = origins().await;
    let gate = tidegate()
        .service_at("shop", &list(&[&well, &ill]), &green.url())
        .with("ejection: {pause: 2s}")
        .with("balance: {slow_start: 1h}")
        .start()
        .await;
    gate.get_many("/", 200).await.assert_none_failed();
    assert!(ill.requests() > 0);

    ill.turns(Mood::Resets);
    let load = gate.load("/");
    let out = told(&gate, "ejection", "ejected").await;
    assert!(out.to.as_ref().is_some_and(|to| to.contains(&ill.url())), "{out:?}");
    assert!(out.reason.as_ref().is_some_and(|why| why.contains("failures in a row")), "{out:?}");
    ill.turns(Mood::Answers);
    let endpoint = format!("endpoint=\"{}\"", ill.url());
    let blue = gate.service("shop").await.variants.blue;
    assert_eq!(blue.endpoints[1].health, "healthy", "checks only connect");
    assert_eq!(blue.endpoints[1].ejections, 1);
    let metrics = gate.metrics().await;
    assert_eq!(metrics.count("tidegate_endpoint_ejections_total", &[&endpoint]), 1);
    assert_eq!(metrics.count("tidegate_endpoint_healthy", &[&endpoint]), 1);
    assert!(metrics.count("tidegate_endpoint_failures_total", &[&endpoint]) >= 5);

    told(&gate, "ejection", "in service").await;
    load.end().await;
    let before = ill.requests();
    let seen = gate.get_many("/", 2_000).await;
    seen.assert_none_failed();
    let share = ill.requests() - before;
    assert!((1..200).contains(&share), "a twentieth at most of its half, not {share} of 2,000");
    let blue = gate.service("shop").await.variants.blue;
    assert!(blue.endpoints[1].ejected.is_none() && blue.endpoints[1].requests > 0);
    let told: Vec<_> = gate.events(100).await.into_iter().filter(|event| event.what == "ejection").collect();
    assert_eq!(told.len(), 2, "one event each way: {told:?}");
}

#[tokio::test]
async fn an_ejection_never_takes_the_last_endpoint() {
    let (one, other, green) = origins().await;
    let gate =
        tidegate().service_at("shop", &list(&[&one, &other]), &green.url()).with("guard: off").start().await;
    gate.shift("shop", "50%").await;
    for endpoint in [&one, &other, &green] {
        endpoint.turns(Mood::Resets);
    }
    let load = gate.load("/");
    told(&gate, "ejection", "blue").await;
    load.goes_on(500).await;
    let variants = gate.service("shop").await.variants;
    let ejected = |endpoint: &tidegate::admin::api::EndpointStatus| endpoint.ejected.is_some();
    assert_eq!(variants.blue.endpoints.iter().filter(|endpoint| ejected(endpoint)).count(), 1);
    assert!(!ejected(&variants.green.endpoints[0]), "it is the only one");
    load.end().await;
}

#[tokio::test]
async fn a_reload_without_ejection_takes_everybody_back() {
    let (well, ill, green) = origins().await;
    let plan = tidegate().service_at("shop", &list(&[&well, &ill]), &green.url());
    let mut gate = plan.clone().with("ejection: {pause: 1h, pause_max: 1h, success_rate: off}").start().await;
    ill.turns(Mood::Resets);
    let load = gate.load("/");
    told(&gate, "ejection", "ejected for 3600 s").await;
    load.end().await;
    let ejected = gate.service("shop").await.variants.blue.endpoints[1].ejected.clone().unwrap();
    assert!(ejected.why.contains("in a row") && ejected.until > tidegate::clock::wall(), "{ejected:?}");
    ill.turns(Mood::Answers);

    gate.rewrite(plan.with("ejection: off"));
    gate.reload().await.unwrap();
    let back = told(&gate, "ejection", "in service").await;
    assert_eq!(back.reason.as_deref(), Some("ejection is off"));
    let before = ill.requests();
    gate.get_many("/", 200).await.assert_none_failed();
    assert!(ill.requests() > before, "it takes part again");
}

/// A gate whose green is dead, at 30 %.
async fn dead_green(line: &str, guard: &str) -> (Gate, Origin, Origin) {
    let blue = origin().says("blue").start().await;
    let mut green = origin().says("green").start().await;
    let gate = tidegate()
        .service_at("shop", &blue.url(), &format!("{{endpoints: {}, {line}}}", green.url()))
        .with("split: {by: request}")
        .with("health: {interval: 100ms, timeout: 100ms, up: 1, down: 1}")
        .with(guard)
        .start()
        .await;
    gate.shift("shop", "30%").await;
    green.stops();
    told(&gate, "outage", "green has no usable endpoint").await;
    (gate, blue, green)
}

#[tokio::test]
async fn a_dead_candidate_spills_and_is_charged_for_all_of_it() {
    let (gate, blue, _green) = dead_green("when_unhealthy: spill", "guard: off").await;
    let seen = gate.get_many("/", 2_000).await;
    seen.assert_none_failed();
    assert_eq!((seen.blue(), blue.requests()), (2_000, 2_000));
    let variants = gate.service("shop").await.variants;
    let green = &variants.green;
    assert_share(green.requests as usize, 2_000, 0.3);
    assert_eq!((green.spilled, green.failures), (green.requests, green.requests));
    assert_eq!((variants.blue.requests, variants.blue.failures), (2_000 - green.requests, 0));
    let metrics = gate.metrics().await;
    assert_eq!(metrics.count("tidegate_spilled_total", &["variant=\"green\""]), green.spilled);
    let began = told(&gate, "outage", "no usable endpoint").await;
    assert_eq!(began.to.as_deref(), Some("green has no usable endpoint: blue answers for it"));
    assert_eq!(began.reason.as_deref(), Some("1 unhealthy"));

    gate.shift("shop", "0%").await;
    let ended = told(&gate, "outage", "green has no share any more").await;
    assert_eq!(ended.reason, Some(format!("blue answered {} requests for it", green.spilled)));
}

#[tokio::test]
async fn a_dead_candidate_that_does_not_spill_fails_exactly_its_share_and_fast() {
    let (gate, _blue, _green) = dead_green("when_unhealthy: fail", "guard: off").await;
    let seen = gate.get_many("/", 2_000).await;
    let variants = gate.service("shop").await.variants;
    let green = &variants.green;
    assert_share(seen.failures.len(), 2_000, 0.3);
    assert_eq!(
        (green.requests, green.failures, green.spilled),
        (seen.failures.len() as u64, green.requests, 0)
    );
    assert_eq!((variants.blue.requests, variants.blue.failures), (seen.blue() as u64, 0));
    assert!(seen.failures.iter().all(|failure| failure.contains("503")), "{:?}", &seen.failures[..3]);
}

#[tokio::test]
async fn a_dead_candidate_is_rolled_back_when_its_time_is_over() {
    let only_health =
        "gates: {errors: none, client_errors: none, latency: none, health: {unhealthy_for: 1s}}";
    let (gate, _blue, _green) = dead_green("when_unhealthy: spill", only_health).await;
    let load = gate.load("/");
    until("the weight is 0", async || gate.weight("shop").await.millipercent().eq(&0).then_some(())).await;
    load.goes_on(100).await;
    load.end().await.assert_none_failed();
    let lock = gate.service("shop").await.lock.expect("a lock");
    assert_eq!(lock.cause.to_string(), "dead-candidate");
    let why = until("the rollback is told", async || {
        let told = gate.events(100).await.into_iter().find(|event| event.what == "rollout-rollback");
        told.map(|event| event.reason.unwrap_or_default())
    })
    .await;
    assert!(why.contains("no usable endpoint"), "{why}");
    told(&gate, "outage", "green has no share any more").await;
}

#[tokio::test]
async fn each_variant_is_checked_in_its_own_way() {
    let (blue, _, green) = origins().await;
    let gate = tidegate()
        .service_at("shop", &blue.url(), &format!("{{endpoints: {}, health: {{expect: 2xx}}}}", green.url()))
        .with("health: {path: /up, expect: [204, 3xx], interval: 100ms, timeout: 100ms}")
        .tries_to_start()
        .unwrap_or_else(|why| panic!("{why}"));
    until("both are checked", async || {
        let variants = gate.service("shop").await.variants;
        let health = (&*variants.blue.endpoints[0].health, &*variants.green.endpoints[0].health);
        (health == ("unhealthy", "healthy")).then_some(())
    })
    .await;
    let error = gate.service("shop").await.variants.blue.endpoints[0].error.clone();
    assert_eq!(error.as_deref(), Some("GET /up answered 200"));
}

#[tokio::test]
async fn round_robin_is_exact_on_one_thread_and_weights_never_move_the_split() {
    let (one, three, green) = origins().await;
    let blue = format!("[{}, {{url: \"{}\", weight: 3}}]", one.url(), three.url());
    let gate = tidegate()
        .set("threads: 1")
        .service_at("shop", &blue, &green.url())
        .with("balance: round_robin")
        .with("split: {by: request}")
        .with("guard: off")
        .start()
        .await;
    gate.get_many("/", 800).await.assert_none_failed();
    assert_eq!((one.requests(), three.requests()), (200, 600));
    gate.shift("shop", "50%").await;
    let seen = gate.get_many("/", 2_000).await;
    assert_share(seen.green(), 2_000, 0.5);
    assert_eq!(one.requests() + three.requests(), 800 + seen.blue() as u64);
    assert!(three.requests().abs_diff(3 * one.requests()) <= 3, "{} {}", one.requests(), three.requests());
}

#[tokio::test]
async fn the_series_of_an_endpoint_end_with_it() {
    let (blue, newer, green) = origins().await;
    let gate = tidegate().service("shop", &blue, &green).start().await;
    gate.shift("shop", "100%").await;
    gate.get_many("/", 50).await.assert_none_failed();
    let count = async |name: &str, endpoint: &Origin| {
        gate.metrics().await.count(name, &[&format!("endpoint=\"{}\"", endpoint.url())])
    };
    assert_eq!(count("tidegate_endpoint_requests_total", &green).await, 50);
    assert_eq!(count("tidegate_endpoint_failures_total", &green).await, 0);
    gate.shift("shop", "0%").await;
    gate.deploy("shop", &newer.url(), "2.0.1").await.unwrap();
    let page = gate.metrics().await;
    assert!(!page.0.contains(&green.url()), "{}", page.0);
    assert!(page.0.contains(&newer.url()));
}
