//! The same through TLS, and what else comes to a port of TLS.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::case::{Case, GET, GOT, case, passes, refused};
use super::client::Way;
use super::stage::Stage;

/// A stage whose clients speak TLS.
pub fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["shop".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("shop.pem"), folder.path().join("shop.key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listen = format!(
        "listen: [{{address: \"127.0.0.1:0\", tls: [{{cert: {}, key: {}}}], hsts: 365d}}]",
        cert.display(),
        key.display()
    );
    let stage = Stage::new(|plan| plan.set(&listen));
    drop(folder);
    stage.by(|address| Way::Tls(address, Arc::new(config), "shop"))
}

/// The same port, and clients that speak in the clear.
pub fn port() -> Stage {
    stage().rows_by(Way::Plain)
}

const HSTS: &str = "200 OK|content-length: 2|strict-transport-security: max-age=31536000||ok";

pub fn cases(_: &Stage) -> Vec<Case> {
    let secure = |case: Case| Case { turns: Vec::new(), ..case };
    let same = |name: &str, bytes: &str, got: &str| {
        secure(passes(name, "9110 §4.2.2", bytes, got)).sends(bytes).gets(HSTS)
    };
    vec![
        same("the plainest request", GET, GOT),
        same(
            "a body",
            "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1|host: shop|content-length: 5|+||hello",
        ),
        same(
            "chunks",
            "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "POST / HTTP/1.1|host: shop|transfer-encoding: chunked|+||1|a|0||",
        ),
        same(
            "a stranger's word about TLS",
            "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Client-Cert: x\r\nClient-Cert: y\r\nSSL-Client-Verify: SUCCESS\r\n\r\n",
            GOT,
        ),
        same(
            "another host than was asked for",
            "GET / HTTP/1.1\r\nHost: other\r\n\r\n",
            "GET / HTTP/1.1|host: other|+||",
        ),
        case("two requests in one go", "9112 §9.3.2")
            .sends(format!("{GET}{GET}"))
            .gets(HSTS)
            .gets(HSTS)
            .forwards(GOT)
            .forwards(GOT),
        refused(
            "two lengths",
            "9112 §6.3",
            400,
            "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        ),
        refused(
            "a length and a coding",
            "9112 §6.1",
            400,
            "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        refused("lone LFs", "9112 §2.2", 400, "GET / HTTP/1.1\nHost: shop\n\n"),
        refused("TRACE", "9110 §9.3.8", 405, "TRACE / HTTP/1.1\r\nHost: shop\r\n\r\n"),
        case("an endpoint's own word about HTTPS stays", "6797 §7.1")
            .sends(GET)
            .says("HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 2\r\n\r\nok")
            .gets("200 OK|content-length: 2|strict-transport-security: max-age=1||ok")
            .forwards(GOT),
        case("an answer that stops is cut, not ended", "8446 §6.1")
            .sends(GET)
            .says_last("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            .gets("200 OK|content-length: 10|strict-transport-security: max-age=31536000||hello✂")
            .closed()
            .forwards(GOT),
    ]
}

pub fn port_cases(_: &Stage) -> Vec<Case> {
    let silent = |name: &str, bytes: &[u8]| case(name, "8446 §5.1").sends(bytes).closed();
    vec![
        refused("HTTP in the clear", "9110 §15.5.1", 400, GET),
        refused("HTTP in the clear and more behind it", "9110 §15.5.1", 400, format!("{GET}{GET}")),
        refused("HTTP/1.0 in the clear", "9110 §15.5.1", 400, "GET / HTTP/1.0\r\n\r\n"),
        refused("the preface of HTTP/2 in the clear", "9113 §3.3", 400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        refused(
            "a PROXY header that nobody asked for",
            "9110 §15.5.1",
            400,
            "PROXY TCP4 6.6.6.6 7.7.7.7 1 2\r\n",
        ),
        silent(
            "a PROXY header of version 2",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x06\x06\x06\x06\x07\x07\x07\x07\0\x01\0\x02",
        ),
        silent("a record that is no handshake", b"\x17\x03\x03\0\x01\0"),
        silent("an alert", b"\x15\x03\x03\0\x02\x02\x28"),
        silent("SSL 2", b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10"),
        silent("bytes of no kind", b"\xff\xfe\xfd\xfc"),
        case("a handshake of an empty record", "8446 §5.1")
            .sends(&b"\x16\x03\x01\0\0"[..])
            .half_closes()
            .gets_nothing(),
        case("a handshake that stops", "8446 §4.1.2")
            .sends(&b"\x16\x03\x01\x02\0\x01\0"[..])
            .half_closes()
            .gets_nothing(),
        case("a handshake of garbage", "8446 §4")
            .sends([&b"\x16\x03\x01\0\x20"[..], &[0xff; 32]].concat())
            .gets_nothing(),
        case("a hello of TLS 1.1", "8996 §5").sends(old_hello(2)).gets_nothing(),
        case("a hello of TLS 1.0", "8996 §4").sends(old_hello(1)).gets_nothing(),
        case("a hello of SSL 3", "7568 §3").sends(old_hello(0)).gets_nothing(),
        case("a client that says nothing", "8446 §4").half_closes().closed(),
    ]
}

/// A client hello of an old version, with one old cipher.
fn old_hello(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut record = vec![22, 3, minor, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.append(&mut hello);
    record
}
