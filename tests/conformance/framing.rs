//! Where a request ends: lengths, codings and chunks.

use super::case::{Case, OK, case, passes, refused};
use super::stage::Stage;

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n{body}")
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const GOT_CHUNKED: &str = "POST / HTTP/1.1|host: shop|transfer-encoding: chunked|+||";
/// What must not be taken for a request.
const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";

pub fn cases(_: &Stage) -> Vec<Case> {
    [lengths(), codings(), both(), chunks(), trailers(), others()].concat()
}

fn lengths() -> Vec<Case> {
    let mut cases = vec![
        passes(
            "a length",
            "9112 §6.2",
            post("Content-Length: 5\r\n", "hello"),
            "POST / HTTP/1.1|host: shop|content-length: 5|+||hello",
        ),
        passes(
            "a length of nothing",
            "9112 §6.2",
            post("Content-Length: 0\r\n", ""),
            "POST / HTTP/1.1|host: shop|content-length: 0|+||",
        ),
        passes(
            "leading zeros go no further",
            "9110 §8.6",
            post("Content-Length: 0005\r\n", "hello"),
            "POST / HTTP/1.1|host: shop|content-length: 5|+||hello",
        ),
        passes(
            "blanks around a length",
            "9112 §5.1",
            post("Content-Length: \t5 \r\n", "hello"),
            "POST / HTTP/1.1|host: shop|content-length: 5|+||hello",
        ),
        passes(
            "a length on a GET",
            "9110 §9.3.1",
            "GET / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello",
            "GET / HTTP/1.1|host: shop|content-length: 5|+||hello",
        ),
        passes(
            "a length of nothing on a GET",
            "9110 §9.3.1",
            "GET / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1|host: shop|+||",
        ),
        passes(
            "a length on a DELETE",
            "9110 §9.3.5",
            "DELETE / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nab",
            "DELETE / HTTP/1.1|host: shop|content-length: 2|+||ab",
        ),
        passes(
            "a body that looks like a request",
            "9112 §6.2",
            post(&format!("Content-Length: {}\r\n", NEXT.len()), NEXT),
            "POST / HTTP/1.1|host: shop|content-length: 38|+||GET /smuggled HTTP/1.1|Host: shop||",
        ),
        passes(
            "no length: no body",
            "9112 §6.3",
            post("", ""),
            "POST / HTTP/1.1|host: shop|content-length: 0|+||",
        ),
        case("a body in two pieces", "9112 §6.2")
            .sends(post("Content-Length: 5\r\n", "he"))
            .sends("llo")
            .gets(OK)
            .forwards("POST / HTTP/1.1|host: shop|content-length: 5|+||hello"),
        case("a body that stops short", "9112 §8")
            .sends(post("Content-Length: 5\r\n", "he"))
            .half_closes()
            .gets_status(400)
            .forwards_no_end()
            .closed(),
    ];
    for length in [
        "",
        "+5",
        "-5",
        "-0",
        "+0",
        "5x",
        "x5",
        "0x5",
        "5.0",
        "5e0",
        "5,",
        ",5",
        "5,6",
        "5, 6",
        "5 5",
        "5\t5",
        "5;5",
        "\"5\"",
        "'5'",
        "0b1",
        "1_0",
        "٥",
        "5\u{b}",
        "5\u{c}",
        "\u{b}5",
        "18446744073709551616",
        "99999999999999999999",
        "9223372036854775808000",
        "5, 5",
        "5,5",
        "0, 5",
        "0,0",
    ] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: {length}\r\n\r\nhello{NEXT}");
        cases.push(refused(format!("the length {length:?}"), "9110 §8.6, 9112 §6.3", 400, bytes));
    }
    cases.push(refused(
        "a length that no body can have",
        "9110 §8.6",
        431,
        post("Content-Length: 18446744073709551615\r\n", NEXT),
    ));
    for (first, second) in
        [("5", "6"), ("5", "0"), ("0", "5"), ("5", "+5"), ("5", ""), ("", "5"), ("5", "x"), ("5", "5, 6")]
    {
        let bytes = post(
            &format!("Content-Length: {first}\r\nContent-Length: {second}\r\n"),
            &format!("hello{NEXT}"),
        );
        cases.push(refused(format!("the lengths {first:?} and {second:?}"), "9112 §6.3", 400, bytes));
    }
    cases
}

fn codings() -> Vec<Case> {
    let body = format!("5\r\nhello\r\n0\r\n\r\n{NEXT}");
    let mut cases = vec![
        passes(
            "chunks",
            "9112 §7.1",
            post(CHUNKED, "5\r\nhello\r\n0\r\n\r\n"),
            &format!("{GOT_CHUNKED}5|hello|0||"),
        ),
        passes(
            "a coding in capitals",
            "9112 §7",
            post("TRANSFER-ENCODING: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            &format!("{GOT_CHUNKED}5|hello|0||"),
        ),
        passes(
            "blanks around a coding",
            "9112 §5.1",
            post("Transfer-Encoding: \tchunked\t \r\n", "5\r\nhello\r\n0\r\n\r\n"),
            &format!("{GOT_CHUNKED}5|hello|0||"),
        ),
        passes(
            "chunks on a GET",
            "9110 §9.3.1",
            "GET / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "GET / HTTP/1.1|host: shop|transfer-encoding: chunked|+||1|a|0||",
        ),
    ];
    for coding in [
        "",
        "identity",
        "gzip",
        "xchunked",
        "chunkedx",
        "x chunked",
        "chunked x",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "chunked,chunked",
        "chunked, chunked",
        ",chunked",
        "chunked,",
        "chunked;q=1",
        "chunked;a=b",
        "\"chunked\"",
        "'chunked'",
        "\u{b}chunked",
        "chunked\u{b}",
        "\u{c}chunked",
        "chunked\0",
        "\0chunked",
        "chu nked",
        "chu\tnked",
        "chunke",
        "chunked\u{7f}",
        "chunKed\u{85}",
        "ｃhunked",
        "[chunked]",
        "cow",
        "deflate",
        "trailers",
    ] {
        let name = format!("the coding {}", coding.escape_default());
        cases.push(refused(name, "9112 §6.1", 400, post(&format!("Transfer-Encoding: {coding}\r\n"), &body)));
    }
    for (name, fields) in [
        ("two codings of the same kind", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked, then identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("identity, then chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        ("gzip, then chunked", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked, then nothing", "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n"),
        ("a coding on a folded line", "Transfer-Encoding: x\r\n\tchunked\r\n"),
        ("a coding behind a bare CR", "X: y\rTransfer-Encoding: chunked\r\n"),
        ("a coding with a blank before its colon", "Transfer-Encoding : chunked\r\n"),
        ("a coding with a tab before its colon", "Transfer-Encoding\t: chunked\r\n"),
        ("a coding with a blank before its name", " Transfer-Encoding: chunked\r\n"),
        ("a coding with a NUL behind its name", "Transfer-Encoding\0: chunked\r\n"),
    ] {
        cases.push(refused(name, "9112 §6.1", 400, post(fields, &body)));
    }
    cases.push(passes(
        "a name with an underscore is another one",
        "9110 §5.1",
        post("Transfer_Encoding: chunked\r\nContent-Length: 2\r\n", "ok"),
        "POST / HTTP/1.1|host: shop|content-length: 2|transfer_encoding: chunked|+||ok",
    ));
    cases.push(refused(
        "a coding in HTTP/1.0",
        "9112 §6.1",
        400,
        "POST / HTTP/1.0\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ));
    cases.push(refused("a coding in HTTP/1.0 that is to be kept", "9112 §6.1", 400,
        "POST / HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
    cases
}

fn both() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, fields) in [
        ("a length and a coding", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("a coding and a length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("a length of nothing and a coding", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        (
            "a coding between lengths",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ),
        (
            "a coding, another field and a length",
            "transfer-encoding: chunked\r\nX: y\r\ncontent-length: 48\r\n",
        ),
        ("a length and another coding", "Content-Length: 5\r\nTransfer-Encoding: identity\r\n"),
        ("a length and a coding that is none", "Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n"),
        ("a length and an empty coding", "Content-Length: 5\r\nTransfer-Encoding:\r\n"),
        ("a bad length and a coding", "Content-Length: x\r\nTransfer-Encoding: chunked\r\n"),
        ("a coding and a bad length", "Transfer-Encoding: chunked\r\nContent-Length: x\r\n"),
        (
            "a length that Connection names and a coding",
            "Connection: content-length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "a coding that Connection names and a length",
            "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ),
    ] {
        let body = format!("5\r\nhello\r\n0\r\n\r\n{NEXT}");
        cases.push(refused(name, "9112 §6.1, §6.3", 400, post(fields, &body)));
        cases.push(refused(
            format!("{name}, on a GET"),
            "9112 §6.1, §6.3",
            400,
            post(fields, &body).replace("POST", "GET"),
        ));
        let (head, rest) = (post(fields, ""), body);
        cases.push(
            case(format!("{name}, in pieces"), "9112 §6.1, §6.3")
                .sends(head.get(..head.len() - 30).unwrap_or_default())
                .sends(head.get(head.len() - 30..).unwrap_or_default())
                .gets_status(400)
                .sends(rest)
                .closed(),
        );
    }
    cases
}

fn chunks() -> Vec<Case> {
    let good = |name: &str, body: &str, got: &str| {
        passes(name, "9112 §7.1", post(CHUNKED, body), &format!("{GOT_CHUNKED}{got}"))
    };
    let mut cases = vec![
        good("no chunk but the last", "0\r\n\r\n", "0||"),
        good("several chunks are cut anew or as they came", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "1|a|2|bc|0||"),
        good(
            "sizes in either case",
            "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
            "a|0123456789|a|0123456789|0||",
        ),
        good("leading zeros of a size", "0005\r\nhello\r\n0000\r\n\r\n", "5|hello|0||"),
        good("extensions go no further", "5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n", "5|hello|0||"),
        good("a chunk that looks like the end", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "5|0|||0||"),
    ];
    for (name, body) in [
        ("an empty size", "\r\nhello\r\n0\r\n\r\n"),
        ("a blank behind a size", "5 \r\nhello\r\n0\r\n\r\n"),
        ("a tab behind a size", "5\t\r\nhello\r\n0\r\n\r\n"),
        ("blanks behind the last size", "5\r\nhello\r\n0  \r\n\r\n"),
        ("a NUL in an extension", "5;\0\r\nhello\r\n0\r\n\r\n"),
        ("an escape in an extension", "5;a=\u{1b}\r\nhello\r\n0\r\n\r\n"),
        ("an extension of 2000 bytes", &format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(2000))),
        ("a lone LF at the very end", "5\r\nhello\r\n0\r\n\n"),
        ("a lone LF behind a blank behind a size", "5 \nhello\r\n0\r\n\r\n"),
        ("a size with a plus", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a minus", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size that is no number", "g\r\nhello\r\n0\r\n\r\n"),
        ("a blank before a size", " 5\r\nhello\r\n0\r\n\r\n"),
        ("a size in two parts", "5 5\r\nhello\r\n0\r\n\r\n"),
        ("a comma behind a size", "5,5\r\nhello\r\n0\r\n\r\n"),
        ("a vertical tab behind a size", "5\u{b}\r\nhello\r\n0\r\n\r\n"),
        ("a NUL behind a size", "5\0\r\nhello\r\n0\r\n\r\n"),
        ("a size too large", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a size of all bits and one more", "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("a lone LF behind a size", "5\nhello\r\n0\r\n\r\n"),
        ("a lone CR behind a size", "5\rhello\r\n0\r\n\r\n"),
        ("a lone LF in an extension", "5;a\nhello\r\n0\r\n\r\n"),
        ("a lone CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("a chunk longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        ("a chunk shorter than its size", "6\r\nhello\r\n0\r\n\r\n"),
        ("no line end behind a chunk", "5\r\nhello0\r\n\r\n"),
        ("a lone LF behind a chunk", "5\r\nhello\n0\r\n\r\n"),
        ("a lone CR behind a chunk", "5\r\nhello\r0\r\n\r\n"),
        ("a chunk without a size", "hello\r\n0\r\n\r\n"),
        ("a lone LF behind the last size", "5\r\nhello\r\n0\n\r\n"),
        ("no chunks at all", NEXT),
    ] {
        cases.push(
            case(name, "9112 §7.1")
                .sends(post(CHUNKED, body) + NEXT)
                .gets_status(400)
                .forwards_no_end()
                .closed(),
        );
    }
    for (name, body) in [
        ("a chunked body that stops in a chunk", "5\r\nhel"),
        ("a chunked body that stops before its end", "5\r\nhello\r\n"),
        ("a chunked body that stops in its last line", "5\r\nhello\r\n0\r\n"),
    ] {
        cases.push(
            case(name, "9112 §8")
                .sends(post(CHUNKED, body))
                .half_closes()
                .gets_status(400)
                .forwards_no_end()
                .closed(),
        );
    }
    cases
}

fn trailers() -> Vec<Case> {
    let head = post("Transfer-Encoding: chunked\r\nTE: trailers\r\n", "1\r\na\r\n0\r\n");
    let got = "POST / HTTP/1.1|host: shop|transfer-encoding: chunked|te: trailers|+||1|a|0|";
    let good = |name: &str, lines: &str, left: &str| {
        passes(name, "9110 §6.5.1", format!("{head}{lines}\r\n"), &format!("{got}{left}|"))
    };
    let mut cases = vec![
        good("a trailer", "X-Sum: 1\r\n", "x-sum: 1|"),
        good("two trailers", "X: 1\r\nX: 2\r\n", "x: 1|x: 2|"),
    ];
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Connection",
        "Keep-Alive",
        "Trailer",
        "TE",
        "Upgrade",
        "Proxy-Authorization",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
        "Cache-Control",
        "Expect",
        "Range",
        "If-Match",
        "Max-Forwards",
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-IP",
        "X-Request-Id",
        "X-Tidegate-Variant",
    ] {
        cases.push(good(&format!("{name} as a trailer"), &format!("{name}: 5\r\n"), ""));
    }
    for (name, line) in [
        ("a lone LF behind a trailer", "X: y\nZ: a"),
        ("a trailer without a colon", "X"),
        ("a trailer with a blank before its colon", "X : y"),
        ("a folded trailer", "X: y\r\n z"),
        ("a NUL in a trailer", "X: \0"),
        ("a lone CR in a trailer", "X: a\rb"),
    ] {
        cases.push(
            case(name, "9112 §7.1.2")
                .sends(format!("{head}{line}\r\n\r\n{NEXT}"))
                .gets_status(400)
                .forwards_no_end()
                .closed(),
        );
    }
    cases
}

fn others() -> Vec<Case> {
    vec![
        passes(
            "a coding that is accepted is not the body's",
            "9110 §10.1.4",
            "GET / HTTP/1.1\r\nHost: shop\r\nTE: chunked\r\n\r\n",
            "GET / HTTP/1.1|host: shop|+||",
        ),
        passes(
            "an encoded body is none of our business",
            "9110 §8.4",
            post("Content-Encoding: chunked\r\nContent-Length: 2\r\n", "ok"),
            "POST / HTTP/1.1|host: shop|content-length: 2|content-encoding: chunked|+||ok",
        ),
        case("a body is asked for with 100", "9110 §10.1.1")
            .sends(post("Expect: 100-continue\r\nContent-Length: 5\r\n", ""))
            .acts([
                super::case::Act::Say(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
                super::case::Act::ReadBody,
                super::case::Act::Say(super::case::SAYS_OK.into()),
            ])
            .gets_status(100)
            .sends("hello")
            .gets(OK)
            .forwards("POST / HTTP/1.1|host: shop|content-length: 5|expect: 100-continue|+||hello"),
        case("a body that is not asked for", "9110 §10.1.1")
            .sends(post("Expect: 100-continue\r\nContent-Length: 5\r\n", ""))
            .acts([super::case::Act::Say(b"HTTP/1.1 417 No\r\ncontent-length: 2\r\n\r\nno".to_vec())])
            .gets("417 No|content-length: 2||no")
            .forwards_no_end()
            .closed(),
        passes(
            "HTTP/1.0 expects nothing",
            "9110 §10.1.1",
            "POST / HTTP/1.0\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
            "POST / HTTP/1.1|host: shop|content-length: 2|+||ab",
        )
        .closed(),
    ]
}
