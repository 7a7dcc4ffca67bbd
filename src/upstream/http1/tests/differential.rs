//! The same bytes, read by us and by hyper's client. Where the two differ ours refuses, for a reason that is named
//! here; it never takes what hyper does not.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::net::TcpStream;

use super::endpoint::endpoint;
use super::{Script, read, request, run, send};
use crate::upstream::{BodyError, EndpointUrl, Malformed, SendErrorKind};

/// What a reader makes of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    /// No response at all.
    Refused(Option<Malformed>),
    /// A head, and no whole body behind it.
    Broken(Option<Malformed>),
    Whole(u16, Vec<(String, Vec<u8>)>, Vec<u8>, Vec<(String, Vec<u8>)>),
}

/// Says the same to everybody who asks.
struct Both {
    url: EndpointUrl,
    says: Arc<Mutex<Vec<u8>>>,
}

impl Both {
    fn start() -> Self {
        let says = Arc::<Mutex<Vec<u8>>>::default();
        let said = says.clone();
        let url = endpoint(move |_, peer| {
            peer.head();
            let bytes = said.lock().unwrap().clone();
            peer.say_if_heard(bytes);
            peer.says_no_more();
        });
        Self { url, says }
    }

    /// What we read, and what hyper reads.
    fn read(&self, method: &Method, bytes: &[u8]) -> (Read, Read) {
        bytes.clone_into(&mut self.says.lock().unwrap());
        run(async { (ours(&self.url, method).await, hypers(&self.url, method).await) })
    }
}

async fn ours(url: &EndpointUrl, method: &Method) -> Read {
    let sent = match send(url, request(method.as_str(), Script::default())).await {
        Ok(sent) => sent,
        Err(error) => {
            return Read::Refused(match error.kind {
                SendErrorKind::Protocol(malformed) => Some(malformed),
                SendErrorKind::Reset | SendErrorKind::Refused | SendErrorKind::RequestBody => None,
            });
        }
    };
    let (head, mut body) = sent.response.into_parts();
    match read(&mut body).await {
        Ok((content, trailers)) => Read::Whole(
            head.status.as_u16(),
            fields(&head.headers),
            content,
            fields(&trailers.unwrap_or_default()),
        ),
        Err(BodyError::Protocol(malformed)) => Read::Broken(Some(malformed)),
        Err(BodyError::Truncated | BodyError::RequestBody) => Read::Broken(None),
    }
}

async fn hypers(url: &EndpointUrl, method: &Method) -> Read {
    let stream = TcpStream::connect(url.authority()).await.unwrap();
    let mut builder = http1::Builder::new();
    builder.max_buf_size(64 * 1024).max_headers(256);
    let (mut requests, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::builder().method(method).uri("/").header("host", "shop");
    let got = requests.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await;
    let read = match got {
        Err(_) => Read::Refused(None),
        Ok(response) => {
            let (head, body) = response.into_parts();
            match body.collect().await {
                Err(_) => Read::Broken(None),
                Ok(whole) => {
                    let trailers = whole.trailers().cloned().unwrap_or_default();
                    let content = whole.to_bytes().to_vec();
                    Read::Whole(head.status.as_u16(), fields(&head.headers), content, fields(&trailers))
                }
            }
        }
    };
    driver.abort();
    read
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> = headers
        .iter()
        .map(|(name, value)| {
            let value = match value.to_str().unwrap_or_default().parse::<u64>() {
                // hyper leaves leading zeros in a length.
                Ok(length) if name == CONTENT_LENGTH => length.to_string().into_bytes(),
                _ => value.as_bytes().to_vec(),
            };
            (name.to_string(), value)
        })
        .collect();
    fields.sort();
    fields
}

/// Why a response that hyper takes is none for us.
fn is_stricter_on_purpose(malformed: Malformed) -> bool {
    match malformed {
        // hyper skips empty lines before the status line; only servers may (RFC 9112 §2.2).
        Malformed::NotHttp
        // hyper takes a lone LF for a line end. RFC 9112 §2.2 allows it, and readers behind us may not.
        | Malformed::LineEnd
        // hyper takes equal lengths, and lists of them, for one. Who says it twice may mean two.
        | Malformed::Length
        // hyper lets the coding override the length, which RFC 9112 §6.1 calls likely smuggling.
        | Malformed::TwoLengths
        // hyper hands on a coding that it does not undo, and reads one it does not know until the end.
        | Malformed::Coding
        // hyper reads chunks from HTTP/1.0, which knows none (RFC 9112 §6.1: framing is faulty).
        | Malformed::OldCoding
        // hyper passes over content-length and transfer-encoding in 1xx, which announce content (RFC 9110 §8.6).
        | Malformed::InformationalContent
        // hyper reads informational responses for ever.
        | Malformed::TooManyInformational
        // hyper gives 101 to those who never asked (RFC 9110 §15.2.2).
        | Malformed::Switch
        // hyper skips white space behind a chunk's size.
        | Malformed::ChunkSize
        // hyper skips control characters in chunk extensions.
        | Malformed::ChunkExtension => true,
        Malformed::StatusLine
        | Malformed::Field
        | Malformed::TooLong
        | Malformed::TooManyFields
        | Malformed::ChunkEnd
        | Malformed::Http2 => false,
    }
}

/// Whether two readings agree, or differ as they are meant to.
fn is_explained(ours: &Read, hypers: &Read) -> bool {
    match (ours, hypers) {
        (Read::Refused(_), Read::Refused(_)) | (Read::Broken(_), Read::Broken(_)) => true,
        (Read::Refused(Some(malformed)) | Read::Broken(Some(malformed)), _) => {
            is_stricter_on_purpose(*malformed)
        }
        (Read::Whole(status, ours, ..), Read::Whole(_, hypers, ..)) if *status == 204 => {
            // hyper leaves a length in a 204, where none may be (RFC 9110 §8.6).
            let mut expected = hypers.clone();
            expected.retain(|(name, _)| name != CONTENT_LENGTH.as_str());
            *ours == expected
        }
        (Read::Whole(..) | Read::Broken(None) | Read::Refused(None), _) => ours == hypers,
    }
}

#[test]
fn every_way_of_being_stricter_has_an_example() {
    let both = Both::start();
    let check = |text: &str, expected: Malformed| {
        let (ours, hypers) = both.read(&Method::GET, text.replace('|', "\r\n").as_bytes());
        let refused = match ours {
            Read::Refused(malformed) | Read::Broken(malformed) => malformed,
            Read::Whole(..) => None,
        };
        assert_eq!(refused, Some(expected), "{text}");
        assert!(matches!(hypers, Read::Whole(..)), "hyper has become as strict: {text} {hypers:?}");
        assert!(is_stricter_on_purpose(expected));
    };
    let chunked = "HTTP/1.1 200 OK|transfer-encoding: chunked||";
    check("|HTTP/1.1 200 OK|content-length: 0||", Malformed::NotHttp);
    check("HTTP/1.1 200 OK\ncontent-length: 0\n\n", Malformed::LineEnd);
    check("HTTP/1.1 200 OK|content-length: 2|content-length: 2||ok", Malformed::Length);
    check("HTTP/1.1 200 OK|transfer-encoding: chunked|content-length: 2||2|ok|0||", Malformed::TwoLengths);
    check("HTTP/1.1 200 OK|transfer-encoding: gzip, chunked||2|ok|0||", Malformed::Coding);
    check("HTTP/1.1 200 OK|transfer-encoding: gzip||ok", Malformed::Coding);
    let early = "HTTP/1.1 103 Early Hints|content-length: 9||";
    check(&format!("{early}HTTP/1.1 200 OK|content-length: 0||"), Malformed::InformationalContent);
    let endless = "HTTP/1.1 103 Early Hints||".repeat(17);
    check(&format!("{endless}HTTP/1.1 200 OK|content-length: 0||"), Malformed::TooManyInformational);
    check(&format!("{chunked}2  |ok|0||"), Malformed::ChunkSize);
    check(&format!("{chunked}2;\0|ok|0||"), Malformed::ChunkExtension);
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![30 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\n ")]
}

fn field() -> impl Strategy<Value = String> {
    let framing = prop_oneof![
        "content-length: ?[0-9]{1,2}",
        "Content-Length: [0-9, +a]{0,3}",
        Just("transfer-encoding: chunked".to_owned()),
        "transfer-encoding: (gzip, ?)?chunked",
        "Transfer-Encoding: [a-z]{1,4}",
        "connection: (close|keep-alive|upgrade|x)",
    ];
    prop_oneof![3 => framing, 2 => "[a-c-]{1,3} ?:[ \ta-c\u{1}\u{e9}\\x00]{0,4}", 1 => "[!-~ ]{0,6}"]
}

fn body() -> impl Strategy<Value = String> {
    let chunk = "([0-9a]|00?[1-3])( |;[a-z =\\x00]{0,4})?\r\n";
    prop_oneof![
        "[a-z]{0,12}",
        (prop::collection::vec("[a-z]{1,12}", 0..3), "(;x)?", "(a: b\r\n){0,2}").prop_map(
            |(chunks, ext, trailers)| {
                let chunks: String =
                    chunks.iter().map(|chunk| format!("{:x}{ext}\r\n{chunk}\r\n", chunk.len())).collect();
                format!("{chunks}0\r\n{trailers}\r\n")
            }
        ),
        (chunk, "[a-z]{0,4}\r\n", "(0\r\n\r\n)?").prop_map(|(size, data, end)| format!("{size}{data}{end}")),
    ]
}

fn response() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        10 => Just("HTTP/1.1 200 OK".to_owned()),
        2 => "HTTP/1\\.[01] (100|101|103|204|304|404|200)( [a-z]{0,3})?",
        1 => "[H ]TTP/[0-2]\\.[0-2] ?[0-9]{2,4}( OK)?",
    ];
    let early = prop_oneof![6 => Just(""), 1 => Just("HTTP/1.1 103 Early Hints\r\n\r\n"), 1 => Just("HTTP/1.1 100 Continue\r\na: b\r\n\r\n")];
    let lines = prop::collection::vec((field(), line_end()), 0..4);
    (early, status, line_end(), lines, line_end(), body()).prop_map(
        |(early, status, end, lines, empty, body)| {
            let lines: String = lines.iter().map(|(line, end)| format!("{line}{end}")).collect();
            format!("{early}{status}{end}{lines}{empty}{body}").into_bytes()
        },
    )
}

/// Now and then a byte is changed, lost or added, or the rest is.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"\r\n\0 \t:;,0a".to_vec())];
    (response(), prop::sample::select(vec![0, 0, 1, 2, 3, 4]), any::<prop::sample::Index>(), byte).prop_map(
        |(mut bytes, how, at, byte)| {
            let at = at.index(bytes.len());
            match how {
                1 => bytes[at] = byte,
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, byte),
                4 => bytes.truncate(at),
                _ => {}
            }
            bytes
        },
    )
}

#[test]
fn we_read_what_hyper_reads_or_refuse_it_for_a_reason() {
    let both = Both::start();
    // More by PROPTEST_CASES.
    proptest!(|(bytes in mutated(), is_head in prop::bool::weighted(0.1))| {
        let method = if is_head { Method::HEAD } else { Method::GET };
        let (ours, hypers) = both.read(&method, &bytes);
        prop_assert!(
            is_explained(&ours, &hypers),
            "{}\nours: {ours:?}\nhyper's: {hypers:?}",
            bytes.escape_ascii()
        );
    });
}
