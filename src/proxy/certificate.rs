//! Certificates and keys as they lie in files: read, compared and dated before anybody is served with them.
//!
//! Whatever a browser would refuse later is an error here: a key of another certificate, a date that is past, a
//! file without what it should hold. The mistake is told to the operator then, not to his visitors.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError as Rejected, InconsistentKeys, RootCertStore};
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::tls::provider;
use crate::clock::Timestamp;

/// The largest file that is read: room for hundreds of authorities.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Where a key may be read by others, its mode has one of these.
const MODE_OF_OTHERS: u32 = 0o007;

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// PEM: the certificate, and after it those that lead to its authority.
    pub cert: PathBuf,
    /// PEM: its private key in PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// Why a certificate, a key or an authority cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file without what it should hold.
    #[error("{} holds no {what} in PEM{hint}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Certificate or private key.
        what: &'static str,
        /// What may help.
        hint: &'static str,
    },
    /// The key is another certificate's.
    #[error("{} is not the key of {}; give the key that this certificate was made for", files.key.display(), files.cert.display())]
    Mismatch {
        /// Both files.
        files: Box<CertificateFiles>,
    },
    /// Over.
    #[error("{} expired at {at}; renew it", path.display())]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// When.
        at: Timestamp,
    },
    /// Not a certificate, or of a kind that cannot be used.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
}

impl CertificateError {
    /// The file that is to blame, if it is one alone.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::Empty { path, .. }
            | Self::Expired { path, .. }
            | Self::Unusable { path, .. } => Some(path),
            Self::Mismatch { .. } => None,
        }
    }
}

/// A certificate with its key, ready to be shown to clients.
#[derive(Clone, Debug)]
pub struct Certificate {
    files: CertificateFiles,
    names: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
    is_key_open: bool,
    digest: [u8; 32],
    pub(super) key: Arc<CertifiedKey>,
}

/// Two are equal if they come from the same files and these hold the same.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.digest == other.digest
    }
}

impl Eq for Certificate {}

impl Certificate {
    /// Reads both files and holds them against each other and against the date.
    pub fn load(files: CertificateFiles, now: Timestamp) -> Result<Self, CertificateError> {
        let (cert_pem, _) = read(&files.cert)?;
        let (key_pem, mode) = read(&files.key)?;
        let chain = certificates(&files.cert, &cert_pem)?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| CertificateError::Empty {
            path: files.key.clone(),
            what: "private key",
            hint: if contains(&key_pem, b"ENCRYPTED") { "; it is encrypted: decrypt it" } else { "" },
        })?;
        let unusable = |source| CertificateError::Unusable { path: files.cert.clone(), source };
        let garbled = || unusable(rustls::Error::InvalidCertificate(Rejected::BadEncoding));
        let parsed = chain.first().and_then(|der| X509Certificate::from_der(der).ok());
        let (_, parsed) = parsed.ok_or_else(garbled)?;
        let (not_before, not_after) = validity(&parsed);
        let names = names(&parsed);
        if not_after < now {
            return Err(CertificateError::Expired { path: files.cert, at: not_after });
        }
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::Mismatch { files: Box::new(files.clone()) }
            }
            rustls::Error::InvalidCertificate(_) => unusable(error),
            source => CertificateError::Unusable { path: files.key.clone(), source },
        })?;
        let digest =
            Sha256::new().chain_update(&cert_pem).chain_update([0]).chain_update(&key_pem).finalize();
        Ok(Self {
            names,
            not_before,
            not_after,
            is_key_open: mode & MODE_OF_OTHERS != 0,
            digest: digest.into(),
            key: Arc::new(key),
            files,
        })
    }

    /// Where it lies.
    pub fn files(&self) -> &CertificateFiles {
        &self.files
    }

    /// The hosts it is for, in lower case; `*.` may stand in front of one.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What it is called where one name must do: the first host it is for, or its file.
    pub fn name(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| self.files.cert.display().to_string())
    }

    /// Before this moment clients refuse it.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// After this moment clients refuse it.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether every user of the machine may read its key.
    pub fn is_key_open(&self) -> bool {
        self.is_key_open
    }
}

/// The authorities that client certificates are believed from.
#[derive(Clone, Debug)]
pub struct Authorities {
    path: PathBuf,
    pub(super) digest: [u8; 32],
    pub(super) roots: Arc<RootCertStore>,
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.digest == other.digest
    }
}

impl Eq for Authorities {}

impl Authorities {
    /// Reads the same file again.
    pub(super) fn read_again(&self) -> Result<Self, CertificateError> {
        Self::load(self.path.clone())
    }

    /// Reads a PEM file with at least one certificate.
    pub fn load(path: PathBuf) -> Result<Self, CertificateError> {
        let (pem, _) = read(&path)?;
        let mut roots = RootCertStore::empty();
        for der in certificates(&path, &pem)? {
            roots.add(der).map_err(|source| CertificateError::Unusable { path: path.clone(), source })?;
        }
        Ok(Self { digest: Sha256::digest(&pem).into(), roots: Arc::new(roots), path })
    }

    /// Where they lie.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The file, and its mode.
fn read(path: &Path) -> Result<(Vec<u8>, u32), CertificateError> {
    let read = || {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("is no file"));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other("is larger than 1 MiB"));
        }
        Ok((bytes, meta.mode()))
    };
    read().map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let empty = |hint| CertificateError::Empty { path: path.to_owned(), what: "certificate", hint };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() && contains(pem, b"PRIVATE KEY") => {
            Err(empty("; it is a key: cert and key may be swapped"))
        }
        Ok(chain) if chain.is_empty() => Err(empty("")),
        Ok(chain) => Ok(chain),
        Err(_) => Err(empty("; it is damaged")),
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn validity(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let at = |seconds: i64| Timestamp::from_millis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
    let validity = certificate.validity();
    (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()))
}

/// Browsers look at subject alternative names alone (RFC 9525 §2).
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}
