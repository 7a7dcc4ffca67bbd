//! One process owns the folder, and knows from the start that it can write there.
//!
//! Ownership is an advisory lock (`flock`) on the file `lock`, which the kernel lets go of however the
//! process ends; the pid inside is only for people. Every writer keeps the lock too, so a saver thread
//! that outlives the [`StateFolder`] still keeps others out. A full disk does not stop a start: what
//! was saved can be read, and the kill file needs no room.
//!
//! The lock can be shared with a process that takes over: it belongs to the open file, not to the process, so there
//! is no moment at which nobody holds it, and it is free only when both are gone. Who of the two writes is theirs to
//! agree on.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use thiserror::Error;

use super::recover::{self, MIGRATIONS};
use super::state_file::STATE;
use super::{
    AuditLimits, AuditLog, AuditReader, CheckpointFile, JournalReader, Journals, RecordLimits, RecordLog,
    RecordReader, RecoverError, Recovered, SecretError, SlotFile, StateFile, disk, secret,
};

const LOCK: &str = "lock";
const KILLS: &str = "kills";
const PROBE: &str = "probe.tmp";

/// Why a state folder cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It does not exist and cannot be made.
    #[error("state folder {} cannot be created; create it for the user that runs tidegate, or name another with `state:`", path.display())]
    NotCreated {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It exists and cannot be written.
    #[error("state folder {} cannot be written; make it belong to the user that runs tidegate, on a disk that is not read-only", path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process has it.
    #[error("state folder {} is in use by {}; stop it first, or give this one a folder of its own with `state:`", path.display(), owner(*pid))]
    AlreadyOwned {
        /// The folder.
        path: PathBuf,
        /// The process that has it, if it said so.
        pid: Option<u32>,
    },
    /// The file system does not lock files.
    #[error("{} cannot be locked; keep the state folder on a local disk", path.display())]
    NotLockable {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// What was passed on is the lock of another folder.
    #[error("the lock that was handed over is not that of state folder {}; it needs a restart to move", path.display())]
    NotItsLock {
        /// The folder.
        path: PathBuf,
    },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// The state folder of this process.
#[derive(Debug)]
pub struct StateFolder {
    pub(super) owned: Arc<Owned>,
}

/// The lock and what it covers, shared by all writers.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) path: PathBuf,
    /// Whether a state was ever kept here before this process came.
    pub(super) was_used: bool,
    lock: File,
}

impl StateFolder {
    /// Creates the folder with mode 0700 if it is missing, takes its lock and tries that it can be
    /// written. That the disk is full is no error here; saving will say so.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let not_writable = |source| OpenError::NotWritable { path: path.to_owned(), source };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| OpenError::NotCreated { path: path.to_owned(), source })?;
        let lock = take_lock(path)?;
        probe(path).map_err(not_writable)?;
        let was_used = has_traces(path).map_err(not_writable)?;
        Ok(Self { owned: Arc::new(Owned { path: path.to_owned(), was_used, lock }) })
    }

    /// Takes over a folder from the process that shared its `lock` and writes no more.
    pub fn take_over(path: &Path, lock: OwnedFd) -> Result<Self, OpenError> {
        let not_writable = |source| OpenError::NotWritable { path: path.to_owned(), source };
        let lock = File::from(lock);
        let (held, there) = (lock.metadata(), fs::metadata(path.join(LOCK)));
        let place = |file: fs::Metadata| (file.dev(), file.ino());
        if held.map(place).map_err(not_writable)? != there.map(place).map_err(not_writable)? {
            return Err(OpenError::NotItsLock { path: path.to_owned() });
        }
        probe(path).map_err(not_writable)?;
        let was_used = has_traces(path).map_err(not_writable)?;
        sign(&lock);
        Ok(Self { owned: Arc::new(Owned { path: path.to_owned(), was_used, lock }) })
    }

    /// The lock, for the process that takes over: held for as long as either has it.
    pub fn share_lock(&self) -> io::Result<OwnedFd> {
        self.owned.lock.try_clone().map(OwnedFd::from)
    }

    /// Puts this process's id into the lock file again, after somebody else had taken over and is gone.
    pub fn sign_lock(&self) {
        sign(&self.owned.lock);
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.owned.path
    }

    /// Reads the newest state that is whole, and says where it comes from. Damaged files are set aside.
    /// Call it before anything is saved.
    pub fn recover(&self) -> Result<Recovered, RecoverError> {
        recover::recover(&self.owned, MIGRATIONS)
    }

    /// The writer of the state. Have one, on the thread that saves.
    pub fn state_file(&self) -> StateFile {
        StateFile::new(self.owned.clone())
    }

    /// The kill locks' own file, `kills`, made if missing (the only time when it needs room on the disk).
    pub fn kill_file(&self) -> io::Result<SlotFile> {
        SlotFile::open(self.owned.clone(), KILLS)
    }

    /// The writer of the audit log. Have one.
    pub fn audit_log(&self, limits: AuditLimits) -> io::Result<AuditLog> {
        AuditLog::open(self.owned.clone(), limits)
    }

    /// A reader of the audit log; it may be cloned and used beside the writer.
    pub fn audit_reader(&self) -> AuditReader {
        AuditReader::new(&self.owned.path)
    }

    /// The checkpoint of running evidence. Have one.
    pub fn checkpoint_file(&self) -> CheckpointFile {
        CheckpointFile::new(self.owned.clone())
    }

    /// The writer of the rollouts' records. Have one.
    pub fn record_log(&self, limits: RecordLimits) -> RecordLog {
        RecordLog::new(self.owned.clone(), limits)
    }

    /// A reader of the rollouts' records; it may be cloned and used beside the writer.
    pub fn record_reader(&self) -> RecordReader {
        RecordReader::new(&self.owned.path)
    }

    /// The writer of the launches' journals. Have one.
    pub fn journals(&self) -> Journals {
        Journals::new(self.owned.clone())
    }

    /// A reader of the launches' journals; it may be cloned and used beside the writer.
    pub fn journal_reader(&self) -> JournalReader {
        JournalReader::new(&self.owned.path)
    }

    /// Reads the secret in the file `name` of this folder; if there is none, keeps what `make` gives, with
    /// mode 0600. Refuses a file that others may read, and one of less than 32 bytes.
    pub fn secret(&self, name: &str, make: impl FnOnce() -> [u8; 32]) -> Result<Vec<u8>, SecretError> {
        secret::read_or_make(&self.owned.path, name, make)
    }
}

fn take_lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| OpenError::NotWritable { path: folder.to_owned(), source })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let pid = file.by_ref().take(32).read_to_string(&mut text).ok();
            let pid = pid.and_then(|_| text.trim().parse().ok());
            return Err(OpenError::AlreadyOwned { path: folder.to_owned(), pid });
        }
        Err(errno) => return Err(OpenError::NotLockable { path, source: errno.into() }),
    }
    sign(&file);
    Ok(file)
}

/// The pid helps people and decides nothing, so a full disk may lose it.
fn sign(lock: &File) {
    let pid = format!("{}\n", std::process::id());
    let _ = lock.set_len(0).and_then(|()| lock.write_all_at(pid.as_bytes(), 0));
}

fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(PROBE);
    let written = fs::write(&path, b"can this folder be written?\n");
    let removed = disk::remove_if_there(&path);
    match written {
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => removed,
    }
}

/// Whether state, an attempt to save one, a damaged one or kill locks are here.
fn has_traces(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name == KILLS || name.as_encoded_bytes().starts_with(STATE.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_missing_folder_is_made_for_the_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("var/lib/tidegate");
        let folder = StateFolder::open(&path).unwrap();
        assert_eq!(folder.path(), path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(path.join("lock")).unwrap(), format!("{}\n", std::process::id()));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "the probe is gone");
    }

    #[test]
    fn a_second_owner_is_refused_until_the_last_writer_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let refused = || match StateFolder::open(place.path()) {
            Err(OpenError::AlreadyOwned { pid, .. }) => pid == Some(std::process::id()),
            _ => false,
        };
        let folder = StateFolder::open(place.path()).unwrap();
        assert!(refused());
        let saver = folder.state_file();
        drop(folder);
        assert!(refused(), "the saver still writes");
        drop(saver);
        assert!(StateFolder::open(place.path()).is_ok());
    }

    #[test]
    fn a_shared_lock_is_held_until_both_are_gone() {
        let place = tempfile::tempdir().unwrap();
        let old = StateFolder::open(place.path()).unwrap();
        let new = StateFolder::take_over(place.path(), old.share_lock().unwrap()).unwrap();
        drop(old);
        assert!(matches!(StateFolder::open(place.path()), Err(OpenError::AlreadyOwned { .. })));
        let saver = new.state_file();
        drop(new);
        assert!(matches!(StateFolder::open(place.path()), Err(OpenError::AlreadyOwned { .. })));
        drop(saver);
        StateFolder::open(place.path()).unwrap();
    }

    #[test]
    fn the_lock_of_another_folder_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, _held) = (StateFolder::open(one.path()).unwrap(), StateFolder::open(other.path()).unwrap());
        let taken = StateFolder::take_over(other.path(), one.share_lock().unwrap());
        assert!(matches!(taken, Err(OpenError::NotItsLock { .. })));
    }

    #[test]
    fn the_refusal_names_folder_and_process() {
        let error = OpenError::AlreadyOwned { path: "/var/lib/tidegate".into(), pid: Some(7) };
        let expected = "state folder /var/lib/tidegate is in use by process 7; stop it first, or give this one \
                        a folder of its own with `state:`";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn what_is_no_folder_or_cannot_be_written_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(StateFolder::open(&file), Err(OpenError::NotCreated { .. })));
        // Folders in the way of the files fail for root as well, unlike missing permissions.
        for in_the_way in [LOCK, PROBE] {
            let path = place.path().join(format!("with-{in_the_way}"));
            fs::create_dir_all(path.join(in_the_way)).unwrap();
            let error = StateFolder::open(&path).unwrap_err();
            assert!(matches!(error, OpenError::NotWritable { .. }), "{in_the_way}: {error}");
        }
    }
}
