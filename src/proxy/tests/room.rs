use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::{Session, answer, gate, origin, request};
use crate::traffic::Variant::Blue;

#[test]
fn a_client_too_many_is_hung_up_on_and_its_place_is_free_again_later() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).with(|gate| gate.room.clients = 2).start();
    let mut kept: Vec<_> = (0..2).map(|_| Session::open(gate.address())).collect();
    for session in &mut kept {
        assert_eq!(session.ask(request("GET", "/", "")).status, 200);
    }
    for _ in 0..3 {
        assert!(Session::open(gate.address()).is_closed());
    }
    assert_eq!(gate.tallies.process().shed, 3);
    assert_eq!(kept[0].ask(request("GET", "/", "")).status, 200);
    drop(kept);
    gate.until("all have left", |gate| gate.tallies.process().connections_open == 0);
    assert_eq!(gate.get("/", "").status, 200);
    assert_eq!(gate.tallies.process().shed, 3);
}

#[test]
fn without_room_for_one_more_endpoint_connection_nobody_is_charged() {
    let (here, arrived) = channel::<()>();
    let (go, wait) = channel::<()>();
    let gates = Mutex::new((here, wait));
    let blue = origin(move |_, stream| {
        let gates = gates.lock().unwrap();
        gates.0.send(()).unwrap();
        let _ = gates.1.recv();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nblue").is_ok()
    });
    let gate = gate(&blue, &blue).with(|gate| gate.room.endpoints = 1).start();
    let mut first = Session::open(gate.address());
    first.send(request("GET", "/", ""));
    arrived.recv().unwrap();
    let got = gate.get("/", "");
    assert_eq!((got.status, got.one("retry-after")), (503, "5"));
    go.send(()).unwrap();
    assert_eq!(first.read(false).unwrap().text(), "blue");
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.totals.requests, counts.totals.failures, counts.retried()), (2, 0, 0));
    assert_eq!((gate.tallies.process().shed, blue.seen().len()), (1, 1));
}

#[test]
fn idle_connections_make_room_for_those_to_other_endpoints() {
    let (blue, other) = (answer("blue"), answer("other"));
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.room.endpoints = 1;
            gate.others.push(("other".to_owned(), other.address));
        })
        .start();
    let mut session = Session::open(gate.address());
    for _ in 0..3 {
        assert_eq!(session.ask(request("GET", "/", "")).text(), "blue");
        assert_eq!(session.ask("GET / HTTP/1.1\r\nhost: other\r\n\r\n").text(), "other");
    }
    assert_eq!((blue.connections(), other.connections()), (3, 3));
    assert_eq!(gate.tallies.process().shed, 0);
}
