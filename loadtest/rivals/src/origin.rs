//! The app behind all proxies: two lean origins, blue and green, in one thread of a process of its own.
//!
//! One thread waits for all connections: with a thread for each, the kernel would charge the proxy with waking it. An
//! answer is four or five bytes, or a MiB for paths that begin with /mib; a request's body is read and thrown away.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use serde_json::json;

use crate::{Outcome, origin_h2};

pub const MIB: usize = 1 << 20;
/// The sides in the order of their listeners, which is that of their ports, too.
pub const SIDES: [&str; 2] = ["blue", "green"];

/// The process: says its ports as JSON, and serves until it is killed. GET /hits says what has reached each side.
pub fn run() -> Outcome<()> {
    let listeners = [listen()?, listen()?];
    let h2 = [listen()?, listen()?];
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    let said = json!({
        "blue": port(&listeners[0])?, "green": port(&listeners[1])?,
        "blue_h2": port(&h2[0])?, "green_h2": port(&h2[1])?,
    });
    println!("{said}");
    thread::spawn(move || {
        if let Err(error) = origin_h2::serve(h2) {
            eprintln!("rivals: the HTTP/2 origins ended: {error}");
        }
    });
    serve(&listeners)
}

fn listen() -> Outcome<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct Connection {
    stream: TcpStream,
    side: usize,
    /// What has come of a head that is not complete.
    head: Vec<u8>,
    /// What is missing of a request's body.
    body_left: usize,
    /// The answer for when the body is complete, and what of it has been sent.
    answer: Answer,
    sent: usize,
}

#[derive(Clone, Copy)]
enum Answer {
    None,
    Small,
    Large,
    Hits,
}

/// A head and body for each [`Answer`] with a constant one.
struct Answers {
    small: [Vec<u8>; 2],
    large: Vec<u8>,
}

fn serve(listeners: &[TcpListener; 2]) -> Outcome<()> {
    let answers = Answers { small: SIDES.map(|side| answer(side.as_bytes())), large: answer(&[b'x'; MIB]) };
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    for (at, listener) in listeners.iter().enumerate() {
        epoll::add(&poll, listener, EventData::new_u64(at as u64), EventFlags::IN)?;
    }
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut next = listeners.len() as u64;
    let mut hits = [0_u64; 2];
    let (mut events, mut buffer) = (Vec::with_capacity(256), vec![0; 256 << 10]);
    loop {
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Err(Errno::INTR) => continue,
            waited => waited?,
        };
        for event in &events {
            let (key, flags) = (event.data.u64(), event.flags);
            if let Some(listener) = listeners.get(key as usize) {
                while let Ok((stream, _)) = listener.accept() {
                    accept(&poll, &mut connections, next, stream, key as usize)?;
                    next += 1;
                }
                continue;
            }
            let Some(connection) = connections.get_mut(&key) else { continue };
            // What is broken or odd is closed, and fails at the client.
            let readable = flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR);
            if connection.go_on(readable, &mut buffer, &answers, &mut hits).is_err() {
                connections.remove(&key);
            }
        }
    }
}

fn accept(
    poll: &OwnedFd,
    connections: &mut HashMap<u64, Connection>,
    key: u64,
    stream: TcpStream,
    side: usize,
) -> Outcome<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    // Edge-triggered, so that waiting for room to write costs nothing while there is room.
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    epoll::add(poll, &stream, EventData::new_u64(key), flags)?;
    let connection =
        Connection { stream, side, head: Vec::new(), body_left: 0, answer: Answer::None, sent: 0 };
    connections.insert(key, connection);
    Ok(())
}

impl Connection {
    fn go_on(
        &mut self,
        readable: bool,
        buffer: &mut [u8],
        answers: &Answers,
        hits: &mut [u64; 2],
    ) -> std::io::Result<()> {
        self.write(answers, hits)?;
        if !readable {
            return Ok(());
        }
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut rest = &buffer[..read];
            if matches!(self.answer, Answer::None) {
                self.head.extend_from_slice(rest);
                let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = std::mem::take(&mut self.head);
                let (answer, length) = understand(&head[..end]).ok_or(ErrorKind::InvalidData)?;
                hits[self.side] += u64::from(!matches!(answer, Answer::Hits));
                (self.answer, self.body_left, self.sent) = (answer, length, 0);
                rest = &rest[rest.len() - (head.len() - end - 4)..];
            }
            self.body_left = self.body_left.checked_sub(rest.len()).ok_or(ErrorKind::InvalidData)?;
            if self.body_left == 0 {
                self.write(answers, hits)?;
            }
            // A short read of an edge-triggered socket has emptied it.
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    fn write(&mut self, answers: &Answers, hits: &[u64; 2]) -> std::io::Result<()> {
        if self.body_left > 0 {
            return Ok(());
        }
        let counted;
        let answer = match self.answer {
            Answer::None => return Ok(()),
            Answer::Small => &answers.small[self.side],
            Answer::Large => &answers.large,
            Answer::Hits => {
                counted = answer(format!("{} {}", hits[0], hits[1]).as_bytes());
                &counted
            }
        };
        while self.sent < answer.len() {
            match self.stream.write(&answer[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.answer = Answer::None;
        Ok(())
    }
}

fn answer(body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// What a head asks for, and the length of the body behind it. `None` for a body of unknown length: no load here has one.
fn understand(head: &[u8]) -> Option<(Answer, usize)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?;
    let answer = match path {
        "/hits" => Answer::Hits,
        _ if path.starts_with("/mib") => Answer::Large,
        _ => Answer::Small,
    };
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
    }
    Some((answer, length))
}
