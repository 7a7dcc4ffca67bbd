//! A file that is worth having and not worth a lock: replaced as a whole, and given up when it is damaged.
//!
//! It has the form of the state file, header and checksum included, and no previous generation: what it
//! held is seconds old, and starting without it is safe.

use std::fs;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::disk;
use super::folder::Owned;
use super::state_file::{FILE_BYTES_MAX, decode, header};

const NAME: &str = "guards";
const TEMP: &str = "guards.tmp";
const SCHEMA: u32 = 1;

/// The reader and writer of the checkpoint.
#[derive(Debug)]
pub struct CheckpointFile {
    owned: Arc<Owned>,
}

impl CheckpointFile {
    pub(super) fn new(owned: Arc<Owned>) -> Self {
        Self { owned }
    }

    /// What was saved last; `None` if nothing was. A damaged file is set aside, and the error says in words what was
    /// wrong with it.
    pub fn load(&self) -> Result<Option<Vec<u8>>, String> {
        let bytes = match fs::symlink_metadata(self.owned.path.join(NAME)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Ok(metadata) if !metadata.is_file() => {
                return Err(self.away(format!("{NAME} is no regular file")));
            }
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(self.away(format!("{NAME} has more than 256 MiB")));
            }
            Err(error) => return Err(self.away(format!("{NAME}: {error}"))),
            Ok(_) => {
                fs::read(self.owned.path.join(NAME)).map_err(|error| self.away(format!("{NAME}: {error}")))?
            }
        };
        match decode(bytes) {
            Ok((SCHEMA, payload)) => Ok(Some(payload)),
            Ok((schema, _)) => {
                Err(self.away(format!("{NAME} has schema {schema}, this version reads {SCHEMA}")))
            }
            Err(damage) => Err(self.away(format!("{NAME} {damage}"))),
        }
    }

    /// Replaces it. When it returns `Ok`, the disk has it; after an error it is as it was.
    pub fn save(&mut self, payload: &[u8]) -> io::Result<()> {
        let (temp, file) = (self.owned.path.join(TEMP), self.owned.path.join(NAME));
        let written = disk::write_durably(&temp, &[header(SCHEMA, payload).as_bytes(), payload])
            .and_then(|()| fs::rename(&temp, &file));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = disk::remove_if_there(&temp);
        }
        written.and_then(|()| disk::sync_folder(&self.owned.path))
    }

    fn away(&self, why: String) -> String {
        // If it stays, the next save replaces it.
        let _ = disk::set_aside(&self.owned.path, NAME);
        why
    }
}

#[cfg(test)]
mod tests {
    use super::super::StateFolder;
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_the_newest_wins() {
        let place = tempfile::tempdir().unwrap();
        let mut file = StateFolder::open(place.path()).unwrap().checkpoint_file();
        assert_eq!(file.load(), Ok(None));
        for payload in [&b"one"[..], b"", b"two\nlines"] {
            file.save(payload).unwrap();
            assert_eq!(file.load(), Ok(Some(payload.to_vec())));
        }
        assert!(!place.path().join(TEMP).exists());
    }

    #[test]
    fn a_torn_or_flipped_file_is_set_aside_and_said() {
        let place = tempfile::tempdir().unwrap();
        let mut file = StateFolder::open(place.path()).unwrap().checkpoint_file();
        file.save(b"evidence").unwrap();
        let whole = fs::read(place.path().join(NAME)).unwrap();
        for spoiled in 0..whole.len() {
            fs::write(place.path().join(NAME), &whole[..spoiled]).unwrap();
            file.load().unwrap_err();
            assert!(!place.path().join(NAME).exists(), "torn at {spoiled}");
            let mut flipped = whole.clone();
            flipped[spoiled] ^= 0x20;
            fs::write(place.path().join(NAME), flipped).unwrap();
            file.load().unwrap_err();
        }
        assert_eq!(file.load(), Ok(None));
        file.save(b"again").unwrap();
        assert_eq!(file.load(), Ok(Some(b"again".to_vec())));
    }

    #[test]
    fn a_save_that_fails_leaves_it_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let mut file = StateFolder::open(place.path()).unwrap().checkpoint_file();
        file.save(b"one").unwrap();
        fs::create_dir(place.path().join(TEMP)).unwrap();
        file.save(b"two").unwrap_err();
        assert_eq!(file.load(), Ok(Some(b"one".to_vec())));
    }
}
