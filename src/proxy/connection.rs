//! A client's connection from its first byte to its last.
//!
//! The first bytes say whether the client speaks HTTP/2 with prior knowledge (RFC 9113 §3.3) or HTTP/1; then
//! hyper takes over. All deadlines toward the client share one timer that is set anew only when it fires,
//! or when an earlier deadline comes into view.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::client::{Client, ClientSocket, Deadline};
use super::exchange::Attention;
use super::handler::handle;
use super::worker::Worker;
use crate::clock;

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Read at once while the protocol is not known: most requests fit.
const FIRST_BYTES: usize = 2048;
/// hyper's buffers per HTTP/1 connection; also how much of a response may wait for a slow client.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How much of each HTTP/2 stream's request body may wait for its endpoint, and of all of them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that the client reset before they were looked at, and that we reset for the client's errors:
/// more end the connection (CVE-2023-44487, CVE-2025-8671).
const PENDING_RESETS_MAX: usize = 20;
const ERROR_RESETS_MAX: usize = 128;

const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n\
    cache-control: no-store\r\ncontent-length: 36\r\nconnection: close\r\n\r\n\
    the request did not arrive in time.\n";

/// Serves a connection to its end. It counts from now on, before it is first polled.
pub(super) fn serve(client: Rc<Client>, stream: TcpStream, accepted: Instant) -> impl Future<Output = ()> {
    let presence = Presence::of(&client);
    async move {
        let _presence = presence;
        let mut timer = Box::pin(sleep_until(accepted + client.live.timeouts.handshake));
        if let Some((first, is_http2)) = first_bytes(&client, &stream, timer.as_mut()).await {
            let socket = ClientSocket::new(stream, first, client.clone());
            if is_http2 {
                serve_http2(client, socket, timer.as_mut()).await;
            } else {
                serve_http1(client, socket, timer.as_mut()).await;
            }
        }
    }
}

/// A client counts as connected until this is dropped, in whatever way its connection ends.
struct Presence {
    worker: Rc<Worker>,
    number: usize,
}

impl Presence {
    fn of(client: &Client) -> Self {
        let worker = client.worker.clone();
        let number = worker.clients.join(client.attention.clone());
        worker.tally.connection_opened();
        Self { worker, number }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.worker.tally.connection_closed();
        self.worker.clients.leave(self.number);
    }
}

fn sleep_until(at: Instant) -> Sleep {
    tokio::time::sleep_until(at.into())
}

/// Reads until it is known what the client speaks: the bytes, and whether it is HTTP/2.
async fn first_bytes(
    client: &Client,
    stream: &TcpStream,
    mut timer: Pin<&mut Sleep>,
) -> Option<(Vec<u8>, bool)> {
    let mut first = Vec::new();
    loop {
        tokio::select! {
            biased;
            ready = stream.readable() => ready.ok()?,
            () = timer.as_mut() => {
                if !first.is_empty() {
                    too_slow(client, stream);
                }
                return None;
            }
        }
        let mut chunk = [0; FIRST_BYTES];
        match stream.try_read(&mut chunk) {
            Ok(0) => return None,
            Ok(count) => first.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        }
        if first.starts_with(PREFACE) {
            return Some((first, true));
        }
        if !PREFACE.starts_with(&first) {
            return Some((first, false));
        }
    }
}

/// Tells a client, as far as its socket takes it, that it was too slow.
fn too_slow(client: &Client, stream: &TcpStream) {
    client.worker.tally.unrouted(408);
    // A client that does not read, either, gets nothing.
    drop(stream.try_write(SLOW_HEAD));
}

/// How serving ended.
enum End {
    Served(hyper::Result<()>),
    Missed(Deadline),
    /// Told to end without another word.
    Cut,
}

async fn serve_http1(client: Rc<Client>, socket: ClientSocket, timer: Pin<&mut Sleep>) {
    let limits = &client.live.limits;
    let mut builder = http1::Builder::new();
    builder
        .writev(false)
        .half_close(false)
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(BUFFER_BYTES_MAX.max(limits.head_bytes_max))
        .header_read_timeout(None);
    // hyper's own bound is 100, and free of an allocation.
    if limits.fields_max != 100 {
        builder.max_headers(limits.fields_max);
    }
    let handler = {
        let client = client.clone();
        service_fn(move |request| handle(client.clone(), client.attention.clone(), request))
    };
    let mut connection = builder.serve_connection(TokioIo::new(socket), handler);
    let end = drive(&client, false, timer, |cx, _| Pin::new(&mut connection).poll(cx)).await;
    match end {
        End::Served(Err(error)) => count_refusal(&client, &error),
        End::Missed(Deadline::Head) => {
            let socket = connection.into_parts().io.into_inner();
            too_slow(&client, socket.stream());
        }
        End::Served(Ok(())) | End::Missed(Deadline::Idle | Deadline::Blocked) | End::Cut => {}
    }
}

/// hyper answers what it cannot parse by itself.
fn count_refusal(client: &Client, error: &hyper::Error) {
    if error.is_parse_too_large() {
        client.worker.tally.unrouted(431);
    } else if error.is_parse() {
        client.worker.tally.unrouted(400);
    }
}

async fn serve_http2(client: Rc<Client>, socket: ClientSocket, timer: Pin<&mut Sleep>) {
    let limits = &client.live.limits;
    let mut builder = http2::Builder::new(Streams(client.clone()));
    builder
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(BUFFER_BYTES_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX);
    let handler = {
        let client = client.clone();
        service_fn(move |request| {
            let attention = Rc::<Attention>::default();
            *client.stream.borrow_mut() = Some(attention.clone());
            handle(client.clone(), attention, request)
        })
    };
    let mut connection = builder.serve_connection(TokioIo::new(socket), handler);
    drive(&client, true, timer, |cx, says_goodbye| {
        let mut connection = Pin::new(&mut connection);
        if says_goodbye {
            connection.as_mut().graceful_shutdown();
        }
        connection.poll(cx)
    })
    .await;
}

/// Polls a connection under its deadlines. `connection` is told once when the worker drains, and HTTP/2 also when
/// it has been idle: GOAWAY says which requests still count, a mere end does not (RFC 9113 §6.8).
async fn drive(
    client: &Client,
    is_http2: bool,
    mut timer: Pin<&mut Sleep>,
    mut connection: impl FnMut(&mut Context<'_>, bool) -> Poll<hyper::Result<()>>,
) -> End {
    let mut has_said_goodbye = false;
    poll_fn(|cx| {
        client.attention.listen(cx.waker());
        if client.attention.is_ended() {
            return Poll::Ready(End::Cut);
        }
        let says_goodbye = client.worker.is_draining.get() && !has_said_goodbye;
        has_said_goodbye |= says_goodbye;
        if let Poll::Ready(result) = connection(cx, says_goodbye) {
            return Poll::Ready(End::Served(result));
        }
        if let Some((at, _)) = client.deadline()
            && at < timer.deadline().into_std()
        {
            timer.as_mut().reset(at.into());
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = clock::now();
            match client.deadline() {
                Some((at, Deadline::Idle)) if at <= now && is_http2 && !has_said_goodbye => {
                    has_said_goodbye = true;
                    client.leaves(now);
                    if let Poll::Ready(result) = connection(cx, true) {
                        return Poll::Ready(End::Served(result));
                    }
                }
                Some((at, deadline)) if at <= now => return Poll::Ready(End::Missed(deadline)),
                Some((at, _)) => timer.as_mut().reset(at.into()),
                // Nobody waits for the client: any later deadline is further away than this.
                None => timer.as_mut().reset((now + client.live.timeouts.keep_alive_idle).into()),
            }
        }
        Poll::Pending
    })
    .await
}

/// Runs HTTP/2 streams on their connection's thread, and ends those that are told to.
#[derive(Clone)]
struct Streams(Rc<Client>);

impl<F> Executor<F> for Streams
where
    F: Future + 'static,
{
    fn execute(&self, stream: F) {
        // hyper makes a stream's handler and hands the stream over in one go.
        let attention = self.0.stream.take();
        tokio::task::spawn_local(async move {
            let mut stream = Box::pin(stream);
            poll_fn(|cx| {
                if let Some(attention) = &attention {
                    attention.listen(cx.waker());
                    if attention.is_ended() {
                        return Poll::Ready(());
                    }
                }
                stream.as_mut().poll(cx).map(drop)
            })
            .await;
        });
    }
}
