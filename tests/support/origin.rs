//! An app behind the gate. It has a thread of its own, so that load in a test does not slow it down. Whoever asks for
//! a WebSocket gets a tunnel that says back every byte.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::http::{Message, Wire};

/// What an origin does with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Answers them.
    #[default]
    Answers,
    /// Answers them with 500.
    Fails,
    /// Reads them, and answers when its mood changes.
    Holds,
    /// Resets the connection.
    Resets,
    /// Promises more than it sends.
    Truncates,
}

/// An origin that is not started yet.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    says: String,
    fails_every: Option<u64>,
    faults: Faults,
    slow: Duration,
}

/// What goes wrong by chance, in shares of all requests.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// Answered with 500.
    fails: f64,
    /// Answered with 404.
    lost: f64,
    /// The median time of an answer, lognormal with σ = 0.5; zero: at once.
    median: Duration,
}

/// A plan for an origin that answers 200 with an empty body.
pub fn origin() -> Plan {
    Plan::default()
}

impl Plan {
    /// The body of every answer.
    pub fn says(self, text: &str) -> Self {
        Self { says: text.to_owned(), ..self }
    }

    /// Every n-th request gets 500.
    pub fn fails_every(self, n: u64) -> Self {
        Self { fails_every: Some(n), ..self }
    }

    /// This share of requests, drawn by chance, gets 500.
    pub fn fails(mut self, share: f64) -> Self {
        self.faults.fails = share;
        self
    }

    /// This share of requests, drawn by chance, gets 404.
    pub fn loses(mut self, share: f64) -> Self {
        self.faults.lost = share;
        self
    }

    /// Answers take a random time, lognormal with σ = 0.5 around this median.
    pub fn takes(mut self, median: Duration) -> Self {
        self.faults.median = median;
        self
    }

    /// Every answer takes that long.
    pub fn slow(self, by: Duration) -> Self {
        Self { slow: by, ..self }
    }

    /// Starts it on a free port.
    pub async fn start(self) -> Origin {
        self.start_at(([127, 0, 0, 1], 0).into()).await
    }

    /// Starts it at an address.
    pub async fn start_at(self, address: SocketAddr) -> Origin {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, _) = watch::channel(Mood::default());
        let (stop, mut stopped) = watch::channel(());
        let facts = Arc::new(Facts {
            plan: self,
            mood,
            requests: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            last: Mutex::default(),
        });
        let served = facts.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    tokio::select! {
                        accepted = listener.accept() => {
                            let Ok((stream, _)) = accepted else { continue };
                            tokio::spawn(serve(served.clone(), stream));
                        }
                        _ = stopped.changed() => return,
                    }
                }
            });
        });
        Origin { address, facts, stop: Some(stop), thread: Some(thread) }
    }
}

/// An origin that runs, until it is dropped.
pub struct Origin {
    address: SocketAddr,
    facts: Arc<Facts>,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Facts {
    plan: Plan,
    mood: watch::Sender<Mood>,
    requests: AtomicU64,
    waiting: AtomicU64,
    last: Mutex<Option<Message>>,
}

impl Origin {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As an endpoint is written.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests it has read.
    pub fn requests(&self) -> u64 {
        self.facts.requests.load(Ordering::SeqCst)
    }

    /// How many wait for its mood to change.
    pub fn waiting(&self) -> u64 {
        self.facts.waiting.load(Ordering::SeqCst)
    }

    /// The last request it read.
    pub fn last(&self) -> Message {
        self.facts.last.lock().unwrap().clone().expect("a request")
    }

    /// From now on.
    pub fn turns(&self, mood: Mood) {
        self.facts.mood.send_replace(mood);
    }

    /// Refuses connections from now on, and cuts those it has.
    pub fn stops(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stops();
    }
}

async fn serve(facts: Arc<Facts>, stream: TcpStream) {
    drop(stream.set_nodelay(true));
    let mut wire = Wire::new(stream);
    let Plan { says, fails_every, slow, faults } = &facts.plan;
    let mut chance = fastrand::Rng::new();
    let mut mood = facts.mood.subscribe();
    while let Ok(Some(request)) = wire.request().await {
        let key = request.field("sec-websocket-key").map(str::to_owned);
        *facts.last.lock().unwrap() = Some(request);
        let number = facts.requests.fetch_add(1, Ordering::SeqCst) + 1;
        if *mood.borrow() == Mood::Holds {
            facts.waiting.fetch_add(1, Ordering::SeqCst);
            let changed = mood.wait_for(|mood| *mood != Mood::Holds).await.is_ok();
            facts.waiting.fetch_sub(1, Ordering::SeqCst);
            if !changed {
                return;
            }
        }
        if let Some(key) = key {
            if wire.write(switch(&key, says).as_bytes()).await.is_ok() {
                let mut stream = wire.into_inner();
                let (mut said, mut says_back) = stream.split();
                drop(tokio::io::copy(&mut said, &mut says_back).await);
                drop(says_back.shutdown().await);
            }
            return;
        }
        if !slow.is_zero() {
            tokio::time::sleep(*slow).await;
        }
        if !faults.median.is_zero() {
            // Box and Muller's normal variate.
            let normal =
                (-2.0 * (1.0 - chance.f64()).ln()).sqrt() * (std::f64::consts::TAU * chance.f64()).cos();
            tokio::time::sleep(faults.median.mul_f64((0.5 * normal).exp())).await;
        }
        let drawn = chance.f64();
        let now = *mood.borrow();
        let status = match fails_every {
            _ if now == Mood::Fails => "500 Internal Server Error",
            Some(n) if number.is_multiple_of(*n) => "500 Internal Server Error",
            _ if drawn < faults.fails => "500 Internal Server Error",
            _ if drawn < faults.fails + faults.lost => "404 Not Found",
            _ => "200 OK",
        };
        let length = if now == Mood::Truncates { says.len() + 100 } else { says.len() };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{says}");
        match now {
            Mood::Resets => {
                drop(wire.into_inner().set_zero_linger());
                return;
            }
            Mood::Truncates => {
                drop(wire.write(answer.as_bytes()).await);
                return;
            }
            Mood::Answers | Mood::Fails | Mood::Holds => {
                if wire.write(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What a tunnel begins with (RFC 6455 §4.2.2); `x-app` says whose it is.
fn switch(key: &str, says: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let accept = data_encoding::BASE64.encode(digest.as_ref());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\nx-app: {says}\r\n\r\n"
    )
}
