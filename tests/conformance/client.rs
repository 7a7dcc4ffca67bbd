//! The client: writes bytes, reads answers strictly, and sees how the connection ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::show::Answer;

/// After this nothing comes any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// After this it is not worth waiting.
const MOMENT: Duration = Duration::from_millis(100);

/// How clients reach Tidegate.
#[derive(Clone)]
pub enum Way {
    /// In the clear.
    Plain(SocketAddr),
    /// Through TLS, by this name.
    Tls(SocketAddr, Arc<ClientConfig>, &'static str),
    /// Through a load balancer that says nothing about them.
    Proxied(SocketAddr),
}

impl Way {
    /// Whether the endpoint is told https.
    pub fn is_https(&self) -> bool {
        matches!(self, Self::Tls(..))
    }

    /// Where Tidegate listens.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Plain(address) | Self::Tls(address, ..) | Self::Proxied(address) => *address,
        }
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        let socket = dial(self.address());
        let other = socket.try_clone().unwrap();
        let stream: Box<dyn Duplex> = match self {
            Self::Plain(_) => Box::new(socket),
            Self::Proxied(_) => {
                let mut socket = socket;
                drop(socket.write_all(b"PROXY UNKNOWN\r\n"));
                Box::new(socket)
            }
            Self::Tls(_, config, name) => {
                let name = ServerName::try_from(*name).unwrap();
                let tls = ClientConnection::new(config.clone(), name).unwrap();
                Box::new(StreamOwned::new(tls, socket))
            }
        };
        Client { stream, socket: other, ahead: Vec::new() }
    }
}

/// A socket whose reads end some time.
pub fn dial(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

trait Duplex: Read + Write {}

impl<T: Read + Write> Duplex for T {}

/// A connection to Tidegate.
pub struct Client {
    stream: Box<dyn Duplex>,
    socket: TcpStream,
    ahead: Vec<u8>,
}

/// How reading went on.
enum More {
    Bytes,
    End,
    Cut,
}

impl Client {
    /// Writes; whoever refuses a request need not read it to its end.
    pub fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).and_then(|()| self.stream.flush()));
    }

    /// Reads until the end, or until nothing more comes.
    pub fn listen_for_a_moment(&mut self) {
        drop(self.socket.set_read_timeout(Some(MOMENT)));
        while self.needs_more().unwrap_or(false) {}
    }

    /// Writes no more.
    pub fn half_close(&self) {
        drop(self.socket.shutdown(Shutdown::Write));
    }

    fn more(&mut self) -> Result<More, String> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => Ok(More::End),
            Ok(count) => {
                self.ahead.extend_from_slice(&bytes[..count]);
                Ok(More::Bytes)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(format!("nothing comes after {:?}", self.ahead.escape_ascii().to_string()))
            }
            Err(_) => Ok(More::Cut),
        }
    }

    fn needs_more(&mut self) -> Result<bool, String> {
        Ok(matches!(self.more()?, More::Bytes))
    }

    /// The next answer.
    pub fn answer(&mut self, to_head: bool) -> Result<Answer, String> {
        let end = loop {
            if let Some(end) = super::strict::head_length(&self.ahead) {
                break end;
            }
            if !self.needs_more()? {
                let ahead = self.ahead.escape_ascii().to_string();
                return Err(format!("the connection ended after {ahead:?} instead of an answer"));
            }
        };
        let head: Vec<u8> = self.ahead.drain(..end).collect();
        let head: String = head[..end - 4].iter().map(|byte| char::from(*byte)).collect();
        check_head(&head)?;
        let mut answer = Answer { head, is_whole: true, ..Answer::default() };
        let (lengths, codings) = (answer.fields("content-length"), answer.fields("transfer-encoding"));
        let has_no_body = to_head || matches!(answer.status(), 100..=199 | 204 | 304);
        match (lengths.as_slice(), codings.as_slice()) {
            _ if has_no_body => {}
            ([], ["chunked"]) => self.chunks(&mut answer)?,
            ([length], []) => {
                let length = length.parse().map_err(|_| format!("the length {length:?}"))?;
                answer.is_whole = self.exactly(length, &mut answer.body)?;
            }
            ([], []) => loop {
                match self.more()? {
                    More::Bytes => {}
                    end => {
                        answer.body = std::mem::take(&mut self.ahead);
                        answer.is_whole = matches!(end, More::End);
                        break;
                    }
                }
            },
            other => return Err(format!("an answer framed by {other:?}")),
        }
        Ok(answer)
    }

    /// So many bytes, or those until the end.
    pub fn hears(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let mut heard = Vec::new();
        self.exactly(count, &mut heard)?;
        Ok(heard)
    }

    fn exactly(&mut self, length: usize, body: &mut Vec<u8>) -> Result<bool, String> {
        while self.ahead.len() < length {
            if !self.needs_more()? {
                body.append(&mut self.ahead);
                return Ok(false);
            }
        }
        body.extend(self.ahead.drain(..length));
        Ok(true)
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Ok(Some(line[..end].iter().map(|byte| char::from(*byte)).collect()));
            }
            if !self.needs_more()? {
                return Ok(None);
            }
        }
    }

    fn chunks(&mut self, answer: &mut Answer) -> Result<(), String> {
        answer.is_whole = false;
        loop {
            let Some(line) = self.line()? else { return Ok(()) };
            let size = usize::from_str_radix(&line, 16).map_err(|_| format!("the chunk size {line:?}"))?;
            if size == 0 {
                break;
            }
            if !self.exactly(size, &mut answer.body)? {
                return Ok(());
            }
            match self.line()? {
                Some(end) if end.is_empty() => {}
                Some(more) => return Err(format!("{more:?} behind a chunk")),
                None => return Ok(()),
            }
        }
        while let Some(line) = self.line()? {
            if line.is_empty() {
                answer.is_whole = true;
                return Ok(());
            }
            answer.trailers.push(line);
        }
        Ok(())
    }

    /// Whether the connection ends, with nothing of HTTP before.
    pub fn ends_anyhow(&mut self) -> Result<(), String> {
        while self.needs_more()? {}
        if self.ahead.windows(5).any(|window| window == b"HTTP/") {
            return Err(format!("an answer: {:?}", self.ahead.escape_ascii().to_string()));
        }
        Ok(())
    }

    /// Whether the connection ends without another byte.
    pub fn ends(&mut self) -> Result<(), String> {
        loop {
            if !self.ahead.is_empty() {
                return Err(format!("more came: {:?}", self.ahead.escape_ascii().to_string()));
            }
            match self.more() {
                Ok(More::Bytes) => {}
                Ok(More::End | More::Cut) => return Ok(()),
                Err(_) => return Err("the connection stays open".to_owned()),
            }
        }
    }
}

fn check_head(head: &str) -> Result<(), String> {
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let is_status_line = ["HTTP/1.1 ", "HTTP/1.0 "].iter().any(|version| line.starts_with(version))
        && line.get(9..12).is_some_and(|code| code.bytes().all(|b| b.is_ascii_digit()));
    if !is_status_line {
        return Err(format!("the status line {line:?}"));
    }
    for line in lines {
        let is_field = line.split_once(':').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
        if !is_field || line.contains(['\r', '\n', '\0']) {
            return Err(format!("the field {line:?}"));
        }
    }
    Ok(())
}
