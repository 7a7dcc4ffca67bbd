//! Which program is started anew: the one at the path that this process was started from, whatever is there by then.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The running program, by the kernel's word.
const RUNNING: &str = "/proc/self/exe";

/// How this process was started.
#[derive(Clone, Debug)]
pub(in crate::app) struct Origin {
    /// The path of the program, absolute, and with its links as they were written: whoever turns a link to
    /// another version means that one.
    pub binary: PathBuf,
    /// What came after it.
    pub arguments: Vec<OsString>,
}

impl Origin {
    /// As of this process. Look early: once the file is replaced, nobody can tell any more where it was.
    pub fn of_process() -> io::Result<Self> {
        let mut words = env::args_os();
        let name = words.next().unwrap_or_default();
        let arguments = words.collect();
        let folders: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
        let binary = match written(Path::new(&name), &env::current_dir()?, &folders, Path::new(RUNNING)) {
            Some(path) => path,
            None => env::current_exe()?,
        };
        Ok(Self { binary, arguments })
    }
}

/// Where a program that was called by `name` is, if it is the one that runs.
fn written(name: &Path, here: &Path, folders: &[PathBuf], running: &Path) -> Option<PathBuf> {
    let place = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let running = place(running)?;
    let is_it = |path: &PathBuf| place(path) == Some(running);
    if name.components().count() > 1 {
        return Some(here.join(name)).filter(is_it);
    }
    folders.iter().map(|folder| here.join(folder).join(name)).find(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_it_was_called_if_it_is_the_one_that_runs() {
        let temp = tempfile::tempdir().unwrap();
        let here = temp.path();
        fs::create_dir(here.join("bin")).unwrap();
        let (running, other, link) =
            (here.join("tidegate-1"), here.join("bin/other"), here.join("bin/tidegate"));
        fs::write(&running, "1").unwrap();
        fs::write(&other, "2").unwrap();
        std::os::unix::fs::symlink(&running, &link).unwrap();
        let folders = [here.to_owned(), PathBuf::from("bin")];
        let find = |name: &str| written(Path::new(name), here, &folders, &running);
        assert_eq!(find("tidegate"), Some(link.clone()), "a link stays a link");
        assert_eq!(find("./bin/tidegate"), Some(here.join("./bin/tidegate")));
        assert_eq!(find(link.to_str().unwrap()), Some(link));
        assert_eq!(find("tidegate-1"), Some(running.clone()));
        for name in ["other", "bin/other", "nowhere", ""] {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn this_process_knows_where_it_came_from() {
        let origin = Origin::of_process().unwrap();
        assert!(origin.binary.is_absolute() && origin.binary.exists(), "{origin:?}");
    }
}
