use super::{Session, answer, gate, request};
use crate::telemetry::ConnectionRefusal;

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
