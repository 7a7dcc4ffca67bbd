//! From the file to what the process as a whole needs: listeners, sockets, deadlines.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{
    AccessLogFile, ClientLimitsFile, ClientTimeoutsFile, ConfigFile, CookieFile, TrustedProxiesFile,
};
use super::listen::{collide, listen};
use super::problem::{Findings, below};
use super::scalar::{Bytes, Count, LogMode, Scalar, TelemetryAddress};
use super::secret::read_secret;
use super::units::{show_bytes, show_duration};
use super::written::{Short, Written};
use super::{AdminSettings, CookieSettings, Overrides, TelemetrySettings};
use crate::proxy::{
    ClientLimits, ClientTimeouts, ForwardedHeader, Grace, LiveSettings, ProxySettings, TrustedProxies,
};
use crate::telemetry::{AccessLogSettings, AccessLogTarget, AccessLogWrite};
use crate::traffic::{Key, Keys, Weight};

const STATE: &str = "/var/lib/tidegate";
/// Below a user's home, by the XDG Base Directory Specification.
const STATE_AT_HOME: &str = ".local/state";
const DRAIN: Duration = Duration::from_secs(30);
const HANDOVER: Duration = Duration::from_secs(12 * 3600);
/// A week: whoever upgrades daily has no more than seven old processes.
const HANDOVER_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const SAMPLED: Option<Weight> = Weight::from_percent(1);
const THREADS_MAX: usize = 1024;
/// Below this, requests that browsers send every day would be refused.
const HEAD_BYTES: RangeInclusive<u64> = 8 << 10..=16 << 20;
/// The longest path and query that the `http` crate takes.
const URI_BYTES: RangeInclusive<u64> = 256..=65_534;
/// The most fields that an `http::HeaderMap` holds.
const FIELDS_MAX: u32 = 32_768;
/// Each may keep a request and a part of its body in memory.
const H2_STREAMS_MAX: u32 = 10_000;
const COOKIE_KEY_BYTES_MIN: usize = 32;

pub(super) fn proxy(
    findings: &mut Findings,
    file: &mut ConfigFile,
    base: &Path,
    flags: &Overrides,
) -> ProxySettings {
    let timeouts = file.timeouts.take().unwrap_or_default();
    let (listen, listeners) = listen(findings, file.listen.take(), base, flags);
    ProxySettings {
        listen,
        threads: threads(findings, file.threads.as_ref(), flags),
        drain: findings.read_or("timeouts", "drain", timeouts.drain.as_ref(), DRAIN),
        handover: handover(findings, timeouts.handover.as_ref()),
        live: LiveSettings {
            trusted_proxies: trusted_proxies(findings, file.trusted_proxies.take()),
            grace: Grace(findings.read_or("timeouts", "grace", timeouts.grace.as_ref(), Grace::default().0)),
            timeouts: client_timeouts(findings, &timeouts),
            limits: client_limits(findings, &file.limits.take().unwrap_or_default()),
            listeners,
        },
    }
}

pub(super) fn state(findings: &mut Findings, file: &ConfigFile, base: &Path, flags: &Overrides) -> PathBuf {
    let configured = base.join(findings.read_or("", "state", file.state.as_ref(), default_state()));
    flags.state.clone().unwrap_or(configured)
}

/// `/var/lib/tidegate` for root; for others `$XDG_STATE_HOME/tidegate` or `~/.local/state/tidegate`.
fn default_state() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return STATE.into();
    }
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("XDG_STATE_HOME")
        .or_else(|| Some(folder("HOME")?.join(STATE_AT_HOME)))
        .map_or_else(|| STATE.into(), |home| home.join("tidegate"))
}

pub(super) fn admin(
    findings: &mut Findings,
    file: &ConfigFile,
    base: &Path,
    flags: &Overrides,
) -> AdminSettings {
    let mut settings = AdminSettings::default();
    if let Some(admin) = &file.admin {
        settings.socket =
            base.join(findings.read_or("admin", "socket", admin.socket.as_ref(), settings.socket));
        settings.group = admin.group.as_ref().and_then(|group| findings.read("admin.group", group));
    }
    if let Some(socket) = &flags.socket {
        settings.socket.clone_from(socket);
    }
    if flags.group.is_some() {
        settings.group.clone_from(&flags.group);
    }
    settings
}

pub(super) fn telemetry(
    findings: &mut Findings,
    file: &ConfigFile,
    base: &Path,
    flags: &Overrides,
    listen: &[SocketAddr],
) -> TelemetrySettings {
    let default = TelemetrySettings::default();
    let written = file.telemetry.as_ref();
    let configured = findings.read_or("", "telemetry", written, TelemetryAddress(default.address)).0;
    let address = match &flags.telemetry {
        Some(text) => flag(findings, "--telemetry", text).map_or(configured, |TelemetryAddress(addr)| addr),
        None => configured,
    };
    if let Some(taken) = address.filter(|address| listen.iter().any(|other| collide(*other, *address))) {
        let why = format!("clients connect to {taken}; telemetry needs an address of its own");
        match (&flags.telemetry, written) {
            (Some(text), _) => findings.wrong_flag("--telemetry", text, why),
            (None, Some(written)) => findings.wrong("telemetry", written, why),
            (None, None) => findings.wrong_flag("telemetry", &taken.to_string(), why),
        }
    }
    TelemetrySettings { address, access_log: access_log(findings, file.access_log.as_ref(), base, flags) }
}

pub(super) fn cookie(findings: &mut Findings, file: Option<CookieFile>, base: &Path) -> CookieSettings {
    let sources = file.and_then(|file| file.keys).map(Short::into_items).unwrap_or_default();
    let mut keys = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        let place = format!("cookie.keys[{at}]");
        let Some(secret) = read_secret(findings, &place, source, base, COOKIE_KEY_BYTES_MIN) else {
            continue;
        };
        match Key::new(&secret) {
            Ok(key) => keys.push(key),
            Err(error) => findings.wrong(&place, source, error.to_string()),
        }
    }
    let mut keys = keys.into_iter();
    CookieSettings { keys: keys.next().map(|signing| Keys::new(signing, keys.collect())) }
}

pub(super) fn flag<T: Scalar>(findings: &mut Findings, name: &str, text: &str) -> Option<T> {
    T::read(text).map_err(|why| findings.wrong_flag(name, text, why)).ok()
}

fn threads(findings: &mut Findings, file: Option<&Written<Count>>, flags: &Overrides) -> NonZeroUsize {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let too_many =
        format!("more than {THREADS_MAX} threads only get in each other's way; one per core is best");
    let mut threads = cores;
    if let Some(written) = file
        && let Some(Count(count)) = findings.read("threads", written)
    {
        let count = NonZeroUsize::new(count as usize).unwrap_or(cores);
        if count.get() > THREADS_MAX {
            findings.wrong("threads", written, &*too_many);
        }
        threads = count;
    }
    if let Some(count) = flags.threads {
        if count.get() > THREADS_MAX {
            findings.wrong_flag("--threads", &count.to_string(), too_many);
        }
        threads = count;
    }
    threads
}

fn trusted_proxies(findings: &mut Findings, file: Option<TrustedProxiesFile>) -> TrustedProxies {
    let Some(file) = file else { return TrustedProxies::default() };
    let mut trusted = TrustedProxies::default();
    for (at, written) in file.from.map(Short::into_items).unwrap_or_default().iter().enumerate() {
        let place = format!("trusted_proxies.from[{at}]");
        let Some(net) = findings.read::<ipnet::IpNet>(&place, written) else { continue };
        if net.prefix_len() == 0 {
            findings.doubt(&place, written, "everybody may now say whatever address they come from");
        }
        trusted.from.push(net);
    }
    if let Some(header) = &file.header {
        trusted.header = findings.read("trusted_proxies.header", header).unwrap_or_default();
        if trusted.from.is_empty() && trusted.header != ForwardedHeader::default() {
            findings.doubt("trusted_proxies.header", header, "is believed from nobody; add from: [NETWORK]");
        }
    }
    trusted
}

fn client_timeouts(findings: &mut Findings, file: &ClientTimeoutsFile) -> ClientTimeouts {
    let default = ClientTimeouts::default();
    let mut read = |key, written: &Option<Written<Duration>>, default| {
        some_time(findings, "timeouts", key, written.as_ref(), default)
    };
    ClientTimeouts {
        handshake: read("handshake", &file.handshake, default.handshake),
        head: read("head", &file.head, default.head),
        keep_alive_idle: read("keep_alive_idle", &file.keep_alive_idle, default.keep_alive_idle),
    }
}

fn handover(findings: &mut Findings, written: Option<&Written<Duration>>) -> Duration {
    let time = findings.read_or("timeouts", "handover", written, HANDOVER);
    if let Some(written) = written.filter(|_| time > HANDOVER_MAX) {
        let most = show_duration(HANDOVER_MAX);
        findings.wrong(
            "timeouts.handover",
            written,
            format!("an old process must go at last; {most} at most"),
        );
    }
    time
}

/// A time that must be more than none.
pub(super) fn some_time(
    findings: &mut Findings,
    section: &str,
    key: &str,
    written: Option<&Written<Duration>>,
    default: Duration,
) -> Duration {
    let time = findings.read_or(section, key, written, default);
    if let Some(written) = written.filter(|_| time.is_zero()) {
        let why =
            format!("no time at all; write at least 1ms, or leave it out for {}", show_duration(default));
        findings.wrong(&below(section, key), written, why);
    }
    time
}

fn client_limits(findings: &mut Findings, file: &ClientLimitsFile) -> ClientLimits {
    let default = ClientLimits::default();
    let head = bounded(findings, "head", file.head.as_ref(), default.head_bytes_max as u64, HEAD_BYTES);
    let uri = bounded(findings, "uri", file.uri.as_ref(), default.uri_bytes_max as u64, URI_BYTES);
    if let Some((key, written)) =
        file.uri.as_ref().map(|uri| ("uri", uri)).or(file.head.as_ref().map(|head| ("head", head)))
        && uri > head
    {
        let why = format!(
            "a request's head ({} at most) holds its path and query ({} at most); raise head or lower uri",
            show_bytes(head),
            show_bytes(uri)
        );
        findings.wrong(&below("limits", key), written, why);
    }
    let fields =
        findings.read_or("limits", "fields", file.fields.as_ref(), Count(default.fields_max as u32)).0;
    if let Some(written) = file.fields.as_ref().filter(|_| fields > FIELDS_MAX) {
        findings.wrong("limits.fields", written, format!("no request is read with more than {FIELDS_MAX}"));
    }
    let streams = Count(default.h2_streams_max);
    let h2_streams = findings.read_or("limits", "h2_streams", file.h2_streams.as_ref(), streams).0;
    if let Some(written) = file.h2_streams.as_ref().filter(|_| h2_streams > H2_STREAMS_MAX) {
        let why = format!("more than {H2_STREAMS_MAX} are a flood; clients open another connection");
        findings.wrong("limits.h2_streams", written, why);
    }
    let count = |findings: &mut Findings, key: &str, written: &Option<Written<Count>>| {
        let Count(count) = findings.read(&below("limits", key), written.as_ref()?)?;
        Some(count)
    };
    let connections_max = count(findings, "connections", &file.connections);
    let connections_per_address_max =
        count(findings, "connections_per_address", &file.connections_per_address);
    if let (Some(all), Some(each), Some(written)) =
        (connections_max, connections_per_address_max, &file.connections_per_address)
        && each > all
    {
        let why =
            format!("one address cannot have more than all together ({all}); lower it, or leave it out");
        findings.wrong("limits.connections_per_address", written, why);
    }
    ClientLimits {
        head_bytes_max: usize::try_from(head).unwrap_or(usize::MAX),
        fields_max: fields as usize,
        uri_bytes_max: usize::try_from(uri).unwrap_or(usize::MAX),
        h2_streams_max: h2_streams,
        connections_max,
        connections_per_address_max,
        requests_per_connection_max: count(
            findings,
            "requests_per_connection",
            &file.requests_per_connection,
        ),
        requests_max: count(findings, "requests", &file.requests),
    }
}

fn bounded(
    findings: &mut Findings,
    key: &str,
    written: Option<&Written<Bytes>>,
    default: u64,
    range: RangeInclusive<u64>,
) -> u64 {
    let Bytes(bytes) = findings.read_or("limits", key, written, Bytes(default));
    match written {
        Some(written) if !range.contains(&bytes) => {
            let (least, most) = (show_bytes(*range.start()), show_bytes(*range.end()));
            findings.wrong(&below("limits", key), written, format!("must be {least} to {most}"));
            default
        }
        _ => bytes,
    }
}

fn access_log(
    findings: &mut Findings,
    file: Option<&AccessLogFile>,
    base: &Path,
    flags: &Overrides,
) -> AccessLogSettings {
    let none = AccessLogFile::default();
    let file = file.unwrap_or(&none);
    let configured = findings.read_or("access_log", "write", file.write.as_ref(), LogMode::Off);
    let share = findings.read_or("access_log", "share", file.share.as_ref(), SAMPLED.unwrap_or_default());
    if let Some(written) =
        file.share.as_ref().filter(|_| configured != LogMode::Sampled && Some(share) != SAMPLED)
    {
        findings.doubt("access_log.share", written, "counts only with write: sampled");
    }
    let mode = match &flags.access_log {
        Some(text) => flag(findings, "--access-log", text).unwrap_or(configured),
        None => configured,
    };
    let path = file.file.as_ref().and_then(|written| findings.read("access_log.file", written));
    AccessLogSettings {
        write: match mode {
            LogMode::Off => AccessLogWrite::Off,
            LogMode::Sampled => AccessLogWrite::Sampled { share },
            LogMode::All => AccessLogWrite::All,
        },
        target: path.map_or(AccessLogTarget::Stdout, |path: PathBuf| AccessLogTarget::File(base.join(path))),
        query: findings.read_or("access_log", "query", file.query.as_ref(), false),
    }
}
