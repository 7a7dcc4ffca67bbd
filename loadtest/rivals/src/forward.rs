//! The floor: bytes from here to there and back, nothing understood. What a proxy costs beyond this is what it does.
//!
//! It has no split. One thread, one buffer, a pair of sockets for each client.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::Outcome;

struct End {
    stream: TcpStream,
    /// What was read for it and did not fit.
    pending: VecDeque<u8>,
}

/// The process: forwards from one address to the other until it is killed.
pub fn run(from: &str, to: &str) -> Outcome<()> {
    let listener = TcpListener::bind(from)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(0), EventFlags::IN)?;
    // Clients have even keys, their endpoint's connection the odd one behind it.
    let mut ends: HashMap<u64, End> = HashMap::new();
    let mut next = 2;
    let (mut events, mut buffer) = (Vec::with_capacity(256), vec![0; 64 << 10]);
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    loop {
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Err(Errno::INTR) => continue,
            waited => waited?,
        };
        for event in &events {
            let (key, now) = (event.data.u64(), event.flags);
            if key == 0 {
                while let Ok((client, _)) = listener.accept() {
                    let endpoint = TcpStream::connect(to)?;
                    for (key, stream) in [(next, client), (next + 1, endpoint)] {
                        stream.set_nodelay(true)?;
                        stream.set_nonblocking(true)?;
                        epoll::add(&poll, &stream, EventData::new_u64(key), flags)?;
                        ends.insert(key, End { stream, pending: VecDeque::new() });
                    }
                    next += 2;
                }
                continue;
            }
            let mut went = Ok(());
            if now.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                went = forward(&mut ends, key, &mut buffer);
            }
            // Room at this end: the other one may have more for it.
            let waits = ends.get(&key).is_some_and(|end| !end.pending.is_empty());
            if now.contains(EventFlags::OUT) && waits && went.is_ok() {
                went = flush(&mut ends, key).and_then(|()| forward(&mut ends, key ^ 1, &mut buffer));
            }
            if went.is_err() {
                ends.remove(&key);
                ends.remove(&(key ^ 1));
            }
        }
    }
}

/// Reads at `key` until there is nothing more, or no room at the other end.
fn forward(ends: &mut HashMap<u64, End>, key: u64, buffer: &mut [u8]) -> std::io::Result<()> {
    loop {
        let [Some(from), Some(to)] = ends.get_disjoint_mut([&key, &(key ^ 1)]) else { return Ok(()) };
        if !to.pending.is_empty() {
            return Ok(());
        }
        let read = match from.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let written = match to.stream.write(&buffer[..read]) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        to.pending.extend(&buffer[written..read]);
        if read < buffer.len() && written == read {
            return Ok(());
        }
    }
}

fn flush(ends: &mut HashMap<u64, End>, key: u64) -> std::io::Result<()> {
    let Some(end) = ends.get_mut(&key) else { return Ok(()) };
    while !end.pending.is_empty() {
        match end.stream.write(end.pending.as_slices().0) {
            Ok(written) => drop(end.pending.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
