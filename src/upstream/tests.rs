//! Ways to endpoints over real sockets.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// Somebody who vouches for others.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        Self::named("ours")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    /// A certificate for `name` with its key, valid until the end of `year`.
    fn vouch(&self, name: &str, year: i32) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// What a server saw of its clients.
#[derive(Debug, Default)]
struct Seen {
    names: Mutex<Vec<Option<String>>>,
    /// How each handshake went, and whether the client proved himself.
    kinds: Mutex<Vec<(Option<HandshakeKind>, bool)>>,
}

#[derive(Debug)]
struct Noting(Arc<CertifiedKey>, Arc<Seen>);

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.1.names.lock().unwrap().push(hello.server_name().map(str::to_owned));
        Some(self.0.clone())
    }
}

/// An endpoint that says `hello` by TLS; with `clients`, only to whom that authority vouches for.
async fn serve(
    certificate: &(rcgen::Certificate, KeyPair),
    clients: Option<&Authority>,
) -> (SocketAddr, Arc<Seen>) {
    let seen = Arc::<Seen>::default();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(certificate.1.serialize_der()).unwrap();
    let certified = CertifiedKey::from_der(vec![certificate.0.der().clone()], key, &provider).unwrap();
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = match clients {
        None => builder.unwrap().with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.unwrap().with_client_cert_verifier(verifier.unwrap())
        }
    };
    let config = builder.with_cert_resolver(Arc::new(Noting(Arc::new(certified), seen.clone())));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let noting = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let session = stream.get_ref().1;
            let kind = (session.handshake_kind(), session.peer_certificates().is_some());
            noting.kinds.lock().unwrap().push(kind);
            let _ = stream.write_all(b"hello").await;
            let _ = stream.shutdown().await;
        }
    });
    (address, seen)
}

fn tls(options: &TlsOptions) -> Reach {
    Reach { tls: Some(Arc::new(EndpointTls::new(options).unwrap())), ..Reach::default() }
}

fn trusting(authority: &Authority) -> TlsOptions {
    TlsOptions { ca: Some(authority.pem.clone().into_bytes()), ..TlsOptions::default() }
}

/// A way to `url` whose name, if it has one, leads to `addresses`.
fn way(url: &str, reach: &Reach, addresses: &[&str]) -> Way {
    let way = Way::new(url.parse().unwrap(), reach, &Names::default());
    if let Some(name) = way.name() {
        name.learn(Ok(addresses.iter().map(|address| address.parse().unwrap()).collect()));
    }
    way
}

async fn heard(way: &Way) -> Result<String, ConnectError> {
    let mut stream = open(way, LIMIT).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    Ok(text)
}

#[tokio::test]
async fn an_endpoint_must_prove_its_name_to_whom_is_trusted() {
    #[track_caller]
    fn check(heard: Result<String, ConnectError>, expected: Result<&str, &str>) {
        match (heard, expected) {
            (Ok(heard), Ok(expected)) => assert_eq!(heard, expected),
            (Err(error), Err(expected)) => {
                assert!(matches!(error, ConnectError::Unverified { .. }), "{error}");
                assert_eq!(error.word(), "certificate");
                assert!(error.to_string().contains(expected), "{error}");
            }
            (got, _) => panic!("{got:?} instead of {expected:?}"),
        }
    }
    let (ours, strangers) = (Authority::new(), Authority::named("strangers"));
    let (shop, _) = serve(&ours.vouch("shop.internal", 2999), None).await;
    let (old, _) = serve(&ours.vouch("shop.internal", 2002), None).await;
    let (by_address, _) = serve(&ours.vouch("127.0.0.1", 2999), None).await;
    let to = |name: &str, port: u16, options: &TlsOptions| {
        way(&format!("https://{name}:{port}"), &tls(options), &["127.0.0.1"])
    };
    let named = TlsOptions { server_name: Some("shop.internal".to_owned()), ..trusting(&ours) };
    let blind = TlsOptions { verify: false, ..TlsOptions::default() };

    check(heard(&to("shop.internal", shop.port(), &trusting(&ours))).await, Ok("hello"));
    check(heard(&to("127.0.0.1", shop.port(), &named)).await, Ok("hello"));
    check(heard(&to("127.0.0.1", by_address.port(), &trusting(&ours))).await, Ok("hello"));
    check(heard(&to("shop.internal", old.port(), &blind)).await, Ok("hello"));

    check(heard(&to("shop.internal", shop.port(), &trusting(&strangers))).await, Err("UnknownIssuer"));
    check(heard(&to("cart.internal", shop.port(), &trusting(&ours))).await, Err("not valid for name"));
    check(heard(&to("127.0.0.1", shop.port(), &trusting(&ours))).await, Err("not valid for name"));
    check(heard(&to("shop.internal", old.port(), &trusting(&ours))).await, Err("expired"));
}

#[tokio::test]
async fn an_endpoint_is_asked_for_by_its_host_or_by_server_name_and_sessions_are_resumed() {
    let ours = Authority::new();
    let (address, seen) = serve(&ours.vouch("shop.internal", 2999), None).await;
    let url = format!("https://shop.internal:{}", address.port());
    let by_host = way(&url, &tls(&trusting(&ours)), &["127.0.0.1"]);
    heard(&by_host).await.unwrap();
    heard(&by_host).await.unwrap();
    let named = TlsOptions { server_name: Some("shop.internal".to_owned()), ..trusting(&ours) };
    heard(&way(&format!("https://{address}"), &tls(&named), &[])).await.unwrap();
    // What is no name is not sent (RFC 6066 §3).
    let blind = TlsOptions { verify: false, ..TlsOptions::default() };
    heard(&way(&format!("https://{address}"), &tls(&blind), &[])).await.unwrap();

    let names = seen.names.lock().unwrap().clone();
    let names: Vec<_> = names.iter().map(Option::as_deref).collect();
    assert_eq!(names, [Some("shop.internal"), Some("shop.internal"), Some("shop.internal"), None]);
    let kinds: Vec<_> = seen.kinds.lock().unwrap().iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds[..2], [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
}

#[tokio::test]
async fn who_has_to_prove_himself_shows_his_certificate() {
    let ours = Authority::new();
    let (address, seen) = serve(&ours.vouch("shop.internal", 2999), Some(&ours)).await;
    let (certificate, key) = ours.vouch("tidegate", 2999);
    let identity = Some((certificate.pem().into_bytes(), key.serialize_pem().into_bytes()));
    let url = format!("https://shop.internal:{}", address.port());
    let known = way(&url, &tls(&TlsOptions { identity, ..trusting(&ours) }), &["127.0.0.1"]);
    assert_eq!(heard(&known).await.unwrap(), "hello");
    assert!(seen.kinds.lock().unwrap()[0].1);

    // In TLS 1.3 the refusal comes after the handshake, with the first read.
    let unknown = way(&url, &tls(&trusting(&ours)), &["127.0.0.1"]);
    if let Ok(mut stream) = open(&unknown, LIMIT).await {
        assert!(stream.read(&mut [0; 9]).await.is_err());
    }
    assert_eq!(seen.kinds.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_speaks_no_tls_is_told_from_what_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let way = way(&url, &tls(&trusting(&Authority::new())), &[]);
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    };
    let (opened, _stream) = tokio::join!(open(&way, LIMIT), plain);
    assert!(matches!(opened, Err(ConnectError::Handshake { .. })), "{opened:?}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_over_at_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let way = way(&url, &tls(&trusting(&Authority::new())), &[]);
    let opened = open(&way, Duration::from_millis(30)).await;
    assert!(matches!(opened, Err(ConnectError::TimedOut { .. })), "{opened:?}");
}

/// Accepts and says `hello` until the test ends.
fn greet(listener: TcpListener) -> u16 {
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"hello").await;
        }
    });
    port
}

#[tokio::test]
async fn an_address_that_is_dead_does_not_take_the_name_with_it() {
    // All of 127/8 is this machine; nobody listens on .2 and .3 at that port.
    let port = greet(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let way = way(
        &format!("http://shop.internal:{port}"),
        &Reach::default(),
        &["127.0.0.2", "127.0.0.3", "127.0.0.1"],
    );
    for _ in 0..5 {
        assert_eq!(heard(&way).await.unwrap(), "hello");
    }
    let gone =
        self::way(&format!("http://shop.internal:{port}"), &Reach::default(), &["127.0.0.2", "127.0.0.3"]);
    let refused = heard(&gone).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { .. }) && !refused.is_local(), "{refused}");
}

#[tokio::test]
async fn an_address_that_is_silent_is_overtaken() {
    let port = greet(TcpListener::bind("127.0.0.1:0").await.unwrap());
    // For documentation (RFC 5737): wherever it is routed to, nobody accepts there.
    let way = way(&format!("http://shop.internal:{port}"), &Reach::default(), &["192.0.2.1", "127.0.0.1"]);
    assert_eq!(heard(&way).await.unwrap(), "hello");
}

#[tokio::test]
async fn ipv6_is_an_address_like_any_other() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else { return };
    let port = greet(listener);
    let by_address = way(&format!("http://[::1]:{port}"), &Reach::default(), &[]);
    assert_eq!(heard(&by_address).await.unwrap(), "hello");
    let by_name = way(&format!("http://shop.internal:{port}"), &Reach::default(), &["127.0.0.2", "::1"]);
    assert_eq!(heard(&by_name).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_name_that_has_no_address_or_a_socket_that_is_not_there_is_told() {
    let way = way("http://shop.internal", &Reach::default(), &[]);
    let nameless = Way::new("http://cart.internal".parse().unwrap(), &Reach::default(), &Names::default());
    nameless.name().unwrap().learn(Err("no such name".into()));
    let error = heard(&nameless).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.word()),
        ("look up cart.internal: no such name", "look_up")
    );
    assert!(heard(&way).await.is_err());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.sock");
    let url = format!("unix:{}", path.display());
    let way = self::way(&url, &Reach::default(), &[]);
    assert!(matches!(heard(&way).await, Err(ConnectError::Socket { .. })));
    let listener = UnixListener::bind(&path).unwrap();
    let answer = async { listener.accept().await.unwrap().0.write_all(b"hello").await.unwrap() };
    let (heard, ()) = tokio::join!(heard(&way), answer);
    assert_eq!(heard.unwrap(), "hello");
}

#[test]
fn ways_are_the_same_if_all_they_are_made_of_is() {
    let (one, other) = (Authority::new(), Authority::new());
    let (first, again, changed) = (tls(&trusting(&one)), tls(&trusting(&one)), tls(&trusting(&other)));
    let url = "https://shop.internal";
    assert_eq!(way(url, &first, &[]), way(url, &again, &[]));
    assert_ne!(way(url, &first, &[]), way(url, &changed, &[]));
    let (secure, plain) = (way(url, &first, &[]), way("http://shop.internal", &first, &[]));
    assert!(secure.is_to(secure.url(), &again) && !secure.is_to(secure.url(), &changed));
    assert!(!secure.is_to(secure.url(), &Reach::default()));
    assert!(plain.is_to(plain.url(), &Reach::default()) && plain.is_to(plain.url(), &changed));
}

#[test]
fn what_cannot_be_used_is_told() {
    #[track_caller]
    fn check(options: TlsOptions, expected: &str) {
        let error = EndpointTls::new(&options).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let ours = Authority::new();
    let (certificate, key) = ours.vouch("tidegate", 2999);
    let (_, other_key) = ours.vouch("tidegate", 2999);
    let with_ca = |ca: &str| TlsOptions { ca: Some(ca.as_bytes().to_vec()), ..TlsOptions::default() };
    let with_identity = |certificate: &str, key: &str| {
        let identity = Some((certificate.as_bytes().to_vec(), key.as_bytes().to_vec()));
        TlsOptions { identity, ..trusting(&ours) }
    };
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    check(with_ca(""), "no certificate is in it");
    check(with_ca(&key.serialize_pem()), "no certificate is in it");
    check(with_ca(&format!("{}{broken}", ours.pem)), "certificate 2 in it cannot be used");
    check(with_identity("", &key.serialize_pem()), "no certificate is in it");
    check(with_identity(&certificate.pem(), &certificate.pem()), "no private key is in it");
    check(with_identity(&certificate.pem(), &other_key.serialize_pem()), "cannot be used together");
    let nobody = TlsOptions { server_name: Some("a b".to_owned()), ..trusting(&ours) };
    check(nobody, "no certificate can be for this name");
    assert!(EndpointTls::new(&with_identity(&certificate.pem(), &key.serialize_pem())).is_ok());
}
