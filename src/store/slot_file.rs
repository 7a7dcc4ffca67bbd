//! A small file that a full disk cannot keep from being written.
//!
//! All its blocks are allocated when it is made, with zeros written and not as holes, and from then on
//! it is overwritten in place. Two slots take turns, each with sequence number, length and SHA-256, so a
//! write that is torn by a power cut spoils only the slot that did not hold the newest payload. (File
//! systems that copy on write, such as btrfs and ZFS, allocate anyway; there it is as good as any file.)

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::disk;
use super::folder::Owned;

const SLOT_BYTES: usize = 1 << 20;
const SLOTS: usize = 2;
/// Sequence number, length (both little endian) and SHA-256.
const HEADER_BYTES: usize = 8 + 8 + 32;

/// What was there when a [`SlotFile`] was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No file; one was made.
    Nothing,
    /// Both slots are whole.
    Whole,
    /// One slot is not: a write was torn before it was acknowledged, or the disk has lost one since.
    OneSlot,
    /// Not to be read. It was set aside, and an empty one was made.
    Damaged {
        /// What is wrong, in words.
        why: String,
    },
}

/// Preallocated, checksummed, overwritten in place.
#[derive(Debug)]
pub struct SlotFile {
    file: File,
    found: Found,
    _owned: Arc<Owned>,
}

impl SlotFile {
    /// The longest payload: 1 MiB less the 48 bytes before it.
    pub const PAYLOAD_MAX: usize = SLOT_BYTES - HEADER_BYTES;

    pub(super) fn open(owned: Arc<Owned>, name: &str) -> io::Result<Self> {
        let folder = &owned.path;
        let path = folder.join(name);
        let found = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => inspect(&File::open(&path)?)?,
            Ok(_) => Found::Damaged { why: format!("{name} is not a regular file") },
            Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
            Err(error) => return Err(error),
        };
        match found {
            Found::Whole | Found::OneSlot => {}
            Found::Nothing => create(folder, name, false)?,
            Found::Damaged { .. } => create(folder, name, true)?,
        }
        let file = File::options().read(true).write(true).open(&path)?;
        Ok(Self { file, found, _owned: owned })
    }

    /// What was there when it was opened.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Whether there was a file that could not be read, so that a payload may be lost.
    pub fn was_damaged(&self) -> bool {
        matches!(self.found, Found::Damaged { .. })
    }

    /// Replaces the payload. When it returns `Ok`, the disk has it; after an error the one before still
    /// stands. Longer than [`PAYLOAD_MAX`](Self::PAYLOAD_MAX): `InvalidInput`.
    pub fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        if payload.len() > Self::PAYLOAD_MAX {
            let text = format!("payload of {} bytes; a slot takes {}", payload.len(), Self::PAYLOAD_MAX);
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        let (slot, sequence) = match newest(&self.file) {
            Some((slot, record)) => ((slot + 1) % SLOTS, record.sequence.saturating_add(1)),
            None => (0, 1),
        };
        let record = encode(sequence, payload);
        self.file.write_all_at(&record, (slot * SLOT_BYTES) as u64)?;
        self.file.sync_data()
    }

    /// The newest payload that is whole; `None` when none was ever written.
    pub fn read(&self) -> Option<Vec<u8>> {
        newest(&self.file).filter(|(_, record)| record.sequence > 0).map(|(_, record)| record.payload)
    }
}

struct Record {
    /// From 1; 0 is what a slot holds when it is made, so that a torn first write has something to fall
    /// back to.
    sequence: u64,
    payload: Vec<u8>,
}

fn newest(file: &File) -> Option<(usize, Record)> {
    (0..SLOTS)
        .filter_map(|slot| Some((slot, read_slot(file, slot)?)))
        .max_by_key(|(_, record)| record.sequence)
}

fn read_slot(file: &File, slot: usize) -> Option<Record> {
    let start = (slot * SLOT_BYTES) as u64;
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, start).ok()?;
    let (sequence, rest) = header.split_first_chunk::<8>()?;
    let (length, digest) = rest.split_first_chunk::<8>()?;
    let (sequence, length) = (u64::from_le_bytes(*sequence), u64::from_le_bytes(*length));
    let length = usize::try_from(length).ok().filter(|length| *length <= SlotFile::PAYLOAD_MAX)?;
    let mut payload = vec![0; length];
    file.read_exact_at(&mut payload, start + HEADER_BYTES as u64).ok()?;
    (digest == digest_of(sequence, &payload)).then_some(Record { sequence, payload })
}

fn encode(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u64;
    [&sequence.to_le_bytes()[..], &length.to_le_bytes(), &digest_of(sequence, payload), payload].concat()
}

fn digest_of(sequence: u64, payload: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"tidegate slot 1\n")
        .chain_update(sequence.to_le_bytes())
        .chain_update((payload.len() as u64).to_le_bytes())
        .chain_update(payload)
        .finalize()
        .into()
}

fn inspect(file: &File) -> io::Result<Found> {
    let bytes = file.metadata()?.len();
    if bytes != (SLOTS * SLOT_BYTES) as u64 {
        return Ok(Found::Damaged { why: format!("it has {bytes} bytes instead of {}", SLOTS * SLOT_BYTES) });
    }
    Ok(match (0..SLOTS).filter(|slot| read_slot(file, *slot).is_some()).count() {
        SLOTS => Found::Whole,
        0 => Found::Damaged { why: "neither slot matches its checksum".to_owned() },
        _ => Found::OneSlot,
    })
}

fn create(folder: &Path, name: &str, set_aside: bool) -> io::Result<()> {
    let mut empty = vec![0; SLOTS * SLOT_BYTES];
    for slot in empty.chunks_exact_mut(SLOT_BYTES) {
        slot[..HEADER_BYTES].copy_from_slice(&encode(0, b""));
    }
    let temp = folder.join(format!("{name}.tmp"));
    let made = disk::write_durably(&temp, &[&empty])
        .and_then(|()| if set_aside { disk::set_aside(folder, name) } else { Ok(()) })
        .and_then(|()| fs::rename(&temp, folder.join(name)))
        .and_then(|()| disk::sync_folder(folder));
    if made.is_err() {
        // The first error is the one to tell.
        let _ = disk::remove_if_there(&temp);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::super::StateFolder;
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn open(place: &Path) -> SlotFile {
        StateFolder::open(place).unwrap().kill_file().unwrap()
    }

    #[test]
    fn the_newest_payload_is_read_back_also_after_a_restart() {
        let place = tempfile::tempdir().unwrap();
        let kills = open(place.path());
        assert_eq!((kills.found(), kills.read()), (&Found::Nothing, None));
        drop(kills);
        assert_eq!(open(place.path()).read(), None, "made, and never written");
        for round in 0..5u8 {
            let payload = vec![round; usize::from(round) * 10];
            let mut kills = open(place.path());
            kills.write(&payload).unwrap();
            assert_eq!(kills.read().as_ref(), Some(&payload));
            drop(kills);
            let kills = open(place.path());
            assert_eq!((kills.found(), kills.read()), (&Found::Whole, Some(payload)));
        }
    }

    #[test]
    fn its_blocks_are_real_and_stay_where_they_are() {
        let place = tempfile::tempdir().unwrap();
        let mut kills = open(place.path());
        let path = place.path().join("kills");
        let before = fs::metadata(&path).unwrap();
        assert_eq!(before.len(), (SLOTS * SLOT_BYTES) as u64);
        assert!(before.blocks() * 512 >= before.len(), "sparse: {} blocks", before.blocks());
        assert_eq!(before.mode() & 0o777, 0o600);
        for _ in 0..3 {
            kills.write(&vec![7; SlotFile::PAYLOAD_MAX]).unwrap();
        }
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.ino(), after.len()), (before.ino(), before.len()));
        assert_eq!(kills.read().unwrap().len(), SlotFile::PAYLOAD_MAX);
    }

    #[test]
    fn a_payload_over_the_slot_is_refused_and_changes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let mut kills = open(place.path());
        kills.write(b"kept").unwrap();
        let error = kills.write(&vec![0; SlotFile::PAYLOAD_MAX + 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(kills.read().unwrap(), b"kept");
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_the_one_before() {
        let place = tempfile::tempdir().unwrap();
        let mut kills = open(place.path());
        // No write, one write, two writes before the torn one: it goes to slot 0, 1, 0.
        let mut before: Option<&[u8]> = None;
        for (sequence, next) in [(1, &b"first"[..]), (2, b"the second one"), (3, b"third")] {
            let slot = (sequence as usize + 1) % SLOTS;
            let start = (slot * SLOT_BYTES) as u64;
            let record = encode(sequence, next);
            let mut old = vec![0; record.len()];
            kills.file.read_exact_at(&mut old, start).unwrap();
            for torn_at in 0..record.len() {
                kills.file.write_all_at(&old, start).unwrap();
                kills.file.write_all_at(&record[..torn_at], start).unwrap();
                assert_eq!(kills.read().as_deref(), before, "write {sequence} torn at {torn_at}");
                assert!(!matches!(inspect(&kills.file).unwrap(), Found::Damaged { .. }));
            }
            // And a write after a torn one works.
            kills.write(next).unwrap();
            assert_eq!(kills.read().as_deref(), Some(next));
            assert_eq!(inspect(&kills.file).unwrap(), Found::Whole);
            before = Some(next);
        }
    }

    #[test]
    fn a_flipped_byte_anywhere_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let mut kills = open(place.path());
        kills.write(b"older").unwrap();
        kills.write(b"newer").unwrap();
        let record = encode(2, b"newer");
        for at in 0..record.len() {
            let mut flipped = record.clone();
            flipped[at] ^= 0xff;
            kills.file.write_all_at(&flipped, SLOT_BYTES as u64).unwrap();
            assert_eq!(kills.read().unwrap(), b"older", "byte {at}");
            assert_eq!(inspect(&kills.file).unwrap(), Found::OneSlot, "byte {at}");
        }
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_reported() {
        #[track_caller]
        fn check(spoil: impl FnOnce(&Path), expected: &str) {
            let place = tempfile::tempdir().unwrap();
            open(place.path()).write(b"killed").unwrap();
            let path = place.path().join("kills");
            spoil(&path);
            let mut kills = open(place.path());
            assert_eq!(kills.found(), &Found::Damaged { why: expected.to_owned() });
            assert!(kills.was_damaged());
            assert_eq!(kills.read(), None);
            assert!(place.path().join("kills.damaged-1").exists());
            kills.write(b"again").unwrap();
            drop(kills);
            let kills = open(place.path());
            assert_eq!((kills.was_damaged(), kills.read()), (false, Some(b"again".to_vec())));
        }
        check(|path| fs::write(path, "").unwrap(), "it has 0 bytes instead of 2097152");
        check(
            |path| File::options().write(true).open(path).unwrap().set_len(2_097_151).unwrap(),
            "it has 2097151 bytes instead of 2097152",
        );
        check(
            |path| fs::write(path, vec![0; SLOTS * SLOT_BYTES]).unwrap(),
            "neither slot matches its checksum",
        );
        check(
            |path| fs::write(path, vec![0xff; SLOTS * SLOT_BYTES]).unwrap(),
            "neither slot matches its checksum",
        );
        check(
            |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            },
            "kills is not a regular file",
        );
    }
}
