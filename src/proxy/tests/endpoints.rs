//! Endpoints that are no plain host and port.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;

use super::{Gate, answer, endpoint, gate};
use crate::routing::{Group, Member};
use crate::traffic::Variant::Blue;
use crate::upstream::{EndpointTls, Health, Reach, TlsOptions};

/// Everything goes to `url` from now on.
pub(super) fn lead_to(gate: &Gate, url: &str, reach: &Reach) {
    gate.publish(|service| {
        let endpoint = Arc::new(endpoint(900, url.parse().unwrap(), reach));
        service.groups[Blue] = Group::new(None, vec![Member::new(endpoint, Health::Healthy)]);
    });
}

/// Answers each request of a connection with its `Host`.
fn echo_host(stream: impl std::io::Read + Write) {
    let mut reader = BufReader::new(stream);
    let mut host = String::new();
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        if let Some(named) = line.strip_prefix("host: ") {
            host = named.trim().to_owned();
        }
        if line == "\r\n" {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{host}", host.len());
            if reader.get_mut().write_all(answer.as_bytes()).is_err() || reader.get_mut().flush().is_err() {
                return;
            }
        }
        line.clear();
    }
}

#[test]
fn a_unix_socket_answers_through_the_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo_host(stream));
        }
    });
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    lead_to(&gate, &format!("unix:{}", path.display()), &Reach::default());
    // The host is the client's, whatever it is reached by.
    for _ in 0..3 {
        assert_eq!(gate.get("/", "").text(), "shop");
    }
}

#[test]
fn an_endpoint_by_tls_answers_through_the_proxy_and_one_that_proves_nothing_does_not() {
    let ours = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(ours.signing_key.serialize_der()).unwrap();
    let server =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let server = Arc::new(server.with_single_cert(vec![ours.cert.der().clone()], key).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(server.clone()).unwrap();
            std::thread::spawn(move || echo_host(rustls::StreamOwned::new(session, stream)));
        }
    });
    let blue = answer("blue");
    let gate = gate(&blue, &blue).start();
    let ca = Some(ours.cert.pem().into_bytes());
    let tls = EndpointTls::new(&TlsOptions { ca, ..TlsOptions::default() }).unwrap();
    lead_to(&gate, &url, &Reach { tls: Some(Arc::new(tls)), ..Reach::default() });
    for _ in 0..3 {
        assert_eq!(gate.get("/", "").text(), "shop");
    }

    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let ca = Some(stranger.cert.pem().into_bytes());
    let tls = EndpointTls::new(&TlsOptions { ca, ..TlsOptions::default() }).unwrap();
    gate.publish(|service| {
        let reach = Reach { tls: Some(Arc::new(tls)), ..Reach::default() };
        let endpoint = Arc::new(endpoint(901, url.parse().unwrap(), &reach));
        service.groups[Blue] = Group::new(None, vec![Member::new(endpoint, Health::Healthy)]);
    });
    assert_eq!(gate.get("/", "").status, 502);
}
