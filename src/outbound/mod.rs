//! Requests to the outside: to hooks, metric sources, registries and whatever else a release asks.
//!
//! Redirects are not followed: a request goes where somebody wrote that it goes, or nowhere. Every wait has a deadline and every answer a bound.
//! Of an address only scheme and host are ever shown, because with chat systems the path is the secret.

pub mod prometheus;

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;

/// How long a connection is kept for the next request.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// Not an address that can be asked.
    #[error("{0:?} is no http:// or https:// address")]
    Address(String),
    /// A token that cannot be in a header.
    #[error("a token with a line break")]
    Token,
    /// Nobody there, or the connection broke, or the answer was too long.
    #[error("{host}: {}", causes(.source.as_ref()))]
    Unreachable {
        /// Scheme and host.
        host: String,
        /// What happened.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Too slow.
    #[error("{host}: no answer within {} s", .after.as_secs_f64())]
    Timeout {
        /// Scheme and host.
        host: String,
        /// The deadline.
        after: Duration,
    },
    /// `https://` without anything to trust.
    #[error("{host}: this system has no root certificates; install ca-certificates")]
    NoRoots {
        /// Scheme and host.
        host: String,
    },
}

/// An error and what it came from, in one line.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let more = deeper.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = deeper.source();
    }
    text
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// All of it.
    pub uri: Uri,
    /// What may be shown: scheme, host and port.
    pub host: String,
}

impl Address {
    /// From `http://…` or `https://…`.
    ///
    /// # Errors
    /// [`HttpError::Address`] if it is neither.
    pub fn parse(url: &str) -> Result<Self, HttpError> {
        let uri: Uri = url.parse().map_err(|_| HttpError::Address(shown(url)))?;
        match (uri.scheme_str(), uri.host()) {
            (Some(scheme @ ("http" | "https")), Some(host)) => {
                let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
                let host = format!("{scheme}://{host}{port}");
                Ok(Self { uri, host })
            }
            _ => Err(HttpError::Address(shown(url))),
        }
    }
}

/// What may be shown of an address that is none.
fn shown(url: &str) -> String {
    url.chars().take_while(|char| *char != '@').take(12).chain("…".chars()).collect()
}

/// Puts `Authorization: Bearer TOKEN` on a request.
///
/// # Errors
/// [`HttpError::Token`] if it cannot be in a header.
pub fn authorize<B>(request: &mut Request<B>, token: &str) -> Result<(), HttpError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| HttpError::Token)?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(())
}

/// For a path segment or a query (RFC 3986 §2.3: all but the unreserved characters).
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// Makes requests. Cheap to clone; connections are shared.
#[derive(Clone)]
pub struct Outbound {
    plain: Client<HttpConnector, Full<Bytes>>,
    /// `None`: there is no certificate to trust.
    secure: Option<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>,
}

impl Outbound {
    /// Trusts what the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` say otherwise).
    pub fn new() -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE_MAX).pool_max_idle_per_host(2).pool_timer(TokioTimer::new());
        builder.http1_max_buf_size(64 * 1024);
        let secure = HttpsConnectorBuilder::new()
            .with_native_roots()
            .ok()
            .map(|roots| builder.build(roots.https_only().enable_http1().build()));
        Self { plain: builder.build_http(), secure }
    }

    /// Sends a request and waits, without a deadline, for the head of the answer.
    ///
    /// # Errors
    /// [`HttpError::Unreachable`] and [`HttpError::NoRoots`].
    pub async fn send(
        &self,
        address: &Address,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, HttpError> {
        *request.uri_mut() = address.uri.clone();
        let agent = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let answer = if address.uri.scheme_str() == Some("https") {
            match &self.secure {
                Some(secure) => secure.request(request).await,
                None => return Err(HttpError::NoRoots { host: address.host.clone() }),
            }
        } else {
            self.plain.request(request).await
        };
        answer.map_err(|source| HttpError::Unreachable { host: address.host.clone(), source: source.into() })
    }

    /// Sends a request and waits, without a deadline, for all of the answer, whatever its status.
    ///
    /// # Errors
    /// As of [`Outbound::send`]; also if the answer is longer than `bytes_max`.
    pub async fn exchange(
        &self,
        address: &Address,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = self.send(address, request).await?.into_parts();
        let body = Limited::new(body, bytes_max).collect().await;
        let body =
            body.map_err(|source| HttpError::Unreachable { host: address.host.clone(), source })?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

impl Default for Outbound {
    fn default() -> Self {
        Self::new()
    }
}

/// The work, as long as it is done in time.
///
/// # Errors
/// [`HttpError::Timeout`] otherwise.
pub async fn within<T, E: From<HttpError>>(
    after: Duration,
    address: &Address,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let late = |_| HttpError::Timeout { host: address.host.clone(), after };
    tokio::time::timeout(after, work).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_only_scheme_and_host_are_shown() {
        let address = Address::parse("https://chat.example.com:8443/services/T0/secret?token=x").unwrap();
        assert_eq!(address.host, "https://chat.example.com:8443");
        for wrong in ["ftp://a/b", "chat.example.com/secret", "", "http://", "user:password@host/path", "a b"]
        {
            let error = Address::parse(wrong).unwrap_err().to_string();
            assert!(error.ends_with("is no http:// or https:// address"), "{error}");
            assert!(!error.contains("password@") && !error.contains("/path"), "{error}");
        }
        let mut request = Request::new(());
        assert!(matches!(authorize(&mut request, "a\nb"), Err(HttpError::Token)));
        authorize(&mut request, "secret").unwrap();
        assert!(!format!("{request:?}").contains("secret"));
        assert_eq!(percent_encoded("a/b c~é"), "a%2Fb%20c~%C3%A9");
    }
}
