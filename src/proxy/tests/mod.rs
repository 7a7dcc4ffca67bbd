//! Stories over real sockets: a proxy, origins that do exactly what a test says, and clients that look at
//! every byte.

mod authority;
mod client;
mod deadlines;
mod endings;
mod endpoints;
mod faults;
mod forwarding;
mod frames;
mod gate;
mod grpc;
mod http2;
mod http2_fields;
mod http2_floods;
mod http2_tunnels;
mod limits;
mod mirror;
mod origin;
mod places;
mod proxy_protocol;
mod refusals;
mod retries;
mod room;
mod tls;
mod trial;
mod tunnels;
mod visitors;
mod wire;

use authority::Authority;
use client::{Answer, Session, dial, get, request};
use gate::{Gate, endpoint, gate};
use origin::{Full, Origin, answer, origin};
