//! Launch files: read with what the command line and the environment say, and written to begin with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use super::args::{Init, What};
use crate::cli::failure::Failure;
use crate::clock;
use crate::config::launch::{self, Around, Read};

/// More is no launch, plan or configuration.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A file and its text.
pub(super) struct Text {
    pub(super) name: String,
    pub(super) text: String,
    /// Where relative paths in it start.
    pub(super) folder: PathBuf,
}

impl Text {
    /// From a file, or from standard input.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let is_input = path == Path::new("-");
        let name = if is_input { "standard input".to_owned() } else { path.display().to_string() };
        let unreadable = |why: &dyn std::fmt::Display| Failure::Usage(format!("read {name}: {why}"));
        let opened: io::Result<Box<dyn io::Read>> = match is_input {
            true => Ok(Box::new(io::stdin())),
            false => File::open(path).map(|file| Box::new(file) as Box<dyn io::Read>),
        };
        let mut bytes = Vec::new();
        let read = opened.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
        read.map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(unreadable(&format!("it is longer than {} MiB", FILE_BYTES_MAX >> 20)));
        }
        let text = String::from_utf8(bytes).map_err(|error| unreadable(&error.utf8_error()))?;
        // Commands run there, also once the current folder is another.
        let folder = path.parent().filter(|folder| !is_input && !folder.as_os_str().is_empty());
        let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        let folder = fs::canonicalize(&folder).unwrap_or(folder);
        Ok(Self { name, text, folder })
    }

    /// Does something with what the file is read with.
    pub(super) fn around<T>(&self, what: &What, then: impl FnOnce(&Around<'_>) -> T) -> T {
        let variable = |name: &str| {
            let set = what.set.iter().rev().find(|(set, _)| set == name).map(|(_, value)| value.clone());
            set.or_else(|| std::env::var(name).ok())
        };
        let service = what.service.as_deref();
        then(&Around { variable: &variable, service, at: clock::wall(), folder: &self.folder })
    }

    /// As a launch.
    pub(super) fn launch(&self, what: &What) -> Result<Read, Failure> {
        Ok(self.around(what, |around| launch::read(&self.text, &self.name, around))?)
    }
}

pub(super) fn init(order: &Init, out: &mut dyn Write) -> Result<(), Failure> {
    let Init { preset, service, version, output } = order;
    let text = launch::preset(preset, service, version)
        .ok_or_else(|| Failure::Usage(format!("there is no preset {preset:?}")))?;
    let Some(path) = output else { return Ok(out.write_all(text.as_bytes())?) };
    let written = OpenOptions::new().write(true).create_new(true).open(path);
    written
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::Failed(format!("write {}: {error}", path.display())))?;
    let path = path.display();
    Ok(writeln!(out, "{path} written; look at it, then: tidegate launch plan -f {path}")?)
}
