//! The socket: made so that at no moment anybody else can connect.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::fs::{Gid, Mode};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::patience::Patient;
use super::routes::{Peer, Ties, router};

/// Connections at once; more are closed at once.
const CONNECTIONS_MAX: usize = 1024;
/// How long a client may take for a request's head, or keep an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take nothing of its answer.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How long answers that are under way at the end may take.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Why there is no admin socket.
#[derive(Debug, Error)]
pub enum AdminError {
    /// Another process answers on it.
    #[error("another tidegate answers on {}; stop it, or give this one a socket of its own with --socket", .0.display())]
    InUse(PathBuf),
    /// Another process may answer on it, and cannot be asked.
    #[error("cannot tell whether another tidegate answers on {}; stop it, or choose another path with --socket", .0.display())]
    Unclear(PathBuf, #[source] io::Error),
    /// What is there is not a socket.
    #[error("{} exists and is not a socket; move it away, or choose another path with --socket", .0.display())]
    NotASocket(PathBuf),
    /// No such group.
    #[error("there is no group {0:?}; create it, or leave admin.group out")]
    NoGroup(String),
    /// Something with the files.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        #[source]
        source: io::Error,
    },
}

/// The bound socket. Its file is removed when this is dropped, unless it is somebody else's by then.
#[derive(Debug)]
pub struct AdminListener {
    socket: std::os::unix::net::UnixListener,
    path: PathBuf,
    inode: u64,
    keeps_file: Arc<AtomicBool>,
}

impl AdminListener {
    /// Binds `path`, in a folder that is made with mode 0750 if it is missing. The socket is 0600, or 0660
    /// for `group`. The umask is narrowed while binding, so call it before other threads make files.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, AdminError> {
        let io = |what| {
            let path = path.to_owned();
            move |source| AdminError::Io { what, path, source }
        };
        let group = group.map(gid).transpose()?;
        if let Some(folder) =
            path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(folder)
                .map_err(io("create the folder of"))?;
            if let Some(group) = group {
                rustix::fs::chown(folder, None, Some(group))
                    .map_err(|error| io("give to its group")(error.into()))?;
            }
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(AdminError::NotASocket(path.to_owned()));
            }
            Ok(_) => match knock(path) {
                // A full backlog is somebody's, even if they are too busy, or stopped, to answer.
                Ok(()) => return Err(AdminError::InUse(path.to_owned())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(AdminError::InUse(path.to_owned()));
                }
                // What a process that was killed left behind.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(io("replace"))?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(AdminError::Unclear(path.to_owned(), error)),
            },
            Err(_) => {}
        }
        let umask = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = std::os::unix::net::UnixListener::bind(path);
        rustix::process::umask(umask);
        let socket = bound.map_err(io("bind"))?;
        Self::on(socket, path, group, Arc::default())
    }

    /// Takes over a socket that listens on `path` already. Its mode becomes the same as if it were bound here.
    /// As long as `keeps_file`, the file belongs to somebody else and is not removed.
    pub fn adopt(
        socket: std::os::unix::net::UnixListener,
        path: &Path,
        group: Option<&str>,
        keeps_file: Arc<AtomicBool>,
    ) -> Result<Self, AdminError> {
        let group = group.map(gid).transpose()?;
        if group.is_none() {
            let path = path.to_owned();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .map_err(|source| AdminError::Io { what: "close to others", path, source })?;
        }
        Self::on(socket, path, group, keeps_file)
    }

    fn on(
        socket: std::os::unix::net::UnixListener,
        path: &Path,
        group: Option<Gid>,
        keeps_file: Arc<AtomicBool>,
    ) -> Result<Self, AdminError> {
        let io = |what| {
            let path = path.to_owned();
            move |source| AdminError::Io { what, path, source }
        };
        if let Some(group) = group {
            rustix::fs::chown(path, None, Some(group))
                .map_err(|error| io("give to its group")(error.into()))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(io("open to its group"))?;
        }
        socket.set_nonblocking(true).map_err(io("prepare"))?;
        let inode = fs::symlink_metadata(path).map_err(io("look at"))?.ino();
        Ok(Self { socket, path: path.to_owned(), inode, keeps_file })
    }

    /// A copy of the socket, for a process that takes over, and whether its file belongs to somebody else.
    pub fn share(&self) -> io::Result<(std::os::unix::net::UnixListener, Arc<AtomicBool>)> {
        Ok((self.socket.try_clone()?, self.keeps_file.clone()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until `ending`; answers that are under way then have a second. From `passed_on` on somebody else accepts
    /// connections, and the file is theirs; answers that are under way go on until `ending`.
    pub async fn serve(
        self,
        ties: Ties,
        passed_on: impl Future<Output = ()>,
        ending: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let router = router(Arc::new(ties));
        let (stop, stopping) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut ending = pin!(ending);
        tokio::select! {
            accepted = self.accept(router, &mut connections, stopping, passed_on) => {
                accepted?;
                // Whoever keeps a connection is to find the one who has the say.
                drop(stop);
                ending.await;
            }
            () = &mut ending => drop(stop),
        }
        let ended = async { while connections.join_next().await.is_some() {} };
        // Whoever still has no answer by then has not asked in time, or follows along.
        let _ = tokio::time::timeout(LAST_ANSWERS, ended).await;
        Ok(())
    }

    /// Accepts until `passed_on`.
    async fn accept(
        self,
        router: Router,
        connections: &mut JoinSet<()>,
        stopping: watch::Receiver<()>,
        passed_on: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let listener = UnixListener::from_std(self.socket.try_clone()?)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut passed_on = pin!(passed_on);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut passed_on => {
                    self.keeps_file.store(true, Ordering::Release);
                    return Ok(());
                }
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of descriptors, most likely. Trying again at once would only spin.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let (router, stopping) = (router.clone(), stopping.clone());
            connections.spawn(async move {
                serve_one(stream, router, stopping).await;
                drop(place);
            });
        }
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        // Only our own: somebody else may have bound the path meanwhile.
        if !self.keeps_file.load(Ordering::Acquire)
            && fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn serve_one(stream: UnixStream, router: Router, mut stopping: watch::Receiver<()>) {
    let peer = Peer::of(&stream);
    let service = TowerToHyperService::new(router.layer(axum::Extension(peer)));
    let mut serving = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(Patient::new(stream, WRITE_PATIENCE)), service)
    );
    // A client that goes away is not an error of ours.
    tokio::select! {
        _ = serving.as_mut() => return,
        // Nothing is ever sent: the other end goes.
        _ = stopping.changed() => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await;
}

/// Connects without waiting.
fn knock(path: &Path) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&socket2::SockAddr::unix(path)?)
}

/// The id of a group, from the system's list of groups.
fn gid(name: &str) -> Result<Gid, AdminError> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
        })
        .next()
        .map(Gid::from_raw)
        .ok_or_else(|| AdminError::NoGroup(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_private_and_leaves_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/admin.sock");
        let listener = AdminListener::bind(&path, None).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o750);
        assert!(matches!(AdminListener::bind(&path, None), Err(AdminError::InUse(_))));
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_daemon_that_is_too_busy_to_answer_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let busy = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        busy.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        busy.listen(0).unwrap();
        let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(knock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(AdminListener::bind(&path, None), Err(AdminError::InUse(_))));
        assert!(path.exists());

        let other = folder.path().join("other.sock");
        let _datagrams = std::os::unix::net::UnixDatagram::bind(&other).unwrap();
        assert!(matches!(AdminListener::bind(&other, None), Err(AdminError::Unclear(..))));
        assert!(other.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(AdminListener::bind(&path, None).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(AdminListener::bind(&path, None), Err(AdminError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let missing = AdminListener::bind(&folder.path().join("x.sock"), Some("no-such-group"));
        assert!(matches!(missing, Err(AdminError::NoGroup(_))));
    }
}
