//! A name server that says what it is told to: RFC 1035 over UDP, by hand.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Every name has the addresses it says, for a second.
pub struct NameServer {
    address: SocketAddr,
    facts: Arc<Facts>,
}

#[derive(Default)]
struct Facts {
    /// `None`: it refuses to say.
    addresses: Mutex<Option<Vec<Ipv4Addr>>>,
    asked: AtomicU64,
    is_over: AtomicBool,
}

/// Starts one.
pub fn name_server(addresses: &[Ipv4Addr]) -> NameServer {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let address = socket.local_addr().unwrap();
    let facts = Arc::new(Facts { addresses: Mutex::new(Some(addresses.to_vec())), ..Facts::default() });
    let said = facts.clone();
    std::thread::spawn(move || {
        let mut question = [0; 1500];
        while !said.is_over.load(Ordering::SeqCst) {
            let Ok((length, client)) = socket.recv_from(&mut question) else { continue };
            let addresses = said.addresses.lock().unwrap().clone();
            if let Some(answer) = answer(&question[..length], addresses) {
                drop(socket.send_to(&answer, client));
            }
            said.asked.fetch_add(1, Ordering::SeqCst);
        }
    });
    NameServer { address, facts }
}

impl NameServer {
    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on; `None`: it refuses to say.
    pub fn says(&self, addresses: Option<&[Ipv4Addr]>) {
        *self.facts.addresses.lock().unwrap() = addresses.map(<[_]>::to_vec);
    }

    /// How many questions it has answered.
    pub fn asked(&self) -> u64 {
        self.facts.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.facts.is_over.store(true, Ordering::SeqCst);
    }
}

fn answer(question: &[u8], addresses: Option<Vec<Ipv4Addr>>) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const A: u16 = 1;
    // One name, then type and class.
    let mut end = HEADER;
    while *question.get(end)? != 0 {
        end += 1 + usize::from(question[end]);
    }
    let kind = u16::from_be_bytes([*question.get(end + 1)?, *question.get(end + 2)?]);
    let asked = question.get(HEADER..end + 5)?;
    let is_refused = addresses.is_none();
    let addresses = addresses.filter(|_| kind == A).unwrap_or_default();
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, if is_refused { 0x82 } else { 0x80 }, 0, 1]);
    answer.extend((addresses.len() as u16).to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(asked);
    for address in addresses {
        answer.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
