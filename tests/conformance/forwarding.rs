//! What the endpoint is told about the client, and who may say it.

use super::case::{Case, passes};
use super::stage::Stage;

/// A stage whose clients are believed.
pub fn trusting() -> Stage {
    Stage::new(|plan| plan.set("trusted_proxies: {from: 127.0.0.0/8}"))
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")
}

pub fn cases(_: &Stage) -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Forwarded-Prefix",
        "X-Forwarded",
        "X-Forwarded-Client-Cert",
        "X-Forwarded-Ssl",
        "X-Forwarded-Scheme",
        "Forwarded",
        "X-Real-IP",
        "X-Client-IP",
        "Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "X-Cluster-Client-IP",
        "X-Original-Forwarded-For",
        "X-Remote-Addr",
        "X-Remote-IP",
        "X-Envoy-External-Address",
        "Proxy-Client-IP",
        "WL-Proxy-Client-IP",
        "Client-Cert",
        "Client-Cert-Chain",
        "X-Client-Cert",
        "SSL-Client-Verify",
        "X-SSL-Client-DN",
        "X-Amzn-Mtls-Clientcert",
        "X-Tidegate-Variant",
        "X-Tidegate-Visitor",
        "X-Tidegate-Anything",
        "X-Request-Id",
        "x_forwarded_for",
        "X_Forwarded-Proto",
        "x_real_ip",
        "X_Tidegate_Variant",
        "x-tidegate_variant",
    ] {
        cases.push(passes(
            format!("a stranger's {name}"),
            "7239 §8.1",
            get(&format!("{name}: 6.6.6.6\r\nX: y\r\n")),
            "GET / HTTP/1.1|host: shop|x: y|+||",
        ));
    }
    for name in
        ["X-Forwarder", "X-Realm", "Traceparent", "X-Original-Method", "Client-IP-Hash", "X-Tidegates"]
    {
        cases.push(passes(
            format!("{name} is none of them"),
            "9110 §7.6",
            get(&format!("{name}: 1\r\n")),
            &format!("GET / HTTP/1.1|host: shop|{}: 1|+||", name.to_ascii_lowercase()),
        ));
    }
    cases.push(passes("several spoofed fields at once", "7239 §8.1",
        get("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Proto: https\r\n"),
        "GET / HTTP/1.1|host: shop|+||"));
    cases.push(passes(
        "a port is part of the host that is told",
        "7239 §5.3",
        "GET / HTTP/1.1\r\nHost: Shop:8080\r\n\r\n",
        "GET / HTTP/1.1|host: Shop:8080|+||",
    ));
    cases.push(passes("who else has passed it on", "8586 §2", get("CDN-Loop: other; v=1\r\n"),
        "GET / HTTP/1.1|host: shop|cdn-loop: other; v=1|cdn-loop: *|x-forwarded-for: 127.0.0.1|x-forwarded-host: shop|x-forwarded-proto: http|x-request-id: *|x-tidegate-variant: blue||"));
    cases
}

pub fn trusted_cases(_: &Stage) -> Vec<Case> {
    let told = |xff: &str, host: &str, proto: &str, id: &str| {
        format!(
            "GET / HTTP/1.1|host: shop|cdn-loop: *|x-forwarded-for: {xff}|x-forwarded-host: {host}|x-forwarded-proto: {proto}|x-request-id: {id}|x-tidegate-variant: blue||"
        )
    };
    let row = |name: &str, fields: &str, got: String| passes(name, "7239 §7.1", get(fields), &got);
    vec![
        row(
            "a trusted chain is extended",
            "X-Forwarded-For: 9.9.9.9\r\n",
            told("9.9.9.9, 127.0.0.1", "shop", "http", "*"),
        ),
        row(
            "a trusted chain in two fields becomes one",
            "X-Forwarded-For: 8.8.8.8\r\nX-Forwarded-For: 9.9.9.9\r\n",
            told("8.8.8.8, 9.9.9.9, 127.0.0.1", "shop", "http", "*"),
        ),
        row("a trusted scheme", "X-Forwarded-Proto: https\r\n", told("127.0.0.1", "shop", "https", "*")),
        row("a trusted host", "X-Forwarded-Host: www.shop\r\n", told("127.0.0.1", "www.shop", "http", "*")),
        row("a trusted id", "X-Request-Id: theirs-1\r\n", told("127.0.0.1", "shop", "http", "theirs-1")),
        row("an id that is none", "X-Request-Id: a b\r\n", "GET / HTTP/1.1|host: shop|+||".to_owned()),
        row(
            "an id that is too long",
            &format!("X-Request-Id: {}\r\n", "a".repeat(129)),
            "GET / HTTP/1.1|host: shop|+||".to_owned(),
        ),
        row(
            "the fields that it does not set",
            "Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Port: 1\r\nTrue-Client-IP: 6.6.6.6\r\n",
            "GET / HTTP/1.1|host: shop|+||".to_owned(),
        ),
        row(
            "our own words",
            "X-Tidegate-Variant: green\r\nX-Tidegate-Visitor: x\r\n",
            "GET / HTTP/1.1|host: shop|+||".to_owned(),
        ),
        row(
            "fields in another spelling",
            "X_Forwarded_For: 6.6.6.6\r\n",
            "GET / HTTP/1.1|host: shop|+||".to_owned(),
        ),
        row(
            "Connection does not take what a trusted proxy says",
            "Connection: x-forwarded-for, x-request-id\r\nX-Forwarded-For: 9.9.9.9\r\nX-Request-Id: a\r\n",
            told("9.9.9.9, 127.0.0.1", "shop", "http", "a"),
        ),
    ]
}
