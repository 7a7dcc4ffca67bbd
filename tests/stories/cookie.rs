//! The visitor cookie: believed only when it is ours, shown only where it matters.

use crate::support::{Gate, Origin, origin, tidegate, until};

async fn gate(split: &str) -> (Gate, Origin, Origin) {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let mut plan = tidegate().service("shop", &blue, &green);
    if !split.is_empty() {
        plan = plan.with(split);
    }
    let gate = plan.start().await;
    gate.shift("shop", "50%").await;
    (gate, blue, green)
}

/// A genuine cookie, as `name=value`.
async fn visit(gate: &Gate) -> String {
    let answer = gate.get("/").await;
    answer.field("set-cookie").expect("a cookie").split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn forged_truncated_and_8_bit_cookies_are_ignored_and_counted() {
    let (gate, _blue, _green) = gate("").await;
    let genuine = visit(&gate).await;
    let (name, value) = genuine.split_once('=').unwrap();
    assert_eq!(name, "tidegate");
    let fields: Vec<_> = value.split('.').collect();
    let other_id = value.replacen(fields[2], "0123456789abcdef", 1);
    let flipped = format!("{}{}", &value[..value.len() - 1], if value.ends_with('0') { '1' } else { '0' });
    let rows: &[(&str, &[u8])] = &[
        ("forged", other_id.as_bytes()),
        ("forged", flipped.as_bytes()),
        ("garbled", &value.as_bytes()[..value.len() - 1]),
        ("garbled", &value.as_bytes()[..10]),
        ("garbled", b""),
        ("garbled", b"green"),
        ("garbled", b"\xff\xfe\x80\xe4"),
        ("garbled", b"1.1.1.1.1.1.1.1.1"),
    ];
    let (mut forged, mut garbled) = (0, 0);
    for (reason, value) in rows {
        let request = [b"GET / HTTP/1.1\r\nhost: a\r\ncookie: x=1; tidegate=", *value, b"\r\n\r\n"].concat();
        let answer = gate.send(&request).await.unwrap();
        assert_eq!(answer.status(), 200, "{value:?}");
        assert!(answer.field("set-cookie").is_some(), "whoever shows none of ours gets one: {value:?}");
        if *reason == "forged" {
            forged += 1
        } else {
            garbled += 1
        }
        let metrics = gate.metrics().await;
        let counted =
            |reason| metrics.count("tidegate_cookies_ignored_total", &[&format!("reason=\"{reason}\"")]);
        assert_eq!((counted("forged"), counted("garbled")), (forged, garbled), "{value:?}");
    }
    // The genuine one is still good.
    let answer = gate.get_with("/", &[("cookie", &genuine)]).await;
    assert_eq!(answer.field("set-cookie"), None);
}

#[tokio::test]
async fn the_endpoint_never_sees_it_and_sees_all_others() {
    let (gate, blue, green) = gate("").await;
    gate.shift("shop", "99%").await;
    let genuine = visit(&gate).await;
    let cookies = format!("a=1; {genuine}; b=\"2\"; tidegate-r-shop=x");
    let says = gate.get_with("/", &[("cookie", &cookies)]).await;
    let origin = if says.text() == "blue" { &blue } else { &green };
    assert_eq!(origin.last().field("cookie"), Some("a=1; b=\"2\""));
    gate.get_with("/", &[("cookie", &genuine)]).await;
    let origin = if says.text() == "blue" { &blue } else { &green };
    assert_eq!(origin.last().field("cookie"), None);
}

#[tokio::test]
async fn it_is_issued_only_while_it_decides_something() {
    let (gate, _blue, _green) = gate("").await;
    for (share, is_issued) in [("0%", false), ("0.001%", true), ("99.999%", true), ("100%", false)] {
        gate.shift("shop", share).await;
        let answer = gate.get("/").await;
        assert_eq!(answer.field("set-cookie").is_some(), is_issued, "at {share}");
        assert_eq!(answer.field("cache-control").is_some(), is_issued, "at {share}");
    }
}

#[tokio::test]
async fn over_https_it_belongs_to_the_host_alone() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate()
        .set("trusted_proxies: {from: [127.0.0.1/32]}")
        .service("shop", &blue, &green)
        .start()
        .await;
    gate.shift("shop", "50%").await;
    let answer = gate.get_with("/", &[("x-forwarded-proto", "https")]).await;
    let cookie = answer.field("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-tidegate=") && cookie.contains("; Secure"), "{cookie}");
    // A value for https means nothing over http.
    let value = cookie.split(';').next().unwrap().replace("__Host-", "");
    gate.get_with("/", &[("cookie", &value)]).await;
    assert_eq!(gate.metrics().await.count("tidegate_cookies_ignored_total", &["reason=\"forged\""]), 1);
}

#[tokio::test]
async fn cookies_outlive_a_restart() {
    let (gate, _blue, _green) = gate("").await;
    let genuine = visit(&gate).await;
    let before = gate.get_with("/", &[("cookie", &genuine)]).await;
    let gate = gate.restarts().await;
    let after = gate.get_with("/", &[("cookie", &genuine)]).await;
    assert_eq!(after.text(), before.text());
    assert_eq!(after.field("set-cookie"), None);
}

#[tokio::test]
async fn a_ratchet_keeps_visitors_on_green_until_the_weight_is_zero() {
    let (gate, _blue, _green) = gate("split: {by: cookie, ratchet: true}").await;
    gate.shift("shop", "99%").await;
    // One in a hundred is on blue; somebody else comes then.
    let cookies = until("somebody is on green", async || {
        let answer = gate.get("/").await;
        (answer.text() == "green").then(|| {
            let cookies: Vec<_> =
                answer.fields("set-cookie").map(|cookie| cookie.split(';').next().unwrap()).collect();
            assert_eq!(cookies.len(), 2, "one for the visitor, one for the ratchet: {}", answer.head);
            cookies.join("; ")
        })
    })
    .await;
    gate.shift("shop", "0.001%").await;
    assert_eq!(gate.get_with("/", &[("cookie", &cookies)]).await.text(), "green");
    gate.kill("shop").await;
    gate.arm("shop").await;
    gate.shift("shop", "0.001%").await;
    assert_eq!(gate.get_with("/", &[("cookie", &cookies)]).await.text(), "blue");
}
