//! The small server of `/metrics`, `/livez` and `/readyz`, and of `/v1/alerts` for Alertmanager.
//!
//! For scrapers and orchestrators, on an address of its own, so that it answers while the proxy's ports
//! are full and never shows numbers to the proxy's clients. Pages are put together one at a time and
//! off the thread that serves them: whoever shares that thread, such as the admin socket, never waits for one.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Puts the page together.
pub type Page = Arc<dyn Fn() -> String + Send + Sync>;
/// Whether new traffic is welcome; else why not.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;
/// What becomes of what is posted to `/v1/alerts`. Both are given the `Authorization` header, and answer with a status
/// and a text.
#[derive(Clone)]
pub struct Alerts {
    /// Whether a body from there is read at all: who has no token takes nobody's turn.
    pub admit: Admit,
    /// Takes the body in.
    pub take: Take,
}
/// Looks at the header alone.
pub type Admit = Arc<dyn Fn(Option<&str>) -> Refused + Send + Sync>;
/// The answer, if it is a no.
pub type Refused = Result<(), (u16, String)>;
/// Takes a body in.
pub type Take =
    Arc<dyn Fn(Option<String>, Bytes) -> Pin<Box<dyn Future<Output = (u16, String)> + Send>> + Send + Sync>;

/// How many connections are served at a time; more wait in the backlog.
const CONNECTIONS_MAX: usize = 256;
/// How long a request head may take, the idle time before it included.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How old a connection gets before it is asked to close, so that no slow reader keeps its place.
const AGE_MAX: Duration = Duration::from_secs(120);
/// How long a connection has to close by itself.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How large a notification of alerts may be.
const ALERTS_BYTES_MAX: usize = 1024 * 1024;
/// How many notifications are read at a time; more wait, within the same time.
const ALERTS_AT_ONCE_MAX: usize = 4;
/// How long the body of a notification may take.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait after an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then lets running answers finish within 5 s.
///
/// `GET /metrics` answers with the page, `/livez` with 200 for as long as it answers at all, `/readyz` with 200
/// or with 503 and the reason. `HEAD` works wherever `GET` does. `POST /v1/alerts` gives what `alerts` says: 404 without
/// it, 413 for a body of more than 1 MiB, 408 for one that takes more than 10 s.
pub async fn serve(
    listener: TcpListener,
    page: Page,
    ready: Ready,
    alerts: Option<Alerts>,
    shutdown: impl Future<Output = ()>,
) {
    let site = Site {
        page,
        ready,
        alerts,
        rendering: Arc::new(Semaphore::new(1)),
        reading: Arc::new(Semaphore::new(ALERTS_AT_ONCE_MAX)),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accept = async {
            // The semaphore is never closed.
            let place = places.clone().acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (accepted, place) = accept => match accepted {
                Ok((stream, _)) => {
                    let connection = connection(stream, site.clone(), stopping.clone());
                    connections.spawn(async move {
                        let _place = place;
                        connection.await;
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    let _ = stop.send(true);
    while connections.join_next().await.is_some() {}
}

/// One connection to its end; what a peer does wrong ends it and nothing else.
async fn connection(stream: TcpStream, site: Site, mut stopping: watch::Receiver<bool>) {
    let service = service_fn(|request| site.answer(request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(16 * 1024);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = serving.as_mut() => return,
        () = tokio::time::sleep(AGE_MAX) => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(CLOSE_WITHIN, serving).await;
}

#[derive(Clone)]
struct Site {
    page: Page,
    ready: Ready,
    alerts: Option<Alerts>,
    /// Held while a page is put together.
    rendering: Arc<Semaphore>,
    /// Held while a notification is read.
    reading: Arc<Semaphore>,
}

impl Site {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path();
        if let ("/v1/alerts", Some(alerts)) = (path, &self.alerts) {
            return Ok(self.alerts(alerts, request).await);
        }
        if !matches!(path, "/metrics" | "/livez" | "/readyz") {
            return Ok(plain(
                StatusCode::NOT_FOUND,
                "no such page; there are /metrics, /livez and /readyz\n",
            ));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Ok(refusal);
        }
        Ok(match path {
            "/metrics" => self.metrics().await,
            "/readyz" => match (self.ready)() {
                Ok(()) => plain(StatusCode::OK, "ready\n"),
                Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
            },
            _ => plain(StatusCode::OK, "alive\n"),
        })
    }

    async fn alerts(&self, alerts: &Alerts, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::POST {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only POST\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return refusal;
        }
        let too_large =
            || plain(StatusCode::PAYLOAD_TOO_LARGE, "a notification has at most 1 MiB; lower `max_alerts`\n");
        if request.body().size_hint().lower() > ALERTS_BYTES_MAX as u64 {
            return too_large();
        }
        let header = request.headers().get(AUTHORIZATION);
        let authorization = header.and_then(|header| header.to_str().ok()).map(str::to_owned);
        if let Err((status, text)) = (alerts.admit)(authorization.as_deref()) {
            return answered(status, text);
        }
        let read = async {
            let _turn = self.reading.acquire().await;
            Limited::new(request.into_body(), ALERTS_BYTES_MAX).collect().await
        };
        let body = match tokio::time::timeout(BODY_WITHIN, read).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return too_large(),
            Ok(Err(_)) => return plain(StatusCode::BAD_REQUEST, "the body broke off\n"),
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the body took more than 10 s\n"),
        };
        let (status, text) = (alerts.take)(authorization, body).await;
        answered(status, text)
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let (page, turn) = (self.page.clone(), self.rendering.clone().acquire_owned().await);
        let render = move || {
            let _turn = turn;
            page()
        };
        match tokio::task::spawn_blocking(render).await {
            Ok(page) => {
                let mut answer = plain(StatusCode::OK, page);
                let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                answer.headers_mut().insert(CONTENT_TYPE, format);
                answer
            }
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be put together\n"),
        }
    }
}

fn answered(status: u16, text: String) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = plain(status, text);
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    struct Running {
        address: SocketAddr,
        draining: Arc<AtomicBool>,
        stop: oneshot::Sender<()>,
        served: tokio::task::JoinHandle<()>,
    }

    async fn start() -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let draining = Arc::new(AtomicBool::new(false));
        let ready: Ready = {
            let draining = draining.clone();
            Arc::new(move || if draining.load(Ordering::Relaxed) { Err("draining".into()) } else { Ok(()) })
        };
        let page: Page = Arc::new(|| "tidegate_generation 1\n".into());
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(serve(listener, page, ready, None, shutdown));
        Running { address, draining, stop, served }
    }

    async fn ask(address: SocketAddr, line: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[track_caller]
    fn check(answer: &str, status: u16, body: &str) {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
    }

    #[tokio::test]
    async fn each_page_answers_and_nothing_else_does() {
        let Running { address, draining, stop, served } = start().await;
        let page = ask(address, "GET /metrics").await;
        check(&page, 200, "tidegate_generation 1\n");
        assert!(page.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{page}");
        check(&ask(address, "GET /metrics?name=x").await, 200, "tidegate_generation 1\n");
        check(&ask(address, "HEAD /metrics").await, 200, "");
        check(&ask(address, "GET /livez").await, 200, "alive\n");
        check(&ask(address, "GET /readyz").await, 200, "ready\n");
        draining.store(true, Ordering::Relaxed);
        check(&ask(address, "GET /readyz").await, 503, "not ready: draining\n");
        check(&ask(address, "GET /livez").await, 200, "alive\n");
        check(&ask(address, "POST /metrics").await, 405, "only GET\n");
        let unknown = "no such page; there are /metrics, /livez and /readyz\n";
        check(&ask(address, "GET /").await, 404, unknown);
        check(&ask(address, "POST /metrics/").await, 404, unknown);
        check(&ask(address, "what is this").await, 400, "");
        stop.send(()).unwrap();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn alerts_are_posted_within_bounds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let alerts = Alerts {
            admit: Arc::new(|authorization| match authorization {
                Some("Bearer yes") => Ok(()),
                _ => Err((401, "no\n".to_owned())),
            }),
            take: Arc::new(|_, body| Box::pin(async move { (200, format!("{} bytes\n", body.len())) })),
        };
        let (page, ready): (Page, Ready) = (Arc::new(String::new), Arc::new(|| Ok(())));
        let served = serve(listener, page, ready, Some(alerts), std::future::pending());
        let served = tokio::spawn(served);
        let post = async |headers: &str, body: &str| {
            let request =
                format!("POST /v1/alerts HTTP/1.1\r\nhost: t\r\nconnection: close\r\n{headers}\r\n{body}");
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        check(&post("authorization: Bearer yes\r\ncontent-length: 2\r\n", "{}").await, 200, "2 bytes\n");
        let refused = post("content-length: 2\r\n", "{}").await;
        check(&refused, 401, "no\n");
        assert!(refused.contains("www-authenticate: Bearer\r\n"), "{refused}");
        let long = format!("content-length: {}\r\n", ALERTS_BYTES_MAX + 1);
        let too_large = "a notification has at most 1 MiB; lower `max_alerts`\n";
        check(&post(&long, "").await, 413, too_large);
        let chunk = "a".repeat(ALERTS_BYTES_MAX + 1);
        let chunked = format!("{:x}\r\n{chunk}\r\n", chunk.len());
        let known = "authorization: Bearer yes\r\ntransfer-encoding: chunked\r\n";
        check(&post(known, &chunked).await, 413, too_large);
        // Without a token nothing is waited for: this body never comes.
        check(&post("content-length: 100\r\n", "").await, 401, "no\n");
        check(&ask(address, "GET /v1/alerts").await, 405, "only POST\n");
        served.abort();

        let without = start().await;
        let answer = ask(without.address, "POST /v1/alerts").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "not configured: {answer}");
    }

    #[tokio::test]
    async fn shutdown_closes_idle_connections() {
        let Running { address, stop, served, .. } = start().await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /livez HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
        let mut first = [0; 15];
        idle.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        stop.send(()).unwrap();
        served.await.unwrap();
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn more_connections_than_places_wait_for_their_turn() {
        let Running { address, stop, served, .. } = start().await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
            let mut first = [0; 15];
            stream.read_exact(&mut first).await.unwrap();
            held.push(stream);
        }
        let late = tokio::spawn(async move { ask(address, "GET /livez").await });
        tokio::task::yield_now().await;
        drop(held);
        check(&late.await.unwrap(), 200, "alive\n");
        stop.send(()).unwrap();
        served.await.unwrap();
    }
}
