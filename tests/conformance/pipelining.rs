//! Several requests in one go, and what stands behind one that is refused.

use super::case::{Case, GET, GOT, OK, OK_OLD, case};
use super::stage::Stage;

const NEXT: &str = "GET /next HTTP/1.1\r\nHost: shop\r\n\r\n";
const GOT_NEXT: &str = "GET /next HTTP/1.1|host: shop|+||";
const FIRST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst";
const SECOND: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond";

pub fn cases(_: &Stage) -> Vec<Case> {
    let mut cases = vec![
        case("two requests in one write", "9112 §9.3.2").sends(format!("{GET}{NEXT}")).says(FIRST).says(SECOND)
            .gets("200 OK|content-length: 5||first").gets("200 OK|content-length: 6||second").forwards(GOT).forwards(GOT_NEXT),
        case("a body and a request behind it", "9112 §9.3.2")
            .sends(format!("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello{NEXT}"))
            .says(FIRST).says(SECOND)
            .gets("200 OK|content-length: 5||first").gets("200 OK|content-length: 6||second")
            .forwards("POST / HTTP/1.1|host: shop|content-length: 5|+||hello").forwards(GOT_NEXT),
        case("chunks and a request behind them", "9112 §9.3.2")
            .sends(format!("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{NEXT}"))
            .says(FIRST).says(SECOND)
            .gets("200 OK|content-length: 5||first").gets("200 OK|content-length: 6||second")
            .forwards("POST / HTTP/1.1|host: shop|transfer-encoding: chunked|+||5|hello|0||").forwards(GOT_NEXT),
        case("bytes behind a body are the next request, and refused", "9112 §6.3")
            .sends("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nabX\r\n\r\n")
            .gets(OK).gets_status(400).closed()
            .forwards("POST / HTTP/1.1|host: shop|content-length: 2|+||ab"),
        case("nothing is answered behind Connection: close", "9112 §9.6")
            .sends(format!("GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n{NEXT}"))
            .gets("200 OK|connection: close|content-length: 2||ok").closed().forwards(GOT),
        case("nothing is answered behind Connection: Close in a list", "9112 §9.6")
            .sends(format!("GET / HTTP/1.1\r\nHost: shop\r\nConnection: x, Close\r\n\r\n{NEXT}"))
            .gets("200 OK|connection: close|content-length: 2||ok").closed().forwards(GOT),
        case("nothing is answered behind HTTP/1.0", "9112 §9.3")
            .sends(format!("GET / HTTP/1.0\r\nHost: shop\r\n\r\n{NEXT}"))
            .gets(OK_OLD).closed().forwards(GOT),
        case("HTTP/1.0 may be kept", "9112 §9.3")
            .sends("GET / HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n")
            .gets("HTTP/1.0 200 OK|connection: keep-alive|content-length: 2||ok").forwards(GOT),
        case("a connection of HTTP/1.0 that ends with a refusal is not said to be kept", "9112 §9.3")
            .sends("TRACE / HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n")
            .gets("HTTP/1.0 405 Method Not Allowed|allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS|cache-control: no-store|connection: close|content-length: 29|content-type: text/plain; charset=utf-8|x-request-id: *||this method is not forwarded\\n")
            .closed(),
        case("a client that writes no more gets its answers", "9112 §9.6")
            .sends(GET).awaits(1).gets(OK).half_closes().closed().forwards(GOT),
        case("an answer of our own leaves the connection", "9112 §9.3")
            .sends(format!("OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n{NEXT}"))
            .gets_status(200).gets(OK).forwards(GOT_NEXT),
    ];
    for (name, first, status) in [
        ("a bad length", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: x\r\n\r\n", 400),
        ("no host", "GET / HTTP/1.1\r\n\r\n", 400),
        ("a bad coding", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("a bad path", "GET /%2f HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
        ("TRACE", "TRACE / HTTP/1.1\r\nHost: shop\r\n\r\n", 405),
        ("TRACE with a body", "TRACE / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello", 405),
        ("CONNECT", "CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n", 405),
        ("a folded field", "GET / HTTP/1.1\r\nHost: shop\r\nX: a\r\n b\r\n\r\n", 400),
        ("a blank before a colon", "GET / HTTP/1.1\r\nHost: shop\r\nX : a\r\n\r\n", 400),
        ("HTTP/0.9", "GET /\r\n", 400),
        ("too many fields", &format!("GET / HTTP/1.1\r\nHost: shop\r\n{}\r\n", "X: y\r\n".repeat(100)), 431),
        ("another version", "GET / HTTP/1.2\r\nHost: shop\r\n\r\n", 400),
    ] {
        cases.push(
            case(format!("nothing is answered behind {name}"), "9112 §9.6, §11.2")
                .sends(format!("{first}{NEXT}"))
                .gets_status(status)
                .closed(),
        );
        cases.push(
            case(format!("what came before {name} is answered"), "9112 §9.3.2")
                .sends(format!("{GET}{first}{NEXT}"))
                .gets(OK)
                .gets_status(status)
                .closed()
                .forwards(GOT),
        );
    }
    cases
}
