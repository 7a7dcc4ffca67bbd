//! One request and its answer over one connection.

use std::path::Path;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Method;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use super::error::ClientError;
use super::{Terms, not_understood};
use crate::admin::api::{IDEMPOTENCY_KEY, Problem};
use crate::wording::printable;

/// What an answer may measure: the status of some 100 000 services.
const ANSWER_BYTES_MAX: usize = 256 << 20;

pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    /// JSON, or empty.
    pub(super) body: Vec<u8>,
    pub(super) terms: Terms,
}

impl Call {
    pub(super) fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), body: Vec::new(), terms: Terms::default() }
    }

    pub(super) fn under(self, terms: &Terms) -> Self {
        Self { terms: terms.clone(), ..self }
    }

    fn into_request(self) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request =
            Request::builder().method(self.method).uri(self.path).header(header::HOST, "tidegate");
        if !self.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(generation) = self.terms.if_generation {
            request = request.header(header::IF_MATCH, generation);
        }
        if let Some(key) = self.terms.idempotency_key {
            request = request.header(IDEMPOTENCY_KEY, key.into_bytes());
        }
        request.body(Full::new(self.body.into()))
    }
}

/// A runtime on this very thread, that runs only while somebody waits.
pub(super) fn runtime() -> Result<Runtime, ClientError> {
    Builder::new_current_thread().enable_all().build().map_err(ClientError::Start)
}

/// Sends the request and returns the answer's head; an answer that is not 2xx is an error.
pub(super) async fn start(
    stream: UnixStream,
    socket: &Path,
    call: Call,
) -> Result<Response<Incoming>, ClientError> {
    let request = call.into_request().map_err(ClientError::NotSendable)?;
    let broke_off = |source| ClientError::BrokeOff { socket: socket.to_owned(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke_off)?;
    // Ends when the answer has been read or dropped; its errors reach the answer, too.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(broke_off)?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let text = body(answer, socket).await?;
    Err(refused(status, &text, socket))
}

fn refused(status: StatusCode, text: &[u8], socket: &Path) -> ClientError {
    match serde_json::from_slice::<Problem>(text) {
        Ok(Problem { error, kind }) => {
            ClientError::Refused { problem: Problem { error: lines(&error), kind }, status: status.as_u16() }
        }
        Err(source) => not_understood(socket, source),
    }
}

/// Printable, line by line: what is wrong with a file is a list.
fn lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// The whole body of an answer.
pub(super) async fn body(answer: Response<Incoming>, socket: &Path) -> Result<Vec<u8>, ClientError> {
    match Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(source) => ClientError::BrokeOff { socket: socket.to_owned(), source: *source },
            Err(other) => {
                debug_assert!(other.is::<LengthLimitError>());
                ClientError::TooLong { socket: socket.to_owned(), max: ANSWER_BYTES_MAX }
            }
        }),
    }
}

/// A part of a path or of a query (RFC 3986, section 2.1): everything but unreserved characters is escaped.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}
