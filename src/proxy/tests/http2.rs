use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{answer, gate, origin};
use crate::telemetry::CodeLabel;
use crate::traffic::Variant::{Blue, Green};

type Sender = SendRequest<Full<Bytes>>;

fn block_on<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), story).await.expect("in time") })
}

async fn connect(address: SocketAddr) -> (Sender, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn to(path: &str) -> http::request::Builder {
    Request::builder().uri(format!("http://shop{path}"))
}

async fn send(sender: &mut Sender, request: http::request::Builder, body: &[u8]) -> Response<Incoming> {
    let body = Full::new(Bytes::copy_from_slice(body));
    sender.send_request(request.body(body).unwrap()).await.unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn a_request_becomes_one_of_http_1_1() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    block_on(async {
        let (mut sender, _) = connect(gate.address()).await;
        let request =
            to("/a?b").header("cookie", "a=1").header("cookie", "tidegate=x; b=2").header("te", "trailers");
        let got = send(&mut sender, request, b"").await;
        assert_eq!((got.status().as_u16(), got.headers().contains_key("connection")), (200, false));
        assert_eq!(text(got).await, "blue");
        let seen = blue.last();
        assert_eq!((seen.line.as_str(), seen.one("host")), ("GET /a?b HTTP/1.1", "shop"));
        assert_eq!((seen.one("cookie"), seen.one("te")), ("a=1; b=2", "trailers"));
        assert!(!seen.has("transfer-encoding") && !seen.has("content-length"));

        send(&mut sender, to("/").method("POST"), b"body").await;
        let seen = blue.last();
        assert_eq!((seen.body.as_slice(), seen.one("content-length")), (&b"body"[..], "4"));
    });
}

#[test]
fn many_streams_share_a_connection() {
    let blue = origin(|request, stream| {
        let body = request.line.repeat(10_000);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).is_ok()
    });
    let gate = gate(&blue, &blue).start();
    block_on(async {
        let (sender, _) = connect(gate.address()).await;
        let streams: Vec<_> = (0..50)
            .map(|at| {
                let mut sender = sender.clone();
                tokio::spawn(async move { text(send(&mut sender, to(&format!("/{at}")), b"").await).await })
            })
            .collect();
        for (at, stream) in streams.into_iter().enumerate() {
            let expected = format!("GET /{at} HTTP/1.1").repeat(10_000);
            assert!(stream.await.unwrap() == expected, "stream {at}");
        }
    });
    gate.until_quiet();
    assert_eq!(gate.counts(Blue).totals.requests, 50);
    assert_eq!(gate.tallies.process().connections_accepted, 1);
}

#[test]
fn a_truncated_response_is_a_reset_stream() {
    let blue = origin(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123").unwrap();
        false
    });
    let gate = gate(&blue, &blue).start();
    block_on(async {
        let (mut sender, _) = connect(gate.address()).await;
        let got = send(&mut sender, to("/"), b"").await;
        assert!(got.into_body().collect().await.is_err());
    });
    gate.until_quiet();
    assert_eq!(gate.counts(Blue).totals.late_failures, 1);
}

#[test]
fn refusals_end_a_stream_and_not_the_connection() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).with(|gate| gate.live.limits.uri_bytes_max = 100).start();
    block_on(async {
        let (mut sender, _) = connect(gate.address()).await;
        for (request, status) in [
            (to("/").header("host", "other"), 400),
            (to("/a%2fb"), 400),
            (to("/").method("TRACE"), 405),
            (to(&format!("/{}", "a".repeat(100))), 414),
            (to("/"), 200),
        ] {
            assert_eq!(send(&mut sender, request, b"").await.status().as_u16(), status);
        }
    });
    assert_eq!(gate.tallies.process().unrouted[&CodeLabel::of(400)], 2);
}

#[test]
fn draining_says_goaway_and_finishes_what_is_open() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let blue = origin(move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbl").unwrap();
        let _ = wait.lock().unwrap().recv();
        write!(stream, "ue").is_ok()
    });
    let gate = gate(&blue, &blue).start();
    block_on(async {
        let (mut sender, connection) = connect(gate.address()).await;
        let got = send(&mut sender, to("/"), b"").await;
        gate.proxy.drain();
        go.send(()).unwrap();
        assert_eq!(text(got).await, "blue");
        connection.await.unwrap().unwrap();
        gate.proxy.drained().await;
    });
}

#[test]
fn a_stream_that_nobody_reads_is_cut_after_a_kill_and_the_connection_lives() {
    let (blue, green) = (
        answer("blue"),
        origin(|_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n").unwrap();
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
            false
        }),
    );
    let gate =
        gate(&blue, &green).weight("100%").with(|gate| gate.live.grace.0 = Duration::from_millis(50)).start();
    block_on(async {
        let (mut sender, _) = connect(gate.address()).await;
        let unread = send(&mut sender, to("/"), b"").await;
        gate.kill();
        assert_eq!(text(send(&mut sender, to("/"), b"").await).await, "blue");
        gate.until("the stream is over", |gate| gate.counts(Green).totals.in_flight() == 0);
        assert!(unread.into_body().collect().await.is_err());
        assert_eq!(text(send(&mut sender, to("/"), b"").await).await, "blue");
    });
    assert_eq!(gate.counts(Green).cut, 1);
}

#[test]
fn an_idle_connection_is_closed() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.live.timeouts.handshake = Duration::from_millis(100);
            gate.live.timeouts.keep_alive_idle = Duration::from_millis(100);
        })
        .start();
    block_on(async {
        let (mut sender, connection) = connect(gate.address()).await;
        assert_eq!(text(send(&mut sender, to("/"), b"").await).await, "blue");
        // GOAWAY, and no error.
        connection.await.unwrap().unwrap();
        assert!(sender.is_closed());
    });
}

#[test]
fn what_keeps_a_connection_alive_is_not_taken_for_a_slow_head() {
    const SHORT: Duration = Duration::from_millis(100);
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .with(|gate| {
            // Never reached: that the connection ends shows that it counted as idle all the time.
            gate.live.timeouts.head = Duration::from_secs(3600);
            gate.live.timeouts.keep_alive_idle = SHORT * 2;
        })
        .start();
    block_on(async {
        let stream = TcpStream::connect(gate.address()).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(SHORT / 10)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        assert_eq!(text(send(&mut sender, to("/"), b"").await).await, "blue");
        connection.await.unwrap().unwrap();
    });
}

#[test]
fn a_client_that_ignores_goaway_is_cut_off() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue)
        .with(|gate| {
            gate.live.timeouts.head = Duration::from_millis(100);
            gate.live.timeouts.keep_alive_idle = Duration::from_millis(100);
        })
        .start();
    let mut session = super::Session::open(gate.address());
    // Preface, empty SETTINGS, and a GET as HPACK's static table has it: `:method GET`, `:scheme http`,
    // `:path /`, `:authority shop`.
    session.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    session.send(b"\0\0\x09\x01\x05\0\0\0\x01\x82\x86\x84\x01\x04shop");
    gate.until("it is gone", |gate| {
        let process = gate.tallies.process();
        process.connections_accepted == 1 && process.connections_open == 0
    });
    assert_eq!(blue.seen().len(), 1);
}
