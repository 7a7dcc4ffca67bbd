//! The composition root: the only place that sees every part.

use std::path::PathBuf;

use thiserror::Error;

use crate::config::{self, ConfigError, Overrides};

/// How the daemon is to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// What the command line said.
    pub overrides: Overrides,
}

/// Why the daemon did not run to its proper end.
#[derive(Debug, Error)]
pub enum RunError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It is valid, and there is nothing to carry it out.
    #[error("this build has no data plane")]
    Absent,
}

/// Runs until it is told to stop.
///
/// # Errors
///
/// If the configuration is not valid, or the daemon cannot start.
pub fn run(options: RunOptions) -> Result<(), RunError> {
    config::load(&options.config, &options.overrides)?;
    Err(RunError::Absent)
}

/// A proxy with two built-in apps and a gentle load.
pub mod demo {
    use super::RunError;

    /// How the demo is to run.
    #[derive(Clone, Debug)]
    pub struct DemoOptions {
        /// The proxy's port; the other ports and the socket follow it.
        pub port: u16,
    }

    /// Runs until somebody quits.
    ///
    /// # Errors
    ///
    /// If it cannot start.
    pub fn run(_: DemoOptions) -> Result<(), RunError> {
        Err(RunError::Absent)
    }
}
