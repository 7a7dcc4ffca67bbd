//! Where requests are sent: endpoints, their health, the choice among them, and connections.
//!
//! An endpoint's identity survives table changes, so pools and counts can be kept for it; whether it is
//! healthy stands in the routing table, not here, so that there is one truth and one swap.

mod balance;
mod connection;
mod ejection;
mod endpoint;
mod gauge;
mod health;
mod http1;
mod http2;
mod names;
mod pool;
mod queue;
mod resolver;
mod stream;
mod tls;
mod transport;
mod way;

pub use balance::{BalanceSettings, Credit, Load, Policy, Ramp, next_in_turn, pick};
pub use connection::{Connection, ResponseBody, Sent};
pub use ejection::{
    Cause, Ejected, EjectionSettings, Found, Look, MaxEjected, Place, SuccessRate, Watch, has_room,
};
pub use endpoint::{Endpoint, EndpointSpec, EndpointUrl, EndpointUrlError};
pub use gauge::{Gauge, Seen};
pub use health::{Expected, Health, HealthSettings, Hysteresis, Probe};
#[cfg(any(test, fuzzing))]
pub(crate) use http1::laws;
pub use http1::{BodyError, Malformed, SendError, SendErrorKind, Upgraded};
pub use http2::Upload;
pub use names::{Name, Names};
pub use pool::{EndpointPool, Lease, Pools, Slot};
pub use queue::Turn;
pub use resolver::{LookUpError, Resolver};
pub use stream::Stream;
pub use tls::{EndpointTls, TlsError, TlsOptions};
pub use transport::{ConnectError, open};
pub use way::{Protocol, Reach, Way};

#[cfg(test)]
mod tests;
