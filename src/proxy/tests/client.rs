//! A client that writes bytes and reads answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer, byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Names of trailers in lower case.
    pub(super) trailers: Vec<String>,
    /// Whether the body came to its announced end.
    pub(super) is_complete: bool,
}

impl Answer {
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    #[track_caller]
    pub(super) fn one(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name} in {:?}", self.fields);
        all[0]
    }

    pub(super) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The `name=value` of the cookie it sets under this name.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let set = self.all("set-cookie").into_iter().find(|set| set.split('=').next() == Some(name))?;
        set.split(';').next()
    }
}

/// Both ways of a connection.
pub(super) trait Duplex: Read + Write {}

impl<T: Read + Write> Duplex for T {}

/// A connection to the proxy.
pub(super) struct Session {
    reader: BufReader<Box<dyn Duplex>>,
}

impl Session {
    pub(super) fn open(address: SocketAddr) -> Self {
        Self::over(dial(address))
    }

    /// Over whatever leads to the proxy.
    pub(super) fn over(stream: impl Duplex + 'static) -> Self {
        Self { reader: BufReader::new(Box::new(stream)) }
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    pub(super) fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        let is_head = bytes.as_ref().starts_with(b"HEAD");
        self.send(bytes);
        self.read(is_head).expect("an answer")
    }

    /// The next answer; `None` if the connection ends before one.
    pub(super) fn read(&mut self, is_head: bool) -> Option<Answer> {
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let mut answer = Answer { status, ..Answer::default() };
        while let Some((name, value)) = self.line()?.split_once(':') {
            answer.fields.push((name.to_lowercase(), value.trim().to_owned()));
        }
        if is_head || matches!(status, 100..200 | 204 | 304) {
            answer.is_complete = true;
        } else if answer.has("transfer-encoding") {
            answer.is_complete = self.read_chunked(&mut answer).is_some();
        } else if answer.has("content-length") {
            let length = answer.one("content-length").parse().unwrap();
            let mut limited = self.reader.by_ref().take(length);
            let _ = limited.read_to_end(&mut answer.body);
            answer.is_complete = answer.body.len() as u64 == length;
        } else {
            answer.is_complete = self.reader.read_to_end(&mut answer.body).is_ok();
        }
        Some(answer)
    }

    fn read_chunked(&mut self, answer: &mut Answer) -> Option<()> {
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).ok()?;
            let body = &mut answer.body;
            let start = body.len();
            self.reader.by_ref().take(size as u64).read_to_end(body).ok()?;
            if body.len() < start + size {
                return None;
            }
            if size == 0 {
                break;
            }
            self.line()?;
        }
        while let Some((name, _)) = self.line()?.split_once(':') {
            answer.trailers.push(name.to_lowercase());
        }
        Some(())
    }

    /// What comes next, so many bytes of it.
    #[track_caller]
    pub(super) fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn line(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        self.reader.read_until(b'\n', &mut bytes).ok().filter(|count| *count > 0)?;
        Some(bytes.strip_suffix(b"\r\n")?.iter().map(|byte| char::from(*byte)).collect())
    }

    /// Whether the other side closed, and said nothing more.
    pub(super) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset && rest.is_empty(),
        }
    }
}

/// A connection that does not wait for ever.
pub(super) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// A GET with these header lines, on a connection of its own.
pub(super) fn get(address: SocketAddr, path: &str, lines: &str) -> Answer {
    Session::open(address).ask(request("GET", path, lines))
}

/// A request without a body; `lines` end with `\r\n` each.
pub(super) fn request(method: &str, path: &str, lines: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: shop\r\n{lines}\r\n")
}
