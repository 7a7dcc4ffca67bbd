//! The server side of the admin API, on a unix socket.
//!
//! Who may connect is decided by the socket's mode alone (0660, in a folder of 0750); who did what is known from
//! the peer's uid. The server runs on a thread of its own and every wait in it has a deadline, so a stuck
//! or greedy client reaches neither traffic nor somebody else's kill.

mod answer;
mod endpoints;
mod explain;
mod launches;
mod listener;
mod patience;
mod places;
mod probes;
mod rollouts;
mod routes;
mod status;

pub use listener::{AdminError, AdminListener};
pub use routes::{Admit, Break, MakePlan, Reload, Speaks, Stop, Ties, Upgrade};

#[cfg(test)]
mod tests;
