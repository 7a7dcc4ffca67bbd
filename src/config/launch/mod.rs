//! Launches as people write them: Tidegate's own form, and the older one with validators and actions.
//!
//! Both become the same [`Launch`]. Variables are looked up when a file is read, so that one that is not set is told before anything is
//! begun; secrets are only looked for.

use std::path::Path;
use std::sync::Arc;

use super::problem::{ConfigError, Problem};
use crate::clock::Timestamp;
use crate::launch::Launch;

/// What a launch file is read with.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// What an environment variable holds.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The service, if the command line says it; it wins over the file.
    pub service: Option<&'a str>,
    /// The moment: a window that is over by then is a problem.
    pub at: Timestamp,
    /// Where relative paths of plans start: the folder of the file.
    pub folder: &'a Path,
}

/// A launch file that can be used.
#[derive(Clone, Debug)]
pub struct Read {
    /// What it says, with every default.
    pub launch: Arc<Launch>,
    /// What works, but hardly as it was meant.
    pub warnings: Vec<Problem>,
}

/// Reads a launch of either form. `name` is what errors call it; the older form has its name from there, too.
///
/// # Errors
///
/// The first thing that is not YAML or no known key; else all problems at once, each with place, value, line and cure.
pub fn read(_text: &str, name: &str, _around: &Around<'_>) -> Result<Read, ConfigError> {
    Err(ConfigError::Problems { name: name.to_owned(), problems: Vec::new() })
}

/// The names of all presets.
pub const PRESETS: [&str; 5] =
    ["payment-canary", "internal-blue-green", "web-progressive", "schema-first", "expand-contract"];

/// A launch file to begin with, for a service and the version that it is to get; `None`: there is no preset of that name.
pub fn preset(_name: &str, _service: &str, _version: &str) -> Option<String> {
    None
}
