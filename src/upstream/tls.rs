//! TLS toward endpoints: who they must be, and who we are to them.
//!
//! Everything is prepared when the configuration is read, so that a broken file is found before anything is served
//! and a connection costs no more than its handshake. All threads share one store of sessions: whoever connects
//! to an endpoint next resumes what another thread began.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::Protocol;

/// TLS as somebody asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificates, in PEM, of who may vouch for endpoints; `None`: those that the system trusts.
    pub ca: Option<Vec<u8>>,
    /// The name that an endpoint must prove and that is sent as SNI (RFC 6066 §3); `None`: its URL's host.
    pub server_name: Option<String>,
    /// The certificate, with what leads to its root, and its key, both in PEM, that we prove ourselves with.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Whether an endpoint has to prove its name at all; default true.
    pub verify: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { ca: None, server_name: None, identity: None, verify: true }
    }
}

/// What cannot be used of [`TlsOptions`].
#[derive(Debug, Error)]
pub enum TlsError {
    /// There is no certificate in the CA file.
    #[error("no certificate is in it; it needs at least one, in PEM: -----BEGIN CERTIFICATE-----")]
    EmptyCa,
    /// The CA file is broken.
    #[error("certificate {number} in it cannot be used")]
    Ca {
        /// Which one, counted from 1.
        number: usize,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system trusts nobody.
    #[error(
        "this machine has no root certificates that endpoints could be verified by; install ca-certificates, or \
         name a file with tls.ca"
    )]
    NoRoots,
    /// No name that a certificate could be for.
    #[error("no certificate can be for this name; write a host name or an address")]
    ServerName,
    /// The client certificate's file is empty or broken.
    #[error("no certificate is in it; it needs ours, in PEM: -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// The key's file is empty or broken.
    #[error("no private key is in it; it needs one, in PEM: -----BEGIN PRIVATE KEY-----")]
    NoKey,
    /// The two do not belong together, or are of no use.
    #[error("certificate and key cannot be used together")]
    Identity(#[source] rustls::Error),
    /// The library does not do what we ask of it.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// TLS as it is spoken to the endpoints of a variant.
pub struct EndpointTls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    is_usual: bool,
    /// Of all that it was made from.
    mark: [u8; 32],
}

impl EndpointTls {
    /// Prepares connections.
    ///
    /// # Errors
    ///
    /// Whatever cannot be used, the first of it.
    pub fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let roots = match &options.ca {
            Some(pem) => roots_in(pem)?,
            None if options.verify => system_roots()?,
            None => Arc::new(RootCertStore::empty()),
        };
        Self::trusting(roots, options)
    }

    /// What is in force where nothing is configured: endpoints prove the host of their URL to whom the system
    /// trusts. Made when it is first needed, once per process: the first call reads files.
    ///
    /// # Errors
    ///
    /// When the system trusts nobody.
    pub fn usual() -> Result<Arc<Self>, Arc<TlsError>> {
        static USUAL: OnceLock<Result<Arc<EndpointTls>, Arc<TlsError>>> = OnceLock::new();
        let make = || Self::new(&TlsOptions::default()).map(Arc::new).map_err(Arc::new);
        USUAL.get_or_init(make).clone()
    }

    fn trusting(roots: Arc<RootCertStore>, options: &TlsOptions) -> Result<Self, TlsError> {
        let server_name = match &options.server_name {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName)?),
            None => None,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?;
        let builder = if options.verify {
            builder.with_root_certificates(roots)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        };
        let mut client = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => {
                let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
                    .collect::<Result<_, _>>()
                    .map_err(|_| TlsError::NoCertificate)?;
                if chain.is_empty() {
                    return Err(TlsError::NoCertificate);
                }
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
                builder.with_client_auth_cert(chain, key).map_err(TlsError::Identity)?
            }
        };
        client.alpn_protocols = vec![b"h2".to_vec()];
        let http2 = Arc::new(client.clone());
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let is_usual = *options == TlsOptions::default();
        Ok(Self { http1: Arc::new(client), http2, server_name, is_usual, mark: mark(options) })
    }

    pub(super) fn client(&self, protocol: Protocol) -> Arc<ClientConfig> {
        match protocol {
            Protocol::Http1 => self.http1.clone(),
            Protocol::Http2 => self.http2.clone(),
        }
    }

    /// The name that is asked for, if it is not the URL's host.
    pub(super) fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }

    pub(super) fn is_usual(&self) -> bool {
        self.is_usual
    }
}

impl PartialEq for EndpointTls {
    fn eq(&self, other: &Self) -> bool {
        self.mark == other.mark
    }
}

impl Eq for EndpointTls {}

impl fmt::Debug for EndpointTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

fn mark(options: &TlsOptions) -> [u8; 32] {
    let TlsOptions { ca, server_name, identity, verify } = options;
    let (certificates, key) = match identity {
        Some((certificates, key)) => (Some(certificates.as_slice()), Some(key.as_slice())),
        None => (None, None),
    };
    let mut hash = Sha256::new();
    for part in [ca.as_deref(), server_name.as_deref().map(str::as_bytes), certificates, key] {
        // With lengths, so that no part can pass for the end of another.
        hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.update([u8::from(*verify)]);
    hash.finalize().into()
}

fn roots_in(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for (at, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let broken =
            |source: Box<dyn std::error::Error + Send + Sync>| TlsError::Ca { number: at + 1, source };
        let certificate = certificate.map_err(|error| broken(error.into()))?;
        roots.add(certificate).map_err(|error| broken(error.into()))?;
    }
    if roots.is_empty() { Err(TlsError::EmptyCa) } else { Ok(Arc::new(roots)) }
}

/// Whom the system trusts, read when it is first asked for.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        // One certificate that cannot be used must not take the others with it.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    };
    let roots = ROOTS.get_or_init(read);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots.clone()) }
}

/// Takes any certificate; that its owner holds the key is verified still.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
