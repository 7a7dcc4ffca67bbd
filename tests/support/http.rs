//! HTTP/1.1 by hand, for both ends.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request or a response.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The first line and the fields.
    pub head: String,
    /// The body, out of its chunks.
    pub body: Vec<u8>,
}

impl Message {
    /// Of a response.
    pub fn status(&self) -> u16 {
        self.head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The first field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.lines().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields of this name.
    pub fn fields<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m str> {
        self.lines().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name, value.trim()))
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("not UTF-8")
    }

    fn ends_connection(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// What asks for a WebSocket.
pub const WEBSOCKET: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A request without a body.
pub fn get(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("GET {path} HTTP/1.1\r\n");
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += "host: gate.test\r\n";
    }
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    (head + "\r\n").into_bytes()
}

/// A new connection.
pub async fn connect(address: SocketAddr) -> io::Result<Wire<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Wire::new(stream))
}

/// A connection, and what was read from it ahead.
pub struct Wire<S> {
    stream: S,
    ahead: Vec<u8>,
    is_over: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Over a stream at its beginning.
    pub fn new(stream: S) -> Self {
        Self { stream, ahead: Vec::new(), is_over: false }
    }

    /// Whether the last answer said that it was the last.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The stream itself.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Writes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Writes a request and reads its answer, which may come before all was written.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<Message> {
        // Whoever refuses a request need not read it to its end.
        drop(self.write(request).await);
        self.answer().await
    }

    /// Reads a response.
    pub async fn answer(&mut self) -> io::Result<Message> {
        let head = self.head().await?.ok_or_else(|| broken("closed before an answer"))?;
        let mut message = Message { head, body: Vec::new() };
        self.is_over = message.ends_connection();
        if !matches!(message.status(), 204 | 304) {
            self.body(&mut message, true).await?;
        }
        Ok(message)
    }

    /// Reads a request; `None` when the peer is done.
    pub async fn request(&mut self) -> io::Result<Option<Message>> {
        let Some(head) = self.head().await? else { return Ok(None) };
        let mut message = Message { head, body: Vec::new() };
        self.body(&mut message, false).await?;
        Ok(Some(message))
    }

    /// Reads the head of a message alone.
    pub async fn head(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.ahead[..at + 2]).into_owned();
                self.ahead.drain(..at + 4);
                return Ok(Some(head));
            }
            if self.more().await? == 0 {
                return if self.ahead.is_empty() { Ok(None) } else { Err(broken("closed within a head")) };
            }
        }
    }

    /// Reads up to and including the next line feed.
    pub async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=at).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.more().await? == 0 {
                return Err(broken("closed within a line"));
            }
        }
    }

    /// Reads until the peer closes.
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.more().await? > 0 {}
        Ok(std::mem::take(&mut self.ahead))
    }

    async fn body(&mut self, message: &mut Message, until_closed: bool) -> io::Result<()> {
        if message.field("transfer-encoding").is_some() {
            return self.chunks(message).await;
        }
        match message.field("content-length").map(str::parse) {
            Some(Ok(length)) => message.body = self.exactly(length).await?,
            Some(Err(_)) => return Err(broken("a length that is none")),
            None if until_closed => message.body = self.rest().await?,
            None => {}
        }
        Ok(())
    }

    async fn chunks(&mut self, message: &mut Message) -> io::Result<()> {
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(&line, 16).map_err(|_| broken("a chunk size that is none"))?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(());
            }
            message.body.extend(self.exactly(size).await?);
            self.line().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < length {
            if self.more().await? == 0 {
                return Err(broken("closed within a body"));
            }
        }
        Ok(self.ahead.drain(..length).collect())
    }

    async fn more(&mut self) -> io::Result<usize> {
        self.ahead.reserve(4096);
        self.stream.read_buf(&mut self.ahead).await
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, what)
}
