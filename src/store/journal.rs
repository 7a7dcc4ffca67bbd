//! What happened in each launch: one file of lines for each, only ever appended to, every line on disk before anybody acts on it.
//!
//! `launches/NAME.jsonl`. A journal is written ahead: what it does not have has not been begun. So a line is durable when
//! [`Journals::append`] returns, file and folder alike. A line that was torn by a crash was never acted on and is cut off when the
//! journal is next loaded; one that the disk refused is cut off at once, or else by the next one, before anything is written
//! behind it. What stands in whole lines is never touched.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk;
use super::folder::Owned;

const FOLDER: &str = "launches";
const ENDING: &str = ".jsonl";
const NAME_BYTES_MAX: usize = 64;

/// The writer of all journals.
#[derive(Debug)]
pub struct Journals {
    owned: Arc<Owned>,
    ends: HashMap<String, End>,
}

/// Where a journal goes on.
#[derive(Clone, Copy, Debug)]
struct End {
    bytes: u64,
    /// Something stands behind it that nobody was promised.
    torn: bool,
}

impl Journals {
    pub(super) fn new(owned: Arc<Owned>) -> Self {
        Self { owned, ends: HashMap::new() }
    }

    /// Whether a journal can have this name: 1 to 64 letters, digits, `.`, `_` and `-`, the first one a letter or digit.
    pub fn is_name(name: &str) -> bool {
        let is_first = |byte: &u8| byte.is_ascii_alphanumeric();
        name.len() <= NAME_BYTES_MAX
            && name.as_bytes().first().is_some_and(is_first)
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    }

    /// The names of all journals, sorted; files that cannot be journals are passed over.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder(&self.owned.path)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(ENDING));
            names.extend(name.filter(|name| Self::is_name(name)).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Whether there is a file for a journal.
    pub fn is_there(&self, name: &str) -> io::Result<bool> {
        path(&self.owned.path, name)?.try_exists()
    }

    /// The whole lines of a journal; a torn one at its end is cut off.
    pub fn load(&mut self, name: &str) -> io::Result<Vec<u8>> {
        let mut file = File::options().read(true).write(true).open(path(&self.owned.path, name)?)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut end = End { bytes: whole as u64, torn: whole < bytes.len() };
        if end.torn {
            // Should the disk refuse, the next line does it.
            end.torn = file.set_len(end.bytes).and_then(|()| file.sync_data()).is_err();
        }
        bytes.truncate(whole);
        self.ends.insert(name.to_owned(), end);
        Ok(bytes)
    }

    /// Appends a line, beginning the journal if there is none. On disk when it returns; after an error, not in the journal.
    pub fn append(&mut self, name: &str, line: &str) -> io::Result<()> {
        if line.contains('\n') {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a line of a journal has no line breaks"));
        }
        let path = path(&self.owned.path, name)?;
        let folder = folder(&self.owned.path);
        let mut is_new = false;
        let file = match File::options().write(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                is_new = true;
                if !folder.try_exists()? {
                    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
                    disk::sync_folder(&self.owned.path)?;
                }
                self.ends.insert(name.to_owned(), End { bytes: 0, torn: false });
                File::options().write(true).create_new(true).mode(0o600).open(&path)?
            }
            file => file?,
        };
        if !self.ends.contains_key(name) {
            self.load(name)?;
        }
        let Some(end) = self.ends.get_mut(name) else { return Err(ErrorKind::NotFound.into()) };
        if end.torn {
            file.set_len(end.bytes)?;
            end.torn = false;
        }
        let bytes = format!("{line}\n").into_bytes();
        let mut written = file.write_all_at(&bytes, end.bytes).and_then(|()| file.sync_data());
        // A journal whose name the folder may still lose is not begun.
        if is_new && written.is_ok() {
            written = disk::sync_folder(&folder);
        }
        match &written {
            Ok(()) => end.bytes += bytes.len() as u64,
            Err(_) => end.torn = file.set_len(end.bytes).is_err(),
        }
        written
    }

    /// Removes a journal; that there is none is fine.
    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        self.ends.remove(name);
        disk::remove_if_there(&path(&self.owned.path, name)?)?;
        disk::sync_folder(&folder(&self.owned.path))
    }
}

/// Reads journals while they are written.
#[derive(Clone, Debug)]
pub struct JournalReader {
    folder: PathBuf,
}

impl JournalReader {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// What stands between two places of a journal, in bytes.
    pub fn read(&self, name: &str, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let bytes = usize::try_from(to.saturating_sub(from)).map_err(io::Error::other)?;
        let mut read = vec![0; bytes];
        File::open(path(&self.folder, name)?)?.read_exact_at(&mut read, from)?;
        Ok(read)
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join(FOLDER)
}

fn path(state: &Path, name: &str) -> io::Result<PathBuf> {
    if !Journals::is_name(name) {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("{name:?} is no name of a journal")));
    }
    Ok(folder(state).join(format!("{name}{ENDING}")))
}

#[cfg(test)]
mod tests {
    use super::super::StateFolder;
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn open(place: &Path) -> Journals {
        StateFolder::open(place).unwrap().journals()
    }

    fn file(place: &Path) -> PathBuf {
        place.join(FOLDER).join("shop-2.jsonl")
    }

    #[test]
    fn lines_are_read_back_in_order_also_by_a_later_process() {
        let place = tempfile::tempdir().unwrap();
        let mut journals = open(place.path());
        assert_eq!(journals.names().unwrap(), Vec::<String>::new());
        for line in ["one", "two"] {
            journals.append("shop-2", line).unwrap();
        }
        journals.append("shop-10", "other").unwrap();
        assert_eq!(journals.names().unwrap(), ["shop-10", "shop-2"]);
        drop(journals);
        fs::write(place.path().join(FOLDER).join("-no.jsonl"), "x").unwrap();
        fs::write(place.path().join(FOLDER).join("shop-2.jsonl.bad"), "x").unwrap();
        let mut journals = open(place.path());
        assert_eq!(journals.names().unwrap(), ["shop-10", "shop-2"]);
        journals.append("shop-2", "three").unwrap();
        assert_eq!(journals.load("shop-2").unwrap(), b"one\ntwo\nthree\n");
        let reader = JournalReader::new(place.path());
        assert_eq!(reader.read("shop-2", 4, 8).unwrap(), b"two\n");
        let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(place.path().join(FOLDER)), mode(file(place.path()))), (0o700, 0o600));
        journals.remove("shop-2").unwrap();
        assert!(!journals.is_there("shop-2").unwrap() && journals.is_there("shop-10").unwrap());
        journals.append("shop-2", "anew").unwrap();
        assert_eq!(journals.load("shop-2").unwrap(), b"anew\n");
    }

    #[test]
    fn a_journal_torn_at_any_byte_keeps_its_whole_lines_and_goes_on() {
        let (lines, whole) = (["first", "second", "3"], "first\nsecond\n3\n");
        for cut in 0..=whole.len() {
            let place = tempfile::tempdir().unwrap();
            let mut journals = open(place.path());
            lines.iter().for_each(|line| journals.append("shop-2", line).unwrap());
            drop(journals);
            fs::write(file(place.path()), &whole[..cut]).unwrap();
            let kept = &whole[..whole[..cut].rfind('\n').map_or(0, |at| at + 1)];
            let mut journals = open(place.path());
            if cut % 2 == 0 {
                assert_eq!(journals.load("shop-2").unwrap(), kept.as_bytes(), "cut at {cut}");
                assert_eq!(fs::read_to_string(file(place.path())).unwrap(), kept);
            }
            journals.append("shop-2", "next").unwrap();
            assert_eq!(fs::read_to_string(file(place.path())).unwrap(), format!("{kept}next\n"));
        }
    }

    #[test]
    fn what_was_left_of_a_refused_line_is_gone_before_the_next_one() {
        let place = tempfile::tempdir().unwrap();
        let mut journals = open(place.path());
        journals.append("shop-2", "one").unwrap();
        fs::write(file(place.path()), "one\nhalf of a line that was refu").unwrap();
        journals.ends.get_mut("shop-2").unwrap().torn = true;
        journals.append("shop-2", "two").unwrap();
        assert_eq!(fs::read_to_string(file(place.path())).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_full_disk_refuses_and_nothing_is_in_the_journal() {
        let place = tempfile::tempdir().unwrap();
        let mut journals = open(place.path());
        journals.append("shop-2", "one").unwrap();
        // Writes there fail as on a full disk.
        fs::remove_file(file(place.path())).unwrap();
        std::os::unix::fs::symlink("/dev/full", file(place.path())).unwrap();
        let error = journals.append("shop-2", "two").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        fs::remove_file(file(place.path())).unwrap();
        fs::write(file(place.path()), "one\n").unwrap();
        journals.append("shop-2", "three").unwrap();
        assert_eq!(journals.load("shop-2").unwrap(), b"one\nthree\n");
    }

    #[test]
    fn a_name_is_a_safe_file_name() {
        #[track_caller]
        fn check(name: &str, expected: bool) {
            assert_eq!(Journals::is_name(name), expected, "{name:?}");
            let place = tempfile::tempdir().unwrap();
            assert_eq!(open(place.path()).append(name, "x").is_ok(), expected, "{name:?}");
        }
        check("shop-2.0.2", true);
        check("7_x", true);
        check(&"a".repeat(64), true);
        check(&"a".repeat(65), false);
        for wrong in ["", ".", "..", ".hidden", "-x", "_x", "a/b", "../a", "a b", "ü", "a\0", "a\n"] {
            check(wrong, false);
        }
        let place = tempfile::tempdir().unwrap();
        assert!(open(place.path()).append("a", "two\nlines").is_err());
    }
}
