//! The running data plane: its threads, and how they come to an end.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::listener::{BindError, accept};
use super::room::Room;
use super::sockets::Sockets;
use super::worker::{Lobby, Part, Worker};
use super::{LiveSettings, ProxySettings};
use crate::clock;
use crate::routing::Table;
use crate::telemetry::{AccessLogHandle, Tallies};
use crate::traffic::Keys;

/// While draining, how often it is looked whether all connections are gone.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// What the data plane shares with the rest of the process.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The routing table; control publishes it.
    pub table: Arc<ArcSwap<Table>>,
    /// What a reload may change.
    pub live: Arc<ArcSwap<LiveSettings>>,
    /// They sign cookies. Workers notice new ones within a second.
    pub keys: Arc<ArcSwap<Keys>>,
    /// Where requests are counted; one worker for each of the settings' threads.
    pub tallies: Arc<Tallies>,
    /// Where requests are logged.
    pub access_log: AccessLogHandle,
    /// Where chance comes from: the same seed, the same draws. From the system when `None`.
    pub seed: Option<u64>,
}

/// Why the data plane does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A listening socket cannot be copied.
    #[error("copy a listening socket")]
    Share(#[source] io::Error),
    /// A worker thread cannot be started.
    #[error("start a worker thread")]
    Thread(#[source] io::Error),
}

/// What threads are told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Stopping,
}

/// The data plane. It goes on when this is dropped; end it with [`Proxy::drain`] or [`Proxy::stop_now`].
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    /// Copies of the listening sockets, for a process that takes over; gone once this one accepts no more.
    sockets: Mutex<Option<Sockets>>,
    phase: watch::Sender<Phase>,
    alive: watch::Receiver<usize>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Proxy {
    /// Listens on all addresses and starts the worker threads. How many connections they take follows from the
    /// limit of file descriptors (`RLIMIT_NOFILE`) at this moment: three quarters of it, or all but 256, half for
    /// clients and half for endpoints.
    pub fn start(settings: ProxySettings, shared: Shared) -> Result<Self, StartError> {
        let sockets = Sockets::bind(&settings, Vec::new())?;
        Self::start_on(sockets, settings, shared)
    }

    /// The same on sockets that were bound before.
    pub fn start_on(sockets: Sockets, settings: ProxySettings, shared: Shared) -> Result<Self, StartError> {
        let room = Room::of_process(settings.threads.get());
        Self::start_within(room, sockets, settings, shared)
    }

    /// As [`Proxy::start_on`], with so much room for each worker.
    pub(super) fn start_within(
        room: Room,
        sockets: Sockets,
        settings: ProxySettings,
        shared: Shared,
    ) -> Result<Self, StartError> {
        let count = settings.threads.get();
        let addresses = sockets.addresses();
        let kept = sockets.try_clone().map_err(StartError::Share)?;
        let listeners = sockets.deal(count);
        let lobby = Lobby::new();
        let (phase, told) = watch::channel(Phase::Serving);
        let (count_down, alive) = watch::channel(count);
        let count_down = Arc::new(count_down);
        let process = getrandom::u64().unwrap_or_else(|_| clock::wall().as_millis());
        let mut threads = Vec::with_capacity(count);
        for (index, listeners) in listeners.into_iter().enumerate() {
            let part = Part { index, of: u32::try_from(count).unwrap_or(u32::MAX) };
            let (shared, lobby, told, drain) = (shared.clone(), lobby.clone(), told.clone(), settings.drain);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(StartError::Thread)?;
            let last_words = LastWords(count_down.clone());
            let thread = std::thread::Builder::new()
                .name(format!("proxy-{index}"))
                .spawn(move || {
                    let _last_words = last_words;
                    let local = LocalSet::new();
                    local.block_on(
                        &runtime,
                        work(
                            Worker::new(part, process, room, lobby, shared, clock::wall()),
                            listeners,
                            told,
                            drain,
                        ),
                    );
                    // What is still open ends here, and is counted as it ends.
                    drop(local);
                })
                .map_err(StartError::Thread)?;
            threads.push(thread);
        }
        let (threads, sockets) = (Mutex::new(threads), Mutex::new(Some(kept)));
        Ok(Self { addresses, sockets, phase, alive, threads })
    }

    /// Copies of the listening sockets, for a process that takes over: connections that wait on them are accepted by
    /// whoever is first. `None` while it drains.
    pub fn share_sockets(&self) -> io::Result<Option<Sockets>> {
        self.sockets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(Sockets::try_clone)
            .transpose()
    }

    /// Where it listens, with port numbers filled in; in the order of the settings.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts no more connections, and ends each with its next answer; idle ones end at the deadline
    /// of the settings.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Ends all connections at once.
    pub fn stop_now(&self) {
        self.advance(Phase::Stopping);
    }

    /// Waits until draining or stopping is over.
    pub async fn drained(&self) {
        // The sender goes only with the last thread.
        drop(self.alive.clone().wait_for(|alive| *alive == 0).await);
    }

    /// Waits for the threads to end, blocking this one. Tell them first.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has said so on standard error.
            drop(thread.join());
        }
    }

    fn advance(&self, to: Phase) {
        // Before the threads close theirs: a port is closed when all copies are.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.phase.send_if_modified(|phase| {
            let advances = *phase < to;
            *phase = to.max(*phase);
            advances
        });
    }
}

/// Counts a thread down when it ends, in whatever way.
struct LastWords(Arc<watch::Sender<usize>>);

impl Drop for LastWords {
    fn drop(&mut self) {
        self.0.send_modify(|alive| *alive = alive.saturating_sub(1));
    }
}

async fn reached(mut told: watch::Receiver<Phase>, phase: Phase) {
    if told.wait_for(|now| *now >= phase).await.is_err() {
        // Nobody is left to say so.
        std::future::pending::<()>().await;
    }
}

/// One thread's life.
async fn work(
    worker: Worker,
    listeners: Vec<(usize, StdListener)>,
    told: watch::Receiver<Phase>,
    drain: Duration,
) {
    let worker = Rc::new(worker);
    worker.beat(clock::now(), clock::wall());
    let accepting = Rc::new(Cell::new(0usize));
    for (number, listener) in listeners {
        // A listener that cannot be registered leaves its port to the other threads.
        let Ok(listener) = TcpListener::from_std(listener) else { continue };
        let (worker, told, accepting) = (worker.clone(), told.clone(), accepting.clone());
        accepting.set(accepting.get() + 1);
        tokio::task::spawn_local(async move {
            accept(worker, number, listener, reached(told, Phase::Draining)).await;
            accepting.set(accepting.get() - 1);
        });
    }
    let heart = {
        let worker = worker.clone();
        async move {
            loop {
                tokio::time::sleep(worker.beat_after()).await;
                worker.beat(clock::now(), clock::wall());
            }
        }
    };
    tokio::task::spawn_local(heart);

    reached(told.clone(), Phase::Draining).await;
    worker.drain();
    let emptied = async {
        while accepting.get() > 0 || worker.clients.len() > 0 {
            tokio::time::sleep(DRAIN_STEP).await;
        }
    };
    tokio::select! {
        () = reached(told, Phase::Stopping) => {}
        () = emptied => {}
        () = tokio::time::sleep(drain) => {}
    }
}
