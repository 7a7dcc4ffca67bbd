//! A client's connection from its first byte to its last.
//!
//! What it begins with is a matter of its own (see [`super::opening`]); then hyper takes over. All deadlines toward the client share one timer that is set anew only when it fires,
//! or when an earlier deadline comes into view.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
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

use super::client::{Client, ClientSocket, Coming, Deadline, Task};
use super::exchange::Attention;
use super::guests::Seat;
use super::handler::handle;
use super::opening::{Opened, open, too_slow};
use super::tunnel::Landing;
use super::worker::Worker;
use crate::clock;
use crate::telemetry::Limit;

/// hyper's buffers per HTTP/1 connection; also how much of a response may wait for a slow client.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How much of each HTTP/2 stream's request body may wait for its endpoint, and of all of them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that the client reset before they were looked at, and that we reset for the client's errors:
/// more end the connection (CVE-2023-44487, CVE-2025-8671).
const PENDING_RESETS_MAX: usize = 20;
const ERROR_RESETS_MAX: usize = 128;

/// A connection as it was accepted.
pub(super) struct Accepted {
    /// By which of the addresses.
    pub(super) listener: usize,
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    pub(super) at: Instant,
    pub(super) seat: Seat,
}

/// Serves a connection to its end. It counts from now on, before it is first polled.
pub(super) fn serve(worker: Rc<Worker>, accepted: Accepted) -> impl Future<Output = ()> {
    let attention = Rc::<Attention>::default();
    let presence = Presence::of(&worker, &attention);
    async move {
        let _presence = presence;
        let Accepted { listener, stream, peer, at, seat } = accepted;
        let _seat = seat;
        let live = worker.live();
        let mut timer = Box::pin(sleep_until(at + live.timeouts.handshake));
        let opened = open(&worker, &live, listener, stream, peer, timer.as_mut()).await;
        let Some(Opened { wire, peer, is_http2, secured, seat }) = opened else { return };
        let _address_seat = seat;
        let coming = Coming { listener, peer, accepted: at, secured };
        let client = Rc::new(Client::new(worker, live, attention, coming));
        let socket = ClientSocket::new(wire, client.clone(), is_http2);
        if is_http2 {
            serve_http2(client, socket, timer.as_mut()).await;
        } else {
            serve_http1(client, socket, timer.as_mut()).await;
        }
    }
}

/// A client counts as connected until this is dropped, in whatever way its connection ends.
struct Presence {
    worker: Rc<Worker>,
    number: usize,
}

impl Presence {
    fn of(worker: &Rc<Worker>, attention: &Rc<Attention>) -> Self {
        let number = worker.clients.join(attention.clone());
        worker.tally.connection_opened();
        Self { worker: worker.clone(), number }
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

/// How serving ended.
enum End {
    Served(hyper::Result<()>),
    Missed(Deadline),
    /// Told to end without another word.
    Cut,
}

async fn serve_http1(client: Rc<Client>, socket: ClientSocket, mut timer: Pin<&mut Sleep>) {
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
    let landing = Rc::<Landing>::default();
    let mut socket = socket;
    loop {
        let handler = {
            let client = client.clone();
            let landing = landing.clone();
            service_fn(move |request| {
                handle(client.clone(), client.attention.clone(), Some(landing.clone()), request)
            })
        };
        let mut connection = builder.serve_connection(TokioIo::new(socket), handler);
        let end = drive(&client, false, timer.as_mut(), |cx, _| Pin::new(&mut connection).poll(cx)).await;
        let parts = match end {
            End::Served(Err(error)) => {
                return count_refusal(&client, &error, || connection.into_parts().read_buf.len());
            }
            End::Cut => return,
            End::Missed(deadline @ (Deadline::Idle | Deadline::Blocked)) => return client.missed(deadline),
            End::Served(Ok(())) | End::Missed(Deadline::Head | Deadline::Doze) => connection.into_parts(),
        };
        socket = parts.io.into_inner();
        if matches!(end, End::Served(_)) {
            // hyper leaves the socket open after every request that named another protocol.
            if let Some(tunnel) = landing.take() {
                tunnel.run(socket, parts.read_buf).await;
            } else if landing.was_asked() {
                socket.wire().say(b"");
            }
            return;
        }
        // What was read together with the request before has begun a head, too.
        if matches!(end, End::Missed(Deadline::Head)) || !parts.read_buf.is_empty() {
            client.missed(Deadline::Head);
            return too_slow(&client.worker, socket.wire());
        }
        // Empty, and with room for the next head all the same.
        drop(parts.read_buf);
        if !doze(&client, &mut socket, timer.as_mut()).await {
            return;
        }
    }
}

/// Waits for the next request without hyper, whose buffers are most of what an idle connection takes. `false`: there
/// is none.
async fn doze(client: &Client, socket: &mut ClientSocket, mut timer: Pin<&mut Sleep>) -> bool {
    timer.as_mut().reset(client.idle_until().into());
    poll_fn(|cx| {
        client.attention.listen(cx.waker());
        if client.attention.is_ended() || client.worker.parts_with_idle.get() {
            return Poll::Ready(false);
        }
        if socket.wire().stream().poll_read_ready(cx).is_ready() {
            return Poll::Ready(true);
        }
        timer.as_mut().poll(cx).map(|()| {
            client.missed(Deadline::Idle);
            false
        })
    })
    .await
}

/// hyper answers what it cannot parse by itself. It does not say what was too large about a head, but has read so much
/// of it.
fn count_refusal(client: &Client, error: &hyper::Error, bytes_read: impl FnOnce() -> usize) {
    if error.is_parse_too_large() {
        client.worker.tally.unrouted(431);
        let is_long = bytes_read() >= client.live.limits.head_bytes_max;
        client.worker.tally.limit_hit(if is_long { Limit::Head } else { Limit::Fields });
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
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .enable_connect_protocol();
    let handler = {
        let client = client.clone();
        service_fn(move |request| {
            let attention = Rc::<Attention>::default();
            *client.task.borrow_mut() = Some(Task::Stream(attention.clone()));
            handle(client.clone(), attention, None, request)
        })
    };
    let mut connection = builder.serve_connection(TokioIo::new(socket), handler);
    let end = drive(&client, true, timer, |cx, says_goodbye| {
        let mut connection = Pin::new(&mut connection);
        if says_goodbye {
            connection.as_mut().graceful_shutdown();
        }
        connection.poll(cx)
    })
    .await;
    if let End::Missed(deadline) = end {
        client.missed(deadline);
    }
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
        let leaves = client.worker.is_draining.get() || (is_http2 && client.is_worn());
        let says_goodbye = leaves && !has_said_goodbye;
        has_said_goodbye |= says_goodbye;
        if let Poll::Ready(result) = connection(cx, says_goodbye) {
            return Poll::Ready(End::Served(result));
        }
        if client.worker.parts_with_idle.get() && client.is_idle() {
            return Poll::Ready(End::Cut);
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
    fn execute(&self, task: F) {
        // hyper makes a stream's handler and hands the stream over in one go; a tunnel's sending half in one go with the
        // answer's head.
        let kind = self.0.task.take();
        // Before it becomes a part of another future: a stream's is kilobytes large, and would be moved there and back.
        let task = Box::pin(task);
        tokio::task::spawn_local(async move {
            match kind {
                Some(Task::Stream(attention)) => until_ended(&attention, task).await,
                Some(Task::Sending(carrier)) => {
                    until_ended(carrier.sending(), task).await;
                    carrier.over();
                }
                None => drop(task.await),
            }
        });
    }
}

/// Runs a task, and drops it when it is told to end.
async fn until_ended<F: Future>(attention: &Attention, mut task: Pin<Box<F>>) {
    poll_fn(|cx| {
        attention.listen(cx.waker());
        if attention.is_ended() {
            return Poll::Ready(());
        }
        task.as_mut().poll(cx).map(drop)
    })
    .await;
}
