//! HTTP/2 written frame by frame, also as nobody should (RFC 9113).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::client::dial;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A whole answer.
    Answered(u16, Vec<u8>),
    /// An answer that was broken off.
    Truncated(u16, Vec<u8>),
    /// RST_STREAM alone.
    Reset,
    /// The connection ended.
    Closed,
    /// Nothing came in time.
    Silence,
}

/// A client that sends what it is told.
pub struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// The preface alone.
    pub fn open(address: SocketAddr) -> Self {
        let mut frames = Self { stream: dial(address) };
        frames.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames
    }

    /// Whoever refuses it need not read it.
    pub fn write(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    fn read(&mut self) -> Result<(u8, u8, u32, Vec<u8>), Fate> {
        let mut head = [0; 9];
        self.exactly(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.exactly(&mut payload)?;
        Ok((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), Fate> {
        self.stream.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Fate::Silence,
            _ => Fate::Closed,
        })
    }

    /// Reads until it is known what became of the first stream.
    pub fn fate(&mut self) -> Fate {
        let (mut status, mut body) = (0, Vec::new());
        loop {
            let (kind, flags, stream, payload) = match self.read() {
                Ok(frame) => frame,
                Err(Fate::Closed) if status != 0 => return Fate::Truncated(status, body),
                Err(fate) => return fate,
            };
            match kind {
                GOAWAY => return if status == 0 { Fate::Closed } else { Fate::Truncated(status, body) },
                _ if stream != 1 => {}
                RST_STREAM if status == 0 => return Fate::Reset,
                RST_STREAM => return Fate::Truncated(status, body),
                HEADERS if status == 0 => status = read_status(&payload),
                DATA => body.extend(payload),
                _ => {}
            }
            if stream == 1 && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                return Fate::Answered(status, body);
            }
        }
    }
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A whole field section of the first stream.
pub fn headers(flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, 1, &block(fields))
}

/// Literal fields that no table remembers (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        // Latin-1, so that a row can write every byte.
        for text in [name, value] {
            let text: Vec<u8> = text.chars().map(|char| char as u8).collect();
            length(&mut bytes, text.len());
            bytes.extend(text);
        }
    }
    bytes
}

/// RFC 7541 §5.1, with a prefix of seven bits.
fn length(bytes: &mut Vec<u8>, mut length: usize) {
    if length < 127 {
        return bytes.push(length as u8);
    }
    bytes.push(127);
    length -= 127;
    while length >= 128 {
        bytes.push(length as u8 | 128);
        length >>= 7;
    }
    bytes.push(length as u8);
}

/// `:status` of the first response of a connection, which stands first and is not remembered yet.
fn read_status(block: &[u8]) -> u16 {
    let start = block.iter().position(|byte| byte >> 5 != 1).unwrap_or(0);
    match &block[start..] {
        // The static table (RFC 7541, appendix A).
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        [0x48 | 0x08, length, text @ ..] => digits(&text[..usize::from(length & 127)]),
        _ => 0,
    }
}

/// Three digits of appendix B: `0` to `2` have five bits, the others six.
fn digits(text: &[u8]) -> u16 {
    let bits: Vec<u8> = text.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let read =
            |count: usize| bits[at..at + count].iter().fold(0_u16, |all, bit| all << 1 | u16::from(*bit));
        let (digit, count) = if read(5) < 3 { (read(5), 5) } else { (read(6) - 22, 6) };
        number = number * 10 + digit;
        at += count;
    }
    number
}
