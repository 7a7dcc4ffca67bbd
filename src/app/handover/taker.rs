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

use super::relay::Link;
use super::wire::{Admin, Channel, Elder, Hello, Message, PROTOCOL};
use crate::clock;
use crate::control::{Control, KnownHealth};
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

/// What is taken over at last.
pub(in crate::app) struct Taken {
    /// What is known of endpoints.
    pub health: Vec<KnownHealth>,
    /// The lock of the state folder.
    pub lock: OwnedFd,
    /// Those before the old process.
    pub elders: Elders,
}

/// Conversations with processes that have passed everything on before.
pub(in crate::app) struct Elders(Vec<(Elder, Channel)>);

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

    /// Says that everything is prepared, and waits for the state. The old process does not write there any more. From
    /// here on errors are said where it says its own.
    pub fn receive(&self) -> Result<Taken, TakeOverError> {
        let failed = TakeOverError::Conversation;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.channel.send(&Message::Ready { version }).map_err(failed)?;
        let (health, elders) = match self.channel.hear(None).map_err(failed)? {
            Message::Yours { health, elders } => (health, elders),
            _ => return Err(failed(io::ErrorKind::InvalidData.into())),
        };
        let lock = self.channel.take().map_err(failed)?;
        let take = |elder| Ok((elder, Channel::new(self.channel.take()?.into())?));
        let elders = elders.into_iter().map(take).collect::<io::Result<_>>().map_err(failed)?;
        rustix::stdio::dup2_stderr(&self.stderr).map_err(|error| failed(error.into()))?;
        Ok(Taken { health, lock, elders: Elders(elders) })
    }

    /// Says that it serves, and waits until it has the say: when the old process says so, or is gone. `admin`: where the
    /// admin socket is now. Every change waits for those before from now on. The old process is the last of them, and
    /// waits to hear that this one is open.
    pub fn serves(self, elders: Elders, control: &Control, admin: &Path) -> Vec<Link> {
        let said = self.channel.send(&Message::Serving).and_then(|()| self.channel.hear(None));
        let Admin { path, keeps_file } = &self.hello.admin;
        self.keeps_admin_file.store(*keeps_file, Ordering::Release);
        if path != admin && !keeps_file {
            // Nobody answers there any more.
            let _ = std::fs::remove_file(path);
        }
        let Hello { pid, version, .. } = *self.hello;
        let elder = Elder { pid, version, since: clock::wall() };
        let old = matches!(said, Ok(Message::Gone)).then_some((elder, self.channel));
        let all = elders.0.into_iter().chain(old);
        all.map(|(elder, channel)| Link::new(elder, channel, control)).collect()
    }
}
