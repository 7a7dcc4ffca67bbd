//! Certificates made for a test, and clients that look at them.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::{Session, dial};
use crate::clock;
use crate::proxy::tls::provider;
use crate::proxy::{Authorities, Certificate, CertificateFiles, ClientAuth, TlsSettings, TlsVersion};

/// Whom clients of a test believe, and who believes theirs. Its files live as long as it does.
pub(super) struct Authority {
    pub(super) folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named("the authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        Self { folder, issuer: Issuer::new(params, key), pem, der }
    }

    /// Writes a certificate for these hosts and its key.
    pub(super) fn files(&self, file: &str, names: &[&str]) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = named(file);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |ending: &str| -> PathBuf { self.folder.path().join(format!("{file}.{ending}")) };
        let files = CertificateFiles { cert: path("pem"), key: path("key") };
        std::fs::write(&files.cert, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    pub(super) fn certificate(&self, file: &str, names: &[&str]) -> Certificate {
        Certificate::load(self.files(file, names), clock::wall()).unwrap()
    }

    /// TLS with one certificate for these hosts.
    pub(super) fn tls(&self, names: &[&str]) -> TlsSettings {
        TlsSettings {
            certificates: vec![self.certificate("server", names)],
            client_auth: None,
            min_version: TlsVersion::Tls12,
        }
    }

    pub(super) fn client_auth(&self, is_required: bool) -> ClientAuth {
        let authorities = Authorities::load(self.folder.path().join("ca.pem")).unwrap();
        ClientAuth { authorities, is_required }
    }

    /// A client that believes this authority.
    pub(super) fn visitor(&self) -> Visitor {
        Visitor::new(self, None, rustls::ALL_VERSIONS)
    }

    /// A client that shows a certificate.
    pub(super) fn known_visitor(&self, name: &str) -> Visitor {
        let files = self.files(name, &[]);
        let chain = vec![CertificateDer::from_pem_file(&files.cert).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        Visitor::new(self, Some((chain, key)), rustls::ALL_VERSIONS)
    }

    /// A client of these versions of TLS alone.
    pub(super) fn visitor_of(&self, versions: &[&'static SupportedProtocolVersion]) -> Visitor {
        Visitor::new(self, None, versions)
    }

    /// The authority's own certificate.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// A client over TLS; it remembers its sessions.
#[derive(Clone)]
pub(super) struct Visitor {
    pub(super) config: ClientConfig,
}

/// What was agreed upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) protocol: Option<String>,
    pub(super) version: String,
    pub(super) is_resumed: bool,
    /// The first name of the certificate that was shown.
    pub(super) name: String,
}

impl Visitor {
    fn new(
        authority: &Authority,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(16);
        Self { config }
    }

    pub(super) fn offering(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Connects and shakes hands.
    pub(super) fn meet(&self, address: SocketAddr, name: &str) -> io::Result<(Session, Agreed)> {
        self.meet_over(dial(address), name)
    }

    pub(super) fn meet_over(&self, mut stream: TcpStream, name: &str) -> io::Result<(Session, Agreed)> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(self.config.clone()), name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        let shown = connection.peer_certificates().and_then(|chain| chain.first());
        let agreed = Agreed {
            protocol: connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            version: format!("{:?}", connection.protocol_version().unwrap()),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            name: shown.map(first_name).unwrap_or_default(),
        };
        let mut stream = StreamOwned::new(connection, stream);
        stream.flush()?;
        Ok((Session::over(stream), agreed))
    }
}

fn first_name(der: &CertificateDer<'static>) -> String {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(der).unwrap();
    let names = parsed.subject_alternative_name().unwrap();
    match names.and_then(|names| names.value.general_names.first()) {
        Some(GeneralName::DNSName(name)) => (*name).to_owned(),
        _ => String::new(),
    }
}
