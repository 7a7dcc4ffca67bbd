//! Who signs the certificates of a story, and clients that trust nobody else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::http::Wire;

/// Signs certificates into a folder.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Authority {
    /// A new one, trusted by nobody else.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key), der: certificate.der().clone() }
    }

    /// A file of it: `ca.pem`, `shop.pem`, `shop.key`.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Writes `shop.pem` and `shop.key`, as who renews them does: one after the other.
    pub fn renew(&self) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["shop.test".to_owned(), "localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "the shop");
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("shop.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("shop.key"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    /// A configuration that listens with its certificate.
    pub fn listen(&self) -> String {
        format!("listen: [{}]", self.listener())
    }

    /// One element of that.
    pub fn listener(&self) -> String {
        let (cert, key) = (self.path("shop.pem"), self.path("shop.key"));
        format!("{{address: \"127.0.0.1:0\", tls: [{{cert: {cert}, key: {key}}}]}}")
    }

    /// A client, and the certificate that it was shown.
    pub async fn meet(&self, address: SocketAddr) -> (Wire<TlsStream<TcpStream>>, CertificateDer<'static>) {
        let stream = self.connect(address, &[]).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        (Wire::new(stream), shown)
    }

    /// A connection that trusts it, offering these protocols.
    pub async fn connect(&self, address: SocketAddr, alpn: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("shop.test").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}
