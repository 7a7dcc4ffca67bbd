use super::{Session, answer, gate, request};
use crate::telemetry::CodeLabel;

#[test]
fn what_is_malformed_or_too_large_gets_its_status() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.settings.limits.body_bytes_max = Some(10);
            gate.settings.routes[0].host = "shop".parse().unwrap();
        })
        .start();
    #[track_caller]
    fn check(gate: &super::Gate, bytes: &str, status: u16, closes: bool) {
        let mut session = Session::open(gate.address());
        session.send(bytes);
        let got = session.read(bytes.starts_with("HEAD")).unwrap_or_default();
        assert_eq!(got.status, status, "{bytes:.80}");
        if closes {
            assert!(session.is_closed(), "{bytes:.80}");
        } else {
            assert!(session.ask(request("GET", "/", "")).status == 200, "{bytes:.80}");
        }
    }
    let check = |bytes: &str, status, closes| check(&gate, bytes, status, closes);
    check("GET / HTTP/1.1\r\n\r\n", 400, true);
    check("GET / HTTP/1.1\r\nhost: shop\r\nhost: shop\r\n\r\n", 400, true);
    check("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400, true);
    check("GET http://shop/ HTTP/1.1\r\nhost: cart\r\n\r\n", 400, true);
    check(&request("GET", "/a%2Fb", ""), 400, true);
    check(&request("GET", "/a\\b", ""), 400, true);
    check(&request("POST", "/", "transfer-encoding: gzip, chunked\r\n"), 400, true);
    check(&request("POST", "/", "transfer-encoding: identity\r\n"), 400, true);
    check("POST / HTTP/1.0\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, true);
    check(&request("POST", "/", "content-length: 1\r\ncontent-length: 2\r\n"), 400, true);
    check(&request("POST", "/", "content-length: +1\r\n"), 400, true);
    check("garbage\r\n\r\n", 400, true);
    check(&request("GET", "/", "bad header\r\n"), 400, true);
    check(&request("CONNECT", "shop:443", ""), 405, true);
    check(&request("TRACE", "/", ""), 405, true);
    check(&request("OPTIONS", "*", ""), 200, false);
    check("GET / HTTP/1.1\r\nhost: cart\r\n\r\n", 404, false);
    check("HEAD / HTTP/1.1\r\nhost: cart\r\n\r\n", 404, false);
    check(&request("GET", &format!("/{}", "a".repeat(9_000)), ""), 414, false);
    check(&request("GET", "/", &format!("x: {}\r\n", "a".repeat(40_000))), 431, true);
    check(&request("GET", "/", &"x: y\r\n".repeat(101)), 431, true);
    check(&request("POST", "/", "content-length: 11\r\n"), 413, true);
    assert!(blue.seen().iter().all(|seen| seen.line == "GET / HTTP/1.1"));

    let unrouted = gate.tallies.process().unrouted;
    for (code, count) in [(400, 13), (404, 2), (405, 2), (414, 1), (431, 2)] {
        assert_eq!(unrouted.get(&CodeLabel::of(code)), Some(&count), "{code}");
    }
}

#[test]
fn an_answer_of_our_own_is_one_line_with_the_request_id() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).endpoints(crate::traffic::Variant::Blue, &[]).trusting_us().start();
    let got = gate.get("/", "x-request-id: theirs-1\r\n");
    assert_eq!((got.status, got.text()), (503, "the service is not available at the moment\n"));
    assert_eq!((got.one("x-request-id"), got.one("retry-after")), ("theirs-1", "5"));
    assert_eq!(got.one("content-type"), "text/plain; charset=utf-8");
    let head = Session::open(gate.address()).ask(request("HEAD", "/", ""));
    assert_eq!((head.status, head.body.len()), (503, 0));
}

#[test]
fn a_body_that_grows_too_large_is_stopped_and_nobody_else_is_charged() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).with(|gate| gate.settings.limits.body_bytes_max = Some(10)).start();
    let mut session = Session::open(gate.address());
    let got =
        session.ask(request("POST", "/", "transfer-encoding: chunked\r\n") + "5\r\n12345\r\n6\r\n123456\r\n");
    assert_eq!(got.status, 413);
    assert!(session.is_closed());
    let mut session = Session::open(gate.address());
    let got =
        session.ask(request("POST", "/", "transfer-encoding: chunked\r\n") + "a\r\n1234567890\r\n0\r\n\r\n");
    assert_eq!(got.status, 200);
    gate.until_quiet();
    assert_eq!(gate.counts(crate::traffic::Variant::Blue).totals.failures, 0);
}

#[test]
fn a_broken_body_is_the_clients_fault() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    session.send(request("POST", "/", "transfer-encoding: chunked\r\n") + "5\r\n12345\r\nzz\r\n");
    assert_eq!(session.read(false).unwrap().status, 400);
    assert!(session.is_closed());
    gate.until_quiet();
    assert_eq!(gate.counts(crate::traffic::Variant::Blue).totals.failures, 0);
    assert!(blue.seen().is_empty());
}

#[test]
fn two_lengths_are_never_forwarded() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    for lines in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
    ] {
        let mut session = Session::open(gate.address());
        session.send(request("POST", "/", lines) + "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: shop\r\n\r\n");
        assert_eq!(session.read(false).unwrap().status, 400);
        assert!(session.is_closed());
    }
    assert!(blue.seen().is_empty());
}
