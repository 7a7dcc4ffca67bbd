//! Dark traffic: a copy of a request for the candidate, while stable answers it.
//!
//! The visitor must never notice. A copy is a task of its own, one of a bounded number; for what does not fit there is no
//! queue: it is dropped and counted. It takes connections only while there are plenty, is never charged to an endpoint,
//! and ends at its deadline or when mirroring does. A body is not read for it: it gets the pieces that pass anyway, if
//! they are few.
//!
//! The host is left as the visitor wrote it, because an app behind another name is another app; copies bear
//! `x-tidegate-mirror: 1` instead.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::body::RequestBody;
use super::forward::name_host;
use super::forwarded::Origin;
use super::headers::{X_TIDEGATE_MIRROR, X_TIDEGATE_VARIANT};
use super::pair::{Copy, Original, Terms, pair};
use super::registry::Registry;
use super::replay::PIECES_MAX;
use super::retry::is_repeatable;
use super::visitor::{Decision, Means, recognised_bucket};
use super::worker::{ServiceView, Worker};
use crate::clock;
use crate::routing::RetryMethods;
use crate::telemetry::MirrorDrop;
use crate::traffic::{Bucket, Reason, Variant, Weight, is_mirrored};
use crate::upstream::{Lease, ResponseBody, SendError, SendErrorKind, Sent};

/// So much of an answer is read; the connection of a longer one is closed.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What is read at once of a large body is hardly ever less.
const PIECE_BYTES_USUAL: usize = 1024;

/// The copies under way on one thread.
#[derive(Debug)]
pub(super) struct Mirrors {
    open: Registry<UnderWay>,
    /// How many, by the service's slot.
    in_flight: RefCell<Vec<u32>>,
}

#[derive(Clone, Debug)]
struct UnderWay {
    slot: u32,
    task: AbortHandle,
}

impl Mirrors {
    pub(super) fn new() -> Self {
        Self { open: Registry::new(), in_flight: RefCell::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.len() == 0
    }

    /// Ends the copies of services that are not mirrored any more.
    pub(super) fn keep(&self, is_mirrored: impl Fn(u32) -> bool) {
        self.open.each(|under_way| {
            if !is_mirrored(under_way.slot) {
                under_way.task.abort();
            }
        });
    }

    fn in_flight(&self, slot: u32) -> u32 {
        self.in_flight.borrow().get(slot as usize).copied().unwrap_or(0)
    }

    fn began(&self, slot: u32) {
        let (mut in_flight, index) = (self.in_flight.borrow_mut(), slot as usize);
        if in_flight.len() <= index {
            in_flight.resize(index + 1, 0);
        }
        in_flight[index] += 1;
    }

    fn ended(&self, slot: u32) {
        if let Some(count) = self.in_flight.borrow_mut().get_mut(slot as usize) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Whether a request is to be copied, as it came from the client. Asked only while its service is mirrored.
pub(super) fn is_chosen(
    worker: &Worker,
    view: &ServiceView,
    decision: &Decision,
    origin: Origin,
    head: &Parts,
) -> bool {
    let service = &view.service;
    let (split, share) = (&service.split, service.mirror);
    let assigned = decision.assignment;
    if assigned.variant != split.stable()
        || matches!(assigned.reason, Reason::Override | Reason::Killed)
        || !service.settings.mirror.methods.allow(&head.method)
    {
        return false;
    }
    let mut random = worker.random.borrow_mut();
    let bucket = match decision.id {
        _ if share == Weight::FULL => None,
        Some(id) => Some(id.bucket(&split.salt)),
        None => {
            let keys = worker.keys.borrow();
            let means = Means { keys: &keys, random: &mut random, now: worker.wall() };
            recognised_bucket(service, &view.names, head, origin, &means)
        }
    };
    let draw = || Bucket::from_index(random.u32(0..Bucket::COUNT)).unwrap_or_else(|| Bucket::of(b"", b""));
    is_mirrored(split.weight, share, bucket, draw)
}

/// What a request that is copied takes along.
pub(super) struct Copying {
    /// Learns what the visitor gets.
    pub(super) original: Original,
    /// Gets the pieces of the body, if there is one.
    pub(super) upload: Option<BodyCopy>,
}

/// Begins to copy a request that is ready for its endpoint. `None`: it is dropped.
pub(super) fn begin(
    worker: &Rc<Worker>,
    view: &Rc<ServiceView>,
    head: &Parts,
    has_body: bool,
) -> Option<Copying> {
    let service = &view.service;
    let (settings, candidate, slot) = (&service.settings.mirror, service.split.candidate, service.slot);
    let dropped = |why| {
        view.tally.mirror_dropped(candidate, why);
        None
    };
    if worker.mirrors.in_flight(slot) >= worker.share_of_thread(settings.in_flight_max) {
        return dropped(MirrorDrop::InFlight);
    }
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| has_body && length > settings.body_bytes_max) {
        return dropped(MirrorDrop::Body);
    }
    let (original, copy) = pair(Terms {
        tally: view.tally.clone(),
        variant: candidate,
        compares_latency: settings.compares_latency,
        compares_body: settings.compares_body,
        timeout: settings.timeout,
    });
    let (upload, pieces) = if has_body {
        let (done, pieces) = oneshot::channel();
        let upload = BodyCopy::new(settings.body_bytes_max, done);
        (Some(upload), Some(pieces))
    } else {
        (None, None)
    };
    let errand = Errand { worker: worker.clone(), slot, candidate };
    let (head, timeout) = (copied(head, view), settings.timeout);
    worker.mirrors.began(slot);
    let place = Place { worker: worker.clone(), slot, number: Rc::default() };
    let number = place.number.clone();
    let task = tokio::task::spawn_local(async move {
        let _place = place;
        errand.run(copy, head, pieces, timeout).await;
    });
    let under_way = UnderWay { slot, task: task.abort_handle() };
    *number.borrow_mut() = Some(worker.mirrors.open.join(under_way));
    Some(Copying { original, upload })
}

/// The head as the candidate gets it.
fn copied(head: &Parts, view: &ServiceView) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    let headers = request.headers_mut();
    // Whether the body is wanted was asked already, by the original.
    headers.remove(EXPECT);
    headers.insert(X_TIDEGATE_MIRROR, HeaderValue::from_static("1"));
    if headers.contains_key(X_TIDEGATE_VARIANT) {
        let candidate = view.service.split.candidate;
        headers.insert(X_TIDEGATE_VARIANT, HeaderValue::from_static(candidate.as_str()));
    }
    request
}

/// A copy counts as under way until this is dropped.
struct Place {
    worker: Rc<Worker>,
    slot: u32,
    number: Rc<RefCell<Option<usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.mirrors.ended(self.slot);
        if let Some(number) = self.number.borrow_mut().take() {
            self.worker.mirrors.open.leave(number);
        }
    }
}

/// Gathers a body that passes, up to a bound.
#[derive(Debug)]
pub(super) struct BodyCopy {
    pieces: Vec<Bytes>,
    left: usize,
    /// However small they are: each costs something beside its bytes.
    pieces_max: usize,
    done: Option<oneshot::Sender<Vec<Bytes>>>,
}

impl BodyCopy {
    fn new(bytes_max: usize, done: oneshot::Sender<Vec<Bytes>>) -> Self {
        let pieces_max = PIECES_MAX.max(bytes_max / PIECE_BYTES_USUAL);
        Self { pieces: Vec::new(), left: bytes_max, pieces_max, done: Some(done) }
    }

    /// A piece passes; shared, not copied.
    pub(super) fn piece(&mut self, piece: &Bytes) {
        match self.left.checked_sub(piece.len()) {
            Some(left) if self.done.is_some() && self.pieces.len() < self.pieces_max => {
                self.left = left;
                self.pieces.push(piece.clone());
            }
            // Whoever waits for it learns that it does not come.
            _ => {
                self.done = None;
                self.pieces = Vec::new();
            }
        }
    }

    /// That was all.
    pub(super) fn ended(&mut self) {
        if let Some(done) = self.done.take() {
            // The copy may have been cut.
            let _ = done.send(std::mem::take(&mut self.pieces));
        }
    }
}

/// A copy on its way.
struct Errand {
    worker: Rc<Worker>,
    slot: u32,
    candidate: Variant,
}

/// Why there is no answer.
enum Missing {
    Dropped(MirrorDrop),
    Failed,
}

impl Errand {
    async fn run(
        self,
        mut copy: Copy,
        head: Request<()>,
        pieces: Option<oneshot::Receiver<Vec<Bytes>>>,
        timeout: Duration,
    ) {
        let body = match pieces {
            None => RequestBody::Empty,
            // How long a visitor takes to send it says nothing about who answers it.
            Some(pieces) => match tokio::time::timeout(timeout, pieces).await {
                Ok(Ok(pieces)) => RequestBody::copied(pieces),
                Ok(Err(_)) | Err(_) => return copy.dropped(MirrorDrop::Body),
            },
        };
        let fetched = tokio::time::timeout(timeout, self.fetch(&mut copy, head, body)).await;
        match fetched {
            Ok(Ok(())) => copy.ended(),
            Ok(Err(Missing::Dropped(why))) => copy.dropped(why),
            Ok(Err(Missing::Failed)) => copy.failed(),
            Err(_) => copy.late(),
        }
    }

    async fn fetch(&self, copy: &mut Copy, head: Request<()>, body: RequestBody) -> Result<(), Missing> {
        let (sent, lease) = self.send(head.into_parts().0, body).await?;
        let latency = clock::now().saturating_duration_since(sent.written);
        copy.answered(sent.response.status().as_u16(), latency);
        read(copy, sent.response.into_body(), lease).await;
        Ok(())
    }

    /// Sends it, once more if it met a connection that had been closed.
    async fn send(
        &self,
        mut head: Parts,
        mut body: RequestBody,
    ) -> Result<(Sent<RequestBody>, Lease<RequestBody>), Missing> {
        let may_repeat =
            matches!(body, RequestBody::Empty) && is_repeatable(&head.method, RetryMethods::Idempotent);
        let is_nameless = !head.headers.contains_key(HOST);
        let mut on_fresh = false;
        loop {
            let view = self.look_again()?;
            let most = view.places.map(|places| places.in_flight_max);
            let Some(pool) = view.choose(&self.worker, self.candidate, |pool| !pool.is_full(most)) else {
                let is_full = !view.pools[self.candidate].is_empty();
                let why = if is_full { MirrorDrop::NoConnection } else { MirrorDrop::NoEndpoint };
                return Err(Missing::Dropped(why));
            };
            if is_nameless {
                name_host(&mut head.headers, pool.endpoint().url());
            }
            let lease = pool.lease();
            let idle = if on_fresh { None } else { lease.idle_connection(clock::now()) };
            let is_reused = idle.is_some();
            let connection = match idle {
                Some(connection) => connection,
                None => {
                    let no_connection = Missing::Dropped(MirrorDrop::NoConnection);
                    let slot = self.worker.spare_slot().ok_or(no_connection)?;
                    let limit = view.service.settings.timeouts.connect;
                    pool.connect(limit, slot).await.map_err(|error| match error.is_local() {
                        true => Missing::Dropped(MirrorDrop::NoConnection),
                        false => Missing::Failed,
                    })?
                }
            };
            let back = match connection.send(&head, body).await {
                Ok(sent) => return Ok((sent, lease)),
                Err(_) if !is_reused => return Err(Missing::Failed),
                Err(SendError { is_unsent: true, body, .. }) => body,
                Err(SendError {
                    kind: SendErrorKind::Reset | SendErrorKind::Refused, body: back, ..
                }) => {
                    if !may_repeat {
                        return Err(Missing::Dropped(MirrorDrop::Stale));
                    }
                    back.or(Some(RequestBody::Empty))
                }
                Err(_) => return Err(Missing::Failed),
            };
            body = back.ok_or(Missing::Failed)?;
            on_fresh = true;
        }
    }

    /// The newest view, if it still says that there is a copy to be made.
    fn look_again(&self) -> Result<Rc<ServiceView>, Missing> {
        let view = self.worker.view_of(self.slot);
        view.filter(|view| {
            view.service.mirror > Weight::ZERO && view.service.split.candidate == self.candidate
        })
        .ok_or(Missing::Dropped(MirrorDrop::Cut))
    }
}

/// Reads an answer that nobody gets.
async fn read(copy: &mut Copy, mut body: ResponseBody<RequestBody>, lease: Lease<RequestBody>) {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return copy.broke() };
        if let Some(data) = frame.data_ref() {
            copy.piece(data);
            bytes += data.len();
            if bytes > ANSWER_BYTES_MAX {
                return;
            }
        }
    }
    if let Some(connection) = body.release() {
        lease.give_back(connection, clock::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_gathered_up_to_its_bound() {
        #[track_caller]
        fn check(pieces: &[&'static str], ends: bool, expected: Option<&[&str]>) {
            let (done, mut gathered) = oneshot::channel();
            let mut copy = BodyCopy::new(4, done);
            pieces.iter().for_each(|piece| copy.piece(&Bytes::from_static(piece.as_bytes())));
            if ends {
                copy.ended();
            }
            drop(copy);
            let gathered = gathered.try_recv().ok();
            let texts = gathered.map(|pieces| {
                pieces.iter().map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect()
            });
            let expected: Option<Vec<String>> =
                expected.map(|texts| texts.iter().map(|text| (*text).to_owned()).collect());
            assert_eq!(texts, expected);
        }
        check(&["ab", "cd"], true, Some(&["ab", "cd"]));
        check(&[], true, Some(&[]));
        check(&["ab"], false, None);
        check(&["ab", "cde"], true, None);
        check(&["abcde", "f"], true, None);
        check(&vec![""; PIECES_MAX], true, Some(&vec![""; PIECES_MAX]));
        check(&vec![""; PIECES_MAX + 1], true, None);
    }
}
