//! Too much, too long, too slow.

use super::case::{Case, GET, GOT, OK, case, passes, refused};
use super::stage::Stage;

/// A stage with little patience and tight bounds.
pub fn stage() -> Stage {
    Stage::new(|plan| {
        plan.with("limits: {body: 1000B}")
            .set("timeouts: {handshake: 500ms, head: 500ms, keep_alive_idle: 700ms}")
            .set("limits: {head: 8KiB, fields: 20, uri: 1KiB, requests_per_connection: 3}")
    })
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n{body}")
}

pub fn cases(_: &Stage) -> Vec<Case> {
    let long = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n");
    let chunked = "Transfer-Encoding: chunked\r\n";
    vec![
        case("a head that never comes", "9110 §15.5.9").gets_nothing(),
        refused("a head that does not end", "9110 §15.5.9", 408, "GET / HTTP/1.1\r\nHost: shop\r\n"),
        refused("a request line that does not end", "9110 §15.5.9", 408, "GET / HT"),
        refused("a method that does not end", "9110 §15.5.9", 408, "G"),
        refused("a preface that does not end", "9110 §15.5.9", 408, "PRI * HTTP/2.0\r\n"),
        refused("a line end that does not come", "9110 §15.5.9", 408, "GET / HTTP/1.1\r\nHost: shop\r\n\r"),
        refused("empty lines without end", "9110 §15.5.9", 408, "\r\n\r\n\r\n"),
        case("a second head that does not end", "9110 §15.5.9")
            .sends(GET)
            .gets(OK)
            .sends("GET / HT")
            .gets_status(408)
            .closed()
            .forwards(GOT),
        case("a connection that rests ends without a word", "9112 §9.8")
            .sends(GET)
            .gets(OK)
            .closed()
            .forwards(GOT),
        case("a connection that has had its requests ends", "9112 §9.6")
            .sends(GET)
            .gets(OK)
            .sends(GET)
            .gets(OK)
            .sends(GET)
            .gets("200 OK|connection: close|content-length: 2||ok")
            .closed()
            .forwards(GOT)
            .forwards(GOT)
            .forwards(GOT),
        case("more pipelined requests than it has", "9112 §9.6")
            .sends(GET.repeat(10))
            .gets(OK)
            .gets(OK)
            .gets("200 OK|connection: close|content-length: 2||ok")
            .closed()
            .forwards(GOT)
            .forwards(GOT)
            .forwards(GOT),
        passes(
            "the longest target",
            "9110 §4.1",
            target(&long(1024)),
            &format!("GET {} HTTP/1.1|host: shop|+||", long(1024)),
        ),
        case("a target too long", "9110 §15.5.15").sends(target(&long(1025))).gets_status(414),
        case("a query too long", "9110 §15.5.15")
            .sends(target(&format!("/?{}", "a".repeat(1023))))
            .gets_status(414),
        refused("a target longer than a head", "9110 §15.5.15", 431, target(&long(9000))),
        passes(
            "the most fields",
            "6585 §5",
            get(&"X: y\r\n".repeat(19)),
            &format!("GET / HTTP/1.1|host: shop|{}+||", "x: y|".repeat(19)),
        ),
        refused("too many fields", "6585 §5", 431, get(&"X: y\r\n".repeat(20))),
        refused("many too many fields", "6585 §5", 431, get(&"X: y\r\n".repeat(1000))),
        refused("a field too long", "6585 §5", 431, get(&format!("X: {}\r\n", "y".repeat(9000)))),
        refused("a name too long", "6585 §5", 431, get(&format!("{}: y\r\n", "x".repeat(9000)))),
        refused("cookies too long", "6585 §5", 431, get(&format!("Cookie: a={}\r\n", "b".repeat(9000)))),
        refused(
            "a field without end",
            "6585 §5",
            431,
            format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(200_000)),
        ),
        refused("a method without end", "6585 §5", 431, "G".repeat(200_000)),
        passes(
            "the largest body",
            "9110 §15.5.14",
            post("Content-Length: 1000\r\n", &"x".repeat(1000)),
            &format!("POST / HTTP/1.1|host: shop|content-length: 1000|+||{}", "x".repeat(1000)),
        ),
        refused("a length too large", "9110 §15.5.14", 413, post("Content-Length: 1001\r\n", "")),
        refused(
            "a length much too large",
            "9110 §15.5.14",
            413,
            post("Content-Length: 1000000000000\r\n", "x"),
        ),
        refused(
            "a length too large that is not sent yet",
            "9110 §10.1.1",
            413,
            post("Expect: 100-continue\r\nContent-Length: 1001\r\n", ""),
        ),
        case("chunks too large", "9110 §15.5.14")
            .sends(post(chunked, &format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001))))
            .gets_status(413)
            .closed()
            .forwards_no_end(),
        case("many chunks, too large together", "9110 §15.5.14")
            .sends(post(chunked, &"1\r\nx\r\n".repeat(1001)))
            .gets_status(413)
            .closed()
            .forwards_no_end(),
        case("a body that says more than it sends, and goes", "9112 §8")
            .sends(post("Content-Length: 1000\r\n", "x"))
            .half_closes()
            .gets_status(400)
            .closed()
            .forwards_no_end(),
        case("trailers without end", "6585 §5")
            .sends(post(chunked, &format!("0\r\n{}", "X: y\r\n".repeat(100_000))))
            .gets_status(400)
            .closed()
            .forwards_no_end(),
        case("extensions without end", "9112 §7.1.1")
            .sends(post(chunked, &format!("1;{}", "a".repeat(200_000))))
            .gets_status(400)
            .closed()
            .forwards_no_end(),
    ]
}
