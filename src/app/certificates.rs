//! Certificates on the disk, looked at again and again.
//!
//! Whoever renews them (certbot, a secret of an orchestrator, a person) only has to write the files. They are compared by
//! their metadata every few seconds, where nobody waits for it, because a disk may hang; and read when they have
//! changed and then stood still for one look, because a certificate and its key are not written at the same moment.

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use super::reloader::Reloader;
use crate::clock;
use crate::proxy::LiveSettings;
use crate::store::AuditEntry;
use crate::telemetry::{CertificateFacts, names};

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(2);

/// What a file is known by: its inode, size and time of change in nanoseconds; `None` while it cannot be looked at.
type Trace = Option<(u64, u64, i64, i64)>;

/// Looks after all files of TLS for ever.
pub(super) async fn watch(reloader: &Reloader) {
    let mut read = look(reloader).await;
    let mut last = read.clone();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = look(reloader).await;
        if now == last && now != read {
            read.clone_from(&now);
            reload(reloader).await;
        }
        last = now;
    }
}

/// What the metrics page says about the certificates in use.
pub(super) fn facts(live: &LiveSettings, addresses: &[std::net::SocketAddr]) -> Vec<CertificateFacts> {
    let mut facts = Vec::new();
    for (listener, address) in live.listeners.iter().zip(addresses) {
        let Some(tls) = &listener.tls else { continue };
        for certificate in &tls.certificates {
            let (name, expires) = (certificate.name(), certificate.not_after().as_secs());
            let listener = address.to_string();
            // One series each; of two certificates for one name the one that is over first counts.
            match facts
                .iter_mut()
                .find(|fact: &&mut CertificateFacts| fact.listener == listener && fact.name == name)
            {
                Some(known) => known.expires = known.expires.min(expires),
                None => facts.push(CertificateFacts { listener, name, expires }),
            }
        }
    }
    facts
}

/// On a thread of its own, so that a disk that hangs keeps nobody from ending.
async fn look(reloader: &Reloader) -> BTreeMap<PathBuf, Trace> {
    let live = reloader.live.load_full();
    tokio::task::spawn_blocking(move || traces(&live)).await.unwrap_or_default()
}

fn traces(live: &LiveSettings) -> BTreeMap<PathBuf, Trace> {
    let files =
        live.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| tls.files());
    files.map(|path| (path.to_owned(), trace(path))).collect()
}

fn trace(path: &std::path::Path) -> Trace {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

async fn reload(reloader: &Reloader) {
    let (changed, broken) = reloader.reload_certificates().await;
    let record = |to: Option<String>, reason: Option<String>| {
        reloader.control.record(AuditEntry {
            time: clock::wall(),
            what: "certificates".to_owned(),
            generation: reloader.control.generation(),
            actor: "tidegate".to_owned(),
            to,
            reason,
            ..AuditEntry::default()
        });
    };
    for change in changed {
        metrics::counter!(names::CERTIFICATE_RELOADS.name, "result" => "ok").increment(1);
        eprintln!("tidegate: new certificates on {change}");
        record(Some(change), None);
    }
    for error in broken {
        metrics::counter!(names::CERTIFICATE_RELOADS.name, "result" => "error").increment(1);
        let mut why = error.to_string();
        if let Some(cause) = error.source() {
            why.push_str(&format!(": {cause}"));
        }
        eprintln!("tidegate: certificates not reloaded, the old ones stay: {why}");
        record(None, Some(why));
    }
}
