//! A connection on which one request after the other is sent, whichever HTTP is spoken there.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::upstream::{Protocol, Way, open};

/// What an app can tell these requests by.
const USER_AGENT: &str = "tidegate-probe";

/// It moves only while a request is under way on it, so nothing of it outlives whoever asks.
pub struct Line {
    requests: Requests,
    /// Gone with the connection: what has come and not been read is told its end by that.
    driver: Option<Driver>,
    is_open: bool,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

enum Requests {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Line {
    /// Connects; the error says what went wrong.
    pub async fn open(way: &Way, limit: Duration) -> Result<Self, String> {
        let stream = TokioIo::new(open(way, limit).await.map_err(|error| error.to_string())?);
        let failed = |error: hyper::Error| said(&error);
        let (requests, driver): (_, Driver) = match way.protocol() {
            Protocol::Http1 => {
                let (requests, driver) = http1::handshake(stream).await.map_err(failed)?;
                (Requests::Http1(requests), Box::pin(driver))
            }
            Protocol::Http2 => {
                let (requests, driver) =
                    http2::handshake(TokioExecutor::new(), stream).await.map_err(failed)?;
                (Requests::Http2(requests), Box::pin(driver))
            }
        };
        Ok(Self { requests, driver: Some(driver), is_open: true })
    }

    /// Whether another request may be sent on it.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Sends a GET for its status, which `has_come` hears of as soon as it is there. The body is read if somebody reads it, to its end or until
    /// they have enough; a line whose body was not read to its end is done with.
    pub async fn get(
        &mut self,
        way: &Way,
        path: &str,
        read: Option<impl FnMut(&Bytes) -> bool>,
        has_come: impl FnOnce(u16),
    ) -> Result<u16, String> {
        // Whatever happens now, unless it ends well.
        self.is_open = false;
        let failed = |error: hyper::Error| format!("GET {path}: {}", said(&error));
        let Some(mut driver) = self.driver.take() else {
            return Err(format!("GET {path}: the connection has ended"));
        };
        let authority = way.url().authority();
        let scheme = if way.url().is_tls() { "https" } else { "http" };
        let request = Request::get(match &self.requests {
            Requests::Http1(_) => path.to_owned(),
            Requests::Http2(_) => format!("{scheme}://{authority}{path}"),
        });
        let request = match &self.requests {
            Requests::Http1(_) => request.header("host", authority),
            Requests::Http2(_) => request,
        };
        let request = request.header("user-agent", USER_AGENT).header("accept", "*/*").body(Empty::new());
        let request = request.map_err(|error| format!("GET {path}: {error}"))?;
        let requests = &mut self.requests;
        let exchange = async {
            let answer = match requests {
                Requests::Http1(requests) => {
                    requests.ready().await.map_err(failed)?;
                    requests.send_request(request).await
                }
                Requests::Http2(requests) => {
                    requests.ready().await.map_err(failed)?;
                    requests.send_request(request).await
                }
            };
            let answer = answer.map_err(failed)?;
            let status = answer.status().as_u16();
            has_come(status);
            let Some(mut read) = read else { return Ok((status, false)) };
            let mut body = answer.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(failed)?;
                if frame.data_ref().is_some_and(|part| !read(part)) {
                    return Ok((status, false));
                }
            }
            Ok((status, true))
        };
        let mut exchange = std::pin::pin!(exchange);
        let ended = tokio::select! {
            biased;
            ended = &mut exchange => ended,
            gone = &mut driver => {
                drop(driver);
                // What has come until the connection closed may be the whole answer.
                return match gone {
                    Ok(()) => exchange.await.map(|(status, _)| status),
                    Err(error) => Err(failed(error)),
                };
            }
        };
        let (status, may_go_on) = ended?;
        self.is_open = may_go_on;
        self.driver = Some(driver);
        Ok(status)
    }
}

/// An error and what caused it.
fn said(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, UnixListener};

    use super::*;
    use crate::upstream::{Names, Reach};

    #[tokio::test]
    async fn an_endpoint_of_http2_is_asked_again_on_the_same_line() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let endpoint = async {
            let mut connection = h2::server::handshake(listener.accept().await.unwrap().0).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                assert_eq!(request.headers()["user-agent"], USER_AGENT);
                let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                body.send_data(request.uri().path().to_owned().into(), true).unwrap();
            }
        };
        let reach = Reach { protocol: Protocol::Http2, ..Reach::default() };
        let way = Way::new(url, &reach, &Names::default());
        let asking = async {
            let mut line = Line::open(&way, Duration::from_secs(20)).await.unwrap();
            for path in ["/one", "/two"] {
                let (mut said, mut came) = (Vec::new(), 0);
                let read = |part: &Bytes| {
                    said.extend_from_slice(part);
                    true
                };
                let status = line.get(&way, path, Some(read), |status| came = status).await;
                assert_eq!((status, came, &*said, line.is_open()), (Ok(200), 200, path.as_bytes(), true));
            }
        };
        tokio::select! {
            () = asking => {}
            () = endpoint => unreachable!("it ends with the line"),
        }
    }

    #[tokio::test]
    async fn an_endpoint_on_a_socket_that_closes_is_asked_once() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let way = Way::new(
            format!("unix:{}", path.display()).parse().unwrap(),
            &Reach::default(),
            &Names::default(),
        );
        let endpoint = async {
            let mut stream = listener.accept().await.unwrap().0;
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 503 Busy\r\nconnection: close\r\n\r\nno").await.unwrap();
        };
        let asking = async {
            let mut line = Line::open(&way, Duration::from_secs(20)).await.unwrap();
            let status = line.get(&way, "/", Some(|_: &Bytes| true), |_| ()).await;
            assert_eq!(status, Ok(503));
            assert!(line.get(&way, "/", Some(|_: &Bytes| true), |_| ()).await.is_err());
        };
        tokio::join!(endpoint, asking);
    }
}
