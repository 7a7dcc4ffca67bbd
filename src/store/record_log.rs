//! What rollouts saw, for replays: JSON lines, a file for each rollout, bounded in size and number.
//!
//! `rollouts/SERVICE-ID.jsonl`, and `rollouts/SERVICE-ID.1.jsonl` for the part before it. A part that is full goes on
//! until its writer is ready to begin another one, because a part has to begin with a line that a reader
//! can start from. Nothing here is waited for on the disk: a power cut may take the last lines.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk;
use super::folder::Owned;

const FOLDER: &str = "rollouts";
/// How many files are kept open: each takes a descriptor.
const OPEN_MAX: usize = 16;

/// How much is kept of rollouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// A part that has this many bytes is full; two parts are kept of a rollout. Default 32 MiB.
    pub part_bytes_max: u64,
    /// How many rollouts are kept of a service. Default 20, at least 1.
    pub rollouts_max: usize,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { part_bytes_max: 32 << 20, rollouts_max: 20 }
    }
}

/// The writer of all records.
#[derive(Debug)]
pub struct RecordLog {
    owned: Arc<Owned>,
    limits: RecordLimits,
    open: HashMap<(Arc<str>, u64), Part>,
    /// The rollouts that have a file, by service; read from the folder at first use.
    known: Option<HashMap<String, BTreeSet<u64>>>,
}

#[derive(Debug)]
struct Part {
    file: File,
    bytes: u64,
    torn: bool,
}

impl RecordLog {
    pub(super) fn new(owned: Arc<Owned>, limits: RecordLimits) -> Self {
        Self { owned, limits, open: HashMap::new(), known: None }
    }

    /// Appends a line that a reader can start from; when the part is full, to a new one. Makes room for a rollout
    /// that has no file yet by removing the oldest of its service.
    pub fn begin(&mut self, service: &Arc<str>, id: u64, line: &str) -> io::Result<()> {
        self.make_room(service, id)?;
        if self.part(service, id)?.bytes >= self.limits.part_bytes_max {
            self.open.remove(&(service.clone(), id));
            let folder = folder(&self.owned.path);
            fs::rename(folder.join(file_name(service, id, 0)), folder.join(file_name(service, id, 1)))?;
        }
        self.append(service, id, line).map(|_| ())
    }

    /// Appends a line. `true` when the part is full: the next line should be one that begins.
    pub fn append(&mut self, service: &Arc<str>, id: u64, line: &str) -> io::Result<bool> {
        let limit = self.limits.part_bytes_max;
        let part = self.part(service, id)?;
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if part.torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let written = part.file.write_all(&bytes);
        part.torn = written.is_err();
        part.bytes += bytes.len() as u64;
        let is_full = part.bytes >= limit;
        written.map(|()| is_full)
    }

    fn part(&mut self, service: &Arc<str>, id: u64) -> io::Result<&mut Part> {
        let key = (service.clone(), id);
        if !self.open.contains_key(&key) {
            if self.open.len() >= OPEN_MAX {
                self.open.clear();
            }
            let path = folder(&self.owned.path).join(file_name(service, id, 0));
            let file = File::options().read(true).append(true).create(true).mode(0o640).open(path)?;
            let bytes = file.metadata()?.len();
            let mut last = [b'\n'];
            if let Some(at) = bytes.checked_sub(1) {
                file.read_exact_at(&mut last, at)?;
            }
            self.open.insert(key.clone(), Part { file, bytes, torn: last != [b'\n'] });
        }
        self.open.get_mut(&key).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn make_room(&mut self, service: &str, id: u64) -> io::Result<()> {
        let folder = folder(&self.owned.path);
        let known = match &mut self.known {
            Some(known) => known,
            None => {
                DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
                let mut known = HashMap::<String, BTreeSet<u64>>::new();
                for entry in fs::read_dir(&folder)? {
                    let name = entry?.file_name();
                    if let Some((service, id, _)) = name.to_str().and_then(parse) {
                        known.entry(service.to_owned()).or_default().insert(id);
                    }
                }
                self.known.insert(known)
            }
        };
        let ids = known.entry(service.to_owned()).or_default();
        ids.insert(id);
        while ids.len() > self.limits.rollouts_max.max(1) {
            let Some(oldest) = ids.pop_first() else { break };
            for part in [0, 1] {
                disk::remove_if_there(&folder.join(file_name(service, oldest, part)))?;
            }
        }
        Ok(())
    }
}

/// Reads records while they are written.
#[derive(Clone, Debug)]
pub struct RecordReader {
    folder: PathBuf,
}

impl RecordReader {
    pub(super) fn new(path: &Path) -> Self {
        Self { folder: folder(path) }
    }

    /// The files of a service's rollouts, newest first; of each rollout the newer part first.
    pub fn files(&self, service: &str) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if let Some((of, id, part)) = name.to_str().and_then(parse)
                && of == service
            {
                found.push((std::cmp::Reverse(id), part, self.folder.join(&name)));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, _, path)| path).collect())
    }

    /// The end of a rollout's record, whole lines of at most `bytes_max` in all; `id` `None`: of the newest. Empty
    /// if there is none.
    pub fn tail(&self, service: &str, id: Option<u64>, bytes_max: u64) -> io::Result<String> {
        let files = self.files(service)?;
        let of =
            |path: &PathBuf| path.file_name().and_then(|name| parse(name.to_str()?)).map(|(_, id, _)| id);
        let Some(id) = id.or_else(|| files.first().and_then(of)) else { return Ok(String::new()) };
        let mut text = String::new();
        for path in files.iter().filter(|path| of(path) == Some(id)) {
            let room = bytes_max.saturating_sub(text.len() as u64);
            if room == 0 {
                break;
            }
            text.insert_str(0, &last_lines(path, room)?);
        }
        Ok(text)
    }
}

fn last_lines(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let start = bytes.saturating_sub(bytes_max);
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.take(bytes_max).read_to_end(&mut text)?;
    if start > 0 {
        let first = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
        text.drain(..first);
    }
    // Without the line that is being written.
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn folder(path: &Path) -> PathBuf {
    path.join(FOLDER)
}

fn file_name(service: &str, id: u64, part: u8) -> String {
    match part {
        0 => format!("{service}-{id}.jsonl"),
        part => format!("{service}-{id}.{part}.jsonl"),
    }
}

/// Service, rollout and part of a file's name.
fn parse(name: &str) -> Option<(&str, u64, u8)> {
    let name = name.strip_suffix(".jsonl")?;
    let (name, part) = match name.split_once('.') {
        Some((name, part)) => (name, part.parse().ok()?),
        None => (name, 0),
    };
    let (service, id) = name.rsplit_once('-')?;
    Some((service, id.parse().ok()?, part))
}

#[cfg(test)]
mod tests {
    use super::super::StateFolder;
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn open(place: &Path, limits: RecordLimits) -> (RecordLog, RecordReader) {
        let folder = StateFolder::open(place).unwrap();
        (folder.record_log(limits), folder.record_reader())
    }

    fn names(files: Vec<PathBuf>) -> Vec<String> {
        files.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn lines_are_read_back_in_order_from_both_parts() {
        let place = tempfile::tempdir().unwrap();
        let (mut log, reader) = open(place.path(), RecordLimits { part_bytes_max: 8, rollouts_max: 20 });
        let shop: Arc<str> = "shop-2".into();
        assert_eq!(reader.tail("shop-2", None, 100).unwrap(), "");
        log.begin(&shop, 7, "b1").unwrap();
        assert!(!log.append(&shop, 7, "t1").unwrap());
        assert!(log.append(&shop, 7, "t2").unwrap(), "nine bytes are full");
        log.begin(&shop, 7, "b2").unwrap();
        assert_eq!(reader.tail("shop-2", None, 100).unwrap(), "b1\nt1\nt2\nb2\n");
        assert_eq!(reader.tail("shop-2", Some(7), 7).unwrap(), "t2\nb2\n");
        assert_eq!(names(reader.files("shop-2").unwrap()), ["shop-2-7.jsonl", "shop-2-7.1.jsonl"]);
        assert_eq!(reader.files("shop").unwrap(), Vec::<PathBuf>::new());
        for _ in 0..20 {
            while !log.append(&shop, 7, "t").unwrap() {}
            log.begin(&shop, 7, "b").unwrap();
        }
        assert_eq!(names(reader.files("shop-2").unwrap()).len(), 2, "older parts go");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&place.path().join(FOLDER)), 0o700);
        assert_eq!(mode(&reader.files("shop-2").unwrap()[0]) & !0o640, 0);
    }

    #[test]
    fn the_newest_rollouts_of_a_service_are_kept_also_by_a_later_process() {
        let place = tempfile::tempdir().unwrap();
        let limits = RecordLimits { part_bytes_max: 100, rollouts_max: 3 };
        for round in 0..3 {
            let (mut log, reader) = open(place.path(), limits);
            for id in round * 10 + 1..=round * 10 + 5 {
                log.begin(&"shop".into(), id, "b").unwrap();
            }
            log.begin(&"cart".into(), 1, "b").unwrap();
            let kept = (round * 10 + 3..=round * 10 + 5).rev().map(|id| format!("shop-{id}.jsonl"));
            assert_eq!(names(reader.files("shop").unwrap()), kept.collect::<Vec<_>>());
            assert_eq!(reader.files("cart").unwrap().len(), 1);
        }
    }

    #[test]
    fn a_torn_line_spoils_no_other() {
        let place = tempfile::tempdir().unwrap();
        let (mut log, reader) = open(place.path(), RecordLimits::default());
        log.begin(&"shop".into(), 1, "one").unwrap();
        drop(log);
        let path = place.path().join(FOLDER).join("shop-1.jsonl");
        File::options().append(true).open(path).unwrap().write_all(b"to").unwrap();
        assert_eq!(reader.tail("shop", None, 100).unwrap(), "one\n");
        let (mut log, reader) = open(place.path(), RecordLimits::default());
        log.begin(&"shop".into(), 1, "two").unwrap();
        assert_eq!(reader.tail("shop", None, 100).unwrap(), "one\nto\ntwo\n");
    }
}
