//! gRPC calls through the whole proxy: HTTP/2 on both sides, frame by frame where it matters.

use std::future::poll_fn;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::endpoints::lead_to;
use super::{Gate, Session, answer, endpoint, gate, origin};
use crate::routing::{Group, Member};
use crate::telemetry::{CodeLabel, MethodLabel, UpstreamError};
use crate::traffic::Variant::{Blue, Green};
use crate::upstream::{EndpointTls, Health, Protocol, Reach, TlsOptions};

/// An endpoint that does with each call what `behave` says, until the test process ends.
fn callee<F: Future<Output = ()> + 'static>(
    behave: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
) -> SocketAddr {
    callee_over(None, behave)
}

/// By TLS where there is a configuration of it.
fn callee_over<F: Future<Output = ()> + 'static>(
    tls: Option<rustls::ServerConfig>,
    behave: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
) -> SocketAddr {
    let tls = tls.map(|tls| tokio_rustls::TlsAcceptor::from(Arc::new(tls)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let behave = std::rc::Rc::new(behave);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(LocalSet::new().run_until(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (behave, tls) = (behave.clone(), tls.clone());
                tokio::task::spawn_local(async move {
                    match tls {
                        None => serve(stream, &*behave).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &*behave).await;
                            }
                        }
                    }
                });
            }
        }));
    });
    address
}

async fn serve<F: Future<Output = ()> + 'static>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    behave: &dyn Fn(Request<RecvStream>, SendResponse<Bytes>) -> F,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn_local(behave(request, respond));
    }
}

fn fields(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// The next message; `None` after the last.
async fn next(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let piece = body.data().await?;
    Some(piece.inspect(|piece| body.flow_control().release_capacity(piece.len()).unwrap()))
}

/// Sends every message back at once, and at the end what it knows of the call. `/up` and `/down` are the forms
/// where only one side streams.
async fn echo(mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let path = request.uri().path().to_owned();
    let mut told = fields(&[("grpc-status", "0"), ("x-path", &path)]);
    for name in ["te", "grpc-timeout", "content-type"] {
        let value = request.headers().get(name).cloned().unwrap_or("none".parse().unwrap());
        told.insert(http::HeaderName::try_from(format!("x-{name}")).unwrap(), value);
    }
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut sending = respond.send_response(head, false).unwrap();
    let mut count = 0;
    while let Some(Ok(message)) = next(request.body_mut()).await {
        count += 1;
        match path.as_str() {
            "/up" => {}
            "/down" => (0..3).for_each(|_| sending.send_data(message.clone(), false).unwrap()),
            _ => sending.send_data(message, false).unwrap(),
        }
    }
    if path == "/up" {
        sending.send_data(count.to_string().into(), false).unwrap();
    }
    if let Ok(Some(trailers)) = request.body_mut().trailers().await {
        told.extend(trailers);
    }
    sending.send_trailers(told).unwrap();
}

fn story<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), story).await.expect("in time") })
}

async fn caller(gate: &Gate) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(gate.address()).await.unwrap();
    let (caller, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    caller.ready().await.unwrap()
}

fn call(caller: &mut SendRequest<Bytes>, path: &str, is_over: bool) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::post(format!("http://shop{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .header("grpc-timeout", "5S");
    caller.send_request(request.body(()).unwrap(), is_over).unwrap()
}

/// A proxy before an endpoint that speaks HTTP/2.
fn before(callee: SocketAddr) -> Gate {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    lead_to(&gate, &format!("http://{callee}"), &Reach { protocol: Protocol::Http2, ..Reach::default() });
    gate
}

#[test]
fn every_form_of_a_call_goes_through_with_trailers_both_ways() {
    let gate = before(callee(echo));
    story(async {
        let mut caller = caller(&gate).await;
        for (path, up, expected) in [
            ("/unary", &["one"][..], "one"),
            ("/down", &["one"], "oneoneone"),
            ("/up", &["one", "two", "three"], "3"),
            ("/both", &["one", "two"], "onetwo"),
        ] {
            let (answer, mut upload) = call(&mut caller, path, false);
            for message in up {
                upload.send_data(Bytes::from_static(message.as_bytes()), false).unwrap();
            }
            upload.send_trailers(fields(&[("x-last", "said")])).unwrap();
            let mut answer = answer.await.unwrap();
            let mut all = Vec::new();
            while let Some(message) = next(answer.body_mut()).await {
                all.extend(message.unwrap());
            }
            assert_eq!(String::from_utf8(all).unwrap(), expected, "{path}");
            let trailers = answer.body_mut().trailers().await.unwrap().unwrap();
            for (name, value) in [
                ("grpc-status", "0"),
                ("x-path", path),
                ("x-te", "trailers"),
                ("x-grpc-timeout", "5S"),
                ("x-content-type", "application/grpc+proto"),
                ("x-last", "said"),
            ] {
                assert_eq!(trailers[name], value, "{name} of {path}");
            }
        }
    });
    gate.until_quiet();
    let totals = gate.counts(Blue).totals;
    assert_eq!((totals.requests, totals.failures, totals.late_failures), (4, 0, 0));
}

#[test]
fn messages_alternate_while_both_sides_are_open_and_the_outcome_waits_for_the_end() {
    let gate = before(callee(echo));
    story(async {
        let mut caller = caller(&gate).await;
        let (answer, mut upload) = call(&mut caller, "/both", false);
        let mut answer = answer.await.unwrap();
        for _ in 0..20 {
            upload.send_data("message".into(), false).unwrap();
            assert_eq!(next(answer.body_mut()).await.unwrap().unwrap(), "message");
        }
        assert_eq!(gate.counts(Blue).totals.requests, 0);
        upload.send_data(Bytes::new(), true).unwrap();
        assert!(next(answer.body_mut()).await.is_none());
    });
    gate.until_quiet();
    assert_eq!(gate.counts(Blue).totals.requests, 1);
}

#[test]
fn a_callers_cancellation_reaches_the_endpoint_and_is_no_failure() {
    for has_head in [false, true] {
        for is_over in [false, true] {
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            let address = callee(move |_request, mut respond: SendResponse<Bytes>| {
                let tell = tell.clone();
                async move {
                    let reason = if has_head {
                        let mut sending = respond.send_response(Response::new(()), false).unwrap();
                        sending.send_data("one".into(), false).unwrap();
                        poll_fn(|cx| sending.poll_reset(cx)).await
                    } else {
                        tell.send(None).unwrap();
                        poll_fn(|cx| respond.poll_reset(cx)).await
                    };
                    tell.send(Some(reason.unwrap())).unwrap();
                }
            });
            let gate = before(address);
            story(async {
                let mut caller = caller(&gate).await;
                let (answer, mut upload) = call(&mut caller, "/", is_over);
                if has_head {
                    let mut answer = answer.await.unwrap();
                    assert_eq!(next(answer.body_mut()).await.unwrap().unwrap(), "one");
                } else {
                    assert_eq!(told.recv().await, Some(None));
                }
                upload.send_reset(Reason::CANCEL);
                let reason = told.recv().await.unwrap();
                assert!(reason.is_some_and(|reason| reason != Reason::NO_ERROR), "{reason:?}");
            });
            gate.until_quiet();
            let totals = gate.counts(Blue).totals;
            assert_eq!((totals.requests, totals.failures, totals.late_failures), (1, 0, 0));
        }
    }
}

#[test]
fn an_endpoint_that_resets_or_hangs_up_resets_the_caller_and_has_failed() {
    let has_come = Arc::new(Notify::new());
    let seen = has_come.clone();
    let address = callee(move |_, mut respond: SendResponse<Bytes>| {
        let seen = seen.clone();
        async move {
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            sending.send_data("one".into(), false).unwrap();
            // A reset would overtake it.
            seen.notified().await;
            sending.send_reset(Reason::INTERNAL_ERROR);
        }
    });
    let truncating = origin(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").unwrap();
        false
    });
    for gate in [before(address), gate(&truncating, &truncating).start()] {
        story(async {
            let mut caller = caller(&gate).await;
            let (answer, _upload) = call(&mut caller, "/", true);
            let mut answer = answer.await.unwrap();
            assert_eq!(next(answer.body_mut()).await.unwrap().unwrap(), "one");
            has_come.notify_one();
            let error = next(answer.body_mut()).await.unwrap().unwrap_err();
            assert!(error.is_reset() && error.is_remote(), "{error:?}");
        });
        gate.until_quiet();
        let counts = gate.counts(Blue);
        let totals = counts.totals;
        assert_eq!((totals.requests, totals.failures, totals.late_failures), (1, 1, 0));
        assert_eq!(counts.upstream_errors[&UpstreamError::Truncated], 1);
    }
}

#[test]
fn the_status_that_comes_last_decides() {
    #[track_caller]
    fn check(
        content_type: &str,
        head: (u16, Option<&'static str>),
        last: Option<&'static str>,
        failures: u64,
    ) {
        let (code, at_head) = head;
        let address = callee(move |_, mut respond: SendResponse<Bytes>| async move {
            let mut head = Response::builder().status(code);
            if let Some(status) = at_head {
                head = head.header("grpc-status", status);
            }
            let is_over = at_head.is_some();
            let mut sending = respond.send_response(head.body(()).unwrap(), is_over).unwrap();
            match last {
                _ if is_over => {}
                Some(status) => sending.send_trailers(fields(&[("grpc-status", status)])).unwrap(),
                None => sending.send_data("one".into(), true).unwrap(),
            }
        });
        let gate = before(address);
        story(async {
            let mut caller = caller(&gate).await;
            let request =
                Request::post("http://shop/").header("content-type", content_type).body(()).unwrap();
            let mut answer = caller.send_request(request, true).unwrap().0.await.unwrap();
            assert_eq!(answer.status(), code);
            let at_head = at_head.map(|status| status.parse::<http::HeaderValue>().unwrap());
            assert_eq!(answer.headers().get("grpc-status"), at_head.as_ref());
            while let Some(message) = next(answer.body_mut()).await {
                message.unwrap();
            }
        });
        gate.until_quiet();
        let counts = gate.counts(Blue);
        let totals = counts.totals;
        assert_eq!((totals.requests, totals.failures, totals.late_failures), (1, failures, 0));
        assert_eq!(counts.requests[&(MethodLabel::Post, CodeLabel::of(code))], 1);
    }
    const GRPC: &str = "application/grpc";
    check(GRPC, (200, None), Some("0"), 0);
    check(GRPC, (200, None), Some("14"), 1);
    check(GRPC, (200, None), Some("nonsense"), 1);
    check(GRPC, (200, None), None, 1);
    check(GRPC, (200, Some("5")), None, 1);
    check(GRPC, (200, Some("0")), None, 0);
    check(GRPC, (503, None), None, 1);
    check(GRPC, (404, None), None, 0);
    check("application/json", (200, None), Some("14"), 0);
    check("application/grpc-web", (200, None), None, 0);
}

#[test]
fn refusals_are_in_grpc_form_and_counted_as_what_http_calls_them() {
    #[track_caller]
    fn check(gate: &Gate, path: &str, length: &str, status: &str, code: u16) {
        story(async {
            let mut caller = caller(gate).await;
            let request = Request::post(format!("http://shop{path}"))
                .header("content-type", "application/grpc")
                .header("content-length", length);
            let (answer, mut upload) = caller.send_request(request.body(()).unwrap(), false).unwrap();
            let _ = upload.send_data(vec![0; length.parse().unwrap()].into(), true);
            let answer = answer.await.unwrap();
            let fields = answer.headers();
            assert_eq!(
                (answer.status().as_u16(), &fields["content-type"]),
                (200, &"application/grpc".parse().unwrap())
            );
            assert_eq!(fields["grpc-status"], status);
            assert!(!fields["grpc-message"].is_empty() && fields.contains_key("x-request-id"));
            assert!(answer.body().is_end_stream());
        });
        gate.until_quiet();
        let label = CodeLabel::of(code);
        let unrouted = gate.tallies.process().unrouted.get(&label).copied();
        let routed = gate.counts(Blue).requests.get(&(MethodLabel::Post, label)).copied();
        assert_eq!(unrouted.or(routed), Some(1), "{code}");
    }
    let blue = answer("blue");
    let silent = callee(|_, mut respond: SendResponse<Bytes>| async move {
        let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
    });
    let nobody = gate(&blue, &blue).endpoints(Blue, &[]).start();
    check(&nobody, "/", "0", "14", 503);
    check(&before("127.0.0.1:1".parse().unwrap()), "/", "0", "14", 502);
    let resetting = callee(|_, mut respond: SendResponse<Bytes>| async move {
        respond.send_reset(Reason::INTERNAL_ERROR);
    });
    check(&before(resetting), "/", "1", "14", 502);
    let late =
        gate(&blue, &blue).with(|gate| gate.settings.timeouts.first_byte = Duration::from_millis(50)).start();
    lead_to(&late, &format!("http://{silent}"), &Reach { protocol: Protocol::Http2, ..Reach::default() });
    check(&late, "/", "0", "4", 504);
    let small = gate(&blue, &blue).with(|gate| gate.settings.limits.body_bytes_max = Some(3)).start();
    check(&small, "/", "4", "8", 413);
    check(&before(silent), "/a%2fb", "0", "13", 400);
}

#[test]
fn clients_and_endpoints_need_not_speak_the_same_http() {
    let gate = before(callee(echo));
    let mut session = Session::open(gate.address());
    let got = session.ask(
        "POST /both HTTP/1.1\r\nhost: shop\r\nte: trailers\r\ncontent-type: application/grpc\r\n\
         transfer-encoding: chunked\r\n\r\n\
         3\r\none\r\n0\r\nx-last: said\r\n\r\n",
    );
    assert_eq!((got.status, got.text(), got.is_complete), (200, "one", true));
    assert_eq!(got.trailers, ["grpc-status"]);

    let blue = origin(|request, stream| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: grpc-status\r\n\r\n";
        let length = body.len();
        write!(stream, "{head}{length:x}\r\n{body}\r\n0\r\ngrpc-status: 14\r\n\r\n").is_ok()
    });
    let gate = super::gate(&blue, &blue).start();
    story(async {
        let mut caller = caller(&gate).await;
        let (answer, mut upload) = call(&mut caller, "/", false);
        upload.send_data("one".into(), false).unwrap();
        upload.send_trailers(fields(&[("x-last", "said")])).unwrap();
        let mut answer = answer.await.unwrap();
        assert_eq!(next(answer.body_mut()).await.unwrap().unwrap(), "one");
        assert!(next(answer.body_mut()).await.is_none());
        assert_eq!(answer.body_mut().trailers().await.unwrap().unwrap()["grpc-status"], "14");
    });
    gate.until_quiet();
    assert_eq!((blue.last().one("te"), blue.last().trailers), ("trailers", vec!["x-last".to_owned()]));
    assert_eq!(gate.counts(Blue).totals.failures, 1);
}

#[test]
fn an_upload_that_expects_a_100_goes_through_by_http2_too() {
    let http1 = origin(|request, stream| {
        let length = request.body.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{length}").is_ok()
    });
    for gate in [before(callee(echo)), gate(&http1, &http1).start()] {
        story(async {
            let mut caller = caller(&gate).await;
            let request = Request::post("http://shop/up").header("expect", "100-continue");
            let (answer, mut upload) = caller.send_request(request.body(()).unwrap(), false).unwrap();
            upload.send_data("body".into(), true).unwrap();
            let mut answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            assert!(next(answer.body_mut()).await.unwrap().is_ok());
        });
    }
}

#[test]
fn a_kill_ends_open_calls_at_the_endpoint_too() {
    let (tell, told) = mpsc::channel();
    let address = callee(move |request, mut respond: SendResponse<Bytes>| {
        let tell = tell.clone();
        async move {
            // As long as the request is held, nothing but the other side's reset ends it.
            let _request = request;
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            sending.send_data("one".into(), false).unwrap();
            tell.send(poll_fn(|cx| sending.poll_reset(cx)).await.is_ok()).unwrap();
        }
    });
    let blue = answer("blue");
    let gate =
        gate(&blue, &blue).weight("100%").with(|gate| gate.live.grace.0 = Duration::from_millis(50)).start();
    gate.publish(|service| {
        let reach = Reach { protocol: Protocol::Http2, ..Reach::default() };
        let endpoint = Arc::new(endpoint(900, format!("http://{address}").parse().unwrap(), &reach));
        service.groups[Green] = Group::new(None, vec![Member::new(endpoint, Health::Healthy)]);
    });
    story(async {
        let mut caller = caller(&gate).await;
        let (answer, _upload) = call(&mut caller, "/", false);
        let mut answer = answer.await.unwrap();
        assert_eq!(next(answer.body_mut()).await.unwrap().unwrap(), "one");
        gate.kill();
        assert!(next(answer.body_mut()).await.unwrap().unwrap_err().is_reset());
    });
    assert!(told.recv_timeout(Duration::from_secs(20)).unwrap());
    gate.until_quiet();
    let counts = gate.counts(Green);
    assert_eq!((counts.totals.requests, counts.totals.failures, counts.cut), (1, 0, 1));
}

#[test]
fn by_tls_an_endpoint_has_to_agree_to_http2() {
    let ours = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    for (protocol, status) in [(&b"h2"[..], "0"), (b"http/1.1", "14")] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider);
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(ours.signing_key.serialize_der()).unwrap();
        let mut server = server.with_single_cert(vec![ours.cert.der().clone()], key).unwrap();
        server.alpn_protocols = vec![protocol.to_vec()];
        let address = callee_over(Some(server), echo);

        let options = TlsOptions { ca: Some(ours.cert.pem().into_bytes()), ..TlsOptions::default() };
        let tls = Some(Arc::new(EndpointTls::new(&options).unwrap()));
        let blue = answer("blue");
        let gate = gate(&blue, &blue).start();
        lead_to(&gate, &format!("https://{address}"), &Reach { tls, protocol: Protocol::Http2 });
        story(async {
            let mut caller = caller(&gate).await;
            let mut answer = call(&mut caller, "/", true).0.await.unwrap();
            assert!(next(answer.body_mut()).await.is_none());
            let told = match answer.headers().get("grpc-status") {
                Some(status) => status.clone(),
                None => answer.body_mut().trailers().await.unwrap().unwrap()["grpc-status"].clone(),
            };
            assert_eq!(told, status);
        });
    }
}
