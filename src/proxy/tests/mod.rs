//! Stories over real sockets: a proxy, origins that do exactly what a test says, and clients that look at
//! every byte.

mod client;
mod deadlines;
mod endings;
mod endpoints;
mod faults;
mod forwarding;
mod gate;
mod http2;
mod origin;
mod refusals;
mod room;
mod trial;
mod visitors;
mod wire;

use client::{Answer, Session, get, request};
use gate::{Gate, endpoint, gate};
use origin::{Origin, answer, origin};
