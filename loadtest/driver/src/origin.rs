//! Two lean origins: a thread each, a fixed answer, a count of requests.
//!
//! One thread waits for all connections: with a thread for each, the kernel would charge the proxy with waking it.
//! Each listens on 127.0.0.1 and 127.0.0.2, so that a reload can add and remove an endpoint. Both counts are in one
//! word, because between two reads this process may lose the processor for thousands of requests.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::Outcome;

/// One request to blue, in the upper half of the word; green has the lower one.
const BLUE: u64 = 1 << 32;
const GREEN: u64 = 1;

pub struct Origins {
    pub blue_port: u16,
    pub green_port: u16,
    hits: Arc<AtomicU64>,
}

/// Requests so far, at one moment.
#[derive(Clone, Copy)]
pub struct Hits {
    pub blue: u64,
    pub green: u64,
}

impl Origins {
    /// They answer with their names and live as long as this process.
    pub fn start() -> Outcome<Self> {
        let hits = Arc::new(AtomicU64::new(0));
        let blue_port = start("blue", &hits, BLUE)?;
        let green_port = start("green", &hits, GREEN)?;
        Ok(Self { blue_port, green_port, hits })
    }

    pub fn hits(&self) -> Hits {
        let hits = self.hits.load(Ordering::SeqCst);
        Hits { blue: hits / BLUE, green: hits % BLUE }
    }
}

/// Returns the port.
fn start(name: &str, hits: &Arc<AtomicU64>, hit: u64) -> Outcome<u16> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = first.local_addr()?.port();
    let second = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port))?;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len()).into_bytes();
    let hits = hits.clone();
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    for (at, listener) in [&first, &second].into_iter().enumerate() {
        listener.set_nonblocking(true)?;
        epoll::add(&poll, listener, EventData::new_u64(at as u64), EventFlags::IN)?;
    }
    thread::spawn(move || {
        let served = serve(&poll, &[first, second], &hits, hit, &answer);
        eprintln!("loadtest: an origin ended: {served:?}");
    });
    Ok(port)
}

/// Requests without bodies, each in one piece, as the proxy sends them.
fn serve(
    poll: &OwnedFd,
    listeners: &[TcpListener],
    hits: &AtomicU64,
    hit: u64,
    answer: &[u8],
) -> std::io::Result<()> {
    let mut streams: HashMap<u64, TcpStream> = HashMap::new();
    let mut next = listeners.len() as u64;
    let (mut events, mut buffer) = (Vec::with_capacity(256), [0; 4096]);
    loop {
        events.clear();
        match epoll::wait(poll, spare_capacity(&mut events), None) {
            Err(Errno::INTR) => continue,
            waited => waited?,
        };
        for event in &events {
            let key = event.data.u64();
            if let Some(listener) = listeners.get(key as usize) {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    epoll::add(poll, &stream, EventData::new_u64(next), EventFlags::IN)?;
                    streams.insert(next, stream);
                    next += 1;
                }
                continue;
            }
            let Some(stream) = streams.get_mut(&key) else { continue };
            let is_request = match stream.read(&mut buffer) {
                Ok(read) => buffer[..read].ends_with(b"\r\n\r\n"),
                Err(_) => false,
            };
            // Counted before it is answered. What is broken or odd is closed, and fails at the client.
            if is_request {
                hits.fetch_add(hit, Ordering::SeqCst);
            }
            if !is_request || stream.write_all(answer).is_err() {
                streams.remove(&key);
            }
        }
    }
}
