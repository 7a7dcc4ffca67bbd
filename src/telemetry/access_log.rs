//! One line of JSON per request, without making any request wait.
//!
//! A worker formats its line and offers it to a bounded channel; a thread of its own writes. When the
//! channel is full, because the disk or the reader of standard output is slow, the line is dropped
//! and counted. Sampling keeps every failure: a log that misses the errors is not worth its disk.
//!
//! Query strings carry tokens and names of people, so they stay out unless asked for.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use thiserror::Error;

use crate::clock::Timestamp;
use crate::traffic::{Bucket, Reason, Variant, Weight};

/// How many lines may wait to be written.
const LINES_MAX: usize = 8192;

/// What to log and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Which requests; none by default.
    pub write: AccessLogWrite,
    /// Where to; standard output by default.
    pub target: AccessLogTarget,
    /// Whether paths keep their query string; they do not by default.
    pub query: bool,
}

/// Which requests are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogWrite {
    /// None.
    #[default]
    Off,
    /// This share, and every failure.
    Sampled {
        /// The share of requests that did not fail.
        share: Weight,
    },
    /// All.
    All,
}

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Standard output.
    #[default]
    Stdout,
    /// This file, appended to; made if it is missing.
    File(PathBuf),
}

/// Why there is no access log.
#[derive(Debug, Error)]
pub enum AccessLogError {
    /// The file cannot be written.
    #[error("open the access log {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The writer's thread cannot be started.
    #[error("start the thread that writes the access log")]
    Thread(#[source] io::Error),
}

/// A request, as the log tells it. What is `None` is left out of its line.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the log's own field names, explained where they are not plain")]
pub struct AccessEntry<'a> {
    /// When the request arrived.
    pub time: Timestamp,
    pub request_id: &'a str,
    pub trace_id: Option<&'a str>,
    /// As a trusted proxy states it, or the peer.
    pub client_addr: IpAddr,
    pub method: &'a str,
    pub host: Option<&'a str>,
    /// Without the query.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    /// What the client got; `None` if it went away before.
    pub status: Option<u16>,
    /// Body bytes sent to the client.
    pub bytes: u64,
    /// Bytes that the client sent through a tunnel; `None` if there was none.
    pub bytes_received: Option<u64>,
    /// From arrival to the last byte sent.
    pub duration: Duration,
    /// From arrival to the first byte sent.
    pub ttfb: Option<Duration>,
    /// From the request head written to the response head received.
    pub upstream: Option<Duration>,
    pub service: Option<&'a str>,
    pub variant: Option<Variant>,
    /// The rule that chose the variant.
    pub reason: Option<Reason>,
    /// The table that the request was routed by.
    pub generation: Option<u64>,
    /// The address that answered.
    pub endpoint: Option<&'a str>,
    /// Attempts after the first one.
    pub retries: u32,
    /// What went wrong, in our words.
    pub error: Option<&'a str>,
}

/// The running access log: the writer's end.
#[derive(Debug)]
pub struct AccessLog {
    handle: AccessLogHandle,
    finished: Receiver<()>,
}

/// A worker's end; clones write to the same log.
#[derive(Clone, Debug)]
pub struct AccessLogHandle {
    write: AccessLogWrite,
    query: bool,
    lines: SyncSender<Message>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Message {
    Line(String),
    Close,
}

#[derive(Debug, Default)]
struct Shared {
    dropped: AtomicU64,
    closing: AtomicBool,
}

impl AccessLog {
    /// Opens the target and starts writing to it.
    pub fn open(settings: &AccessLogSettings) -> Result<Self, AccessLogError> {
        let sink: Box<dyn Write + Send> = match (&settings.write, &settings.target) {
            (AccessLogWrite::Off, _) => Box::new(io::sink()),
            (_, AccessLogTarget::Stdout) => Box::new(io::stdout()),
            (_, AccessLogTarget::File(path)) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                Box::new(file.map_err(|source| AccessLogError::Open { path: path.clone(), source })?)
            }
        };
        Self::start(settings, sink)
    }

    /// Starts writing to `sink`, whatever the target says.
    pub fn start(settings: &AccessLogSettings, sink: Box<dyn Write + Send>) -> Result<Self, AccessLogError> {
        let (lines, waiting) = mpsc::sync_channel(LINES_MAX);
        let (done, finished) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        if settings.write != AccessLogWrite::Off {
            let shared = shared.clone();
            let write = move || {
                write_lines(&waiting, BufWriter::new(sink), &shared);
                // What comes once the log is closed must find nobody, and be counted.
                drop(waiting);
                // Nobody waits for it when the log is dropped instead of closed.
                let _ = done.send(());
            };
            let thread = std::thread::Builder::new().name("access-log".into());
            thread.spawn(write).map_err(AccessLogError::Thread)?;
        }
        let handle = AccessLogHandle { write: settings.write, query: settings.query, lines, shared };
        Ok(Self { handle, finished })
    }

    /// An end for a worker.
    pub fn handle(&self) -> AccessLogHandle {
        self.handle.clone()
    }

    /// Lines that were not written, because too many waited or the target failed.
    pub fn dropped(&self) -> u64 {
        self.handle.dropped()
    }

    /// Writes what is waiting and ends, even while handles are left: what they offer later is dropped.
    /// `false` if the target took longer than `patience`.
    pub fn close(self, patience: Duration) -> bool {
        if self.handle.write == AccessLogWrite::Off {
            return true;
        }
        // With a full channel the writer is awake and looks at the flag when it has caught up.
        self.handle.shared.closing.store(true, Ordering::SeqCst);
        let _ = self.handle.lines.try_send(Message::Close);
        self.finished.recv_timeout(patience).is_ok()
    }
}

impl AccessLogHandle {
    /// Whether nothing is ever logged, so that an entry need not be put together.
    pub fn is_off(&self) -> bool {
        self.write == AccessLogWrite::Off
    }

    /// Logs a request, or not, as sampling says: failures always, others if the position drawn from
    /// 0..100 000 is inside the share. Never waits.
    pub fn record(&self, entry: &AccessEntry<'_>, draw: impl FnOnce() -> Bucket) {
        let wanted = match self.write {
            AccessLogWrite::Off => false,
            AccessLogWrite::All => true,
            AccessLogWrite::Sampled { share } => entry.is_failure() || draw().index() < share.millipercent(),
        };
        if wanted && self.lines.try_send(Message::Line(entry.line(self.query))).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were not written, because too many waited or the target failed.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

fn write_lines(waiting: &Receiver<Message>, mut out: impl Write, shared: &Shared) {
    // Lines handed to the buffer since it was last known to be written.
    let mut pending = 0;
    while let Ok(first) = waiting.recv() {
        let mut next = Some(first);
        let mut is_last = false;
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    pending += 1;
                    if out.write_all(line.as_bytes()).is_err() {
                        shared.dropped.fetch_add(pending, Ordering::Relaxed);
                        pending = 0;
                    }
                }
                Message::Close => {}
            }
            // Asked before it is looked for more: what came before the end is found then.
            is_last = shared.closing.load(Ordering::SeqCst);
            next = waiting.try_recv().ok();
        }
        if out.flush().is_err() {
            shared.dropped.fetch_add(pending, Ordering::Relaxed);
        }
        pending = 0;
        if is_last {
            return;
        }
    }
}

impl AccessEntry<'_> {
    /// Whether sampling must not leave it out.
    fn is_failure(&self) -> bool {
        self.error.is_some() || self.status.is_some_and(|status| status >= 500)
    }

    fn line(&self, query: bool) -> String {
        let mut line = Line::default();
        line.plain("time", Some(Quoted(self.time)));
        line.text("request_id", Some(self.request_id));
        line.text("trace_id", self.trace_id);
        line.plain("client_addr", Some(Quoted(self.client_addr)));
        line.text("method", Some(self.method));
        line.text("host", self.host);
        match self.query {
            Some(asked) if query => line.text("path", Some(&format!("{}?{asked}", self.path))),
            _ => line.text("path", Some(self.path)),
        }
        line.plain("status", self.status);
        line.plain("bytes", Some(self.bytes));
        line.plain("bytes_received", self.bytes_received);
        line.plain("duration_us", Some(self.duration.as_micros()));
        line.plain("ttfb_us", self.ttfb.map(|ttfb| ttfb.as_micros()));
        line.plain("upstream_us", self.upstream.map(|upstream| upstream.as_micros()));
        line.text("service", self.service);
        line.plain("variant", self.variant.map(Quoted));
        line.plain("reason", self.reason.map(Quoted));
        line.plain("generation", self.generation);
        line.text("endpoint", self.endpoint);
        line.plain("retries", Some(self.retries));
        line.text("error", self.error);
        line.finish()
    }
}

/// A JSON object in the making. Writing to a string cannot fail.
struct Line(String);

impl Default for Line {
    fn default() -> Self {
        Self(String::with_capacity(512))
    }
}

impl Line {
    /// A value that is JSON as it is displayed.
    fn plain(&mut self, key: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.key(key);
            let _ = write!(self.0, "{value}");
        }
    }

    /// A text that may come from a stranger.
    fn text(&mut self, key: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.key(key);
        self.0.push('"');
        let mut clean = 0;
        for (at, letter) in value.char_indices().filter(|(_, letter)| needs_escape(*letter)) {
            self.0.push_str(&value[clean..at]);
            let _ = match letter {
                '"' => self.0.write_str("\\\""),
                '\\' => self.0.write_str("\\\\"),
                _ => write!(self.0, "\\u{:04x}", u32::from(letter)),
            };
            clean = at + letter.len_utf8();
        }
        self.0.push_str(&value[clean..]);
        self.0.push('"');
    }

    fn key(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        let _ = write!(self.0, "\"{key}\":");
    }

    fn finish(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }
}

/// What JSON must escape (RFC 8259 §7), and what a terminal or a line reader may take for a command: C1
/// controls, delete, and Unicode's line and paragraph separators.
fn needs_escape(letter: char) -> bool {
    matches!(letter, '"' | '\\' | '\u{2028}' | '\u{2029}') || letter.is_control()
}

/// A value that needs quotes and no escapes.
struct Quoted<T>(T);

impl<T: fmt::Display> fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests;
