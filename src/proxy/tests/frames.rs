//! HTTP/2 written frame by frame, also as nobody should (RFC 9113).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::dial;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered(u16),
    Reset,
    /// The whole connection ended.
    Closed,
}

/// A frame.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// A client that sends what it is told.
pub(super) struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// Preface and empty settings.
    pub(super) fn open(address: SocketAddr) -> Self {
        let mut frames = Self { stream: dial(address) };
        frames.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    /// `false` when nobody takes it any more.
    pub(super) fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub(super) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.write(&frame(kind, flags, stream, payload))
    }

    pub(super) fn headers(&mut self, flags: u8, stream: u32, fields: &[(&str, &str)]) -> bool {
        self.send(HEADERS, flags | END_HEADERS, stream, &block(fields))
    }

    /// The next frame; `None` when there is none any more.
    pub(super) fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.exactly(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.exactly(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) => {
                assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "silence");
                None
            }
        }
    }

    /// Reads until it is known what became of a stream.
    pub(super) fn fate(&mut self, stream: u32) -> Fate {
        loop {
            match self.read() {
                None => return Fate::Closed,
                Some(frame) if frame.kind == GOAWAY => return Fate::Closed,
                Some(frame) if frame.stream != stream => {}
                Some(frame) if frame.kind == RST_STREAM => return Fate::Reset,
                Some(frame) if frame.kind == HEADERS => return Fate::Answered(status(&frame.payload)),
                Some(_) => {}
            }
        }
    }

    /// The error code of the GOAWAY that ends the connection; `None` if it ends without one.
    pub(super) fn goaway(&mut self) -> Option<u32> {
        loop {
            let frame = self.read()?;
            if frame.kind == GOAWAY {
                let code: [u8; 4] = frame.payload.get(4..8)?.try_into().ok()?;
                return Some(u32::from_be_bytes(code));
            }
        }
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Literal fields that no table remembers (RFC 7541 §6.2.2).
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        // Latin-1, so that a test can write every byte.
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
fn status(block: &[u8]) -> u16 {
    let start = block.iter().position(|byte| byte >> 5 != 1).unwrap();
    match &block[start..] {
        // The static table (RFC 7541, appendix A).
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x48 | 0x08, length, text @ ..] if length & 128 == 0 => {
            std::str::from_utf8(&text[..usize::from(*length)]).unwrap().parse().unwrap()
        }
        [0x48 | 0x08, length, text @ ..] => digits(&text[..usize::from(length & 127)]),
        other => panic!("{other:02x?}"),
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
