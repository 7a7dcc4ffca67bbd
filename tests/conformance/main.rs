//! What Tidegate does with every message that somebody could misread, byte for byte.
//!
//! Each case is a row: what a client sends, what the endpoint must have got (or that it got nothing), what the endpoint
//! answers, what the client must get, and whether its connection goes on. Both ends are bare sockets. The endpoint records
//! each byte and reads strictly: a request that is not in the plainest form of RFC 9112 fails its case, whatever the case is
//! about. Afterwards every connection that is left, to the client and to the endpoint, must carry a request that gets its own
//! answer.
//!
//! Where the RFCs leave a choice:
//!
//! - **Versions.** HTTP/1.0 and 1.1 alone; HTTP/0.9 and any other number is refused (400), a higher minor version too.
//! - **What is malformed** is answered with 400 and the end of the connection, never mended: nothing behind it is answered.
//! - **Lengths.** `Content-Length` is digits. Several equal ones in fields of their own are one (RFC 9110 §8.6); a list in
//!   one field is refused, and so are both `Content-Length` and `Transfer-Encoding`.
//! - **Codings.** `Transfer-Encoding` is exactly `chunked`, once. Requests are forwarded with the framing that Tidegate
//!   has read, never with the one that the client wrote: chunks are cut anew, extensions go no further.
//! - **Hosts.** One `Host`, the same as in an absolute target. HTTP/1.0 may do without; the endpoint then gets its own name.
//! - **Targets** are forwarded as they came, in origin form; only absolute ones lose scheme and authority. Encoded slashes,
//!   backslashes and NUL are refused, because endpoints disagree about them.
//! - **Methods.** CONNECT and TRACE are not forwarded (405); unknown ones are.
//! - **`Connection`** takes away what it names, but not what frames a message, says whom it is for, or was added for the
//!   endpoint by proxies in front.
//! - **Answers of endpoints** are read as strictly as requests: anything ambiguous is 502, and its connection is closed.
//!   Informational ones but 100 stop here.
//! - **Retries.** A request that an endpoint has seen is sent again only if it is idempotent, has no body, and broke on a
//!   kept connection.
//!
//! It is a program of its own, so that it can say at its end how many cases ran: `cargo test --test conformance`, with part
//! of a name to play fewer.

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod case;
mod client;
mod endpoint;
mod show;
mod stage;
mod strict;

mod forwarding;
mod frames;
mod framing;
mod hop_by_hop;
mod host;
mod http2;
mod http2_endpoint;
mod mutation;
mod pipelining;
mod proxy_protocol;
mod responses;
mod syntax;
mod tls;
mod upgrades;
mod upstream_faults;

use std::process::ExitCode;

use case::Case;
use stage::Stage;

/// What is played on one stage.
struct Area {
    name: &'static str,
    stage: fn() -> Stage,
    rows: Rows,
}

/// What the rows of an area are.
enum Rows {
    Bytes(fn(&Stage) -> Vec<Case>),
    Frames(fn() -> Vec<http2::Row>),
    Endpoint(fn() -> Vec<http2_endpoint::Row>),
    Mutations,
}

const AREAS: &[Area] = &[
    Area { name: "syntax", stage: plain, rows: Rows::Bytes(syntax::cases) },
    Area { name: "host", stage: plain, rows: Rows::Bytes(host::cases) },
    Area { name: "framing", stage: plain, rows: Rows::Bytes(framing::cases) },
    Area { name: "pipelining", stage: plain, rows: Rows::Bytes(pipelining::cases) },
    Area { name: "hop_by_hop", stage: plain, rows: Rows::Bytes(hop_by_hop::cases) },
    Area { name: "forwarding", stage: plain, rows: Rows::Bytes(forwarding::cases) },
    Area {
        name: "forwarding_trusted",
        stage: forwarding::trusting,
        rows: Rows::Bytes(forwarding::trusted_cases),
    },
    Area { name: "responses", stage: plain, rows: Rows::Bytes(responses::cases) },
    Area { name: "upstream_faults", stage: plain, rows: Rows::Bytes(upstream_faults::cases) },
    Area { name: "upgrades", stage: upgrades::stage, rows: Rows::Bytes(upgrades::cases) },
    Area { name: "http2", stage: plain, rows: Rows::Frames(http2::rows) },
    Area { name: "http2_endpoint", stage: plain, rows: Rows::Endpoint(http2_endpoint::rows) },
    Area { name: "tls", stage: tls::stage, rows: Rows::Bytes(tls::cases) },
    Area { name: "tls_port", stage: tls::port, rows: Rows::Bytes(tls::port_cases) },
    Area { name: "proxy_protocol", stage: proxy_protocol::stage, rows: Rows::Bytes(proxy_protocol::cases) },
    Area { name: "mutation", stage: plain, rows: Rows::Mutations },
    Area { name: "abuse", stage: abuse::stage, rows: Rows::Bytes(abuse::cases) },
];

fn plain() -> Stage {
    Stage::new(|plan| plan)
}

/// How an area went.
#[derive(Default)]
struct Outcome {
    played: usize,
    failures: Vec<String>,
}

fn play(area: &Area, filter: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut stage = (area.stage)();
    let mut note = |name: &str, rfc: &str, play: &mut dyn FnMut() -> Result<(), String>| {
        if !format!("{}: {name}", area.name).contains(filter) {
            return;
        }
        outcome.played += 1;
        if let Err(why) = play() {
            outcome.failures.push(format!("FAILED {}: {name} (RFC {rfc})\n{why}", area.name));
        }
    };
    match area.rows {
        Rows::Bytes(cases) => {
            for case in cases(&stage) {
                note(&case.name, case.rfc, &mut || stage.play(&case));
            }
        }
        Rows::Mutations if "mutation".contains(filter) => {
            (outcome.played, outcome.failures) = mutation::play(&mut stage);
        }
        Rows::Mutations => {}
        Rows::Endpoint(rows) => {
            for row in rows() {
                note(&row.name, row.rfc, &mut || http2_endpoint::play(&row));
            }
        }
        Rows::Frames(rows) => {
            for row in rows() {
                note(&row.name, row.rfc, &mut || http2::play(&mut stage, &row));
            }
        }
    }
    outcome
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        AREAS.iter().for_each(|area| println!("{}: test", area.name));
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let areas: Vec<_> = AREAS.iter().map(|area| scope.spawn(move || play(area, filter))).collect();
        areas.into_iter().map(|area| area.join().unwrap()).collect()
    });
    let (mut played, mut failed) = (0, 0);
    for (area, outcome) in AREAS.iter().zip(&outcomes) {
        outcome.failures.iter().for_each(|failure| println!("{failure}"));
        println!("{:>5} cases  {} ({} failed)", outcome.played, area.name, outcome.failures.len());
        played += outcome.played;
        failed += outcome.failures.len();
    }
    println!("{played:>5} cases, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
