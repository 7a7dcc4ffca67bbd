//! One call to the outside: a POST, a GET or a program, with a deadline and a bound on what comes back.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::settings::{Call, Source, Token};
use super::signature::{SIGNATURE, TIMESTAMP, sign};
use crate::clock;
use crate::outbound::{Address, HttpError, Outbound, authorize, prometheus, within};

/// How much of an answer to a POST is read; its status is what counts.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How much of what a program says about its failure is kept.
const COMPLAINT_BYTES_MAX: usize = 512;
/// How long what a program has said is waited for once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Why a call came to nothing.
#[derive(Debug, Error)]
pub enum CallError {
    /// It does not come to an answer over HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Too slow: the program, or all attempts together.
    #[error("{who}: no answer within {} s", .after.as_secs_f64())]
    Timeout {
        /// The program, or the channel.
        who: String,
        /// The deadline.
        after: Duration,
    },
    /// An answer that is no yes.
    #[error("{host} answered {status}{}", if .status.is_redirection() { "; redirects are not followed: name the final address" } else { "" })]
    Status {
        /// Scheme and host.
        host: String,
        /// The answer.
        status: StatusCode,
    },
    /// The program does not start.
    #[error("run {program}")]
    Start {
        /// Its path.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program says no.
    #[error("{program} ended with {status}{}", if .said.is_empty() { String::new() } else { format!(": {}", .said) })]
    Exit {
        /// Its path.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said on its standard error, shortened.
        said: String,
    },
    /// What should be called is not configured any more.
    #[error("it is not configured any more")]
    Gone,
}

impl CallError {
    /// Whether the same call can only end the same way again: what the caller has to change. Two of the 4xx
    /// (RFC 9110 §15.5.9, RFC 6585 §4) ask for another try.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                let again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
                (status.is_client_error() && !again.contains(status)) || status.is_redirection()
            }
            Self::Http(HttpError::Address(_) | HttpError::Token) | Self::Gone => true,
            Self::Http(
                HttpError::Unreachable { .. } | HttpError::Timeout { .. } | HttpError::NoRoots { .. },
            )
            | Self::Timeout { .. }
            | Self::Start { .. }
            | Self::Exit { .. } => false,
        }
    }

    /// Whether somebody did answer, and it was a no.
    pub const fn is_answer(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::Exit { .. })
    }
}

/// Makes calls. Cheap to clone; connections are shared.
#[derive(Clone)]
pub struct Caller(Outbound);

impl Caller {
    /// Trusts what the system trusts.
    pub fn new() -> Self {
        Self(Outbound::new())
    }

    /// Calls with a JSON body; a 2xx or exit code 0 is a yes.
    pub async fn call(&self, call: &Call, body: Bytes) -> Result<(), CallError> {
        match call {
            Call::Webhook { url, secret, timeout } => self.post(url, secret.as_ref(), *timeout, body).await,
            Call::Command { argv, timeout } => run(argv, *timeout, &body).await,
        }
    }

    /// Asks a source. Any status: those of errors have a body that says why.
    pub async fn ask(&self, source: &Source, query: &str) -> Result<(StatusCode, Bytes), HttpError> {
        let address = prometheus::address(&source.url, query)?;
        let mut request = Request::new(Full::default());
        if let Some(token) = &source.token {
            authorize(&mut request, token.reveal())?;
        }
        let answer = self.0.exchange(&address, request, prometheus::ANSWER_BYTES_MAX);
        let answer = within(source.timeout, &address, answer).await?;
        Ok((answer.status(), answer.into_body()))
    }

    async fn post(
        &self,
        url: &str,
        secret: Option<&Token>,
        timeout: Duration,
        body: Bytes,
    ) -> Result<(), CallError> {
        let address = Address::parse(url)?;
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(secret) = secret {
            let now = clock::wall();
            headers.insert(HeaderName::from_static(TIMESTAMP), HeaderValue::from(now.as_secs()));
            if let Ok(signature) = HeaderValue::from_str(&sign(secret, now, &body)) {
                headers.insert(HeaderName::from_static(SIGNATURE), signature);
            }
        }
        let answer = async {
            let answer = self.0.send(&address, request).await?;
            let status = answer.status();
            // Read to its end, so that the connection serves the next call; a long answer costs only that.
            let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let host = || address.host.clone();
            if status.is_success() { Ok(()) } else { Err(CallError::Status { host: host(), status }) }
        };
        within(timeout, &address, answer).await
    }
}

/// Runs a program: `body` on its standard input, no environment but `PATH`, a process group of its own.
async fn run(argv: &[Arc<str>], timeout: Duration, body: &[u8]) -> Result<(), CallError> {
    let Some((program, arguments)) = argv.split_first() else { return Err(CallError::Gone) };
    let mut command = Command::new(&**program);
    command
        .args(arguments.iter().map(|argument| &**argument))
        .env_clear()
        .process_group(0)
        .kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    let start = |source| CallError::Start { program: program.to_string(), source };
    let mut child = command.spawn().map_err(start)?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());

    let mut said = Vec::new();
    let talk = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read what it is told is free not to.
                let _ = stdin.write_all(body).await;
            }
        };
        let read = async {
            if let Some(stderr) = stderr {
                let mut stderr = stderr.take(COMPLAINT_BYTES_MAX as u64);
                let _ = stderr.read_to_end(&mut said).await;
                let _ = tokio::io::copy(&mut stderr.into_inner(), &mut tokio::io::sink()).await;
            }
        };
        tokio::join!(write, read);
    };
    let ended = async {
        let mut talk = std::pin::pin!(talk);
        tokio::select! {
            ended = child.wait() => {
                // What it left running may hold its standard error open for long.
                let _ = tokio::time::timeout(LAST_WORDS, talk).await;
                ended
            }
            () = talk.as_mut() => child.wait().await,
        }
    };
    let ended = tokio::time::timeout(timeout, ended).await;
    match ended {
        Ok(Ok(status)) => {
            group.has_ended();
            if status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&said);
            let said = said.trim().replace(char::is_control, " ");
            Err(CallError::Exit { program: program.to_string(), status, said })
        }
        Ok(Err(source)) => Err(start(source)),
        Err(_) => {
            drop(group);
            // It is dead; this takes it out of the table of processes.
            let _ = tokio::time::timeout(LAST_WORDS, child.wait()).await;
            Err(CallError::Timeout { who: program.to_string(), after: timeout })
        }
    }
}

/// A program and all that it has started. They end with this, unless the program ended by itself.
struct Group(Option<Pid>);

impl Group {
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // One that has just ended is no longer there to be killed.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
