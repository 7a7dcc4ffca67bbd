//! What stories are told with: origins that count what reaches them, a gate in front of them, load that flows
//! meanwhile.
//!
//! Everything is real: sockets on port 0, a state folder of its own, the admin API over its unix socket. The
//! HTTP of clients and origins is written by hand in [`http`], because stories are also about bytes that no
//! library would send, and about connections that end where no library would end them.

// Each test target uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod authority;
pub mod gate;
pub mod http;
pub mod load;
pub mod metrics;
pub mod names;
pub mod origin;
pub mod peer;
pub mod program;
pub mod registry;
pub mod site;

use std::time::Duration;

use tidegate::clock;

pub use authority::Authority;
pub use gate::{Gate, tidegate};
pub use http::{Message, Wire, connect, get};
pub use load::{By, Load, Seen, assert_share};
pub use metrics::Metrics;
pub use names::{NameServer, name_server};
pub use origin::{Mood, Origin, origin};
pub use registry::Registry;
pub use site::{Book, Site};

/// After this a condition is not going to come true any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `look` finds what it looks for, and fails with `what` when that takes too long.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let begun = clock::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(clock::now() - begun < PATIENCE, "{caller}: waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
