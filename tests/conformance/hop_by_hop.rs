//! Fields that end with the connection they came on, both ways.

use super::case::{Case, OK, answers, case, passes};
use super::stage::Stage;

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")
}

pub fn cases(_: &Stage) -> Vec<Case> {
    [requests(), named(), upgrades(), responses()].concat()
}

fn got(fields: &str) -> String {
    let fields = if fields.is_empty() { String::new() } else { format!("{fields}|") };
    format!("GET / HTTP/1.1|host: shop|{fields}+||")
}

fn requests() -> Vec<Case> {
    let mut cases = Vec::new();
    for field in [
        "Connection: keep-alive",
        "Connection: x",
        "Connection:",
        "Connection: ,,",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eDp5",
        "Proxy-Authenticate: Basic",
        "Proxy: http://evil/",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAA",
        "TE: gzip",
        "TE: trailers;q=0",
        "TE:",
        "TE: deflate;q=0.5",
    ] {
        cases.push(passes(
            format!("{field:?} goes no further"),
            "9110 §7.6.1",
            get(&format!("{field}\r\nZ: y\r\n")),
            &got("z: y"),
        ));
    }
    for (field, left) in [
        ("TE: trailers", "te: trailers"),
        ("TE: gzip, trailers", "te: trailers"),
        ("TE: Trailers", "te: trailers"),
        ("TE: gzip\r\nTE: trailers", "te: trailers"),
        ("TE: trailers\r\nConnection: TE", "te: trailers"),
        ("Trailer: X-Sum", "trailer: X-Sum"),
        ("Via: 1.0 fred", "via: 1.0 fred"),
        ("Max-Forwards: 3", "max-forwards: 3"),
        ("Warning: 199 a b", "warning: 199 a b"),
        ("Cache-Control: no-cache", "cache-control: no-cache"),
        ("Authorization: Basic eDp5", "authorization: Basic eDp5"),
        ("Proxy-Status: x", "proxy-status: x"),
    ] {
        cases.push(passes(
            format!("{field:?} passes"),
            "9110 §7.6",
            get(&format!("{field}\r\n")),
            &got(left),
        ));
    }
    cases
}

fn named() -> Vec<Case> {
    let mut cases = Vec::new();
    for (connection, fields, left) in [
        ("Connection: X", "X: y\r\n", ""),
        ("Connection: x", "X: y\r\nx: z\r\n", ""),
        ("Connection: keep-alive, X-A , x-b", "X-A: 1\r\nX-B: 2\r\nX-C: 3\r\n", "x-c: 3"),
        ("Connection: X-A\r\nConnection: X-B", "X-A: 1\r\nX-B: 2\r\n", ""),
        ("Connection: ,X,,", "X: y\r\n", ""),
        ("Connection:\tX\t", "X: y\r\n", ""),
        ("Connection: X; q=1", "X: y\r\n", "x: y"),
        ("Connection: \"X\"", "X: y\r\n", "x: y"),
        ("Connection: Cookie", "Cookie: a=b\r\n", ""),
        ("Connection: Authorization", "Authorization: x\r\n", ""),
        ("Connection: Referer", "Referer: x\r\nUser-Agent: y\r\n", "user-agent: y"),
    ] {
        cases.push(passes(
            format!("{connection:?} takes what it names"),
            "9110 §7.6.1",
            get(&format!("{connection}\r\n{fields}")),
            &got(left),
        ));
    }
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Forwarded",
        "X-Request-Id",
        "X-Tidegate-Variant",
        "CDN-Loop",
    ] {
        cases.push(passes(
            format!("Connection does not take {name}"),
            "9110 §7.6.1",
            get(&format!("Connection: {name}\r\n")),
            &got(""),
        ));
    }
    cases.push(passes(
        "Connection does not take a length",
        "9110 §7.6.1",
        "POST / HTTP/1.1\r\nHost: shop\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nok",
        "POST / HTTP/1.1|host: shop|content-length: 2|+||ok",
    ));
    cases.push(passes("Connection does not take a coding", "9110 §7.6.1",
        "POST / HTTP/1.1\r\nHost: shop\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "POST / HTTP/1.1|host: shop|transfer-encoding: chunked|+||1|a|0||"));
    cases.push(
        case("Connection: close is not the endpoint's", "9110 §7.6.1")
            .sends(get("Connection: close\r\n"))
            .gets("200 OK|connection: close|content-length: 2||ok")
            .closed()
            .forwards(&got("")),
    );
    cases
}

fn upgrades() -> Vec<Case> {
    vec![
        passes(
            "Upgrade: h2c is not followed",
            "9113 §3.1",
            get(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n",
            ),
            &got(""),
        ),
        passes("Upgrade that Connection does not name", "9110 §7.8", get("Upgrade: websocket\r\n"), &got("")),
        passes(
            "Upgrade in HTTP/1.0",
            "9110 §7.8",
            "GET / HTTP/1.0\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            &got(""),
        )
        .closed(),
        passes("Upgrade to nothing", "9110 §7.8", get("Connection: upgrade\r\n"), &got("")),
        passes("Upgrade to TLS", "2817 §3", get("Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"), &got("")),
    ]
}

fn responses() -> Vec<Case> {
    let mut cases = Vec::new();
    for (field, left) in [
        ("Connection: keep-alive", ""),
        ("Connection: X\r\nX: y", ""),
        ("Connection: x-a, X-B\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3", "x-c: 3"),
        ("Connection: X-A\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 2", ""),
        ("Connection: Set-Cookie\r\nSet-Cookie: a=b", ""),
        ("Connection: Content-Length", ""),
        ("Keep-Alive: timeout=5, max=100", ""),
        ("Proxy-Connection: keep-alive", ""),
        ("Proxy-Authenticate: Basic", ""),
        ("Proxy-Authorization: x", ""),
        ("Upgrade: h2c", ""),
        ("Connection: upgrade\r\nUpgrade: h2,h2c", ""),
        ("TE: trailers", ""),
        ("HTTP2-Settings: x", ""),
        ("Trailer: X-Sum", "trailer: X-Sum"),
        ("Via: 1.1 app", "via: 1.1 app"),
        ("Server: app", "server: app"),
        ("X-Powered-By: x", "x-powered-by: x"),
        ("Set-Cookie: a=b\r\nSet-Cookie: c=d", "set-cookie: a=b|set-cookie: c=d"),
        ("Alt-Svc: h3=\":443\"", "alt-svc: h3=\":443\""),
        ("X: caf\u{e9}", "x: caf\\xc3\\xa9"),
    ] {
        let says = format!("HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 2\r\n\r\nok");
        let left = if left.is_empty() {
            OK.to_owned()
        } else {
            let mut lines: Vec<&str> = left.split('|').chain(["content-length: 2"]).collect();
            lines.sort_by_key(|line| line.split(':').next());
            format!("200 OK|{}||ok", lines.join("|"))
        };
        cases.push(answers(format!("an answer with {field:?}"), "9110 §7.6.1", says, &left));
    }
    cases.push(answers(
        "an answer that ends its connection does not end the client's",
        "9112 §9.6",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        OK,
    ));
    cases
}
