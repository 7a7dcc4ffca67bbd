//! Rollouts over real sockets with their time compressed: a hundred of the same version, twenty of each way of being
//! worse. Stages last seconds instead of quarters of an hour, and every service gets as many requests in them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use tidegate::clock;

use crate::support::{Gate, Load, Metrics, Mood, Origin, get, origin, tidegate};
use crate::{ONE, median};

/// The longest time that all rollouts of a story may take.
const PATIENCE: Duration = Duration::from_secs(600);

const HEALTHY: &str = "
name: same
warmup: 2s
on_inconclusive: advance
stages:
  - {weight: 5%, hold: 10s, max_hold: 15s, tolerate: 10}
  - {weight: 25%, hold: 10s, max_hold: 15s, tolerate: 10}
  - {weight: 50%, hold: 10s, max_hold: 15s, tolerate: 10}
  - {weight: 100%, hold: 1s}
";

const WORSE: &str = "
name: worse
warmup: 1s
stages: [{weight: 5%, hold: 1h}]
";

async fn gate(services: usize, blue: &Origin, green: &Origin) -> Gate {
    let mut plan = tidegate();
    for number in 0..services {
        // Half of them by visitor: each request without a cookie is a new one.
        let by = if number % 2 == 0 { "request" } else { "cookie" };
        plan = plan
            .service(&format!("s{number}"), blue, green)
            .with(&format!("host: s{number}.test"))
            .with(&format!("split: {{by: {by}}}"));
    }
    plan.start().await
}

/// Requests for all services in turn.
fn load(gate: &Gate, services: usize) -> Load {
    let requests: Vec<_> =
        (0..services).map(|number| get("/", &[("host", &format!("s{number}.test"))])).collect();
    Load::begin(gate.address(), move |number| requests.get(number as usize % services).cloned())
}

async fn start_all(gate: &Gate, services: usize, plan: &str) {
    let body = json!({ "plan": { "name": "plan.yaml", "text": plan } }).to_string();
    for number in 0..services {
        let path = format!("/v1/services/s{number}/rollout");
        gate.ask::<Value>("POST", &path, &[], &body).await.unwrap();
    }
}

async fn rollout(gate: &Gate, number: usize) -> Value {
    let path = format!("/v1/services/s{number}/rollout");
    gate.ask::<Value>("GET", &path, &[], "").await.unwrap()["rollout"].clone()
}

/// Waits until `is_done` says so of every rollout, and gives them with the time that each took.
async fn all(
    gate: &Gate,
    services: usize,
    begun: Instant,
    is_done: impl Fn(&Value) -> bool,
) -> Vec<(Value, Duration)> {
    let mut done: Vec<Option<(Value, Duration)>> = vec![None; services];
    while done.iter().any(Option::is_none) {
        assert!(
            clock::now() - begun < PATIENCE,
            "{} are not done",
            done.iter().filter(|one| one.is_none()).count()
        );
        for (number, slot) in done.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
            let rollout = rollout(gate, number).await;
            if is_done(&rollout["phase"]) {
                *slot = Some((rollout, clock::now() - begun));
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    done.into_iter().flatten().collect()
}

fn candidate_requests(metrics: &Metrics, number: usize) -> u64 {
    let service = format!("service=\"s{number}\"");
    metrics.count("tidegate_requests_total", &[&service, "variant=\"green\""])
}

#[tokio::test]
async fn of_a_hundred_rollouts_of_the_same_version_at_most_three_are_rolled_back() {
    const SERVICES: usize = 100;
    let _alone = ONE.lock().await;
    let (blue, green) =
        (origin().says("blue").fails(0.01).start().await, origin().says("green").fails(0.01).start().await);
    let gate = gate(SERVICES, &blue, &green).await;
    let load = load(&gate, SERVICES);
    load.goes_on(20_000).await;
    let begun = clock::now();
    start_all(&gate, SERVICES, HEALTHY).await;
    let ended = all(&gate, SERVICES, begun, |phase| {
        // A latency or 4xx gate may call a person; that is no rollback.
        phase["phase"] == "ended" || phase["phase"] == "paused"
    })
    .await;
    let count = |how: &str| ended.iter().filter(|(rollout, _)| rollout["phase"]["how"]["how"] == how).count();
    let paused = ended.iter().filter(|(rollout, _)| rollout["phase"]["phase"] == "paused").count();
    let took = ended.iter().map(|(_, took)| *took).max().unwrap_or_default();
    let answered = load.answered();
    println!(
        "100 rollouts of the same version (1 % errors): {} promoted, {paused} paused, {} rolled back; {answered} requests in {took:.0?}",
        count("promoted"),
        count("rolled-back"),
    );
    for (rollout, _) in &ended {
        if rollout["phase"]["phase"] == "paused" || rollout["phase"]["how"]["how"] == "rolled-back" {
            println!("  {}", rollout["phase"]);
        }
    }
    load.end().await;
    assert!(count("rolled-back") <= 3);
    assert!(count("promoted") >= 80);
}

#[tokio::test]
async fn twenty_rollouts_of_each_way_of_being_worse_are_all_caught() {
    const SERVICES: usize = 20;
    let _alone = ONE.lock().await;
    let plain = || origin().says("green");
    let quick = Duration::from_millis(2);
    println!("twenty rollouts of each, 5 % on the candidate:");
    type Turn = fn(&mut Origin);
    let none: Turn = |_| {};
    let kinds: [(&str, crate::support::origin::Plan, crate::support::origin::Plan, Turn); 6] = [
        ("1 % -> 3 % errors", origin().fails(0.01), plain().fails(0.03), none),
        ("0 % -> 1 % errors", origin(), plain().fails(0.01), none),
        ("dead", origin(), plain(), |green| green.stops()),
        ("hung", origin(), plain(), |green| green.turns(Mood::Holds)),
        ("half as fast", origin().takes(quick), plain().takes(quick * 2), none),
        ("1 % -> 5 % of 404", origin().loses(0.01), plain().loses(0.05), none),
    ];
    for (kind, blue, green, turn) in kinds {
        let (blue, mut green) = (blue.says("blue").start().await, green.start().await);
        let gate = gate(SERVICES, &blue, &green).await;
        // A client that meets a hung endpoint stays there: several loads.
        let loads: Vec<_> = (0..4).map(|_| load(&gate, SERVICES)).collect();
        loads[0].goes_on(4_000).await;
        start_all(&gate, SERVICES, WORSE).await;
        let before = gate.metrics().await;
        let begun = clock::now();
        turn(&mut green);
        let caught = all(&gate, SERVICES, begun, |phase| phase["phase"] != "holding").await;
        let after = gate.metrics().await;
        green.turns(Mood::Answers);
        for load in loads {
            load.end().await;
        }
        let mut met: Vec<u64> = (0..SERVICES)
            .map(|number| candidate_requests(&after, number) - candidate_requests(&before, number))
            .collect();
        met.sort_unstable();
        let mut took: Vec<u64> = caught.iter().map(|(_, took)| took.as_millis() as u64).collect();
        took.sort_unstable();
        let rolled_back =
            caught.iter().filter(|(rollout, _)| rollout["phase"]["how"]["how"] == "rolled-back").count();
        println!(
            "{kind:20} {rolled_back:2} rolled back, {:2} paused; candidate requests median {}, max {}; seconds median {:.1}, max {:.1}",
            SERVICES - rolled_back,
            median(&met),
            met[SERVICES - 1],
            median(&took) as f64 / 1000.0,
            took[SERVICES - 1] as f64 / 1000.0,
        );
    }
}

#[tokio::test]
async fn a_dead_candidate_at_two_hundred_requests_a_second_fails_ten_of_them_at_most() {
    let _alone = ONE.lock().await;
    let mut worst = 0;
    for round in 0..5 {
        let (blue, mut green) = (origin().says("blue").start().await, origin().says("green").start().await);
        let gate = tidegate()
            .service("shop", &blue, &green)
            .with("split: {by: request}")
            // Nobody is spared, so that every failure is seen.
            .with("health: {interval: 30s}")
            .start()
            .await;
        gate.shift("shop", "5%").await;
        let paced = async |count: u32| {
            let mut failed = 0;
            let mut every = tokio::time::interval(Duration::from_millis(5));
            for _ in 0..count {
                every.tick().await;
                failed += usize::from(gate.get("/").await.status() >= 500);
            }
            failed
        };
        assert_eq!(paced(1_000).await, 0);
        green.stops();
        let failed = paced(2_000).await;
        let weight = gate.weight("shop").await;
        println!("round {round}: {failed} requests failed, then green had {weight}");
        assert_eq!(weight.millipercent(), 0);
        worst = worst.max(failed);
    }
    assert!(worst <= 10, "{worst} requests failed");
}
