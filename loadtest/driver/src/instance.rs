//! Instances of an app that die, hang, fail or are slow: a process each, so that they can be killed.
//!
//! Each request of a connection is answered by a thread of its own. A POST writes its `x-id` to a file that all instances
//! share before it is answered: what stands there twice was executed twice.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Outcome;
use crate::http::exchange;

/// How an instance behaves. `/up` is answered with 200 by all that answer.
#[derive(Clone, Copy)]
pub enum Manner {
    /// Answers after so long.
    After(Duration),
    /// Accepts and says nothing.
    Hung,
    /// Answers so many of a hundred requests with 500.
    Failing(u32),
}

impl Manner {
    fn words(self) -> [String; 2] {
        match self {
            Self::After(time) => ["after".into(), time.as_micros().to_string()],
            Self::Hung => ["hung".into(), "0".into()],
            Self::Failing(percent) => ["failing".into(), percent.to_string()],
        }
    }

    fn read(word: &str, number: &str) -> Outcome<Self> {
        match word {
            "after" => Ok(Self::After(Duration::from_micros(number.parse()?))),
            "hung" => Ok(Self::Hung),
            "failing" => Ok(Self::Failing(number.parse()?)),
            _ => Err(format!("{word:?} is no manner").into()),
        }
    }
}

/// One instance, alive until this is dropped.
pub struct Instance {
    pub port: u16,
    manner: Manner,
    executed: PathBuf,
    child: Arc<Mutex<Option<Child>>>,
    mortal: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Instance {
    pub fn start(folder: &Path, manner: Manner) -> Outcome<Self> {
        // Free now; it is bound again at once, and nothing else here takes ports from this range.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let executed = folder.join("executed");
        let child = Arc::new(Mutex::new(Some(spawn(port, manner, &executed)?)));
        Ok(Self { port, manner, executed, child, mortal: None })
    }

    /// From now on it is killed every second, and is back half a second later.
    pub fn dies_every_second(&mut self) {
        let over = Arc::new(AtomicBool::new(false));
        let (until, child) = (over.clone(), self.child.clone());
        let (port, manner, executed) = (self.port, self.manner, self.executed.clone());
        let half = Duration::from_millis(500);
        let thread = thread::spawn(move || {
            while !until.load(Ordering::SeqCst) {
                end(&child);
                thread::sleep(half);
                match spawn(port, manner, &executed) {
                    Ok(again) => *child.lock().expect("no thread panics with it") = Some(again),
                    Err(error) => eprintln!("loadtest: an instance did not come back: {error}"),
                }
                thread::sleep(half);
            }
        });
        self.mortal = Some((over, thread));
    }

    /// How many requests have reached it, checks apart. One that is dead or hung has forgotten.
    pub fn hits(&self) -> u64 {
        let ask = || -> Outcome<u64> {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            Ok(exchange(&mut BufReader::new(stream), "GET", "/hits", "", "")?.body.parse()?)
        };
        ask().unwrap_or(0)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some((over, thread)) = self.mortal.take() {
            over.store(true, Ordering::SeqCst);
            let _ = thread.join();
        }
        end(&self.child);
    }
}

fn spawn(port: u16, manner: Manner, executed: &Path) -> Outcome<Child> {
    let [word, number] = manner.words();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["instance", &port.to_string(), &word, &number])
        .arg(executed)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut ready)?;
    }
    if ready.trim() == "ready" { Ok(child) } else { Err("an instance did not start".into()) }
}

fn end(child: &Mutex<Option<Child>>) {
    if let Some(mut child) = child.lock().expect("no thread panics with it").take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// How often each id of a POST was executed, all instances together.
pub fn executions(folder: &Path) -> Outcome<HashMap<String, u32>> {
    let mut seen = HashMap::new();
    if let Ok(text) = std::fs::read_to_string(folder.join("executed")) {
        for id in text.lines() {
            *seen.entry(id.to_owned()).or_default() += 1;
        }
    }
    Ok(seen)
}

/// The process that an [`Instance`] is: `PORT MANNER NUMBER FILE`.
pub fn run(arguments: &[String]) -> Outcome<()> {
    let [port, word, number, executed] = arguments else { return Err("instance needs four words".into()) };
    let manner = Manner::read(word, number)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    let executed = Arc::new(OpenOptions::new().create(true).append(true).open(executed)?);
    println!("ready");
    let hits = Arc::new(AtomicU64::new(0));
    let mut kept = Vec::new();
    loop {
        // Out of descriptors, for a moment: the next one may have better luck.
        let Ok((stream, _)) = listener.accept() else { continue };
        if matches!(manner, Manner::Hung) {
            kept.push(stream);
            continue;
        }
        let (executed, hits) = (executed.clone(), hits.clone());
        // A connection that breaks is its client's business.
        thread::spawn(move || drop(serve(stream, manner, &executed, &hits)));
    }
}

fn serve(stream: TcpStream, manner: Manner, executed: &File, hits: &AtomicU64) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let Some(request) = read(&mut stream)? else { return Ok(()) };
        let mut status = "200 OK";
        let mut body = "ok".to_owned();
        match request.path.as_str() {
            "/up" => {}
            "/hits" => body = hits.load(Ordering::SeqCst).to_string(),
            _ => {
                let hit = hits.fetch_add(1, Ordering::SeqCst);
                if let Some(id) = request.id {
                    let mut executed = executed;
                    executed.write_all(format!("{id}\n").as_bytes())?;
                }
                match manner {
                    Manner::After(time) if !time.is_zero() => thread::sleep(time),
                    // Spread evenly: 37 and 100 have no common divisor.
                    Manner::Failing(percent) if hit * 37 % 100 < u64::from(percent) => {
                        status = "500 Internal Server Error";
                    }
                    Manner::After(_) | Manner::Failing(_) | Manner::Hung => {}
                }
            }
        }
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.get_mut().write_all(answer.as_bytes())?;
    }
}

struct Request {
    path: String,
    id: Option<String>,
}

/// `None` at the end of the connection.
fn read(stream: &mut BufReader<TcpStream>) -> Outcome<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
    let (mut id, mut length) = (None, 0);
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("x-id") {
            id = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    Ok(Some(Request { path, id }))
}
