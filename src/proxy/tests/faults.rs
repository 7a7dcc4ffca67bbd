use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use super::{Full, Session, answer, endpoint, gate, origin, request};
use crate::routing::{Group, Member, WhenUnhealthy};
use crate::telemetry::{CodeLabel, UpstreamError, VariantCounts};
use crate::traffic::Variant::{Blue, Green};
use crate::upstream::Health::{Healthy, Unhealthy};
use crate::upstream::Reach;

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn errors(counts: &VariantCounts, error: UpstreamError) -> u64 {
    counts.upstream_errors.get(&error).copied().unwrap_or_default()
}

#[test]
fn an_endpoint_that_refuses_is_a_failure_and_says_nothing_about_itself() {
    let blue = answer("blue");
    let address = nobody();
    let gate = gate(&blue, &blue).endpoints(Blue, &[(address, Healthy)]).start();
    let got = gate.get("/", "");
    assert_eq!((got.status, got.text()), (502, "the service gave no valid answer\n"));
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.totals.requests, counts.totals.failures, counts.retried()), (1, 1, 2));
    assert_eq!(errors(&counts, UpstreamError::Connect), 3);
}

#[test]
fn another_endpoint_answers_for_one_that_refuses_but_the_failure_counts() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).endpoints(Blue, &[(nobody(), Healthy), (blue.address, Healthy)]).start();
    for _ in 0..20 {
        let mut session = Session::open(gate.address());
        let got = session.ask(request("POST", "/", "content-length: 2\r\n") + "ab");
        assert_eq!(got.status, 200);
    }
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!(counts.totals.requests, 20);
    assert!(counts.totals.failures > 0 && counts.totals.failures == counts.retried(), "{counts:?}");
    assert_eq!(blue.seen().len(), 20);
}

#[test]
fn without_a_healthy_endpoint_stable_answers_for_the_candidate_and_the_candidate_is_charged() {
    let (blue, green) = (answer("blue"), answer("green"));
    let gate = gate(&blue, &green)
        .endpoints(Green, &[(green.address, Unhealthy)])
        .weight("99.999%")
        .with(|gate| gate.split.ratchet = true)
        .start();
    let got = gate.get("/", "");
    assert_eq!((got.text(), got.one("x-tidegate-variant")), ("blue", "blue"));
    assert!(!got.has("set-cookie"));
    gate.until_quiet();
    let counts = gate.counts(Green);
    assert_eq!((counts.totals.requests, counts.totals.failures, counts.spilled), (1, 1, 1));
    assert_eq!((errors(&counts, UpstreamError::NoHealthyEndpoint), counts.ttfb.count()), (1, 0));
    assert_eq!(gate.counts(Blue).totals.requests, 0);
}

#[test]
fn failures_in_a_row_at_an_endpoint_ring_where_somebody_wants_to_know() {
    let failing = origin(|_, stream| write!(stream, "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").is_ok());
    let gate = gate(&failing, &failing).start();
    let ring_after = |failures| {
        gate.publish(|service| service.groups[Blue].members()[0].endpoint.ring_after(failures));
    };
    let rings = || std::pin::pin!(gate.tallies.endpoints_alarm().notified()).as_mut().enable();
    let fail = |times| {
        (0..times).for_each(|_| assert_eq!(gate.get("/", "").status, 500));
        gate.until_quiet();
    };
    fail(3);
    assert!(!rings(), "nobody asked");
    ring_after(Some(3));
    fail(2);
    assert!(!rings());
    fail(1);
    assert!(rings(), "the sixth");
    ring_after(None);
    fail(3);
    assert!(!rings());
}

#[test]
fn stable_never_spills_and_a_candidate_may_be_told_not_to() {
    let (blue, green) = (answer("blue"), answer("green"));
    let dead = gate(&blue, &green).endpoints(Blue, &[(blue.address, Unhealthy)]).start();
    assert_eq!(dead.get("/", "").status, 503);
    let strict = gate(&blue, &green)
        .endpoints(Green, &[(green.address, Unhealthy)])
        .weight("100%")
        .with(|gate| gate.settings.when_unhealthy.green = WhenUnhealthy::Fail)
        .start();
    assert_eq!(strict.get("/", "").status, 503);
    strict.until_quiet();
    assert_eq!(strict.counts(Green).totals.failures, 1);
    assert!(blue.seen().is_empty() && green.seen().is_empty());
}

#[test]
fn a_get_is_asked_again_when_a_kept_connection_breaks_and_a_post_is_not() {
    for (method, status, seen) in [("GET", 200, 2), ("POST", 502, 1)] {
        let blue = origin(|request, stream| {
            let is_second = request.line.contains("/second") && request.connection == 0;
            !is_second && write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
        });
        let gate = gate(&blue, &blue).start();
        let mut session = Session::open(gate.address());
        assert_eq!(session.ask(request("GET", "/first", "")).status, 200);
        let body = if method == "POST" { "content-length: 1\r\n\r\nx" } else { "\r\n" };
        let second = format!("{method} /second HTTP/1.1\r\nhost: shop\r\n{body}");
        assert_eq!(session.ask(second).status, status);
        let count = blue.seen().iter().filter(|seen| seen.line.contains("/second")).count();
        assert_eq!(count, seen, "{method}");
        gate.until_quiet();
        assert_eq!(gate.counts(Blue).totals.failures, 1);
    }
}

#[test]
fn a_connection_that_the_endpoint_closed_in_between_is_nobodys_failure() {
    let (told, tell) = channel();
    let told = Mutex::new(told);
    let blue = origin(move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").unwrap();
        told.lock().unwrap().send(()).is_err()
    });
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    for _ in 0..5 {
        let got = session.ask(request("POST", "/", "content-length: 1\r\n") + "x");
        assert_eq!((got.status, got.has("connection")), (200, false));
        tell.recv().unwrap();
    }
    gate.until_quiet();
    assert_eq!((gate.counts(Blue).totals.failures, blue.connections()), (0, 5));
}

#[test]
fn a_connection_that_breaks_is_given_up_after_a_few_attempts() {
    let blue = origin(|_, _| false);
    let gate = gate(&blue, &blue).start();
    assert_eq!(gate.get("/", "").status, 502);
    gate.until_quiet();
    assert_eq!((blue.seen().len(), errors(&gate.counts(Blue), UpstreamError::Reset)), (3, 3));
    assert_eq!(gate.counts(Blue).totals.failures, 1);
}

#[test]
fn garbage_is_a_bad_gateway() {
    for garbage in [
        "HTTP/1.1 abc\r\n\r\n",
        "SSH-2.0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ] {
        let blue = origin(move |_, stream| stream.write_all(garbage.as_bytes()).is_err());
        let gate = gate(&blue, &blue).start();
        assert_eq!(gate.get("/", "").status, 502, "{garbage}");
        gate.until_quiet();
        let counts = gate.counts(Blue);
        assert_eq!(errors(&counts, UpstreamError::Protocol), 1, "{garbage} {:?}", counts.upstream_errors);
    }
}

#[test]
fn a_5xx_of_the_endpoint_passes_and_is_a_failure() {
    let blue =
        origin(|_, stream| write!(stream, "HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops").is_ok());
    let gate = gate(&blue, &blue).start();
    let got = gate.get("/", "");
    assert_eq!((got.status, got.text()), (500, "oops"));
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.totals.failures, counts.ttfb.count(), blue.seen().len()), (1, 1, 1));
}

#[test]
fn a_truncated_response_is_seen_as_truncated_and_is_a_late_failure() {
    for head in ["content-length: 10", "transfer-encoding: chunked"] {
        let blue = origin(move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\n12").unwrap();
            false
        });
        let gate = gate(&blue, &blue).start();
        let mut session = Session::open(gate.address());
        let got = session.ask(request("GET", "/", ""));
        assert_eq!((got.status, got.is_complete), (200, false), "{head}");
        assert!(session.is_closed());
        let mut old = Session::open(gate.address());
        assert!(!old.ask("GET / HTTP/1.0\r\n\r\n").is_complete, "{head} to HTTP/1.0");
        gate.until_quiet();
        let counts = gate.counts(Blue);
        assert_eq!((counts.totals.failures, counts.totals.late_failures), (0, 2));
        assert_eq!(errors(&counts, UpstreamError::Truncated), 2);
    }
}

#[test]
fn an_answer_that_comes_before_the_upload_is_over_passes_through() {
    let blue = origin(|_, stream| {
        write!(stream, "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno")
            .unwrap();
        // Until the proxy hangs up: closing with unread bytes would reset the answer away.
        let _ = std::io::copy(stream, &mut std::io::sink());
        false
    });
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    session.send(request("POST", "/", "x-do-not-read: 1\r\ncontent-length: 100000000\r\n"));
    session.send(vec![b'x'; 1000]);
    let got = session.read(false).unwrap();
    assert_eq!((got.status, got.text()), (401, "no"));
}

#[test]
fn a_retry_after_a_kill_goes_to_stable() {
    let blue = answer("blue");
    let (go, wait) = channel::<()>();
    let (here, arrived) = channel::<()>();
    let gates = Mutex::new((wait, here));
    let green = origin(move |request, stream| {
        if request.line.contains("/second") {
            let gates = gates.lock().unwrap();
            gates.1.send(()).unwrap();
            let _ = gates.0.recv();
            return false;
        }
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ngreen").is_ok()
    });
    let gate = gate(&blue, &green).weight("100%").start();
    let mut session = Session::open(gate.address());
    assert_eq!(session.ask(request("GET", "/first", "")).text(), "green");
    session.send(request("GET", "/second", ""));
    arrived.recv().unwrap();
    gate.kill();
    go.send(()).unwrap();
    assert_eq!(session.read(false).unwrap().text(), "blue");
    gate.until_quiet();
    assert_eq!((gate.counts(Green).totals.requests, gate.counts(Green).totals.failures), (2, 1));
    assert_eq!(gate.counts(Blue).totals.requests, 0);
}

#[test]
fn who_waits_for_a_connection_while_the_candidate_is_killed_goes_to_stable() {
    let (blue, green) = (answer("blue"), Full::new());
    let gate = gate(&blue, &blue)
        .endpoints(Green, &[(green.address, Healthy)])
        .weight("100%")
        .with(|gate| gate.settings.timeouts.connect = std::time::Duration::from_secs(60))
        .start();
    let mut session = Session::open(gate.address());
    session.send(request("GET", "/", ""));
    gate.until("it is on its way to green", |gate| gate.counts(Green).totals.started == 1);
    gate.kill();
    let green =
        green.opens(|_, stream| write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ngreen").is_ok());
    assert_eq!(session.read(false).unwrap().text(), "blue");
    gate.until_quiet();
    assert_eq!((green.seen().len(), gate.counts(Green).totals.failures), (0, 0));
}

#[test]
fn a_request_that_comes_back_goes_round_no_further() {
    let blue = answer("blue");
    let (first, between) = (gate(&blue, &blue).start(), gate(&blue, &blue));
    let between = between.endpoints(Blue, &[(first.address(), Healthy)]).start();
    for address in [first.address(), between.address()] {
        let before = first.tallies.process().connections_accepted;
        first.publish(|service| {
            let url = format!("http://{address}").parse().unwrap();
            let endpoint = Arc::new(endpoint(u32::from(address.port()), url, &Reach::default()));
            service.groups[Blue] = Group::new(None, vec![Member::new(endpoint, Healthy)]);
        });
        let got = first.get("/", "cdn-loop: other; v=1\r\n");
        assert_eq!((got.status, got.has("cdn-loop")), (508, false));
        assert_eq!(first.tallies.process().connections_accepted - before, 2);
    }
    assert_eq!(first.tallies.process().unrouted[&CodeLabel::of(508)], 2);
    // Others may have seen it, and it may say so.
    assert_eq!(gate(&blue, &blue).start().get("/", "cdn-loop: tidegate-1, x\r\n").status, 200);
    assert_eq!(blue.last().all("cdn-loop")[0], "tidegate-1, x");
}
