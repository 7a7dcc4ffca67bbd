//! What a client's verified certificate says about it, in the words that endpoints read.
//!
//! `Client-Cert` (RFC 9440) carries the certificate itself; `X-Forwarded-Client-Cert`, as Envoy writes it, the
//! fingerprint and the subject, for endpoints that only want to know who it is. Both are made once per connection.

use std::fmt::Write;

use data_encoding::BASE64;
use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

pub(super) const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
pub(super) const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// A client that has proven who it is.
#[derive(Clone, Debug)]
pub(super) struct ClientIdentity {
    /// For `Client-Cert`.
    pub(super) certificate: HeaderValue,
    /// For `X-Forwarded-Client-Cert`.
    pub(super) summary: HeaderValue,
}

impl ClientIdentity {
    /// Of the first certificate of a chain that was verified. `None` for one that cannot be told: who verified it
    /// has read it, so there is none.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let mut summary = String::from("Hash=");
        for byte in Sha256::digest(certificate) {
            write!(summary, "{byte:02x}").ok()?;
        }
        write!(summary, ";Subject=\"{}\"", subject(parsed.subject())).ok()?;
        // RFC 8941 §3.3.5: a byte sequence stands between colons.
        let encoded = format!(":{}:", BASE64.encode(certificate));
        Some(Self {
            certificate: HeaderValue::try_from(encoded).ok()?,
            summary: HeaderValue::try_from(summary).ok()?,
        })
    }
}

/// RFC 4514 §2, from the innermost name outward. Whatever is more than a letter, a digit or one of a few signs is
/// written in hex, so that no subject can end the quotes that it stands in.
fn subject(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for rdn in name.iter_rdn().collect::<Vec<_>>().into_iter().rev() {
        for (at, attribute) in rdn.iter().enumerate() {
            if !text.is_empty() {
                text.push(if at == 0 { ',' } else { '+' });
            }
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(abbreviation) => text.push_str(abbreviation),
                Err(_) => text.push_str(&attribute.attr_type().to_id_string()),
            }
            text.push('=');
            for byte in attribute.as_str().map_or(attribute.as_slice(), str::as_bytes) {
                if byte.is_ascii_alphanumeric() || b" .-_@:/*'()".contains(byte) {
                    text.push(char::from(*byte));
                } else {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    #[test]
    fn a_subject_cannot_leave_its_quotes() {
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "A, \"B\";Hash=1\\");
        name.push(DnType::CommonName, "Zoë\r\nx: y");
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = name;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let identity = ClientIdentity::of(certificate.der()).unwrap();
        let summary = identity.summary.to_str().unwrap();
        let (hash, subject) = summary.split_once(';').unwrap();
        assert_eq!(hash.len(), "Hash=".len() + 64);
        assert_eq!(subject, "Subject=\"CN=Zo\\C3\\AB\\0D\\0Ax: y,O=A\\2C \\22B\\22\\3BHash\\3D1\\5C\"");
        let encoded = identity.certificate.to_str().unwrap();
        let inner = encoded.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).unwrap();
        assert_eq!(BASE64.decode(inner.as_bytes()).unwrap(), certificate.der().as_ref());
    }
}
