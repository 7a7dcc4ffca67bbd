//! Endpoints that take only so many requests at once.

use std::collections::HashMap;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::endpoints::lead_to;
use super::gate::{Builder, Gate, endpoint};
use super::{Origin, Session, answer, gate, origin, request};
use crate::routing::{EndpointLimits, Group, Member};
use crate::telemetry::Crowding;
use crate::traffic::Variant::{Blue, Green};
use crate::upstream::Health::Healthy;
use crate::upstream::Reach;

/// An origin that answers a request when it is told to, by path.
struct Holding {
    origin: Origin,
    told: Arc<Mutex<HashMap<String, Sender<()>>>>,
}

impl Holding {
    fn new() -> Self {
        let told = Arc::<Mutex<HashMap<String, Sender<()>>>>::default();
        let shared = told.clone();
        let origin = origin(move |request, stream| {
            let (tell, wait): (_, Receiver<()>) = channel();
            let path = request.line.split(' ').nth(1).unwrap().to_owned();
            shared.lock().unwrap().insert(path, tell);
            let _ = wait.recv();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nheld").is_ok()
        });
        Self { origin, told }
    }

    fn has(&self, path: &str) -> bool {
        self.told.lock().unwrap().contains_key(path)
    }

    fn answers(&self, path: &str) {
        self.told.lock().unwrap()[path].send(()).unwrap();
    }

    fn paths(&self) -> Vec<String> {
        self.origin.seen().iter().map(|seen| seen.line.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

fn limited(gate: Builder, in_flight_max: u32, queue_max: u32, queue_timeout: Duration) -> Builder {
    gate.with(|gate| {
        gate.settings.limits.endpoint = Some(EndpointLimits { in_flight_max, queue_max, queue_timeout });
    })
}

fn begin(gate: &Gate, path: &str) -> Session {
    let mut session = Session::open(gate.address());
    session.send(request("GET", path, ""));
    session
}

fn until_waiting(gate: &Gate, variant: crate::traffic::Variant, count: u64) {
    gate.until("so many wait", |gate| gate.counts(variant).queue.waiting() == count);
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn who_finds_no_place_waits_in_order_and_who_finds_no_queue_is_turned_away() {
    let blue = Holding::new();
    let gate = limited(gate(&blue.origin, &blue.origin), 1, 2, LONG).start();
    let mut sessions = vec![begin(&gate, "/1")];
    gate.until("the first is there", |_| blue.has("/1"));
    for (path, waiting) in [("/2", 1), ("/3", 2)] {
        sessions.push(begin(&gate, path));
        until_waiting(&gate, Blue, waiting);
    }
    let refused = gate.get("/4", "");
    assert_eq!((refused.status, refused.one("retry-after")), (503, "5"));
    assert_eq!(refused.text(), "the service has too much to do at the moment\n");
    for (session, path) in sessions.iter_mut().zip(["/1", "/2", "/3"]) {
        gate.until("it is its turn", |_| blue.has(path));
        assert_eq!(blue.paths().last().unwrap(), path);
        blue.answers(path);
        assert_eq!(session.read(false).unwrap().text(), "held");
    }
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.totals.failures, counts.totals.requests), (0, 4));
    assert_eq!((counts.queue.entered, counts.queue.left, counts.queue.duration.count()), (2, 2, 2));
    assert_eq!(counts.queue.shed[Crowding::Full as usize], 1);
    assert_eq!((gate.tallies.process().shed, blue.origin.connections()), (1, 1));
}

#[test]
fn who_waits_too_long_is_turned_away_and_nobody_is_charged() {
    let blue = Holding::new();
    let gate = limited(gate(&blue.origin, &blue.origin), 1, 9, Duration::from_millis(50)).start();
    let mut first = begin(&gate, "/1");
    gate.until("the first is there", |_| blue.has("/1"));
    assert_eq!(gate.get("/2", "").status, 503);
    blue.answers("/1");
    assert_eq!(first.read(false).unwrap().status, 200);
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.totals.failures, counts.queue.shed), (0, [0, 1]));
    assert_eq!((counts.queue.waiting(), blue.paths().len()), (0, 1));
}

#[test]
fn a_client_that_goes_away_leaves_the_queue() {
    let blue = Holding::new();
    let gate = limited(gate(&blue.origin, &blue.origin), 1, 1, LONG).start();
    let mut first = begin(&gate, "/1");
    gate.until("the first is there", |_| blue.has("/1"));
    let gone = begin(&gate, "/2");
    until_waiting(&gate, Blue, 1);
    drop(gone);
    until_waiting(&gate, Blue, 0);
    let mut third = begin(&gate, "/3");
    until_waiting(&gate, Blue, 1);
    blue.answers("/1");
    gate.until("it is its turn", |_| blue.has("/3"));
    blue.answers("/3");
    assert_eq!((first.read(false).unwrap().status, third.read(false).unwrap().status), (200, 200));
    assert_eq!(blue.paths(), ["/1", "/3"]);
}

#[test]
fn who_waits_while_the_candidate_is_killed_goes_to_stable() {
    let (blue, green) = (answer("blue"), Holding::new());
    let gate = limited(gate(&blue, &green.origin), 1, 9, LONG).weight("100%").start();
    let mut first = begin(&gate, "/1");
    gate.until("the first is there", |_| green.has("/1"));
    let mut second = begin(&gate, "/2");
    until_waiting(&gate, Green, 1);
    gate.kill();
    assert_eq!(second.read(false).unwrap().text(), "blue");
    green.answers("/1");
    assert_eq!(first.read(false).unwrap().text(), "held");
    gate.until_quiet();
    assert_eq!((green.paths().len(), gate.counts(Green).totals.failures), (1, 0));
}

#[test]
fn who_waits_for_an_endpoint_that_goes_chooses_again() {
    let (blue, other) = (Holding::new(), answer("other"));
    let gate = limited(gate(&blue.origin, &blue.origin), 1, 9, LONG).start();
    let mut first = begin(&gate, "/1");
    gate.until("the first is there", |_| blue.has("/1"));
    let mut second = begin(&gate, "/2");
    until_waiting(&gate, Blue, 1);
    lead_to(&gate, &format!("http://{}", other.address), &Reach::default());
    assert_eq!(second.read(false).unwrap().text(), "other");
    blue.answers("/1");
    assert_eq!(first.read(false).unwrap().text(), "held");
}

#[test]
fn who_waits_takes_a_place_at_an_endpoint_that_comes() {
    let (blue, other) = (Holding::new(), answer("other"));
    let gate = limited(gate(&blue.origin, &blue.origin), 1, 9, LONG).start();
    let mut first = begin(&gate, "/1");
    gate.until("the first is there", |_| blue.has("/1"));
    let mut second = begin(&gate, "/2");
    until_waiting(&gate, Blue, 1);
    let url = format!("http://{}", other.address).parse().unwrap();
    // Where the disk takes no more numbers, health and addresses go on without.
    gate.publish_unnumbered(|service| {
        let mut members = service.groups[Blue].members().to_vec();
        members.push(Member::new(Arc::new(endpoint(900, url, &Reach::default())), Healthy));
        service.groups[Blue] = Group::new(None, members);
    });
    assert_eq!(second.read(false).unwrap().text(), "other");
    blue.answers("/1");
    assert_eq!(first.read(false).unwrap().text(), "held");
}

#[test]
fn what_is_full_is_left_out_before_anybody_waits() {
    let (one, two) = (Holding::new(), Holding::new());
    let endpoints = [(one.origin.address, Healthy), (two.origin.address, Healthy)];
    let gate = limited(gate(&one.origin, &one.origin), 2, 9, LONG).endpoints(Blue, &endpoints).start();
    let paths = ["/1", "/2", "/3", "/4"];
    let mut sessions = Vec::new();
    for path in paths {
        sessions.push(begin(&gate, path));
        gate.until("it is somewhere", |_| one.has(path) || two.has(path));
    }
    assert_eq!((one.paths().len(), two.paths().len(), gate.counts(Blue).queue.entered), (2, 2, 0));
    sessions.push(begin(&gate, "/5"));
    until_waiting(&gate, Blue, 1);
    // Whichever has a place first.
    let answers = |path: &str| if one.has(path) { one.answers(path) } else { two.answers(path) };
    answers("/3");
    gate.until("it is its turn", |_| one.has("/5") || two.has("/5"));
    ["/1", "/2", "/4", "/5"].into_iter().for_each(answers);
    for mut session in sessions {
        assert_eq!(session.read(false).unwrap().status, 200);
    }
}

#[test]
fn a_tunnel_keeps_its_place_until_it_ends() {
    let blue = origin(|request, stream| {
        if request.has("upgrade") {
            let key = request.one("sec-websocket-key");
            let accept = crate::proxy::upgrade::accept(key);
            return write!(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-accept: {accept}\r\n\r\n"
            )
            .is_ok();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let gate = limited(gate(&blue, &blue), 1, 9, LONG).start();
    let mut tunnel = Session::open(gate.address());
    let opened = tunnel.ask(request(
        "GET",
        "/ws",
        "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ));
    assert_eq!(opened.status, 101);
    let mut second = begin(&gate, "/2");
    until_waiting(&gate, Blue, 1);
    drop(tunnel);
    assert_eq!(second.read(false).unwrap().text(), "ok");
}
