//! Requests that flow, on kept connections and a thread of their own, while a story goes on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate::clock;

use super::http::{Message, connect, get};

/// How many connections a load keeps.
const CONNECTIONS: usize = 16;

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Blue.
    Blue,
    /// Green.
    Green,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Of the request with this number.
    pub number: u64,
    /// When it was begun: before anything of it was sent.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
    /// Who did.
    pub by: By,
    /// What the client was told to remember.
    pub cookie: Option<String>,
}

/// What came of a load.
#[derive(Debug, Default)]
pub struct Seen {
    /// All answers of blue and green.
    pub answers: Vec<Answered>,
    /// Everything else: other answers, resets, refused connections.
    pub failures: Vec<String>,
}

impl Seen {
    /// How many.
    pub fn total(&self) -> usize {
        self.answers.len() + self.failures.len()
    }

    /// How many blue answered.
    pub fn blue(&self) -> usize {
        self.answers.iter().filter(|answer| answer.by == By::Blue).count()
    }

    /// How many green answered.
    pub fn green(&self) -> usize {
        self.answers.iter().filter(|answer| answer.by == By::Green).count()
    }

    /// Green's part of all answers.
    pub fn green_share(&self) -> f64 {
        self.green() as f64 / self.answers.len() as f64
    }

    /// Fails unless there were answers and nothing else.
    #[track_caller]
    pub fn assert_none_failed(&self) {
        let some = &self.failures[..self.failures.len().min(5)];
        assert!(!self.answers.is_empty() && some.is_empty(), "{} failed: {some:?}", self.failures.len());
    }

    /// Fails if green answered a request that began after a kill's acknowledgement. `closed`: from there to
    /// just before the next shift. What ends later may have been decided after that shift.
    #[track_caller]
    pub fn assert_none_on_green_between(&self, closed: &[(Instant, Instant)]) {
        for answer in self.answers.iter().filter(|answer| answer.by == By::Green) {
            let mut wrong =
                closed.iter().filter(|(from, to)| *from < answer.begun && answer.begun + answer.took < *to);
            assert!(wrong.next().is_none(), "request {} reached green after a kill", answer.number);
        }
    }

    /// How long requests took at a quantile.
    pub fn latency(&self, quantile: f64) -> Duration {
        let mut all: Vec<_> = self.answers.iter().map(|answer| answer.took).collect();
        all.sort();
        all.get((all.len() as f64 * quantile) as usize).copied().unwrap_or_default()
    }

    /// Takes in another load's.
    pub fn and(mut self, other: Self) -> Self {
        self.answers.extend(other.answers);
        self.failures.extend(other.failures);
        self
    }
}

/// A load that flows.
pub struct Load {
    facts: Arc<Facts>,
    thread: JoinHandle<Seen>,
}

struct Facts {
    address: SocketAddr,
    is_over: AtomicBool,
    next: AtomicU64,
    answered: AtomicU64,
    seen: Mutex<Seen>,
    request: Box<dyn Fn(u64) -> Option<Vec<u8>> + Send + Sync>,
}

impl Load {
    /// Begins. `request` makes the request with a number; `None` is the end.
    pub fn begin(
        address: SocketAddr,
        request: impl Fn(u64) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let facts = Arc::new(Facts {
            address,
            is_over: AtomicBool::new(false),
            next: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            seen: Mutex::default(),
            request: Box::new(request),
        });
        let shared = facts.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let flows: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(flow(shared.clone()))).collect();
                for flow in flows {
                    flow.await.unwrap();
                }
            });
            std::mem::take(&mut *shared.seen.lock().unwrap())
        });
        Self { facts, thread }
    }

    /// Begins with a plain request, again and again.
    pub fn of(address: SocketAddr, path: &str) -> Self {
        let request = get(path, &[]);
        Self::begin(address, move |_| Some(request.clone()))
    }

    /// How many requests were answered so far, one way or another.
    pub fn answered(&self) -> u64 {
        self.facts.answered.load(Ordering::SeqCst)
    }

    /// Waits until that many more were answered.
    pub async fn goes_on(&self, more: u64) {
        let goal = self.answered() + more;
        super::until("the load goes on", async || (self.answered() >= goal).then_some(())).await;
    }

    /// Waits for the requests to run out.
    pub async fn result(self) -> Seen {
        while !self.thread.is_finished() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.thread.join().unwrap()
    }

    /// Ends it, after the requests that are open.
    pub async fn end(self) -> Seen {
        self.facts.is_over.store(true, Ordering::SeqCst);
        self.result().await
    }
}

/// Fails unless `count` of `total` is within five standard deviations of `share`.
#[track_caller]
pub fn assert_share(count: usize, total: usize, share: f64) {
    let (expected, total) = (total as f64 * share, total as f64);
    let allowed = 5.0 * (total * share * (1.0 - share)).sqrt() + 1.0;
    let off = (count as f64 - expected).abs();
    assert!(off <= allowed, "{count} of {total} are not {share} (off by {off:.0}, {allowed:.0} allowed)");
}

async fn flow(facts: Arc<Facts>) {
    let mut kept = None;
    let mut seen = Seen::default();
    while !facts.is_over.load(Ordering::SeqCst) {
        let number = facts.next.fetch_add(1, Ordering::SeqCst);
        let Some(request) = (facts.request)(number) else { break };
        let begun = clock::now();
        let answer = async {
            let mut wire = match kept.take() {
                Some(wire) => wire,
                None => connect(facts.address).await?,
            };
            let answer = wire.ask(&request).await?;
            if !wire.is_over() {
                kept = Some(wire);
            }
            Ok::<Message, std::io::Error>(answer)
        };
        let answer = answer.await;
        let took = clock::now() - begun;
        match answer.as_ref().map(|answer| (answer.status(), answer.text())) {
            Ok((200, text @ ("blue" | "green"))) => {
                let by = if text == "blue" { By::Blue } else { By::Green };
                let cookie = answer.as_ref().ok().and_then(|answer| answer.field("set-cookie"));
                let cookie = cookie.map(|cookie| cookie.split(';').next().unwrap_or_default().to_owned());
                seen.answers.push(Answered { number, begun, took, by, cookie });
            }
            Ok((status, text)) => seen.failures.push(format!("{status} {text}")),
            Err(error) => seen.failures.push(error.to_string()),
        }
        facts.answered.fetch_add(1, Ordering::SeqCst);
    }
    let mut all = facts.seen.lock().unwrap();
    *all = std::mem::take(&mut *all).and(seen);
}
