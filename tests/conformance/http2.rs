//! What comes by HTTP/2 and goes on as HTTP/1.1: nothing in it may become a line of its own.

use super::case::{Act, Forwarded, SAYS_OK};
use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frames, HEADERS, PING, SETTINGS, WINDOW_UPDATE, block,
    frame, headers,
};
use super::stage::Stage;

/// A row.
pub struct Row {
    pub name: String,
    pub rfc: &'static str,
    /// What the client sends behind its preface.
    frames: Vec<Vec<u8>>,
    want: Want,
    replies: Vec<Vec<Act>>,
    forwarded: Forwarded,
    /// The protocol that the endpoint may be asked for; none otherwise.
    upgrades: Option<&'static str>,
}

#[derive(Debug)]
enum Want {
    /// A reset, the end of the connection, or an answer of 4xx.
    Refused,
    Status(u16),
    Exactly(Fate),
}

/// Plays a row.
pub fn play(stage: &mut Stage, row: &Row) -> Result<(), String> {
    stage.endpoint.plays(&row.replies, row.upgrades);
    let mut client = Frames::open(stage.way.address());
    row.frames.iter().for_each(|frame| client.write(frame));
    let fate = client.fate();
    let is_wanted = match (&row.want, &fate) {
        (Want::Refused, Fate::Reset | Fate::Closed | Fate::Answered(400..=499, _)) => true,
        (Want::Status(want), Fate::Answered(status, _)) => want == status,
        (Want::Exactly(want), fate) => want == fate,
        _ => false,
    };
    let played = if is_wanted {
        Ok(())
    } else {
        Err(format!("      expected {:?}\n      got      {fate:?}", row.want))
    };
    drop(client);
    stage.settle(&row.forwarded, played)
}

const METHOD: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "shop");
const GET: [(&str, &str); 4] = [(":method", "GET"), SCHEME, PATH, AUTHORITY];
const GOT: &str = "GET / HTTP/1.1|host: shop|+||";
const GOT_POST: &str = "POST / HTTP/1.1|host: shop|";

fn start() -> Vec<Vec<u8>> {
    vec![frame(SETTINGS, 0, 0, &[])]
}

fn refused(name: String, rfc: &'static str, frames: Vec<Vec<u8>>) -> Row {
    let frames = [start(), frames].concat();
    let (want, forwarded) = (Want::Refused, Forwarded::Nothing);
    Row { name, rfc, frames, want, replies: Vec::new(), forwarded, upgrades: None }
}

fn passes(name: impl Into<String>, rfc: &'static str, frames: Vec<Vec<u8>>, forwarded: &str) -> Row {
    let want = Want::Exactly(Fate::Answered(200, b"ok".to_vec()));
    let forwarded = Forwarded::Exactly(vec![forwarded.to_owned()]);
    let frames = [start(), frames].concat();
    Row { name: name.into(), rfc, frames, want, replies: Vec::new(), forwarded, upgrades: None }
}

fn answered(name: &str, rfc: &'static str, says: &str, ends: Option<Act>, fate: Fate) -> Row {
    let mut row = passes(name, rfc, vec![headers(END_STREAM, &GET)], GOT);
    row.replies = vec![[Act::ReadBody, Act::Say(says.into())].into_iter().chain(ends).collect()];
    row.want = Want::Exactly(fate);
    row
}

pub fn rows() -> Vec<Row> {
    [requests(), fields(), pseudo_fields(), bodies(), frames(), answers(), tunnels()]
        .into_iter()
        .flatten()
        .collect()
}

fn post(fields: &[(&str, &str)]) -> Vec<Vec<u8>> {
    vec![headers(END_STREAM, &[&[METHOD, SCHEME, PATH, AUTHORITY], fields].concat())]
}

fn requests() -> Vec<Row> {
    let got = |fields: &str| format!("{GOT_POST}content-length: 0|{fields}+||");
    let mut rows = vec![passes("the plainest request", "9113 §8.3", vec![headers(END_STREAM, &GET)], GOT)];
    for (fields, left) in [
        (&[("te", "trailers")][..], "te: trailers|"),
        (&[("x", "")], "x: |"),
        (&[("x", "a b\tc")], "x: a b\\tc|"),
        (&[("x", "caf\u{e9}")], "x: caf\\xe9|"),
        (&[("x", ":a")], "x: :a|"),
        (&[("host", "shop")], ""),
        (&[("content-length", "0")], ""),
        (&[("expect", "100-continue")], ""),
        (&[("proxy", "http://evil/")], ""),
        (&[("proxy-authorization", "x")], ""),
        (&[("http2-settings", "x")], ""),
        (&[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6"), ("x_real_ip", "6.6.6.6")], ""),
        (&[("x-tidegate-variant", "green"), ("x-tidegate-visitor", "me")], ""),
        (&[("x", "1"), ("y", "2"), ("x", "3")], "x: 1|x: 3|y: 2|"),
        (&[("trailer", "x-sum")], "trailer: x-sum|"),
    ] {
        rows.push(passes(format!("the fields {fields:?}"), "9113 §8.2", post(fields), &got(left)));
    }
    rows.push(passes(
        "cookies in pieces are one again",
        "9113 §8.2.3",
        post(&[("cookie", "a=1"), ("cookie", "b=2")]),
        &got("cookie: a=1; b=2|"),
    ));
    rows.push(passes(
        "a host for an authority",
        "9113 §8.3.1",
        vec![headers(END_STREAM, &[(":method", "GET"), SCHEME, PATH, ("host", "shop")])],
        GOT,
    ));
    rows.push(passes(
        "an authority with a port",
        "9113 §8.3.1",
        vec![headers(END_STREAM, &[(":method", "GET"), SCHEME, PATH, (":authority", "shop:8080")])],
        "GET / HTTP/1.1|host: shop:8080|+||",
    ));
    rows.push(passes(
        "a path and a query",
        "9113 §8.3.1",
        vec![headers(END_STREAM, &[(":method", "GET"), SCHEME, (":path", "/a/../b?c=d"), AUTHORITY])],
        "GET /a/../b?c=d HTTP/1.1|host: shop|+||",
    ));
    rows.push(passes(
        "a fragment goes no further",
        "9113 §8.3.1",
        vec![headers(END_STREAM, &[(":method", "GET"), SCHEME, (":path", "/a#/../b"), AUTHORITY])],
        "GET /a HTTP/1.1|host: shop|+||",
    ));
    rows
}

fn fields() -> Vec<Row> {
    let mut rows = Vec::new();
    for (rfc, fields) in [
        ("9113 §8.2", &[("X-Upper", "1")][..]),
        ("9113 §8.2", &[("x upper", "1")]),
        ("9113 §8.2", &[("x:y", "1")]),
        ("9113 §8.2", &[("x\0y", "1")]),
        ("9113 §8.2", &[("x\r\ny", "1")]),
        ("9113 §8.2", &[("x\ny", "1")]),
        ("9113 §8.2", &[("", "1")]),
        ("9113 §8.2", &[("x\u{ff}", "1")]),
        ("9113 §8.2", &[("x\t", "1")]),
        ("9113 §8.2", &[("transfer-encoding:chunked\r\nx", "1")]),
        ("9113 §8.2.1", &[("x", "a\r\nsmuggled: b")]),
        ("9113 §8.2.1", &[("x", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: shop\r\n\r\n")]),
        ("9113 §8.2.1", &[("x", "a\nb")]),
        ("9113 §8.2.1", &[("x", "a\rb")]),
        ("9113 §8.2.1", &[("x", "a\0b")]),
        ("9113 §8.2.1", &[("x", "\n")]),
        ("9113 §8.2.1", &[("x", "a\r")]),
        ("9113 §8.2.1", &[("x", " a")]),
        ("9113 §8.2.1", &[("x", "a ")]),
        ("9113 §8.2.1", &[("x", "\ta")]),
        ("9113 §8.2.1", &[("x", "a\t")]),
        ("9113 §8.2.1", &[("x", " ")]),
        ("9113 §8.2.1", &[("x", "\u{1}")]),
        ("9113 §8.2.1", &[("x", "\u{7f}")]),
        ("9113 §8.2.2", &[("connection", "close")]),
        ("9113 §8.2.2", &[("connection", "x-forwarded-for")]),
        ("9113 §8.2.2", &[("connection", "")]),
        ("9113 §8.2.2", &[("keep-alive", "timeout=5")]),
        ("9113 §8.2.2", &[("proxy-connection", "close")]),
        ("9113 §8.2.2", &[("transfer-encoding", "chunked")]),
        ("9113 §8.2.2", &[("transfer-encoding", "identity")]),
        ("9113 §8.2.2", &[("transfer-encoding", "")]),
        ("9113 §8.2.2", &[("upgrade", "h2c")]),
        ("9113 §8.2.2", &[("upgrade", "websocket")]),
        ("9113 §8.2.2", &[("te", "gzip")]),
        ("9113 §8.2.2", &[("te", "trailers, gzip")]),
        ("9113 §8.2.2", &[("te", "chunked")]),
        ("9113 §8.1.1", &[("content-length", "5")]),
        ("9113 §8.1.1", &[("content-length", "0"), ("content-length", "5")]),
        ("9110 §8.6", &[("content-length", "+0")]),
        ("9110 §8.6", &[("content-length", "-1")]),
        ("9110 §8.6", &[("content-length", "0x0")]),
        ("9110 §8.6", &[("content-length", "0, 0")]),
        ("9110 §8.6", &[("content-length", "")]),
        ("9110 §8.6", &[("content-length", "0 ")]),
        ("9110 §8.6", &[("content-length", "99999999999999999999999")]),
        ("9110 §7.2", &[("host", "other")]),
        ("9110 §7.2", &[("host", "shop"), ("host", "shop")]),
        ("9110 §7.2", &[("host", "shop"), ("host", "other")]),
        ("9110 §7.2", &[("host", "")]),
        ("9113 §8.3", &[(":path", "/other")]),
        ("9113 §8.3", &[("x", "1"), (":method", "GET")]),
        ("9113 §8.3", &[(":status", "200")]),
        ("9113 §8.3", &[(":unknown", "1")]),
        ("9113 §8.3", &[(":", "1")]),
    ] {
        rows.push(refused(format!("the fields {fields:?}"), rfc, post(fields)));
        let late = [&[METHOD, SCHEME, PATH, AUTHORITY], fields].concat();
        if !fields.iter().any(|(name, _)| *name == "content-length") {
            let mut row = refused(
                format!("the fields {fields:?} and a body"),
                rfc,
                vec![headers(0, &late), frame(DATA, END_STREAM, 1, b"hello")],
            );
            row.forwarded = Forwarded::Nothing;
            rows.push(row);
        }
    }
    rows
}

fn pseudo_fields() -> Vec<Row> {
    let mut rows = Vec::new();
    for fields in [
        &[SCHEME, PATH, AUTHORITY][..],
        &[METHOD, PATH, AUTHORITY],
        &[METHOD, SCHEME, AUTHORITY],
        &[METHOD, SCHEME, PATH],
        &[METHOD, METHOD, SCHEME, PATH, AUTHORITY],
        &[METHOD, SCHEME, SCHEME, PATH, AUTHORITY],
        &[METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY],
        &[("x", "1"), METHOD, SCHEME, PATH, AUTHORITY],
        &[("x", "1")],
        &[],
        &[(":method", "GE T"), SCHEME, PATH, AUTHORITY],
        &[(":method", "GET / HTTP/1.1\r\nx: y"), SCHEME, PATH, AUTHORITY],
        &[(":method", "GET /smuggled HTTP/1.1\r\nhost: shop\r\n\r\nGET"), SCHEME, PATH, AUTHORITY],
        &[(":method", ""), SCHEME, PATH, AUTHORITY],
        &[(":method", "G\u{e4}T"), SCHEME, PATH, AUTHORITY],
        &[METHOD, (":scheme", "ftp"), PATH, AUTHORITY],
        &[METHOD, (":scheme", "ht tp"), PATH, AUTHORITY],
        &[METHOD, (":scheme", ""), PATH, AUTHORITY],
        &[METHOD, (":scheme", "http://evil/?"), PATH, AUTHORITY],
        &[METHOD, SCHEME, (":path", ""), AUTHORITY],
        &[METHOD, SCHEME, (":path", "a"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "*"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "/ HTTP/1.1\r\nx: y"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "/ HTTP/1.1\r\nhost: shop\r\n\r\nGET /smuggled"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "/a b"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "/a\tb"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "/a\0"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "/\u{c3}\u{a4}"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "/a%2fb"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "/a\\b"), AUTHORITY],
        &[METHOD, SCHEME, (":path", "http://other/"), AUTHORITY],
        &[METHOD, SCHEME, PATH, (":authority", "user@shop")],
        &[METHOD, SCHEME, PATH, (":authority", "shop/a")],
        &[METHOD, SCHEME, PATH, (":authority", "shop:x")],
        &[METHOD, SCHEME, PATH, (":authority", "shop:99999")],
        &[METHOD, SCHEME, PATH, (":authority", "a b")],
        &[METHOD, SCHEME, PATH, (":authority", "shop\r\nx: y")],
        &[METHOD, SCHEME, PATH, (":authority", "")],
        &[(":method", "CONNECT"), (":authority", "shop:443")],
        &[(":method", "CONNECT"), SCHEME, PATH, AUTHORITY],
        &[(":method", "TRACE"), SCHEME, PATH, AUTHORITY],
    ] {
        rows.push(refused(
            format!("the pseudo-fields {fields:?}"),
            "9113 §8.3",
            vec![headers(END_STREAM, fields)],
        ));
    }
    rows
}

fn bodies() -> Vec<Row> {
    let head = |fields: &[(&str, &str)]| headers(0, &[&[METHOD, SCHEME, PATH, AUTHORITY], fields].concat());
    let data = |flags: u8, text: &[u8]| frame(DATA, flags, 1, text);
    let mut rows = vec![
        passes(
            "a body with its length",
            "9113 §8.1.1",
            vec![head(&[("content-length", "5")]), data(END_STREAM, b"hello")],
            "POST / HTTP/1.1|host: shop|content-length: 5|+||hello",
        ),
        passes(
            "a body without a length",
            "9113 §8.1",
            vec![head(&[]), data(END_STREAM, b"hello")],
            "POST / HTTP/1.1|host: shop|transfer-encoding: chunked|+||5|hello|0||",
        ),
        passes(
            "a body that looks like chunks",
            "9113 §8.1",
            vec![head(&[]), data(END_STREAM, b"0\r\n\r\n")],
            "POST / HTTP/1.1|host: shop|transfer-encoding: chunked|+||5|0|||0||",
        ),
        passes(
            "an empty body",
            "9113 §8.1",
            vec![head(&[]), data(END_STREAM, b"")],
            "POST / HTTP/1.1|host: shop|transfer-encoding: chunked|+||0||",
        ),
        passes(
            "trailers",
            "9113 §8.1",
            vec![head(&[]), data(0, b"a"), headers(END_STREAM, &[("x-sum", "1")])],
            "POST / HTTP/1.1|host: shop|transfer-encoding: chunked|+||1|a|0|x-sum: 1||",
        ),
        passes(
            "trailers that a head alone may have",
            "9110 §6.5.1",
            vec![
                head(&[]),
                data(0, b"a"),
                headers(
                    END_STREAM,
                    &[
                        ("host", "evil"),
                        ("content-length", "9"),
                        ("cookie", "a"),
                        ("x-forwarded-for", "6.6.6.6"),
                    ],
                ),
            ],
            "POST / HTTP/1.1|host: shop|transfer-encoding: chunked|+||1|a|0||",
        ),
    ];
    for (length, body) in [("3", &b"12345"[..]), ("5", b"123"), ("0", b"1"), ("1", b""), ("4", b"12345")] {
        let mut row = refused(
            format!("a body of {} with the length {length}", body.len()),
            "9113 §8.1.1",
            vec![head(&[("content-length", length)]), data(END_STREAM, body)],
        );
        row.forwarded = Forwarded::Unfinished;
        rows.push(row);
    }
    for fields in [
        &[("connection", "x")][..],
        &[("transfer-encoding", "chunked")],
        &[("X", "y")],
        &[("x", "a\r\nb: c")],
        &[("x", "a\nb")],
        &[("x\r\ny", "1")],
    ] {
        let mut row = refused(
            format!("the trailers {fields:?}"),
            "9113 §8.1",
            vec![head(&[]), data(0, b"a"), headers(END_STREAM, fields)],
        );
        row.forwarded = Forwarded::Unfinished;
        rows.push(row);
    }
    for (name, last) in [
        ("a body that is reset", frame(3, 0, 1, &[0, 0, 0, 8])),
        ("a second head instead of trailers", headers(0, &GET)),
    ] {
        let mut row = refused(name.to_owned(), "9113 §8.1", vec![head(&[]), data(0, b"a"), last]);
        row.forwarded = Forwarded::Unfinished;
        if name.contains("is reset") {
            // Nobody waits for an answer; a ping of another size ends the connection.
            row.frames.push(frame(PING, 0, 0, &[0; 7]));
        }
        rows.push(row);
    }
    rows
}

fn frames() -> Vec<Row> {
    let section = block(&GET);
    let (first, second) = section.split_at(10);
    let get = || headers(END_STREAM, &GET);
    let mut rows = vec![
        passes(
            "a head in pieces",
            "9113 §6.10",
            vec![frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, second)],
            GOT,
        ),
        passes("a frame of an unknown kind", "9113 §4.1", vec![frame(0xbe, 0xff, 0, b"x"), get()], GOT),
        passes(
            "unknown settings",
            "9113 §6.5.2",
            vec![frame(SETTINGS, 0, 0, &[0xff, 0xff, 0, 0, 0, 1]), get()],
            GOT,
        ),
        passes(
            "padding",
            "9113 §6.2",
            vec![frame(HEADERS, END_STREAM | END_HEADERS | 8, 1, &[&[3], &section[..], &[0, 0, 0]].concat())],
            GOT,
        ),
        passes(
            "a priority",
            "9113 §6.2",
            vec![frame(
                HEADERS,
                END_STREAM | END_HEADERS | 0x20,
                1,
                &[&[0, 0, 0, 0, 16], &section[..]].concat(),
            )],
            GOT,
        ),
    ];
    for (name, rfc, frames) in [
        ("data before a head", "9113 §5.1", vec![frame(DATA, END_STREAM, 1, b"x")]),
        ("a head on stream 0", "9113 §6.2", vec![frame(HEADERS, END_STREAM | END_HEADERS, 0, &section)]),
        ("data on stream 0", "9113 §6.1", vec![frame(DATA, 0, 0, b"x")]),
        (
            "a head on an even stream",
            "9113 §5.1.1",
            vec![frame(HEADERS, END_STREAM | END_HEADERS, 2, &section)],
        ),
        (
            "a push from a client",
            "9113 §8.4",
            vec![frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2], &section[..]].concat())],
        ),
        (
            "a frame between the pieces of a head",
            "9113 §6.10",
            vec![
                frame(HEADERS, END_STREAM, 1, first),
                frame(PING, 0, 0, &[0; 8]),
                frame(CONTINUATION, END_HEADERS, 1, second),
            ],
        ),
        (
            "another stream's piece of a head",
            "9113 §6.10",
            vec![frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 3, second)],
        ),
        (
            "a piece of a head that nobody began",
            "9113 §6.10",
            vec![frame(CONTINUATION, END_HEADERS, 1, second)],
        ),
        (
            "more padding than there is",
            "9113 §6.2",
            vec![frame(HEADERS, END_STREAM | END_HEADERS | 8, 1, &[&[255], &section[..]].concat())],
        ),
        (
            "a stream that waits for itself",
            "9113 §5.3.1",
            vec![frame(2, 0, 1, &[0, 0, 0, 1, 16]), frame(PING, 0, 0, &[0; 7])],
        ),
        ("settings of a wrong size", "9113 §6.5", vec![frame(SETTINGS, 0, 0, &[0; 5])]),
        ("settings on a stream", "9113 §6.5", vec![frame(SETTINGS, 0, 1, &[])]),
        ("a window too large", "9113 §6.5.2", vec![frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])]),
        ("a frame size too small", "9113 §6.5.2", vec![frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])]),
        ("a ping of a wrong size", "9113 §6.7", vec![frame(PING, 0, 0, &[0; 7])]),
        ("a ping on a stream", "9113 §6.7", vec![frame(PING, 0, 1, &[0; 8])]),
        ("a window opened by nothing", "9113 §6.9", vec![frame(WINDOW_UPDATE, 0, 0, &[0; 4])]),
        (
            "a window that overflows",
            "9113 §6.9.1",
            vec![
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            ],
        ),
        ("a frame larger than allowed", "9113 §4.2", vec![frame(DATA, 0, 1, &[0; 20_000])]),
        (
            "a head that is not compressed as it should",
            "7541 §4.1",
            vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
        ),
        (
            "an index beyond the table",
            "7541 §2.3.3",
            vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xfe])],
        ),
        ("an index of nothing", "7541 §6.1", vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x80])]),
        (
            "a length beyond the head",
            "7541 §5.2",
            vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0, 100, b'a'])],
        ),
        ("HTTP/1 behind the preface", "9113 §3.4", vec![b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n".to_vec()]),
        ("too many fields", "6585 §5", vec![headers(END_STREAM, &[&GET[..], &[("x", "y"); 120]].concat())]),
        ("a head too large", "6585 §5", {
            let value = "y".repeat(8000);
            let fields: Vec<_> = (0..6).map(|_| ("x", value.as_str())).collect();
            let section = block(&[&GET[..], &fields].concat());
            let mut pieces = section.chunks(16_000);
            let mut frames = vec![frame(HEADERS, END_STREAM, 1, pieces.next().unwrap_or_default())];
            frames.extend(pieces.map(|piece| frame(CONTINUATION, 0, 1, piece)));
            frames.push(frame(CONTINUATION, END_HEADERS, 1, &[]));
            frames
        }),
    ] {
        rows.push(refused(name.to_owned(), rfc, frames));
    }
    rows
}

fn answers() -> Vec<Row> {
    let ok = |body: &str| Fate::Answered(200, body.as_bytes().to_vec());
    let cut = |body: &str| Fate::Truncated(200, body.as_bytes().to_vec());
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let status = |status: u16| Fate::Answered(status, Vec::new());
    let bad = || Fate::Answered(502, b"the service gave no valid answer\n".to_vec());
    vec![
        answered("an answer with a length", "9113 §8.1", SAYS_OK, None, ok("ok")),
        answered("an answer in chunks", "9113 §8.2.2", &chunked("2\r\nok\r\n0\r\n\r\n"), None, ok("ok")),
        answered(
            "an answer with trailers",
            "9113 §8.1",
            &chunked("2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"),
            None,
            ok("ok"),
        ),
        answered(
            "an answer that ends with its connection",
            "9112 §6.3",
            "HTTP/1.1 200 OK\r\n\r\nok",
            Some(Act::Close),
            ok("ok"),
        ),
        answered(
            "an answer about its connection",
            "9113 §8.2.2",
            "HTTP/1.1 200 OK\r\nConnection: X, close\r\nX: y\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\nProxy-Connection: x\r\nContent-Length: 2\r\n\r\nok",
            None,
            ok("ok"),
        ),
        answered(
            "informational answers stop here",
            "9110 §15.2",
            &format!("HTTP/1.1 103 Hints\r\n\r\n{SAYS_OK}"),
            None,
            ok("ok"),
        ),
        answered("204", "9110 §15.3.5", "HTTP/1.1 204 No Content\r\n\r\n", None, status(204)),
        answered(
            "304",
            "9110 §15.4.5",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            None,
            status(304),
        ),
        answered(
            "a length that is not reached is a reset",
            "9113 §8.1",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            Some(Act::Close),
            cut("hello"),
        ),
        answered(
            "chunks that stop are a reset",
            "9113 §8.1",
            &chunked("5\r\nhello\r\n"),
            Some(Act::Close),
            cut("hello"),
        ),
        answered(
            "a chunk that stops is a reset",
            "9113 §8.1",
            &chunked("a\r\nhello"),
            Some(Act::Close),
            cut("hello"),
        ),
        answered(
            "trailers that stop are a reset",
            "9113 §8.1",
            &chunked("5\r\nhello\r\n0\r\nX: y\r\n"),
            Some(Act::Close),
            cut("hello"),
        ),
        answered("bad chunks are a reset", "9113 §8.1", &chunked("5\r\nhello\r\nx\r\n"), None, cut("hello")),
        answered(
            "bad trailers are a reset",
            "9113 §8.1",
            &chunked("5\r\nhello\r\n0\r\nX : y\r\n\r\n"),
            None,
            cut("hello"),
        ),
        answered("garbage is a bad gateway", "9112 §4", "hello\r\n\r\n", None, bad()),
        answered(
            "two lengths are a bad gateway",
            "9112 §6.3",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            None,
            bad(),
        ),
        answered(
            "101 is a bad gateway",
            "9113 §8.6",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            None,
            bad(),
        ),
        Row {
            forwarded: Forwarded::Exactly(vec![GOT.to_owned(); 2]),
            ..answered("what is not answered is asked again", "9110 §9.2.2", "", Some(Act::Close), ok("ok"))
        },
        answered(
            "more than the length",
            "9112 §6.3",
            &format!("{SAYS_OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
            None,
            ok("ok"),
        ),
    ]
}

/// A request for a tunnel (RFC 8441 §4), and what comes behind it.
fn tunnel(name: &str, rfc: &'static str, fields: &[(&str, &str)], data: &[u8], left: (&str, &str)) -> Row {
    let connect =
        [&[(":method", "CONNECT"), WEBSOCKET, SCHEME, (":path", "/chat"), AUTHORITY], fields].concat();
    let got = format!(
        "GET /chat HTTP/1.1|host: shop|connection: upgrade|sec-websocket-key: *|{}sec-websocket-version: 13|upgrade: websocket|+||{}",
        left.0, left.1
    );
    let mut row = passes(name, rfc, vec![headers(0, &connect), data.to_vec()], &got);
    row.upgrades = Some("websocket");
    row.replies = vec![vec![Act::Accept, Act::Take(5), Act::Say(b"bye".to_vec()), Act::Close]];
    row.want = Want::Exactly(Fate::Answered(200, b"bye".to_vec()));
    row
}

const WEBSOCKET: (&str, &str) = (":protocol", "websocket");

fn tunnels() -> Vec<Row> {
    let hello = frame(DATA, 0, 1, b"hello");
    let mut rows = vec![
        tunnel("a tunnel is an upgrade at the endpoint", "8441 §5", &[], &hello, ("", "hello")),
        tunnel(
            "what a WebSocket says of itself goes on",
            "8441 §5",
            &[("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat"), ("origin", "http://shop")],
            &hello,
            ("", "hello"),
        ),
        tunnel(
            "pieces are put together",
            "8441 §5",
            &[],
            &[frame(DATA, 0, 1, b"he"), frame(DATA, 0, 1, b"llo")].concat(),
            ("", "hello"),
        ),
    ];
    if let Forwarded::Exactly(requests) = &mut rows[1].forwarded {
        requests[0] = requests[0]
            .replace("|sec-websocket-key", "|origin: http://shop|sec-websocket-key")
            .replace("|sec-websocket-version", "|sec-websocket-protocol: chat|sec-websocket-version");
    }
    let mut over = tunnel(
        "a stream that ends is a side that ends",
        "8441 §5",
        &[],
        &frame(DATA, END_STREAM, 1, b"hello"),
        ("", "hello"),
    );
    over.replies = vec![vec![Act::Accept, Act::TakeAll, Act::Say(b"bye".to_vec()), Act::Close]];
    rows.push(over);
    let mut broken = tunnel("a tunnel that breaks off is a reset", "8441 §5", &[], &hello, ("", "hello"));
    broken.replies = vec![vec![Act::Accept, Act::Take(5), Act::Reset]];
    broken.want = Want::Exactly(Fate::Truncated(200, Vec::new()));
    rows.push(broken);
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n";
    for (name, rfc, says, status) in [
        (
            "a proof of something else",
            "6455 §4.1",
            format!("{head}Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"),
            502,
        ),
        ("no proof", "6455 §4.1", format!("{head}Upgrade: websocket\r\n\r\n"), 502),
        ("another protocol", "9110 §7.8", format!("{head}Upgrade: h2c\r\n\r\n"), 502),
        ("no protocol", "9110 §7.8", format!("{head}\r\n"), 502),
        ("an answer that to CONNECT would be a tunnel", "9110 §9.3.6", SAYS_OK.to_owned(), 502),
        ("204, which would be one, too", "9110 §9.3.6", "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), 502),
        ("403", "8441 §5", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned(), 403),
        (
            "426",
            "9113 §8.2.2",
            "HTTP/1.1 426 No\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
            426,
        ),
    ] {
        let mut row = tunnel(&format!("a tunnel that is answered by {name}"), rfc, &[], &[], ("", ""));
        row.replies = vec![vec![Act::ReadBody, Act::Say(says.into())]];
        row.want = Want::Status(status);
        rows.push(row);
    }
    for protocol in ["h2c", "irc", "websocket/13", "connect-udp"] {
        let fields = [(":method", "CONNECT"), (":protocol", protocol), SCHEME, PATH, AUTHORITY];
        let mut row = refused(format!("a tunnel for {protocol}"), "9220 §3", vec![headers(0, &fields)]);
        row.want = Want::Status(501);
        rows.push(row);
    }
    for fields in [
        &[(":method", "CONNECT"), WEBSOCKET, SCHEME, AUTHORITY][..],
        &[(":method", "CONNECT"), WEBSOCKET, PATH, AUTHORITY],
        &[(":method", "CONNECT"), WEBSOCKET, AUTHORITY],
        &[(":method", "CONNECT"), WEBSOCKET, WEBSOCKET, SCHEME, PATH, AUTHORITY],
        &[(":method", "GET"), WEBSOCKET, SCHEME, PATH, AUTHORITY],
    ] {
        rows.push(refused(format!("the pseudo-fields {fields:?}"), "8441 §4", vec![headers(0, fields)]));
    }
    rows
}
