//! Endpoints that speak HTTP/2 to Tidegate, also as nobody should: what of it reaches a client of HTTP/1.1.
//!
//! Every row has an endpoint and a Tidegate of its own, so that its request is the first of its connection. Whatever the
//! endpoint has said to it, the client's connection must carry a second one, which is answered as it should be.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::case::{GET, OK};
use super::client::Way;
use super::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, block, frame};
use super::show;
use crate::support::gate::tidegate;

const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// A row.
pub struct Row {
    pub name: String,
    pub rfc: &'static str,
    says: Vec<Said>,
    want: Want,
    /// How often the endpoint must have been asked, the second request apart.
    asked: usize,
    /// Whether the client's connection is to go on.
    goes_on: bool,
}

/// What the endpoint does with the first request that it gets.
#[derive(Clone, Debug)]
enum Said {
    /// A frame on the request's stream: kind, flags, payload.
    Frame(u8, u8, Vec<u8>),
    /// A frame on this stream.
    On(u32, u8, u8, Vec<u8>),
    /// The connection ends.
    Close,
}

enum Want {
    Status(u16),
    Exactly(&'static str),
}

fn head(flags: u8, fields: &[(&str, &str)]) -> Said {
    Said::Frame(HEADERS, flags | END_HEADERS, block(fields))
}

fn data(flags: u8, text: &str) -> Said {
    Said::Frame(DATA, flags, text.into())
}

fn reset(code: u32) -> Said {
    Said::Frame(RST_STREAM, 0, code.to_be_bytes().to_vec())
}

fn row(name: impl Into<String>, rfc: &'static str, says: impl Into<Vec<Said>>, want: Want) -> Row {
    Row { name: name.into(), rfc, says: says.into(), want, asked: 1, goes_on: true }
}

const STATUS: (&str, &str) = (":status", "200");

pub fn rows() -> Vec<Row> {
    [answers(), faults(), broken(), unseen()].into_iter().flatten().collect()
}

fn answers() -> Vec<Row> {
    let ok = |name: &str, rfc, says: Vec<Said>, gets: &'static str| row(name, rfc, says, Want::Exactly(gets));
    let length = ("content-length", "2");
    let whole = block(&[STATUS, length]);
    let (begin, end) = whole.split_at(7);
    vec![
        ok(
            "an answer with a length",
            "9113 §8.1",
            vec![head(0, &[STATUS, length]), data(END_STREAM, "ok")],
            OK,
        ),
        ok(
            "an answer without one",
            "9113 §8.1",
            vec![head(0, &[STATUS]), data(0, "o"), data(END_STREAM, "k")],
            "200 OK|transfer-encoding: chunked||ok",
        ),
        ok(
            "trailers that the client did not ask for stay here",
            "9113 §8.1",
            vec![head(0, &[STATUS]), data(0, "ok"), head(END_STREAM, &[("x-sum", "1")])],
            "200 OK|transfer-encoding: chunked||ok",
        ),
        ok("204", "9110 §15.3.5", vec![head(END_STREAM, &[(":status", "204")])], "204 No Content||"),
        ok(
            "103 stops here",
            "9110 §15.2",
            vec![
                head(0, &[(":status", "103"), ("link", "x")]),
                head(0, &[STATUS, length]),
                data(END_STREAM, "ok"),
            ],
            OK,
        ),
        ok(
            "a head in two frames",
            "9113 §6.10",
            vec![
                Said::Frame(HEADERS, 0, begin.to_vec()),
                Said::Frame(CONTINUATION, END_HEADERS, end.to_vec()),
                data(END_STREAM, "ok"),
            ],
            OK,
        ),
        ok(
            "frames of unknown kinds mean nothing",
            "9113 §5.5",
            vec![
                Said::Frame(0xbe, 0xff, b"what".to_vec()),
                head(0, &[STATUS, length]),
                Said::On(0, 0xbe, 0, Vec::new()),
                data(END_STREAM, "ok"),
            ],
            OK,
        ),
        // RFC 9113 §8.3 calls these malformed. The h2 crate passes over them, so that nobody sees them.
        ok(
            "a pseudo-field of requests goes no further",
            "9113 §8.3",
            vec![head(0, &[STATUS, (":path", "/"), length]), data(END_STREAM, "ok")],
            OK,
        ),
        ok(
            "a pseudo-field behind the content goes no further",
            "9113 §8.1",
            vec![head(0, &[STATUS]), data(0, "ok"), head(END_STREAM, &[(":status", "404")])],
            "200 OK|transfer-encoding: chunked||ok",
        ),
        ok(
            "a stream that is cancelled after its end",
            "9113 §8.1",
            vec![head(0, &[STATUS, length]), data(END_STREAM, "ok"), reset(0)],
            OK,
        ),
    ]
}

/// What is no answer is a bad gateway.
fn faults() -> Vec<Row> {
    let mut rows = Vec::new();
    for (rfc, fields) in [
        ("9113 §8.3.2", &[("x", "1")][..]),
        ("9113 §8.3.2", &[]),
        ("9113 §8.3", &[STATUS, STATUS]),
        ("9113 §8.3", &[STATUS, (":status", "404")]),
        ("9113 §8.3", &[("x", "1"), STATUS]),
        ("9113 §8.3", &[STATUS, (":unknown", "1")]),
        ("9110 §15", &[(":status", "20")]),
        ("9110 §15", &[(":status", "2000")]),
        ("9110 §15", &[(":status", "OK")]),
        ("9110 §15", &[(":status", "")]),
        ("9113 §8.6", &[(":status", "101")]),
        ("9113 §8.2", &[STATUS, ("X-Upper", "1")]),
        ("9113 §8.2", &[STATUS, ("x y", "1")]),
        ("9113 §8.2", &[STATUS, ("x\r\ny", "1")]),
        ("9113 §8.2", &[STATUS, ("", "1")]),
        ("9113 §8.2.1", &[STATUS, ("x", "a\r\nset-cookie: b")]),
        ("9113 §8.2.1", &[STATUS, ("x", "a\nb")]),
        ("9113 §8.2.1", &[STATUS, ("x", "a\0b")]),
        ("9113 §8.2.2", &[STATUS, ("connection", "close")]),
        ("9113 §8.2.2", &[STATUS, ("transfer-encoding", "chunked")]),
        ("9113 §8.2.2", &[STATUS, ("upgrade", "h2c")]),
        ("9113 §8.2.2", &[STATUS, ("keep-alive", "5")]),
        ("9113 §8.2.2", &[STATUS, ("proxy-connection", "close")]),
    ] {
        let says = [head(0, fields), data(END_STREAM, "evil")];
        rows.push(row(format!("an answer of {fields:?}"), rfc, says, Want::Status(502)));
    }
    for (name, rfc, says) in [
        ("content before the head", "9113 §8.1", vec![data(END_STREAM, "evil")]),
        (
            "fields that are none",
            "7541 §2.3",
            vec![Said::Frame(HEADERS, END_HEADERS | END_STREAM, vec![0xff; 8])],
        ),
        (
            "a head that another frame breaks",
            "9113 §6.10",
            vec![Said::Frame(HEADERS, 0, block(&[STATUS])), Said::On(0, PING, 0, vec![0; 8])],
        ),
        (
            "a push",
            "9113 §8.4",
            vec![Said::Frame(PUSH_PROMISE, END_HEADERS, [&[0, 0, 0, 2][..], &block(&[STATUS])].concat())],
        ),
        ("settings on a stream", "9113 §6.5", vec![Said::Frame(SETTINGS, 0, Vec::new())]),
        ("settings of a wrong size", "9113 §6.5", vec![Said::On(0, SETTINGS, 0, vec![0; 5])]),
        ("an answer to nobody", "9113 §5.1", vec![Said::On(99, HEADERS, END_HEADERS, block(&[STATUS]))]),
        ("CANCEL", "9113 §8.1", vec![reset(CANCEL)]),
        ("103 and the end of the stream", "9113 §8.1", vec![head(END_STREAM, &[(":status", "103")])]),
        ("nothing at all", "9113 §5.4.1", vec![Said::Close]),
    ] {
        rows.push(row(name, rfc, says, Want::Status(502)));
    }
    rows
}

/// What breaks off breaks off for the client, too.
fn broken() -> Vec<Row> {
    let cut = |name: &str, rfc, says: Vec<Said>, gets: &'static str| Row {
        goes_on: false,
        ..row(name, rfc, says, Want::Exactly(gets))
    };
    let length = ("content-length", "5");
    let long = "200 OK|content-length: 5||hel✂";
    let open = "200 OK|transfer-encoding: chunked||hel✂";
    vec![
        cut(
            "a length that is not reached",
            "9113 §8.1.1",
            vec![head(0, &[STATUS, length]), data(0, "hel"), data(END_STREAM, "")],
            long,
        ),
        cut(
            "a reset within a length",
            "9113 §8.1",
            vec![head(0, &[STATUS, length]), data(0, "hel"), reset(CANCEL)],
            long,
        ),
        cut("a reset", "9113 §8.1", vec![head(0, &[STATUS]), data(0, "hel"), reset(CANCEL)], open),
        cut(
            "an end of the connection",
            "9113 §8.1",
            vec![head(0, &[STATUS]), data(0, "hel"), Said::Close],
            open,
        ),
        cut(
            "trailers with a line of their own",
            "9113 §8.2.1",
            vec![head(0, &[STATUS]), data(0, "hel"), head(END_STREAM, &[("x", "a\r\nb: c")])],
            open,
        ),
    ]
}

/// What the endpoint says that it has not seen is asked again.
fn unseen() -> Vec<Row> {
    let again =
        |name: &str, rfc, says: Vec<Said>| Row { asked: 2, ..row(name, rfc, says, Want::Exactly(OK)) };
    let goaway = |last: u32| Said::On(0, GOAWAY, 0, [last.to_be_bytes(), [0; 4]].concat());
    vec![
        again("REFUSED_STREAM", "9113 §8.7", vec![reset(REFUSED_STREAM)]),
        again("GOAWAY that leaves it out", "9113 §6.8", vec![goaway(0), Said::Close]),
        row(
            "GOAWAY that lets it finish",
            "9113 §6.8",
            [goaway(1), head(0, &[STATUS, ("content-length", "2")]), data(END_STREAM, "ok")],
            Want::Exactly(OK),
        ),
    ]
}

/// Plays a row.
pub fn play(row: &Row) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("{{endpoints: [\"http://{}\"], protocol: h2}}", listener.local_addr().unwrap());
    // The candidate, who is never asked.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = format!("http://{}", other.local_addr().unwrap());
    let (script, asked) = (Arc::new(Mutex::new(Some(row.says.clone()))), Arc::new(AtomicUsize::new(0)));
    let seen = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (script, asked) = (script.clone(), seen.clone());
            std::thread::spawn(move || drop(serve(stream, &script, &asked)));
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gate = runtime.block_on(
        tidegate()
            .set("threads: 1")
            .service_at("shop", &url, &other)
            .with("retries: {on: [connect], budget: 100%, backoff: 1ms}")
            .start(),
    );
    let played = ask(row, &Way::Plain(gate.address()), &asked);
    let _entered = runtime.enter();
    drop(gate);
    played
}

fn ask(row: &Row, way: &Way, asked: &AtomicUsize) -> Result<(), String> {
    let mut client = way.connect();
    client.send(GET.as_bytes());
    let answer = client.answer(false).map_err(|why| format!("      client   {why}"))?;
    let got = show::answer(&answer);
    match row.want {
        Want::Status(status) if answer.status() != status => {
            return Err(show::diff(&status.to_string(), &got));
        }
        Want::Exactly(want) if got != want => return Err(show::diff(want, &got)),
        Want::Status(_) | Want::Exactly(_) => {}
    }
    let count = asked.load(Ordering::SeqCst);
    if count != row.asked {
        return Err(format!("      the endpoint was asked {count} times, not {}", row.asked));
    }
    if !row.goes_on {
        return client.ends().map_err(|why| format!("      then     {why}"));
    }
    client.send(GET.as_bytes());
    let next = client.answer(false).map_err(|why| format!("      then     {why}"))?;
    let next = show::answer(&next);
    if next == OK { Ok(()) } else { Err(format!("      then\n{}", show::diff(OK, &next))) }
}

/// Answers the first request with the script, and all others with `ok`.
fn serve(
    mut stream: TcpStream,
    script: &Mutex<Option<Vec<Said>>>,
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.read_exact(&mut [0; 24])?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload)?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], head[4]) {
            (SETTINGS, flags) if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            (PING, flags) if flags & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload))?,
            (HEADERS, _) => {
                asked.fetch_add(1, Ordering::SeqCst);
                let says = script.lock().unwrap().take();
                let says = says.unwrap_or_else(|| vec![head_ok(), data(END_STREAM, "ok")]);
                for said in says {
                    match said {
                        Said::Frame(kind, flags, payload) => {
                            stream.write_all(&frame(kind, flags, id, &payload))?
                        }
                        Said::On(id, kind, flags, payload) => {
                            stream.write_all(&frame(kind, flags, id, &payload))?
                        }
                        Said::Close => return stream.shutdown(std::net::Shutdown::Both),
                    }
                }
            }
            _ => {}
        }
    }
}

fn head_ok() -> Said {
    head(0, &[STATUS, ("content-length", "2")])
}
