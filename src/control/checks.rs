//! Active health checks: one task per address, however many services use it; and one per name, which is looked
//! up again whenever the last answer's time is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::commit::Control;
use super::grpc_health as grpc;
use super::live::CheckKey;
use crate::telemetry::names;
use crate::upstream::{EndpointUrl, Name, Probe, Protocol, Resolver, Stream, open};

/// The longest part of an answer that is looked at for its status line.
const ANSWER_BYTES_MAX: usize = 1024;

const USER_AGENT_FIELD: &str = "user-agent";
const USER_AGENT: &str = "tidegate-health";

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
pub(super) async fn check(key: &CheckKey) -> Option<Result<(), String>> {
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

async fn ask(stream: Stream, key: &CheckKey) -> Result<(), String> {
    let url = key.way.url();
    match &key.settings.probe {
        Probe::Connect => Ok(()),
        Probe::Get { path, expect } => {
            let status = match key.way.protocol() {
                Protocol::Http1 => ask_by_http1(stream, &url.authority(), path).await?,
                Protocol::Http2 => ask_by_http2(stream, url, path).await?,
            };
            if expect.has(status) { Ok(()) } else { Err(format!("GET {path} answered {status}")) }
        }
        Probe::Grpc { service } => ask_by_grpc(stream, url, service, key.settings.timeout).await,
    }
}

async fn ask_by_http1(mut stream: Stream, host: &str, path: &str) -> Result<u16, String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {USER_AGENT}\r\nconnection: close\r\n\r\n"
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
    status(&answer).ok_or_else(|| format!("GET {path}: the answer is not HTTP/1"))
}

async fn ask_by_http2(stream: Stream, url: &EndpointUrl, path: &str) -> Result<u16, String> {
    let request = Request::get(uri(url, path)).header(USER_AGENT_FIELD, USER_AGENT).body(Full::default());
    let request = request.map_err(|error| format!("GET {path}: {error}"))?;
    let answered = exchange(stream, request, |answer| async move { Ok(answer.status().as_u16()) });
    answered.await.map_err(|error| format!("GET {path}: {error}"))
}

/// The gRPC Health Checking Protocol: `grpc.health.v1.Health/Check`.
async fn ask_by_grpc(
    stream: Stream,
    url: &EndpointUrl,
    service: &str,
    timeout: Duration,
) -> Result<(), String> {
    let failed = |why: String| match service {
        "" => format!("gRPC health: {why}"),
        _ => format!("gRPC health of {service}: {why}"),
    };
    let request = Request::post(uri(url, grpc::PATH))
        .header(USER_AGENT_FIELD, USER_AGENT)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", format!("{}m", timeout.as_millis().clamp(1, 99_999_999)))
        .body(Full::new(grpc::question(service).into()))
        .map_err(|error| failed(error.to_string()))?;
    let answered = exchange(stream, request, |answer| async move {
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("answered {}", head.status.as_u16()));
        }
        let read = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let read = read.map_err(|error| format!("read: {error}"))?;
        let trailers = read.trailers().cloned();
        // An answer that has nothing to say but how it ended says that in its head.
        let status = trailers.as_ref().and_then(grpc::status).or_else(|| grpc::status(&head.headers));
        grpc::judge(status, &read.to_bytes())
    });
    answered.await.map_err(failed)
}

fn uri(url: &EndpointUrl, path: &str) -> String {
    let scheme = if url.is_tls() { "https" } else { "http" };
    format!("{scheme}://{}{path}", url.authority())
}

/// Sends one request by HTTP/2 and hands its answer to `read`. Nothing of it outlives the check.
async fn exchange<T, F: Future<Output = Result<T, String>>>(
    stream: Stream,
    request: Request<Full<Bytes>>,
    read: impl FnOnce(Response<Incoming>) -> F,
) -> Result<T, String> {
    let failed = |error: hyper::Error| error.to_string();
    let (mut requests, driver) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
    let asking = async { read(requests.send_request(request).await.map_err(failed)?).await };
    tokio::select! {
        biased;
        answer = asking => answer,
        ended = driver => Err(ended.err().map_or_else(|| "no answer".to_owned(), failed)),
    }
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
    use crate::upstream::{Expected, HealthSettings, Names, Reach, Way};

    type Respond = h2::server::SendResponse<Bytes>;

    /// Checks an endpoint of HTTP/2 that answers so; `None`: it speaks HTTP/1.1.
    #[track_caller]
    fn check_endpoint(probe: Probe, answers: Option<fn(&http::Request<h2::RecvStream>, Respond)>) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
            let endpoint = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(answer) = answers else {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    return std::future::pending().await;
                };
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    answer(&request, respond);
                }
                std::future::pending().await
            };
            let reach = Reach { protocol: Protocol::Http2, ..Reach::default() };
            let timeout = Duration::from_secs(20);
            let settings = HealthSettings { probe, timeout, ..HealthSettings::default() };
            let key = CheckKey { way: Way::new(url, &reach, &Names::default()), settings };
            let checked = tokio::select! {
                checked = check(&key) => checked.unwrap(),
                () = endpoint => unreachable!(),
            };
            checked.err().unwrap_or_else(|| "passed".to_owned())
        })
    }

    fn end(
        respond: &mut Respond,
        status: u16,
        fields: &[(&str, &str)],
        is_end: bool,
    ) -> h2::SendStream<Bytes> {
        let mut answer = http::Response::builder().status(status);
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        respond.send_response(answer.body(()).unwrap(), is_end).unwrap()
    }

    #[test]
    fn an_endpoint_of_http2_is_asked_by_http2() {
        let get = |from, to| Probe::Get { path: "/healthz".into(), expect: Expected::new(vec![from..=to]) };
        fn answer(request: &http::Request<h2::RecvStream>, mut respond: Respond) {
            assert_eq!((request.uri().path(), request.uri().scheme_str()), ("/healthz", Some("http")));
            end(&mut respond, 204, &[], true);
        }
        assert_eq!(check_endpoint(get(200, 399), Some(answer)), "passed");
        assert_eq!(check_endpoint(get(200, 200), Some(answer)), "GET /healthz answered 204");
        assert_ne!(check_endpoint(get(200, 399), None), "passed");
    }

    #[test]
    fn an_endpoint_of_grpc_is_asked_whether_it_serves() {
        #[track_caller]
        fn check(answer: fn(&http::Request<h2::RecvStream>, Respond), expected: &str) {
            let probe = Probe::Grpc { service: "shop.v1.Cart".into() };
            assert_eq!(check_endpoint(probe, Some(answer)), expected);
        }
        fn says(mut respond: Respond, message: &'static [u8], status: &str) {
            let mut stream = end(&mut respond, 200, &[("content-type", "application/grpc")], false);
            stream.send_data(Bytes::from_static(message), false).unwrap();
            let status = http::HeaderValue::from_str(status).unwrap();
            stream
                .send_trailers([(http::HeaderName::from_static("grpc-status"), status)].into_iter().collect())
                .unwrap();
        }
        check(
            |request, respond| {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                assert_eq!(request.headers()["content-type"], "application/grpc");
                assert_eq!(request.headers()["te"], "trailers");
                says(respond, &[0, 0, 0, 0, 2, 8, 1], "0");
            },
            "passed",
        );
        check(
            |_, respond| says(respond, &[0, 0, 0, 0, 2, 8, 2], "0"),
            "gRPC health of shop.v1.Cart: NOT_SERVING",
        );
        check(
            |_, mut respond| drop(end(&mut respond, 200, &[("grpc-status", "12")], true)),
            "gRPC health of shop.v1.Cart: the server has no health service (UNIMPLEMENTED)",
        );
        check(
            |_, mut respond| drop(end(&mut respond, 503, &[], true)),
            "gRPC health of shop.v1.Cart: answered 503",
        );
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
