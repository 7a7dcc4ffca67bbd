//! Active health checks: one task per address, however many services use it; and one per name, which is looked
//! up again whenever the last answer's time is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::commit::Control;
use super::live::CheckKey;
use crate::telemetry::names;
use crate::upstream::{Name, Protocol, Resolver, Stream, open};

/// The longest part of an answer that is looked at for its status line.
const ANSWER_BYTES_MAX: usize = 1024;

/// How many checks run at once: each takes a descriptor of those that are kept for more than checks.
const AT_ONCE_MAX: usize = 128;

/// How long after a look-up that failed the next one begins; twice as long after every further one, up to
/// [`LOOK_UP_PAUSE_MAX`].
const LOOK_UP_PAUSE: Duration = Duration::from_secs(1);
const LOOK_UP_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Keeps one task per address that has to be checked, and one per name, until it is dropped. `seed` is for the
/// jitter that keeps checks from marching in step, `resolver` for the names.
#[expect(clippy::mutable_key_type, reason = "what changes in a name is no part of what ways are compared by")]
pub async fn run_checks(control: Control, seed: u64, resolver: Resolver) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut tasks = JoinSet::new();
    let places = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let mut running: HashMap<CheckKey, AbortHandle> = HashMap::new();
    let mut looking: HashMap<Arc<str>, (Arc<Name>, AbortHandle)> = HashMap::new();
    loop {
        let wanted = control.checks();
        let mut unused = looking;
        looking = HashMap::new();
        for name in wanted.iter().filter_map(|key| key.way.name()) {
            if looking.contains_key(name.host()) {
                continue;
            }
            let known = unused.remove(name.host()).filter(|(known, _)| Arc::ptr_eq(known, name));
            let task = known.map_or_else(
                || tasks.spawn(look_up_again(control.clone(), resolver.clone(), name.clone())),
                |(_, task)| task,
            );
            looking.insert(name.host().clone(), (name.clone(), task));
        }
        for (_, task) in unused.into_values() {
            task.abort();
        }
        let mut stale = running;
        running = HashMap::with_capacity(wanted.len());
        for key in wanted {
            let task = stale.remove(&key).unwrap_or_else(|| {
                tasks.spawn(check_on(control.clone(), places.clone(), key.clone(), chance.fork()))
            });
            running.insert(key, task);
        }
        for task in stale.into_values() {
            task.abort();
        }
        while tasks.try_join_next().is_some() {}
        control.checks_changed().await;
    }
}

async fn look_up_again(control: Control, resolver: Resolver, name: Arc<Name>) {
    let mut pause = LOOK_UP_PAUSE;
    loop {
        let (answer, good_for, result) = match resolver.look_up(name.host()).await {
            Ok((addresses, ttl)) => {
                pause = LOOK_UP_PAUSE;
                (Ok(addresses), ttl, "ok")
            }
            Err(error) => {
                let now = pause;
                pause = (pause * 2).min(LOOK_UP_PAUSE_MAX);
                (Err(error.to_string().into()), now, "error")
            }
        };
        metrics::counter!(names::NAME_LOOK_UPS.name, "result" => result).increment(1);
        control.looked_up(&name, answer);
        tokio::time::sleep(good_for).await;
    }
}

async fn check_on(control: Control, places: Arc<Semaphore>, key: CheckKey, mut chance: fastrand::Rng) {
    loop {
        // The places are never closed. A check that waits for one is late, not failed.
        let place = places.acquire().await;
        let result = check(&key).await;
        drop(place);
        if let Some(result) = result {
            control.checked(&key, result);
        }
        let jitter = 0.9 + 0.2 * chance.f64();
        tokio::time::sleep(key.settings.interval.mul_f64(jitter)).await;
    }
}

/// One check; the error says what went wrong, without saying where. `None` when this machine could not even
/// try: that is no result, neither a pass nor a failure.
async fn check(key: &CheckKey) -> Option<Result<(), String>> {
    let timeout = key.settings.timeout;
    let asked = tokio::time::timeout(timeout, async {
        match open(&key.way, timeout).await {
            Ok(stream) => Some(ask(stream, key).await),
            Err(error) if error.is_local() => None,
            Err(error) => Some(Err(error.to_string())),
        }
    });
    asked.await.unwrap_or_else(|_| Some(Err(format!("no answer within {}", millis(timeout)))))
}

async fn ask(mut stream: Stream, key: &CheckKey) -> Result<(), String> {
    let Some(path) = &key.settings.path else { return Ok(()) };
    let host = key.way.url().authority();
    if key.way.protocol() == Protocol::Http2 {
        return ask_by_http2(stream, &host, path).await;
    }
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: tidegate-health\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| format!("send: {error}"))?;
    // By TLS, what was written may wait for more.
    stream.flush().await.map_err(|error| format!("send: {error}"))?;
    let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
    let mut part = stream.take(ANSWER_BYTES_MAX as u64);
    while !answer.contains(&b'\n') {
        let read = part.read_buf(&mut answer).await.map_err(|error| format!("read: {error}"))?;
        if read == 0 {
            break;
        }
    }
    match status(&answer) {
        Some(status) => judge(path, status),
        None => Err(format!("GET {path}: the answer is not HTTP/1")),
    }
}

async fn ask_by_http2(stream: Stream, host: &str, path: &str) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("GET {path}: {error}");
    let (mut requests, driver) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::get(format!("http://{host}{path}"))
        .header("user-agent", "tidegate-health")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("GET {path}: {error}"))?;
    let asking = requests.send_request(request);
    // Neither outlives the check.
    let answer = tokio::select! {
        biased;
        answer = asking => answer.map_err(failed)?,
        ended = driver => {
            return Err(ended.err().map_or_else(|| format!("GET {path}: no answer"), failed));
        }
    };
    judge(path, answer.status().as_u16())
}

fn judge(path: &str, status: u16) -> Result<(), String> {
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("GET {path} answered {status}")) }
}

/// The status of an HTTP/1 status line (RFC 9112 §4).
fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(1..)?.strip_prefix(b" ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{HealthSettings, Names, Reach, Way};

    #[test]
    fn an_endpoint_of_http2_is_asked_by_http2() {
        #[track_caller]
        fn check_endpoint(answers: Option<u16>, is_well: bool) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
                let endpoint = async {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let Some(status) = answers else {
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                        return std::future::pending().await;
                    };
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        assert_eq!(request.uri().path(), "/healthz");
                        let answer = http::Response::builder().status(status).body(()).unwrap();
                        respond.send_response(answer, true).unwrap();
                    }
                    std::future::pending().await
                };
                let reach = Reach { protocol: Protocol::Http2, ..Reach::default() };
                let timeout = Duration::from_secs(20);
                let settings =
                    HealthSettings { path: Some("/healthz".into()), timeout, ..HealthSettings::default() };
                let key = CheckKey { way: Way::new(url, &reach, &Names::default()), settings };
                let checked = tokio::select! {
                    checked = check(&key) => checked.unwrap(),
                    () = endpoint => unreachable!(),
                };
                assert_eq!(checked.is_ok(), is_well, "{checked:?}");
            });
        }
        check_endpoint(Some(204), true);
        check_endpoint(Some(503), false);
        check_endpoint(None, false);
    }

    #[test]
    fn the_status_line_decides() {
        #[track_caller]
        fn check(answer: &str, expected: Option<u16>) {
            assert_eq!(status(answer.as_bytes()), expected, "{answer}");
        }
        check("HTTP/1.1 200 OK\r\n", Some(200));
        check("HTTP/1.0 503", Some(503));
        check("HTTP/1.1 20", None);
        check("HTTP/2 200", None);
        check("SSH-2.0-OpenSSH", None);
        check("", None);
        check("HTTP/1.1 abc", None);
    }
}
