//! Whom a request is for.

use super::case::{Case, case, passes, refused};
use super::stage::Stage;

pub fn cases(stage: &Stage) -> Vec<Case> {
    let get = |hosts: &str| format!("GET / HTTP/1.1\r\n{hosts}\r\n");
    let mut cases = Vec::new();
    for host in [
        "shop",
        "Shop.Example",
        "shop.",
        "shop:80",
        "shop:8080",
        "shop:",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:80",
        "a_b",
        "a-b.c~d",
    ] {
        let got = format!("GET / HTTP/1.1|host: {host}|+||");
        cases.push(passes(format!("the host {host}"), "9110 §7.2", get(&format!("Host: {host}\r\n")), &got));
    }
    for host in [
        "",
        ":80",
        "shop:x",
        "shop:-1",
        "shop:+80",
        "shop:99999",
        "shop:65536",
        "shop:8 0",
        "shop:80:80",
        "shop:0x50",
        "shop: 80",
        "user@shop",
        "user:pw@shop",
        "shop/",
        "shop/a",
        "shop?a",
        "shop#a",
        "shop\\a",
        "shop,other",
        "shop, shop",
        "shop other",
        "shop;other",
        "http://shop",
        "sh%6fp",
        "\"shop\"",
        "<shop>",
        "sh\top",
        "[::1",
        "::1",
        "[::1]x",
        "[zz]",
        "[::1%25eth0]",
        "*",
        ".",
        "shop@",
        "[]",
        "shop\u{7f}",
        "sh|op",
        "{shop}",
        "sh'op",
        "(shop)",
        "shop=",
    ] {
        cases.push(refused(
            format!("the host {host:?}"),
            "9112 §3.2",
            400,
            get(&format!("Host: {host}\r\n")),
        ));
    }
    cases.push(refused("a host beyond ASCII", "9112 §3.2", 400, b"GET / HTTP/1.1\r\nHost: sh\xf6p\r\n\r\n"));
    for (name, hosts) in [
        ("no host", ""),
        ("two hosts", "Host: shop\r\nHost: other\r\n"),
        ("the same host twice", "Host: shop\r\nHost: shop\r\n"),
        ("a host and an empty one", "Host: shop\r\nHost:\r\n"),
        ("two hosts apart and in other cases", "hOsT: shop\r\nX: y\r\nHOST: other\r\n"),
        ("a host in a folded line", "X: y\r\n Host: other\r\nHost: shop\r\n"),
    ] {
        cases.push(refused(name, "9112 §3.2", 400, get(hosts)));
    }
    let absolute = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\n{host}\r\n");
    for (name, target, host) in [
        ("an absolute target does not stand for Host", "http://shop/", ""),
        ("an absolute target and another host", "http://shop/", "Host: other\r\n"),
        ("an absolute target and an empty host", "http://shop/", "Host:\r\n"),
        ("an absolute target and another port", "http://shop:81/", "Host: shop:82\r\n"),
        ("an absolute target and a host below", "http://shop/", "Host: www.shop\r\n"),
    ] {
        cases.push(refused(name, "9112 §3.2.2", 400, absolute(target, host)));
    }
    cases.push(passes(
        "an absolute target and the same host in another case",
        "9110 §4.2.3",
        absolute("http://SHOP:80/a", "Host: shop:80\r\n"),
        "GET /a HTTP/1.1|host: shop:80|+||",
    ));
    let own = stage.endpoint.host();
    cases.push(case("HTTP/1.0 may name no host; the endpoint gets its own name", "9112 §3.2")
        .sends("GET / HTTP/1.0\r\n\r\n")
        .gets("HTTP/1.0 200 OK|content-length: 2||ok")
        .closed()
        .forwards(&format!(
            "GET / HTTP/1.1|host: {own}|cdn-loop: *|x-forwarded-for: 127.0.0.1|x-forwarded-proto: http|x-request-id: *|x-tidegate-variant: blue||"
        )));
    cases.push(
        case("HTTP/1.0 may name one", "9112 §3.2")
            .sends("GET / HTTP/1.0\r\nHost: shop\r\n\r\n")
            .gets("HTTP/1.0 200 OK|content-length: 2||ok")
            .closed()
            .forwards("GET / HTTP/1.1|host: shop|+||"),
    );
    cases.push(refused(
        "HTTP/1.0 may not name two",
        "9112 §3.2",
        400,
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    ));
    cases
}
