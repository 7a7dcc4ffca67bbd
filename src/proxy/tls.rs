//! TLS toward clients: which certificate is shown to whom, and who may come in.
//!
//! The settings are plain values; each thread makes rustls' configuration of them when it meets them for the first
//! time, so a reload takes effect with the next connection and touches none that is open. What outlives a reload
//! is the keys of session tickets, which all threads share. They belong to a *policy*: a ticket stands for what was
//! verified when it was given out, so one from a listener that asks for no certificate, or for that of another
//! authority, must not open this one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::certificate::{Authorities, Certificate, CertificateError, CertificateFiles};
use crate::clock::Timestamp;

/// In the order of our preference (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Ticket keys of so many policies are kept; only a reload makes another one.
const POLICIES_MAX: usize = 64;

/// How a listener speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// At least one. A client gets the first that is for the name it asks for, by exact name before wildcard; one
    /// that asks for another name, or for none, gets the first of all.
    pub certificates: Vec<Certificate>,
    /// Whether clients show certificates; by default they are not asked.
    pub client_auth: Option<ClientAuth>,
    /// The oldest version that is spoken; default 1.2.
    pub min_version: TlsVersion,
}

/// Client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// Who has signed them.
    pub authorities: Authorities,
    /// Whether a client without one is turned away.
    pub is_required: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2 (RFC 5246), with the cipher suites of RFC 9325 alone.
    #[default]
    Tls12,
    /// 1.3 (RFC 8446).
    Tls13,
}

/// Why a listener cannot speak TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// rustls refuses the settings.
    #[error("TLS cannot be set up")]
    Refused(#[source] rustls::Error),
    /// The authorities verify nobody.
    #[error("the authorities of client certificates cannot be used")]
    Authorities(#[source] rustls::server::VerifierBuilderError),
}

impl TlsSettings {
    /// Whether they can be used; those that can go on being so.
    pub fn check(&self) -> Result<(), TlsError> {
        self.config(Arc::new(NoTickets)).map(drop)
    }

    /// The same settings with what their files hold now.
    pub fn read_again(&self, now: Timestamp) -> Result<Self, CertificateError> {
        let certificates =
            self.certificates.iter().map(|certificate| Certificate::load(certificate.files().clone(), now));
        let client_auth = self.client_auth.as_ref().map(|auth| {
            let authorities = auth.authorities.read_again()?;
            Ok(ClientAuth { authorities, is_required: auth.is_required })
        });
        Ok(Self {
            certificates: certificates.collect::<Result<_, _>>()?,
            client_auth: client_auth.transpose()?,
            min_version: self.min_version,
        })
    }

    /// Every file that they were read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let of_certificates = self.certificates.iter().flat_map(|certificate| {
            let CertificateFiles { cert, key } = certificate.files();
            [cert.as_path(), key.as_path()]
        });
        of_certificates.chain(self.client_auth.iter().map(|auth| auth.authorities.path()))
    }

    /// What rustls needs, with the ticket keys of this policy.
    pub(super) fn serve(&self, tickets: &Tickets) -> Result<Arc<ServerConfig>, TlsError> {
        self.config(tickets.of(self.policy())?).map(Arc::new)
    }

    fn config(&self, ticketer: Arc<dyn ProducesTickets>) -> Result<ServerConfig, TlsError> {
        let versions: &[_] = match self.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(TlsError::Refused)?;
        let builder = match &self.client_auth {
            None => builder.with_no_client_auth(),
            Some(auth) => {
                let roots = auth.authorities.roots.clone();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = if auth.is_required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(TlsError::Authorities)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName::of(&self.certificates)));
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ticketer;
        Ok(config)
    }

    /// What a client has shown when it is let in.
    fn policy(&self) -> Policy {
        let mut digest = Sha256::new();
        if let Some(auth) = &self.client_auth {
            digest.update([1, u8::from(auth.is_required)]);
            digest.update(auth.authorities.digest);
        }
        digest.finalize().into()
    }
}

/// The one provider of cryptography.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())).clone()
}

type Policy = [u8; 32];

/// The ticket keys of all policies. Each key signs for six hours and is taken for six more.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<Vec<(Policy, Arc<dyn ProducesTickets>)>>);

impl Tickets {
    fn of(&self, policy: Policy) -> Result<Arc<dyn ProducesTickets>, TlsError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, ticketer)) = all.iter().find(|(known, _)| *known == policy) {
            return Ok(ticketer.clone());
        }
        let ticketer = Ticketer::new().map_err(TlsError::Refused)?;
        if all.len() >= POLICIES_MAX {
            all.remove(0);
        }
        all.push((policy, ticketer.clone()));
        Ok(ticketer)
    }
}

/// For settings that nobody is served with.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// Finds a certificate by the name that a client asks for. Several for one name may differ in their kind of key.
#[derive(Debug, Default)]
struct ByName {
    exact: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*`, the dot included.
    wildcard: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    all: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    fn of(certificates: &[Certificate]) -> Self {
        let mut found = Self::default();
        for certificate in certificates {
            for name in certificate.names() {
                let keys = match name.strip_prefix('*') {
                    Some(suffix) => found.wildcard.entry(suffix.into()).or_default(),
                    None => found.exact.entry(name.as_str().into()).or_default(),
                };
                keys.push(certificate.key.clone());
            }
            found.all.push(certificate.key.clone());
        }
        found
    }

    /// A wildcard stands for exactly one label (RFC 9525 §6.3).
    fn named(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let wildcard = || self.wildcard.get(&name[name.find('.')?..]);
        self.exact.get(name).or_else(wildcard).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let keys = name.and_then(|name| self.named(&name)).unwrap_or(self.all.get(..1)?);
        let schemes = hello.signature_schemes();
        let fits = keys.iter().find(|key| key.key.choose_scheme(schemes).is_some());
        fits.or(keys.first()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::proxy::certificate::CertificateFiles;

    fn certificate(folder: &std::path::Path, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let files = CertificateFiles { cert: folder.join("cert"), key: folder.join("key") };
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        Certificate::load(files, clock::wall()).unwrap()
    }

    #[test]
    fn a_name_is_found_exactly_then_by_wildcard_of_one_label() {
        let folder = tempfile::tempdir().unwrap();
        let all = [
            certificate(folder.path(), &["default.example"]),
            certificate(folder.path(), &["*.Shop.example"]),
            certificate(folder.path(), &["www.shop.example", "shop.example"]),
        ];
        let by_name = ByName::of(&all);
        #[track_caller]
        fn check(by_name: &ByName, all: &[Certificate], name: &str, expected: Option<usize>) {
            let found = by_name.named(name).and_then(|keys| keys.first());
            let at = found.map(|key| all.iter().position(|one| Arc::ptr_eq(&one.key, key)).unwrap());
            assert_eq!(at, expected, "{name}");
        }
        for (name, expected) in [
            ("default.example", Some(0)),
            ("a.shop.example", Some(1)),
            ("www.shop.example", Some(2)),
            ("shop.example", Some(2)),
            ("a.b.shop.example", None),
            ("other.example", None),
            ("example", None),
            ("", None),
        ] {
            check(&by_name, &all, name, expected);
        }
    }

    #[test]
    fn tickets_of_one_policy_open_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = vec![certificate(folder.path(), &["s"])];
        let authorities = || Authorities::load(folder.path().join("cert")).unwrap();
        let with = |client_auth| TlsSettings {
            certificates: certificates.clone(),
            client_auth,
            min_version: TlsVersion::Tls12,
        };
        let open = with(None);
        let optional = with(Some(ClientAuth { authorities: authorities(), is_required: false }));
        let required = with(Some(ClientAuth { authorities: authorities(), is_required: true }));
        let tickets = Tickets::default();
        let ticketer = |settings: &TlsSettings| settings.serve(&tickets).unwrap().ticketer.clone();
        let ticket = ticketer(&open).encrypt(b"who").unwrap();
        assert_eq!(ticketer(&open).decrypt(&ticket).as_deref(), Some(&b"who"[..]));
        assert_eq!(ticketer(&optional).decrypt(&ticket), None);
        assert_eq!(ticketer(&required).decrypt(&ticket), None);
        let ticket = ticketer(&optional).encrypt(b"who").unwrap();
        assert_eq!(ticketer(&required).decrypt(&ticket), None);
    }
}
