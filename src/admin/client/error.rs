//! Why a call did not succeed, by whose fault.

use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::admin::api::Problem;

/// Why a call did not succeed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("{}", not_running(tried))]
    NotRunning {
        /// Where somebody could have listened.
        tried: Vec<PathBuf>,
    },
    /// Somebody listens, but not to us.
    #[error("no permission on {}: {remedy}", socket.display())]
    NoPermission {
        /// Where.
        socket: PathBuf,
        /// Who may, and how to become one of them.
        remedy: String,
    },
    /// More than one daemon could be meant.
    #[error("{}", several(sockets))]
    Several {
        /// Where they listen.
        sockets: Vec<PathBuf>,
    },
    /// The daemon understood, and refused.
    #[error("{}", problem.error)]
    Refused {
        /// Why, without control characters.
        problem: Problem,
        /// The HTTP status.
        status: u16,
    },
    /// No answer in time. A change may have been made or not.
    #[error(
        "{} did not answer within {after:?}; whether anything was done is unknown, see `tidegate status`",
        socket.display()
    )]
    TimedOut {
        /// Where.
        socket: PathBuf,
        /// After how long.
        after: Duration,
    },
    /// The socket could not be used.
    #[error("connect to {}", socket.display())]
    Socket {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or whoever listens does not speak HTTP.
    #[error("{} broke off", socket.display())]
    BrokeOff {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// An answer that is not one of the admin API's: somebody else listens, or another version.
    #[error("{} does not answer as tidegate does", socket.display())]
    NotUnderstood {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An answer longer than any that the admin API gives.
    #[error("{} answers with more than {max} bytes", socket.display())]
    TooLong {
        /// Where.
        socket: PathBuf,
        /// How much is read at most.
        max: usize,
    },
    /// A request that cannot be sent.
    #[error("the request cannot be sent: is there a control character in it?")]
    NotSendable(#[source] http::Error),
    /// A request that cannot be written as JSON.
    #[error("the request cannot be written")]
    NotWritten(#[source] serde_json::Error),
    /// The operating system has no resources left for us.
    #[error("start")]
    Start(#[source] io::Error),
}

impl ClientError {
    pub(super) fn unreachable(socket: &Path, source: io::Error) -> Self {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                let remedy = remedy(&socket);
                Self::NoPermission { socket, remedy }
            }
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                Self::NotRunning { tried: vec![socket] }
            }
            _ => Self::Socket { socket, source },
        }
    }
}

/// Who may use the socket, from its mode; if its folder hides it, from the folder's.
fn remedy(socket: &Path) -> String {
    const CONNECT: u32 = 0o020;
    const ENTER: u32 = 0o010;
    let (found, for_group) = match fs::metadata(socket) {
        Ok(found) => (found, CONNECT),
        Err(_) => match socket.parent().map(fs::metadata) {
            Some(Ok(folder)) => (folder, ENTER),
            _ => return "use sudo".to_owned(),
        },
    };
    if found.mode() & for_group == 0 {
        return "only root and its owner may use it; sudo".to_owned();
    }
    let group = group_name(found.gid()).unwrap_or_else(|| found.gid().to_string());
    format!("join group {group}, or sudo")
}

fn group_name(gid: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

fn not_running(tried: &[PathBuf]) -> String {
    let mut text = "tidegate is not running: nobody answers on".to_owned();
    match tried {
        [one] => _ = write!(text, " {}", one.display()),
        many => many.iter().for_each(|socket| _ = write!(text, "\n  {}", socket.display())),
    }
    text + "\nstart it with `tidegate run -c FILE` or `tidegate demo`, or name its socket with --socket"
}

fn several(sockets: &[PathBuf]) -> String {
    let mut text = "more than one tidegate may be meant; repeat the command with one of".to_owned();
    for socket in sockets {
        _ = write!(text, "\n  --socket {}", socket.display());
    }
    text
}
