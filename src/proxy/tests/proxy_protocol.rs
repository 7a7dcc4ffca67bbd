use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::{Authority, Session, answer, dial, gate, request};
use crate::telemetry::ConnectionRefusal;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x12\x34\0\x50";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn us() -> Vec<ipnet::IpNet> {
    vec!["127.0.0.0/8".parse().unwrap()]
}

#[test]
fn a_trusted_peers_header_says_who_the_client_is() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).listener(|listener| listener.proxy_protocol = us()).start();
    for (header, client) in [
        (&b"PROXY TCP4 203.0.113.7 10.0.0.1 1234 80\r\n"[..], "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 1234 80\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (V2, "203.0.113.7"),
        (LOCAL, "127.0.0.1"),
    ] {
        let mut session = Session::open(gate.address());
        session.send([header, request("GET", "/", "x-forwarded-for: 9.9.9.9\r\n").as_bytes()].concat());
        assert_eq!(session.read(false).unwrap().status, 200);
        assert_eq!(blue.last().one("x-forwarded-for"), client);
        assert_eq!(session.ask(request("GET", "/", "")).status, 200, "the header comes once");
    }
}

#[test]
fn the_header_may_come_byte_by_byte() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).listener(|listener| listener.proxy_protocol = us()).start();
    for header in [&b"PROXY TCP4 203.0.113.7 10.0.0.1 1234 80\r\n"[..], V2] {
        let mut stream = dial(gate.address());
        stream.set_nodelay(true).unwrap();
        for byte in header {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut session = Session::over(stream);
        assert_eq!(session.ask(request("GET", "/", "")).status, 200);
        assert_eq!(blue.last().one("x-forwarded-for"), "203.0.113.7");
    }
}

#[test]
fn a_header_that_is_missing_malformed_or_from_a_stranger_ends_the_connection() {
    let blue = answer("blue");
    let trusting = gate(&blue, &blue).listener(|listener| listener.proxy_protocol = us()).start();
    let get = request("GET", "/", "");
    for bytes in [
        get.as_bytes(),
        b"PROXY TCP4 203.0.113.7\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 1 99999\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x12\x34\0\x50",
    ] {
        let mut session = Session::open(trusting.address());
        session.send(bytes);
        assert!(session.is_closed());
    }
    trusting.until("they are counted", |gate| gate.refused(ConnectionRefusal::ProxyHeader) == 4);

    let strange = gate(&blue, &blue)
        .listener(|listener| listener.proxy_protocol = vec!["10.0.0.0/8".parse().unwrap()])
        .start();
    for header in [&b"PROXY TCP4 203.0.113.7 10.0.0.1 1234 80\r\n"[..], V2, LOCAL] {
        let mut session = Session::open(strange.address());
        session.send([header, get.as_bytes()].concat());
        assert!(session.is_closed());
    }
    strange.until("they are counted", |gate| gate.refused(ConnectionRefusal::ProxyHeader) == 3);
    assert!(blue.seen().is_empty());
    // Without one it is a client like any other, also if its first byte could begin one.
    assert_eq!(strange.get("/", "").status, 200);
    assert_eq!(
        Session::open(strange.address()).ask(request("POST", "/", "content-length: 0\r\n")).status,
        200
    );
}

#[test]
fn a_header_that_does_not_come_is_not_waited_for() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .listener(|listener| listener.proxy_protocol = us())
        .with(|gate| gate.live.timeouts.handshake = Duration::from_millis(100))
        .start();
    let mut session = Session::open(gate.address());
    session.send("PROXY TCP4 ");
    assert!(session.is_closed());
    gate.until("it is counted", |gate| gate.refused(ConnectionRefusal::Slow) == 1);
}

#[test]
fn the_header_stands_before_tls() {
    let authority = Authority::new();
    let blue = answer("blue");
    let tls = Arc::new(authority.tls(&["shop"]));
    let gate = gate(&blue, &blue)
        .listener(|listener| {
            listener.tls = Some(tls);
            listener.proxy_protocol = us();
        })
        .start();
    for header in [&b"PROXY TCP4 203.0.113.7 10.0.0.1 1234 80\r\n"[..], V2] {
        let mut stream = dial(gate.address());
        stream.write_all(header).unwrap();
        let (mut session, _) = authority.visitor().meet_over(stream, "shop").unwrap();
        assert_eq!(session.ask(request("GET", "/", "")).status, 200);
        let seen = blue.last();
        assert_eq!((seen.one("x-forwarded-for"), seen.one("x-forwarded-proto")), ("203.0.113.7", "https"));
    }
}

#[test]
fn who_the_header_names_may_be_a_trusted_proxy() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .with(|gate| gate.live.trusted_proxies.from = vec!["203.0.113.0/24".parse().unwrap()])
        .listener(|listener| listener.proxy_protocol = us())
        .start();
    let mut session = Session::open(gate.address());
    session.send([V2, request("GET", "/", "x-forwarded-for: 9.9.9.9\r\n").as_bytes()].concat());
    assert_eq!(session.read(false).unwrap().status, 200);
    assert_eq!(blue.last().one("x-forwarded-for"), "9.9.9.9, 203.0.113.7");
}
