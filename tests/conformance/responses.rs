//! Answers that are as they should be, in every shape.

use super::case::{Act, Case, GET, GOT, OK, SAYS_OK, answers, case};
use super::stage::Stage;

const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n";
const GOT_HEAD: &str = "HEAD / HTTP/1.1|host: shop|+||";

pub fn cases(_: &Stage) -> Vec<Case> {
    let says = |head: &str, body: &str| format!("HTTP/1.1 {head}\r\n\r\n{body}");
    let mut cases = vec![
        answers("a length", "9112 §6.3", says("200 OK\r\nContent-Length: 2", "ok"), OK),
        answers(
            "a length of nothing",
            "9112 §6.3",
            says("200 OK\r\nContent-Length: 0", ""),
            "200 OK|content-length: 0||",
        ),
        answers("leading zeros of a length", "9110 §8.6", says("200 OK\r\nContent-Length: 0002", "ok"), OK),
        answers(
            "chunks",
            "9112 §7.1",
            says("200 OK\r\nTransfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n"),
            "200 OK|transfer-encoding: chunked||ok",
        ),
        answers(
            "no chunk but the last",
            "9112 §7.1",
            says("200 OK\r\nTransfer-Encoding: Chunked", "0\r\n\r\n"),
            "200 OK|transfer-encoding: chunked||",
        ),
        answers(
            "extensions",
            "9112 §7.1.1",
            says("200 OK\r\nTransfer-Encoding: chunked", "2;a=b\r\nok\r\n0;c\r\n\r\n"),
            "200 OK|transfer-encoding: chunked||ok",
        ),
        answers(
            "a reason of its own",
            "9112 §4",
            says("200 Fine by me\r\nContent-Length: 0", ""),
            "200 Fine by me|content-length: 0||",
        ),
        answers(
            "an unknown status",
            "9110 §15",
            says("299 Odd\r\nContent-Length: 0", ""),
            "299 Odd|content-length: 0||",
        ),
        answers(
            "an error",
            "9110 §15.6",
            says("503 Busy\r\nRetry-After: 1\r\nContent-Length: 0", ""),
            "503 Busy|content-length: 0|retry-after: 1||",
        ),
        answers(
            "a field with bytes beyond ASCII",
            "9110 §5.5",
            b"HTTP/1.1 200 OK\r\nX: \xe9\r\nContent-Length: 0\r\n\r\n",
            "200 OK|content-length: 0|x: \\xe9||",
        ),
        answers(
            "an empty field",
            "9110 §5.5",
            says("200 OK\r\nX:\r\nContent-Length: 0", ""),
            "200 OK|content-length: 0|x: ||",
        ),
        answers(
            "304 without a length",
            "9110 §15.4.5",
            says("304 Not Modified\r\nETag: \"a\"", ""),
            "304 Not Modified|etag: \"a\"||",
        ),
        answers(
            "304 with the length of what was not sent",
            "9110 §15.4.5",
            says("304 Not Modified\r\nContent-Length: 5", ""),
            "304 Not Modified||",
        ),
        answers("204", "9110 §15.3.5", says("204 No Content", ""), "204 No Content||"),
        answers(
            "204 with a length",
            "9110 §8.6",
            says("204 No Content\r\nContent-Length: 0", ""),
            "204 No Content||",
        ),
        answers(
            "204 that announces content",
            "9110 §8.6",
            says("204 No Content\r\nContent-Length: 5", ""),
            "204 No Content||",
        ),
        answers(
            "204 that announces chunks",
            "9112 §6.1",
            says("204 No Content\r\nTransfer-Encoding: chunked", ""),
            "204 No Content||",
        ),
        answers(
            "205",
            "9110 §15.3.6",
            says("205 Reset Content\r\nContent-Length: 0", ""),
            "205 Reset Content|content-length: 0||",
        ),
        answers(
            "103 stops here",
            "8297 §2",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_owned() + SAYS_OK,
            OK,
        ),
        answers("102 stops here", "9110 §15.2", "HTTP/1.1 102 Processing\r\n\r\n".to_owned() + SAYS_OK, OK),
        answers(
            "100 that nobody asked for stops here",
            "9110 §15.2.1",
            "HTTP/1.1 100 Continue\r\n\r\n".to_owned() + SAYS_OK,
            OK,
        ),
        answers(
            "several before the final one",
            "9110 §15.2",
            "HTTP/1.1 103 A\r\n\r\nHTTP/1.1 100 B\r\n\r\nHTTP/1.1 103 C\r\n\r\n".to_owned() + SAYS_OK,
            OK,
        ),
    ];
    cases.extend([
        case("an answer that ends with its connection", "9112 §6.3")
            .sends(GET)
            .says_last(says("200 OK", "ok"))
            .forwards(GOT)
            .gets("200 OK|transfer-encoding: chunked||ok"),
        case("an answer of HTTP/1.0", "9112 §2.3")
            .sends(GET)
            .says_last("HTTP/1.0 200 OK\r\n\r\nok")
            .forwards(GOT)
            .gets("200 OK|transfer-encoding: chunked||ok"),
        answers(
            "an answer of HTTP/1.0 with a length",
            "9112 §2.3",
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            OK,
        ),
        case("an empty answer that ends with its connection", "9112 §6.3")
            .sends(GET)
            .says_last(says("200 OK", ""))
            .forwards(GOT)
            .gets("200 OK|transfer-encoding: chunked||"),
        case("chunks for a client of HTTP/1.0", "9112 §7.1")
            .sends("GET / HTTP/1.0\r\nHost: shop\r\n\r\n")
            .says(says("200 OK\r\nTransfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n"))
            .forwards(GOT)
            .gets("HTTP/1.0 200 OK||ok")
            .closed(),
        case("a connection of HTTP/1.0 that has to end is not said to be kept", "9112 §9.3")
            .sends("GET / HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n")
            .says(says("200 OK\r\nTransfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n"))
            .forwards(GOT)
            .gets("HTTP/1.0 200 OK||ok")
            .closed(),
        case("HEAD with a length", "9110 §9.3.2")
            .sends(HEAD)
            .says(says("200 OK\r\nContent-Length: 5", ""))
            .forwards(GOT_HEAD)
            .gets("200 OK|content-length: 5||"),
        case("HEAD with chunks", "9110 §9.3.2")
            .sends(HEAD)
            .says(says("200 OK\r\nTransfer-Encoding: chunked", ""))
            .forwards(GOT_HEAD)
            .gets("200 OK||"),
        case("HEAD with neither", "9110 §9.3.2")
            .sends(HEAD)
            .says(says("200 OK\r\nX: y", ""))
            .forwards(GOT_HEAD)
            .gets("200 OK|x: y||"),
        case("HEAD and 304", "9110 §9.3.2")
            .sends(HEAD)
            .says(says("304 Not Modified\r\nContent-Length: 5", ""))
            .forwards(GOT_HEAD)
            .gets("304 Not Modified|content-length: 5||"),
        case("trailers for who takes them", "9110 §6.5.1")
            .sends("GET / HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\n\r\n")
            .says(says(
                "200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked",
                "2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
            ))
            .forwards("GET / HTTP/1.1|host: shop|te: trailers|+||")
            .gets("200 OK|trailer: X-Sum|transfer-encoding: chunked||ok||x-sum: 1"),
        case("trailers for who does not", "9110 §6.5.1")
            .sends(GET)
            .says(says(
                "200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked",
                "2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
            ))
            .forwards(GOT)
            .gets("200 OK|trailer: X-Sum|transfer-encoding: chunked||ok"),
        case("an answer while the client still sends", "9112 §9.5")
            .sends("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000000\r\n\r\nabc")
            .acts([Act::Say(says("413 Too Large\r\nContent-Length: 2", "no").into_bytes())])
            .gets("413 Too Large|content-length: 2||no")
            .forwards_no_end()
            .closed(),
        case("an answer, and the end, while the client still sends", "9112 §9.5")
            .sends("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            .acts([
                Act::Say(says("401 No\r\nConnection: close\r\nContent-Length: 2", "no").into_bytes()),
                Act::Close,
            ])
            .gets("401 No|content-length: 2||no")
            .forwards_no_end()
            .closed(),
    ]);
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Set-Cookie",
        "Connection",
        "Content-Type",
        "Location",
    ] {
        cases.push(
            case(format!("{name} as a trailer of an answer"), "9110 §6.5.1")
                .sends("GET / HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\n\r\n")
                .says(says(
                    &format!("200 OK\r\nTrailer: {name}\r\nTransfer-Encoding: chunked"),
                    &format!("2\r\nok\r\n0\r\n{name}: 5\r\n\r\n"),
                ))
                .forwards("GET / HTTP/1.1|host: shop|te: trailers|+||")
                .gets(&format!("200 OK|trailer: {name}|transfer-encoding: chunked||ok")),
        );
    }
    cases
}
