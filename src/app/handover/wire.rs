//! What the two processes say to each other: JSON with its length in front, and open files beside it.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::control::{KnownHealth, ServiceState};

/// The form of this conversation. Processes of different versions understand each other as long as it is the same.
pub(super) const PROTOCOL: u32 = 2;

/// The longest message: the whole state of some 100 000 services.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// How long the other process may not read what is written.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Something that is said.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "say")]
pub(super) enum Message {
    /// The old process: who I am and what I have. Its files follow: standard error, the admin socket, the telemetry
    /// socket if there is one, then the listening sockets in this order.
    Hello(Box<Hello>),
    /// The new one: everything is prepared.
    Ready {
        /// Its version.
        version: String,
    },
    /// The new one: it will not do.
    Refused {
        /// Why.
        why: String,
    },
    /// The old one: I write no more. The lock of the state folder follows, then my end of the conversation with each of
    /// those before me.
    Yours {
        /// What is known of endpoints.
        health: Vec<KnownHealth>,
        /// Those before me that still hold something. They know everything that is in force.
        elders: Vec<Elder>,
    },
    /// The new one: I accept connections.
    Serving,
    /// The old one: the say is yours.
    Gone,
    /// The new one: from now on I make changes.
    Open,
    /// The new one: this has changed.
    Follow {
        /// The generation in force.
        generation: u64,
        /// The services that are different.
        states: Vec<ServiceState>,
    },
    /// The old one: so far I have come.
    Followed {
        /// The generation that I was told.
        generation: u64,
        /// The tunnels that I hold.
        tunnels: u64,
        /// The other requests.
        requests: u64,
    },
    /// The new one: the service stops.
    Leave {
        /// Without waiting for what is open.
        now: bool,
    },
}

/// A process from before an upgrade.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Elder {
    pub pid: u32,
    pub version: String,
    /// When it passed everything on.
    pub since: Timestamp,
}

/// What the old process has.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Hello {
    pub protocol: u32,
    pub pid: u32,
    pub version: String,
    /// The state folder.
    pub state: PathBuf,
    pub admin: Admin,
    /// The telemetry address as it is configured.
    pub telemetry: Option<SocketAddr>,
    pub listen: Vec<Listen>,
}

/// An admin socket.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Admin {
    pub path: PathBuf,
    /// The file belongs to a service manager.
    pub keeps_file: bool,
}

/// Listening sockets of one address.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Listen {
    /// The address as it is configured.
    pub address: SocketAddr,
    /// How many.
    pub count: usize,
}

/// One end of the conversation.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        Ok(Self(stream))
    }

    /// Gives this end of the conversation away, which must pause.
    pub fn give_end_of(&self, other: &Self) -> io::Result<()> {
        self.give(other.0.as_fd())
    }

    /// Says something.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        (&self.0).write_all(&[&length.to_be_bytes(), &text[..]].concat())
    }

    /// Hears something; `None` for the time means for ever. The other end gone is `UnexpectedEof`, its silence
    /// `TimedOut`.
    pub fn hear(&self, within: Option<Duration>) -> io::Result<Message> {
        // Zero would mean for ever.
        self.0.set_read_timeout(within.map(|within| within.max(Duration::from_millis(1))))?;
        let mut length = [0; 4];
        self.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "a message that is too long"));
        }
        let mut text = vec![0; length];
        self.read_exact(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    fn read_exact(&self, bytes: &mut [u8]) -> io::Result<()> {
        (&self.0).read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        })
    }

    /// Gives a copy of an open file: one byte, so that each file comes with its own.
    pub fn give(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let files = [file];
        if !beside.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(ErrorKind::OutOfMemory.into());
        }
        let sent = sendmsg(self.0.as_fd(), &[IoSlice::new(b"f")], &mut beside, SendFlags::NOSIGNAL)?;
        if sent == 1 { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }

    /// Takes one.
    pub fn take(&self) -> io::Result<OwnedFd> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(self.0.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut beside, flags)?;
        let files = beside.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        // Without one, the limit of descriptors was met, or the other end has gone.
        files.flatten().next().ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one).unwrap(), Channel::new(other).unwrap())
    }

    #[test]
    fn files_come_in_order_between_messages() {
        let (old, new) = pair();
        let sockets: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        old.send(&Message::Gone).unwrap();
        for socket in &sockets {
            old.give(socket.as_fd()).unwrap();
        }
        old.send(&Message::Serving).unwrap();
        assert!(matches!(new.hear(None), Ok(Message::Gone)));
        for socket in &sockets {
            let taken = TcpListener::from(new.take().unwrap());
            assert_eq!(taken.local_addr().unwrap(), socket.local_addr().unwrap());
        }
        assert!(matches!(new.hear(None), Ok(Message::Serving)));
    }

    #[test]
    fn silence_and_absence_are_told_apart() {
        let (old, new) = pair();
        let kind = |heard: io::Result<Message>| heard.unwrap_err().kind();
        assert_eq!(kind(new.hear(Some(Duration::ZERO))), ErrorKind::TimedOut);
        (&old.0).write_all(b"\xff\xff\xff\xff").unwrap();
        assert_eq!(kind(new.hear(None)), ErrorKind::InvalidData);
        drop(old);
        assert_eq!(kind(new.hear(None)), ErrorKind::UnexpectedEof);
        assert_eq!(new.take().unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(new.send(&Message::Serving).is_err());
    }
}
