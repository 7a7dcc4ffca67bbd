//! What Tidegate does for the people around it, each story over real sockets. `tests/soak` tells the long ones.

#[path = "../support/mod.rs"]
mod support;

mod admin_bad_input;
mod changes;
mod checks;
mod clients;
mod cookie;
mod descriptors;
mod drain;
mod endpoint_changes;
mod endpoints;
mod grpc;
mod kill;
mod launches;
mod many_services;
mod mirror;
mod probes;
mod reload;
mod requests_bad_input;
mod restart;
mod retries;
mod rollouts;
mod shares;
mod streaming;
mod telemetry;
mod tls;
mod upgrade;
mod websockets;
