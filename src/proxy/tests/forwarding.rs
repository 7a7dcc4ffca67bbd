use std::io::Write;

use super::{Session, answer, gate, origin, request};
use crate::proxy::ForwardedHeader;
use crate::telemetry::{CodeLabel, MethodLabel};
use crate::traffic::Variant;

#[test]
fn a_request_reaches_its_variant_and_the_answer_comes_back() {
    let (blue, green) = (answer("blue"), answer("green"));
    let gate = gate(&blue, &green).start();
    let got = gate.get("/a%20b/../c?q=%zz", "accept: */*\r\n");
    assert_eq!((got.status, got.text()), (200, "blue"));
    assert_eq!(got.one("x-tidegate-variant"), "blue");
    let seen = blue.last();
    assert_eq!(seen.line, "GET /a%20b/../c?q=%zz HTTP/1.1");
    assert_eq!(seen.one("host"), "shop");
    assert_eq!(seen.one("accept"), "*/*");
    assert_eq!(seen.one("x-tidegate-variant"), "blue");
    assert_eq!(seen.one("x-request-id").len(), 32);
    gate.until_quiet();
    let counts = gate.counts(Variant::Blue);
    assert_eq!(counts.requests[&(MethodLabel::Get, CodeLabel::of(200))], 1);
    assert_eq!((counts.totals.failures, counts.ttfb.count(), counts.duration.count()), (0, 1, 1));
    assert!(green.seen().is_empty());
}

#[test]
fn bodies_pass_both_ways_in_either_framing() {
    let echo = origin(|request, stream| {
        let body = &request.body;
        if request.line.contains("/chunked") {
            write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
            for piece in body.chunks(1000) {
                write!(stream, "{:x}\r\n", piece.len()).unwrap();
                stream.write_all(piece).unwrap();
                stream.write_all(b"\r\n").unwrap();
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
        } else {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).unwrap();
            stream.write_all(body).unwrap();
        }
        true
    });
    let gate = gate(&echo, &echo).start();
    let mut session = Session::open(gate.address());
    let large: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    for path in ["/length", "/chunked"] {
        for body in [&b"x"[..], &large] {
            session.send(request("POST", path, &format!("content-length: {}\r\n", body.len())));
            session.send(body);
            let got = session.read(false).unwrap();
            assert!(
                got.is_complete && got.body == body,
                "{path}: {} of {} bytes",
                got.body.len(),
                body.len()
            );
            assert_eq!(echo.last().one("content-length"), body.len().to_string());

            session.send(request("POST", path, "transfer-encoding: chunked\r\n"));
            for piece in body.chunks(70_000) {
                session.send(format!("{:x}\r\n", piece.len()));
                session.send(piece);
                session.send("\r\n");
            }
            session.send("0\r\n\r\n");
            let got = session.read(false).unwrap();
            assert!(got.is_complete && got.body == body);
            assert_eq!(echo.last().one("transfer-encoding"), "chunked");
            assert!(!echo.last().has("content-length"));
        }
    }
    assert_eq!(echo.connections(), 1);
}

#[test]
fn a_response_without_a_body_keeps_its_length_and_its_connection() {
    let blue = origin(|request, stream| {
        let head = match request.line.split(' ').nth(1).unwrap() {
            "/head" => "200 OK\r\ncontent-length: 5\r\n",
            "/204" => "204 No Content\r\n",
            "/304" => "304 Not Modified\r\netag: \"x\"\r\n",
            _ => "200 OK\r\ncontent-length: 0\r\n",
        };
        write!(stream, "HTTP/1.1 {head}\r\n").is_ok()
    });
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    let head = session.ask(request("HEAD", "/head", ""));
    assert_eq!((head.status, head.one("content-length")), (200, "5"));
    assert_eq!(session.ask(request("GET", "/204", "")).status, 204);
    let not_modified = session.ask(request("GET", "/304", ""));
    assert_eq!((not_modified.status, not_modified.one("etag")), (304, "\"x\""));
    assert_eq!(session.ask(request("GET", "/empty", "")).one("content-length"), "0");
    assert_eq!(session.ask(request("POST", "/empty", "content-length: 0\r\n")).status, 200);
    assert_eq!(blue.last().one("content-length"), "0");
    assert_eq!(blue.connections(), 1);
}

#[test]
fn informational_responses_are_not_the_answer() {
    let blue = origin(|_, stream| {
        let head = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
        write!(stream, "{head}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let gate = gate(&blue, &blue).start();
    assert_eq!(gate.get("/", "").text(), "ok");
    assert_eq!(gate.counts(Variant::Blue).informational, 1);
}

#[test]
fn what_concerns_one_connection_stops_here_both_ways() {
    let blue = origin(|_, stream| {
        let fields = "connection: keep-alive, X-Hop, content-length\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
            proxy-authenticate: Basic\r\nupgrade: h2c\r\nx-end: 2\r\ncontent-length: 2\r\n";
        write!(stream, "HTTP/1.1 200 OK\r\n{fields}\r\nok").is_ok()
    });
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    session.send(request(
        "POST",
        "/",
        "connection: x-hop, keep-alive, Content-Length, host, x-forwarded-for, te\r\nx-hop: 1\r\n\
         keep-alive: 5\r\nproxy-connection: keep-alive\r\nproxy: evil\r\nproxy-authorization: x\r\n\
         upgrade: websocket\r\nte: gzip, Trailers\r\nx-end: 2\r\ncontent-length: 4\r\n",
    ));
    session.send("body");
    let got = session.read(false).unwrap();
    assert_eq!(got.text(), "ok");
    assert_eq!((got.one("content-length"), got.one("x-end")), ("2", "2"));
    for name in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade", "connection"] {
        assert!(!got.has(name), "{name}");
    }
    let seen = blue.last();
    assert_eq!((seen.one("x-end"), seen.one("te"), seen.one("host")), ("2", "trailers", "shop"));
    assert_eq!((seen.body.as_slice(), seen.one("x-forwarded-for")), (&b"body"[..], "127.0.0.1"));
    for name in
        ["x-hop", "keep-alive", "proxy-connection", "proxy", "proxy-authorization", "upgrade", "connection"]
    {
        assert!(!seen.has(name), "{name}");
    }
}

#[test]
fn a_stranger_says_nothing_about_who_he_is() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    let lines = "x-forwarded-for: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nx-forwarded-host: evil\r\n\
        forwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nx-forwarded-port: 1\r\nx_forwarded_for: 6.6.6.6\r\n\
        x-tidegate-variant: green\r\nx-tidegate-visitor: me\r\nx_tidegate_variant: green\r\n\
        x-request-id: mine\r\ntraceparent: 00-1-2-3\r\n";
    gate.get("/", lines);
    let seen = blue.last();
    assert_eq!(seen.one("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.one("x-forwarded-proto"), "http");
    assert_eq!(seen.one("x-forwarded-host"), "shop");
    assert_eq!(seen.one("x-tidegate-variant"), "blue");
    assert_eq!(seen.one("traceparent"), "00-1-2-3");
    assert_ne!(seen.one("x-request-id"), "mine");
    for name in [
        "forwarded",
        "x-real-ip",
        "x-forwarded-port",
        "x_forwarded_for",
        "x-tidegate-visitor",
        "x_tidegate_variant",
    ] {
        assert!(!seen.has(name), "{name}");
    }
}

#[test]
fn no_other_field_says_who_the_client_is() {
    const NAMES: &[&str] = &[
        "true-client-ip",
        "cf-connecting-ip",
        "cf_connecting_ip",
        "cf-connecting-ipv6",
        "x-client-ip",
        "x-real-ip",
        "x-cluster-client-ip",
        "x-original-forwarded-for",
        "x-remote-addr",
        "fastly-client-ip",
        "client_ip",
        "forwarded",
        "x-forwarded",
        "x-forwarded-server",
    ];
    let blue = answer("blue");
    for gate in [gate(&blue, &blue).start(), gate(&blue, &blue).trusting_us().start()] {
        let lines: String = NAMES.iter().map(|name| format!("{name}: 6.6.6.6\r\n")).collect();
        gate.get("/", &(lines + "x-forwarder: 1\r\nclient-ip-hash: 1\r\n"));
        let seen = blue.last();
        for name in NAMES {
            assert!(!seen.has(name), "{name}");
        }
        assert!(seen.has("x-forwarder") && seen.has("client-ip-hash"));
    }
}

#[test]
fn a_trusted_proxy_is_believed_and_extended() {
    let blue = answer("blue");
    let first = gate(&blue, &blue).trusting_us().start();
    let lines = "x-forwarded-for: 6.6.6.6\r\nx-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\n\
        x-forwarded-host: www\r\nforwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nx-request-id: theirs-1\r\n";
    first.get("/", lines);
    let seen = blue.last();
    assert_eq!(seen.one("x-forwarded-for"), "6.6.6.6, 9.9.9.9, 127.0.0.1");
    assert_eq!((seen.one("x-forwarded-proto"), seen.one("x-forwarded-host")), ("https", "www"));
    assert_eq!(seen.one("x-request-id"), "theirs-1");
    assert!(!seen.has("forwarded") && !seen.has("x-real-ip"));

    let second = gate(&blue, &blue)
        .trusting_us()
        .with(|gate| gate.live.trusted_proxies.header = ForwardedHeader::Forwarded)
        .start();
    second
        .get("/", "x-forwarded-for: 6.6.6.6\r\nforwarded: for=9.9.9.9;proto=https\r\nx-request-id: a b\r\n");
    let seen = blue.last();
    assert_eq!(seen.one("forwarded"), "for=9.9.9.9;proto=https, for=127.0.0.1;host=\"shop\";proto=https");
    assert_eq!(seen.one("x-forwarded-for"), "9.9.9.9, 127.0.0.1");
    assert_eq!(seen.one("x-forwarded-proto"), "https");
    assert_eq!(seen.one("x-request-id").len(), 32);
}

#[test]
fn an_old_client_gets_an_answer_it_understands() {
    let blue = origin(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").is_ok()
    });
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    let got = session.ask("GET /old HTTP/1.0\r\n\r\n");
    assert_eq!((got.status, got.text()), (200, "ok"));
    assert!(!got.has("transfer-encoding"));
    assert_eq!(blue.last().one("host"), blue.address.to_string());
    assert_eq!(blue.last().line, "GET /old HTTP/1.1");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let blue = origin(|request, stream| {
        let path = request.line.split(' ').nth(1).unwrap();
        let body = path.repeat(50_000);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).is_ok()
    });
    let gate = gate(&blue, &blue).start();
    let mut session = Session::open(gate.address());
    session.send((0..5).map(|at| request("GET", &format!("/{at}"), "")).collect::<String>());
    for at in 0..5 {
        let got = session.read(false).unwrap();
        assert!(got.is_complete && got.text().starts_with(&format!("/{at}")));
    }
}

#[test]
fn an_absolute_target_becomes_a_path() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    let got = Session::open(gate.address()).ask("GET http://shop/a?b HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert_eq!(got.status, 200);
    assert_eq!((blue.last().line.as_str(), blue.last().one("host")), ("GET /a?b HTTP/1.1", "shop"));
}

#[test]
fn many_services_are_told_apart_by_their_host() {
    let apps = [answer("zero"), answer("one"), answer("two")];
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.others = (0..300).map(|at| (format!("app-{at}"), apps[at % 3].address)).collect();
        })
        .start();
    let mut session = Session::open(gate.address());
    for (at, expected) in (0..300).zip(["zero", "one", "two"].into_iter().cycle()) {
        let got = session.ask(format!("GET / HTTP/1.1\r\nhost: App-{at}:80\r\n\r\n"));
        assert_eq!(got.text(), expected);
    }
    assert_eq!(session.ask(request("GET", "/", "")).text(), "blue");
    gate.publish(|_| {});
    assert_eq!(session.ask("GET / HTTP/1.1\r\nhost: app-1\r\n\r\n").text(), "one");
}

#[test]
fn trailers_carry_nothing_that_a_head_may_not() {
    const ALLOWED: &str = "x-checksum: 1\r\ngrpc-status: 0\r\n";
    const FORBIDDEN: &str = "Host: evil\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\
        Authorization: x\r\nSet-Cookie: a=b\r\nConnection: close\r\nCookie: a=b\r\nIf-Match: x\r\n";
    const OF_CLIENTS: &str = "X-Forwarded-For: 6.6.6.6\r\nX-Real_Ip: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
        X-Tidegate-Variant: green\r\nX-Tidegate-Visitor: 1\r\nX-Tidegate-Override: green:x\r\n\
        X-Request-Id: mine\r\n";
    let announced = |lines: &str| {
        let names: Vec<_> = lines.lines().filter_map(|line| line.split(':').next()).collect();
        format!("trailer: {}\r\n", names.join(", "))
    };
    let response = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{}\r\n2\r\nok\r\n0\r\n{FORBIDDEN}{ALLOWED}\r\n",
        announced(&(FORBIDDEN.to_owned() + ALLOWED))
    );
    let blue = origin(move |_, stream| stream.write_all(response.as_bytes()).is_ok());
    let gate = gate(&blue, &blue).tester("secret").start();
    let lines = FORBIDDEN.to_owned() + OF_CLIENTS + ALLOWED;
    let head = format!("te: trailers\r\ntransfer-encoding: chunked\r\n{}", announced(&lines));
    let mut session = Session::open(gate.address());
    let got = session.ask(request("POST", "/", &head) + "1\r\nx\r\n0\r\n" + &lines + "\r\n");
    assert_eq!((got.status, got.text(), got.is_complete), (200, "ok", true));
    for mut trailers in [got.trailers, blue.last().trailers] {
        trailers.sort();
        assert_eq!(trailers, ["grpc-status", "x-checksum"]);
    }
    // None is left: the body ends like one without.
    let got = session.ask(request("POST", "/", &head) + "1\r\nx\r\n0\r\nHost: evil\r\n\r\n");
    assert_eq!((got.status, blue.last().trailers.len()), (200, 0));
}
