//! Five hundred changes of endpoints under load: nobody notices.

use crate::ONE;
use crate::support::{origin, tidegate};

#[tokio::test]
async fn five_hundred_changes_of_endpoints_under_load_fail_no_request() {
    const CHANGES: usize = 500;
    let _alone = ONE.lock().await;
    let first = [origin().says("blue").start().await, origin().says("green").start().await];
    let second = [origin().says("blue").start().await, origin().says("green").start().await];
    let gate = tidegate().service("shop", &first[0], &first[1]).with("split: {by: request}").start().await;
    gate.shift("shop", "50%").await;
    let load = gate.load("/");
    let mut made = 0;
    for round in 0.. {
        // The newer one comes, the older one rests, comes back, rests and goes.
        let (older, newer) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        for (verb, origins) in
            [("add", newer), ("drain", older), ("undrain", older), ("drain", older), ("remove", older)]
        {
            for (variant, origin) in ["blue", "green"].into_iter().zip(origins) {
                gate.endpoint(verb, variant, &origin.url()).await.unwrap();
                made += 1;
            }
            load.goes_on(10).await;
        }
        if made >= CHANGES {
            break;
        }
    }
    let seen = load.end().await;
    println!("{made} changes of endpoints, {} requests, {} failed", seen.total(), seen.failures.len());
    println!("p50 {:?}, p99 {:?}", seen.latency(0.5), seen.latency(0.99));
    seen.assert_none_failed();
    assert!(first.iter().chain(&second).all(|origin| origin.requests() > 0));
    assert_eq!(gate.weight("shop").await.to_string(), "50%");
}
