//! Request lines, fields and targets.

use super::case::{Case, GET, GOT, case, passes, refused};
use super::stage::Stage;

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")
}

fn line(line: &str) -> String {
    format!("{line}\r\nHost: shop\r\n\r\n")
}

pub fn cases(_: &Stage) -> Vec<Case> {
    [request_lines(), line_ends(), targets(), methods(), fields()].concat()
}

fn request_lines() -> Vec<Case> {
    let mut cases = vec![
        passes("the plainest request", "9112 §2.1", GET, GOT),
        passes("one empty line before a request", "9112 §2.2", format!("\r\n{GET}"), GOT),
        passes("two empty lines before a request", "9112 §2.2", format!("\r\n\r\n{GET}"), GOT),
        refused("a bare CR before a request", "9112 §2.2", 400, format!("\r{GET}")),
        refused("a blank before a request", "9112 §2.2", 400, format!(" {GET}")),
        refused("a bare CR ends the request line", "9112 §2.2", 400, "GET / HTTP/1.1\rHost: shop\r\n\r\n"),
        refused("no target", "9112 §3", 400, line("GET HTTP/1.1")),
        refused("nothing but a method", "9112 §3", 400, line("GET")),
        refused("a fourth word", "9112 §3", 400, line("GET / HTTP/1.1 x")),
        refused("two blanks after the method", "9112 §3", 400, line("GET  / HTTP/1.1")),
        refused("two blanks before the version", "9112 §3", 400, line("GET /  HTTP/1.1")),
        refused("a blank after the version", "9112 §3", 400, line("GET / HTTP/1.1 ")),
        refused("a tab after the method", "9112 §3", 400, line("GET\t/ HTTP/1.1")),
        refused("a tab before the version", "9112 §3", 400, line("GET /\tHTTP/1.1")),
        refused("a vertical tab for a blank", "9112 §3", 400, line("GET\x0b/ HTTP/1.1")),
        refused("a form feed for a blank", "9112 §3", 400, line("GET /\x0cHTTP/1.1")),
        refused(
            "a request line and white space in a line of its own",
            "9112 §2.2",
            400,
            "GET / HTTP/1.1\r\n Host: shop\r\n\r\n",
        ),
        refused("something that is no HTTP", "9112 §3", 400, "hello\r\n\r\n"),
        refused("an SSH greeting", "9112 §3", 400, "SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        refused("an answer for a request", "9112 §2.1", 400, "HTTP/1.1 200 OK\r\nHost: shop\r\n\r\n"),
    ];
    for version in [
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/2.0",
        "HTTP/3",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1,1",
        "http/1.1",
        "Http/1.1",
        "HTTP 1.1",
        "HTTPS/1.1",
        "HTTP/1.1a",
        "HTTP/+1.1",
        "ICY/1.1",
        "1.1",
    ] {
        cases.push(refused(
            format!("the version {version}"),
            "9112 §2.3",
            400,
            line(&format!("GET / {version}")),
        ));
    }
    cases.push(refused("HTTP/0.9", "9112 §2.3", 400, "GET /\r\n\r\n"));
    cases.push(
        case("a request that stops in its first line", "9112 §8").sends("GET / HT").half_closes().closed(),
    );
    cases.push(
        case("a request that stops in its fields", "9112 §8")
            .sends("GET / HTTP/1.1\r\nHost: shop\r\n")
            .half_closes()
            .closed(),
    );
    cases.push(case("a client that says nothing", "9112 §8").half_closes().closed());
    cases
}

fn targets() -> Vec<Case> {
    let forwarded = |target: &str| format!("GET {target} HTTP/1.1|host: shop|+||");
    let same = |name: &str, target: &str| {
        passes(name, "9112 §3.2.1", line(&format!("GET {target} HTTP/1.1")), &forwarded(target))
    };
    let mut cases = vec![
        same("a path", "/a/b"),
        same("a query", "/a?b=c&d"),
        same("an empty query", "/a?"),
        same("a question mark in a query", "/?a?b"),
        same("several slashes", "//a//b/"),
        same("dot segments", "/a/../b/./c"),
        same("encoded dot segments", "/a/%2e%2E/b"),
        same("more than the top", "/../../etc/passwd"),
        same("encoded bytes", "/%41%c3%a4%20"),
        same("odd characters", "/a;b=c,d:e@f!g$h&i'j(k)*+~"),
        same("a path that looks absolute", "/http://other/"),
        same("an encoded CR LF in a path", "/a%0d%0aX:%20y"),
        passes("an absolute target", "9112 §3.2.2", line("GET http://shop/a?b HTTP/1.1"), &forwarded("/a?b")),
        passes(
            "an absolute target without a path",
            "9112 §3.2.2",
            line("GET http://shop HTTP/1.1"),
            &forwarded("/"),
        ),
        passes(
            "an absolute target with https",
            "9112 §3.2.2",
            line("GET https://shop/a HTTP/1.1"),
            &forwarded("/a"),
        ),
        passes("a scheme in upper case", "3986 §3.1", line("GET HTTP://shop/a HTTP/1.1"), &forwarded("/a")),
        passes(
            "an absolute target with a query alone",
            "9112 §3.2.2",
            line("GET http://shop?b HTTP/1.1"),
            &forwarded("/?b"),
        ),
        case("OPTIONS for the server", "9110 §9.3.7").sends(line("OPTIONS * HTTP/1.1")).gets_status(200),
    ];
    for (name, target) in [
        ("a relative target", "a/b"),
        ("a query alone", "?a"),
        ("a target without a slash", "shop"),
        ("an authority for a GET", "shop:80"),
        ("an asterisk for a GET", "*"),
        ("an asterisk and a path", "*/a"),
        ("an absolute target of another scheme", "ftp://shop/a"),
        ("a file", "file:///etc/passwd"),
        ("a script", "javascript:alert(1)"),
        ("an absolute target with a user", "http://user@shop/a"),
        ("an absolute target with a user and a password", "http://user:pw@shop/a"),
        ("an absolute target for another host", "http://other/a"),
        ("an absolute target for another port", "http://shop:81/a"),
        ("an absolute target without a host", "http:///a"),
        ("an absolute target with a bad port", "http://shop:x/a"),
        ("an encoded slash", "/a%2fb"),
        ("an encoded slash in upper case", "/a%2Fb"),
        ("an encoded backslash", "/a%5cb"),
        ("a backslash", "/a\\b"),
        ("an encoded NUL", "/a%00"),
        ("a broken encoding", "/a%4"),
        ("an encoding that is none", "/a%zz"),
        ("a percent sign at the end", "/a%"),
        ("an overlong encoding of a slash", "/a%u002f%"),
    ] {
        cases.push(refused(name, "9112 §3.2", 400, line(&format!("GET {target} HTTP/1.1"))));
    }
    for byte in [0_u8, 1, 7, 8, 0x1b, 0x7f] {
        let mut bytes = b"GET /a".to_vec();
        bytes.push(byte);
        bytes.extend_from_slice(b"b HTTP/1.1\r\nHost: shop\r\n\r\n");
        cases.push(refused(format!("the byte {byte:#04x} in a target"), "9112 §3.2", 400, bytes));
    }
    cases.push(refused(
        "a byte beyond ASCII in a target",
        "3986 §2",
        400,
        b"GET /\xff HTTP/1.1\r\nHost: shop\r\n\r\n",
    ));
    cases.push(refused("UTF-8 in a target", "3986 §2", 400, line("GET /ä HTTP/1.1")));
    cases.push(passes(
        "a fragment goes no further",
        "9110 §4.2.5",
        line("GET /a#/../b HTTP/1.1"),
        &forwarded("/a"),
    ));
    cases.push(refused(
        "an encoded slash in an absolute target",
        "9112 §3.2",
        400,
        line("GET http://shop/a%2fb HTTP/1.1"),
    ));
    cases
}

fn methods() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["DELETE", "OPTIONS", "PROPFIND", "get", "X-Y", "M!#$%&'*+-.^_`~"] {
        let forwarded = format!("{method} / HTTP/1.1|host: shop|+||");
        cases.push(passes(
            format!("the method {method}"),
            "9110 §9.1",
            line(&format!("{method} / HTTP/1.1")),
            &forwarded,
        ));
    }
    for method in ["POST", "PUT", "PATCH"] {
        let forwarded = format!("{method} / HTTP/1.1|host: shop|content-length: 0|+||");
        cases.push(passes(
            format!("{method} without content says so"),
            "9110 §8.6",
            line(&format!("{method} / HTTP/1.1")),
            &forwarded,
        ));
    }
    for method in ["G@T", "GE(T", "G\"T", "GET,", "G/T", "G\u{1}T", "GÄT", "{GET}", "GET:"] {
        cases.push(refused(
            format!("the method {}", method.escape_default()),
            "9110 §9.1",
            400,
            line(&format!("{method} / HTTP/1.1")),
        ));
    }
    cases.push(refused("CONNECT with an authority", "9110 §9.3.6", 405, line("CONNECT shop:443 HTTP/1.1")));
    cases.push(refused(
        "CONNECT to another host",
        "9110 §9.3.6",
        405,
        "CONNECT other:22 HTTP/1.1\r\nHost: other:22\r\n\r\n",
    ));
    cases.push(refused(
        "CONNECT and a request behind it",
        "9110 §9.3.6",
        405,
        format!("{}{GET}", line("CONNECT shop:443 HTTP/1.1")),
    ));
    cases.push(refused("CONNECT with a path", "9112 §3.2.3", 405, line("CONNECT / HTTP/1.1")));
    cases.push(refused("TRACE", "9110 §9.3.8", 405, line("TRACE / HTTP/1.1")));
    cases.push(refused(
        "TRACE with secrets",
        "9110 §9.3.8",
        405,
        "TRACE / HTTP/1.1\r\nHost: shop\r\nCookie: a=b\r\n\r\n",
    ));
    cases
}

/// A recipient may take a lone LF for a line end, which is why there must be none.
fn line_ends() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, bytes) in [
        ("lone LFs alone", "GET / HTTP/1.1\nHost: shop\n\n"),
        ("a lone LF behind the request line", "GET / HTTP/1.1\nHost: shop\r\n\r\n"),
        ("a lone LF behind a field", "GET / HTTP/1.1\r\nHost: shop\nX: y\r\n\r\n"),
        ("a lone LF behind the last field", "GET / HTTP/1.1\r\nHost: shop\n\r\n"),
        ("a lone LF for the empty line", "GET / HTTP/1.1\r\nHost: shop\r\n\n"),
        ("a lone LF before a request", "\nGET / HTTP/1.1\r\nHost: shop\r\n\r\n"),
        (
            "a length behind a lone LF",
            "POST / HTTP/1.1\r\nHost: shop\r\nX: y\nContent-Length: 5\r\n\r\nhello",
        ),
        (
            "a coding behind a lone LF",
            "POST / HTTP/1.1\r\nHost: shop\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("two CRs and an LF", "GET / HTTP/1.1\r\r\nHost: shop\r\n\r\n"),
        ("LF and CR the other way round", "GET / HTTP/1.1\n\rHost: shop\n\r\n\r"),
        ("lone CRs alone", "GET / HTTP/1.1\rHost: shop\r\rx\r\n\r\n"),
        ("a blank behind a line end", "GET / HTTP/1.1\r\n\tHost: shop\r\n\r\n"),
    ] {
        cases.push(refused(name, "9112 §2.2", 400, bytes));
        cases.push(refused(
            format!("{name}, and a request behind it"),
            "9112 §2.2",
            400,
            format!("{bytes}{GET}"),
        ));
        cases.push(
            case(format!("{name}, behind a request"), "9112 §2.2")
                .sends(format!("{GET}{bytes}{GET}"))
                .gets(super::case::OK)
                .gets_status(400)
                .closed()
                .forwards(GOT),
        );
    }
    cases
}

fn fields() -> Vec<Case> {
    let forwarded = |fields: &str| format!("GET / HTTP/1.1|host: shop|{fields}|+||");
    let same = |name: &str, sent: &str, got: &str| passes(name, "9112 §5", get(sent), &forwarded(got));
    let mut cases = vec![
        same("a field", "X: y\r\n", "x: y"),
        same("no blank after the colon", "X:y\r\n", "x: y"),
        same("blanks around a value", "X: \t y\t \r\n", "x: y"),
        same("an empty value", "X:\r\n", "x: "),
        same("blanks alone for a value", "X:  \t \r\n", "x: "),
        same("a tab within a value", "X: a\tb\r\n", "x: a\\tb"),
        same("colons in a value", "X: a:b: c\r\n", "x: a:b: c"),
        same("a name of every kind of character", "!#$%&'*+-.^_`~09aZ: y\r\n", "!#$%&'*+-.^_`~09az: y"),
        same("one name twice", "X: 1\r\nY: 2\r\nX: 3\r\n", "x: 1|x: 3|y: 2"),
        passes(
            "bytes beyond ASCII in a value",
            "9110 §5.5",
            b"GET / HTTP/1.1\r\nHost: shop\r\nX: caf\xe9\r\n\r\n",
            &forwarded("x: caf\\xe9"),
        ),
    ];
    for (name, field) in [
        ("a blank before the colon", "X : y"),
        ("a tab before the colon", "X\t: y"),
        ("a blank within a name", "X Y: z"),
        ("a blank before a name", " X: y"),
        ("a folded value", "X: a\r\n b"),
        ("a value folded with a tab", "X: a\r\n\tb"),
        ("a value folded to nothing", "X: a\r\n "),
        ("a line without a colon", "X"),
        ("a line of blanks", "  "),
        ("no name", ": y"),
        ("a name in brackets", "(X): y"),
        ("a name in quotes", "\"X\": y"),
        ("a comma in a name", "X,Y: z"),
        ("a slash in a name", "X/Y: z"),
        ("a NUL in a name", "X\0: y"),
        ("a CR in a name", "X\rY: z"),
        ("an umlaut in a name", "Xä: y"),
        ("a NUL in a value", "X: a\0b"),
        ("a NUL at the end of a value", "X: a\0"),
        ("a CR in a value", "X: a\rb"),
        ("a CR before the line end", "X: a\r"),
        ("a bell in a value", "X: a\x07"),
        ("an escape in a value", "X: \x1b[31m"),
        ("a vertical tab in a value", "X: a\x0bb"),
        ("a form feed in a value", "X: a\x0cb"),
        ("a delete in a value", "X: a\x7f"),
        ("a blank before the colon of a length", "Content-Length : 0"),
        ("a blank before the colon of a coding", "Transfer-Encoding : chunked"),
        ("a folded coding", "Transfer-Encoding:\r\n chunked"),
    ] {
        cases.push(refused(name, "9112 §5.1, §5.2", 400, get(&format!("{field}\r\n"))));
    }
    cases.push(refused("a folded Host", "9112 §5.2", 400, "GET / HTTP/1.1\r\nHost:\r\n shop\r\n\r\n"));
    cases.push(refused(
        "a blank before the colon of Host",
        "9112 §5.1",
        400,
        "GET / HTTP/1.1\r\nHost : shop\r\n\r\n",
    ));
    cases
}
