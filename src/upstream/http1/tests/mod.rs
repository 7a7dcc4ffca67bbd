//! Requests over real sockets to endpoints that do exactly what a test says, byte for byte.

mod differential;
mod endpoint;
mod requests;
mod responses;
mod upgrades;

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::{BodyError, Connection, ResponseBody, SendError, Sent};
use crate::upstream::{Endpoint, EndpointUrl, Names, Pools, Reach, Way};

/// A request body that a test writes.
#[derive(Debug, Default)]
struct Script {
    steps: VecDeque<Step>,
    length: Option<u64>,
    /// Whether it was asked for.
    was_asked: Rc<Cell<bool>>,
}

#[derive(Debug)]
enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Fails,
    /// Nothing more ever comes.
    Stalls,
}

impl Script {
    fn of(steps: impl IntoIterator<Item = Step>, length: Option<u64>) -> Self {
        Self { steps: steps.into_iter().collect(), length, ..Self::default() }
    }

    fn text(text: &'static str) -> Self {
        Self::of([Step::Data(text.into())], Some(text.len() as u64))
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = ();

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        self.was_asked.set(true);
        match self.steps.pop_front() {
            None => Poll::Ready(None),
            Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Step::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Some(Step::Fails) => Poll::Ready(Some(Err(()))),
            Some(Step::Stalls) => {
                self.steps.push_front(Step::Stalls);
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.length.is_none_or(|length| length == 0)
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length),
            None if self.steps.is_empty() => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}

/// Runs a test's client side, which is done within half a minute.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), test).await.expect("in time") })
}

async fn connect(url: &EndpointUrl) -> Connection<Script> {
    let slot = Pools::<http_body_util::Empty<Bytes>>::new(1, Default::default()).slot().unwrap();
    let way = Way::new(url.clone(), &Reach::default(), &Names::default());
    Connection::connect(&Endpoint::new(0, way, 1), Duration::from_secs(20), slot).await.unwrap()
}

fn request(method: &str, body: Script) -> Request<Script> {
    Request::builder().method(method).uri("/").header("host", "shop").body(body).unwrap()
}

fn get() -> Request<Script> {
    request("GET", Script::default())
}

async fn send(url: &EndpointUrl, request: Request<Script>) -> Result<Sent<Script>, SendError<Script>> {
    let (head, body) = request.into_parts();
    connect(url).await.send(&head, body).await
}

/// Content and trailers, or why they are not whole.
async fn read(body: &mut ResponseBody<Script>) -> Result<(Vec<u8>, Option<HeaderMap>), BodyError> {
    let (mut content, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => content.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((content, trailers))
}

/// The whole content, and the connection, if it may go on.
async fn finish(response: Response<ResponseBody<Script>>) -> (Vec<u8>, Option<Connection<Script>>) {
    let mut body = response.into_body();
    let (content, _) = read(&mut body).await.unwrap();
    (content, body.release())
}

/// Waits until the endpoint has been heard.
async fn until_not_idle(connection: &mut Connection<Script>) {
    while connection.is_idle() {
        tokio::task::yield_now().await;
    }
}
