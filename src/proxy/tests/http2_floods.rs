//! What HTTP/2 allows a client to do at no cost, done a thousand times: each is bounded, and others are served.

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frames, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use super::{Gate, Origin, answer, gate, get, origin};
use crate::telemetry::ConnectionRefusal;

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "shop")];
const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "shop")];
/// RFC 9113 §7.
const ENHANCE_YOUR_CALM: u32 = 11;

/// An origin that never answers.
fn silent() -> Origin {
    origin(|_, stream| {
        // Until the proxy gives up.
        let _ = std::io::Read::read(stream, &mut [0]);
        false
    })
}

#[track_caller]
fn others_are_served(gate: &Gate) {
    assert_eq!(get(gate.address(), "/well", "").status, 200);
}

/// Answers `/well` alone.
fn reluctant() -> Origin {
    origin(|request, stream| {
        if request.line.contains("/well") {
            return std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .is_ok();
        }
        let _ = std::io::Read::read(stream, &mut [0]);
        false
    })
}

#[test]
fn a_rapid_reset_in_one_go_ends_the_connection() {
    let blue = reluctant();
    let gate = gate(&blue, &blue).start();
    let mut frames = Frames::open(gate.address());
    let mut flood = Vec::new();
    for stream in (1..6000).step_by(2) {
        flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET)));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    frames.write(&flood);
    assert!(matches!(frames.goaway(), Some(ENHANCE_YOUR_CALM) | None));
    others_are_served(&gate);
    gate.until_quiet();
    println!("3,000 streams reset at once: {} requests reached the endpoint", blue.seen().len() - 1);
    assert!(blue.seen().len() <= 150, "{}", blue.seen().len());
}

#[test]
fn a_rapid_reset_one_by_one_ends_the_connection() {
    let blue = reluctant();
    let gate = gate(&blue, &blue).start();
    let mut frames = Frames::open(gate.address());
    for (number, stream) in (1..6000).step_by(2).enumerate() {
        if !frames.headers(END_STREAM, stream, &GET) {
            break;
        }
        // Only when the request has been looked at: what comes in one go is bounded elsewhere.
        let arrived = |gate: &Gate| {
            let counts = gate.counts(crate::traffic::Variant::Blue).totals;
            counts.started > number as u64 || gate.refused(ConnectionRefusal::Resets) > 0
        };
        gate.until("it has arrived", arrived);
        if gate.refused(ConnectionRefusal::Resets) > 0 {
            break;
        }
        frames.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
    assert_eq!(gate.refused(ConnectionRefusal::Resets), 1);
    gate.until_quiet();
    let started = gate.counts(crate::traffic::Variant::Blue).totals.started;
    println!("3,000 streams reset one by one: {started} requests reached the endpoint");
    assert!((100..=110).contains(&started), "{started}");
    others_are_served(&gate);
}

#[test]
fn a_client_that_cancels_now_and_then_stays() {
    let blue = origin(|request, stream| {
        if request.line.contains("/well") {
            return std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .is_ok();
        }
        let _ = std::io::Read::read(stream, &mut [0]);
        false
    });
    let gate = gate(&blue, &blue).start();
    let mut frames = Frames::open(gate.address());
    let well = [(":method", "GET"), (":scheme", "http"), (":path", "/well"), (":authority", "shop")];
    let mut stream = 1;
    for round in 0..150 {
        frames.headers(END_STREAM, stream, &well);
        while frames.read().is_some_and(|frame| frame.stream != stream || frame.kind != HEADERS) {}
        frames.headers(END_STREAM, stream + 2, &GET);
        gate.until("it has arrived", |gate| {
            gate.counts(crate::traffic::Variant::Blue).totals.started >= 2 * (round + 1)
        });
        frames.send(RST_STREAM, 0, stream + 2, &8_u32.to_be_bytes());
        stream += 4;
    }
    frames.headers(END_STREAM, stream, &well);
    while frames.read().expect("it is still served").stream != stream {}
    assert_eq!(gate.refused(ConnectionRefusal::Resets), 0);
}

/// CVE-2025-8671: the client makes the proxy reset its streams.
#[test]
fn streams_that_we_are_made_to_reset_end_the_connection() {
    let blue = reluctant();
    let gate = gate(&blue, &blue).start();
    let mut frames = Frames::open(gate.address());
    let mut flood = Vec::new();
    for stream in (1..6000).step_by(2) {
        flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET)));
        // An increment of 0 is a stream error (RFC 9113 §6.9).
        flood.extend(frame(WINDOW_UPDATE, 0, stream, &[0; 4]));
    }
    frames.write(&flood);
    frames.goaway();
    others_are_served(&gate);
    gate.until_quiet();
    println!("3,000 streams made to be reset: {} requests reached the endpoint", blue.seen().len() - 1);
    assert!(blue.seen().len() <= 150, "{}", blue.seen().len());
}

/// CVE-2024-27316.
#[test]
fn a_head_that_goes_on_for_ever_ends_the_connection() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    let mut frames = Frames::open(gate.address());
    frames.send(HEADERS, END_STREAM, 1, &block(&GET));
    let more = frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(15_000))]));
    let mut sent = 0_usize;
    // 64 MiB, of which next to nothing is taken.
    while sent < 64 << 20 && frames.write(&more) {
        sent += more.len();
    }
    println!("of a head of 64 MiB, {sent} bytes left the client");
    assert!(sent < 32 << 20, "{sent}");
    assert_eq!(frames.fate(1), Fate::Closed);
    let mut frames = Frames::open(gate.address());
    frames.send(HEADERS, END_STREAM, 1, &block(&GET));
    let empty = frame(CONTINUATION, 0, 1, &[]).repeat(1000);
    for _ in 0..1000 {
        if !frames.write(&empty) {
            break;
        }
    }
    assert_eq!(frames.fate(1), Fate::Closed);
    assert!(blue.seen().is_empty());
    assert_eq!(gate.get("/", "").status, 200);
}

/// One small block that means a large head: a field is remembered once, and named a thousand times.
#[test]
fn a_head_that_is_small_on_the_wire_alone_is_refused() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    let mut frames = Frames::open(gate.address());
    let mut bomb = block(&GET);
    // Literal with incremental indexing, a value of 3,000 bytes; then 1,000 times index 62.
    bomb.extend([0x40, 1, b'x', 127]);
    let value = 3000 - 127;
    bomb.extend([(value & 127) as u8 | 128, (value >> 7) as u8]);
    bomb.extend(std::iter::repeat_n(b'y', 3000));
    bomb.extend(std::iter::repeat_n(0x80 | 62, 1000));
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &bomb);
    let fate = frames.fate(1);
    assert!(matches!(fate, Fate::Answered(431) | Fate::Reset | Fate::Closed), "{fate:?}");
    assert!(blue.seen().is_empty());
    assert_eq!(gate.get("/", "").status, 200);
}

#[test]
fn pings_and_settings_are_answered_only_as_fast_as_they_are_read() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[])] {
        let mut frames = Frames::open(gate.address());
        let flood = frame(kind, 0, 0, payload).repeat(1000);
        for _ in 0..20 {
            if !frames.write(&flood) {
                break;
            }
        }
        // The flood has been read, or the connection is over.
        let mut answers = 0;
        while answers < 20_000 {
            match frames.read() {
                Some(frame) if frame.kind == kind => answers += 1,
                Some(_) => {}
                None => break,
            }
        }
        assert_eq!(gate.get("/", "").status, 200);
    }
}

#[test]
fn small_and_empty_data_frames_do_not_pile_up() {
    let blue = silent();
    let gate = gate(&blue, &blue).start();
    for payload in [&b""[..], b"x"] {
        let mut frames = Frames::open(gate.address());
        frames.headers(0, 1, &POST);
        let flood = frame(DATA, 0, 1, payload).repeat(10_000);
        for _ in 0..100 {
            if !frames.write(&flood) {
                break;
            }
        }
        // A million frames later the connection has ended, or nothing has been kept of them.
        frames.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    }
    gate.until_quiet();
}

#[test]
fn a_connection_ends_in_good_order_after_so_many_requests() {
    let blue = answer("blue");
    let gate = gate(&blue, &blue).with(|gate| gate.live.limits.requests_per_connection_max = Some(2)).start();
    let mut frames = Frames::open(gate.address());
    frames.headers(END_STREAM, 1, &GET);
    frames.headers(END_STREAM, 3, &GET);
    assert_eq!(frames.goaway(), Some(0));
    gate.until_quiet();
    assert_eq!(blue.seen().len(), 2);
}
