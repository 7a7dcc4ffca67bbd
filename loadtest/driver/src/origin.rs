//! A lean origin: a thread per connection, one fixed answer, a count of requests.
//!
//! It listens on 127.0.0.1 and 127.0.0.2, so that a reload can add and remove an endpoint.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::Outcome;

pub struct Origin {
    pub port: u16,
    hits: Arc<AtomicU64>,
}

impl Origin {
    /// `name` is its whole answer.
    pub fn start(name: &'static str) -> Outcome<Self> {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        let second = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port))?;
        let hits = Arc::new(AtomicU64::new(0));
        let answer: Arc<[u8]> =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len()).into_bytes().into();
        for listener in [first, second] {
            let (hits, answer) = (hits.clone(), answer.clone());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (hits, answer) = (hits.clone(), answer.clone());
                    // A connection that breaks is the proxy's to notice; its requests fail at the client.
                    let serve = move || drop(serve(stream, &hits, &answer));
                    let started = thread::Builder::new().stack_size(64 << 10).spawn(serve);
                    drop(started);
                }
            });
        }
        Ok(Self { port, hits })
    }

    /// Requests so far.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }
}

/// Requests without bodies, one after the other.
fn serve(mut stream: TcpStream, hits: &AtomicU64, answer: &[u8]) -> std::io::Result<()> {
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
            hits.fetch_add(1, Ordering::SeqCst);
            stream.write_all(answer)?;
            filled = 0;
        }
    }
}
