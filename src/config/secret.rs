//! Secrets are read once, when the configuration is; a reload reads them again.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::problem::Findings;
use super::scalar::{Scalar, SecretSource};
use super::units::show_bytes;
use super::written::Written;

const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The bytes of a secret without one final line break; noted as a problem if there are fewer than `min`.
pub(super) fn read_secret(
    findings: &mut Findings,
    place: &str,
    written: &Written<SecretSource>,
    base: &Path,
    min: usize,
) -> Option<Vec<u8>> {
    let source = match SecretSource::read(&written.text) {
        Ok(source) => source,
        // Most likely the secret itself, so it is not repeated.
        Err(why) => {
            findings.wrong_at(place, Some("(hidden)"), written.line, why);
            return None;
        }
    };
    let mut secret = match source {
        SecretSource::File(path) => from_file(findings, place, written, &base.join(path))?,
        SecretSource::Env(name) => match std::env::var_os(&name) {
            Some(value) => value.into_encoded_bytes(),
            None => {
                findings.wrong(place, written, format!("the environment has no {name}; set it"));
                return None;
            }
        },
    };
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    if secret.len() < min {
        let why = format!(
            "a secret of {} bytes can be guessed; it needs at least {min}, for instance from: openssl rand -hex 32",
            secret.len()
        );
        findings.wrong(place, written, why);
        return None;
    }
    Some(secret)
}

fn from_file(
    findings: &mut Findings,
    place: &str,
    written: &Written<SecretSource>,
    path: &Path,
) -> Option<Vec<u8>> {
    let (secret, mode) = read_file(findings, place, written, path, SECRET_BYTES_MAX)?;
    doubt_public(findings, place, written, path, mode);
    Some(secret)
}

/// Says so if a file that `mode` belongs to is no secret.
pub(super) fn doubt_public<T>(
    findings: &mut Findings,
    place: &str,
    written: &Written<T>,
    path: &Path,
    mode: u32,
) {
    if mode & 0o004 != 0 {
        let why = format!("every user of this machine can read it; chmod o-r {}", path.display());
        findings.doubt(place, written, why);
    }
}

/// A file's bytes and mode; why it cannot be read is noted as a problem.
pub(super) fn read_file<T>(
    findings: &mut Findings,
    place: &str,
    written: &Written<T>,
    path: &Path,
    bytes_max: u64,
) -> Option<(Vec<u8>, u32)> {
    let error = match read(path, bytes_max) {
        Ok(read) => return Some(read),
        Err(error) => error,
    };
    let path = path.display();
    let cure = match error.kind() {
        io::ErrorKind::NotFound => format!("{path} does not exist; create it or correct the path"),
        io::ErrorKind::PermissionDenied => {
            format!("{path} may not be read; give the user that runs tidegate the right to")
        }
        _ => format!("{path} cannot be read: {error}"),
    };
    findings.wrong(place, written, cure);
    None
}

fn read(path: &Path, bytes_max: u64) -> io::Result<(Vec<u8>, u32)> {
    // Opening a pipe would wait for whoever writes to it.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut secret = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut secret)?;
    if secret.len() as u64 > bytes_max {
        let why = format!("larger than {}", show_bytes(bytes_max));
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok((secret, metadata.mode()))
}
