//! How many of the expensive requests there may be at once, so that they leave room for a kill.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::problem;
use crate::admin::api::{Problem, ProblemKind};

/// Streams of events at once.
const FOLLOWERS_MAX: usize = 256;
/// Waits for open requests at once.
const WAITS_MAX: usize = 256;
/// Probes and warm-ups at once.
const PROBES_MAX: usize = 16;
/// Whole statuses in memory at once: each is some 5 MB with 10 000 services.
const STATUSES_MAX: usize = 8;
/// Statuses that are put together at once: each takes a core for as long.
const BUILDING_MAX: usize = 1;
/// How long a status may wait for its turn.
const STATUS_PATIENCE: Duration = Duration::from_secs(10);
/// The piece of an answer that is handed to the connection at once.
const PIECE_BYTES: usize = 64 * 1024;

/// The places there are.
#[derive(Clone, Debug)]
pub struct Places {
    followers: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    statuses: Arc<Semaphore>,
    building: Arc<Semaphore>,
}

/// One of them, free again when it is dropped.
pub type Place = OwnedSemaphorePermit;

impl Default for Places {
    fn default() -> Self {
        let of = |count| Arc::new(Semaphore::new(count));
        Self {
            followers: of(FOLLOWERS_MAX),
            waits: of(WAITS_MAX),
            probes: of(PROBES_MAX),
            statuses: of(STATUSES_MAX),
            building: of(BUILDING_MAX),
        }
    }
}

impl Places {
    /// For a stream of events.
    pub fn follow(&self) -> Result<Place, Problem> {
        now(&self.followers, "streams of events")
    }

    /// For a wait.
    pub fn wait(&self) -> Result<Place, Problem> {
        now(&self.waits, "waits")
    }

    /// For a probe or a warm-up.
    pub fn probe(&self) -> Result<Place, Problem> {
        now(&self.probes, "probes and warm-ups")
    }

    /// The answer that `build` makes as JSON, off this thread, when it is its turn.
    pub async fn status(
        &self,
        build: impl FnOnce() -> serde_json::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Response, Problem> {
        let turn = async {
            let held = self.statuses.clone().acquire_owned().await;
            (held, self.building.clone().acquire_owned().await)
        };
        let Ok((Ok(held), Ok(building))) = tokio::time::timeout(STATUS_PATIENCE, turn).await else {
            return Err(problem(ProblemKind::Unavailable, "too many ask for the status; try again"));
        };
        let built = tokio::task::spawn_blocking(move || {
            let _building = building;
            build()
        });
        match built.await {
            Ok(Ok(text)) => Ok(piecewise(text.into(), held)),
            Ok(Err(_)) | Err(_) => Err(problem(ProblemKind::Internal, "the status cannot be put together")),
        }
    }
}

fn now(places: &Arc<Semaphore>, what: &str) -> Result<Place, Problem> {
    let place = places.clone().try_acquire_owned();
    place.map_err(|_| problem(ProblemKind::Unavailable, format!("there are too many {what} already")))
}

/// JSON that keeps its place until the connection has taken the last piece.
fn piecewise(text: Bytes, held: Place) -> Response {
    let length = text.len();
    let pieces = futures_util::stream::unfold((text, held), |(mut text, held)| async move {
        let piece = text.split_to(text.len().min(PIECE_BYTES));
        (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (text, held)))
    });
    let head =
        [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    (head, Body::from_stream(pieces)).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn the_257th_follower_is_sent_away_until_one_leaves() {
        let places = Places::default();
        let mut held: Vec<_> = (0..FOLLOWERS_MAX).map(|_| places.follow().unwrap()).collect();
        assert_eq!(places.follow().unwrap_err().kind, ProblemKind::Unavailable);
        assert!(places.wait().is_ok());
        held.pop();
        assert!(places.follow().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_keeps_its_place_until_it_is_read() {
        let places = Places::default();
        let text = || Ok(vec![b' '; 3 * PIECE_BYTES + 1]);
        let mut unread = Vec::new();
        for _ in 0..STATUSES_MAX {
            unread.push(places.status(text).await.unwrap());
        }
        assert_eq!(places.status(text).await.unwrap_err().kind, ProblemKind::Unavailable);
        let read = unread.remove(0).into_body().collect().await.unwrap().to_bytes();
        assert_eq!(read.len(), 3 * PIECE_BYTES + 1);
        assert!(places.status(text).await.is_ok());
    }
}
