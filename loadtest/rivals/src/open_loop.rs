//! Requests at a fixed rate, whatever comes back: what a proxy adds when it is far from busy.
//!
//! A request's time runs from when it was due, not from when a connection was free for it, so a stall shows in all requests that it
//! held up. Requests take turns over the connections. One thread; the timer's slack, usually 50 µs, is taken away.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::Outcome;
use crate::load::Counted;

struct Connection {
    stream: TcpStream,
    due: Instant,
    read: Vec<u8>,
}

pub fn run(address: &str, path: &str, per_second: u32, connections: usize, time: Duration) -> Outcome<()> {
    nix::sys::prctl::set_timerslack(1)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").into_bytes();
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let begun = Instant::now();
    let mut open = Vec::new();
    for at in 0..connections {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, &stream, EventData::new_u64(at as u64), EventFlags::IN)?;
        open.push(Connection { stream, due: begun, read: Vec::with_capacity(1024) });
    }
    let interval = Duration::from_secs(1) / per_second;
    // The first quarter of a second opens connections to endpoints and warms caches.
    let begun = Instant::now();
    let counts_from = begun + Duration::from_millis(250);
    let until = counts_from + time;
    let mut next = begun;
    let mut free: VecDeque<usize> = (0..connections).collect();
    let mut waiting = VecDeque::new();
    let mut took = Vec::with_capacity((time.as_secs_f64() * f64::from(per_second)) as usize + 1000);
    let (mut failed, mut buffer) = (0, [0; 4096]);
    let mut events = Vec::with_capacity(256);
    loop {
        let now = Instant::now();
        while next <= now && next < until {
            waiting.push_back(next);
            next += interval;
        }
        while let (Some(&due), Some(&at)) = (waiting.front(), free.front()) {
            open[at].due = due;
            open[at].stream.write_all(&request)?;
            waiting.pop_front();
            free.pop_front();
        }
        if next >= until && free.len() == connections {
            break;
        }
        if now > until + Duration::from_secs(5) {
            failed += (connections - free.len() + waiting.len()) as u64;
            break;
        }
        let wait = next.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), Some(&wait)) {
            Err(Errno::INTR) => continue,
            waited => waited?,
        };
        for event in &events {
            let at = event.data.u64() as usize;
            let connection = &mut open[at];
            let read = connection.stream.read(&mut buffer)?;
            if read == 0 {
                return Err("the proxy closed a kept connection".into());
            }
            connection.read.extend_from_slice(&buffer[..read]);
            let Some(is_good) = complete(&connection.read) else { continue };
            connection.read.clear();
            free.push_back(at);
            if connection.due >= counts_from {
                took.push(connection.due.elapsed().as_nanos() as u64);
                failed += u64::from(!is_good);
            }
        }
    }
    let counted = Counted::with_latencies(took, failed, time);
    println!("{}", serde_json::to_string(&counted)?);
    Ok(())
}

/// Whether an answer with a length is complete, and a 200.
fn complete(read: &[u8]) -> Option<bool> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&read[..end]);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (read.len() >= end + 4 + length).then(|| head.starts_with("HTTP/1.1 200"))
}
