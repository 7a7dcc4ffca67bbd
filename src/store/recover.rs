//! Which state is the newest that is whole?
//!
//! `state`, else `state.previous`, else nothing; and nothing is [`Origin::Fresh`] only where nothing ever
//! was. A file is believed when its digest matches, and only then is its schema looked at: newer is
//! refused, because running on without it would undo what the newer version was told; older is copied
//! and then migrated.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

use super::disk;
use super::folder::Owned;
use super::state_file::{Damage, FILE_BYTES_MAX, PREVIOUS, STATE, decode, header};

/// Turns the payload of one schema into the payload of the next.
pub(super) type Migration = fn(Vec<u8>) -> Result<Vec<u8>, String>;

/// The first entry leads from schema 1 to 2, and so on. A new schema is a new entry.
pub(super) const MIGRATIONS: &[Migration] = &[];

/// The schema that is written.
pub(super) const SCHEMA: u32 = newest(MIGRATIONS);

const fn newest(migrations: &[Migration]) -> u32 {
    migrations.len() as u32 + 1
}

/// What was found in the state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The saved bytes; `None` when fresh or lost.
    pub payload: Option<Vec<u8>>,
    /// Where they come from.
    pub origin: Origin,
}

/// Where the state comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing was ever saved here.
    Fresh,
    /// The state that was saved last.
    Current,
    /// The one before; the newest could not be read.
    Previous {
        /// What is wrong with the newest, in words.
        why: String,
    },
    /// There was a state, and none of it can be read.
    Lost {
        /// What is wrong, in words.
        why: String,
    },
}

/// Why it cannot be said what the state is.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// Written by a newer version of Tidegate.
    #[error("{} has schema {found}, and this version reads up to {supported}; start the newer version, or move the file away to start with everyone on stable", path.display())]
    NewerSchema {
        /// The file's schema.
        found: u32,
        /// The newest schema that this version reads.
        supported: u32,
        /// The file.
        path: PathBuf,
    },
    /// The file may well be whole, but it could not be read, copied or set aside.
    #[error("{} cannot be read and kept; look at its owner, its mode and its disk", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

pub(super) fn recover(folder: &Owned, migrations: &[Migration]) -> Result<Recovered, RecoverError> {
    let current = match examine(folder, STATE, migrations)? {
        Finding::Whole(payload) => {
            return Ok(Recovered { payload: Some(payload), origin: Origin::Current });
        }
        not_whole => not_whole,
    };
    let previous = examine(folder, PREVIOUS, migrations)?;

    // Away with a damaged state before the next save could make it the previous one.
    current.set_aside(folder, STATE)?;
    previous.set_aside(folder, PREVIOUS)?;
    let why = current.why_not(STATE);
    Ok(match (current, previous) {
        (_, Finding::Whole(payload)) => {
            Recovered { payload: Some(payload), origin: Origin::Previous { why } }
        }
        (Finding::Missing, Finding::Missing) if !folder.was_used => {
            Recovered { payload: None, origin: Origin::Fresh }
        }
        (_, previous) => {
            let why = format!("{why}, and {}", previous.why_not(PREVIOUS));
            Recovered { payload: None, origin: Origin::Lost { why } }
        }
    })
}

enum Finding {
    Whole(Vec<u8>),
    Missing,
    Damaged(Damage),
}

impl Finding {
    fn set_aside(&self, folder: &Owned, name: &str) -> Result<(), RecoverError> {
        match self {
            Self::Whole(_) | Self::Missing => Ok(()),
            Self::Damaged(_) => disk::set_aside(&folder.path, name)
                .map_err(|source| RecoverError::Io { path: folder.path.join(name), source }),
        }
    }

    fn why_not(&self, name: &str) -> String {
        match self {
            Self::Whole(_) => format!("{name} is whole"),
            Self::Missing => format!("{name} is missing"),
            Self::Damaged(damage) => format!("{name} {damage}"),
        }
    }
}

fn examine(folder: &Owned, name: &str, migrations: &[Migration]) -> Result<Finding, RecoverError> {
    let path = folder.path.join(name);
    let io_error = |source| RecoverError::Io { path: path.clone(), source };
    let read = match read_whole(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Finding::Missing),
        read => read.map_err(io_error)?,
    };
    let (schema, payload) = match read.and_then(decode) {
        Ok(decoded) => decoded,
        Err(damage) => return Ok(Finding::Damaged(damage)),
    };
    let supported = newest(migrations);
    if schema > supported {
        return Err(RecoverError::NewerSchema { found: schema, supported, path });
    }
    let Some(first) = schema.checked_sub(1) else {
        return Ok(Finding::Damaged(Damage::UnknownSchema(schema)));
    };
    let due = &migrations[first as usize..];
    if !due.is_empty() {
        let copy = folder.path.join(format!("{name}.schema{schema}.bak"));
        disk::write_durably(&copy, &[header(schema, &payload).as_bytes(), &payload]).map_err(io_error)?;
    }
    Ok(match due.iter().try_fold(payload, |payload, migrate| migrate(payload)) {
        Ok(payload) => Finding::Whole(payload),
        Err(why) => Finding::Damaged(Damage::Migration { schema, why }),
    })
}

/// The outer error is one that a person can cure; what the disk cannot give back is damage.
fn read_whole(path: &PathBuf) -> io::Result<Result<Vec<u8>, Damage>> {
    // Asked before opening, because opening a pipe would wait.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Ok(Err(Damage::NotAFile));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Ok(Err(Damage::TooLarge));
    }
    let mut bytes = Vec::new();
    match File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes) {
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(Err(Damage::Unreadable)),
        read => read.map(|_| Ok(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::StateFolder;
    use super::*;
    use std::path::Path;

    const PAYLOAD: &[u8] = br#"{"generation":41}"#;
    const OLDER: &[u8] = br#"{"generation":40}"#;

    fn file(schema: u32, payload: &[u8]) -> Vec<u8> {
        [header(schema, payload).as_bytes(), payload].concat()
    }

    fn recover_at(place: &Path) -> Result<Recovered, RecoverError> {
        StateFolder::open(place).unwrap().recover()
    }

    /// What a folder with these files recovers; `P` stands for the newer, `p` for the older payload.
    #[track_caller]
    fn check(files: &[(&str, &[u8])], expected: &str) {
        let place = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(place.path().join(name), content).unwrap();
        }
        let shown = match recover_at(place.path()) {
            Ok(Recovered { payload, origin }) => {
                let payload = match payload.as_deref() {
                    None => "nothing",
                    Some(PAYLOAD) => "P",
                    Some(OLDER) => "p",
                    Some(other) => panic!("made up {other:?}"),
                };
                match origin {
                    Origin::Fresh => format!("{payload}: fresh"),
                    Origin::Current => format!("{payload}: current"),
                    Origin::Previous { why } => format!("{payload}: previous, {why}"),
                    Origin::Lost { why } => format!("{payload}: lost, {why}"),
                }
            }
            Err(error) => error.to_string().replace(&format!("{}/", place.path().display()), ""),
        };
        assert_eq!(shown, expected);
        // Whatever was decided is decided again: nothing decays to fresh by asking twice.
        let again = recover_at(place.path());
        if let Ok(Recovered { payload, origin }) = again {
            let same_kind = match origin {
                Origin::Fresh => shown.contains("fresh"),
                Origin::Current => shown.contains("current"),
                Origin::Previous { .. } => shown.starts_with("p: previous"),
                Origin::Lost { .. } => shown.contains("lost"),
            };
            assert!(same_kind, "second time: {payload:?}, first: {shown}");
        }
    }

    #[test]
    fn the_newest_whole_state_wins_and_the_reason_is_told() {
        let (new, old) = (file(1, PAYLOAD), file(1, OLDER));
        let cut = &new[..new.len() - 1];
        check(&[], "nothing: fresh");
        check(&[("audit.log", b"{}\n"), ("lock", b"1\n")], "nothing: fresh");
        check(&[("state", &new)], "P: current");
        check(&[("state", &new), ("state.previous", b"garbage")], "P: current");
        check(&[("state", &new), ("state.tmp", b"gar"), ("state.keep", b"")], "P: current");
        check(&[("state", &new), ("state.previous", &file(2, OLDER))], "P: current");
        check(&[("state.previous", &old)], "p: previous, state is missing");
        let why = "state should have 17 bytes of payload and has 16";
        check(&[("state", cut), ("state.previous", &old)], &format!("p: previous, {why}"));
        let lost = format!("nothing: lost, {why}, and state.previous is missing");
        check(&[("state", cut)], &lost);
        let both = "nothing: lost, state is empty, and state.previous does not start like a state file";
        check(&[("state", b""), ("state.previous", b"\xff\xfe\n")], both);
        let neither = "nothing: lost, state is missing, and state.previous is missing";
        for trace in ["state.tmp", "kills", "state.damaged-1", "state.moved"] {
            check(&[(trace, &new)], neither);
        }
        let never = "p: previous, state has schema 0, which never existed";
        check(&[("state", &file(0, PAYLOAD)), ("state.previous", &old)], never);
    }

    #[test]
    fn a_newer_schema_is_refused_with_what_to_do() {
        let says = |name| {
            format!(
                "{name} has schema 7, and this version reads up to 1; start the newer version, or move the \
                 file away to start with everyone on stable"
            )
        };
        let (newer, old) = (file(7, PAYLOAD), file(1, OLDER));
        check(&[("state", &newer), ("state.previous", &old)], &says("state"));
        check(&[("state.previous", &newer)], &says("state.previous"));
        check(&[("state", b"x"), ("state.previous", &newer)], &says("state.previous"));
    }

    #[test]
    fn no_header_makes_it_panic_or_allocate() {
        let digest = "0".repeat(64);
        for header in [
            format!("tidegate-state 1 {digest} 18446744073709551615\n"),
            format!("tidegate-state 1 {digest} 99999999999999999999999\n"),
            format!("tidegate-state 1 {digest} -1\n"),
            format!("tidegate-state 4294967296 {digest} 0\n"),
            format!("tidegate-state 1 {digest} 0\n"),
            format!("tidegate-state 1 {digest} 0 0\n"),
            format!("tidegate-state 1 {digest}\n"),
            "tidegate-state\n".to_owned(),
            "\n".to_owned(),
            " ".repeat(100_000),
            header(1, PAYLOAD).replace(" 1 ", " +1 ") + str::from_utf8(PAYLOAD).unwrap(),
            header(1, PAYLOAD).replace(" 17", " 017") + str::from_utf8(PAYLOAD).unwrap(),
        ] {
            assert!(decode(header.clone().into_bytes()).is_err(), "{header}");
        }
    }

    /// `spoil` makes something of a good `state`; what comes back must be the older state, or nothing.
    fn check_spoiled(what: &str, spoilt: &[u8]) {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(STATE), spoilt).unwrap();
        let lost = recover_at(place.path()).unwrap();
        assert!(matches!(lost, Recovered { payload: None, origin: Origin::Lost { .. } }), "{what}: {lost:?}");
        let aside = fs::read(place.path().join("state.damaged-1")).unwrap();
        assert_eq!(aside, spoilt, "{what}: kept for a person to look at");

        fs::write(place.path().join(STATE), spoilt).unwrap();
        fs::write(place.path().join(PREVIOUS), file(1, OLDER)).unwrap();
        let Recovered { payload, origin } = recover_at(place.path()).unwrap();
        assert_eq!(payload.as_deref(), Some(OLDER), "{what}");
        assert!(matches!(origin, Origin::Previous { .. }), "{what}: {origin:?}");
    }

    #[test]
    fn a_file_cut_at_any_length_is_damaged() {
        let whole = file(1, PAYLOAD);
        for length in 0..whole.len() {
            check_spoiled(&format!("cut to {length}"), &whole[..length]);
        }
        check_spoiled("one byte more", &[&whole[..], b"\0"].concat());
    }

    #[test]
    fn a_file_with_any_bit_flipped_is_damaged() {
        let whole = file(1, PAYLOAD);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert!(decode(flipped).is_err(), "bit {bit} of byte {at}");
            }
            let mut flipped = whole.clone();
            flipped[at] ^= 0xff;
            check_spoiled(&format!("byte {at} flipped"), &flipped);
        }
    }

    #[test]
    fn what_is_no_readable_file_is_damaged_too() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join(STATE);
        #[track_caller]
        fn check(place: &Path, expected: &str) {
            let Origin::Lost { why } = recover_at(place).unwrap().origin else { panic!("not lost") };
            assert_eq!(why, format!("{expected}, and state.previous is missing"));
        }
        fs::create_dir(&state).unwrap();
        check(place.path(), "state is not a regular file");
        File::create(&state).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        check(place.path(), "state has more than 256 MiB");
        if cfg!(target_os = "linux") {
            // Reads of address 0 fail as those of a bad sector do.
            std::os::unix::fs::symlink("/proc/self/mem", &state).unwrap();
            check(place.path(), "state cannot be read from the disk");
        }
    }

    #[test]
    fn a_damaged_state_never_becomes_the_previous_one() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(STATE), "garbage").unwrap();
        fs::write(place.path().join(PREVIOUS), file(1, OLDER)).unwrap();
        let folder = StateFolder::open(place.path()).unwrap();
        folder.recover().unwrap();
        folder.state_file().save(PAYLOAD).unwrap();
        assert_eq!(folder.recover().unwrap().origin, Origin::Current);
        assert_eq!(fs::read(place.path().join(PREVIOUS)).unwrap(), file(1, OLDER));
    }

    #[test]
    fn an_older_schema_is_copied_and_then_migrated() {
        let add = |mut payload: Vec<u8>| {
            payload.push(b'+');
            Ok(payload)
        };
        let fail = |_| Err("no such field".to_owned());
        let place = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(place.path()).unwrap();
        folder.state_file().save(b"old").unwrap();
        let recovered = |migrations: &[Migration]| recover(&folder.owned, migrations).unwrap();

        assert_eq!(recovered(&[]).payload.unwrap(), b"old");
        assert!(!place.path().join("state.schema1.bak").exists());
        assert_eq!(recovered(&[add, add]).payload.unwrap(), b"old++");
        assert_eq!(fs::read(place.path().join("state.schema1.bak")).unwrap(), file(1, b"old"));
        assert_eq!(fs::read(place.path().join(STATE)).unwrap(), file(1, b"old"), "not before the next save");
        let Origin::Lost { why } = recovered(&[add, fail]).origin else { panic!("not lost") };
        assert!(
            why.starts_with("state cannot be brought from schema 1 to the present: no such field"),
            "{why}"
        );

        fs::write(place.path().join(STATE), file(2, b"newer")).unwrap();
        assert_eq!(recovered(&[add, add]).payload.unwrap(), b"newer+");
    }
}
