//! The composition root: the only place that sees every part.
//!
//! [`Running`] puts the parts together, each on the threads it belongs on: one worker per core for traffic, one thread
//! for the admin socket and telemetry, one for health checks and the clock's ticks, and the writers of
//! state, kill locks, audit log and access log. [`run`] is the daemon around it: signals, and the exit code.

mod admission;
mod certificates;
mod descriptors;
mod facts;
mod handover;
mod phase;
mod reloader;
mod run;
mod running;
mod supervisor;
mod threads;
mod upgrader;

pub use handover::TakeOverError;
pub use run::{RunError, RunOptions, listen_for_signals, run};
pub use running::{Extras, Running, Source, StartError};
