//! Requests and answers with random changes.
//!
//! Of what clients send, a reader of its own here takes only what nobody can misunderstand, and stops at the first doubt.
//! What the endpoint gets must be the beginning of that list: same methods, same targets, same bodies. Tidegate may refuse
//! more; it must not forward more, nor see a request where this reader sees none. One request of HTTP/2 is one request, or
//! none, whatever its fields hold. Of what the endpoint says, nothing may be left on a connection that carries another
//! request.

use fastrand::Rng;

use super::case::Act;
use super::client::Way;
use super::endpoint::Received;
use super::frames::{DATA, END_STREAM, Fate, Frames, SETTINGS, frame, headers};
use super::show::bytes_as_text;
use super::stage::Stage;
use super::strict::{self, head_length};

/// So many of each kind, unless the environment variable MUTATIONS says otherwise; the seed of each is its number.
const COUNT: u64 = 400;

const REQUESTS: &[&str] = &[
    "GET /a HTTP/1.1\r\nHost: shop\r\n\r\n",
    "GET /b HTTP/1.1\r\nHost: shop\r\nX: y\r\nConnection: keep-alive\r\n\r\n",
    "POST /c HTTP/1.1\r\nHost: shop\r\nContent-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n",
    "POST /d HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST /e HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST /f HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: shop\r\n\r\n26\r\nGET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n\r\n0\r\nX: y\r\n\r\n",
    "POST /g HTTP/1.1\r\nHost: shop\r\nX: Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
];

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n29\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil\r\n0\r\nX: y\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 41\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
];

/// What is put in, besides bytes of any kind.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n\n",
    " ",
    "\t",
    "\0",
    ":",
    ",",
    ";",
    "0",
    "1",
    "5",
    "+",
    "-",
    "0x",
    "\x0b",
    "\r\n ",
    "\r\n\t",
    "chunked",
    ", chunked",
    "x",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: x\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Host: other\r\n",
    "Connection: close\r\n",
    "Connection: content-length\r\n",
    "HTTP/1.0",
    " HTTP/1.1",
    "\u{e9}",
];

/// Of fields that HTTP/2 and HTTP/1 treat differently, and others.
const NAMES: &[&str] = &[
    "x",
    "content-length",
    "transfer-encoding",
    "connection",
    "host",
    "te",
    "upgrade",
    "cookie",
    "expect",
    "trailer",
    "x-forwarded-for",
];

/// What is played, and how it went.
pub fn play(stage: &mut Stage) -> (usize, Vec<String>) {
    let mut failures = Vec::new();
    let count = std::env::var("MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(COUNT);
    for seed in 0..count {
        let mut random = Rng::with_seed(seed);
        if let Err(why) = play_requests(stage, &mut random) {
            failures.push(format!("FAILED mutation: requests of seed {seed} (RFC 9112 §11.2)\n{why}"));
        }
        if let Err(why) = play_fields(stage, &mut random) {
            failures.push(format!("FAILED mutation: fields of seed {seed} (RFC 9113 §10.3)\n{why}"));
        }
        if let Err(why) = play_answer(stage, &mut random) {
            failures.push(format!("FAILED mutation: answer of seed {seed} (RFC 9112 §11.1)\n{why}"));
        }
    }
    (3 * count as usize, failures)
}

fn choose<'c>(random: &mut Rng, from: &[&'c str]) -> &'c str {
    from[random.usize(..from.len())]
}

fn play_requests(stage: &mut Stage, random: &mut Rng) -> Result<(), String> {
    let mut bytes = Vec::new();
    for _ in 0..random.usize(1..4) {
        bytes.extend_from_slice(choose(random, REQUESTS).as_bytes());
    }
    for _ in 0..random.usize(0..4) {
        mutate(&mut bytes, random);
    }
    bytes.extend_from_slice(b"GET /last HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n");
    let expected = read(&bytes);
    let received = exchange(stage, &[], &bytes, random)?;
    let got: Vec<_> =
        received.iter().filter(|received| received.is_whole).map(|received| read(&received.bytes)).collect();
    let text = bytes_as_text(&bytes);
    for (number, request) in got.into_iter().flatten().enumerate() {
        match expected.get(number) {
            Some(expected) if *expected == request => {}
            other => {
                return Err(format!(
                    "      sent     {text}\n      endpoint got {request:?} instead of {other:?}"
                ));
            }
        }
    }
    Ok(())
}

/// HTTP/2 can carry every byte in every field.
fn play_fields(stage: &mut Stage, random: &mut Rng) -> Result<(), String> {
    let mut fields = vec![
        (":method", b"POST".to_vec()),
        (":scheme", b"http".to_vec()),
        (":path", b"/a?b".to_vec()),
        (":authority", b"shop".to_vec()),
    ];
    for _ in 0..random.usize(0..3) {
        fields.push((choose(random, NAMES), b"5".to_vec()));
    }
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> =
        fields.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..fields.len());
        let (name, value) = &mut fields[at];
        mutate(if random.u8(..8) == 0 { name } else { value }, random);
    }
    let latin = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| (latin(name), latin(value))).collect();
    let section: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();

    stage.endpoint.plays(&[], None);
    let mut client = Frames::open(stage.way.address());
    client.write(&frame(SETTINGS, 0, 0, &[]));
    client.write(&headers(0, &section));
    client.write(&frame(DATA, END_STREAM, 1, b"GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n"));
    let fate = client.fate();
    drop(client);
    stage.sweep()?;
    let received = stage.endpoint.received().ok_or("      a connection to the endpoint stays open")?;
    let is_clear = received.iter().all(|received| received.flaw.is_none());
    if is_clear && received.len() < 2 && fate != Fate::Silence {
        return Ok(());
    }
    let got: Vec<_> =
        received.iter().map(|received| (bytes_as_text(&received.bytes), &received.flaw)).collect();
    Err(format!("      sent     {section:?}\n      client   {fate:?}\n      endpoint {got:?}"))
}

fn play_answer(stage: &mut Stage, random: &mut Rng) -> Result<(), String> {
    let mut bytes = choose(random, ANSWERS).as_bytes().to_vec();
    for _ in 0..random.usize(0..4) {
        mutate(&mut bytes, random);
    }
    let script = vec![vec![Act::ReadBody, Act::Say(bytes.clone())]];
    let get = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";
    exchange(stage, &script, get, random)
        .map(drop)
        .map_err(|why| format!("      said     {}\n{why}", bytes_as_text(&bytes)))
}

/// Sends, waits for the end or a moment, and says what the endpoint got.
fn exchange(
    stage: &mut Stage,
    script: &[Vec<Act>],
    bytes: &[u8],
    random: &mut Rng,
) -> Result<Vec<Received>, String> {
    stage.endpoint.plays(script, None);
    let mut client = Way::Plain(stage.way.address()).connect();
    let (first, second) = bytes.split_at(random.usize(..=bytes.len()));
    client.send(first);
    client.send(second);
    client.listen_for_a_moment();
    drop(client);
    stage.sweep()?;
    let received = stage.endpoint.received().ok_or("      a connection to the endpoint stays open")?;
    match received.iter().find_map(|received| received.flaw.as_ref().map(|flaw| (received, flaw))) {
        None => Ok(received),
        Some((received, flaw)) => Err(format!(
            "      sent     {}\n      endpoint got {}, which is ambiguous: {flaw}",
            bytes_as_text(bytes),
            bytes_as_text(&received.bytes)
        )),
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Rng) {
    let at = random.usize(..bytes.len().max(1)).min(bytes.len());
    let end = (at + random.usize(0..4)).min(bytes.len());
    match random.u8(..6) {
        0 => drop(bytes.drain(at..end)),
        1 if at < bytes.len() => bytes[at] = random.u8(..),
        2 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
        3 => {
            let copy = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, copy));
        }
        4 => {
            // Behind a line end, where whole fields go.
            let lines: Vec<usize> =
                (0..bytes.len()).filter(|at| bytes[*at] == b'\n').map(|at| at + 1).collect();
            let at = if lines.is_empty() { at } else { lines[random.usize(..lines.len())] };
            drop(bytes.splice(at..at, choose(random, PIECES).bytes()));
        }
        _ => drop(bytes.splice(at..at, choose(random, PIECES).bytes())),
    }
}

/// A request that nobody can misunderstand.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    method: String,
    /// In origin form.
    target: String,
    body: Vec<u8>,
}

/// All up to the first doubt.
fn read(mut bytes: &[u8]) -> Vec<Read> {
    let mut requests = Vec::new();
    loop {
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        let Some((request, rest)) = read_one(bytes) else { return requests };
        requests.push(request);
        bytes = rest;
    }
}

fn read_one(bytes: &[u8]) -> Option<(Read, &[u8])> {
    let end = head_length(bytes)?;
    let (head, rest) = bytes.split_at(end);
    let text: String = head[..end - 4].iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next()?.split(' ').collect();
    let [method, target, version @ ("HTTP/1.1" | "HTTP/1.0")] = words[..] else { return None };
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        let is_clean = |byte: u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        if name.is_empty()
            || !name.bytes().all(strict::is_token)
            || !value.chars().all(|char| is_clean(char as u8))
        {
            return None;
        }
        match name.to_ascii_lowercase().as_str() {
            "content-length" => lengths.push(value.to_owned()),
            "transfer-encoding" => codings.push(value.to_ascii_lowercase()),
            _ => {}
        }
    }
    lengths.dedup_by_key(|length| length.parse::<u64>().ok());
    let (body, rest) = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => (Vec::new(), rest),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let (body, rest) = rest.split_at_checked(length.parse().ok()?)?;
            (body.to_vec(), rest)
        }
        ([], [coding]) if coding == "chunked" && version == "HTTP/1.1" => read_chunks(rest)?,
        _ => return None,
    };
    let target = target.split('#').next()?;
    let target = target
        .to_ascii_lowercase()
        .strip_prefix("http://shop")
        .map_or(target, |rest| &target[target.len() - rest.len()..]);
    Some((Read { method: method.to_owned(), target: target.to_owned(), body }, rest))
}

fn read_chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (line, rest) = read_line(bytes)?;
        let (size, extension) =
            line.split_at(line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count());
        if !extension.is_empty() && extension.trim_ascii_start().first() != Some(&b';') {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        bytes = rest;
        if size == 0 {
            break;
        }
        let (data, rest) = bytes.split_at_checked(size)?;
        body.extend_from_slice(data);
        bytes = rest.strip_prefix(b"\r\n")?;
    }
    loop {
        let (line, rest) = read_line(bytes)?;
        bytes = rest;
        if line.is_empty() {
            return Some((body, bytes));
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        if colon == 0 || !line[..colon].iter().all(|byte| strict::is_token(*byte)) {
            return None;
        }
    }
}

/// Without control bytes but tabs.
fn read_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    let is_clean = bytes[..end].iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..));
    is_clean.then(|| (&bytes[..end], &bytes[end + 2..]))
}
