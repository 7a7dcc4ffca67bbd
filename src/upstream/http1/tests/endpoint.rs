//! The other end of a connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::upstream::EndpointUrl;

/// One accepted connection.
pub(super) struct Peer {
    stream: TcpStream,
}

/// Serves connections one after another, the first as number 0, until the test process ends.
pub(super) fn endpoint(serve: impl Fn(usize, &mut Peer) + Send + 'static) -> EndpointUrl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.set_nodelay(true).unwrap();
            serve(number, &mut Peer { stream });
        }
    });
    url
}

/// Answers one request of each connection with these bytes, and closes it.
pub(super) fn says(bytes: impl AsRef<[u8]>) -> EndpointUrl {
    let bytes = bytes.as_ref().to_vec();
    endpoint(move |_, peer| {
        peer.head();
        peer.say(&bytes);
        peer.says_no_more();
    })
}

impl Peer {
    /// A request head, its empty line included.
    pub(super) fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.read(1));
        }
        String::from_utf8(head).unwrap()
    }

    pub(super) fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        self.stream.read_exact(&mut read).unwrap();
        read
    }

    /// Everything until the proxy closes.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }

    pub(super) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Says it if somebody listens.
    pub(super) fn say_if_heard(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Closes this direction, and waits until the other one is closed.
    pub(super) fn says_no_more(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        self.rest();
    }

    /// Closes with a reset.
    pub(super) fn resets(&mut self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
