//! Endpoints that say what nobody should.

use super::case::{Act, Case, GET, GOT, OK, SAYS_OK, bad_gateway, case};
use super::stage::Stage;

const POST: &str = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\n\r\nx";
const GOT_POST: &str = "POST / HTTP/1.1|host: shop|content-length: 1|+||x";
const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

fn says(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\n\r\n{body}")
}

pub fn cases(_: &Stage) -> Vec<Case> {
    [garbage(), surplus(), truncated(), stale()].concat()
}

fn garbage() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text) in [
        ("garbage", "hello\r\n\r\n".to_owned()),
        ("an SSH greeting", "SSH-2.0-x\r\n\r\n".to_owned()),
        ("HTTP/0.9", "<html>hello</html>\r\n\r\n".to_owned()),
        ("HTTP/2 frames", "\0\0\u{6}\u{4}\0\0\0\0\0\0\u{3}\0\0\0d\r\n\r\n".to_owned()),
        ("another protocol's answer", "ICY 200 OK\r\n\r\n".to_owned()),
        ("a higher major version", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a higher minor version", "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a lower version", "HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a version in lower case", "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("an empty line before the answer", format!("\r\n{SAYS_OK}")),
        ("a status of two digits", says("20 OK\r\nContent-Length: 0", "")),
        ("a status of four digits", says("2000 OK\r\nContent-Length: 0", "")),
        ("a status that is no number", says("abc\r\nContent-Length: 0", "")),
        ("a status below 100", says("099 Odd\r\nContent-Length: 0", "")),
        ("two blanks before the status", "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a tab before the status", "HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a NUL in the reason", says("200 O\0K\r\nContent-Length: 0", "")),
        ("a lone LF in the head", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a lone LF at the end of the head", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n".to_owned()),
        ("lone LFs alone", "HTTP/1.1 200 OK\nContent-Length: 0\n\n".to_owned()),
        ("a lone CR in the head", says("200 OK\rX: y\r\nContent-Length: 0", "")),
        ("a lone CR in a value", says("200 OK\r\nX: a\rb\r\nContent-Length: 0", "")),
        ("a NUL in a value", says("200 OK\r\nX: a\0b\r\nContent-Length: 0", "")),
        ("a NUL in a name", says("200 OK\r\nX\0: a\r\nContent-Length: 0", "")),
        ("an escape in a value", says("200 OK\r\nX: \u{1b}\r\nContent-Length: 0", "")),
        ("a folded field", says("200 OK\r\nX: a\r\n b\r\nContent-Length: 0", "")),
        ("a fold before the first field", says("200 OK\r\n X: a\r\nContent-Length: 0", "")),
        ("a folded length", says("200 OK\r\nContent-Length:\r\n 2", "ok")),
        ("a blank before a colon", says("200 OK\r\nX : a\r\nContent-Length: 0", "")),
        ("a blank before the colon of a length", says("200 OK\r\nContent-Length : 2", "ok")),
        ("a line without a colon", says("200 OK\r\nX\r\nContent-Length: 0", "")),
        ("no name", says("200 OK\r\n: a\r\nContent-Length: 0", "")),
        (
            "both a length and a coding",
            says("200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n"),
        ),
        (
            "both a coding and a length",
            says("200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 12", "2\r\nok\r\n0\r\n\r\n"),
        ),
        ("two lengths", says("200 OK\r\nContent-Length: 2\r\nContent-Length: 3", "ok")),
        ("the same length twice", says("200 OK\r\nContent-Length: 2\r\nContent-Length: 2", "ok")),
        ("a list of lengths", says("200 OK\r\nContent-Length: 2, 2", "ok")),
        ("a length with a plus", says("200 OK\r\nContent-Length: +2", "ok")),
        ("a length with a minus", says("200 OK\r\nContent-Length: -2", "ok")),
        ("a hexadecimal length", says("200 OK\r\nContent-Length: 0x2", "ok")),
        ("an empty length", says("200 OK\r\nContent-Length:", "ok")),
        ("a length too large", says("200 OK\r\nContent-Length: 18446744073709551616", "ok")),
        ("a length that is none on 304", says("304 Not Modified\r\nContent-Length: x", "")),
        ("another coding", says("200 OK\r\nTransfer-Encoding: gzip", "ok")),
        ("two codings", says("200 OK\r\nTransfer-Encoding: gzip, chunked", "2\r\nok\r\n0\r\n\r\n")),
        (
            "chunked twice",
            says(
                "200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "2\r\nok\r\n0\r\n\r\n",
            ),
        ),
        ("chunked not last", says("200 OK\r\nTransfer-Encoding: chunked, identity", "2\r\nok\r\n0\r\n\r\n")),
        ("a coding that is none", says("200 OK\r\nTransfer-Encoding: xchunked", "2\r\nok\r\n0\r\n\r\n")),
        ("an empty coding", says("200 OK\r\nTransfer-Encoding:", "ok")),
        (
            "a coding with a vertical tab",
            says("200 OK\r\nTransfer-Encoding: \u{b}chunked", "2\r\nok\r\n0\r\n\r\n"),
        ),
        ("a coding in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        (
            "101 that nobody asked for",
            says("101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket", ""),
        ),
        (
            "101 with an answer behind it",
            says("101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x", EVIL),
        ),
        ("100 with a length", says("100 Continue\r\nContent-Length: 2", "ok")),
        ("103 with chunks", says("103 Early Hints\r\nTransfer-Encoding: chunked", "0\r\n\r\n")),
        ("103 without end", says("103 Early Hints", "").repeat(100)),
        ("a head without end", format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(100_000))),
        ("a field without end", format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(1_000_000))),
        ("a status line without end", format!("HTTP/1.1 200 {}", "y".repeat(1_000_000))),
    ] {
        cases.push(bad_gateway(name, "9112 §4, §5, §6", text));
    }
    for (name, acts) in [
        ("nothing at all", vec![Act::Close]),
        ("a reset", vec![Act::Reset]),
        ("half a head", vec![Act::Say(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()), Act::Close]),
        ("100 and nothing more", vec![Act::Say(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()), Act::Close]),
    ] {
        let acts = [vec![Act::ReadBody], acts].concat();
        cases.push(
            case(format!("{name}, to POST"), "9112 §8")
                .sends(POST)
                .forwards(GOT_POST)
                .acts(acts.clone())
                .gets_status(502),
        );
        cases.push(
            case(format!("{name}, and then an answer to GET"), "9110 §9.2.2, 9112 §8")
                .sends(GET)
                .forwards(GOT)
                .acts(acts)
                .forwards(GOT)
                .gets(OK),
        );
    }
    cases.push(
        case("a bad answer to HEAD", "9112 §6.3")
            .sends("HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n")
            .forwards("HEAD / HTTP/1.1|host: shop|+||")
            .says(says("200 OK\r\nContent-Length: 1, 2", ""))
            .gets_status(502),
    );
    cases
}

/// More than was announced: the answer passes, its connection carries no other.
fn surplus() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text, got) in [
        ("behind a length", says("200 OK\r\nContent-Length: 2", "ok"), OK),
        ("behind a length of nothing", says("200 OK\r\nContent-Length: 0", ""), "200 OK|content-length: 0||"),
        (
            "behind chunks",
            says("200 OK\r\nTransfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n"),
            "200 OK|transfer-encoding: chunked||ok",
        ),
        ("behind 204", says("204 No Content", ""), "204 No Content||"),
        ("behind 304", says("304 Not Modified", ""), "304 Not Modified||"),
        (
            "behind 304 with a length",
            says("304 Not Modified\r\nContent-Length: 50", ""),
            "304 Not Modified||",
        ),
    ] {
        cases.push(
            case(format!("an answer {name}"), "9112 §6.3")
                .sends(GET)
                .forwards(GOT)
                .says(format!("{text}{EVIL}"))
                .gets(got),
        );
        cases.push(
            case(format!("a byte {name}"), "9112 §6.3")
                .sends(GET)
                .forwards(GOT)
                .says(format!("{text}\n"))
                .gets(got),
        );
        cases.push(
            case(format!("an answer {name}, when it was read"), "9112 §6.3")
                .sends(GET)
                .forwards(GOT)
                .acts([Act::ReadBody, Act::Say(text.into_bytes()), Act::Say(EVIL.into())])
                .gets(got)
                .awaits(1),
        );
    }
    for (name, head) in [
        ("with a length", "200 OK\r\nContent-Length: 5"),
        ("with chunks", "200 OK\r\nTransfer-Encoding: chunked"),
    ] {
        cases.push(
            case(format!("a body behind HEAD {name}"), "9110 §9.3.2")
                .sends("HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n")
                .forwards("HEAD / HTTP/1.1|host: shop|+||")
                .says(says(head, "5\r\nhello\r\n0\r\n\r\n"))
                .gets(if head.contains("Length") { "200 OK|content-length: 5||" } else { "200 OK||" }),
        );
    }
    cases.push(
        case("a body behind 204 with a length", "9110 §8.6")
            .sends(GET)
            .forwards(GOT)
            .says(says("204 No Content\r\nContent-Length: 5", "hello"))
            .gets("204 No Content||"),
    );
    cases.push(
        case("an answer before it is asked for", "9112 §9.3")
            .sends(GET)
            .forwards(GOT)
            .acts([Act::ReadBody, Act::Say(SAYS_OK.into()), Act::Say(EVIL.into())])
            .gets(OK)
            .awaits(1)
            .sends(GET)
            .forwards(GOT)
            .gets(OK),
    );
    cases
}

/// Less than was announced: the client sees it.
fn truncated() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text, got) in [
        ("a length", says("200 OK\r\nContent-Length: 10", "hello"), "200 OK|content-length: 10||hello✂"),
        (
            "a chunk",
            says("200 OK\r\nTransfer-Encoding: chunked", "a\r\nhello"),
            "200 OK|transfer-encoding: chunked||hello✂",
        ),
        (
            "chunks between two",
            says("200 OK\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n"),
            "200 OK|transfer-encoding: chunked||hello✂",
        ),
        (
            "a chunk's line end",
            says("200 OK\r\nTransfer-Encoding: chunked", "5\r\nhello\r"),
            "200 OK|transfer-encoding: chunked||hello✂",
        ),
        (
            "the last chunk",
            says("200 OK\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n"),
            "200 OK|transfer-encoding: chunked||hello✂",
        ),
        (
            "the trailers",
            says("200 OK\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\nX: y\r\n"),
            "200 OK|transfer-encoding: chunked||hello✂",
        ),
    ] {
        cases.push(
            case(format!("an answer that stops within {name}"), "9112 §8")
                .sends(GET)
                .forwards(GOT)
                .says_last(text.clone())
                .gets(got)
                .closed(),
        );
        let old = format!(
            "HTTP/1.0 {}✂",
            if got.contains("length") { "200 OK|content-length: 10||hello" } else { "200 OK||hello" }
        );
        cases.push(
            case(format!("an answer to HTTP/1.0 that stops within {name}"), "9112 §8")
                .sends("GET / HTTP/1.0\r\nHost: shop\r\n\r\n")
                .forwards(GOT)
                .says_last(text)
                .gets(&old)
                .closed(),
        );
    }
    for (name, chunk) in [
        ("a size that is none", "x\r\nhello\r\n"),
        ("a size with a sign", "+5\r\nhello\r\n"),
        ("a size with 0x", "0x5\r\nhello\r\n"),
        ("an empty size", "\r\nhello\r\n"),
        ("a blank before a size", " 5\r\nhello\r\n"),
        ("a blank behind a size", "5 \r\nhello\r\n"),
        ("a size too large", "fffffffffffffffff\r\nhello\r\n"),
        ("a lone LF behind a size", "5\nhello\r\n"),
        ("a lone CR behind a size", "5\rhello\r\n"),
        ("no line end", "0\r\nhello\r\n"),
        ("a control byte in an extension", "5;\0\r\nhello\r\n"),
        ("a lone LF in an extension", "5;a\nhello\r\n"),
        ("extensions without end", &format!("5;{}\r\nhello\r\n", "a".repeat(100_000))),
        ("a bad trailer", "0\r\nX : y\r\n\r\n"),
        ("a folded trailer", "0\r\nX: y\r\n z\r\n\r\n"),
        ("a lone LF behind a trailer", "0\r\nX: y\n\r\n"),
        ("trailers without end", &format!("0\r\n{}", "X: y\r\n".repeat(100_000))),
    ] {
        cases.push(
            case(format!("chunks with {name}"), "9112 §7.1")
                .sends(GET)
                .forwards(GOT)
                .says(says("200 OK\r\nTransfer-Encoding: chunked", &format!("2\r\nok\r\n{chunk}0\r\n\r\n")))
                .gets("200 OK|transfer-encoding: chunked||ok✂")
                .closed(),
        );
    }
    cases.push(
        case("a reset within a body", "9112 §8")
            .sends(GET)
            .forwards(GOT)
            .acts([
                Act::ReadBody,
                Act::Say(says("200 OK\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n").into_bytes()),
                Act::Reset,
            ])
            .gets_status(200)
            .closed(),
    );
    cases
}

/// Connections that were kept and are of no use any more.
fn stale() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, act) in [("ends", Act::Close), ("is reset", Act::Reset)] {
        for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
            let sent = format!("{method} / HTTP/1.1\r\nHost: shop\r\n\r\n");
            let got = format!("{method} / HTTP/1.1|host: shop|+||");
            let row = case(
                format!("{method} when a kept connection {name} is asked once more"),
                "9110 §9.2.2, 9112 §9.3.1",
            )
            .sends(GET)
            .says(SAYS_OK)
            .gets(OK)
            .forwards(GOT)
            .sends(sent.clone())
            .acts([Act::ReadBody, act.clone()])
            .says(SAYS_OK.replace("ok", if method == "HEAD" { "" } else { "ok" }))
            .forwards(&got)
            .forwards(&got);
            cases.push(if method == "HEAD" { row.gets("200 OK|content-length: 2||") } else { row.gets(OK) });
            cases.push(
                case(format!("{method} when a new connection {name} is asked again"), "9110 §9.2.2")
                    .sends(sent)
                    .acts([Act::ReadBody, act.clone()])
                    .gets(if method == "HEAD" { "200 OK|content-length: 2||" } else { OK })
                    .forwards(&got)
                    .forwards(&got),
            );
        }
        for method in ["POST", "PATCH", "X-PAY"] {
            let sent = format!("{method} / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n");
            let length = if method == "X-PAY" { "" } else { "content-length: 0|" };
            cases.push(
                case(
                    format!("{method} when a kept connection {name} is never sent twice"),
                    "9110 §9.2.2, 9112 §9.3.1",
                )
                .sends(GET)
                .says(SAYS_OK)
                .gets(OK)
                .forwards(GOT)
                .sends(sent)
                .acts([Act::ReadBody, act.clone()])
                .gets_status(502)
                .forwards(&format!("{method} / HTTP/1.1|host: shop|{length}+||")),
            );
        }
        cases.push(
            case(
                format!("POST with a body when a kept connection {name} is never sent twice"),
                "9110 §9.2.2",
            )
            .sends(GET)
            .says(SAYS_OK)
            .gets(OK)
            .forwards(GOT)
            .sends(POST)
            .acts([Act::ReadBody, act.clone()])
            .gets_status(502)
            .forwards(GOT_POST),
        );
        cases.push(
            case(
                format!("PUT with a body when a kept connection {name} is sent again as it was"),
                "9110 §9.2.2",
            )
            .sends(GET)
            .says(SAYS_OK)
            .gets(OK)
            .forwards(GOT)
            .sends(POST.replace("POST", "PUT"))
            .acts([Act::ReadBody, act.clone()])
            .gets(OK)
            .forwards(&GOT_POST.replace("POST", "PUT"))
            .forwards(&GOT_POST.replace("POST", "PUT")),
        );
        cases.push(
            case(format!("GET when three connections in a row: each {name}"), "9112 §9.3.1")
                .sends(GET)
                .says(SAYS_OK)
                .gets(OK)
                .forwards(GOT)
                .sends(GET)
                .acts([Act::ReadBody, act.clone()])
                .acts([Act::ReadBody, act.clone()])
                .acts([Act::ReadBody, act.clone()])
                .gets_status(502)
                .forwards(GOT)
                .forwards(GOT)
                .forwards(GOT),
        );
        cases.push(
            case(format!("POST after a kept connection {name} in between"), "9112 §9.6")
                .sends(GET)
                .acts([Act::ReadBody, Act::Say(SAYS_OK.into()), act.clone()])
                .gets(OK)
                .forwards(GOT)
                .awaits(1)
                .sends(POST)
                .gets(OK)
                .forwards(GOT_POST),
        );
        cases.push(
            case(format!("GET when a kept connection {name} within the answer"), "9112 §8")
                .sends(GET)
                .says(SAYS_OK)
                .gets(OK)
                .forwards(GOT)
                .sends(GET)
                .acts([Act::ReadBody, Act::Say(b"HTTP/1.1 200".to_vec()), act.clone()])
                .gets(OK)
                .forwards(GOT)
                .forwards(GOT),
        );
    }
    cases.push(
        case("a kept connection is used again", "9112 §9.3")
            .sends(GET)
            .gets(OK)
            .sends(GET)
            .gets(OK)
            .sends(POST)
            .gets(OK)
            .forwards(GOT)
            .forwards(GOT)
            .forwards(GOT_POST),
    );
    cases.push(
        case("after a bad gateway the client's connection goes on", "9112 §9.3")
            .sends(GET)
            .says("x\r\n\r\n")
            .gets_status(502)
            .sends(GET)
            .gets(OK)
            .forwards(GOT)
            .forwards(GOT),
    );
    cases
}
