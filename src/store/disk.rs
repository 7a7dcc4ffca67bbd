//! Writing so that it is still there after a power cut.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// How many damaged files of one name are kept for a person to look at.
const DAMAGED_KEPT: usize = 4;

/// Writes a new file, mode 0600, and waits until the disk has it. What was there before is removed.
pub(super) fn write_durably(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    remove_if_there(path)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

/// Makes renames and links in `folder` last.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file; that there is none is fine.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Renames `name` to `name.damaged-N`, N rising, and keeps only the newest few of them.
pub(super) fn set_aside(folder: &Path, name: &str) -> io::Result<()> {
    let prefix = format!("{name}.damaged-");
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?.file_name();
        let number = entry.to_str().and_then(|entry| entry.strip_prefix(&prefix));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last.saturating_add(1));
    fs::rename(folder.join(name), folder.join(format!("{prefix}{next}")))?;
    let surplus = (numbers.len() + 1).saturating_sub(DAMAGED_KEPT);
    for number in numbers.into_iter().take(surplus) {
        // Only tidying; a folder or a foreign file of that name may stay.
        let _ = fs::remove_file(folder.join(format!("{prefix}{number}")));
    }
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_damaged_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for round in 1..=6 {
            fs::write(folder.path().join("state"), format!("garbage {round}")).unwrap();
            set_aside(folder.path(), "state").unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["state.damaged-3", "state.damaged-4", "state.damaged-5", "state.damaged-6"]);
        assert_eq!(fs::read_to_string(folder.path().join("state.damaged-6")).unwrap(), "garbage 6");
    }
}
