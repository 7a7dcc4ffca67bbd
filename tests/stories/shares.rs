//! Everybody gets what was asked for: shares are exact, and visitors stay where they belong.

use std::collections::{BTreeMap, HashMap};

use tidegate::traffic::{Bucket, Weight};

use crate::support::{By, Load, Seen, assert_share, get, origin, tidegate};

/// Where a visitor with this key belongs.
fn predicted(key: &str, salt: &str, weight: Weight) -> By {
    let bucket = Bucket::of(key.as_bytes(), salt.as_bytes());
    if bucket.index() < weight.millipercent() { By::Green } else { By::Blue }
}

#[tokio::test]
async fn two_hundred_thousand_requests_are_split_within_three_tenths_of_a_point() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    gate.shift("shop", "10%").await;
    let seen = gate.get_many("/", 200_000).await;
    seen.assert_none_failed();
    assert_eq!(seen.answers.len(), 200_000);
    let off = (seen.green_share() - 0.10).abs();
    assert!(off < 0.003, "green got {}", seen.green_share());
    assert_eq!((seen.blue() as u64, seen.green() as u64), (blue.requests(), green.requests()));
}

#[tokio::test]
async fn a_user_always_gets_the_variant_that_the_published_hash_says() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let split = "split: {by: user, user: [\"header:x-user-id\"], salt: new-checkout-flow}";
    let gate = tidegate().service("shop", &blue, &green).with(split).start().await;
    gate.shift("shop", "46%").await;
    let weight = gate.weight("shop").await;
    let load = Load::begin(gate.address(), |number| {
        let user = format!("user-{}", number % 2_000);
        (number < 10_000).then(|| get("/", &[("x-user-id", &user)]))
    });
    let seen = load.result().await;
    seen.assert_none_failed();
    for answer in &seen.answers {
        let user = format!("user-{}", answer.number % 2_000);
        assert_eq!(answer.by, predicted(&user, "new-checkout-flow", weight), "{user}");
    }
    // The vectors that others publish: 94 and 45.
    for (user, says) in [("alice", "blue"), ("bob", "green")] {
        assert_eq!(gate.get_with("/", &[("x-user-id", user)]).await.text(), says, "{user}");
    }
}

/// The first visit of `count` visitors: their cookies, and where they were.
async fn first_visits(gate: &crate::support::Gate, count: u64) -> (Vec<String>, Seen) {
    let seen = gate.get_many("/", count).await;
    seen.assert_none_failed();
    let cookies = seen.answers.iter().map(|answer| answer.cookie.clone().expect("a cookie")).collect();
    (cookies, seen)
}

/// The id in a visitor cookie.
fn id(cookie: &str) -> &str {
    cookie.strip_prefix("tidegate=").unwrap().split('.').nth(2).unwrap()
}

#[tokio::test]
async fn ten_thousand_visitors_and_fifty_weight_changes_later_nobody_has_drifted() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    gate.shift("shop", "10%").await;
    let ten = gate.weight("shop").await;

    let (cookies, first) = first_visits(&gate, 10_000).await;
    let mut on_green = 0;
    for (cookie, answer) in cookies.iter().zip(&first.answers) {
        assert_eq!(answer.by, predicted(id(cookie), "shop", ten), "{cookie}");
        on_green += usize::from(answer.by == By::Green);
    }
    assert_share(on_green, 10_000, 0.10);
    let distinct: BTreeMap<_, _> = cookies.iter().map(|cookie| (id(cookie), ())).collect();
    assert_eq!(distinct.len(), 10_000, "every visitor has an id of his own");

    // A part of them visits again after every change, and everybody at the end.
    let visits = async |some: &[String], weight: Weight| {
        let again = some.to_vec();
        let load = Load::begin(gate.address(), move |number| {
            again.get(number as usize).map(|cookie| get("/", &[("cookie", cookie)]))
        });
        let seen = load.result().await;
        seen.assert_none_failed();
        let mut places = HashMap::new();
        for answer in seen.answers {
            let cookie = &some[answer.number as usize];
            assert_eq!(answer.by, predicted(id(cookie), "shop", weight), "{cookie} at {weight}");
            assert_eq!(answer.cookie, None, "nobody needs a new cookie so soon");
            places.insert(answer.number as usize, answer.by);
        }
        places
    };
    for change in 0..50 {
        let share = format!("{}%", 1 + (change * 37) % 99);
        gate.shift("shop", &share).await;
        visits(&cookies[..400], share.parse().unwrap()).await;
    }
    gate.shift("shop", "10%").await;
    let last = visits(&cookies, ten).await;
    for (number, answer) in first.answers.iter().enumerate() {
        assert_eq!(last[&number], answer.by);
    }
}

#[tokio::test]
async fn a_thousandth_of_a_percent_counts() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let split = "split: {by: user, user: [\"header:x-user-id\"]}";
    let gate = tidegate().service("shop", &blue, &green).with(split).start().await;
    let (user, bucket) = (0..)
        .map(|number| (format!("u{number}"), Bucket::of(format!("u{number}").as_bytes(), b"shop").index()))
        .find(|(_, bucket)| *bucket > 0)
        .unwrap();
    for (weight, says) in [(bucket - 1, "blue"), (bucket, "blue"), (bucket + 1, "green")] {
        gate.shift("shop", &Weight::from_millipercent(weight).unwrap().to_string()).await;
        assert_eq!(gate.get_with("/", &[("x-user-id", &user)]).await.text(), says, "at {weight}");
    }
}
