use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Session, answer, gate, origin, request};
use crate::proxy::{LiveSettings, Proxy, ProxySettings};
use crate::telemetry::{AccessLogSettings, AccessLogWrite, CodeLabel, MethodLabel};
use crate::traffic::Variant::{Blue, Green};

/// An origin that begins to answer and goes on when it is told, or ends with its connection.
fn halting() -> (super::Origin, Receiver<()>, Sender<()>) {
    let (arrived, here) = channel();
    let (go, wait) = channel::<()>();
    let ends = Mutex::new((arrived, wait));
    let origin = origin(move |request, stream| {
        if request.line.contains("/stream") {
            write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").unwrap();
            return until_closed(stream);
        }
        let ends = ends.lock().unwrap();
        ends.0.send(()).unwrap();
        let _ = ends.1.recv();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").is_ok()
    });
    (origin, here, go)
}

fn until_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let _ = stream.read(&mut byte);
    false
}

#[test]
fn a_client_that_goes_away_is_no_failure() {
    let (arrived, here) = channel();
    let (ended, end) = channel();
    let ends = Mutex::new((arrived, ended));
    let blue = origin(move |_, stream| {
        ends.lock().unwrap().0.send(()).unwrap();
        until_closed(stream);
        ends.lock().unwrap().1.send(()).unwrap();
        false
    });
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    session.send(request("GET", "/", ""));
    here.recv().unwrap();
    drop(session);
    end.recv_timeout(Duration::from_secs(30)).expect("the endpoint is not kept busy");
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!(counts.totals.failures, 0);
    assert_eq!(counts.requests[&(MethodLabel::Get, CodeLabel::of(499))], 1);
}

#[test]
fn draining_ends_connections_with_their_next_answer_and_idle_ones_at_the_deadline() {
    let blue = answer("blue");
    let drain = Duration::from_millis(500);
    let gate = gate(&blue, &blue).with(|gate| gate.drain = drain).start();
    let (mut kept, mut idle) = (Session::open(gate.address()), Session::open(gate.address()));
    assert!(!kept.ask(request("GET", "/", "")).has("connection"));
    idle.ask(request("GET", "/", ""));
    gate.proxy.drain();
    let address = gate.address();
    gate.until("no new connections", |_| TcpStream::connect(address).is_err());
    let got = kept.ask(request("GET", "/", ""));
    assert_eq!((got.status, got.one("connection")), (200, "close"));
    assert!(kept.is_closed());
    assert!(idle.is_closed());
    gate.proxy.join();
    assert_eq!(gate.tallies.process().connections_open, 0);
}

#[test]
fn draining_waits_for_requests_and_no_longer() {
    let (blue, here, go) = halting();
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    session.send(request("GET", "/", ""));
    here.recv().unwrap();
    gate.proxy.drain();
    go.send(()).unwrap();
    let got = session.read(false).unwrap();
    assert_eq!((got.text(), got.one("connection")), ("done", "close"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), gate.proxy.drained())
            .await
            .expect("before the deadline");
    });
}

#[test]
fn stopping_now_waits_for_nobody_and_counts_everybody() {
    let (blue, here, _go) = halting();
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    session.send(request("GET", "/", ""));
    here.recv().unwrap();
    gate.proxy.stop_now();
    gate.proxy.join();
    assert!(session.is_closed());
    assert_eq!(gate.counts(Blue).totals.in_flight(), 0);
}

#[test]
fn after_a_kill_open_streams_of_the_losing_variant_end() {
    let ((blue, ..), (green, ..)) = (halting(), halting());
    let gate = gate(&blue, &green)
        .tester("hunter2")
        .weight("100%")
        .with(|gate| gate.live.grace.0 = Duration::from_millis(50))
        .start();
    let open = |variant: &str| {
        let mut session = Session::open(gate.address());
        session.send(request("GET", "/stream", &format!("x-tidegate-override: {variant}:hunter2\r\n")));
        session
    };
    let (mut blue, mut green) = (open("blue"), open("green"));
    gate.until("both streams open", |gate| {
        gate.counts(Blue).totals.requests == 1 && gate.counts(Green).totals.requests == 1
    });
    gate.kill();
    assert!(!green.read(false).unwrap().is_complete);
    gate.until("the stream is over", |gate| gate.counts(Green).totals.in_flight() == 0);
    let counts = gate.counts(Green);
    assert_eq!((counts.cut, counts.totals.failures, counts.totals.late_failures), (1, 0, 0));
    assert_eq!((gate.counts(Blue).totals.in_flight(), gate.counts(Blue).cut), (1, 0));
    gate.proxy.stop_now();
    assert!(!blue.read(false).unwrap().is_complete);
}

#[test]
fn an_idle_worker_notices_a_new_table() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    gate.publish(|_| {});
    gate.until("generation 2 is seen", |gate| gate.tallies.seen_generation() == 2);
}

#[test]
fn a_kill_is_obeyed_by_the_next_request_on_a_kept_connection() {
    let (blue, green) = (answer("blue"), answer("green"));
    let gate = gate(&blue, &green).weight("100%").start();
    let mut session = Session::open(gate.address());
    for _ in 0..50 {
        gate.publish(|_| {});
        assert_eq!(session.ask(request("GET", "/", "")).text(), "green");
        gate.kill();
        assert_eq!(session.ask(request("GET", "/", "")).text(), "blue");
    }
}

#[test]
fn an_address_in_use_is_said_to_be() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let blue = answer("blue");
    let other = gate(&blue, &blue).start();
    for address in [taken.local_addr().unwrap(), other.address()] {
        let settings = ProxySettings {
            listen: vec![address],
            threads: NonZeroUsize::MIN,
            drain: Duration::ZERO,
            handover: Duration::ZERO,
            live: LiveSettings::default(),
        };
        let error = Proxy::start(settings, other.shared()).unwrap_err();
        let message = format!("address {address} is in use; stop what listens there, or choose another port");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_request_is_logged_once_at_its_end() {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let settings = AccessLogSettings { write: AccessLogWrite::All, ..AccessLogSettings::default() };
    let blue = answer("blue");
    let gate = gate(&blue, &blue).with(|gate| gate.log = Some((settings, Box::new(sink.clone())))).start();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    gate.get("/a?secret", &format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n"));
    gate.get("/%zz", "");
    let passed = blue.last().one("cdn-loop").to_owned();
    gate.get("/again", &format!("cdn-loop: {passed}\r\n"));
    gate.until_quiet();
    gate.finish();
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    let line = lines.iter().find(|line| line["status"] == 200).unwrap();
    assert_eq!((&line["method"], &line["path"]), (&"GET".into(), &"/a".into()));
    assert_eq!(
        (&line["service"], &line["variant"], &line["reason"]),
        (&"shop".into(), &"blue".into(), &"weight".into())
    );
    assert_eq!((&line["trace_id"], &line["bytes"]), (&trace.into(), &4.into()));
    assert_eq!(line["endpoint"], format!("http://{}", blue.address));
    assert_eq!(line["request_id"], blue.last().one("x-request-id"));
    let line = lines.iter().find(|line| line["status"] == 400).unwrap();
    assert!(line["service"].is_null());
    let line = lines.iter().find(|line| line["status"] == 508).unwrap();
    assert_eq!(line["error"], "loop", "what Tidegate answers with a 5xx has a reason: {line}");
}
