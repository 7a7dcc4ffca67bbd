//! The data plane: takes requests in, sends each to its variant, and counts what became of it.
//!
//! One thread per core, each with its own runtime, listeners, connections and counters, so that a request
//! meets no lock and no other thread. `handler` is the life of a request on one page; the rest are its steps:
//!
//! ```text
//!  listener → opening → connection    PROXY header, TLS, the protocol; then hyper
//!                           │
//!                        handler ─┬─ target     what is asked for, or why it is refused
//!                                 ├─ visitor    who asks, and which variant he gets
//!                                 ├─ upgrade    whether it is to be HTTP no more
//!                                 ├─ headers    what goes on and what stops here
//!                                 ├─ forward ─┬─ place    an endpoint that has room, or the wait for it
//!                                 │           ├─ replay   the body, for as many attempts as it takes
//!                                 │           └─ retry    whether there is another attempt (budget: how many of all)
//!                                 ├─ mirror     a copy for the candidate, unseen (pair: compared)
//!                                 ├─ exchange   one request, one outcome
//!                                 └─ tunnel     bytes both ways, after an upgrade (pipe: one way)
//! ```
//!
//! `scrutiny` looks over hyper's shoulder: what clients of HTTP/1 send and two readers could read differently is refused.

mod body;
mod budget;
mod certificate;
mod choice;
mod client;
mod client_identity;
mod connection;
mod cookies;
mod crowd;
mod error;
mod exchange;
mod forward;
mod forwarded;
mod grpc;
mod guests;
mod handler;
mod headers;
mod judged;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod listener;
mod mirror;
mod note;
mod opening;
mod pair;
mod pipe;
mod place;
mod proxy_header;
mod redirect;
mod registry;
mod replay;
mod retry;
mod room;
mod scrutiny;
mod server;
mod settings;
mod sockets;
mod target;
mod tls;
mod tunnel;
mod upgrade;
mod visitor;
mod wire;
mod worker;

pub use certificate::{Authorities, Certificate, CertificateError, CertificateFiles};
pub use cookies::CookieNames;
pub use forwarded::{Origin, masked};
pub use listener::BindError;
pub use server::{Proxy, Shared, StartError};
pub use settings::{
    ClientLimits, ClientTimeouts, ForwardedHeader, Grace, ListenerSettings, LiveSettings, ProxySettings,
    TrustedProxies,
};
pub use sockets::{Place, Sockets};
pub use tls::{ClientAuth, TlsError, TlsSettings, TlsVersion};
pub use visitor::{Decision, Ignored, Means, decide};

#[cfg(test)]
mod tests;
