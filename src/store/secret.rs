//! Secrets that are made once and that only the owner may read.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::disk;

const BYTES_MIN: usize = 32;
const BYTES_MAX: u64 = 4096;

/// Why a secret cannot be used.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Others may read or change it, so it may be no secret any more.
    #[error("secret {} is open to others (mode {mode:04o}); run `chmod 600` on it, or remove it to have a new one made", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Cut, or too large to be meant.
    #[error("secret {} has {bytes} bytes, and a secret has 32 to 4096; remove it to have a new one made", path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It cannot be read or made.
    #[error("secret {} cannot be read or made; look at the state folder's owner, mode and free space", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

pub(super) fn read_or_make(
    folder: &Path,
    name: &str,
    make: impl FnOnce() -> [u8; 32],
) -> Result<Vec<u8>, SecretError> {
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let secret = make();
            return keep(folder, name, &secret)
                .map(|()| secret.to_vec())
                .map_err(|source| SecretError::Io { path, source });
        }
        Err(source) => return Err(SecretError::Io { path, source }),
    };
    let (metadata, secret) = match read(file) {
        Ok(read) => read,
        Err(source) => return Err(SecretError::Io { path, source }),
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path, mode });
    }
    if secret.len() < BYTES_MIN || secret.len() as u64 > BYTES_MAX {
        return Err(SecretError::WrongSize { path, bytes: metadata.len() });
    }
    Ok(secret)
}

fn read(file: File) -> io::Result<(fs::Metadata, Vec<u8>)> {
    let metadata = file.metadata()?;
    let mut secret = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut secret)?;
    Ok((metadata, secret))
}

/// Under its name only when whole: a crash must not leave half a secret.
fn keep(folder: &Path, name: &str, secret: &[u8]) -> io::Result<()> {
    let temp = folder.join(format!("{name}.tmp"));
    let kept = disk::write_durably(&temp, &[secret])
        .and_then(|()| fs::rename(&temp, folder.join(name)))
        .and_then(|()| disk::sync_folder(folder));
    if kept.is_err() {
        // The first error is the one to tell.
        let _ = disk::remove_if_there(&temp);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_for_the_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        // A half-written one of an earlier start is in the way.
        fs::write(place.path().join("cookie.key.tmp"), "half").unwrap();
        assert_eq!(read_or_make(place.path(), "cookie.key", || [7; 32]).unwrap(), [7; 32]);
        let made_again = || panic!("it is there");
        assert_eq!(read_or_make(place.path(), "cookie.key", made_again).unwrap(), [7; 32]);
        let path = place.path().join("cookie.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!place.path().join("cookie.key.tmp").exists());
    }

    #[test]
    fn what_others_may_read_or_is_cut_is_refused() {
        #[track_caller]
        fn check(mode: u32, bytes: usize, expected: Result<(), &str>) {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("key");
            fs::write(&path, vec![1; bytes]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let got = read_or_make(place.path(), "key", || panic!("it is there"));
            let shown = got.as_ref().map_err(ToString::to_string).map(|_| ());
            let shown = shown.map_err(|text| text.replace(&path.display().to_string(), "key"));
            assert_eq!(shown, expected.map_err(str::to_owned));
        }
        let open = |mode| {
            format!(
                "secret key is open to others (mode {mode}); run `chmod 600` on it, or remove it to have a \
                 new one made"
            )
        };
        let size = |bytes| {
            format!(
                "secret key has {bytes} bytes, and a secret has 32 to 4096; remove it to have a new one made"
            )
        };
        check(0o600, 32, Ok(()));
        check(0o400, 64, Ok(()));
        check(0o640, 32, Err(&open("0640")));
        check(0o604, 32, Err(&open("0604")));
        check(0o620, 32, Err(&open("0620")));
        check(0o600, 0, Err(&size(0)));
        check(0o600, 31, Err(&size(31)));
        check(0o600, 4096, Ok(()));
        check(0o600, 5000, Err(&size(5000)));
    }
}
