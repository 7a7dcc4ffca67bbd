//! What endpoints say out of the ordinary, seen from the client.

use std::io::{Read, Write};

use super::{Session, gate, origin, request};
use crate::telemetry::UpstreamError;
use crate::traffic::Variant::Blue;

#[test]
fn a_client_that_waits_for_100_gets_it_from_the_endpoint_or_its_final_answer_at_once() {
    let blue = origin(|request, stream| {
        assert_eq!(request.one("expect"), "100-continue");
        if request.line.contains("/no") {
            return write!(stream, "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno").is_err();
        }
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"hello");
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let gate = gate(&blue, &blue).start();
    let lines = "expect: 100-continue\r\nx-do-not-read: 1\r\ncontent-length: 5\r\n";
    let mut session = Session::open(gate.address());
    for _ in 0..2 {
        session.send(request("POST", "/", lines));
        assert_eq!(session.read(false).unwrap().status, 100);
        session.send("hello");
        assert_eq!(session.read(false).unwrap().text(), "ok");
    }
    session.send(request("POST", "/no", lines));
    let got = session.read(false).unwrap();
    assert_eq!((got.status, got.text()), (417, "no"));
}

#[test]
fn an_old_client_expects_nothing() {
    let blue = origin(|request, stream| {
        assert!(!request.has("expect"));
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    let got = session.ask("POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nx");
    assert_eq!((got.status, got.text()), (200, "ok"));
}

#[test]
fn early_hints_stop_here() {
    let blue = origin(|_, stream| {
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        write!(stream, "{hints}{hints}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let gate = gate(&blue, &blue).start();
    let got = gate.get("/", "");
    assert_eq!((got.status, got.text(), got.has("link")), (200, "ok", false));
}

#[test]
fn what_follows_an_answer_is_never_taken_for_the_next_one() {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for head in ["content-length: 2\r\n\r\nok", "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"] {
        // In one write: what comes after the next request was sent is beyond telling apart.
        let text = format!("HTTP/1.1 200 OK\r\n{head}{evil}");
        let blue = origin(move |_, stream| stream.write_all(text.as_bytes()).is_ok());
        let gate = gate(&blue, &blue).start();
        let mut session = Session::open(gate.address());
        for _ in 0..5 {
            assert_eq!(session.ask(request("GET", "/", "")).text(), "ok");
        }
        assert_eq!(blue.connections(), 5);
        gate.until_quiet();
        assert_eq!(gate.counts(Blue).totals.failures, 0);
    }
}

#[test]
fn what_could_be_read_in_two_ways_reaches_nobody() {
    for text in [
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: \0\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let blue = origin(move |_, stream| stream.write_all(text.as_bytes()).is_err());
        let gate = gate(&blue, &blue).start();
        assert_eq!(gate.get("/", "").status, 502, "{text}");
        gate.until_quiet();
        let counts = gate.counts(Blue);
        assert_eq!(counts.upstream_errors.get(&UpstreamError::Protocol), Some(&1), "{text}");
        assert_eq!((blue.seen().len(), counts.totals.failures), (1, 1), "{text}");
    }
}

#[test]
fn garbled_chunks_are_a_late_failure_and_a_broken_answer() {
    let blue = origin(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nx\r\n").is_ok()
    });
    let gate = gate(&blue, &blue).start();
    let got = gate.get("/", "");
    assert_eq!((got.status, got.is_complete), (200, false));
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.totals.failures, counts.totals.late_failures), (0, 1));
    assert_eq!(counts.upstream_errors.get(&UpstreamError::Protocol), Some(&1));
}
