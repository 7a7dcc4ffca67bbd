use std::io::Write;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::frames::{END_STREAM, Frames, HEADERS};
use super::gate::Builder;
use super::{Gate, Origin, Session, answer, gate, origin, request};
use crate::proxy::LiveSettings;
use crate::telemetry::{ConnectionRefusal, Limit, ServiceLimit, ServiceSlot};
use crate::traffic::Variant::Blue;

const SHORT: Duration = Duration::from_millis(100);
const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "shop")];

fn is_served(session: &mut Session) -> bool {
    session.send(request("GET", "/", ""));
    session.read(false).is_some_and(|got| got.status == 200)
}

fn header(client: &str) -> String {
    format!("PROXY TCP4 {client} 10.0.0.1 1 2\r\n")
}

#[test]
fn only_so_many_connections_are_open_at_once() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).with(|gate| gate.live.limits.connections_max = Some(2)).start();
    let mut first: Vec<_> = (0..2).map(|_| Session::open(gate.address())).collect();
    assert!(first.iter_mut().all(is_served));
    assert!(Session::open(gate.address()).is_closed());
    assert_eq!(gate.refused(ConnectionRefusal::Full), 1);
    first.pop();
    gate.until("one has gone", |gate| gate.tallies.process().connections_open == 1);
    assert!(is_served(&mut Session::open(gate.address())));
}

#[test]
fn an_address_has_so_many_of_them_as_the_header_names_it() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.live.limits.connections_per_address_max = Some(1);
            gate.live.trusted_proxies.from = vec!["10.0.0.9/32".parse().unwrap()];
        })
        .listener(|listener| listener.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()])
        .start();
    let open = |client: &str| {
        let mut session = Session::open(gate.address());
        session.send(header(client));
        session
    };
    let mut first = open("203.0.113.7");
    assert!(is_served(&mut first));
    assert!(open("203.0.113.7").is_closed());
    assert_eq!(gate.refused(ConnectionRefusal::AddressFull), 1);
    assert!(is_served(&mut open("203.0.113.8")));
    let mut proxies: Vec<_> = (0..3).map(|_| open("10.0.0.9")).collect();
    assert!(proxies.iter_mut().all(is_served), "trusted proxies bring more than themselves");
    drop(first);
    gate.until("there is room again", |_| is_served(&mut open("203.0.113.7")));
}

#[test]
fn a_connection_ends_after_so_many_requests() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).with(|gate| gate.live.limits.requests_per_connection_max = Some(2)).start();
    let mut session = Session::open(gate.address());
    assert!(!session.ask(request("GET", "/", "")).has("connection"));
    assert_eq!(session.ask(request("GET", "/", "")).one("connection"), "close");
    assert!(session.is_closed());
}

/// An origin that answers when it is told to, once for each word.
fn patient() -> (Origin, std::sync::mpsc::Receiver<()>, std::sync::mpsc::Sender<()>) {
    let (here, arrived) = channel();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let origin = origin(move |_, stream| {
        let _ = here.send(());
        let _ = wait.lock().unwrap().recv();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_ok()
    });
    (origin, arrived, go)
}

#[test]
fn a_request_too_many_gets_503_and_no_variant_is_charged() {
    #[track_caller]
    fn check(limit: fn(&mut Builder), hit: fn(&Gate) -> u64, others_are_free: bool) {
        let ((blue, arrived, go), other) = (patient(), answer("other"));
        let gate = gate(&blue, &blue)
            .with(limit)
            .with(|gate| gate.others.push(("other".to_owned(), other.address)))
            .start();
        let mut open: Vec<_> = (0..2).map(|_| Session::open(gate.address())).collect();
        for session in &mut open {
            session.send(request("GET", "/", ""));
            arrived.recv().unwrap();
        }
        let mut late = Session::open(gate.address());
        for _ in 0..3 {
            let got = late.ask(request("GET", "/", ""));
            assert_eq!((got.status, got.one("retry-after")), (503, "5"));
            assert_eq!(got.text(), "too many requests at the moment\n");
        }
        assert_eq!(hit(&gate), 3);
        let of_other = if others_are_free { 200 } else { 503 };
        assert_eq!(late.ask("GET / HTTP/1.1\r\nhost: other\r\n\r\n").status, of_other);
        // Streams of HTTP/2 count like requests of their own.
        let mut frames = Frames::open(gate.address());
        frames.headers(END_STREAM, 1, &GET);
        while frames.read().expect("an answer").kind != HEADERS {}
        gate.until("the stream was turned away", |gate| gate.tallies.process().shed >= 4);
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert!(open.iter_mut().all(|session| session.read(false).unwrap().status == 200));
        gate.until_quiet();
        let counts = gate.counts(Blue);
        assert_eq!((counts.totals.requests, counts.totals.failures, blue.seen().len()), (2, 0, 2));
        go.send(()).unwrap();
        assert_eq!(late.ask(request("GET", "/", "")).status, 200, "there is room again");
    }
    let of_service = |gate: &Gate| gate.tallies.limit_hits(ServiceSlot(0))[ServiceLimit::Requests as usize];
    let of_all = |gate: &Gate| gate.tallies.process().hits(Limit::Requests);
    check(|gate| gate.settings.limits.requests_max = Some(2), of_service, true);
    check(|gate| gate.live.limits.requests_max = Some(2), of_all, false);
    check(|gate| gate.room.requests = 2, of_all, false);
}

#[test]
fn a_reload_changes_how_many_requests_there_may_be() {
    let (blue, arrived, go) = patient();
    let gate = gate(&blue, &blue).with(|gate| gate.live.limits.requests_max = Some(1)).start();
    let mut first = Session::open(gate.address());
    first.send(request("GET", "/", ""));
    arrived.recv().unwrap();
    assert_eq!(gate.get("/", "").status, 503);
    let mut live = LiveSettings::clone(&gate.live.load());
    live.limits.requests_max = Some(2);
    gate.live.store(Arc::new(live));
    go.send(()).unwrap();
    go.send(()).unwrap();
    gate.until("it may", |gate| gate.get("/", "").status == 200);
}

#[test]
fn every_bound_that_is_hit_is_counted_under_its_key() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .with(|gate| {
            let (limits, timeouts) = (&mut gate.live.limits, &mut gate.live.timeouts);
            limits.uri_bytes_max = 20;
            limits.fields_max = 3;
            limits.head_bytes_max = 8192;
            limits.h2_streams_max = 1;
            limits.requests_per_connection_max = Some(2);
            limits.connections_per_address_max = Some(20);
            timeouts.handshake = SHORT;
            timeouts.head = SHORT;
            timeouts.keep_alive_idle = SHORT;
            gate.settings.limits.body_bytes_max = Some(3);
        })
        .start();
    #[track_caller]
    fn check(gate: &Gate, limit: Limit, bytes: &str) {
        let before = gate.tallies.process().hits(limit);
        let mut session = Session::open(gate.address());
        session.send(bytes);
        gate.until(limit.as_str(), |gate| gate.tallies.process().hits(limit) > before);
        drop(session);
        gate.until("it has gone", |gate| gate.tallies.process().connections_open == 0);
        assert_eq!(gate.tallies.process().hits(limit), before + 1, "{}", limit.as_str());
    }
    check(&gate, Limit::Uri, &request("GET", "/123456789012345678901", ""));
    check(&gate, Limit::Fields, &request("GET", "/", "a: b\r\nc: d\r\ne: f\r\n"));
    check(&gate, Limit::Head, &request("GET", "/", &format!("a: {}\r\n", "b".repeat(9000))));
    check(&gate, Limit::Handshake, "");
    check(&gate, Limit::HeadTime, "GET / HTTP/1.1\r\nhost");
    check(&gate, Limit::KeepAliveIdle, &request("GET", "/", ""));
    let two = request("GET", "/", "").repeat(2);
    check(&gate, Limit::RequestsPerConnection, &two);

    let mut session = Session::open(gate.address());
    assert_eq!(session.ask(request("POST", "/", "content-length: 4\r\n")).status, 413);
    assert_eq!(gate.tallies.limit_hits(ServiceSlot(0))[ServiceLimit::Body as usize], 1);
    let mut frames = Frames::open(gate.address());
    frames.headers(END_STREAM, 1, &GET);
    gate.until("a stream", |gate| gate.tallies.process().hits(Limit::H2Streams) == 1);

    gate.until("all have gone", |gate| gate.tallies.process().connections_open == 0);
    let mut kept: Vec<_> = (0..20).map(|_| Session::open(gate.address())).collect();
    kept.iter_mut().for_each(|session| session.send("G"));
    assert!(Session::open(gate.address()).is_closed() || kept.is_empty());
    gate.until("one too many", |gate| gate.tallies.process().hits(Limit::ConnectionsPerAddress) > 0);
}
