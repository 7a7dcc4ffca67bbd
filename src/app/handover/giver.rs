//! The process that goes: it starts its successor, and goes on itself if that does not serve.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, ErrorKind, PipeReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::Runtime;

use super::binary::Origin;
use super::relay::Links;
use super::taker::SIGN;
use super::wire::{Admin, Channel, Hello, Listen, Message, PROTOCOL};
use crate::clock;
use crate::control::{Control, LetGoError, TakeBackError};
use crate::proxy::Place;

/// How long the new process may take from `Yours` until it serves: changes, kills too, are refused meanwhile.
const SERVING_WITHIN: Duration = Duration::from_secs(10);
/// How long it is waited for it to say that it makes changes.
const OPEN_WITHIN: Duration = Duration::from_secs(2);
/// The number of the signal that ends a process for sure.
const KILLED: i32 = 9;
/// How long its standard error may stay open after its end, by a process that it started.
const EAR_PATIENCE: Duration = Duration::from_secs(1);
/// How much of what it says on standard error is kept for whoever asked.
const LAST_LINES: usize = 12;
const LINE_BYTES_MAX: u64 = 1000;

/// What is passed on.
pub(in crate::app) struct Giver {
    pub origin: Origin,
    pub control: Control,
    pub state: PathBuf,
    pub admin: PathBuf,
    pub admin_socket: UnixListener,
    pub admin_keeps_file: bool,
    /// The address as it is configured, and the socket.
    pub telemetry: Option<(SocketAddr, TcpListener)>,
    pub listen: Vec<Place>,
    /// Conversations with those before this process.
    pub links: Arc<Links>,
}

/// The other process serves, and has the say.
#[derive(Debug)]
pub(in crate::app) struct Upgrading {
    pub pid: u32,
    pub version: String,
    /// For how long changes were refused.
    pub closed: Duration,
    channel: Channel,
}

/// Why the new process does not serve.
#[derive(Debug, Error)]
pub(in crate::app) enum NotUpgraded {
    /// Copies, pipes.
    #[error("prepare to pass everything on")]
    Prepare(#[source] io::Error),
    /// The binary cannot be started.
    #[error("start {}", .0.display())]
    Start(PathBuf, #[source] io::Error),
    /// It says so.
    #[error("process {0} refuses: {1}")]
    Refused(u32, String),
    /// It is gone.
    #[error("process {pid} ended ({how}) before it was {what}")]
    Ended { pid: u32, how: String, what: Stage },
    /// It takes too long.
    #[error("process {pid} was not {what} within {within:?}")]
    Late { pid: u32, what: Stage, within: Duration },
    /// It does not speak as it should.
    #[error("process {0} is not understood; is it another tidegate?")]
    NotUnderstood(u32, #[source] io::Error),
    /// Our own state.
    #[error(transparent)]
    LetGo(#[from] LetGoError),
    /// Meanwhile somebody asked this process to stop.
    #[error("this process is on its way out")]
    Stopping,
}

/// How far the new process was to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum Stage {
    Ready,
    Serving,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Serving => "serving",
        })
    }
}

/// What went wrong. This process goes on as before.
#[derive(Debug)]
pub(in crate::app) struct Failed {
    pub why: NotUpgraded,
    /// The last that the new process said on standard error.
    pub said: Vec<String>,
    /// The state folder could not be taken back in full.
    pub lost: Option<TakeBackError>,
}

impl From<NotUpgraded> for Failed {
    fn from(why: NotUpgraded) -> Self {
        Self { why, said: Vec::new(), lost: None }
    }
}

impl Giver {
    /// Goes all the way, blocking this thread: afterwards, only what is held already is left to be done here. `binary`
    /// has `within` to be ready; then this process has to be one that `may_go`.
    pub fn upgrade(
        &self,
        binary: &Path,
        within: Duration,
        runtime: &Runtime,
        may_go: impl Fn() -> bool + Copy,
    ) -> Result<Upgrading, Failed> {
        let (mut new, version) = self.prepare(binary, within)?;
        if !may_go() {
            return Err(new.fails(NotUpgraded::Stopping));
        }
        let begun = clock::now();
        let passed_on = runtime.block_on(async {
            self.control.close("tidegate is being upgraded; try again in a second").await;
            self.control.let_go().await
        });
        let passed_on = passed_on
            .map_err(NotUpgraded::from)
            .and_then(|lock| self.pass_on(&mut new, lock, runtime, may_go));
        if let Err(why) = passed_on {
            // Nobody else writes once it is gone.
            let failed = new.fails(why);
            let lost = runtime.block_on(self.control.take_back()).err();
            return Err(Failed { lost, ..failed });
        }
        let closed = clock::now().saturating_duration_since(begun);
        Ok(Upgrading { pid: new.pid(), version, closed, channel: new.channel })
    }

    /// Starts the new process, and waits until it is ready: its version.
    fn prepare(&self, binary: &Path, within: Duration) -> Result<(Successor, String), Failed> {
        let begun = clock::now();
        let mut new = Successor::start(&self.origin, binary)?;
        let heard = self.introduce(&new.channel).and_then(|()| {
            let left = within.saturating_sub(clock::now().saturating_duration_since(begun));
            new.channel.hear(Some(left))
        });
        let why = match heard {
            Ok(Message::Ready { version }) => return Ok((new, version)),
            Ok(Message::Refused { why }) => NotUpgraded::Refused(new.pid(), why),
            Ok(_) => NotUpgraded::NotUnderstood(new.pid(), ErrorKind::InvalidData.into()),
            Err(error) => new.silent(Stage::Ready, within, error),
        };
        Err(new.fails(why))
    }

    fn introduce(&self, channel: &Channel) -> io::Result<()> {
        channel.send(&Message::Hello(Box::new(Hello {
            protocol: PROTOCOL,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: self.state.clone(),
            admin: Admin { path: self.admin.clone(), keeps_file: self.admin_keeps_file },
            telemetry: self.telemetry.as_ref().map(|(address, _)| *address),
            listen: self
                .listen
                .iter()
                .map(|place| Listen { address: place.configured, count: place.sockets.len() })
                .collect(),
        })))?;
        channel.give(io::stderr().as_fd())?;
        channel.give(self.admin_socket.as_fd())?;
        for socket in self.telemetry.iter().map(|(_, socket)| socket) {
            channel.give(socket.as_fd())?;
        }
        self.listen
            .iter()
            .flat_map(|place| &place.sockets)
            .try_for_each(|socket| channel.give(socket.as_fd()))
    }

    /// Gives the state away, waits until the other one serves, and gives the say away.
    fn pass_on(
        &self,
        new: &mut Successor,
        lock: OwnedFd,
        runtime: &Runtime,
        may_go: impl Fn() -> bool,
    ) -> Result<(), NotUpgraded> {
        let paused = runtime.block_on(self.links.pause(&self.control));
        let elders = paused.iter().map(|paused| paused.elder.clone()).collect();
        let heard = new
            .channel
            .send(&Message::Yours { health: self.control.known_health(), elders })
            .and_then(|()| new.channel.give(lock.as_fd()))
            .and_then(|()| paused.iter().try_for_each(|paused| new.channel.give_end_of(paused.channel()?)))
            .and_then(|()| new.channel.hear(Some(SERVING_WITHIN)));
        match heard {
            // Whoever asked this process to stop meant the service.
            Ok(Message::Serving) if !may_go() => return Err(NotUpgraded::Stopping),
            Ok(Message::Serving) => {}
            Ok(Message::Refused { why }) => return Err(NotUpgraded::Refused(new.pid(), why)),
            Ok(_) => return Err(NotUpgraded::NotUnderstood(new.pid(), ErrorKind::InvalidData.into())),
            Err(error) => return Err(new.silent(Stage::Serving, SERVING_WITHIN, error)),
        }
        new.channel
            .send(&Message::Gone)
            .map_err(|error| new.silent(Stage::Serving, SERVING_WITHIN, error))?;
        self.links.are_passed_on(paused);
        // There is no way back any more; whoever asked shall find that changes are made again.
        let _ = new.channel.hear(Some(OPEN_WITHIN));
        Ok(())
    }
}

impl Upgrading {
    /// Puts in force here what is changed by whoever serves, until nobody does any more. Blocks this thread. `leave`:
    /// ends what is held, `true`: at once.
    pub fn follow(&self, control: &Control, leave: impl Fn(bool)) {
        loop {
            match self.channel.hear(None) {
                Ok(Message::Follow { generation, states }) => {
                    if !states.is_empty() {
                        control.follow(generation, states);
                    }
                    let (tunnels, requests) = control.tallies().open();
                    let followed = Message::Followed { generation, tunnels, requests };
                    if self.channel.send(&followed).is_err() {
                        break;
                    }
                }
                Ok(Message::Leave { now }) => leave(now),
                Ok(_) | Err(_) => break,
            }
        }
        // Nobody can kill any more what is held here.
        leave(false);
    }
}

/// The new process, until it serves.
struct Successor {
    child: Child,
    channel: Channel,
    ear: Ear,
}

/// What is heard of its standard error.
struct Ear {
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Disconnected when it is closed.
    closed: Receiver<()>,
}

impl Successor {
    fn start(origin: &Origin, binary: &Path) -> Result<Self, NotUpgraded> {
        let (ours, theirs) = UnixStream::pair().map_err(NotUpgraded::Prepare)?;
        let channel = Channel::new(ours).map_err(NotUpgraded::Prepare)?;
        let (said, says) = io::pipe().map_err(NotUpgraded::Prepare)?;
        let child = Command::new(binary)
            .args(&origin.arguments)
            .env(SIGN, PROTOCOL.to_string())
            // It would take itself for somebody else.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::from(says))
            .spawn()
            .map_err(|error| NotUpgraded::Start(binary.to_owned(), error))?;
        match Ear::to(said) {
            Ok(ear) => Ok(Self { child, channel, ear }),
            Err(error) => {
                put_an_end_to(child);
                Err(NotUpgraded::Prepare(error))
            }
        }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Why nothing was heard.
    fn silent(&mut self, what: Stage, within: Duration, error: io::Error) -> NotUpgraded {
        let pid = self.pid();
        match error.kind() {
            ErrorKind::TimedOut => NotUpgraded::Late { pid, what, within },
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                // Whoever closes without a word, and stays, is ended here. Who is about to end, which closes everything a
                // moment before it can be asked for, ends as it would have.
                let _ = self.child.kill();
                let how = match self.child.wait() {
                    Ok(status) if status.signal() != Some(KILLED) => status.to_string(),
                    Ok(_) | Err(_) => "without a word".to_owned(),
                };
                NotUpgraded::Ended { pid, how, what }
            }
            _ => NotUpgraded::NotUnderstood(pid, error),
        }
    }

    /// Ends it, for sure, and hears it out.
    fn fails(self, why: NotUpgraded) -> Failed {
        put_an_end_to(self.child);
        Failed { why, said: self.ear.heard(), lost: None }
    }
}

fn put_an_end_to(mut child: Child) {
    // An error says that it has ended before.
    let _ = child.kill();
    let _ = child.wait();
}

impl Ear {
    /// Passes everything on to our own standard error, and keeps the end of it.
    fn to(said: PipeReader) -> io::Result<Self> {
        let (open, closed) = channel();
        let lines = Arc::<Mutex<VecDeque<String>>>::default();
        let kept = lines.clone();
        std::thread::Builder::new().name("successor".to_owned()).spawn(move || {
            let _open: std::sync::mpsc::Sender<()> = open;
            let mut said = BufReader::new(said);
            let mut line = Vec::new();
            while said.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                // Whether anybody reads it does not matter here.
                let _ = io::stderr().write_all(&line);
                let mut lines = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == LAST_LINES {
                    lines.pop_front();
                }
                lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        })?;
        Ok(Self { lines, closed })
    }

    fn heard(self) -> Vec<String> {
        // Nothing is ever sent: the other end goes when everything is read.
        let _ = self.closed.recv_timeout(EAR_PATIENCE);
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}
