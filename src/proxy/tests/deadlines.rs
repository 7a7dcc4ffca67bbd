use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{Full, Session, answer, gate, origin, request};
use crate::telemetry::{CodeLabel, Limit, ServiceLimit, ServiceSlot, UpstreamError};
use crate::traffic::Variant::Blue;

const SHORT: Duration = Duration::from_millis(100);

/// Until the proxy hangs up.
fn wait_for_the_end(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let _ = stream.read(&mut byte);
    false
}

#[test]
fn a_slow_head_is_told_so() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).with(|gate| gate.live.timeouts.head = SHORT).start();
    let mut fresh = Session::open(gate.address());
    fresh.send("GET / HTTP/1.1\r\nhost: sh");
    let got = fresh.read(false).unwrap();
    assert_eq!((got.status, got.one("connection"), got.is_complete), (408, "close", true));
    assert!(fresh.is_closed());

    let mut kept = Session::open(gate.address());
    assert_eq!(kept.ask(request("GET", "/", "")).status, 200);
    kept.send("G");
    assert_eq!(kept.read(false).unwrap().status, 408);
    assert!(kept.is_closed());
    assert_eq!(gate.tallies.process().unrouted[&CodeLabel::of(408)], 2);
}

#[test]
fn a_client_that_says_nothing_is_hung_up_on() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.live.timeouts.handshake = SHORT;
            gate.live.timeouts.keep_alive_idle = SHORT;
        })
        .start();
    assert!(Session::open(gate.address()).is_closed());
    let mut kept = Session::open(gate.address());
    assert_eq!(kept.ask(request("GET", "/", "")).status, 200);
    assert!(kept.is_closed());
    // Half of the HTTP/2 preface could still become either.
    let mut preface = Session::open(gate.address());
    preface.send("PRI * HTTP/2.0\r\n");
    assert_eq!(preface.read(false).unwrap().status, 408);
    gate.until("all connections closed", |gate| gate.tallies.process().connections_open == 0);
    assert_eq!(gate.tallies.process().connections_accepted, 3);
}

#[test]
fn an_endpoint_that_does_not_answer_is_a_gateway_timeout() {
    let blue = origin(|_, stream| wait_for_the_end(stream));
    let gate = gate(&blue, &blue).with(|gate| gate.settings.timeouts.first_byte = SHORT).start();
    let mut session = Session::open(gate.address());
    assert_eq!(session.ask(request("GET", "/", "")).status, 504);
    let got = session.ask(request("POST", "/", "content-length: 1\r\n") + "x");
    assert_eq!(got.status, 504);
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.totals.failures, blue.seen().len()), (2, 2));
    assert!(counts.upstream_errors.get(&UpstreamError::FirstByteTimeout) == Some(&2));
}

#[test]
fn a_response_that_stands_still_is_cut_off() {
    let blue = origin(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123").unwrap();
        wait_for_the_end(stream)
    });
    let gate = gate(&blue, &blue).with(|gate| gate.settings.timeouts.body_idle = SHORT).start();
    let got = gate.get("/", "");
    assert_eq!((got.status, got.is_complete, got.text()), (200, false, "123"));
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.totals.failures, counts.totals.late_failures), (0, 1));
    assert!(counts.upstream_errors.get(&UpstreamError::BodyTimeout) == Some(&1));
}

#[test]
fn a_client_that_stops_sending_its_body_is_told_so_and_nobody_else_is_charged() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.settings.timeouts.body_idle = SHORT;
            gate.settings.timeouts.first_byte = SHORT / 2;
        })
        .start();
    let mut session = Session::open(gate.address());
    let got = session.ask(request("POST", "/", "content-length: 10\r\n") + "123");
    assert_eq!(got.status, 408);
    assert!(session.is_closed());
    gate.until_quiet();
    assert_eq!(gate.counts(Blue).totals.failures, 0);
}

#[test]
fn a_client_that_does_not_read_is_let_go_and_memory_stays_bounded() {
    const BYTES: usize = 200_000_000;
    let (done, sent) = std::sync::mpsc::channel();
    let done = std::sync::Mutex::new(done);
    let blue = origin(move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").unwrap();
        let chunk = [b'x'; 64 * 1024];
        let mut count = 0;
        while count < BYTES && stream.write_all(&chunk).is_ok() {
            count += chunk.len();
        }
        done.lock().unwrap().send(count).unwrap();
        false
    });
    let gate = gate(&blue, &blue).with(|gate| gate.settings.timeouts.body_idle = SHORT).start();
    let mut session = Session::open(gate.address());
    session.send(request("GET", "/", ""));
    // The rest stays in the kernel's buffers, ours, and the origin's.
    let count = sent.recv().unwrap();
    assert!(count < BYTES / 4, "{count}");
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.totals.failures, counts.totals.late_failures), (0, 0));
    assert!(!session.read(false).unwrap().is_complete);
}

#[test]
fn a_request_is_over_after_its_total_time_and_whoever_is_waited_for_is_to_blame() {
    // It says something now and then, so that no other deadline is missed.
    let trickles = |before_head: bool| {
        origin(move |_, stream| {
            if before_head {
                return wait_for_the_end(stream);
            }
            let mut sent = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").is_ok();
            stream.set_read_timeout(Some(SHORT / 10)).unwrap();
            while sent && !matches!(stream.read(&mut [0]), Ok(0)) {
                sent = stream.write_all(b"x").is_ok();
            }
            false
        })
    };
    let of = |blue: &super::Origin| {
        gate(blue, blue).with(|gate| gate.settings.timeouts.total = Some(2 * SHORT)).start()
    };
    let blue = trickles(false);
    let slow = of(&blue);
    let got = slow.get("/", "");
    assert_eq!((got.status, got.is_complete), (200, false));
    slow.until_quiet();
    let counts = slow.counts(Blue);
    assert_eq!((counts.totals.failures, counts.totals.late_failures), (0, 1));
    assert_eq!(counts.upstream_errors.get(&UpstreamError::TotalTimeout), Some(&1));

    let blue = trickles(true);
    let silent = of(&blue);
    assert_eq!(silent.get("/", "").status, 504);
    silent.until_quiet();
    let counts = silent.counts(Blue);
    assert_eq!(counts.upstream_errors.get(&UpstreamError::TotalTimeout), Some(&1));
    assert_eq!(counts.totals.failures, 1);

    let mut uploading = Session::open(silent.address());
    let got = uploading.ask(request("POST", "/", "content-length: 10\r\n") + "123");
    assert_eq!((got.status, silent.counts(Blue).totals.failures), (408, 1));
    for (gate, hits) in [(&slow, 1), (&silent, 2)] {
        assert_eq!(gate.tallies.limit_hits(ServiceSlot(0))[ServiceLimit::Total as usize], hits);
    }
}

#[test]
fn the_total_time_ends_the_wait_for_a_connection_too() {
    let full = Full::new();
    let blue = origin(|_, _| false);
    let gate = gate(&blue, &blue)
        .endpoints(Blue, &[(full.address, crate::upstream::Health::Healthy)])
        .with(|gate| {
            gate.settings.timeouts.total = Some(SHORT);
            gate.settings.timeouts.connect = Duration::from_secs(600);
        })
        .start();
    assert_eq!(gate.get("/", "").status, 504);
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!(counts.upstream_errors.get(&UpstreamError::TotalTimeout), Some(&1));
    assert_eq!(counts.totals.failures, 1);
    drop(full);
}

#[test]
fn an_event_stream_has_a_time_of_its_own_and_nobody_is_charged_for_its_end() {
    let blue = origin(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n").unwrap();
        wait_for_the_end(stream)
    });
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.settings.timeouts.total = Some(SHORT / 2);
            gate.settings.timeouts.stream = Some(5 * SHORT);
        })
        .start();
    let begun = crate::clock::now();
    let got = gate.get("/", "");
    assert!(crate::clock::now() - begun >= 5 * SHORT);
    assert_eq!((got.status, got.is_complete, got.text()), (200, false, "data: 1\n\n"));
    gate.until_quiet();
    let totals = gate.counts(Blue).totals;
    assert_eq!((totals.failures, totals.late_failures), (0, 0));
    let hits = gate.tallies.limit_hits(ServiceSlot(0));
    assert_eq!((hits[ServiceLimit::Stream as usize], hits[ServiceLimit::Total as usize]), (1, 0));
}

#[test]
fn a_connection_that_dozes_wakes_for_the_next_request_and_is_hung_up_on_in_the_end() {
    #[allow(clippy::disallowed_methods, reason = "that nothing happens meanwhile is the point")]
    fn pause() {
        std::thread::sleep(2 * SHORT);
    }
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.live.timeouts.head = SHORT;
            gate.live.timeouts.keep_alive_idle = 10 * SHORT;
        })
        .start();
    let mut session = Session::open(gate.address());
    for _ in 0..3 {
        assert_eq!(session.ask(request("GET", "/", "")).status, 200);
        pause();
    }
    // Awake it is as strict as before.
    session.send("GET / HTTP/1.1\r\nhost: sh");
    pause();
    assert_eq!(session.read(false).unwrap().status, 408);

    // Another has begun together with the one before it, and never goes on.
    let mut session = Session::open(gate.address());
    session.send(request("GET", "/", "") + "GET / HT");
    assert_eq!(session.read(false).unwrap().status, 200);
    assert_eq!(session.read(false).unwrap().status, 408);
    assert!(session.is_closed());
    assert_eq!(gate.tallies.process().hits(Limit::HeadTime), 2);

    let mut session = Session::open(gate.address());
    assert_eq!(session.ask(request("GET", "/", "")).status, 200);
    assert!(session.is_closed());
    assert_eq!(gate.tallies.process().hits(Limit::KeepAliveIdle), 1);
}
