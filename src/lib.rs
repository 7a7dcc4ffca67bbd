//! Tidegate: an edge reverse proxy that moves traffic from one version of an app to the next by
//! degrees, measures both on the same requests, and shuts the new one when it is worse.
//!
//! The modules form layers; ARCHITECTURE.md draws them, and `tests/layers.rs` holds them. In short:
//! [`traffic`] decides purely which variant a visitor gets; [`routing`] is the immutable table that
//! [`control`] publishes and [`proxy`] reads; [`telemetry`] is where the proxy counts and control
//! looks; [`rollout`] purely decides how far a release may go; [`admin`], [`config`] and [`cli`] are the edges; [`app`] puts the parts together,
//! and [`demo`] shows them.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod hooks;
pub mod launch;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod laws;
pub mod outbound;
pub mod proxy;
pub mod rollout;
pub mod routing;
pub mod runner;
pub mod shared_list;
pub mod simulate;
pub mod store;
pub mod telemetry;
pub mod traffic;
pub mod upstream;
pub mod wording;
