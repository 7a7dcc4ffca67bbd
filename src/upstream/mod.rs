//! Where requests are sent: endpoints, their health, the choice among them, and connections.
//!
//! An endpoint's identity survives table changes, so pools and counts can be kept for it; whether it is
//! healthy stands in the routing table, not here, so that there is one truth and one swap.

mod balance;
mod endpoint;
mod health;
mod http1;
mod names;
mod pool;
mod resolver;
mod stream;
mod tls;
mod transport;
mod way;

pub use balance::{Load, pick};
pub use endpoint::{Endpoint, EndpointSpec, EndpointUrl, EndpointUrlError};
pub use health::{Health, HealthSettings, Hysteresis};
pub use http1::{BodyError, Connection, Malformed, ResponseBody, SendError, SendErrorKind, Sent, Upgraded};
pub use names::{Name, Names};
pub use pool::{EndpointPool, Lease, Pools, Slot};
pub use resolver::{LookUpError, Resolver};
pub use stream::Stream;
pub use tls::{EndpointTls, TlsError, TlsOptions};
pub use transport::{ConnectError, open};
pub use way::{Reach, Way};

#[cfg(test)]
mod tests;
