//! Whatever clients send, they get a short answer of ours, it is counted, and everybody else is served.

use std::collections::BTreeMap;

use crate::support::{Gate, Mood, Wire, connect, get, origin, tidegate, until};

/// How many requests no service got, by status.
async fn unrouted(gate: &Gate, code: u16) -> u64 {
    gate.metrics().await.count("tidegate_unrouted_requests_total", &[&format!("code=\"{code}\"")])
}

#[tokio::test]
async fn malformed_requests_are_refused_and_counted() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).with("host: shop.test").start().await;
    let host = "host: shop.test\r\n";
    let with = |head: &str| format!("{head}\r\n{host}\r\n");
    let giant_field = format!("GET / HTTP/1.1\r\n{host}a: {}\r\n\r\n", "x".repeat(40_000));
    let many_fields = format!("GET / HTTP/1.1\r\n{host}{}\r\n", "a: 1\r\n".repeat(150));
    let long_target = with(&format!("GET /{} HTTP/1.1", "x".repeat(10_000)));
    let chunked = "transfer-encoding: chunked\r\n";
    let rows: &[(String, u16)] = &[
        (with("GET / HTTP/1.1\r\nno colon"), 400),
        (with("GET / HTTP/1.1\r\nspace : 1"), 400),
        (with("GET / HTTP/9.9"), 400),
        (with("G E T / HTTP/1.1"), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (with("GET / HTTP/1.1\r\nhost: other.test"), 400),
        (with("GET http://other.test/ HTTP/1.1"), 400),
        (with("GET /%2e%2e/..%2f HTTP/1.1"), 400),
        (with("GET /a%00b HTTP/1.1"), 400),
        (with("GET /%zz HTTP/1.1"), 400),
        (with("POST / HTTP/1.1\r\ncontent-length: -1"), 400),
        (with("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2"), 400),
        (with("POST / HTTP/1.1\r\ncontent-length: 99999999999999999999"), 400),
        (with("POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked"), 400),
        (with("POST / HTTP/1.1\r\ntransfer-encoding: xchunked"), 400),
        (with(&format!("POST / HTTP/1.1\r\n{chunked}transfer-encoding: chunked")), 400),
        ("GET / HTTP/1.1\r\nhost: nobody.test\r\n\r\n".to_owned(), 404),
        ("GET / HTTP/1.1\r\nhost: xshop.test\r\n\r\n".to_owned(), 404),
        ("CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test:443\r\n\r\n".to_owned(), 405),
        (with("TRACE / HTTP/1.1"), 405),
        (long_target, 414),
        (giant_field, 431),
        (many_fields, 431),
    ];
    let mut expected: BTreeMap<u16, u64> = BTreeMap::new();
    for (request, status) in rows {
        let shown = &request[..request.len().min(90)];
        let answer = gate.send(request.as_bytes()).await.unwrap_or_else(|error| panic!("{error}: {shown:?}"));
        assert_eq!(answer.status(), *status, "{shown:?}");
        assert!(answer.body.len() < 100, "{:?}", answer.text());
        *expected.entry(*status).or_default() += 1;
        let (all, status) = (expected[status], *status);
        until(&format!("{shown:?} is counted"), async || {
            (unrouted(&gate, status).await == all).then_some(())
        })
        .await;
    }
    assert_eq!(gate.get_with("/", &[("host", "SHOP.test.:80")]).await.text(), "blue");
    assert_eq!(blue.requests(), 1, "nothing else was forwarded");
}

#[tokio::test]
async fn slow_heads_and_silent_connections_end() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate()
        .set("timeouts: {handshake: 200ms, head: 200ms, keep_alive_idle: 200ms}")
        .service("shop", &blue, &green)
        .start()
        .await;
    let mut slow = connect(gate.address()).await.unwrap();
    slow.write(b"GET / HTTP/1.1\r\nhost: sh").await.unwrap();
    let answer = slow.answer().await.unwrap();
    assert_eq!((answer.status(), answer.field("connection")), (408, Some("close")));
    assert!(slow.rest().await.unwrap().is_empty());
    assert_eq!(unrouted(&gate, 408).await, 1);

    let mut silent = connect(gate.address()).await.unwrap();
    assert!(silent.rest().await.unwrap().is_empty(), "nothing is said to who says nothing");
    let mut idle = connect(gate.address()).await.unwrap();
    assert_eq!(idle.ask(&get("/", &[])).await.unwrap().text(), "blue");
    assert!(idle.rest().await.unwrap().is_empty());
    assert_eq!(gate.get("/").await.text(), "blue");
}

#[tokio::test]
async fn what_the_endpoint_does_wrong_is_502_503_or_504_without_a_word_about_it() {
    let (mut blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate()
        .service("shop", &blue, &green)
        .with("timeouts: {first_byte: 100ms}")
        .with("limits: {body: 1KiB}")
        .with("health: {interval: 100ms, timeout: 100ms, up: 1, down: 1}")
        .start()
        .await;
    let post = |length: usize| format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    let answer = gate.send(post(1025).as_bytes()).await.unwrap();
    assert_eq!((answer.status(), blue.requests()), (413, 0));
    assert_eq!(gate.send((post(1024) + &"x".repeat(1024)).as_bytes()).await.unwrap().text(), "blue");

    blue.turns(Mood::Resets);
    let reset = gate.get("/").await;
    blue.turns(Mood::Holds);
    let late = gate.get("/").await;
    blue.stops();
    until("blue is known to be gone", async || {
        let blue = gate.service("shop").await.variants.blue;
        (blue.endpoints[0].health == "unhealthy").then_some(())
    })
    .await;
    let gone = gate.get("/").await;
    assert_eq!((reset.status(), late.status(), gone.status()), (502, 504, 503));
    assert!(gone.field("retry-after").is_some());
    for answer in [&answer, &reset, &late, &gone] {
        assert!(answer.field("x-request-id").is_some(), "{}", answer.head);
        assert!(!answer.text().contains("127.0.0.1") && answer.body.len() < 80, "{}", answer.text());
    }
    let metrics = gate.metrics().await;
    for code in ["413", "502", "503", "504"] {
        assert_eq!(metrics.count("tidegate_requests_total", &[&format!("code=\"{code}\"")]), 1, "{code}");
    }
    // A client's fault is none of blue's.
    assert_eq!(metrics.count("tidegate_failures_total", &["variant=\"blue\""]), 3);
}

#[tokio::test]
async fn a_truncated_answer_is_seen_as_truncated() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate = tidegate().service("shop", &blue, &green).start().await;
    blue.turns(Mood::Truncates);
    let mut client = connect(gate.address()).await.unwrap();
    assert!(client.ask(&get("/", &[])).await.is_err(), "the client must notice");
    until("it is counted", async || {
        let metrics = gate.metrics().await;
        (metrics.count("tidegate_late_failures_total", &["variant=\"blue\""]) == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn garbage_of_every_first_byte_harms_nobody() {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let gate =
        tidegate().set("timeouts: {handshake: 1s, head: 1s}").service("shop", &blue, &green).start().await;
    let load = gate.load("/");
    for first in 0..=255u8 {
        let mut wire = connect(gate.address()).await.unwrap();
        wire.write(&[&[first; 64][..], b"\r\n\r\n"].concat()).await.unwrap();
        let end = wire.rest().await.unwrap_or_default();
        // Empty lines may precede a request; of nothing else is there more to come.
        let says: &[u8] = if first == b'\n' { b"HTTP/1.1 408" } else { b"HTTP/1.1 400" };
        assert!(end.is_empty() || end.starts_with(says), "{first}: {}", String::from_utf8_lossy(&end));
    }
    // HTTP/2 that is none after its preface.
    let mut wire: Wire<_> = connect(gate.address()).await.unwrap();
    wire.write(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0xff; 100]].concat()).await.unwrap();
    drop(wire.rest().await);
    load.goes_on(100).await;
    load.end().await.assert_none_failed();
}
