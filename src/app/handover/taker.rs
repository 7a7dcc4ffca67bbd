//! The process that comes: it prepares everything that can fail before it takes anything.

use std::env;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use listenfd::ListenFd;
use thiserror::Error;

use super::wire::{Admin, Channel, Hello, Message, PROTOCOL};
use crate::control::{Control, Desired, KnownHealth, ServiceState};
use crate::proxy::Place;

/// The variable that says that standard input is the end of a conversation.
pub(super) const SIGN: &str = "TIDEGATE_HANDOVER";
/// How long the old process may take to introduce itself.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Sockets that listen already: from the process before, or from a service manager.
#[derive(Debug, Default)]
pub(in crate::app) struct Inherited {
    pub listen: Vec<Place>,
    /// With the address as it was configured.
    pub telemetry: Vec<(SocketAddr, TcpListener)>,
    pub admin: Vec<InheritedAdmin>,
}

/// An admin socket that listens already.
#[derive(Debug)]
pub(in crate::app) struct InheritedAdmin {
    pub path: PathBuf,
    pub socket: UnixListener,
    /// As long as this is so, the file belongs to somebody else.
    pub keeps_file: Arc<AtomicBool>,
}

/// Why nothing can be taken over.
#[derive(Debug, Error)]
pub enum TakeOverError {
    /// The old process is gone, or does not speak as it should.
    #[error("take over from the running process")]
    Conversation(#[source] io::Error),
    /// It speaks another language.
    #[error(
        "the running process passes on in form {0}, this one understands {PROTOCOL}; stop it and start this one instead"
    )]
    Protocol(u32),
    /// Its state is elsewhere.
    #[error("the running process keeps its state in {}, the configuration says {}; that needs a restart", old.display(), new.display())]
    OtherState {
        /// Where it is.
        old: PathBuf,
        /// Where it would be.
        new: PathBuf,
    },
    /// The service manager's sockets.
    #[error("take over the service manager's sockets")]
    Activation(#[source] io::Error),
}

impl Inherited {
    /// What a service manager has opened for this process (`sd_listen_fds(3)`). Call it before there are threads: the
    /// variables that say so are removed.
    pub fn from_service_manager() -> Result<Self, TakeOverError> {
        let mut inherited = Self::default();
        let is_meant = env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
        if !is_meant {
            return Ok(inherited);
        }
        let mut given = ListenFd::from_env();
        for at in 0..given.len() {
            // A socket of another kind stays where it is.
            if let Ok(Some(socket)) = given.take_tcp_listener(at) {
                inherited.add(socket).map_err(TakeOverError::Activation)?;
            } else if let Ok(Some(socket)) = given.take_unix_listener(at) {
                let address = socket.local_addr().map_err(TakeOverError::Activation)?;
                let path = address.as_pathname().map(PathBuf::from).unwrap_or_default();
                inherited.admin.push(InheritedAdmin { path, socket, keeps_file: Arc::new(true.into()) });
            } else {
                eprintln!(
                    "tidegate: warning: socket {at} of the service manager is no listening stream socket"
                );
            }
        }
        Ok(inherited)
    }

    fn add(&mut self, socket: TcpListener) -> io::Result<()> {
        let at = socket.local_addr()?;
        match self.listen.iter_mut().find(|place| place.configured == at) {
            Some(place) => place.sockets.push(socket),
            None => self.listen.push(Place { configured: at, sockets: vec![socket] }),
        }
        Ok(())
    }

    /// The socket for the metrics, if there is one.
    pub fn telemetry(&mut self, address: SocketAddr) -> Option<TcpListener> {
        if let Some(at) = self.telemetry.iter().position(|(configured, _)| *configured == address) {
            return Some(self.telemetry.remove(at).1);
        }
        let at = self.listen.iter().position(|place| place.configured == address)?;
        self.listen.remove(at).sockets.into_iter().next()
    }

    /// The admin socket, if there is one at this path.
    pub fn admin(&mut self, path: &Path) -> Option<InheritedAdmin> {
        let at = self.admin.iter().position(|admin| admin.path == path)?;
        Some(self.admin.remove(at))
    }
}

/// The process that takes over, until it has.
#[derive(Debug)]
pub(in crate::app) struct Taker {
    channel: Channel,
    hello: Box<Hello>,
    stderr: OwnedFd,
    keeps_admin_file: Arc<AtomicBool>,
}

impl Taker {
    /// Hears what there is to take over; `None` if this process was not started for that.
    pub fn of_process() -> Result<Option<(Self, Inherited)>, TakeOverError> {
        if env::var_os(SIGN).is_none() {
            return Ok(None);
        }
        let failed = TakeOverError::Conversation;
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
        let nothing = File::open("/dev/null").map_err(failed)?;
        rustix::stdio::dup2_stdin(&nothing).map_err(|error| failed(error.into()))?;
        let channel = Channel::new(stream).map_err(failed)?;
        let hello = match channel.hear(Some(HELLO_WITHIN)).map_err(failed)? {
            Message::Hello(hello) => hello,
            _ => return Err(failed(io::ErrorKind::InvalidData.into())),
        };
        if hello.protocol != PROTOCOL {
            let error = TakeOverError::Protocol(hello.protocol);
            // It is told on standard error, too.
            let _ = channel.send(&Message::Refused { why: error.to_string() });
            return Err(error);
        }
        let take = || channel.take().map_err(failed);
        let stderr = take()?;
        // Until this process has the say, the file is the old one's.
        let keeps_admin_file = Arc::new(AtomicBool::new(true));
        let admin = InheritedAdmin {
            path: hello.admin.path.clone(),
            socket: take()?.into(),
            keeps_file: keeps_admin_file.clone(),
        };
        let mut inherited = Inherited { admin: vec![admin], ..Inherited::default() };
        if let Some(address) = hello.telemetry {
            inherited.telemetry.push((address, take()?.into()));
        }
        for listen in &hello.listen {
            let sockets = (0..listen.count).map(|_| take().map(TcpListener::from));
            let sockets = sockets.collect::<Result<_, _>>()?;
            inherited.listen.push(Place { configured: listen.address, sockets });
        }
        Ok(Some((Self { channel, hello, stderr, keeps_admin_file }, inherited)))
    }

    /// Whom it takes over from: process and version.
    pub fn old(&self) -> (u32, &str) {
        (self.hello.pid, &self.hello.version)
    }

    /// Whether the state that is passed on is the one that is configured.
    pub fn is_about(&self, state: &Path) -> Result<(), TakeOverError> {
        let place = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if place(&self.hello.state) == place(state) {
            return Ok(());
        }
        Err(TakeOverError::OtherState { old: self.hello.state.clone(), new: state.to_owned() })
    }

    /// Says why it will not do; the old process goes on.
    pub fn refuse(&self, why: String) {
        // It hears of our end in any case.
        let _ = self.channel.send(&Message::Refused { why });
    }

    /// Says that everything is prepared, and waits for the state: what is known of endpoints, and the lock of the state
    /// folder. The old process does not write there any more. From here on errors are said where it says its own.
    pub fn receive(&self) -> Result<(Vec<KnownHealth>, OwnedFd), TakeOverError> {
        let failed = TakeOverError::Conversation;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.channel.send(&Message::Ready { version }).map_err(failed)?;
        let health = match self.channel.hear(None).map_err(failed)? {
            Message::Yours { health } => health,
            _ => return Err(failed(io::ErrorKind::InvalidData.into())),
        };
        let lock = self.channel.take().map_err(failed)?;
        rustix::stdio::dup2_stderr(&self.stderr).map_err(|error| failed(error.into()))?;
        Ok((health, lock))
    }

    /// Says that it serves, and waits until it has the say: when the old process says so, or is gone. `admin`: where the
    /// admin socket is now.
    pub fn serves(self, control: &Control, admin: &Path) -> Relay {
        let said = self.channel.send(&Message::Serving).and_then(|()| self.channel.hear(None));
        let Admin { path, keeps_file } = &self.hello.admin;
        self.keeps_admin_file.store(*keeps_file, Ordering::Release);
        if path != admin && !keeps_file {
            // Nobody answers there any more.
            let _ = std::fs::remove_file(path);
        }
        let channel = matches!(said, Ok(Message::Gone)).then_some(self.channel);
        Relay { channel, told: control.desired() }
    }
}

/// Tells the old process, for as long as it is there, what is in force, so that a kill ends its streams, too.
pub(in crate::app) struct Relay {
    /// `None` if it is gone already.
    channel: Option<Channel>,
    /// What it knows.
    told: Arc<Desired>,
}

impl Relay {
    /// Says that changes are made again.
    pub fn is_open(&self) {
        if let Some(channel) = &self.channel {
            // It goes in any case.
            let _ = channel.send(&Message::Open);
        }
    }

    /// Goes on until the old process has gone, or this one ends.
    pub async fn run(mut self, control: Control) {
        let Some(channel) = self.channel.take() else { return };
        let mut published = control.published();
        // Whatever came before is found by the first look.
        published.mark_changed();
        while published.changed().await.is_ok() {
            let desired = control.desired();
            let is_told = |state: &Arc<ServiceState>| {
                self.told.service(&state.name).is_some_and(|told| Arc::ptr_eq(told, state))
            };
            let states = desired.services().iter().filter(|state| !is_told(state));
            let states: Vec<_> = states.map(|state| ServiceState::clone(state)).collect();
            if !states.is_empty() {
                let follow = Message::Follow { generation: control.generation(), states };
                if channel.send(&follow).is_err() {
                    return;
                }
            }
            self.told = desired;
        }
    }
}
