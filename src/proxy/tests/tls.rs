use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::{Authority, Session, answer, dial, gate, request};
use crate::clock;
use crate::proxy::{CertificateError, LiveSettings, TlsSettings, TlsVersion};
use crate::telemetry::ConnectionRefusal;

fn to(host: &str, lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n")
}

#[test]
fn the_certificate_is_chosen_by_exact_name_then_wildcard_then_the_first() {
    let authority = Authority::new();
    let blue = answer("blue");
    let certificates = vec![
        authority.certificate("first", &["first.test"]),
        authority.certificate("wild", &["*.shop.test"]),
        authority.certificate("exact", &["www.shop.test"]),
    ];
    let tls = TlsSettings { certificates, client_auth: None, min_version: TlsVersion::Tls12 };
    let gate = gate(&blue, &blue).listener(|listener| listener.tls = Some(Arc::new(tls))).start();
    let visitor = authority.visitor();
    for (asked, expected) in [
        ("first.test", "first.test"),
        ("a.shop.test", "*.shop.test"),
        ("A.SHOP.test", "*.shop.test"),
        ("www.shop.test", "www.shop.test"),
    ] {
        let (mut session, agreed) = visitor.meet(gate.address(), asked).unwrap();
        assert_eq!(agreed.name, expected, "{asked}");
        assert_eq!(session.ask(to(asked, "")).text(), "blue");
    }
    // Who asks for another name gets the first, and does not believe it.
    for asked in ["a.b.shop.test", "other.test", "127.0.0.1"] {
        let error = visitor.meet(gate.address(), asked).err().unwrap().to_string();
        assert!(error.contains("first.test") || error.contains("not valid for name"), "{error}");
    }
    gate.until("refusals are counted", |gate| gate.refused(ConnectionRefusal::Tls) == 3);
}

#[test]
fn versions_and_protocols_are_agreed_upon() {
    let authority = Authority::new();
    let blue = answer("blue");
    let start = |min_version| {
        let tls = TlsSettings { min_version, ..authority.tls(&["shop"]) };
        gate(&blue, &blue).listener(|listener| listener.tls = Some(Arc::new(tls))).start()
    };
    let (both, newer) = (start(TlsVersion::Tls12), start(TlsVersion::Tls13));
    let (v12, v13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    for (versions, version) in [(&[v12][..], "TLSv1_2"), (&[v13], "TLSv1_3"), (&[v12, v13], "TLSv1_3")] {
        let (_, agreed) = authority.visitor_of(versions).meet(both.address(), "shop").unwrap();
        assert_eq!(agreed.version, version);
    }
    assert!(authority.visitor_of(&[v12]).meet(newer.address(), "shop").is_err());
    assert!(authority.visitor_of(&[v13]).meet(newer.address(), "shop").is_ok());

    for (offered, expected) in [
        (&[][..], None),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["acme", "http/1.1"], Some("http/1.1")),
    ] {
        let (_, agreed) = authority.visitor().offering(offered).meet(both.address(), "shop").unwrap();
        assert_eq!(agreed.protocol.as_deref(), expected, "{offered:?}");
    }
    assert!(authority.visitor().offering(&["smtp"]).meet(both.address(), "shop").is_err());
}

#[test]
fn http_2_is_spoken_to_whom_it_was_agreed_with() {
    let authority = Authority::new();
    let blue = answer("blue");
    let tls = authority.tls(&["shop"]);
    let gate = gate(&blue, &blue).listener(|listener| listener.tls = Some(Arc::new(tls))).start();
    let config = authority.visitor().offering(&["h2"]).config;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let story = async {
        let stream = tokio::net::TcpStream::connect(gate.address()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect("shop".try_into().unwrap(), stream).await.unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let stream = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
        tokio::spawn(connection);
        let body = http_body_util::Empty::<bytes::Bytes>::new();
        let request = http::Request::get("https://shop/").body(body).unwrap();
        let got = sender.send_request(request).await.unwrap();
        assert_eq!((got.status().as_u16(), got.version()), (200, http::Version::HTTP_2));
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), story).await.unwrap() });
    assert_eq!(blue.last().one("x-forwarded-proto"), "https");
}

#[test]
fn https_reaches_cookies_and_forwarding_fields() {
    let authority = Authority::new();
    let blue = answer("blue");
    let tls = Arc::new(authority.tls(&["shop"]));
    let gate = gate(&blue, &blue).weight("50%").listener(|listener| listener.tls = Some(tls)).start();
    let (mut session, _) = authority.visitor().meet(gate.address(), "shop").unwrap();
    let got = session.ask(to("shop", "x-forwarded-proto: http\r\n"));
    let cookie = got.all("set-cookie").into_iter().find(|set| set.starts_with("__Host-tidegate="));
    assert!(cookie.is_some_and(|set| set.contains("Secure")), "{:?}", got.fields);
    assert_eq!(blue.last().one("x-forwarded-proto"), "https");
    // What was given for the clear counts here no more than any stranger's.
    let named = got.cookie("__Host-tidegate").unwrap().to_owned();
    let again = session.ask(to("shop", &format!("cookie: {named}\r\n")));
    assert!(again.cookie("__Host-tidegate").is_none());
}

#[test]
fn sessions_are_resumed_also_after_the_certificates_were_renewed() {
    let authority = Authority::new();
    let blue = answer("blue");
    let tls = authority.tls(&["shop"]);
    let gate = gate(&blue, &blue).listener(|listener| listener.tls = Some(Arc::new(tls.clone()))).start();
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let visitor = authority.visitor_of(versions);
        let meet = || {
            let (mut session, agreed) = visitor.meet(gate.address(), "shop").unwrap();
            // Tickets come with the first answer at the latest.
            assert_eq!(session.ask(to("shop", "")).status, 200);
            agreed.is_resumed
        };
        assert!(!meet());
        assert!(meet());
        let (mut kept, _) = visitor.meet(gate.address(), "shop").unwrap();
        let renewed = TlsSettings {
            certificates: vec![authority.certificate("renewed", &["shop", "renewed.test"])],
            ..tls.clone()
        };
        let mut live = LiveSettings::clone(&gate.live.load());
        live.listeners[0].tls = Some(Arc::new(renewed));
        gate.live.store(Arc::new(live));
        let (_, agreed) = authority.visitor().meet(gate.address(), "renewed.test").unwrap();
        assert_eq!((agreed.name.as_str(), agreed.is_resumed), ("shop", false));
        assert!(meet(), "after the reload");
        assert_eq!(kept.ask(to("shop", "")).text(), "blue", "on the connection from before");
    }
}

#[test]
fn a_session_does_not_open_what_asks_for_more() {
    let authority = Authority::new();
    let blue = answer("blue");
    let open = authority.tls(&["shop"]);
    let closed = TlsSettings { client_auth: Some(authority.client_auth(true)), ..open.clone() };
    let gate = gate(&blue, &blue).listener(|listener| listener.tls = Some(Arc::new(open))).start();
    let visitor = authority.visitor();
    let (mut session, _) = visitor.meet(gate.address(), "shop").unwrap();
    assert_eq!(session.ask(to("shop", "")).status, 200);
    let mut live = LiveSettings::clone(&gate.live.load());
    live.listeners[0].tls = Some(Arc::new(closed));
    gate.live.store(Arc::new(live));
    let refused = visitor.meet(gate.address(), "shop").map(|(mut session, agreed)| {
        assert!(!agreed.is_resumed);
        session.send(to("shop", ""));
        session.read(false)
    });
    assert!(!matches!(refused, Ok(Some(_))));
    gate.until("it is counted", |gate| gate.refused(ConnectionRefusal::Tls) == 1);
}

#[test]
fn a_verified_certificate_is_told_upstream_and_nobody_elses_word_is() {
    let authority = Authority::new();
    let blue = answer("blue");
    let spoofed = "client-cert: :AAAA:\r\nX_Client_Cert: x\r\nx-ssl-client-verify: SUCCESS\r\n\
        ssl-client-subject-dn: CN=root\r\nclient-cert-chain: :AA:\r\nx-forwarded-client-cert: Hash=00\r\n";
    for is_required in [false, true] {
        let auth = authority.client_auth(is_required);
        let tls = TlsSettings { client_auth: Some(auth), ..authority.tls(&["shop", "cart"]) };
        let gate = gate(&blue, &blue)
            .trusting_us()
            .with(|gate| gate.live.trusted_proxies.from.clear())
            .listener(|listener| listener.tls = Some(Arc::new(tls)));
        let gate = gate.start();
        let known = authority.known_visitor("alice");
        for _ in 0..2 {
            // The second time from a ticket.
            let (mut session, _) = known.meet(gate.address(), "shop").unwrap();
            assert_eq!(session.ask(to("shop", spoofed)).status, 200);
            let seen = blue.last();
            assert!(seen.one("client-cert").starts_with(":MI"), "{:?}", seen.fields);
            let summary = seen.one("x-forwarded-client-cert");
            assert!(summary.starts_with("Hash=") && summary.ends_with(";Subject=\"CN=alice\""), "{summary}");
            for name in ["x_client_cert", "x-ssl-client-verify", "ssl-client-subject-dn", "client-cert-chain"]
            {
                assert!(!seen.has(name), "{name}");
            }
        }
        // Another host than the one that the certificate was shown for.
        let (mut session, _) = known.meet(gate.address(), "shop").unwrap();
        assert_eq!(session.ask(to("cart", "")).status, 421);
        assert_eq!(session.ask(to("SHOP:443", "")).status, 200);

        let unknown = authority.visitor().meet(gate.address(), "shop").and_then(|(mut session, _)| {
            session.send(to("shop", spoofed));
            session.read(false).ok_or(std::io::ErrorKind::UnexpectedEof.into())
        });
        assert_eq!(unknown.is_ok(), !is_required);
        if !is_required {
            let seen = blue.last();
            assert!(!seen.has("client-cert") && !seen.has("x-forwarded-client-cert"), "{:?}", seen.fields);
        }
        let stranger = Authority::new().known_visitor("mallory");
        let mut stranger = stranger;
        stranger.config.dangerous().set_certificate_verifier(Arc::new(Anyone));
        let refused = stranger.meet(gate.address(), "shop").map(|(mut session, _)| {
            session.send(to("shop", ""));
            session.read(false)
        });
        assert!(!matches!(refused, Ok(Some(_))));
    }
}

/// Believes every server.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        crate::proxy::tls::provider().signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn who_speaks_in_the_clear_where_tls_is_spoken_is_told() {
    let authority = Authority::new();
    let blue = answer("blue");
    let tls = Arc::new(authority.tls(&["shop"]));
    let gate = gate(&blue, &blue).listener(|listener| listener.tls = Some(tls)).start();
    for bytes in [request("GET", "/", ""), "P".to_owned(), request("POST", "/", &"x: y\r\n".repeat(2000))] {
        let mut session = Session::open(gate.address());
        session.send(&bytes);
        let got = session.read(false).unwrap();
        assert_eq!((got.status, got.text()), (400, "this port speaks TLS; ask with https:// instead.\n"));
        assert!(got.is_complete);
    }
    let mut session = Session::open(gate.address());
    session.send(b"\xff\xfe\x00");
    assert!(session.is_closed());
    gate.until("they are counted", |gate| gate.refused(ConnectionRefusal::Plaintext) == 4);
    assert!(blue.seen().is_empty());
}

#[test]
fn who_is_slow_with_the_handshake_is_sent_away() {
    let authority = Authority::new();
    let blue = answer("blue");
    let tls = Arc::new(authority.tls(&["shop"]));
    let gate = gate(&blue, &blue)
        .listener(|listener| listener.tls = Some(tls))
        .with(|gate| gate.live.timeouts.handshake = Duration::from_millis(200))
        .start();
    // A record that never ends, and a connection that never begins.
    let (mut slow, mut silent) = (dial(gate.address()), Session::open(gate.address()));
    slow.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    assert!(Session::over(slow).is_closed() && silent.is_closed());
    gate.until("they are counted", |gate| gate.refused(ConnectionRefusal::Slow) == 2);
    // One that has shaken hands and then says nothing.
    let (mut idle, _) = authority.visitor().meet(gate.address(), "shop").unwrap();
    assert!(idle.read(false).is_none());
}

#[test]
fn a_slow_head_is_answered_through_tls() {
    let authority = Authority::new();
    let blue = answer("blue");
    let tls = Arc::new(authority.tls(&["shop"]));
    let gate = gate(&blue, &blue)
        .listener(|listener| listener.tls = Some(tls))
        .with(|gate| gate.live.timeouts.head = Duration::from_millis(100))
        .start();
    let (mut session, _) = authority.visitor().meet(gate.address(), "shop").unwrap();
    session.send("GET / HTTP/1.1\r\n");
    assert_eq!(session.read(false).unwrap().status, 408);
}

#[test]
fn large_bodies_pass_both_ways() {
    let authority = Authority::new();
    let blue = super::origin(|request, stream| {
        let length = request.body.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").unwrap();
        stream.write_all(&request.body).is_ok()
    });
    let tls = Arc::new(authority.tls(&["shop"]));
    let gate = gate(&blue, &blue).listener(|listener| listener.tls = Some(tls)).start();
    let (mut session, _) = authority.visitor().meet(gate.address(), "shop").unwrap();
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 7 % 251) as u8).collect();
    session.send(format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {}\r\n\r\n", body.len()));
    session.send(&body);
    let got = session.read(false).unwrap();
    assert!(got.is_complete && got.body == body);
}

#[test]
fn http_is_sent_to_https_and_https_says_so() {
    let authority = Authority::new();
    let blue = answer("blue");
    let plain = gate(&blue, &blue).listener(|listener| listener.redirect_https = Some(8443)).start();
    let mut session = Session::open(plain.address());
    let got = session.ask("GET /a%20b?c=d HTTP/1.1\r\nhost: Shop.Test:8080\r\n\r\n");
    assert_eq!((got.status, got.one("location")), (308, "https://shop.test:8443/a%20b?c=d"));
    assert_eq!(session.ask("GET / HTTP/1.1\r\nhost: a b\r\n\r\n").status, 400);
    assert_eq!(Session::open(plain.address()).ask("GET / HTTP/1.0\r\n\r\n").status, 400);
    assert!(blue.seen().is_empty());
    assert_eq!(plain.tallies.process().unrouted.values().sum::<u64>(), 3);

    // A proxy in front that has spoken https with the client is believed.
    let behind =
        gate(&blue, &blue).trusting_us().listener(|listener| listener.redirect_https = Some(443)).start();
    assert_eq!(behind.get("/", "x-forwarded-proto: https\r\n").status, 200);
    assert_eq!(behind.get("/", "").one("location"), "https://shop/");

    let tls = Arc::new(authority.tls(&["shop"]));
    let secured = gate(&blue, &blue)
        .listener(|listener| {
            listener.tls = Some(tls);
            listener.hsts = Some(http::HeaderValue::from_static("max-age=60"));
        })
        .start();
    let (mut session, _) = authority.visitor().meet(secured.address(), "shop").unwrap();
    assert_eq!(session.ask(to("shop", "")).one("strict-transport-security"), "max-age=60");
    assert_eq!(session.ask(to("a b", "")).one("strict-transport-security"), "max-age=60");
}

#[test]
fn files_that_do_not_belong_together_are_refused_with_the_reason() {
    let authority = Authority::new();
    let one = authority.files("one", &["one.test"]);
    let other = authority.files("other", &["other.test"]);
    let load = |files: &crate::proxy::CertificateFiles| {
        crate::proxy::Certificate::load(files.clone(), clock::wall()).map(drop)
    };
    let swap = |cert: &std::path::Path, key: &std::path::Path| crate::proxy::CertificateFiles {
        cert: cert.to_owned(),
        key: key.to_owned(),
    };
    assert!(load(&one).is_ok());
    let mismatch = load(&swap(&one.cert, &other.key)).unwrap_err();
    assert!(matches!(mismatch, CertificateError::Mismatch { .. }), "{mismatch}");
    assert!(load(&swap(&one.key, &one.cert)).unwrap_err().to_string().contains("swapped"));
    assert!(load(&swap(&one.cert, &one.cert)).unwrap_err().to_string().contains("holds no private key"));
    let missing = authority.folder.path().join("missing");
    assert!(matches!(load(&swap(&missing, &one.key)).unwrap_err(), CertificateError::Read { .. }));
    for text in ["", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&missing, text).unwrap();
        assert!(matches!(load(&swap(&missing, &one.key)).unwrap_err(), CertificateError::Empty { .. }));
    }
    std::fs::write(&missing, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(matches!(load(&swap(&missing, &one.key)).unwrap_err(), CertificateError::Unusable { .. }));
    let certificate = authority.certificate("one", &["one.test"]);
    let late = crate::clock::Timestamp::from_millis(certificate.not_after().as_millis() + 1);
    let error = crate::proxy::Certificate::load(certificate.files().clone(), late).unwrap_err();
    assert!(matches!(error, CertificateError::Expired { .. }), "{error}");
    assert!(authority.pem().contains("BEGIN CERTIFICATE"));
}

#[test]
fn a_client_that_does_not_read_is_let_go_also_through_tls() {
    const BYTES: usize = 100_000_000;
    let authority = Authority::new();
    let (done, sent) = std::sync::mpsc::channel();
    let done = std::sync::Mutex::new(done);
    let blue = super::origin(move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").unwrap();
        let chunk = [b'x'; 64 * 1024];
        let mut count = 0;
        while count < BYTES && stream.write_all(&chunk).is_ok() {
            count += chunk.len();
        }
        done.lock().unwrap().send(count).unwrap();
        false
    });
    let tls = Arc::new(authority.tls(&["shop"]));
    let gate = gate(&blue, &blue)
        .listener(|listener| listener.tls = Some(tls))
        .with(|gate| gate.settings.timeouts.body_idle = Duration::from_millis(200))
        .start();
    let (mut session, _) = authority.visitor().meet(gate.address(), "shop").unwrap();
    session.send(to("shop", ""));
    let count = sent.recv().unwrap();
    assert!(count < BYTES / 4, "{count}");
    gate.until_quiet();
    // What was cut off is not taken for complete: TLS was not ended either.
    assert!(!session.read(false).unwrap().is_complete);
}
