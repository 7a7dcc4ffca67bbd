//! Connections that stop speaking HTTP: only those that were asked to, by an endpoint that was asked in one form, and
//! from then on every byte goes through as it is.

use super::case::{Act, Case, GET, GOT, SAYS_OK, case, passes};
use super::stage::Stage;

/// A stage whose service allows a protocol beside WebSocket.
pub fn stage() -> Stage {
    Stage::new(|plan| plan.with("upgrades: [websocket, x-echo/1]"))
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &str = "101 Switching Protocols|connection: upgrade|upgrade: websocket||";
const ASK: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
/// What a WebSocket has beside that (RFC 6455 §1.2).
const SHAKE: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

fn get(fields: &str) -> String {
    format!("GET /chat HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")
}

/// As the endpoint is asked, and what it gets afterwards.
fn asked(fields: &str, bytes: &str) -> String {
    format!("GET /chat HTTP/1.1|host: shop|connection: upgrade|{fields}upgrade: websocket|+||{bytes}")
}

/// As the endpoint gets it when it is not asked.
fn plain(fields: &str) -> String {
    format!("GET /chat HTTP/1.1|host: shop|{fields}+||")
}

pub fn cases(_: &Stage) -> Vec<Case> {
    [asks(), tunnels(), refusals(), not_asked(), bad_switches()].concat()
}

/// A tunnel that carries `hello` and `bye`.
fn tunnel(name: &str, rfc: &'static str, sends: &str, forwards: &str) -> Case {
    case(name, rfc)
        .upgrades("websocket")
        .sends(sends)
        .gets(SWITCHED)
        .sends("hello")
        .hears("bye")
        .closed()
        .forwards(forwards)
        .acts([Act::ReadBody, Act::Say(SWITCH.into()), Act::Take(5), Act::Say(b"bye".to_vec()), Act::Close])
}

fn asks() -> Vec<Case> {
    let mut cases = vec![tunnel(
        "a WebSocket",
        "6455 §4.1",
        &get(&format!("{ASK}{SHAKE}Sec-WebSocket-Protocol: chat\r\nOrigin: http://shop\r\n")),
        &asked(
            "origin: http://shop|sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==|sec-websocket-protocol: chat|sec-websocket-version: 13|",
            "hello",
        ),
    )];
    for fields in [
        "Connection: upgrade\r\nUpgrade: WebSocket\r\n",
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: keep-alive\r\nConnection: UPGRADE\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade,HTTP2-Settings\r\nHTTP2-Settings: x\r\nUpgrade: h2c, websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: , websocket\r\n",
        "Connection: Upgrade, X\r\nX: y\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers\r\nTrailer: x\r\nProxy: x\r\n",
    ] {
        let left = if fields.contains("Trailer") { "te: trailers|trailer: x|" } else { "" };
        cases.push(tunnel(
            &format!("an upgrade by {fields:?}"),
            "9110 §7.8",
            &get(fields),
            &asked(left, "hello"),
        ));
    }
    cases.push(
        case("a protocol that the service allows, by POST", "9110 §7.8")
            .upgrades("x-echo/1")
            .sends("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\nConnection: upgrade\r\nUpgrade: X-Echo/1\r\n\r\n")
            .gets("101 Switching Protocols|connection: upgrade|upgrade: x-echo/1||")
            .hears("hi")
            .closed()
            .forwards("POST / HTTP/1.1|host: shop|content-length: 0|connection: upgrade|upgrade: x-echo/1|+||")
            .acts([
                Act::ReadBody,
                Act::Say(SWITCH.replace("websocket", "X-ECHO/1").into()),
                Act::Say(b"hi".to_vec()),
                Act::Close,
            ]),
    );
    cases
}

fn tunnels() -> Vec<Case> {
    let ask = get(ASK);
    let opens = |name: &str| {
        case(name, "9110 §7.8").upgrades("websocket").sends(ask.as_str()).gets(SWITCHED).closed()
    };
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";
    let said = |acts: Vec<Act>| [vec![Act::ReadBody, Act::Say(SWITCH.into())], acts].concat();
    let mut cases = vec![
        case("bytes behind the head wait for the 101", "9110 §7.8")
            .upgrades("websocket")
            .sends(format!("{ask}early"))
            .gets(SWITCHED)
            .hears("bye")
            .closed()
            .forwards(&asked("", "early"))
            .acts(said(vec![Act::Take(5), Act::Say(b"bye".to_vec()), Act::Close])),
        case("bytes behind the 101 are the first ones of the tunnel", "9110 §7.8")
            .upgrades("websocket")
            .sends(ask.as_str())
            .gets(SWITCHED)
            .hears("first")
            .closed()
            .forwards(&asked("", ""))
            .acts([Act::ReadBody, Act::Say(format!("{SWITCH}first").into()), Act::Close]),
        opens("what looks like requests and answers is neither")
            .sends(smuggled)
            .hears(SAYS_OK)
            .forwards(&asked("", &smuggled.replace("\r\n", "|")))
            .acts(said(vec![Act::Take(smuggled.len()), Act::Say(SAYS_OK.into()), Act::Close])),
        opens("bytes of all kinds go through as they are")
            .sends([0_u8, 255, b'\n', b'\r', 0x1b, b'0'])
            .hears("\0\u{7f}\n\r")
            .forwards(&asked("", "\\x00\\xff\\n\\r\\x1b0"))
            .acts(said(vec![Act::Take(6), Act::Say(b"\0\x7f\n\r".to_vec()), Act::Close])),
        opens("a client that says no more still hears")
            .sends("that is all")
            .half_closes()
            .hears("bye")
            .forwards(&asked("", "that is all"))
            .acts(said(vec![Act::TakeAll, Act::Say(b"bye".to_vec()), Act::Close])),
        opens("an endpoint that says no more still hears")
            .hears("bye")
            .sends("hello")
            .half_closes()
            .forwards(&asked("", "hello"))
            .acts(said(vec![Act::Say(b"bye".to_vec()), Act::HalfClose, Act::TakeAll])),
        opens("a tunnel that breaks off breaks off")
            .sends("hello")
            .forwards(&asked("", "hello"))
            .acts(said(vec![Act::Take(5), Act::Reset])),
    ];
    for (name, before, fields, gets) in [
        ("100 before it", "HTTP/1.1 100 Continue\r\n\r\n", "", SWITCHED),
        ("103 before it", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "", SWITCHED),
        ("a length of nothing", "", "Content-Length: 0\r\n", SWITCHED),
        ("fields of its own", "", "Connection: X\r\nX: y\r\nKeep-Alive: 5\r\n", SWITCHED),
        (
            "a proof and a choice",
            "",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n",
            "101 Switching Protocols|connection: upgrade|sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=|sec-websocket-protocol: chat|upgrade: websocket||",
        ),
    ] {
        let says = format!("{before}{}", SWITCH.replace("Upgrade: w", &format!("{fields}Upgrade: w")));
        cases.push(
            case(format!("101 with {name}"), "9110 §15.2.2")
                .upgrades("websocket")
                .sends(ask.as_str())
                .gets(gets)
                .hears("hi")
                .closed()
                .forwards(&asked("", ""))
                .acts([Act::ReadBody, Act::Say(says.into()), Act::Say(b"hi".to_vec()), Act::Close]),
        );
    }
    cases
}

/// The endpoint need not change: its answer is one like any other.
fn refusals() -> Vec<Case> {
    let ask = get(ASK);
    let refuses = |name: &str, rfc, says: &str, gets: &str| {
        case(name, rfc)
            .upgrades("websocket")
            .sends(ask.as_str())
            .forwards(&asked("", ""))
            .says(says)
            .gets(gets)
    };
    let length = "Content-Length: 2\r\n\r\nno";
    vec![
        refuses("an endpoint that just answers", "9110 §7.8", SAYS_OK, "200 OK|content-length: 2||ok"),
        refuses(
            "403",
            "6455 §4.2.2",
            &format!("HTTP/1.1 403 Forbidden\r\n{length}"),
            "403 Forbidden|content-length: 2||no",
        ),
        refuses(
            "401 and how to be let in",
            "6455 §4.2.2",
            &format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n{length}"),
            "401 Unauthorized|content-length: 2|www-authenticate: Basic||no",
        ),
        refuses(
            "301",
            "6455 §4.1",
            "HTTP/1.1 301 Moved Permanently\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n",
            "301 Moved Permanently|content-length: 0|location: /new||",
        ),
        refuses(
            "400 in chunks",
            "6455 §4.2.2",
            "HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            "400 Bad Request|transfer-encoding: chunked||no",
        ),
        refuses(
            "426 says what to change to",
            "9110 §15.5.22",
            &format!(
                "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{length}"
            ),
            "426 Upgrade Required|connection: upgrade|content-length: 2|upgrade: websocket||no",
        ),
        refuses(
            "426 names only what the service allows",
            "9110 §15.5.22",
            &format!("HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: h2c\r\n{length}"),
            "426 Upgrade Required|content-length: 2||no",
        ),
        refuses(
            "an answer that offers another protocol",
            "9110 §7.8",
            "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
            "200 OK|content-length: 2||ok",
        ),
        refuses(
            "500",
            "6455 §4.1",
            "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
            "500 Oh|content-length: 0||",
        ),
        case("what came before the refusal is the next request", "9112 §9.3.2")
            .upgrades("websocket")
            .sends(format!("{ask}{GET}"))
            .forwards(&asked("", ""))
            .forwards(GOT)
            .says(format!("HTTP/1.1 403 Forbidden\r\n{length}"))
            .gets("403 Forbidden|content-length: 2||no")
            .gets("200 OK|content-length: 2||ok"),
        case("what came before the refusal and is no request", "9112 §2.2")
            .upgrades("websocket")
            .sends([ask.as_bytes(), b"\x81\x05hello\r\n\r\n"].concat())
            .forwards(&asked("", ""))
            .says(format!("HTTP/1.1 403 Forbidden\r\n{length}"))
            .gets("403 Forbidden|content-length: 2||no")
            .gets_status(400)
            .closed(),
    ]
}

/// The endpoint gets a plain request, or none.
fn not_asked() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rfc, fields) in [
        ("9113 §3.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        ("9113 §3.1", "Connection: Upgrade\r\nUpgrade: H2C\r\n"),
        ("9113 §3.1", "Connection: Upgrade\r\nUpgrade: h2\r\n"),
        ("9110 §7.8", "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n"),
        ("9110 §7.8", "Connection: Upgrade\r\nUpgrade: IRC/6.9\r\n"),
        ("9110 §7.8", "Connection: Upgrade\r\nUpgrade: x-echo\r\n"),
        ("9110 §7.8", "Connection: Upgrade\r\nUpgrade: x-echo/2\r\n"),
        ("9110 §7.8", "Connection: Upgrade\r\nUpgrade: websocket/13\r\n"),
        ("9110 §7.8", "Connection: Upgrade\r\nUpgrade: web socket\r\n"),
        ("9110 §7.8", "Connection: Upgrade\r\nUpgrade:\r\n"),
        ("9110 §7.8", "Connection: X-Upgrade\r\nUpgrade: websocket\r\n"),
        ("9110 §7.6.1", "Connection: keep-alive\r\nUpgrade: websocket\r\n"),
        ("9110 §7.6.1", "Upgrade: websocket\r\n"),
        ("9110 §7.6.1", "Connection: upgrade\r\n"),
    ] {
        cases.push(passes(format!("no upgrade by {fields:?}"), rfc, get(fields), &plain("")));
    }
    cases
        .push(passes("HTTP/1.0", "9110 §7.8", get(ASK).replace("HTTP/1.1", "HTTP/1.0"), &plain("")).closed());
    cases.push(passes(
        "an upgrade with a body",
        "9110 §7.8",
        get(&format!("{ASK}Content-Length: 5\r\n")) + "hello",
        "GET /chat HTTP/1.1|host: shop|content-length: 5|+||hello",
    ));
    cases.push(passes(
        "an upgrade with chunks",
        "9110 §7.8",
        get(&format!("{ASK}Transfer-Encoding: chunked\r\n")) + "5\r\nhello\r\n0\r\n\r\n",
        "GET /chat HTTP/1.1|host: shop|transfer-encoding: chunked|+||5|hello|0||",
    ));
    for method in ["POST", "HEAD", "PUT"] {
        let length = if method == "HEAD" { "" } else { "Content-Length: 0\r\n" };
        let got = if method == "HEAD" { "" } else { "content-length: 0|" };
        let row = case(format!("a WebSocket by {method}"), "6455 §4.1")
            .sends(get(&format!("{ASK}{length}")).replace("GET", method))
            .forwards(&plain(got).replace("GET", method));
        cases.push(if method == "HEAD" {
            row.says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").gets("200 OK|content-length: 2||")
        } else {
            row.gets("200 OK|content-length: 2||ok")
        });
    }
    cases
}

/// Not what was asked for, or not unambiguously: 502, and the endpoint's connection ends.
fn bad_switches() -> Vec<Case> {
    let mut cases = Vec::new();
    let head = "HTTP/1.1 101 Switching Protocols\r\n";
    for (name, says) in [
        ("another protocol", format!("{head}Connection: upgrade\r\nUpgrade: x-echo/1\r\n\r\n")),
        ("a protocol that nobody allows", format!("{head}Connection: upgrade\r\nUpgrade: h2c\r\n\r\n")),
        ("two protocols", format!("{head}Connection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n")),
        (
            "a protocol twice",
            format!("{head}Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n\r\n"),
        ),
        ("no protocol", format!("{head}Connection: upgrade\r\n\r\n")),
        ("an empty protocol", format!("{head}Connection: upgrade\r\nUpgrade:\r\n\r\n")),
        ("no Connection", format!("{head}Upgrade: websocket\r\n\r\n")),
        (
            "a Connection that names something else",
            format!("{head}Connection: close\r\nUpgrade: websocket\r\n\r\n"),
        ),
        ("nothing", format!("{head}\r\n")),
        ("a length", SWITCH.replace("Upgrade: w", "Content-Length: 5\r\nUpgrade: w")),
        ("two lengths", SWITCH.replace("Upgrade: w", "Content-Length: 0\r\nContent-Length: 0\r\nUpgrade: w")),
        ("chunks", SWITCH.replace("Upgrade: w", "Transfer-Encoding: chunked\r\nUpgrade: w")),
        ("HTTP/1.0", SWITCH.replace("HTTP/1.1", "HTTP/1.0")),
        ("a lone line feed", SWITCH.replace("Protocols\r\n", "Protocols\n")),
        ("a folded field", SWITCH.replace("Upgrade: w", "X: y\r\n z\r\nUpgrade: w")),
        ("a NUL", SWITCH.replace("Upgrade: w", "X: y\0\r\nUpgrade: w")),
    ] {
        cases.push(
            case(format!("101 with {name}"), "9110 §15.2.2")
                .upgrades("websocket")
                .sends(get(ASK))
                .forwards(&asked("", ""))
                .says(format!("{says}evil"))
                .gets_status(502),
        );
    }
    for (name, says) in
        [("nothing", ""), ("half a head", "HTTP/1.1 101 Switching Protocols\r\nConnection: up")]
    {
        cases.push(
            case(format!("an end after {name}, and then an answer"), "9110 §9.2.2, 9112 §8")
                .upgrades("websocket")
                .sends(get(ASK))
                .forwards(&asked("", ""))
                .says_last(says)
                .forwards(&asked("", ""))
                .gets("200 OK|content-length: 2||ok"),
        );
    }
    for (name, fields) in [
        ("nobody asked for", ""),
        ("an unknown protocol asks for", "Connection: upgrade\r\nUpgrade: irc\r\n"),
        ("h2c asks for", "Connection: upgrade\r\nUpgrade: h2c\r\n"),
    ] {
        cases.push(
            case(format!("101 that {name}"), "9110 §15.2.2")
                .sends(get(fields))
                .forwards(&plain(""))
                .says(format!("{SWITCH}evil"))
                .gets_status(502),
        );
    }
    cases
}
