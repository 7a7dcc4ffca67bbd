//! Where clients connect, and how they are served there.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;

use super::Overrides;
use super::file::{CertificateFile, ListenFile, ListenLong, TlsFile};
use super::problem::{Findings, below};
use super::process::flag;
use super::scalar::{ClientAuthMode, ListenAddress};
use super::written::{Never, Short, Written};
use crate::clock::{self, Timestamp};
use crate::proxy::{
    Authorities, Certificate, CertificateFiles, ClientAuth, ListenerSettings, TlsSettings, TlsVersion,
};

const LISTEN: &str = ":8080";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Certificates that are over so soon should have been renewed.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
/// What the browsers' common list asks for (<https://hstspreload.org>).
const PRELOAD_AGE_MIN: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) fn listen(
    findings: &mut Findings,
    file: Option<Short<ListenAddress, ListenFile, Never>>,
    base: &Path,
    flags: &Overrides,
) -> (Vec<SocketAddr>, Vec<ListenerSettings>) {
    let configured = listen_in_file(findings, file, base);
    if flags.listen.is_empty() {
        return configured.into_iter().unzip();
    }
    let mut addresses = Vec::new();
    for text in &flags.listen {
        let Some(ListenAddress(address)) = flag(findings, "--listen", text) else { continue };
        if addresses.iter().any(|other| collide(*other, address)) {
            findings.wrong_flag("--listen", text, "is listened on already; leave it out");
        }
        addresses.push(address);
    }
    let listeners = vec![ListenerSettings::plain(); addresses.len()];
    (addresses, listeners)
}

fn listen_in_file(
    findings: &mut Findings,
    file: Option<Short<ListenAddress, ListenFile, Never>>,
    base: &Path,
) -> Vec<(SocketAddr, ListenerSettings)> {
    let listeners = match file {
        None => vec![("listen".to_owned(), Short::One(Written::new(LISTEN.to_owned(), 0)))],
        Some(Short::One(address)) => vec![("listen".to_owned(), Short::One(address))],
        Some(Short::List(listeners, line)) => {
            if listeners.is_empty() {
                let why = "there is no address to listen on; add one or remove listen";
                findings.wrong_at("listen", Some("[]"), line, why);
            }
            let named = |(at, listener)| (format!("listen[{at}]"), listener);
            listeners.into_iter().enumerate().map(named).collect()
        }
        Some(Short::Mapping(never, _)) => match never {},
    };
    let mut seen: Vec<(SocketAddr, u64)> = Vec::new();
    let mut found = Vec::new();
    for (place, listener) in listeners {
        let (place, written, settings) = match listener {
            Short::One(written) => (place, written, ListenerSettings::plain()),
            Short::Mapping(long, _) => {
                let settings = settings(findings, &place, &long, base);
                (below(&place, "address"), long.address, settings)
            }
            Short::List(_, line) => {
                findings.wrong_at(&place, Some("[]"), line, "a single address is expected here");
                continue;
            }
        };
        let Some(ListenAddress(address)) = findings.read(&place, &written) else { continue };
        if let Some((other, line)) = seen.iter().find(|(other, _)| collide(*other, address)) {
            findings.wrong(
                &place,
                &written,
                format!("is listened on already (line {line}, {other}); leave one out"),
            );
        }
        seen.push((address, written.line));
        found.push((address, settings));
    }
    found
}

/// How a listener's clients are served.
fn settings(findings: &mut Findings, place: &str, file: &ListenLong, base: &Path) -> ListenerSettings {
    let tls = file.tls.as_ref().and_then(|tls| tls_settings(findings, &below(place, "tls"), tls, base));
    let redirect = file.redirect_https.as_ref().and_then(|written| {
        let at = below(place, "redirect_https");
        let port = findings.read(&at, written)?.0;
        if port.is_some() && file.tls.is_some() {
            findings.wrong(
                &at,
                written,
                "this listener speaks https already; put it on the one that does not",
            );
        }
        port
    });
    ListenerSettings {
        tls: tls.map(Arc::new),
        proxy_protocol: proxy_protocol(findings, &below(place, "proxy_protocol"), file),
        redirect_https: redirect,
        hsts: hsts(findings, &below(place, "hsts"), file),
    }
}

fn tls_settings(
    findings: &mut Findings,
    place: &str,
    file: &Short<Never, CertificateFile, TlsFile>,
    base: &Path,
) -> Option<TlsSettings> {
    let (place, certificates, long) = match file {
        Short::One(written) => {
            findings.wrong(place, written, "write a list of certificates: [{cert: FILE, key: FILE}]");
            return None;
        }
        Short::List(certificates, _) => (place.to_owned(), certificates.as_slice(), None),
        Short::Mapping(long, _) => {
            let certificates = match &long.certificates {
                Some(Short::List(certificates, _)) => certificates.as_slice(),
                _ => &[],
            };
            (below(place, "certificates"), certificates, Some(long))
        }
    };
    if certificates.is_empty() {
        let why = "there is no certificate to show; add [{cert: FILE, key: FILE}], or remove tls";
        findings.wrong_at(&place, None, file.line(), why);
    }
    let now = clock::wall();
    let read: Vec<_> = certificates
        .iter()
        .enumerate()
        .filter_map(|(at, file)| certificate(findings, &format!("{place}[{at}]"), file, at == 0, base, now))
        .collect();
    let min_version = long.and_then(|long| long.min_version.as_ref());
    let settings = TlsSettings {
        min_version: findings.read_or(&place, "min_version", min_version, TlsVersion::default()),
        client_auth: long.and_then(|long| client_auth(findings, &place, long, base)),
        certificates: read,
    };
    if settings.certificates.len() < certificates.len() || certificates.is_empty() {
        return None;
    }
    if let Err(error) = settings.check() {
        findings.wrong_at(&place, None, file.line(), chain(&error));
    }
    Some(settings)
}

fn certificate(
    findings: &mut Findings,
    place: &str,
    file: &CertificateFile,
    is_first: bool,
    base: &Path,
    now: Timestamp,
) -> Option<Certificate> {
    let (cert_at, key_at) = (below(place, "cert"), below(place, "key"));
    let (cert, key) = (findings.read(&cert_at, &file.cert), findings.read(&key_at, &file.key));
    let files = CertificateFiles { cert: base.join(cert?), key: base.join(key?) };
    let certificate = match Certificate::load(files, now) {
        Ok(certificate) => certificate,
        Err(error) => {
            let is_about_key = error.path().is_some_and(|path| path.ends_with(&file.key.text));
            let (at, written) = if is_about_key { (key_at, &file.key) } else { (cert_at, &file.cert) };
            findings.wrong(&at, written, chain(&error));
            return None;
        }
    };
    let (from, until) = (certificate.not_before(), certificate.not_after());
    if now < from {
        findings.doubt(
            &cert_at,
            &file.cert,
            format!("is valid only from {from} on; clients refuse it until then"),
        );
    }
    if until.since(now) < SOON {
        let days = until.since(now).as_secs() / DAY.as_secs();
        findings.doubt(&cert_at, &file.cert, format!("expires in {days} days, at {until}; renew it"));
    }
    if certificate.names().is_empty() && !is_first {
        let why = "is for no host by name (no DNS name among its subject alternative names), so nobody gets it; put it \
                   first, where it is for all that no other is for";
        findings.doubt(&cert_at, &file.cert, why);
    }
    if certificate.is_key_open() {
        findings.doubt(&key_at, &file.key, "every user of this machine may read it; chmod o= it");
    }
    Some(certificate)
}

fn client_auth(findings: &mut Findings, place: &str, file: &TlsFile, base: &Path) -> Option<ClientAuth> {
    let place = place.trim_end_matches(".certificates");
    let mode = file
        .client_auth
        .as_ref()
        .map(|written| (written, findings.read(&below(place, "client_auth"), written)));
    let Some(written) = &file.client_ca else {
        if let Some((mode, _)) = mode {
            let why = "nobody's certificate would be believed; add client_ca: FILE";
            findings.wrong(&below(place, "client_auth"), mode, why);
        }
        return None;
    };
    let at = below(place, "client_ca");
    let path = findings.read(&at, written)?;
    let authorities = Authorities::load(base.join(path))
        .map_err(|error| findings.wrong(&at, written, chain(&error)))
        .ok()?;
    let mode = mode.and_then(|(_, mode)| mode).unwrap_or(ClientAuthMode::Required);
    Some(ClientAuth { authorities, is_required: mode == ClientAuthMode::Required })
}

fn proxy_protocol(findings: &mut Findings, place: &str, file: &ListenLong) -> Vec<IpNet> {
    let Some(proxies) = &file.proxy_protocol else { return Vec::new() };
    let place = below(place, "from");
    let items = match &proxies.from {
        Some(Short::One(item)) => std::slice::from_ref(item),
        Some(Short::List(items, _)) => items.as_slice(),
        Some(Short::Mapping(never, _)) => match *never {},
        None => &[],
    };
    if items.is_empty() {
        let line = file.address.line;
        findings.wrong_at(
            &place,
            None,
            line,
            "nobody may send the header; add their networks, or remove proxy_protocol",
        );
    }
    let mut from = Vec::new();
    for (at, written) in items.iter().enumerate() {
        let place = format!("{place}[{at}]");
        let Some(net) = findings.read::<IpNet>(&place, written) else { continue };
        if net.prefix_len() == 0 {
            findings.doubt(&place, written, "everybody may now say whatever address they come from");
        }
        from.push(net);
    }
    from
}

/// RFC 6797 §6.1.
fn hsts(findings: &mut Findings, place: &str, file: &ListenLong) -> Option<HeaderValue> {
    let (at, max_age, long) = match file.hsts.as_ref()? {
        Short::One(written) => (place.to_owned(), written, None),
        Short::Mapping(long, _) => (below(place, "max_age"), &long.max_age, Some(long)),
        Short::List(_, line) => {
            findings.wrong_at(place, Some("[]"), *line, "write a time such as 365d");
            return None;
        }
    };
    if file.tls.is_none() {
        let why = "browsers believe it only over https (RFC 6797 §7.2); put it on the listener with tls";
        findings.wrong(&at, max_age, why);
    }
    let age = findings.read(&at, max_age)?.0;
    let mut is = |key: &str, written: Option<&Written<bool>>| findings.read_or(place, key, written, false);
    let subdomains = is("include_subdomains", long.and_then(|long| long.include_subdomains.as_ref()));
    let preload = is("preload", long.and_then(|long| long.preload.as_ref()));
    if let Some(written) = long.and_then(|long| long.preload.as_ref()).filter(|_| preload)
        && (!subdomains || age < PRELOAD_AGE_MIN)
    {
        let why = "browsers take it only with include_subdomains: true and a max_age of 365d or more";
        findings.wrong(&below(place, "preload"), written, why);
    }
    let (subdomains, preload) =
        (if subdomains { "; includeSubDomains" } else { "" }, if preload { "; preload" } else { "" });
    HeaderValue::try_from(format!("max-age={}{subdomains}{preload}", age.as_secs())).ok()
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Whether two listeners would fight for a port. Port 0 is a new port each time.
pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let (ours, theirs) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() != 0 && a.port() == b.port() && (covers(ours, theirs) || covers(theirs, ours))
}

/// `[::]` takes IPv4 connections as well.
fn covers(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_unspecified() && (a.is_ipv6() || b.is_ipv4())
}
