//! What one channel still has to be told, in order.
//!
//! Each channel has a queue and a task of its own, so one that is slow or dead holds up nobody. The queue
//! is bounded: when it is full the oldest notice goes, is counted, and the next one that arrives says so. Order
//! is kept by trying one notice until it has arrived or is given up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::call::CallError;
use super::notice::Notice;

/// How many notices wait at most.
pub const QUEUED_MAX: usize = 256;
/// How often one is tried.
const TRIES_MAX: u32 = 20;
/// How long one is tried, the waiting in between included.
const TRY_FOR: Duration = Duration::from_secs(24 * 3600);
/// The wait after the first failure, before jitter; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// A queue and the task that empties it, which ends with this.
pub struct Outbox {
    queue: Arc<Queue>,
    task: AbortHandle,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    notices: VecDeque<Notice>,
    /// Since the last one that was taken out.
    missed: u64,
    /// Whether one is on its way.
    busy: bool,
}

impl Outbox {
    /// `send` tries once; `lost` is told what was given up, and why. `seed` is for jitter.
    pub fn start<S, F>(seed: u64, send: S, lost: impl Fn(&Notice, &CallError) + Send + 'static) -> Self
    where
        S: Fn(Notice) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), CallError>> + Send,
    {
        let queue = Arc::new(Queue::default());
        let emptied = queue.clone();
        let work = async move {
            let mut chance = fastrand::Rng::with_seed(seed);
            loop {
                let notice = emptied.take().await;
                let delivery = deliver(&notice, &send, &mut chance);
                let delivered = tokio::time::timeout(TRY_FOR, delivery).await.unwrap_or_else(|_| {
                    Err(CallError::Timeout { who: "the channel".to_owned(), after: TRY_FOR })
                });
                if let Err(error) = delivered {
                    lost(&notice, &error);
                }
            }
        };
        Self { queue, task: tokio::spawn(work).abort_handle() }
    }

    /// Puts a notice at the end. Never waits.
    pub fn put(&self, notice: Notice) {
        let mut waiting = self.queue.waiting();
        if waiting.notices.len() >= QUEUED_MAX {
            waiting.notices.pop_front();
            waiting.missed += 1;
        }
        waiting.notices.push_back(notice);
        drop(waiting);
        self.queue.filled.notify_one();
    }

    /// Whether everything has been told or given up.
    pub fn is_empty(&self) -> bool {
        let waiting = self.queue.waiting();
        waiting.notices.is_empty() && !waiting.busy
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest notice, once there is one; the one before it is done.
    async fn take(&self) -> Notice {
        loop {
            {
                let mut waiting = self.waiting();
                waiting.busy = false;
                if let Some(mut notice) = waiting.notices.pop_front() {
                    notice.missed = std::mem::take(&mut waiting.missed);
                    waiting.busy = true;
                    return notice;
                }
            }
            self.filled.notified().await;
        }
    }
}

async fn deliver<S, F>(notice: &Notice, send: &S, chance: &mut fastrand::Rng) -> Result<(), CallError>
where
    S: Fn(Notice) -> F,
    F: Future<Output = Result<(), CallError>>,
{
    let mut tries = 0;
    loop {
        let error = match send(notice.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        tries += 1;
        if error.is_final() || tries >= TRIES_MAX {
            return Err(error);
        }
        tokio::time::sleep(pause(tries, chance.f64())).await;
    }
}

/// How long to wait after so many failures: doubled each time, between half and all of it by `chance` in 0..1, so that
/// receivers that come back are not met by everybody at once.
fn pause(failures: u32, chance: f64) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(PAUSE_MAX).mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::{Semaphore, mpsc};

    fn notice(number: usize) -> Notice {
        Notice { sentence: number.to_string(), ..Notice::default() }
    }

    fn status(status: u16) -> CallError {
        CallError::Status { host: "http://chat".into(), status: StatusCode::from_u16(status).unwrap() }
    }

    #[test]
    fn pauses_double_up_to_five_minutes_and_are_spread() {
        assert_eq!(pause(1, 0.0), Duration::from_millis(500));
        assert_eq!(pause(1, 1.0), Duration::from_secs(1));
        assert_eq!(pause(2, 1.0), Duration::from_secs(2));
        assert_eq!(pause(9, 1.0), Duration::from_secs(256));
        assert_eq!(pause(10, 1.0), PAUSE_MAX);
        assert_eq!(pause(u32::MAX, 0.0), PAUSE_MAX / 2);
    }

    /// Each notice's tries end as `answers` says, in order; then well. What arrived, what was lost after how many tries, and how
    /// long it took.
    async fn told(notices: usize, answers: Vec<CallError>) -> (Vec<String>, Vec<String>, usize, Duration) {
        let tries = Arc::new(AtomicUsize::new(0));
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let (gone, mut losses) = mpsc::unbounded_channel();
        let send = {
            let tries = tries.clone();
            move |notice: Notice| {
                tries.fetch_add(1, Ordering::Relaxed);
                let answer = answers.lock().unwrap().pop_front();
                let arrived = arrived.clone();
                async move { answer.map_or(Ok(()), Err).inspect(|()| arrived.send(notice.sentence).unwrap()) }
            }
        };
        let lost = move |notice: &Notice, error: &CallError| {
            gone.send(format!("{}: {error}", notice.sentence)).unwrap();
        };
        let started = paused_now();
        let outbox = Outbox::start(7, send, lost);
        (0..notices).for_each(|number| outbox.put(notice(number)));
        while !outbox.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = paused_now() - started;
        let mut seen = (Vec::new(), Vec::new());
        while let Ok(text) = arrivals.try_recv() {
            seen.0.push(text);
        }
        while let Ok(text) = losses.try_recv() {
            seen.1.push(text);
        }
        (seen.0, seen.1, tries.load(Ordering::Relaxed), took)
    }

    #[allow(clippy::disallowed_methods, reason = "the paused clock of the test's runtime")]
    fn paused_now() -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_and_order_is_kept() {
        let answers = vec![status(503), status(429), status(408)];
        let (arrived, lost, tries, took) = told(3, answers).await;
        assert_eq!(arrived, ["0", "1", "2"]);
        assert_eq!((lost.len(), tries), (0, 6));
        assert!(took >= Duration::from_millis(3_500) && took < Duration::from_secs(8), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_succeed_is_given_up_at_once() {
        for code in [400, 401, 404, 410, 302] {
            let (arrived, lost, tries, _) = told(2, vec![status(code)]).await;
            assert_eq!((arrived, lost.len(), tries), (vec!["1".to_owned()], 1, 2), "{code}");
            assert!(lost[0].starts_with(&format!("0: http://chat answered {code}")), "{}", lost[0]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_twenty_tries_the_next_one_has_its_turn() {
        let answers = (0..20).map(|_| status(500)).collect();
        let (arrived, lost, tries, took) = told(2, answers).await;
        assert_eq!((arrived, lost.len(), tries), (vec!["1".to_owned()], 1, 21));
        assert!(took > Duration::from_secs(20 * 60) && took < Duration::from_secs(3 * 3600), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_ends_is_given_up_after_a_day() {
        let (gone, mut losses) = mpsc::unbounded_channel();
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let send = move |notice: Notice| {
            let arrived = arrived.clone();
            async move {
                if notice.sentence == "0" {
                    tokio::time::sleep(Duration::from_secs(30 * 3600)).await;
                }
                arrived.send(notice.sentence).unwrap();
                Ok(())
            }
        };
        let lost = move |notice: &Notice, _: &CallError| gone.send(notice.sentence.clone()).unwrap();
        let started = paused_now();
        let outbox = Outbox::start(7, send, lost);
        outbox.put(notice(0));
        outbox.put(notice(1));
        assert_eq!(losses.recv().await.unwrap(), "0");
        assert_eq!(paused_now() - started, TRY_FOR);
        assert_eq!(arrivals.recv().await.unwrap(), "1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_drops_the_oldest_and_says_so() {
        let gate = Arc::new(Semaphore::new(0));
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let send = {
            let gate = gate.clone();
            move |notice: Notice| {
                let (gate, arrived) = (gate.clone(), arrived.clone());
                async move {
                    gate.acquire().await.unwrap().forget();
                    arrived.send((notice.sentence, notice.missed)).unwrap();
                    Ok(())
                }
            }
        };
        let outbox = Outbox::start(7, send, |_, _| {});
        outbox.put(notice(0));
        tokio::time::sleep(Duration::from_millis(1)).await;
        (1..=QUEUED_MAX + 3).for_each(|number| outbox.put(notice(number)));
        gate.add_permits(3);
        assert_eq!(arrivals.recv().await.unwrap(), ("0".to_owned(), 0), "what is on its way stays");
        assert_eq!(arrivals.recv().await.unwrap(), ("4".to_owned(), 3));
        assert_eq!(arrivals.recv().await.unwrap(), ("5".to_owned(), 0));
    }
}
