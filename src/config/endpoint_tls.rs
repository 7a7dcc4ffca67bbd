//! From the file to how a variant's endpoints are spoken to. Certificates and keys are read here, once, so that
//! what is wrong with them is told like everything else that is.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;

use super::file::EndpointTlsFile;
use super::problem::{Findings, below};
use super::secret::{doubt_public, read_file};
use super::written::Written;
use crate::upstream::{EndpointSpec, EndpointTls, Reach, TlsError, TlsOptions};

/// Far more than any system's roots.
const PEM_BYTES_MAX: u64 = 16 << 20;

/// `line` is the variant's, for what no single value is to blame for.
pub(super) fn reach(
    findings: &mut Findings,
    at: &str,
    line: u64,
    file: Option<EndpointTlsFile>,
    endpoints: &[(EndpointSpec, u64)],
    base: &Path,
) -> Reach {
    let secured = endpoints.iter().find(|(spec, _)| spec.url.is_tls());
    let Some(file) = file else {
        // Made now, so that the first endpoint need not wait for it.
        if let Some((spec, line)) = secured
            && let Err(error) = EndpointTls::usual()
        {
            findings.wrong_at(at, Some(&spec.url.to_string()), *line, told(&error));
        }
        return Reach::default();
    };
    let at = below(at, "tls");
    let problems_before = findings.problems.len();
    let options = options(findings, &at, &file, base);
    if findings.problems.len() > problems_before {
        return Reach::default();
    }
    match EndpointTls::new(&options) {
        Ok(tls) => Reach { tls: Some(Arc::new(tls)), ..Reach::default() },
        Err(error) => {
            blame(findings, &at, line, &file, &error);
            Reach::default()
        }
    }
}

fn options(findings: &mut Findings, at: &str, file: &EndpointTlsFile, base: &Path) -> TlsOptions {
    let mut read = |key: &str, written: Option<&Written<_>>, is_secret| {
        let written = written?;
        let place = below(at, key);
        let path: std::path::PathBuf = findings.read(&place, written)?;
        let path = base.join(path);
        let (bytes, mode) = read_file(findings, &place, written, &path, PEM_BYTES_MAX)?;
        if is_secret {
            doubt_public(findings, &place, written, &path, mode);
        }
        Some(bytes)
    };
    let ca = read("ca", file.ca.as_ref(), false);
    let (cert, key) = (read("cert", file.cert.as_ref(), false), read("key", file.key.as_ref(), true));
    match (&file.cert, &file.key) {
        (Some(cert), None) => {
            findings.wrong(&below(at, "cert"), cert, "a certificate needs its key; add key: FILE");
        }
        (None, Some(key)) => {
            findings.wrong(&below(at, "key"), key, "a key needs its certificate; add cert: FILE");
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    let verify = findings.read_or(at, "verify", file.verify.as_ref(), true);
    if let Some(written) = file.verify.as_ref().filter(|_| !verify) {
        let why = "endpoints are not verified: whoever gets in between can read and change every request and \
                   answer; for a private certificate name its ca instead";
        findings.doubt(&below(at, "verify"), written, why);
        if let Some(ca) = &file.ca {
            findings.doubt(&below(at, "ca"), ca, format!("counts for nothing with verify: {}", written.text));
        }
    }
    let server_name =
        file.server_name.as_ref().and_then(|name| findings.read(&below(at, "server_name"), name));
    TlsOptions { ca, server_name, identity: cert.zip(key), verify }
}

fn blame(findings: &mut Findings, at: &str, line: u64, file: &EndpointTlsFile, error: &TlsError) {
    let (key, written) = match error {
        TlsError::EmptyCa | TlsError::Ca { .. } => ("ca", file.ca.as_ref()),
        TlsError::NoCertificate | TlsError::Identity(_) => ("cert", file.cert.as_ref()),
        TlsError::NoKey => ("key", file.key.as_ref()),
        TlsError::ServerName => {
            if let Some(name) = &file.server_name {
                findings.wrong(&below(at, "server_name"), name, told(error));
                return;
            }
            ("server_name", None)
        }
        TlsError::NoRoots | TlsError::Setup(_) => ("ca", None),
    };
    match written {
        Some(written) => findings.wrong(&below(at, key), written, told(error)),
        None => findings.wrong_at(at, None, line, told(error)),
    }
}

fn told(error: &TlsError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
