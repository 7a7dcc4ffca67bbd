//! WebSockets over HTTP/2: extended CONNECT (RFC 8441). And `Expect`, which HTTP/2 has, too.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::{DATA, END_STREAM, Fate, Frames, RST_STREAM, SETTINGS};
use super::{Authority, Origin, answer, gate, origin};
use crate::proxy::upgrade::accept;
use crate::traffic::Variant::{Blue, Green};

type Sender = SendRequest<Full<Bytes>>;

const CHAT: [(&str, &str); 6] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/chat"),
    (":authority", "shop"),
    ("sec-websocket-version", "13"),
];
const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "shop")];
/// The beginning of an answer.
const SWITCH: &str = "HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\n";
/// RFC 9113 §7.
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// An endpoint that speaks `protocol` and says what it hears, in capitals; and `bye` when it heard all.
fn shouting(protocol: &'static str) -> Origin {
    origin(move |request, stream| {
        if !request.has("upgrade") {
            return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain").is_ok();
        }
        let proof = request.all("sec-websocket-key").first().map(|key| accept(key)).unwrap_or_default();
        write!(
            stream,
            "HTTP/1.1 101 Switching\r\nupgrade: {protocol}\r\nconnection: upgrade\r\ncontent-length: 0\r\n\
             sec-websocket-accept: {proof}\r\nsec-websocket-protocol: chat\r\n\r\n"
        )
        .unwrap();
        let mut some = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut some) {
            if stream.write_all(&some[..count].to_ascii_uppercase()).is_err() {
                return false;
            }
        }
        let _ = stream.write_all(b"bye");
        false
    })
}

fn block_on<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), story).await.expect("in time") })
}

async fn connect(address: SocketAddr) -> Sender {
    over(TcpStream::connect(address).await.unwrap()).await
}

async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender {
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    // The proxy's settings say that it takes extended CONNECT; an answer comes after them.
    let got = send(&mut sender, Request::get("http://shop/"), b"").await;
    got.into_body().collect().await.unwrap();
    sender
}

async fn send(sender: &mut Sender, request: http::request::Builder, body: &[u8]) -> Response<Incoming> {
    let body = Full::new(Bytes::copy_from_slice(body));
    sender.send_request(request.body(body).unwrap()).await.unwrap()
}

fn chat(protocol: &'static str) -> http::request::Builder {
    Request::connect("http://shop/chat")
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat, superchat")
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn stream_of(response: Response<Incoming>) -> TokioIo<Upgraded> {
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

async fn echoes(stream: &mut TokioIo<Upgraded>) {
    for _ in 0..3 {
        stream.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"HELLO");
    }
}

#[test]
fn extended_connect_becomes_an_upgrade_and_its_streams_are_tunnels() {
    let blue = shouting("websocket");
    let gate = gate(&blue, &blue).start();
    block_on(async {
        let mut sender = connect(gate.address()).await;
        let mut keys = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..3 {
            let got = send(&mut sender, chat("websocket").header("sec-websocket-key", "mine"), b"").await;
            assert_eq!(
                (got.status().as_u16(), &got.headers()["sec-websocket-protocol"]),
                (200, &"chat".parse().unwrap())
            );
            for absent in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
                assert!(!got.headers().contains_key(absent), "{absent}");
            }
            let seen = blue.last();
            assert_eq!((seen.line.as_str(), seen.one("host")), ("GET /chat HTTP/1.1", "shop"));
            assert_eq!((seen.one("connection"), seen.one("upgrade")), ("upgrade", "websocket"));
            assert_eq!(seen.one("sec-websocket-protocol"), "chat, superchat");
            assert_eq!((seen.one("sec-websocket-key").len(), seen.one("sec-websocket-version")), (24, "13"));
            assert!(!seen.has("content-length") && !seen.has("transfer-encoding"));
            keys.push(seen.one("sec-websocket-key").to_owned());
            streams.push(stream_of(got).await);
        }
        assert!(keys[0] != keys[1] && keys[1] != keys[2]);
        for stream in &mut streams {
            echoes(stream).await;
        }
        assert_eq!(gate.counts(Blue).tunnels.open(), 3);
        // Beside them, requests.
        assert_eq!(text(send(&mut sender, Request::get("http://shop/"), b"").await).await, "plain");
        // What one side ends the other may go on with.
        let mut stream = streams.remove(0);
        stream.shutdown().await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "bye");
        echoes(&mut streams[0]).await;
    });
    gate.until_quiet();
    let counts = gate.counts(Blue);
    assert_eq!((counts.tunnels.opened, counts.tunnels.open(), counts.totals.failures), (3, 0, 0));
    assert!(counts.upstream_errors.is_empty(), "{:?}", counts.upstream_errors);
}

#[test]
fn a_tunnel_runs_over_http_2_and_tls() {
    let authority = Authority::new();
    let blue = shouting("websocket");
    let tls = Arc::new(authority.tls(&["shop"]));
    let gate = gate(&blue, &blue).listener(|listener| listener.tls = Some(tls)).start();
    let config = Arc::new(authority.visitor().offering(&["h2"]).config);
    block_on(async {
        let stream = TcpStream::connect(gate.address()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut sender = over(connector.connect("shop".try_into().unwrap(), stream).await.unwrap()).await;
        let mut stream = stream_of(send(&mut sender, chat("websocket"), b"").await).await;
        echoes(&mut stream).await;
        assert_eq!(blue.last().one("x-forwarded-proto"), "https");
    });
}

#[test]
fn only_an_endpoint_that_has_changed_the_protocol_makes_a_tunnel() {
    #[track_caller]
    fn check(head: &str, expected: u16) {
        let special = head.to_owned();
        let blue = origin(move |request, stream| {
            let plain = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let head = if request.has("upgrade") { special.as_str() } else { plain };
            let proof = request.all("sec-websocket-key").first().map(|key| accept(key));
            let head = head.replace("PROOF", &proof.unwrap_or_default());
            stream.write_all(head.as_bytes()).is_ok()
        });
        let gate = gate(&blue, &blue).start();
        block_on(async {
            let mut sender = connect(gate.address()).await;
            let got = send(&mut sender, chat("websocket"), b"").await;
            assert_eq!(got.status().as_u16(), expected, "{head}");
            if expected == 403 {
                assert_eq!(text(got).await, "no");
            }
            assert_eq!(text(send(&mut sender, Request::get("http://shop/"), b"").await).await, "ok");
        });
        gate.until_quiet();
        let counts = gate.counts(Blue);
        assert_eq!((counts.tunnels.opened, counts.totals.failures), (0, u64::from(expected == 502)));
    }
    check("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", 403);
    check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", 502);
    check("HTTP/1.1 204 No Content\r\n\r\n", 502);
    for lines in [
        "connection: upgrade\r\nupgrade: websocket\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        "connection: upgrade\r\nupgrade: irc\r\nsec-websocket-accept: PROOF\r\n",
        "upgrade: websocket\r\nsec-websocket-accept: PROOF\r\n",
    ] {
        check(&format!("HTTP/1.1 101 X\r\n{lines}\r\n"), 502);
    }
}

#[test]
fn protocols_that_the_service_does_not_allow_are_not_spoken() {
    let blue = shouting("IRC");
    let irc = gate(&blue, &blue).with(|gate| gate.settings.upgrades = vec!["irc".parse().unwrap()]).start();
    let gate = gate(&blue, &blue).start();
    block_on(async {
        let (mut usual, mut special) = (connect(gate.address()).await, connect(irc.address()).await);
        let before = blue.seen().len();
        for protocol in ["irc", "h2c", "", "websocket/13"] {
            assert_eq!(send(&mut usual, chat(protocol), b"").await.status().as_u16(), 501, "{protocol:?}");
        }
        assert_eq!(send(&mut special, chat("websocket"), b"").await.status().as_u16(), 501);
        // A CONNECT that says where to go, and not what to speak, goes nowhere.
        let plain = Request::connect("shop:443");
        assert_eq!(send(&mut usual, plain, b"").await.status().as_u16(), 405);
        assert_eq!(blue.seen().len(), before);
        let mut stream = stream_of(send(&mut special, chat("IRC"), b"").await).await;
        assert!(!blue.last().has("sec-websocket-key"));
        echoes(&mut stream).await;
    });
    assert_eq!(gate.counts(Blue).totals.failures, 0);
}

/// Reads on until `count` bytes came through a stream.
#[track_caller]
fn data(frames: &mut Frames, stream: u32, count: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < count {
        let frame = frames.read().expect("a frame");
        assert!(frame.kind != RST_STREAM, "reset after {got:?}");
        if (frame.kind, frame.stream) == (DATA, stream) {
            got.extend(frame.payload);
        }
    }
    got
}

#[test]
fn after_a_kill_a_stream_is_reset_and_its_connection_goes_on() {
    let (blue, green) = (answer("blue"), shouting("websocket"));
    let gate =
        gate(&blue, &green).weight("100%").with(|gate| gate.live.grace.0 = Duration::from_millis(50)).start();
    let mut frames = Frames::open(gate.address());
    let settings = frames.read().unwrap();
    assert_eq!(settings.kind, SETTINGS);
    // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3).
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]), "{settings:?}");
    frames.headers(0, 1, &CHAT);
    frames.send(DATA, 0, 1, b"early");
    assert_eq!(frames.fate(1), Fate::Answered(200));
    frames.send(DATA, 0, 1, b"hello");
    assert_eq!(data(&mut frames, 1, 10), b"EARLYHELLO");
    gate.publish(|service| service.split.weight = "0%".parse().unwrap());
    frames.send(DATA, 0, 1, b"hello");
    assert_eq!(data(&mut frames, 1, 5), b"HELLO");
    gate.kill();
    let end = std::iter::from_fn(|| frames.read()).find(|frame| frame.stream == 1).unwrap();
    assert_eq!((end.kind, &end.payload[..]), (RST_STREAM, &CANCEL[..]), "{end:?}");
    frames.headers(END_STREAM, 3, &GET);
    assert!(matches!(frames.fate(3), Fate::Answered(_)));
    gate.until_quiet();
    assert_eq!((gate.counts(Green).cut, gate.counts(Green).tunnels.open()), (1, 0));
}

#[test]
fn a_stream_that_the_client_resets_is_over_at_once() {
    let ((ended, end), (go, wait)) = (channel(), channel::<()>());
    let ends = Mutex::new((ended, wait));
    let blue = origin(move |request, stream| {
        let proof = accept(request.one("sec-websocket-key"));
        write!(stream, "{SWITCH}sec-websocket-accept: {proof}\r\n\r\n").unwrap();
        let ends = ends.lock().unwrap();
        ends.0.send(stream.read(&mut [0; 16]).unwrap_or(0)).unwrap();
        // It keeps its own half open, and says nothing that could not be written.
        let _ = ends.1.recv();
        false
    });
    let gate = gate(&blue, &blue).start();
    let mut frames = Frames::open(gate.address());
    frames.headers(0, 1, &CHAT);
    assert_eq!(frames.fate(1), Fate::Answered(200));
    frames.send(RST_STREAM, 0, 1, &CANCEL);
    assert_eq!(end.recv_timeout(Duration::from_secs(30)).unwrap(), 0);
    gate.until("it is over", |gate| gate.counts(Blue).tunnels.closed == 1);
    gate.until_quiet();
    go.send(()).unwrap();
}

#[test]
fn an_orderly_end_is_told_as_one_and_a_window_holds_the_endpoint_back() {
    const ALL: usize = 32 << 20;
    let blue = origin(|request, stream| {
        let proof = accept(request.one("sec-websocket-key"));
        write!(stream, "{SWITCH}sec-websocket-accept: {proof}\r\n\r\n").unwrap();
        if request.line.contains("/chat") {
            let piece = [b'x'; 65536];
            let _ = (0..ALL / 65536).all(|_| stream.write_all(&piece).is_ok());
        } else {
            stream.write_all(b"done").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let _ = stream.read(&mut [0]);
        }
        false
    });
    let gate = gate(&blue, &blue).start();
    let mut frames = Frames::open(gate.address());
    let mut quick = CHAT;
    quick[3].1 = "/quick";
    frames.headers(0, 1, &quick);
    assert_eq!(frames.fate(1), Fate::Answered(200));
    let mut got = Vec::new();
    let last = loop {
        let frame = frames.read().unwrap();
        assert!(frame.kind != RST_STREAM);
        if frame.stream == 1 && frame.kind == DATA {
            got.extend_from_slice(&frame.payload);
            if frame.flags & END_STREAM != 0 {
                break frame;
            }
        }
    };
    assert_eq!((got.as_slice(), last.kind), (&b"done"[..], DATA));
    frames.send(DATA, END_STREAM, 1, b"");
    gate.until("it is over", |gate| gate.counts(Blue).tunnels.closed == 1);

    // Nobody gives the stream another window than its first 65,535 bytes.
    frames.headers(0, 3, &CHAT);
    gate.until("it stands still", |gate| {
        let count = gate.counts(Blue).tunnels.bytes_from_endpoint;
        (65_535..1 << 20).contains(&count)
    });
    frames.send(DATA, 0, 3, b"up");
    gate.until("it goes up", |gate| gate.counts(Blue).tunnels.bytes_from_client == 2);
    let count = gate.counts(Blue).tunnels.bytes_from_endpoint;
    assert!(count < 256 << 10, "{count}");
}

#[test]
fn a_refusal_comes_before_the_body_that_waits_for_100_and_the_body_after_it() {
    let blue = origin(|request, stream| {
        if request.line.contains("/no") {
            stream.write_all(b"HTTP/1.1 417 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            return false;
        }
        let mut body = [0; 4];
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        stream.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"body");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_ok()
    });
    let gate = gate(&blue, &blue).start();
    let mut post = vec![(":method", "POST"), (":scheme", "http"), (":path", "/no"), (":authority", "shop")];
    post.extend([("expect", "100-continue"), ("content-length", "4"), ("x-do-not-read", "1")]);
    let mut frames = Frames::open(gate.address());
    frames.headers(0, 1, &post);
    assert_eq!(frames.fate(1), Fate::Answered(417));
    assert_eq!(blue.last().one("expect"), "100-continue");

    post[2].1 = "/";
    let mut frames = Frames::open(gate.address());
    frames.headers(0, 1, &post);
    gate.until("the endpoint has it", |_| blue.seen().len() == 2);
    frames.send(DATA, END_STREAM, 1, b"body");
    assert_eq!(frames.fate(1), Fate::Answered(200));
}
