//! POSTs that can be told apart, one after the other on each of some kept connections.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Outcome;
use crate::http::exchange;

const CONNECTIONS: usize = 8;

pub struct Posts {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<BTreeMap<String, u64>>>,
}

impl Posts {
    pub fn start(address: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let one = |at: usize| {
            let (over, address) = (over.clone(), address.to_owned());
            thread::spawn(move || post(&address, at, &over))
        };
        let threads = (0..CONNECTIONS).map(one).collect();
        Self { over, threads }
    }

    /// How many got which answer.
    pub fn stop(self) -> BTreeMap<String, u64> {
        self.over.store(true, Ordering::SeqCst);
        let mut all = BTreeMap::new();
        for thread in self.threads {
            for (answer, count) in thread.join().unwrap_or_default() {
                *all.entry(answer).or_default() += count;
            }
        }
        all
    }
}

fn post(address: &str, at: usize, over: &AtomicBool) -> BTreeMap<String, u64> {
    let (mut seen, mut connection) = (BTreeMap::new(), None);
    for number in 0u64.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let field = format!("x-id: {at}-{number}\r\n");
        let answer = match connection.take().map_or_else(|| connect(address), Ok) {
            Ok(mut stream) => exchange(&mut stream, "POST", "/order", &field, "one more").map(|answer| {
                connection = Some(stream);
                format!("status {}", answer.status)
            }),
            Err(error) => Err(error),
        };
        *seen.entry(answer.unwrap_or_else(|_| "connection ended".to_owned())).or_default() += 1;
    }
    seen
}

fn connect(address: &str) -> Outcome<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(BufReader::new(stream))
}
