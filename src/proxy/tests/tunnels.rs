//! WebSockets and other upgrades over HTTP/1.1, byte for byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Authority, Gate, Origin, Session, answer, dial, gate, origin, request};
use crate::clock;
use crate::telemetry::{
    AccessLogSettings, AccessLogWrite, CodeLabel, MethodLabel, TunnelCounts, UpstreamError,
};
use crate::traffic::Variant::{Blue, Green};
use crate::upstream::Health;

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\nContent-Length: 0\r\n\r\n";
const LINES: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn ask() -> String {
    request("GET", "/chat", LINES)
}

/// Says `head` to every request for an upgrade, and then whatever it hears, in capitals; answers all others.
fn shouting(head: &'static str) -> Origin {
    origin(move |request, stream| {
        if !request.has("upgrade") {
            return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain").is_ok();
        }
        stream.write_all(head.as_bytes()).unwrap();
        if head.starts_with("HTTP/1.1 101") {
            shout(stream);
        }
        !head.starts_with("HTTP/1.1 101")
    })
}

fn shout(stream: &mut TcpStream) {
    let mut some = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut some) {
        if stream.write_all(&some[..count].to_ascii_uppercase()).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

fn tunnels(gate: &Gate, variant: crate::traffic::Variant) -> TunnelCounts {
    gate.counts(variant).tunnels
}

/// A tunnel of which nothing was read yet but the head.
fn open(gate: &Gate) -> Session {
    let mut session = Session::open(gate.address());
    assert_eq!(session.ask(ask()).status, 101);
    session
}

#[test]
fn a_websocket_is_asked_for_in_one_form_and_carries_bytes_both_ways() {
    let blue = shouting(SWITCH);
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    let got = session.ask(ask());
    assert_eq!(got.status, 101);
    assert_eq!((got.one("connection"), got.one("upgrade")), ("upgrade", "websocket"));
    assert_eq!(got.one("sec-websocket-protocol"), "chat");
    assert_eq!(got.one("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(!got.has("content-length") && !got.has("transfer-encoding"), "{:?}", got.fields);
    let seen = blue.last();
    assert_eq!(seen.line, "GET /chat HTTP/1.1");
    assert_eq!((seen.one("connection"), seen.one("upgrade")), ("upgrade", "websocket"));
    assert_eq!(seen.one("sec-websocket-key"), "dGhlIHNhbXBsZSBub25jZQ==");

    for _ in 0..3 {
        session.send(b"ping\0\r\n");
        assert_eq!(session.exactly(7), b"PING\0\r\n");
    }
    gate.until("it is counted", |gate| tunnels(gate, Blue).bytes_from_endpoint == 21);
    let expected = TunnelCounts { opened: 1, closed: 0, bytes_from_client: 21, bytes_from_endpoint: 21 };
    assert_eq!(tunnels(&gate, Blue), expected);
    assert_eq!(gate.counts(Blue).requests[&(MethodLabel::Get, CodeLabel::of(101))], 1);
    assert_eq!((gate.counts(Blue).ttfb.count(), gate.counts(Blue).totals.in_flight()), (0, 1));
    drop(session);
    gate.until_quiet();
    assert_eq!((tunnels(&gate, Blue).open(), gate.counts(Blue).totals.failures), (0, 0));
    gate.until("the client is gone", |gate| gate.tallies.process().connections_open == 0);
}

#[test]
fn bytes_that_come_before_the_101_reach_the_tunnel_and_none_is_lost() {
    let blue = shouting(SWITCH);
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    let early = "GET /smuggled HTTP/1.1\r\nhost: shop\r\n\r\n";
    assert_eq!(session.ask([ask(), early.to_owned()].concat()).status, 101);
    assert_eq!(session.exactly(early.len()), early.to_uppercase().as_bytes());
    assert_eq!(blue.seen().len(), 1);
}

#[test]
fn nothing_in_a_tunnel_is_taken_for_http() {
    let blue = shouting(SWITCH);
    let gate = gate(&blue, &blue).start();
    let mut session = open(&gate);
    let ambiguous = "\n\nget / http/1.1\nhost: shop\r\n\r\npost / http/1.1\r\ncontent-length: 1\r\n\
         transfer-encoding: chunked\r\n\r\n1 \r\n";
    for _ in 0..3 {
        session.send(ambiguous.as_bytes());
        assert_eq!(session.exactly(ambiguous.len()), ambiguous.to_uppercase().as_bytes());
    }
    let early = [ask().as_bytes(), ambiguous.as_bytes()].concat();
    let mut session = Session::open(gate.address());
    assert_eq!(session.ask(early).status, 101);
    assert_eq!(session.exactly(ambiguous.len()), ambiguous.to_uppercase().as_bytes());
}

#[test]
fn bytes_before_a_refusal_are_the_next_request() {
    let blue = shouting("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    let next = request("GET", "/next", "");
    let got = session.ask([ask(), next].concat());
    assert_eq!((got.status, got.text(), got.has("upgrade")), (403, "no", false));
    let got = session.read(false).unwrap();
    assert_eq!((got.status, got.text()), (200, "plain"));
    // On the endpoint's side, too, the connection goes on.
    assert_eq!((blue.last().line.as_str(), blue.connections()), ("GET /next HTTP/1.1", 1));
    // What is no request is refused, and the endpoint gets none of it.
    session.send([ask().as_bytes(), &[0x81, 0x85, 1, 2, 3, 4, b'h', b'e', b'l', b'l', b'o']].concat());
    assert_eq!(session.read(false).unwrap().status, 403);
    assert_eq!(session.read(false).unwrap().status, 400);
    assert!(session.is_closed());
    assert_eq!(blue.seen().len(), 3);
    assert_eq!(tunnels(&gate, Blue).opened, 0);
}

#[test]
fn what_is_not_allowed_or_not_an_upgrade_goes_on_as_a_plain_request() {
    let blue = shouting(SWITCH);
    let strict = gate(&blue, &blue).with(|gate| gate.settings.upgrades.clear()).start();
    let gate = gate(&blue, &blue).start();
    #[track_caller]
    fn check(gate: &Gate, blue: &Origin, text: &str) {
        let mut session = Session::open(gate.address());
        let got = session.ask(text);
        assert_eq!((got.status, got.text()), (200, "plain"), "{text}");
        let seen = blue.last();
        assert!(!seen.has("upgrade") && !seen.has("connection") && !seen.has("http2-settings"), "{seen:?}");
    }
    check(&strict, &blue, &ask());
    for lines in [
        "connection: upgrade\r\nupgrade: irc\r\n",
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "connection: close\r\nupgrade: websocket\r\n",
        "upgrade: websocket\r\n",
        "connection: upgrade\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 3\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\ntransfer-encoding: chunked\r\n",
    ] {
        let body = if lines.contains("content-length") {
            "abc"
        } else if lines.contains("chunked") {
            "3\r\nabc\r\n0\r\n\r\n"
        } else {
            ""
        };
        check(&gate, &blue, &[request("GET", "/", lines), body.to_owned()].concat());
    }
    check(
        &gate,
        &blue,
        &request("POST", "/", "content-length: 0\r\nconnection: upgrade\r\nupgrade: websocket\r\n"),
    );
    check(&gate, &blue, &ask().replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(tunnels(&gate, Blue).opened, 0);
}

#[test]
fn a_426_says_what_to_change_to() {
    #[track_caller]
    fn check(text: &str, offered: &'static str, is_draining: bool, expected: Option<(&str, &str)>) {
        let blue = origin(move |_, stream| {
            write!(
                stream,
                "HTTP/1.1 426 No\r\nconnection: upgrade\r\nupgrade: {offered}\r\ncontent-length: 0\r\n\r\n"
            )
            .is_ok()
        });
        let gate = gate(&blue, &blue).start();
        let mut session = Session::open(gate.address());
        assert_eq!(session.ask(text).status, 426);
        if is_draining {
            gate.proxy.drain();
            gate.until("it drains", |gate| TcpStream::connect(gate.address()).is_err());
        }
        let got = session.ask(text);
        let found = got.has("upgrade").then(|| (got.one("connection"), got.one("upgrade")));
        assert_eq!(found, expected, "{text}");
    }
    let plain = request("GET", "/", "");
    check(&plain, "IRC, WebSocket", false, Some(("upgrade", "websocket")));
    check(&ask(), "websocket", false, Some(("upgrade", "websocket")));
    check(&plain, "websocket", true, Some(("upgrade, close", "websocket")));
    check(&plain, "h2c, irc", false, None);
}

#[test]
fn other_protocols_pass_if_the_service_allows_them() {
    let blue = shouting("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: IRC/6.9\r\n\r\n");
    let gate =
        gate(&blue, &blue).with(|gate| gate.settings.upgrades = vec!["irc/6.9".parse().unwrap()]).start();
    let mut session = Session::open(gate.address());
    let got =
        session.ask(request("POST", "/", "connection: upgrade\r\nupgrade: h2c, IRC/6.9, websocket\r\n"));
    assert_eq!((got.status, got.one("upgrade")), (101, "irc/6.9"));
    assert_eq!(blue.last().one("upgrade"), "irc/6.9");
    session.send("nick\r\n");
    assert_eq!(session.exactly(6), b"NICK\r\n");
}

#[test]
fn an_endpoint_that_changes_to_what_nobody_asked_for_is_a_bad_one() {
    #[track_caller]
    fn check(lines: &str, head: &'static str) {
        let blue = origin(move |_, stream| stream.write_all(head.as_bytes()).is_ok());
        let gate = gate(&blue, &blue).start();
        let mut session = Session::open(gate.address());
        assert_eq!(session.ask(request("GET", "/", lines)).status, 502, "{head}");
        // The client's connection is none the worse for it.
        assert_eq!(session.ask(request("GET", "/", lines)).status, 502);
        let counts = gate.counts(Blue);
        assert_eq!((counts.totals.failures, counts.tunnels.opened, blue.connections()), (2, 0, 2));
    }
    check("", SWITCH);
    check("connection: upgrade\r\nupgrade: irc\r\n", SWITCH);
    check(LINES, "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: irc\r\n\r\n");
    check(LINES, "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n\r\n");
    check(LINES, "HTTP/1.1 101 X\r\nconnection: upgrade\r\n\r\n");
    check(LINES, "HTTP/1.1 101 X\r\nupgrade: websocket\r\n\r\n");
}

#[test]
fn each_side_may_end_its_half_and_go_on_listening() {
    let (told, hear) = channel();
    let told = Mutex::new(told);
    let blue = origin(move |request, stream| {
        stream.write_all(SWITCH.as_bytes()).unwrap();
        let mut all = Vec::new();
        if request.line.contains("/first") {
            // The endpoint ends first, and hears on.
            stream.write_all(b"bye").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream.read_to_end(&mut all).unwrap();
        } else {
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(b"heard it all").unwrap();
        }
        told.lock().unwrap().send(all).unwrap();
        false
    });
    let gate = gate(&blue, &blue).start();

    let mut stream = dial(gate.address());
    stream.write_all([ask().as_str(), "all of this"].concat().as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    assert!(got.starts_with("HTTP/1.1 101 ") && got.ends_with("\r\n\r\nheard it all"), "{got}");
    assert_eq!(hear.recv().unwrap(), b"all of this");

    let mut stream = dial(gate.address());
    stream.write_all(request("GET", "/first", LINES).as_bytes()).unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    assert!(got.ends_with("\r\n\r\nbye"), "{got}");
    stream.write_all(b"still here").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear.recv().unwrap(), b"still here");
    gate.until_quiet();
    assert!(gate.counts(Blue).upstream_errors.is_empty());
}

#[test]
fn a_slow_reader_slows_the_endpoint_down() {
    const ALL: u64 = 64 << 20;
    let blue = origin(|_, stream| {
        stream.write_all(SWITCH.as_bytes()).unwrap();
        let piece = [b'x'; 65536];
        (0..ALL / 65536).all(|_| stream.write_all(&piece).is_ok()) && {
            stream.shutdown(Shutdown::Write).unwrap();
            shout(stream);
            false
        }
    });
    let gate = gate(&blue, &blue).start();
    let mut stream = dial(gate.address());
    stream.write_all(ask().as_bytes()).unwrap();
    gate.until("it stands", |gate| tunnels(gate, Blue).bytes_from_endpoint > 0);
    // While nobody reads, what is sent fits into the sockets' buffers. The other direction is not held up by that.
    stream.write_all(b"up").unwrap();
    gate.until("it goes up", |gate| tunnels(gate, Blue).bytes_from_client == 2);
    assert!(tunnels(&gate, Blue).bytes_from_endpoint < ALL / 2);
    stream.shutdown(Shutdown::Write).unwrap();
    let count = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    assert!(count > ALL && count < ALL + 1000, "{count}");
    gate.until_quiet();
    assert_eq!(tunnels(&gate, Blue).bytes_from_endpoint, ALL);
}

/// Whether it ended with a reset, not with an end that could be taken for one in good order.
fn is_reset(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

fn open_stream(gate: &Gate) -> TcpStream {
    let mut stream = dial(gate.address());
    stream.write_all([ask().as_str(), "hi"].concat().as_bytes()).unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"HI") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        got.extend_from_slice(&byte);
    }
    stream
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends_with_a_reset() {
    let blue = shouting(SWITCH);
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.settings.timeouts.tunnel_idle = Duration::from_millis(100);
            gate.live.timeouts.keep_alive_idle = Duration::from_millis(10);
        })
        .start();
    let mut stream = open_stream(&gate);
    assert!(is_reset(&mut stream));
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.tunnels.open(), counts.totals.failures, counts.totals.late_failures), (0, 0, 0));
}

#[test]
fn a_tunnel_in_which_something_moves_is_not_idle() {
    const IDLE: Duration = Duration::from_secs(1);
    let blue = shouting(SWITCH);
    let gate = gate(&blue, &blue).with(|gate| gate.settings.timeouts.tunnel_idle = IDLE).start();
    let mut stream = open_stream(&gate);
    let begun = clock::now();
    while clock::now() - begun < IDLE * 2 {
        let mut got = [0; 4];
        stream.write_all(b"more").unwrap();
        stream.read_exact(&mut got).unwrap();
    }
    assert_eq!(tunnels(&gate, Blue).open(), 1);
}

#[test]
fn what_was_said_before_an_end_in_good_order_reaches_a_slow_reader() {
    const LAST: usize = 16 * 1024;
    let blue = origin(|_, stream| {
        stream.write_all([SWITCH.as_bytes(), &[b'x'; LAST]].concat().as_slice()).unwrap();
        // Whoever closes with something unread resets.
        let _ = stream.read_to_end(&mut Vec::new());
        false
    });
    let gate = gate(&blue, &blue).start();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.connect(&gate.address().into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all([ask().as_str(), "x"].concat().as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    gate.until("it is over", |gate| tunnels(gate, Blue).closed == 1);
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got.ends_with(&[b'x'; LAST]), "{}", got.len());
}

#[test]
fn a_tunnel_stays_where_it_is_while_the_weight_moves_and_ends_after_a_kill() {
    let (blue, green) = (answer("blue"), shouting(SWITCH));
    let gate =
        gate(&blue, &green).weight("100%").with(|gate| gate.live.grace.0 = Duration::from_millis(50)).start();
    let mut stream = open_stream(&gate);
    for weight in ["50%", "1%", "0%", "30%"] {
        gate.publish(|service| service.split.weight = weight.parse().unwrap());
        let mut got = [0; 4];
        stream.write_all(b"more").unwrap();
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"MORE", "at {weight}");
    }
    assert_eq!((tunnels(&gate, Green).open(), tunnels(&gate, Blue).opened), (1, 0));
    gate.kill();
    assert!(is_reset(&mut stream));
    gate.until_quiet();
    let counts = gate.counts(Green);
    assert_eq!((counts.cut, counts.tunnels.open(), counts.totals.failures), (1, 0, 0));
}

#[test]
fn draining_leaves_tunnels_alone_until_its_deadline() {
    let blue = shouting(SWITCH);
    let gate = gate(&blue, &blue).with(|gate| gate.drain = Duration::from_millis(500)).start();
    let mut stream = open_stream(&gate);
    let mut second = Session::open(gate.address());
    second.ask(request("GET", "/", ""));
    gate.proxy.drain();
    gate.until("it drains", |gate| TcpStream::connect(gate.address()).is_err());
    stream.write_all(b"more").unwrap();
    let mut got = [0; 4];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"MORE");
    // One that begins now is none the less a tunnel, and says nothing of close.
    let head = second.ask(ask());
    assert_eq!((head.status, head.one("connection")), (101, "upgrade"));
    gate.proxy.join();
    assert!(is_reset(&mut stream));
    assert_eq!((tunnels(&gate, Blue).open(), gate.counts(Blue).totals.in_flight()), (0, 0));
}

#[test]
fn leaving_keeps_tunnels_and_parts_with_whoever_waits_for_nothing() {
    let blue = shouting(SWITCH);
    let gate = gate(&blue, &blue).with(|gate| gate.drain = Duration::from_millis(200)).start();
    let mut stream = open_stream(&gate);
    let (mut idle, mut kept) = (Session::open(gate.address()), Session::open(gate.address()));
    idle.ask(request("GET", "/", ""));
    kept.ask(request("GET", "/", ""));
    gate.proxy.leave();
    gate.until("it accepts no more", |gate| TcpStream::connect(gate.address()).is_err());
    assert_eq!(kept.ask(request("GET", "/", "")).one("connection"), "close");
    assert!(idle.is_closed());
    // Long after the time of a drain: two beats.
    let mut got = [0; 4];
    for _ in 0..2 {
        std::thread::park_timeout(Duration::from_millis(300));
        stream.write_all(b"more").unwrap();
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"MORE");
    }
    // Whoever asks it to stop means its tunnels, too.
    gate.proxy.drain();
    gate.proxy.join();
    assert!(is_reset(&mut stream));
    assert_eq!((tunnels(&gate, Blue).open(), gate.counts(Blue).cut), (0, 0));
}

#[test]
fn leaving_ends_with_the_last_tunnel_or_at_its_own_deadline() {
    let blue = shouting(SWITCH);
    let gate = gate(&blue, &blue).start();
    let stream = open_stream(&gate);
    gate.proxy.leave();
    drop(stream);
    gate.proxy.join();
    assert_eq!(tunnels(&gate, Blue).open(), 0);

    let times = (Duration::from_millis(300), Duration::from_millis(100));
    let gate = self::gate(&blue, &blue).with(|gate| (gate.drain, gate.handover) = times).start();
    let mut stream = open_stream(&gate);
    gate.proxy.leave();
    assert!(is_reset(&mut stream));
    gate.proxy.join();
    assert_eq!(tunnels(&gate, Blue).open(), 0);
}

#[test]
fn a_kill_is_obeyed_by_a_proxy_that_drains() {
    let (blue, green) = (answer("blue"), shouting(SWITCH));
    let gate = gate(&blue, &green)
        .weight("100%")
        .with(|gate| {
            gate.live.grace.0 = Duration::from_millis(50);
            gate.drain = Duration::from_secs(3600);
        })
        .start();
    let mut stream = open_stream(&gate);
    gate.proxy.drain();
    gate.until("it drains", |gate| TcpStream::connect(gate.address()).is_err());
    gate.kill();
    assert!(is_reset(&mut stream));
    gate.proxy.join();
    assert_eq!(gate.counts(Green).cut, 1);
}

#[test]
fn what_breaks_off_on_one_side_breaks_off_on_the_other() {
    let (ended, end) = channel();
    let ended = Mutex::new(ended);
    let blue = origin(move |_, stream| {
        stream.write_all(SWITCH.as_bytes()).unwrap();
        let mut some = [0; 2];
        stream.read_exact(&mut some).unwrap();
        stream.write_all(b"HI").unwrap();
        ended.lock().unwrap().send(stream.read(&mut some).unwrap_or(0)).unwrap();
        false
    });
    let gate = gate(&blue, &blue).start();
    let stream = open_stream(&gate);
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(end.recv_timeout(Duration::from_secs(30)).unwrap(), 0);
    gate.until_quiet();
    assert!(gate.counts(Blue).upstream_errors.is_empty());
}

#[test]
fn an_endpoint_that_resets_a_tunnel_is_told_of_and_fails_no_request() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\nhi") {
            let mut some = [0; 512];
            let count = stream.read(&mut some).unwrap();
            got.extend_from_slice(&some[..count]);
            if got.ends_with(b"\r\n\r\n") {
                stream.write_all(SWITCH.as_bytes()).unwrap();
            }
        }
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let blue = answer("unused");
    let gate = gate(&blue, &blue).endpoints(Blue, &[(address, Health::Healthy)]).start();
    let mut stream = dial(gate.address());
    stream.write_all([ask().as_str(), "hi"].concat().as_bytes()).unwrap();
    assert!(is_reset(&mut stream));
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!(counts.upstream_errors[&UpstreamError::Reset], 1);
    assert_eq!((counts.totals.failures, counts.totals.late_failures), (0, 0));
}

#[test]
fn a_tunnel_takes_the_room_of_a_client_and_of_an_endpoint() {
    let blue = shouting(SWITCH);
    let full = gate(&blue, &blue).with(|gate| gate.room.endpoints = 1).start();
    let tunnel = open(&full);
    assert_eq!(full.get("/", "").status, 503);
    drop(tunnel);
    full.until_quiet();
    assert_eq!(full.get("/", "").status, 200);

    let gate = gate(&blue, &blue).with(|gate| gate.live.limits.connections_max = Some(1)).start();
    let tunnel = open(&gate);
    assert!(Session::open(gate.address()).is_closed());
    drop(tunnel);
    gate.until("there is room", |gate| gate.tallies.process().connections_open == 0);
    drop(open(&gate));
}

#[test]
fn a_tunnel_runs_over_tls_and_ends_as_tls_ends() {
    let authority = Authority::new();
    let blue = shouting(SWITCH);
    let tls = Arc::new(authority.tls(&["shop"]));
    let gate = gate(&blue, &blue).listener(|listener| listener.tls = Some(tls)).start();
    let (mut session, _) = authority.visitor().meet(gate.address(), "shop").unwrap();
    assert_eq!(session.ask([ask().as_str(), "early"].concat()).status, 101);
    assert_eq!(session.exactly(5), b"EARLY");
    session.send("late");
    assert_eq!(session.exactly(4), b"LATE");
    drop(session);
    gate.until_quiet();
    assert_eq!(tunnels(&gate, Blue).open(), 0);

    // A refused upgrade leaves the connection in good order to its end: with a close_notify.
    let refusing = shouting("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let tls = Arc::new(authority.tls(&["shop"]));
    let gate = super::gate(&refusing, &refusing).listener(|listener| listener.tls = Some(tls)).start();
    let (mut session, _) = authority.visitor().meet(gate.address(), "shop").unwrap();
    assert_eq!(session.ask(ask()).status, 403);
    assert_eq!(session.ask(request("GET", "/", "connection: close\r\n")).status, 200);
    assert!(session.is_closed());
}

#[test]
fn a_tunnel_is_logged_when_it_ends_with_its_bytes_both_ways() {
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
    let blue = shouting(SWITCH);
    let gate = gate(&blue, &blue).with(|gate| gate.log = Some((settings, Box::new(sink.clone())))).start();
    let mut session = open(&gate);
    session.send("hello");
    assert_eq!(session.exactly(5), b"HELLO");
    gate.get("/", "");
    drop(session);
    gate.until_quiet();
    gate.finish();
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [plain, tunnel] = &lines[..] else { panic!("{text}") };
    assert_eq!((&plain["status"], plain.get("bytes_received")), (&200.into(), None));
    assert_eq!((&tunnel["status"], &tunnel["path"]), (&101.into(), &"/chat".into()));
    assert_eq!((&tunnel["bytes"], &tunnel["bytes_received"]), (&5.into(), &5.into()));
    assert!(tunnel.get("error").is_none(), "{tunnel}");
}
