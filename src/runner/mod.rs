//! Runs a launch: commands and checks where the operator's rights are, every step noted by the daemon before it begins.
//!
//! A runner holds the launch's lease and does what [`crate::launch::Run::next`] says, until it is over, somebody else has taken over, or a person
//! has to choose. No command of a launch outlives its runner: each runs under a *keeper*, this same program, which ends the whole process group
//! when its runner goes away or the time is over.
//!
//! ```text
//!  attend ── journal ── notes, records ──▶ daemon ◀── heartbeats ── signs
//!    │                                       ▲                        │ lease lost, Ctrl-C, stopped
//!    └─▶ hands, on a thread of their own ────┤ rollouts, probes       ▼
//!          └─▶ command ──▶ keeper ──▶ the command's process group   ends what is under way
//! ```

pub mod check;
pub mod keeper;
