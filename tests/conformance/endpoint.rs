//! The endpoint: records every byte it gets, reads it strictly, and answers from a script.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;

use super::case::{Act, SAYS_OK};
use super::strict::{Framing, chunked_length, head_length, read_head};

/// After this nothing comes any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request, as far as it came.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Byte for byte.
    pub bytes: Vec<u8>,
    /// Whether it came to its end.
    pub is_whole: bool,
    /// Why it could be misread.
    pub flaw: Option<String>,
}

/// An endpoint that runs.
pub struct Endpoint {
    address: SocketAddr,
    other: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    script: VecDeque<Vec<Act>>,
    upgrades: Option<&'static str>,
    received: Vec<Received>,
    /// Requests whose part of the script is over.
    done: usize,
    /// Connections that are open.
    open: usize,
    /// Whether the last sentinel was the first request of its connection.
    was_fresh: bool,
}

impl State {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Now) -> T) -> T {
        let changed = change(&mut self.now());
        self.changed.notify_all();
        changed
    }
}

impl Endpoint {
    /// Listens on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<State>::default());
        let served = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = served.clone();
                state.change(|now| now.open += 1);
                std::thread::spawn(move || {
                    Connection::new(stream, state.clone()).serve();
                    state.change(|now| now.open -= 1);
                });
            }
        });
        let idle = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = idle.local_addr().unwrap();
        std::thread::spawn(move || idle.incoming().for_each(drop));
        Self { address, other, state }
    }

    /// As an endpoint is written.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Somebody who takes connections, and is never asked: the candidate at 0 %.
    pub fn other_url(&self) -> String {
        format!("http://{}", self.other)
    }

    /// Its address as a host.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// From now on this is what it does, and what it may be asked to speak.
    pub fn plays(&self, script: &[Vec<Act>], upgrades: Option<&'static str>) {
        let script = script.to_vec().into();
        self.state.change(|now| *now = Now { script, upgrades, open: now.open, ..Now::default() });
    }

    /// Waits until it is done with so many requests.
    pub fn awaits(&self, requests: usize) -> bool {
        self.waits_until(|now| now.done >= requests)
    }

    /// What it got, once all connections are closed; `None` if one stays open.
    pub fn received(&self) -> Option<Vec<Received>> {
        self.waits_until(|now| now.open == 0).then(|| self.state.now().received.clone())
    }

    /// Whether the last sentinel was the first request of its connection.
    pub fn was_fresh(&self) -> bool {
        self.state.now().was_fresh
    }

    fn waits_until(&self, mut is_so: impl FnMut(&mut Now) -> bool) -> bool {
        let waiting = self.state.changed.wait_timeout_while(self.state.now(), PATIENCE, |now| !is_so(now));
        !waiting.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// RFC 6455 §1.3.
fn proof(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap_or_default();
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

struct Connection {
    stream: TcpStream,
    state: Arc<State>,
    input: Vec<u8>,
    served: usize,
}

impl Connection {
    fn new(stream: TcpStream, state: Arc<State>) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, state, input: Vec::new(), served: 0 }
    }

    /// More bytes; `false` at the end.
    fn more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(count) if count > 0 => {
                self.input.extend_from_slice(&bytes[..count]);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn serve(mut self) {
        loop {
            if self.input.is_empty() && !self.more() {
                return;
            }
            if !self.request() {
                return;
            }
        }
    }

    /// Whether another one may follow.
    fn request(&mut self) -> bool {
        let mut received = Received::default();
        let end = loop {
            match head_length(&self.input) {
                Some(end) => break end,
                None if self.more() => {}
                None => {
                    received.bytes = std::mem::take(&mut self.input);
                    self.state.change(|now| now.received.push(received));
                    return false;
                }
            }
        };
        received.bytes = self.input.drain(..end).collect();
        let (target, framing) = match read_head(&received.bytes, self.state.now().upgrades) {
            Ok(read) => read,
            Err(flaw) => {
                received.flaw = Some(flaw);
                self.state.change(|now| now.received.push(received));
                return false;
            }
        };
        self.served += 1;
        if let Some(name) = target.strip_prefix("/sentinel-") {
            let is_fresh = self.served == 1;
            self.state.change(|now| now.was_fresh = is_fresh);
            let text = format!("sentinel-{name}");
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}", text.len());
            return self.stream.write_all(format!("{head}\r\n\r\n{text}").as_bytes()).is_ok();
        }
        let acts = self.state.change(|now| now.script.pop_front());
        let acts = acts.unwrap_or_else(|| vec![Act::ReadBody, Act::Say(SAYS_OK.as_bytes().to_vec())]);
        let goes_on = self.act(&acts, &mut received, framing);
        let goes_on = if goes_on { self.read_body(&mut received, framing) } else { false };
        self.state.change(|now| {
            now.received.push(received);
            now.done += 1;
        });
        goes_on
    }

    fn act(&mut self, acts: &[Act], received: &mut Received, framing: Framing) -> bool {
        for act in acts {
            match act {
                Act::ReadBody if !self.read_body(received, framing) => return false,
                Act::ReadBody => {}
                Act::Say(bytes) => drop(self.stream.write_all(bytes)),
                Act::Accept => {
                    let head = format!(
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Accept: {}\r\n\r\n",
                        proof(&received.bytes)
                    );
                    drop(self.stream.write_all(head.as_bytes()));
                }
                Act::Take(count) => {
                    while self.input.len() < *count {
                        if !self.more() {
                            received.bytes.append(&mut self.input);
                            return false;
                        }
                    }
                    received.bytes.extend(self.input.drain(..*count));
                }
                Act::TakeAll => {
                    while self.more() {}
                    received.bytes.append(&mut self.input);
                }
                Act::HalfClose => drop(self.stream.shutdown(std::net::Shutdown::Write)),
                Act::Close => {
                    drop(self.stream.shutdown(std::net::Shutdown::Both));
                    return false;
                }
                Act::Reset => {
                    drop(socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
                    return false;
                }
            }
        }
        true
    }

    /// Reads to the end of the request; `false` if there is none.
    fn read_body(&mut self, received: &mut Received, framing: Framing) -> bool {
        if received.is_whole {
            return true;
        }
        loop {
            let length = match framing {
                Framing::Length(length) => {
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    Ok(Some(length).filter(|length| self.input.len() >= *length))
                }
                Framing::Chunked => chunked_length(&self.input),
            };
            match length {
                Ok(Some(length)) => {
                    received.bytes.extend(self.input.drain(..length));
                    received.is_whole = true;
                    return true;
                }
                Ok(None) if self.more() => continue,
                Ok(None) => {}
                Err(flaw) => received.flaw = Some(flaw),
            }
            received.bytes.append(&mut self.input);
            return false;
        }
    }
}
