//! What holds for every response: read by a connection as it is, over a pair of sockets, from an endpoint that says what it
//! likes in whatever pieces.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream as Peer;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty, Full};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::yield_now;

use super::super::stream::{Carrier, Stream};
use super::super::{Pools, Slot};
use super::{BodyError, Connection, ResponseBody, SendErrorKind, Upgraded};

/// More would only take longer.
const BYTES_MAX: usize = 4096;
/// So many pieces at most.
const CUTS_MAX: usize = 6;

type Body = Full<Bytes>;
type Fields = Vec<(String, Vec<u8>)>;

/// What was asked, and whether the endpoint hangs up when it has said all.
#[derive(Clone, Copy, Debug)]
struct Asked {
    method: &'static str,
    upgrade: bool,
    hangs_up: bool,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    head: Option<(u16, Fields)>,
    content: Vec<u8>,
    trailers: Fields,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// More has to come.
    Waits,
    Refused(SendErrorKind),
    Broken(BodyError),
    /// All was read; whether the connection may carry another request.
    Whole {
        goes_on: bool,
    },
    Switched,
}

/// The first byte says what is asked, the second one how the rest, the response, is cut into pieces.
pub fn responses(data: &[u8]) {
    let [how, cut, bytes @ ..] = data else { return };
    let bytes = bytes.get(..BYTES_MAX).unwrap_or(bytes);
    let asked = Asked {
        method: ["GET", "HEAD", "POST", "GET"][usize::from(how & 3)],
        upgrade: how & 3 == 3,
        hangs_up: how & 4 != 0,
    };
    let whole = read(asked, &[bytes]);
    assert_eq!(whole, read(asked, &pieces(bytes, *cut)), "it depends on how it arrives");
    ends_where_it_says(asked, bytes, &whole);
    if whole.end == (End::Whole { goes_on: true }) {
        assert!(!asked.hangs_up);
        let more = read(
            asked,
            &[bytes, b"H"].map(<[u8]>::to_vec).concat().chunks(BYTES_MAX + 1).collect::<Vec<_>>(),
        );
        assert_eq!(more.end, End::Whole { goes_on: false }, "somebody else's byte was taken");
        let (_, less) = bytes.split_last().unwrap_or((&0, &[]));
        assert_eq!(read(asked, &[less]).end, End::Waits, "the last byte was not waited for");
    }
}

/// Sides with nobody: what a plain reading of the bytes says about the content.
fn ends_where_it_says(asked: Asked, bytes: &[u8], reading: &Reading) {
    let Reading { head, content, trailers, end } = reading;
    let Some((status, fields)) = head else {
        assert!(content.is_empty() && trailers.is_empty());
        return;
    };
    let is_whole = matches!(end, End::Whole { .. });
    let Some(rest) = behind_final_head(bytes) else { panic!("a head that does not end: {reading:?}") };
    let field = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, value)| &value[..]);
    if *status == 101 {
        assert!(asked.upgrade && *end == End::Switched && content == rest);
    } else if asked.method == "HEAD" || matches!(status, 204 | 304) {
        assert!(content.is_empty() && trailers.is_empty() && is_whole);
        assert!(*status != 204 || field("content-length").is_none());
    } else if field("transfer-encoding").is_some() {
        let (plain, is_over) = unchunked(rest);
        assert!(plain.starts_with(content));
        assert!(!is_whole || (is_over && plain == *content), "{}", plain.escape_ascii());
    } else if let Some(length) = field("content-length") {
        let length: u64 =
            std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()).expect("a number");
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        assert_eq!(content, rest.get(..length).unwrap_or(rest));
        assert_eq!(is_whole, rest.len() >= length);
    } else {
        assert!(content == rest && is_whole == asked.hangs_up && *end != (End::Whole { goes_on: true }));
    }
}

/// What follows the first head whose status is not 1xx, 101 apart.
fn behind_final_head(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let (head, rest) = bytes.split_at(end);
    let status = head.get(9..12)?;
    if status.starts_with(b"1") && status != b"101" { behind_final_head(rest) } else { Some(rest) }
}

/// The content of chunks, read with the greatest lenience; whether they came to an end.
fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::new();
    loop {
        let Some(line) = rest.split(|byte| *byte == b'\n').next().filter(|line| line.len() < rest.len())
        else {
            return (content, false);
        };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size =
            std::str::from_utf8(&line[..digits]).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        let size = usize::try_from(size.unwrap_or(0)).unwrap_or(usize::MAX);
        rest = &rest[line.len() + 1..];
        if size == 0 {
            return (content, rest.starts_with(b"\r\n") || rest.windows(4).any(|four| four == b"\r\n\r\n"));
        }
        content.extend_from_slice(rest.get(..size).unwrap_or(rest));
        rest = rest.get(size.saturating_add(2)..).unwrap_or_default();
    }
}

/// Cut at random places; what is short byte by byte, if nobody knows better.
fn pieces(bytes: &[u8], cut: u8) -> Vec<&[u8]> {
    if cut == 0 && bytes.len() <= 256 {
        return bytes.chunks(1).collect();
    }
    let mut chance = fastrand::Rng::with_seed(cut.into());
    let mut cuts: Vec<usize> =
        (0..chance.usize(1..=CUTS_MAX)).map(|_| chance.usize(0..=bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).filter_map(|two| bytes.get(two[0]..two[1])).collect()
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
}

fn read(asked: Asked, pieces: &[&[u8]]) -> Reading {
    RUNTIME.with(|runtime| runtime.block_on(reading(asked, pieces)))
}

async fn reading(asked: Asked, pieces: &[&[u8]]) -> Reading {
    let (mut peer, ours) = Peer::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("sockets can");
    let stream = Stream(Carrier::Socket(UnixStream::from_std(ours).expect("a socket")));
    let connection = Connection::over(stream, slot());
    let reading =
        RefCell::new(Reading { head: None, content: Vec::new(), trailers: Vec::new(), end: End::Waits });
    let all_said = Cell::new(false);
    let has_said_something = pieces.iter().any(|piece| !piece.is_empty());
    let client = async {
        let (head, body) = request(asked).into_parts();
        let end = match connection.send(&head, body).await {
            Ok(sent) => {
                assert!(sent.informational <= 16);
                let (head, body) = sent.response.into_parts();
                reading.borrow_mut().head = Some((head.status.as_u16(), fields(&head.headers)));
                if head.status == 101 {
                    reading.borrow_mut().end = End::Switched;
                    take_all(body.into_upgraded().expect("bare bytes behind 101"), &reading).await;
                    End::Switched
                } else {
                    finish(body, &reading, &all_said).await
                }
            }
            Err(error) => {
                assert!(!error.is_unsent, "the whole request was sent");
                assert!(error.body.is_none() || !has_said_something, "it may not go elsewhere");
                End::Refused(error.kind)
            }
        };
        reading.borrow_mut().end = end;
    };
    let endpoint = async {
        for piece in pieces {
            // Far less than a socket holds, so nobody has to read meanwhile.
            let _ = peer.write_all(piece);
            turns(2).await;
        }
        if asked.hangs_up {
            let _ = peer.shutdown(Shutdown::Write);
        }
        turns(2).await;
        all_said.set(true);
        turns(4).await;
    };
    tokio::select! {
        biased;
        () = client => {}
        () = endpoint => {}
    }
    reading.into_inner()
}

async fn finish(mut body: ResponseBody<Body>, reading: &RefCell<Reading>, all_said: &Cell<bool>) -> End {
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => reading.borrow_mut().content.extend_from_slice(&data),
            Ok(Err(frame)) => {
                reading.borrow_mut().trailers =
                    frame.into_trailers().map(|map| fields(&map)).unwrap_or_default();
            }
            Err(error) => {
                assert!(body.release().is_none(), "a broken response's connection goes on");
                return End::Broken(error);
            }
        }
    }
    let mut connection = body.release();
    while !all_said.get() {
        yield_now().await;
    }
    End::Whole { goes_on: connection.as_mut().is_some_and(Connection::is_idle) }
}

async fn take_all(mut upgraded: Upgraded, reading: &RefCell<Reading>) {
    let mut some = [0; 512];
    while let Ok(count @ 1..) = upgraded.read(&mut some).await {
        reading.borrow_mut().content.extend_from_slice(some.get(..count).unwrap_or_default());
    }
}

/// Lets everything happen that can.
async fn turns(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

fn request(asked: Asked) -> Request<Body> {
    let mut request = Request::builder().method(asked.method).uri("/").header("host", "shop");
    if asked.upgrade {
        request = request.header("connection", "upgrade").header("upgrade", "websocket");
    }
    let body = if asked.method == "POST" { Bytes::from_static(b"body") } else { Bytes::new() };
    request.body(Full::new(body)).expect("a request")
}

fn slot() -> Slot {
    Pools::<Empty<Bytes>>::new(1, Arc::default()).slot().expect("nothing is open")
}

fn fields(map: &HeaderMap) -> Fields {
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}
