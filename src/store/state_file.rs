//! The state on disk: replaced as a whole or not at all.
//!
//! The first line is `tidegate-state SCHEMA SHA256 LENGTH`, the rest is the payload. The digest covers
//! schema, length and payload, so a flipped bit in the schema is damage and not a file from the future.
//! This line keeps its form in every schema.
//!
//! A save is a list of [`Step`]s, each of which a crash may follow: `state` is whole after every one of
//! them, because the current state gets its second name *before* the new one takes the first.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::disk;
use super::folder::Owned;

pub(super) const STATE: &str = "state";
pub(super) const PREVIOUS: &str = "state.previous";
const TEMP: &str = "state.tmp";
/// The current state under the second name that is about to become [`PREVIOUS`].
const KEPT: &str = "state.keep";

const MAGIC: &str = "tidegate-state";
/// A header is 90 bytes and the digits of two numbers.
const HEADER_BYTES_MAX: usize = 128;
/// Larger state files are neither written nor read: 256 MiB.
pub(super) const FILE_BYTES_MAX: u64 = 256 << 20;
const PAYLOAD_BYTES_MAX: u64 = FILE_BYTES_MAX - HEADER_BYTES_MAX as u64;

/// The writer of the state file.
#[derive(Debug)]
pub struct StateFile {
    owned: Arc<Owned>,
}

impl StateFile {
    pub(super) fn new(owned: Arc<Owned>) -> Self {
        Self { owned }
    }

    /// Replaces the state and keeps the one before. When it returns `Ok`, the disk has it.
    ///
    /// After an error (disk full, read-only, broken) `state` is as it was and nothing is left lying
    /// about, save when the very last step, the sync of the folder, is what failed: then a crash may
    /// bring back either. Try again with the newest payload. Above 256 MiB: `InvalidInput`.
    pub fn save(&mut self, payload: &[u8]) -> io::Result<()> {
        let done = STEPS.iter().try_for_each(|step| self.perform(*step, payload));
        if done.is_err() {
            // The first error is the one to tell, and the next save removes leftovers as well.
            let _ = disk::remove_if_there(&self.file(TEMP));
            let _ = disk::remove_if_there(&self.file(KEPT));
        }
        done
    }

    fn perform(&self, step: Step, payload: &[u8]) -> io::Result<()> {
        match step {
            Step::WriteTemp => {
                if payload.len() as u64 > PAYLOAD_BYTES_MAX {
                    return Err(io::Error::new(ErrorKind::InvalidInput, "state of more than 256 MiB"));
                }
                let header = header(super::recover::SCHEMA, payload);
                disk::write_durably(&self.file(TEMP), &[header.as_bytes(), payload])
            }
            Step::KeepCurrent => self.keep_current(),
            // When both are names of one file already, this does nothing and leaves the name there.
            Step::DisplacePrevious => match fs::rename(self.file(KEPT), self.file(PREVIOUS)) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                other => other.and_then(|()| disk::remove_if_there(&self.file(KEPT))),
            },
            Step::ReplaceCurrent => fs::rename(self.file(TEMP), self.file(STATE)),
            Step::SyncFolder => disk::sync_folder(&self.owned.path),
        }
    }

    fn keep_current(&self) -> io::Result<()> {
        let (current, kept) = (self.file(STATE), self.file(KEPT));
        disk::remove_if_there(&kept)?;
        match fs::hard_link(&current, &kept) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            // Not every file system has hard links.
            Err(_) => {
                fs::copy(&current, &kept)?;
                File::open(&kept)?.sync_all()
            }
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.owned.path.join(name)
    }
}

/// One step of a save.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The new state is on the disk, under a name that nobody reads.
    WriteTemp,
    /// The current state has a second name.
    KeepCurrent,
    /// The current state is also the previous one.
    DisplacePrevious,
    /// The new state is the current one.
    ReplaceCurrent,
    /// And stays so.
    SyncFolder,
}

const STEPS: [Step; 5] =
    [Step::WriteTemp, Step::KeepCurrent, Step::DisplacePrevious, Step::ReplaceCurrent, Step::SyncFolder];

/// Why the bytes of a state file are not to be trusted.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum Damage {
    #[error("is empty")]
    Empty,
    #[error("does not start like a state file")]
    Header,
    #[error("should have {declared} bytes of payload and has {found}")]
    Length { declared: u64, found: u64 },
    #[error("does not match its checksum")]
    Checksum,
    #[error("has more than 256 MiB")]
    TooLarge,
    #[error("is not a regular file")]
    NotAFile,
    #[error("cannot be read from the disk")]
    Unreadable,
    #[error("has schema {0}, which never existed")]
    UnknownSchema(u32),
    #[error("cannot be brought from schema {schema} to the present: {why}")]
    Migration { schema: u32, why: String },
}

/// The line before the payload.
pub(super) fn header(schema: u32, payload: &[u8]) -> String {
    use std::fmt::Write as _;

    let length = payload.len();
    let digest =
        Sha256::new().chain_update(format!("{MAGIC} {schema} {length}\n")).chain_update(payload).finalize();
    let mut header = format!("{MAGIC} {schema} ");
    for byte in digest {
        // Writing to a String cannot fail.
        let _ = write!(header, "{byte:02x}");
    }
    let _ = writeln!(header, " {length}");
    header
}

/// Schema and payload of a state file.
pub(super) fn decode(mut bytes: Vec<u8>) -> Result<(u32, Vec<u8>), Damage> {
    if bytes.is_empty() {
        return Err(Damage::Empty);
    }
    let end = bytes.iter().take(HEADER_BYTES_MAX).position(|byte| *byte == b'\n').ok_or(Damage::Header)?;
    let line: Vec<u8> = bytes.drain(..=end).collect();
    let line = str::from_utf8(&line).map_err(|_| Damage::Header)?;
    let mut words = line.trim_end_matches('\n').split(' ');
    let (Some(MAGIC), Some(schema), Some(_digest), Some(length), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Damage::Header);
    };
    let schema: u32 = schema.parse().map_err(|_| Damage::Header)?;
    let declared: u64 = length.parse().map_err(|_| Damage::Header)?;
    let found = bytes.len() as u64;
    if declared != found {
        return Err(Damage::Length { declared, found });
    }
    // Compared as text, so that a header has one spelling.
    if line != header(schema, &bytes) {
        return Err(Damage::Checksum);
    }
    Ok((schema, bytes))
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, Recovered, StateFolder};
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn open(place: &Path) -> StateFolder {
        StateFolder::open(place).unwrap()
    }

    fn names(place: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_saved_is_recovered() {
        let place = tempfile::tempdir().unwrap();
        for payload in [&b"{}"[..], b"", b"\n\n", b"\xff\x00", &[b'x'; 1 << 20]] {
            open(place.path()).state_file().save(payload).unwrap();
            let expected = Recovered { payload: Some(payload.to_vec()), origin: Origin::Current };
            assert_eq!(open(place.path()).recover().unwrap(), expected);
        }
        assert_eq!(names(place.path()), ["lock", "state", "state.previous"]);
    }

    #[test]
    fn the_first_line_is_as_documented() {
        // printf 'tidegate-state 1 2\n{}' | sha256sum
        let digest = "a2dc1a41a8a3776fa085ab9bb9217862bd0db1507e485f3b3241eddf86d3f8ca";
        assert_eq!(header(1, b"{}"), format!("tidegate-state 1 {digest} 2\n"));
    }

    #[test]
    fn the_one_before_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let mut file = open(place.path()).state_file();
        for payload in [b"one", b"two"] {
            file.save(payload).unwrap();
        }
        let read = |name| decode(fs::read(place.path().join(name)).unwrap()).unwrap().1;
        assert_eq!((read(STATE), read(PREVIOUS)), (b"two".to_vec(), b"one".to_vec()));
    }

    #[test]
    fn a_failed_save_leaves_all_as_it_was_and_the_next_one_works() {
        // A folder in the way of a file fails for every user, as a full disk would.
        for in_the_way in [TEMP, KEPT] {
            let place = tempfile::tempdir().unwrap();
            let mut file = open(place.path()).state_file();
            file.save(b"one").unwrap();
            file.save(b"two").unwrap();
            let content = || [STATE, PREVIOUS].map(|name| fs::read(place.path().join(name)).unwrap());
            let before = content();
            fs::create_dir(place.path().join(in_the_way)).unwrap();
            file.save(b"three").unwrap_err();
            assert_eq!(content(), before, "{in_the_way}");
            fs::remove_dir(place.path().join(in_the_way)).unwrap();
            assert_eq!(names(place.path()), ["lock", "state", "state.previous"], "{in_the_way}");
            file.save(b"four").unwrap();
            drop(file);
            assert_eq!(open(place.path()).recover().unwrap().payload.unwrap(), b"four");
        }
    }

    #[test]
    fn a_state_too_large_to_read_is_not_written() {
        let place = tempfile::tempdir().unwrap();
        let mut file = open(place.path()).state_file();
        // Zeroed memory that nobody touches costs nothing.
        let error = file.save(&vec![0; FILE_BYTES_MAX as usize]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(names(place.path()), ["lock"]);
    }

    #[derive(Clone, Debug)]
    enum Happening {
        Save,
        /// Only so many steps are made; the temp file, if it was not yet waited for, is cut.
        Crash {
            steps: usize,
            cut: Option<usize>,
        },
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            Just(Happening::Save),
            (0..=STEPS.len()).prop_map(|steps| Happening::Crash { steps, cut: None }),
            (0usize..120).prop_map(|cut| Happening::Crash { steps: 1, cut: Some(cut) }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_crash_after_any_step_recovers_the_last_saved_or_the_one_being_saved(
            happenings in proptest::collection::vec(happening(), 1..12)
        ) {
            let place = tempfile::tempdir().unwrap();
            let mut last: Option<Vec<u8>> = None;
            for (number, happening) in happenings.into_iter().enumerate() {
                let payload = format!("state number {number}").into_bytes();
                let mut file = open(place.path()).state_file();
                match happening {
                    Happening::Save => {
                        file.save(&payload).unwrap();
                        let left = names(place.path());
                        prop_assert!(!left.iter().any(|name| name == TEMP || name == KEPT), "{left:?}");
                        last = Some(payload.clone());
                    }
                    Happening::Crash { steps, cut } => {
                        for step in &STEPS[..steps] {
                            file.perform(*step, &payload).unwrap();
                        }
                        if let Some(cut) = cut {
                            let temp = fs::OpenOptions::new().write(true).open(file.file(TEMP)).unwrap();
                            let length = temp.metadata().unwrap().len();
                            temp.set_len(length.min(cut as u64)).unwrap();
                        }
                    }
                }
                drop(file);
                let Recovered { payload: found, origin } = open(place.path()).recover().unwrap();
                prop_assert!(found == last || found.as_ref() == Some(&payload));
                if last.is_some() {
                    prop_assert_eq!(origin, Origin::Current, "a mere crash is never a fallback");
                }
                last = found;
            }
        }
    }
}
