//! HTTP/2 toward endpoints (RFC 9113): one connection carries many requests.
//!
//! The frames are hyper's. What stands here is what a proxy must know beside them: how many streams the endpoint
//! allows, what it never looked at, and so may be sent again, and that a request which is dropped is cancelled.
//! A connection counts as made when the endpoint has sent its settings: what speaks no HTTP/2 is found out before a
//! request is lost on it.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{EXPECT, HOST};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::http1::{Malformed, SendError, SendErrorKind};
use super::stream::Stream as Socket;
use super::transport::{self, ConnectError};
use super::{Endpoint, Slot};
use crate::clock;

/// A response head, and trailers, may be this large.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// What hyper is told before the endpoint says how many streams it allows; no endpoint says just this.
const UNSETTLED: usize = 0x7fff_5e77;
/// Streams at once where the endpoint sets no bound.
const STREAMS_MAX: usize = 1024;
/// How long a connection may be silent before it is asked for a sign of life, and how long that may take.
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(10);
/// How much an endpoint may send ahead on a stream, and on all of a connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// What a request's body must be to travel by HTTP/2.
pub trait Upload: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + 'static {}

impl<B> Upload for B
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
}

type Driver<B> = http2::Connection<TokioIo<Tapped>, Lent<B>, OnThisThread>;

/// A connection that its requests share. Stays on its thread.
pub(super) struct Shared<B: Upload> {
    requests: SendRequest<Lent<B>>,
    driver: Rc<RefCell<Driver<B>>>,
    has_ended: Rc<Cell<bool>>,
    is_tls: bool,
    open: Cell<usize>,
    used: Cell<Instant>,
}

/// The right to one stream of a connection, until it is dropped.
pub(super) struct Stream<B: Upload>(Rc<Shared<B>>);

impl<B: Upload> Drop for Stream<B> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        self.0.used.set(clock::now());
    }
}

impl<B: Upload> Shared<B> {
    /// Goes the way to the endpoint and waits for its settings, all of it within `limit`. Runs inside a `LocalSet`.
    pub(super) async fn connect(
        endpoint: &Endpoint,
        limit: Duration,
        slot: Slot,
    ) -> Result<Rc<Self>, ConnectError> {
        let url = || endpoint.url().clone();
        let failed = |source| ConnectError::Handshake { url: url(), source };
        let connecting = async {
            let stream = transport::open(endpoint.way(), limit).await?;
            let heard = Rc::<Notify>::default();
            let io = TokioIo::new(Tapped { stream, heard: heard.clone(), _slot: slot });
            let (requests, driver) = http2::Builder::new(OnThisThread)
                .timer(TokioTimer::new())
                .initial_max_send_streams(UNSETTLED)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_header_list_size(HEAD_BYTES_MAX)
                .keep_alive_interval(PING_AFTER)
                .keep_alive_timeout(PING_PATIENCE)
                .keep_alive_while_idle(true)
                .handshake(io)
                .await
                .map_err(|error| failed(io::Error::other(error)))?;
            let driver = Rc::new(RefCell::new(driver));
            let driven = driver.clone();
            let has_ended = Rc::<Cell<bool>>::default();
            let (ended, ending) = (heard.clone(), has_ended.clone());
            tokio::task::spawn_local(async move {
                // Its end is seen through `requests` and the responses.
                let _ = poll_fn(|cx| Pin::new(&mut *driven.borrow_mut()).poll(cx)).await;
                ending.set(true);
                ended.notify_one();
            });
            let shared = Self {
                requests,
                driver,
                has_ended,
                is_tls: endpoint.url().is_tls(),
                open: Cell::new(0),
                used: Cell::new(clock::now()),
            };
            while !shared.is_settled() {
                if shared.is_closed() {
                    let why = "it does not speak HTTP/2";
                    return Err(failed(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
                heard.notified().await;
                // What was read is looked at by the connection's own task.
                tokio::task::yield_now().await;
            }
            Ok(Rc::new(shared))
        };
        let timed_out = |_| ConnectError::TimedOut { url: url(), limit };
        tokio::time::timeout(limit, connecting).await.map_err(timed_out)?
    }

    fn is_settled(&self) -> bool {
        self.driver.borrow().current_max_send_streams() != UNSETTLED
    }

    pub(super) fn is_closed(&self) -> bool {
        self.has_ended.get() || self.requests.is_closed()
    }

    /// Since when nothing is under way on it.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.open.get() == 0).then(|| self.used.get())
    }

    /// How many streams are open.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// Whether the endpoint allows one more stream.
    pub(super) fn has_room(&self) -> bool {
        let allowed = self.driver.borrow().current_max_send_streams().min(STREAMS_MAX);
        !self.is_closed() && self.open.get() < allowed
    }

    /// One more stream. Beyond what the endpoint allows it waits for another one's end.
    pub(super) fn stream(self: &Rc<Self>) -> Stream<B> {
        self.open.set(self.open.get() + 1);
        Stream(self.clone())
    }
}

impl<B: Upload> Stream<B> {
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends a request and waits for the response head. When the future is dropped the endpoint is told that
    /// nobody waits any more (RST_STREAM with CANCEL).
    pub(super) async fn send(
        &self,
        head: &Parts,
        body: B,
    ) -> Result<(Response<Incoming>, Instant), SendError<B>> {
        let loan = Rc::new(RefCell::new(Loan { body: Some(body), is_touched: false, has_failed: false }));
        let mut sent = Request::from_parts(head.clone(), Lent(loan.clone()));
        address(&mut sent, self.0.is_tls);
        let written = clock::now();
        let mut error = match self.0.requests.clone().try_send_request(sent).await {
            Ok(response) => return Ok((response, written)),
            Err(error) => error,
        };
        let was_never_sent = error.take_message().is_some();
        let error = error.into_error();
        let mut loan = loan.borrow_mut();
        let (kind, was_ignored) = match reason(&error) {
            _ if loan.has_failed => (SendErrorKind::RequestBody, false),
            Some(h2) if h2.reason() == Some(h2::Reason::REFUSED_STREAM) && h2.is_remote() => {
                (SendErrorKind::Refused, true)
            }
            // What it went away from is what it has not begun with (RFC 9113 §6.8).
            Some(h2) if h2.is_go_away() && h2.is_remote() => (SendErrorKind::Reset, true),
            // It is we who say so: what came is out of order, and would be again.
            Some(h2) if h2.is_library() => (SendErrorKind::Protocol(Malformed::Http2), false),
            Some(_) | None => (SendErrorKind::Reset, false),
        };
        let is_unsent = was_never_sent || was_ignored;
        let body = if is_unsent && !loan.is_touched { loan.body.take() } else { None };
        Err(SendError { kind, is_unsent, body })
    }
}

fn reason(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return Some(h2);
        }
        cause = error.source();
    }
    None
}

/// `Host` becomes `:authority`, and the target gets a scheme (RFC 9113 §8.3.1).
fn address<B>(request: &mut Request<B>, is_tls: bool) {
    let host = request.headers().get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let path = request.uri().path_and_query().cloned();
    let target = Uri::builder()
        .scheme(if is_tls { Scheme::HTTPS } else { Scheme::HTTP })
        .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    if let Some(Ok(target)) = host.map(|host| target.authority(host).build()) {
        *request.uri_mut() = target;
        request.headers_mut().remove(HOST);
    }
    *request.version_mut() = Version::HTTP_2;
    // The body is not held back for it.
    request.headers_mut().remove(EXPECT);
}

struct Loan<B> {
    body: Option<B>,
    is_touched: bool,
    has_failed: bool,
}

/// A body that can be taken back as long as nothing was taken of it.
struct Lent<B>(Rc<RefCell<Loan<B>>>);

impl<B: Upload> Body for Lent<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut loan = self.0.borrow_mut();
        let loan = &mut *loan;
        let Some(body) = &mut loan.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        loan.is_touched |= matches!(polled, Poll::Ready(Some(_)));
        loan.has_failed |= matches!(polled, Poll::Ready(Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.borrow().body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

/// Runs what a connection consists of beside the tasks of its thread.
#[derive(Clone, Copy, Debug)]
struct OnThisThread;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A socket that tells when something came.
struct Tapped {
    stream: Socket,
    heard: Rc<Notify>,
    /// Last, so that it is free when the socket is closed.
    _slot: Slot,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.heard.notify_one();
        }
        polled
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http::HeaderMap;
    use http_body_util::{BodyExt, Full, StreamBody};
    use hyper::service::service_fn;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;
    use tokio::task::LocalSet;

    use super::*;
    use crate::upstream::{Connection, EndpointPool, Names, Pools, Protocol, Reach, Sent, Way};

    const LIMIT: Duration = Duration::from_secs(20);

    type Frames = StreamBody<Channel>;

    /// Frames that a test sends one by one.
    #[derive(Debug)]
    struct Channel(mpsc::UnboundedReceiver<Frame<Bytes>>);

    impl futures_util::Stream for Channel {
        type Item = Result<Frame<Bytes>, Infallible>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.poll_recv(cx).map(|frame| frame.map(Ok))
        }
    }

    fn frames() -> (mpsc::UnboundedSender<Frame<Bytes>>, Frames) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, StreamBody::new(Channel(receiver)))
    }

    /// A story on one thread, as the data plane has it.
    fn story(story: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(LocalSet::new().run_until(story));
    }

    async fn listen() -> (TcpListener, Rc<EndpointPool<Frames>>, Pools<Frames>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let reach = Reach { protocol: Protocol::Http2, ..Reach::default() };
        let endpoint = Arc::new(Endpoint::new(1, Way::new(url, &reach, &Names::default()), 1));
        let pools = Pools::new(99, Arc::default());
        (listener, pools.of(&endpoint), pools)
    }

    /// Answers on `stream` with each request's body, and with what the request was as trailers.
    fn echo(stream: TcpStream, streams_max: u32) {
        let service = service_fn(|request: Request<Incoming>| async move {
            let (head, body) = request.into_parts();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert("x-asked", head.uri.to_string().parse().unwrap());
            trailers.insert("x-te", head.headers.get("te").cloned().unwrap_or("none".parse().unwrap()));
            let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
            Ok::<_, Infallible>(Response::new(body))
        });
        let serving = hyper::server::conn::http2::Builder::new(OnThisThread)
            .max_concurrent_streams(streams_max)
            .serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(serving);
    }

    async fn send(connection: Connection<Frames>, body: Frames) -> Result<Sent<Frames>, SendError<Frames>> {
        let request = Request::post("/shop.Cart/Add").header("host", "shop.example").header("te", "trailers");
        connection.send(&request.body(()).unwrap().into_parts().0, body).await
    }

    #[test]
    fn both_sides_stream_at_once_and_trailers_come_last() {
        story(async {
            let (listener, pool, pools) = listen().await;
            tokio::task::spawn_local(async move { echo(listener.accept().await.unwrap().0, 9) });
            let connection = pool.connect(LIMIT, pools.slot().unwrap()).await.unwrap();
            let (upload, body) = frames();
            let mut response = send(connection, body).await.unwrap().response;
            for text in ["one", "two"] {
                upload.send(Frame::data(text.into())).unwrap();
                let frame = response.body_mut().frame().await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), text);
            }
            drop(upload);
            let trailers = response.body_mut().frame().await.unwrap().unwrap().into_trailers().unwrap();
            assert_eq!(trailers["grpc-status"], "0");
            assert_eq!(trailers["x-asked"], "http://shop.example/shop.Cart/Add");
            assert_eq!(trailers["x-te"], "trailers");
            assert!(response.body_mut().frame().await.is_none());
        });
    }

    #[test]
    fn a_connection_is_shared_until_its_streams_are_used_up() {
        story(async {
            let (listener, pool, pools) = listen().await;
            let accepted = Rc::new(Cell::new(0));
            let counted = accepted.clone();
            tokio::task::spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    counted.set(counted.get() + 1);
                    echo(stream, 2);
                }
            });
            let mut open = Vec::new();
            for expected in [1, 1, 2, 2, 3] {
                let connection = match pool.lease().idle_connection(clock::now()) {
                    Some(connection) => connection,
                    None => pool.connect(LIMIT, pools.slot().unwrap()).await.unwrap(),
                };
                let (upload, body) = frames();
                let sent = send(connection, body).await.unwrap();
                open.push((upload, sent));
                assert_eq!(accepted.get(), expected);
            }
            // What is over makes room.
            let (upload, sent) = open.swap_remove(0);
            drop(upload);
            sent.response.into_body().collect().await.unwrap();
            assert!(pool.lease().idle_connection(clock::now()).is_some());
        });
    }

    #[test]
    fn a_request_that_is_dropped_is_cancelled() {
        story(async {
            let (listener, pool, pools) = listen().await;
            let ended = Rc::<Notify>::default();
            let told = ended.clone();
            tokio::task::spawn_local(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(move |request: Request<Incoming>| {
                    let told = told.clone();
                    async move {
                        // Ends with the stream: no more of the body ever comes.
                        let broken = request.into_body().collect().await.is_err();
                        if broken {
                            told.notify_one();
                        }
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                    }
                });
                hyper::server::conn::http2::Builder::new(OnThisThread)
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
            let connection = pool.connect(LIMIT, pools.slot().unwrap()).await.unwrap();
            let (upload, body) = frames();
            upload.send(Frame::data("one".into())).unwrap();
            let sending = tokio::task::spawn_local(send(connection, body));
            tokio::task::yield_now().await;
            sending.abort();
            ended.notified().await;
            drop(upload);
        });
    }

    #[test]
    fn what_speaks_no_http2_is_no_connection() {
        story(async {
            let (listener, pool, pools) = listen().await;
            tokio::task::spawn_local(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answer = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await
            });
            let refused = pool.connect(LIMIT, pools.slot().unwrap()).await.unwrap_err();
            assert!(matches!(refused, ConnectError::Handshake { .. }), "{refused}");
        });
    }

    /// A frame (RFC 9113 §4.1) of a stream.
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn what_an_endpoint_never_looked_at_comes_back_whole() {
        #[track_caller]
        fn check(answer: Vec<u8>, kind: SendErrorKind, is_unsent: bool) {
            story(async {
                let (listener, pool, pools) = listen().await;
                tokio::task::spawn_local(async move {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let (mut stream, _) = listener.accept().await.unwrap();
                    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
                    let mut seen = Vec::new();
                    // Up to the first HEADERS frame.
                    while !seen.windows(9).any(|head| head[3] == 1 && head[5..] == [0, 0, 0, 1]) {
                        stream.read_buf(&mut seen).await.unwrap();
                    }
                    stream.write_all(&answer).await.unwrap();
                    while stream.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {}
                });
                let connection = pool.connect(LIMIT, pools.slot().unwrap()).await.unwrap();
                let (upload, body) = frames();
                let error = send(connection, body).await.unwrap_err();
                assert_eq!((error.kind, error.is_unsent), (kind, is_unsent));
                assert_eq!(error.body.is_some(), is_unsent);
                drop(upload);
            });
        }
        let reset = |code: u32| frame(3, 0, 1, &code.to_be_bytes());
        check(reset(7), SendErrorKind::Refused, true);
        check(reset(2), SendErrorKind::Reset, false);
        check(frame(7, 0, 0, &[0; 8]), SendErrorKind::Reset, true);
        let nonsense = frame(1, 0x5, 1, &[0x80]);
        check(nonsense, SendErrorKind::Protocol(Malformed::Http2), false);
    }
}
