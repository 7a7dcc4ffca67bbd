//! An app instance that a test writes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    pub(super) line: String,
    /// Names in lower case, in order.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Names of trailers, as they came.
    pub(super) trailers: Vec<String>,
    /// Which connection it came on, from 0.
    pub(super) connection: usize,
}

impl Received {
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    #[track_caller]
    pub(super) fn one(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name} in {:?}", self.fields);
        all[0]
    }

    pub(super) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

/// A running origin; it goes on until the test process ends.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// All requests so far.
    pub(super) fn seen(&self) -> Vec<Received> {
        self.seen.lock().unwrap().clone()
    }

    #[track_caller]
    pub(super) fn last(&self) -> Received {
        self.seen().pop().expect("a request")
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// An origin that answers as `behave` writes to its socket; `false` closes the connection.
pub(super) fn origin(behave: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static) -> Origin {
    origin_at("127.0.0.1:0".parse().unwrap(), behave)
}

pub(super) fn origin_at(
    address: SocketAddr,
    behave: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> Origin {
    origin_by(TcpListener::bind(address).unwrap(), behave)
}

fn origin_by(
    listener: TcpListener,
    behave: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> Origin {
    let origin =
        Origin { address: listener.local_addr().unwrap(), seen: Arc::default(), connections: Arc::default() };
    let (behave, shared) = (Arc::new(behave), origin.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
            let (behave, seen) = (behave.clone(), shared.seen.clone());
            std::thread::spawn(move || serve(stream, connection, &seen, &*behave));
        }
    });
    origin
}

/// An origin-to-be whose queue of connections is full: the system lets nobody in.
pub(super) struct Full {
    pub(super) address: SocketAddr,
    listener: TcpListener,
    guests: Vec<Socket>,
}

impl Full {
    pub(super) fn new() -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let busy = socket();
        busy.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        busy.listen(0).unwrap();
        let listener = TcpListener::from(busy);
        let address = listener.local_addr().unwrap();
        let guests = (0..4).map(|_| {
            let guest = socket();
            guest.set_nonblocking(true).unwrap();
            let _ = guest.connect(&address.into());
            guest
        });
        Self { address, guests: guests.collect(), listener }
    }

    /// Lets everybody in.
    pub(super) fn opens(
        self,
        behave: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Origin {
        drop(self.guests);
        origin_by(self.listener, behave)
    }
}

/// An origin that always says the same.
pub(super) fn answer(text: &'static str) -> Origin {
    origin(move |request, stream| {
        let body = if request.line.starts_with("HEAD") { "" } else { text };
        let length = text.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").is_ok()
    })
}

fn serve(
    mut stream: TcpStream,
    connection: usize,
    seen: &Mutex<Vec<Received>>,
    behave: &dyn Fn(&Received, &mut TcpStream) -> bool,
) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader, connection) {
        seen.lock().unwrap().push(request.clone());
        if !behave(&request, &mut stream) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// A whole request; `None` when the connection ends before or inside it.
fn read(reader: &mut BufReader<TcpStream>, connection: usize) -> Option<Received> {
    let mut request = Received { connection, line: line(reader)?, ..Received::default() };
    loop {
        let text = line(reader)?;
        let Some((name, value)) = text.split_once(':') else { break };
        request.fields.push((name.to_lowercase(), value.trim().to_owned()));
    }
    if request.has("transfer-encoding") {
        loop {
            let size = usize::from_str_radix(&line(reader)?, 16).ok()?;
            let start = request.body.len();
            request.body.resize(start + size, 0);
            reader.read_exact(&mut request.body[start..]).ok()?;
            if size == 0 {
                break;
            }
            line(reader)?;
        }
        while let Some((name, _)) = line(reader)?.split_once(':') {
            request.trailers.push(name.to_lowercase());
        }
    } else if request.has("content-length") && !request.has("x-do-not-read") {
        request.body.resize(request.one("content-length").parse().ok()?, 0);
        reader.read_exact(&mut request.body).ok()?;
    }
    Some(request)
}

/// A line without its end, byte for byte (each byte one character).
fn line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes).ok().filter(|count| *count > 0)?;
    Some(bytes.strip_suffix(b"\r\n")?.iter().map(|byte| char::from(*byte)).collect())
}
