//! Two lean origins: a thread per connection, a fixed answer, a count of requests.
//!
//! Each listens on 127.0.0.1 and 127.0.0.2, so that a reload can add and remove an endpoint. Both counts are in one
//! word, because between two reads this process may lose the processor for thousands of requests.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

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
    let answer: Arc<[u8]> =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len()).into_bytes().into();
    for listener in [first, second] {
        let (hits, answer) = (hits.clone(), answer.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (hits, answer) = (hits.clone(), answer.clone());
                // A connection that breaks is the proxy's to notice; its requests fail at the client.
                let serve = move || drop(serve(stream, &hits, hit, &answer));
                if let Err(error) = thread::Builder::new().stack_size(64 << 10).spawn(serve) {
                    eprintln!("loadtest: an origin has no thread for a connection: {error}");
                }
            }
        });
    }
    Ok(port)
}

/// Requests without bodies, one after the other.
fn serve(mut stream: TcpStream, hits: &AtomicU64, hit: u64, answer: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            hits.fetch_add(hit, Ordering::SeqCst);
            stream.write_all(answer)?;
            filled = 0;
        }
    }
}
