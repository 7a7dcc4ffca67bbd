//! HTTP/1.1 toward endpoints.
//!
//! What stands between a request and its endpoint is one socket and one task: the request's own. It writes
//! the head, the body and reads the response by itself, so a request costs no channel, no second task and no
//! copy of its body. The response's body owns the connection until its end, and gives it back only when
//! nothing is owed by either side: a connection that could carry somebody else's bytes is closed.
//!
//! What an endpoint sends is read strictly. A proxy that guesses where a message ends and an endpoint that
//! means something else are what request smuggling is made of, so a message that two readers could read
//! differently is an error (RFC 9112 §11.1, §11.2).
//!
//! ```text
//!  connection ─┬─ request_head   the head, as it is written
//!              ├─ upload         writing: head, body, trailers
//!              ├─ response_head  the head, as it is read ─ fields   lines and their ends
//!              ├─ framing        where the response ends ─ chunks   the chunked coding
//!              ├─ response_body  reading on, and giving the connection back
//!              └─ upgraded       what is left of it when the protocol changes
//! ```

mod chunks;
mod connection;
mod fields;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod request_head;
mod response_body;
mod response_head;
mod upgraded;
mod upload;

pub use connection::{Connection, SendError, SendErrorKind, Sent};
pub use fields::Malformed;
pub use response_body::{BodyError, ResponseBody};
pub use upgraded::Upgraded;

#[cfg(test)]
mod tests;
