use std::io::Write;
use std::time::Duration;

use super::gate::Builder;
use super::{Answer, Gate, Origin, Session, answer, gate, origin};
use crate::clock;
use crate::routing::MirrorMethods;
use crate::telemetry::{MirrorCounts, MirrorDrop, MirrorResult, ServiceSlot};
use crate::traffic::{Cause, Variant, VisitorCookie, VisitorId, Weight};

impl Builder {
    fn mirror(self, share: &str) -> Self {
        self.with(|gate| gate.mirror = share.parse().unwrap())
    }
}

fn mirrored(gate: &Gate) -> MirrorCounts {
    gate.tallies.mirrored(ServiceSlot(0)).green
}

/// Waits until so many copies are over, in whichever way.
#[track_caller]
fn until_over(gate: &Gate, count: u64) -> MirrorCounts {
    gate.until("the copies over", |gate| {
        let counts = mirrored(gate);
        counts.compared() + counts.came_to(MirrorResult::Unpaired) + counts.all_dropped() >= count
    });
    mirrored(gate)
}

/// An origin that takes requests and never answers.
fn hung() -> Origin {
    origin(|_, _| {
        std::thread::park();
        false
    })
}

fn says(status: &'static str, text: &'static str) -> Origin {
    origin(move |_, stream| {
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{text}", text.len()).is_ok()
    })
}

#[test]
fn a_copy_is_marked_and_otherwise_what_stable_gets() {
    let (blue, green) = (answer("blue"), answer("blue"));
    let gate = gate(&blue, &green).tester("sixteen bytes and more").mirror("100%").start();
    let lines = "cookie: a=1; tidegate=x\r\nx-tidegate-mirror: 7\r\nx-tidegate-override: green:no\r\n\
                 x-forwarded-for: 6.6.6.6\r\nx-mine: yes\r\n";
    assert_eq!(gate.get("/a?b=c", lines).text(), "blue");
    until_over(&gate, 1);
    let (original, copy) = (blue.last(), green.last());
    assert_eq!(original.line, copy.line);
    assert_eq!((copy.one("x-tidegate-mirror"), original.has("x-tidegate-mirror")), ("1", false));
    assert_eq!((copy.one("x-tidegate-variant"), original.one("x-tidegate-variant")), ("green", "blue"));
    assert_eq!((copy.one("cookie"), copy.has("x-tidegate-override")), ("a=1", false));
    for field in ["host", "x-forwarded-for", "x-forwarded-host", "x-request-id", "x-mine", "cdn-loop"] {
        assert_eq!(copy.one(field), original.one(field));
    }
    let counts = mirrored(&gate);
    assert_eq!((counts.came_to(MirrorResult::Equal), counts.all_dropped()), (1, 0));
    assert_eq!((counts.copy.count(), counts.original.count()), (1, 1));
    let green = gate.counts(Variant::Green);
    assert_eq!((green.totals.requests, green.totals.started, green.requests.len()), (0, 0, 0));
}

#[test]
fn the_share_of_visitors_is_exact_and_grows_with_the_weight() {
    let (blue, green) = (answer("blue"), answer("green"));
    let gate = gate(&blue, &green).mirror("10%").start();
    let mut expected = 0;
    for id in 0..400_u64 {
        let id = VisitorId(id);
        let cookie = VisitorCookie { id, issued: clock::wall() }.seal(&gate.keys, "tidegate");
        let answer = gate.get("/", &format!("cookie: tidegate={cookie}\r\n"));
        assert!(answer.text() == "blue" && !answer.has("set-cookie"), "nothing is decided by the cookie");
        expected += u64::from(id.bucket("salt").index() < 10_000);
    }
    assert!(expected > 20);
    until_over(&gate, expected);
    assert_eq!(green.seen().len() as u64, expected);

    // Whoever was mirrored is on the candidate now, and a tenth of the others is next in line.
    gate.publish(|service| {
        service.split.weight = Weight::from_percent(10).unwrap();
        service.mirror = Weight::from_percent(10).unwrap();
    });
    let mut next = 0;
    for id in 0..400_u64 {
        let id = VisitorId(id);
        let cookie = VisitorCookie { id, issued: clock::wall() }.seal(&gate.keys, "tidegate");
        let bucket = id.bucket("salt").index();
        let expected = if bucket < 10_000 { "green" } else { "blue" };
        assert_eq!(gate.get("/", &format!("cookie: tidegate={cookie}\r\n")).text(), expected);
        next += u64::from((10_000..19_000).contains(&bucket));
    }
    until_over(&gate, expected + next);
    let copies = green.seen().iter().filter(|request| request.has("x-tidegate-mirror")).count();
    assert_eq!(copies as u64, expected + next);
}

#[test]
fn users_are_answered_whatever_hangs_and_what_does_not_fit_is_dropped() {
    let (blue, green) = (answer("blue"), hung());
    let gate = gate(&blue, &green)
        .mirror("100%")
        .with(|gate| {
            gate.settings.mirror.in_flight_max = 4;
            gate.settings.mirror.timeout = Duration::from_secs(600);
        })
        .start();
    for _ in 0..50 {
        assert_eq!(gate.get("/", "").text(), "blue");
    }
    let counts = until_over(&gate, 46);
    assert_eq!(counts.dropped(MirrorDrop::InFlight), 46);
    gate.until("four copies sent", |_| green.seen().len() == 4);
    assert_eq!(gate.counts(Variant::Green).totals.failures, 0);
    assert_eq!(gate.counts(Variant::Blue).totals.requests, 50);
}

#[test]
fn a_copy_ends_at_its_deadline() {
    let (blue, green) = (answer("blue"), hung());
    let timeout = Duration::from_millis(200);
    let gate = gate(&blue, &green).mirror("100%").with(|gate| gate.settings.mirror.timeout = timeout).start();
    assert_eq!(gate.get("/", "").text(), "blue");
    let counts = until_over(&gate, 1);
    // On a machine where stable takes as long, nothing is said against the candidate.
    let (failed, unpaired) = (counts.came_to(MirrorResult::Failed), counts.came_to(MirrorResult::Unpaired));
    assert_eq!((failed + unpaired, counts.only_copy_failed), (1, failed));
    assert_eq!(gate.counts(Variant::Green).totals.failures, 0);
}

#[test]
fn nothing_is_said_against_a_candidate_because_a_visitor_is_slow() {
    let (blue, green) = (answer("blue"), answer("blue"));
    let gate = gate(&blue, &green)
        .mirror("100%")
        .with(|gate| {
            gate.settings.mirror.methods = MirrorMethods::All;
            gate.settings.mirror.timeout = Duration::from_millis(50);
        })
        .start();
    let mut session = Session::open(gate.address());
    session.send("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 4\r\n\r\nsl");
    gate.until("the copy is given up", |gate| !mirrored(gate).is_empty());
    assert_eq!(session.ask("ow").text(), "blue");
    gate.until_quiet();
    let counts = mirrored(&gate);
    assert_eq!((counts.dropped(MirrorDrop::Body), counts.came_to(MirrorResult::Failed)), (1, 0));
    assert!(green.seen().is_empty());
}

#[test]
fn connections_are_left_to_users() {
    let (blue, green) = (answer("blue"), answer("green"));
    let room = crate::proxy::room::Room { clients: 10, endpoints: 1, requests: 10 };
    let gate = gate(&blue, &green).mirror("100%").with(|gate| gate.room = room).start();
    assert_eq!(gate.get("/", "").text(), "blue");
    assert_eq!(until_over(&gate, 1).dropped(MirrorDrop::NoConnection), 1);
    assert_eq!(green.connections(), 0);
}

#[test]
fn answers_that_differ_are_counted() {
    #[track_caller]
    fn check(blue: &Origin, green: &Origin, expected: MirrorResult, only: [u64; 2], differ: [u64; 2]) {
        let gate =
            gate(blue, green).mirror("100%").with(|gate| gate.settings.mirror.compares_body = true).start();
        gate.get("/", "");
        let counts = until_over(&gate, 1);
        assert_eq!(counts.came_to(expected), 1, "{counts:?}");
        assert_eq!([counts.only_copy_failed, counts.only_original_failed], only);
        assert_eq!([counts.status_differs, counts.body_differs], differ);
    }
    let good = says("200 OK", "good");
    use MirrorResult::{Different, Equal, Failed};
    check(&good, &says("201 Created", "good"), Equal, [0, 0], [0, 0]);
    check(&good, &says("200 OK", "evil"), Different, [0, 0], [0, 1]);
    check(&good, &says("500 Oh", "good"), Different, [1, 0], [1, 0]);
    check(&says("503 Oh", "good"), &good, Different, [0, 1], [1, 0]);
    check(&good, &origin(|_, _| false), Failed, [1, 0], [1, 0]);
    check(&good, &origin(|_, stream| write!(stream, "nonsense\r\n\r\n").is_ok()), Failed, [1, 0], [1, 0]);
    let cut = origin(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ngood");
        false
    });
    check(&good, &cut, Different, [1, 0], [0, 0]);
}

/// What is answered to these bytes.
fn said(gate: &Gate, bytes: &str) -> Answer {
    Session::open(gate.address()).ask(bytes)
}

#[test]
fn what_changes_something_is_mirrored_only_if_somebody_said_so() {
    let (blue, green) = (answer("blue"), answer("green"));
    let post = |gate: &Gate, body: &str| {
        let head = format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {}\r\n\r\n", body.len());
        said(gate, &format!("{head}{body}")).text().to_owned()
    };
    let safe = gate(&blue, &green).mirror("100%").start();
    assert_eq!(post(&safe, "once"), "blue");
    assert_eq!(safe.get("/", "").text(), "blue");
    until_over(&safe, 1);
    assert!(green.seen().iter().all(|request| request.line.starts_with("GET")));

    let all = gate(&blue, &green)
        .mirror("100%")
        .with(|gate| {
            gate.settings.mirror.methods = MirrorMethods::All;
            gate.settings.mirror.body_bytes_max = 8;
        })
        .start();
    assert_eq!(post(&all, "8 bytes!"), "blue");
    until_over(&all, 1);
    let copy = green.last();
    assert_eq!((&copy.body[..], copy.one("content-length")), (&b"8 bytes!"[..], "8"));
    assert_eq!(post(&all, "9 bytes!!"), "blue");
    let chunked = "POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n5\r\nfghij\r\n0\r\n\r\n";
    assert_eq!(said(&all, chunked).text(), "blue");
    assert_eq!(until_over(&all, 3).dropped(MirrorDrop::Body), 2);
    let chunked =
        "POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n";
    assert_eq!(said(&all, chunked).text(), "blue");
    until_over(&all, 4);
    let copy = green.last();
    assert_eq!((&copy.body[..], copy.one("content-length")), (&b"abcd"[..], "4"));
    assert_eq!(blue.seen().iter().filter(|request| request.line.starts_with("POST")).count(), 5);
}

#[test]
fn nobody_is_mirrored_to_a_candidate_that_is_killed_and_open_copies_end() {
    let (blue, green) = (answer("blue"), hung());
    let gate = gate(&blue, &green).mirror("100%").start();
    assert_eq!(gate.get("/", "").text(), "blue");
    gate.until("the copy sent", |_| green.seen().len() == 1);
    gate.publish(|service| {
        service.split.lock = Some(Cause::Kill);
        service.mirror = Weight::ZERO;
    });
    assert_eq!(gate.get("/", "").text(), "blue");
    assert_eq!(until_over(&gate, 1).dropped(MirrorDrop::Cut), 1);
    assert_eq!(green.seen().len(), 1);
}

#[test]
fn testers_upgrades_and_the_candidates_own_visitors_are_not_mirrored() {
    let (blue, green) = (answer("blue"), answer("green"));
    let gate = gate(&blue, &green).tester("sixteen bytes and more").mirror("100%").start();
    let tester = |to: &str| format!("x-tidegate-override: {to}:sixteen bytes and more\r\n");
    assert_eq!(gate.get("/", &tester("green")).text(), "green");
    assert_eq!(gate.get("/", &tester("blue")).text(), "blue");
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    gate.get("/", upgrade);
    gate.publish(|service| {
        service.split.weight = Weight::FULL;
        service.mirror = Weight::FULL;
    });
    assert_eq!(gate.get("/", "").text(), "green");
    gate.until_quiet();
    assert!(mirrored(&gate).is_empty() && green.seen().iter().all(|one| !one.has("x-tidegate-mirror")));
}

#[test]
fn a_candidate_without_a_usable_endpoint_gets_no_copies() {
    let (blue, green) = (answer("blue"), answer("green"));
    let down = [(green.address, crate::upstream::Health::Unhealthy)];
    let gate = gate(&blue, &green).mirror("100%").endpoints(Variant::Green, &down).start();
    assert_eq!(gate.get("/", "").text(), "blue");
    assert_eq!(until_over(&gate, 1).dropped(MirrorDrop::NoEndpoint), 1);
    assert!(green.seen().is_empty());
}
