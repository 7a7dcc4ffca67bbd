//! A proxy with two built-in apps and a gentle load, to play with.

use thiserror::Error;

/// How the demo is to run.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The proxy's port; the other ports and the socket follow it.
    pub port: u16,
}

/// Why the demo did not run.
#[derive(Debug, Error)]
pub enum DemoError {
    /// Nothing is built in.
    #[error("this build has no demo for port {port}")]
    Absent {
        /// The port asked for.
        port: u16,
    },
}

/// Runs until somebody quits.
///
/// # Errors
///
/// If it cannot start.
pub fn run(options: DemoOptions) -> Result<(), DemoError> {
    Err(DemoError::Absent { port: options.port })
}
