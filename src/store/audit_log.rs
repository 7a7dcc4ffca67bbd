//! Who did what: JSON lines that are only ever appended to, rotated by size.
//!
//! Lines are not waited for on the disk: they outlive the process, and a power cut may take the last
//! ones. A line that was torn (by a full disk, a crash) stays where it is; the next one starts on a line
//! of its own, and readers pass over what is no JSON.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::IgnoredAny;

use super::folder::Owned;

const NAME: &str = "audit.log";
/// How much of a file's end is looked at first; four times as much at each further look.
const FIRST_LOOK_BYTES: u64 = 64 << 10;

/// How much audit log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLimits {
    /// A file that would grow above this is rotated away first. Default 16 MiB.
    pub bytes_max: u64,
    /// How many files are kept, with the one being written. Default 8, at least 1.
    pub files: u32,
}

impl Default for AuditLimits {
    fn default() -> Self {
        Self { bytes_max: 16 << 20, files: 8 }
    }
}

/// The writer of the audit log.
#[derive(Debug)]
pub struct AuditLog {
    owned: Arc<Owned>,
    limits: AuditLimits,
    file: File,
    bytes: u64,
    /// The last line has no end yet.
    torn: bool,
}

impl AuditLog {
    pub(super) fn open(owned: Arc<Owned>, limits: AuditLimits) -> io::Result<Self> {
        let file = open_for_append(&owned.path)?;
        let bytes = file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(at) = bytes.checked_sub(1) {
            file.read_exact_at(&mut last, at)?;
        }
        let mut log = Self { owned, limits, file, bytes, torn: last != [b'\n'] };
        if log.torn {
            // Should the disk be full, the next line brings it.
            let _ = log.write(Vec::new());
        }
        Ok(log)
    }

    /// Appends a line: one JSON object without line breaks, else `InvalidInput`. After any other error
    /// the line is not in the log, and the next one is whole again.
    pub fn append(&mut self, line: &str) -> io::Result<()> {
        if !is_entry(line) || line.contains(['\n', '\r']) {
            let text = "an audit line is one JSON object without line breaks";
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        let line = format!("{line}\n").into_bytes();
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.limits.bytes_max {
            self.rotate()?;
        }
        self.write(line)
    }

    fn write(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if self.torn {
            line.insert(0, b'\n');
        }
        let written = self.file.write_all(&line);
        self.torn = written.is_err();
        self.bytes = match &written {
            Ok(()) => self.bytes + line.len() as u64,
            // How much of it came through is not known.
            Err(_) => self.file.metadata().map_or(self.bytes, |metadata| metadata.len()),
        };
        written
    }

    fn rotate(&mut self) -> io::Result<()> {
        let folder = &self.owned.path;
        let kept = self.limits.files.saturating_sub(1);
        // Without this question, a rotation that fails half-way would at each new attempt push one more
        // old file over the edge.
        if file_name(folder, 0).try_exists()? {
            for number in (0..kept).rev() {
                match fs::rename(file_name(folder, number), file_name(folder, number + 1)) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    other => other?,
                }
            }
            if kept == 0 {
                fs::remove_file(file_name(folder, 0))?;
            }
        }
        self.file = open_for_append(folder)?;
        self.bytes = 0;
        self.torn = false;
        Ok(())
    }
}

/// Reads the audit log while it is written.
#[derive(Clone, Debug)]
pub struct AuditReader {
    folder: PathBuf,
}

impl AuditReader {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The last `n` entries, oldest first; fewer if there are not so many.
    pub fn tail(&self, n: usize) -> io::Result<Vec<String>> {
        let mut newest_first = Vec::new();
        for file in self.files()? {
            if newest_first.len() >= n {
                break;
            }
            newest_first.extend(last_entries(&file, n - newest_first.len())?);
        }
        newest_first.reverse();
        Ok(newest_first)
    }

    /// All files, newest first. In this order a rotation at the same time can show a file twice, which is
    /// seen, but hide none. It leaves one number at a time without a file, as does one cut off by a crash.
    fn files(&self) -> io::Result<Vec<File>> {
        let (mut files, mut seen) = (Vec::new(), Vec::new());
        let mut missing_in_a_row = 0;
        for number in 0.. {
            let file = match File::open(file_name(&self.folder, number)) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound && missing_in_a_row == 0 => {
                    missing_in_a_row = 1;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            missing_in_a_row = 0;
            let metadata = file.metadata()?;
            let identity = (metadata.dev(), metadata.ino());
            if !seen.contains(&identity) {
                seen.push(identity);
                files.push(file);
            }
        }
        Ok(files)
    }
}

/// The last `n` entries of a file, newest first, without reading more of it than needed.
fn last_entries(file: &File, n: usize) -> io::Result<Vec<String>> {
    let end = file.metadata()?.len();
    let mut look = FIRST_LOOK_BYTES;
    loop {
        let start = end.saturating_sub(look);
        let mut bytes = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, start)?;
        // A look that starts inside a line must not take its rest for an entry.
        let cut = usize::from(start > 0);
        let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').skip(cut).collect();
        let entries = lines.into_iter().rev().filter_map(|line| str::from_utf8(line).ok());
        let entries: Vec<_> = entries.filter(|line| is_entry(line)).take(n).map(str::to_owned).collect();
        if entries.len() == n || start == 0 {
            return Ok(entries);
        }
        look = look.saturating_mul(4);
    }
}

fn is_entry(line: &str) -> bool {
    line.starts_with('{') && serde_json::from_str::<IgnoredAny>(line).is_ok()
}

fn open_for_append(folder: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).mode(0o640).open(file_name(folder, 0))
}

fn file_name(folder: &Path, number: u32) -> PathBuf {
    folder.join(if number == 0 { NAME.to_owned() } else { format!("{NAME}.{number}") })
}

#[cfg(test)]
mod tests {
    use super::super::StateFolder;
    use super::*;

    fn entry(number: usize) -> String {
        format!(r#"{{"line":"{number:04}"}}"#)
    }

    fn entries(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(entry).collect()
    }

    fn open(place: &Path, limits: AuditLimits) -> (AuditLog, AuditReader) {
        let folder = StateFolder::open(place).unwrap();
        (folder.audit_log(limits).unwrap(), folder.audit_reader())
    }

    #[test]
    fn the_last_entries_are_read_oldest_first() {
        let place = tempfile::tempdir().unwrap();
        let (mut log, reader) = open(place.path(), AuditLimits::default());
        assert_eq!(reader.tail(10).unwrap(), entries(0..0));
        for number in 0..20 {
            log.append(&entry(number)).unwrap();
        }
        for (n, expected) in [(0, 20..20), (1, 19..20), (5, 15..20), (20, 0..20), (1000, 0..20)] {
            assert_eq!(reader.tail(n).unwrap(), entries(expected), "tail {n}");
        }
        let mode = fs::metadata(place.path().join(NAME)).unwrap().mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    }

    #[test]
    fn a_tail_longer_than_the_first_look_is_whole() {
        let place = tempfile::tempdir().unwrap();
        let (mut log, reader) = open(place.path(), AuditLimits::default());
        for number in 0..10_000 {
            log.append(&entry(number)).unwrap();
        }
        let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(300_000));
        log.append(&long).unwrap();
        assert_eq!(reader.tail(1).unwrap(), std::slice::from_ref(&long));
        let tail = reader.tail(9_001).unwrap();
        assert_eq!((&tail[..9_000], &tail[9_000]), (&entries(1_000..10_000)[..], &long));
        assert_eq!(reader.tail(20_000).unwrap().len(), 10_001);
    }

    #[test]
    fn files_are_rotated_by_size_and_the_oldest_go() {
        #[track_caller]
        fn check(files: u32, kept: std::ops::Range<usize>, names: &[&str]) {
            let place = tempfile::tempdir().unwrap();
            // Three entries of 16 bytes with their newline.
            let (mut log, reader) = open(place.path(), AuditLimits { bytes_max: 48, files });
            for number in 0..20 {
                log.append(&entry(number)).unwrap();
                assert_eq!(reader.tail(1).unwrap(), [entry(number)]);
            }
            assert_eq!(reader.tail(100).unwrap(), entries(kept));
            let mut found: Vec<_> = fs::read_dir(place.path())
                .unwrap()
                .map(|file| file.unwrap())
                .filter(|file| file.file_name() != "lock")
                .inspect(|file| assert!(file.metadata().unwrap().len() <= 48))
                .map(|file| file.file_name().into_string().unwrap())
                .collect();
            found.sort();
            assert_eq!(found, names);
        }
        check(3, 12..20, &["audit.log", "audit.log.1", "audit.log.2"]);
        check(2, 15..20, &["audit.log", "audit.log.1"]);
        check(1, 18..20, &["audit.log"]);
        check(0, 18..20, &["audit.log"]);
    }

    #[test]
    fn a_line_above_the_limit_gets_a_file_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        let (mut log, reader) = open(place.path(), AuditLimits { bytes_max: 4, files: 8 });
        for number in 0..3 {
            log.append(&entry(number)).unwrap();
        }
        assert_eq!(reader.tail(10).unwrap(), entries(0..3));
        assert!(place.path().join("audit.log.2").exists());
        assert!(!place.path().join("audit.log.3").exists());
    }

    #[test]
    fn a_line_torn_at_any_byte_spoils_no_other() {
        let whole = entry(1);
        for torn_at in 0..whole.len() {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join(NAME);
            fs::write(&path, format!("{}\n{}", entry(0), &whole[..torn_at])).unwrap();
            let (mut log, reader) = open(place.path(), AuditLimits::default());
            assert_eq!(reader.tail(10).unwrap(), entries(0..1), "torn at {torn_at}");
            assert!(fs::read(&path).unwrap().ends_with(b"\n"), "ended at open");
            log.append(&entry(2)).unwrap();
            assert_eq!(reader.tail(10).unwrap(), [entry(0), entry(2)], "torn at {torn_at}");
            assert_eq!(reader.tail(1).unwrap(), [entry(2)], "torn at {torn_at}");
        }
    }

    #[test]
    fn a_line_that_failed_half_way_is_ended_by_the_next() {
        let place = tempfile::tempdir().unwrap();
        let (mut log, reader) = open(place.path(), AuditLimits::default());
        log.append(&entry(0)).unwrap();
        // What a full disk leaves behind: a part of the line, and an error.
        log.file.write_all(br#"{"li"#).unwrap();
        log.torn = true;
        log.append(&entry(1)).unwrap();
        assert_eq!(reader.tail(10).unwrap(), entries(0..2));
    }

    #[test]
    fn a_rotation_that_fails_costs_no_old_file() {
        let place = tempfile::tempdir().unwrap();
        let (mut log, reader) = open(place.path(), AuditLimits { bytes_max: 16, files: 4 });
        for number in 0..3 {
            log.append(&entry(number)).unwrap();
        }
        // As if the new file could not be made: the name is free, then something else has it.
        fs::rename(place.path().join(NAME), place.path().join("away")).unwrap();
        std::os::unix::fs::symlink("no/such/folder", place.path().join(NAME)).unwrap();
        for _ in 0..5 {
            log.append(&entry(9)).unwrap_err();
        }
        assert_eq!(reader.tail(10).unwrap(), entries(0..2));
        fs::remove_file(place.path().join(NAME)).unwrap();
        log.append(&entry(3)).unwrap();
        assert_eq!(reader.tail(10).unwrap(), [entry(0), entry(1), entry(3)]);
    }

    #[test]
    fn a_rotation_cut_off_by_a_crash_hides_no_file() {
        let place = tempfile::tempdir().unwrap();
        let file = |number| file_name(place.path(), number);
        for number in 0..3 {
            fs::write(file(number), entry(2 - number as usize) + "\n").unwrap();
        }
        let reader = AuditReader::new(place.path());
        for moved in (0..3).rev() {
            fs::rename(file(moved), file(moved + 1)).unwrap();
            assert_eq!(reader.tail(10).unwrap(), entries(0..3), "after {moved} was moved");
        }
        let (mut log, reader) = open(place.path(), AuditLimits::default());
        log.append(&entry(3)).unwrap();
        assert_eq!(reader.tail(10).unwrap(), entries(0..4));
    }

    #[test]
    fn only_a_json_object_on_one_line_is_appended() {
        let place = tempfile::tempdir().unwrap();
        let (mut log, reader) = open(place.path(), AuditLimits::default());
        for line in ["", "text", "{", "{}{}", "[]", "1", "{\n}", "{}\n", "{\r}", " {}"] {
            assert_eq!(log.append(line).unwrap_err().kind(), ErrorKind::InvalidInput, "{line:?}");
        }
        log.append(r#"{"reason":"line\nbreak"}"#).unwrap();
        assert_eq!(reader.tail(10).unwrap(), [r#"{"reason":"line\nbreak"}"#]);
    }

    #[test]
    fn garbage_in_the_log_is_passed_over() {
        let place = tempfile::tempdir().unwrap();
        let content = [&b"\xff\xfe\n\n\0\0\0\n"[..], entry(0).as_bytes(), b"\n{\"a\":\xff}\n"].concat();
        fs::write(place.path().join(NAME), content).unwrap();
        let (_log, reader) = open(place.path(), AuditLimits::default());
        assert_eq!(reader.tail(10).unwrap(), entries(0..1));
    }
}
