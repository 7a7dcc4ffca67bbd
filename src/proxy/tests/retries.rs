//! Attempts after the first one: when there are some, what they send, and how many of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::{Origin, Session, answer, gate, origin, request};
use crate::routing::Retries;
use crate::telemetry::{RetryReason, UpstreamError, VariantCounts};
use crate::traffic::Variant::Blue;
use crate::traffic::Weight;
use crate::upstream::Health::{self, Healthy};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

fn at(origins: &[&Origin]) -> Vec<(SocketAddr, Health)> {
    origins.iter().map(|origin| (origin.address, Healthy)).collect()
}

/// Without pauses, and with more budget than any story needs.
fn eager(change: impl FnOnce(&mut Retries)) -> Option<Retries> {
    let mut retries = Retries { backoff: Duration::ZERO, budget_floor: 1000, ..Retries::default() };
    change(&mut retries);
    Some(retries)
}

fn retried(counts: &VariantCounts, reason: RetryReason) -> u64 {
    counts.retries[reason as usize]
}

fn wait_for_the_end(stream: &mut TcpStream) -> bool {
    let _ = stream.read(&mut [0]);
    false
}

#[test]
fn a_get_that_broke_goes_elsewhere_and_a_post_is_never_executed_twice() {
    let (breaks, works) = (origin(|_, _| false), origin(|_, stream| stream.write_all(OK.as_bytes()).is_ok()));
    let gate = gate(&breaks, &breaks)
        .endpoints(Blue, &at(&[&breaks, &works]))
        .with(|gate| gate.settings.retries = eager(|_| {}))
        .start();
    for number in 0..20 {
        assert_eq!(gate.get(&format!("/get-{number}"), "").status, 200);
        let post = request("POST", &format!("/post-{number}"), "content-length: 1\r\n") + "x";
        assert!(matches!(Session::open(gate.address()).ask(post).status, 200 | 502));
    }
    gate.until_quiet();
    let posts: Vec<_> =
        breaks.seen().into_iter().chain(works.seen()).filter(|seen| seen.line.contains("/post")).collect();
    assert_eq!(posts.len(), 20);
    let counts = gate.counts(Blue);
    let resets = counts.upstream_errors[&UpstreamError::Reset];
    assert_eq!((counts.totals.failures, counts.totals.requests), (breaks.seen().len() as u64, 40));
    assert_eq!(resets, breaks.seen().len() as u64);
    assert!(retried(&counts, RetryReason::Reset) > 0 && counts.retried() < resets, "{counts:?}");
}

#[test]
fn who_names_no_host_asks_each_endpoint_by_its_own_name() {
    let (breaks, works) = (origin(|_, _| false), origin(|_, stream| stream.write_all(OK.as_bytes()).is_ok()));
    let gate = gate(&breaks, &breaks)
        .endpoints(Blue, &at(&[&breaks, &works]))
        .with(|gate| gate.settings.retries = eager(|_| {}))
        .start();
    while breaks.seen().is_empty() {
        assert_eq!(Session::open(gate.address()).ask("GET / HTTP/1.0\r\n\r\n").status, 200);
    }
    assert_eq!(breaks.last().one("host"), breaks.address.to_string());
    assert_eq!(works.last().one("host"), works.address.to_string());
}

#[test]
fn a_status_is_tried_again_where_it_is_named_and_its_connection_serves_on() {
    let busy = origin(|_, stream| stream.write_all(BUSY.as_bytes()).is_ok());
    let works = answer("ok");
    let gate = gate(&busy, &busy)
        .endpoints(Blue, &at(&[&busy, &works]))
        .with(|gate| gate.settings.retries = eager(|retries| retries.on.statuses = vec![503]))
        .start();
    let mut session = Session::open(gate.address());
    for _ in 0..30 {
        assert_eq!(session.ask(request("GET", "/", "")).text(), "ok");
    }
    let posts: Vec<_> = (0..10)
        .map(|_| session.ask(request("POST", "/post", "content-length: 1\r\n") + "x").status)
        .collect();
    assert!(posts.contains(&503), "nothing repeats a POST: {posts:?}");
    gate.until_quiet();
    let counts = gate.counts(Blue);
    let failed = busy.seen().len() as u64;
    assert!(failed > 1 && busy.connections() == 1, "{failed} {}", busy.connections());
    assert_eq!((counts.totals.failures, counts.totals.requests), (failed, 40));
    assert_eq!(
        retried(&counts, RetryReason::Status),
        failed - posts.iter().filter(|s| **s == 503).count() as u64
    );
}

#[test]
fn the_last_answer_is_passed_on_when_attempts_are_used_up() {
    let busy = origin(|_, stream| stream.write_all(BUSY.as_bytes()).is_ok());
    let gate = gate(&busy, &busy)
        .with(|gate| gate.settings.retries = eager(|retries| retries.on.statuses = vec![503]))
        .start();
    let got = gate.get("/", "");
    assert_eq!((got.status, got.text()), (503, "busy"));
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.totals.failures, counts.totals.requests, counts.retried()), (1, 1, 2));
    assert_eq!(busy.seen().len(), 3);
}

#[test]
fn a_body_is_sent_again_as_it_was_up_to_the_bound() {
    let long = "x".repeat(3000);
    let chunked = format!(
        "transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n{:x}\r\n{long}\r\n2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n",
        long.len()
    );
    let plain = |text: &str| format!("content-length: {}\r\n\r\n{text}", text.len());
    let both = long.clone() + "ab";
    for (rest, body, is_kept) in [
        (plain("hello"), "hello".to_owned(), true),
        (plain(&"y".repeat(4096)), "y".repeat(4096), true),
        (plain(&"y".repeat(4097)), "y".repeat(4097), false),
        (chunked, both, true),
    ] {
        let asked = AtomicUsize::new(0);
        let blue = origin(move |_, stream| {
            asked.fetch_add(1, Ordering::SeqCst) > 0 && stream.write_all(OK.as_bytes()).is_ok()
        });
        let gate = gate(&blue, &blue)
            .with(|gate| gate.settings.retries = eager(|retries| retries.body_bytes_max = 4096))
            .start();
        let mut session = Session::open(gate.address());
        let got = session.ask(format!("PUT / HTTP/1.1\r\nhost: shop\r\n{rest}"));
        assert_eq!(got.status, if is_kept { 200 } else { 502 });
        let seen = blue.seen();
        assert_eq!(seen.len(), if is_kept { 2 } else { 1 });
        for seen in seen {
            assert_eq!(seen.body, body.as_bytes());
            assert_eq!(seen.has("trailer"), !seen.trailers.is_empty());
        }
    }
}

#[test]
fn an_attempt_that_is_late_is_cancelled_and_another_one_answers() {
    let (tell, ended) = channel();
    let tell = Mutex::new(tell);
    let asked = AtomicUsize::new(0);
    let blue = origin(move |_, stream| {
        if asked.fetch_add(1, Ordering::SeqCst) > 0 {
            return stream.write_all(OK.as_bytes()).is_ok();
        }
        let ends = wait_for_the_end(stream);
        tell.lock().unwrap().send(()).unwrap();
        ends
    });
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.settings.retries = eager(|retries| retries.per_try = Some(Duration::from_millis(50)));
        })
        .start();
    assert_eq!(gate.get("/", "").status, 200);
    ended.recv().unwrap();
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.totals.failures, retried(&counts, RetryReason::Timeout)), (1, 1));
    assert_eq!(counts.upstream_errors[&UpstreamError::FirstByteTimeout], 1);
}

#[test]
fn what_must_not_be_repeated_has_the_time_of_the_whole_request() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let gets = AtomicUsize::new(0);
    let blue = origin(move |request, stream| {
        if request.line.starts_with("POST") {
            wait.lock().unwrap().recv().unwrap();
        } else if gets.fetch_add(1, Ordering::SeqCst) == 0 {
            return wait_for_the_end(stream);
        }
        stream.write_all(OK.as_bytes()).is_ok()
    });
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.settings.retries = eager(|retries| retries.per_try = Some(Duration::from_millis(50)));
        })
        .start();
    let mut post = Session::open(gate.address());
    post.send(request("POST", "/", "content-length: 1\r\n") + "x");
    gate.until("the post is there", |_| !blue.seen().is_empty());
    // This one comes later and is late earlier.
    assert_eq!(gate.get("/", "").status, 200);
    go.send(()).unwrap();
    assert_eq!(post.read(false).unwrap().status, 200);
    gate.until_quiet();
    assert_eq!((blue.seen().len(), gate.counts(Blue).totals.failures), (3, 1));
}

#[test]
fn retries_stay_within_their_budget_however_much_fails() {
    const REQUESTS: usize = 400;
    let busy = origin(|_, stream| stream.write_all(BUSY.as_bytes()).is_ok());
    let gate = gate(&busy, &busy)
        .with(|gate| {
            gate.settings.retries = eager(|retries| {
                retries.on.statuses = vec![503];
                retries.budget_floor = 0;
                retries.budget = Weight::from_percent(10).unwrap();
            });
        })
        .start();
    let mut session = Session::open(gate.address());
    for _ in 0..REQUESTS {
        assert_eq!(session.ask(request("GET", "/", "")).status, 503);
    }
    gate.until_quiet();
    let counts = gate.counts(Blue);
    // A burst of ten, and a tenth of the requests.
    assert!(busy.seen().len() <= REQUESTS + 10 + REQUESTS / 10, "{}", busy.seen().len());
    assert!(counts.retried() >= 40 && counts.budget_exhausted > 0, "{counts:?}");
    assert_eq!(counts.totals.requests, REQUESTS as u64);
}

#[test]
fn without_retries_only_a_stale_connection_is_replaced() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (told, tell) = channel();
    let told = Mutex::new(told);
    let closes = origin(move |_, stream| {
        stream.write_all(OK.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        told.lock().unwrap().send(()).is_err()
    });
    let none = gate(&closes, &closes).with(|gate| gate.settings.retries = None).start();
    let mut session = Session::open(none.address());
    for _ in 0..5 {
        assert_eq!(session.ask(request("POST", "/", "content-length: 1\r\n") + "x").status, 200);
        tell.recv().unwrap();
    }
    let refused = gate(&closes, &closes)
        .endpoints(Blue, &[(nobody, Healthy)])
        .with(|gate| gate.settings.retries = None)
        .start();
    assert_eq!(refused.get("/", "").status, 502);
    refused.until_quiet();
    assert_eq!(refused.counts(Blue).upstream_errors[&UpstreamError::Connect], 1);
}

#[test]
fn a_call_that_is_unavailable_is_made_again_if_that_is_wanted() {
    for is_wanted in [true, false] {
        let asked = AtomicUsize::new(0);
        let blue = origin(move |_, stream| {
            let status = if asked.fetch_add(1, Ordering::SeqCst) == 0 { 14 } else { 0 };
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: {status}\r\ncontent-length: 0\r\n\r\n"
            )
            .is_ok()
        });
        let gate = gate(&blue, &blue)
            .with(|gate| gate.settings.retries = eager(|retries| retries.on.grpc_unavailable = is_wanted))
            .start();
        let mut session = Session::open(gate.address());
        let call =
            request("POST", "/shop.Cart/Add", "content-type: application/grpc\r\ncontent-length: 5\r\n");
        let got = session.ask(call + "hello");
        assert_eq!(got.one("grpc-status"), if is_wanted { "0" } else { "14" });
        let seen = blue.seen();
        assert_eq!(seen.len(), if is_wanted { 2 } else { 1 });
        assert!(seen.iter().all(|seen| seen.body == b"hello"));
        gate.until_quiet();
        let counts = gate.counts(Blue);
        assert_eq!(
            (counts.totals.failures, retried(&counts, RetryReason::GrpcUnavailable)),
            (1, is_wanted.into())
        );
    }
}
