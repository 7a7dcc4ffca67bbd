//! Connections that are what is measured: full handshakes, each with one request, and many that are kept without a word.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::load::Counted;
use crate::{Outcome, tls};

/// As many threads as connections at once; each connects, shakes hands, asks once and closes, again and again.
pub fn handshakes(address: &str, connections: usize, time: Duration) -> Outcome<()> {
    let config = tls::client()?;
    let until = Instant::now() + time;
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let (config, address) = (config.clone(), address.to_owned());
            thread::spawn(move || {
                let (mut took, mut failed) = (Vec::new(), 0);
                while Instant::now() < until {
                    let begun = Instant::now();
                    let visited =
                        open_tls(&config, &address).and_then(|mut stream| ask(&mut stream, &address));
                    match visited {
                        Ok(()) => took.push(begun.elapsed().as_nanos() as u64),
                        Err(_) => failed += 1,
                    }
                }
                (took, failed)
            })
        })
        .collect();
    let (mut took, mut failed) = (Vec::new(), 0);
    for thread in threads {
        let (its, its_failed) = thread.join().map_err(|_| "a visitor panicked")?;
        took.extend(its);
        failed += its_failed;
    }
    println!("{}", serde_json::to_string(&Counted::with_latencies(took, failed, time))?);
    Ok(())
}

/// Opens connections, asks once on each, says so, and keeps them until its input ends.
pub fn idle(address: &str, connections: usize, with_tls: bool) -> Outcome<()> {
    let config = tls::client()?;
    let mut plain = Vec::new();
    let mut secured = Vec::new();
    for _ in 0..connections {
        if with_tls {
            let mut stream = open_tls(&config, address)?;
            ask(&mut stream, address)?;
            secured.push(stream);
        } else {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            ask(&mut stream, address)?;
            plain.push(stream);
        }
    }
    println!("kept");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn open_tls(config: &Arc<ClientConfig>, address: &str) -> Outcome<StreamOwned<ClientConnection, TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(StreamOwned::new(ClientConnection::new(config.clone(), tls::name()?)?, stream))
}

/// A GET of a small answer; fails for anything but a 200.
fn ask<S: Read + Write>(stream: &mut S, address: &str) -> Outcome<()> {
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes())?;
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(format!("answered {line:?}").into());
    }
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err("the answer ended early".into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    Ok(())
}
