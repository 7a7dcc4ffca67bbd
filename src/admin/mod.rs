//! The admin API: HTTP and JSON under `/v1` on a unix socket.

pub mod api;
pub mod client;
pub mod server;
pub mod socket;
