//! Services do not get into each other's way.

use crate::support::{origin, tidegate};

#[tokio::test]
async fn among_three_hundred_services_each_moves_alone() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let mut plan = tidegate();
    for number in 0..300 {
        plan = plan.service(&format!("s{number}"), &blue, &green).with(&format!("path: /s{number}"));
    }
    let gate = plan.start().await;
    gate.shift_all(&[("s7", "100%"), ("s299", "100%")], &[]).await.unwrap();
    for number in [0, 7, 70, 77, 298, 299] {
        let expected = if [7, 299].contains(&number) { "green" } else { "blue" };
        assert_eq!(gate.get(&format!("/s{number}/x")).await.text(), expected, "s{number}");
    }
    assert_eq!(gate.get("/s300").await.status(), 404);
    gate.kill("s7").await;
    assert_eq!((gate.get("/s7").await.text(), gate.get("/s299").await.text()), ("blue", "green"));
    let gate = gate.restarts().await;
    assert_eq!((gate.get("/s7").await.text(), gate.get("/s299").await.text()), ("blue", "green"));
    let metrics = gate.metrics().await;
    assert_eq!(metrics.count("tidegate_locked", &["service=\"s7\""]), 1);
    assert_eq!(metrics.sum("tidegate_weight_ratio", &["variant=\"green\""]), 1.0);
}
