//! All proxies at once, each on ports of its own in front of the same origins.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::load::Addresses;
use crate::process::{Process, on_cores};
use crate::product::{ALL, Product};
use crate::{Outcome, tls};

const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// Which cores who runs on, as `taskset` wants them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cores {
    pub threads: u32,
    pub proxy: &'static str,
    pub others: &'static str,
}

pub const ONE: Cores = Cores { threads: 1, proxy: "0", others: "1" };
pub const TWO: Cores = Cores { threads: 2, proxy: "0,1", others: "0,1" };

pub struct Fleet {
    pub cores: Cores,
    pub proxies: Vec<Proxy>,
    pub origin: Process,
    /// Where blue answers without a proxy.
    pub blue: String,
}

pub struct Proxy {
    pub product: Product,
    pub process: Process,
    pub addresses: Addresses,
    pub command: Vec<String>,
}

impl Fleet {
    /// Whoever does not start is said loudly, and left out. Configurations that were used are left in `kept`.
    pub fn start(cores: Cores, folder: &Path, kept: &Path) -> Outcome<Self> {
        let folder = folder.join(format!("{}-threads", cores.threads));
        fs::create_dir_all(&folder)?;
        tls::write_certificate(&folder)?;
        let (origin, ports) = start_origin(cores)?;
        let endpoint = |side: &str| format!("127.0.0.1:{}", ports[side]);
        let mut fleet = Self { cores, proxies: Vec::new(), origin, blue: endpoint("blue") };
        for product in ALL.into_iter().filter(|product| product.program().is_some()) {
            let folder = folder.join(product.name().replace(' ', "-"));
            fs::create_dir_all(&folder)?;
            let mut values = BTreeMap::from([("threads", cores.threads.to_string())]);
            for side in ["blue", "green", "blue_h2", "green_h2"] {
                values.insert(side, endpoint(side));
            }
            for (key, port) in [
                ("blue_port", "blue"),
                ("green_port", "green"),
                ("blue_h2_port", "blue_h2"),
                ("green_h2_port", "green_h2"),
            ] {
                values.insert(key, ports[port].to_string());
            }
            let [plain, tls, telemetry] = free_ports()?;
            for (key, port) in [("plain", plain), ("tls", tls), ("telemetry", telemetry)] {
                values.insert(key, format!("127.0.0.1:{port}"));
            }
            values.insert("plain_port", plain.to_string());
            values.insert("tls_port", tls.to_string());
            values.insert("folder", folder.display().to_string());
            let above = folder.parent().unwrap_or(&folder);
            for (key, file) in [("certificate", "certificate.pem"), ("key", "key.pem"), ("pem", "both.pem")] {
                values.insert(key, above.join(file).display().to_string());
            }
            let is_root = nix::unistd::geteuid().is_root();
            values.insert("user", if is_root { "user root;" } else { "" }.to_owned());
            let command = product.command(&folder, &values)?;
            if let Some((name, _)) = product.config() {
                let kept = kept.join("configs");
                fs::create_dir_all(&kept)?;
                // Where that was says nothing.
                let used =
                    fs::read_to_string(folder.join(name))?.replace(&above.display().to_string(), "FOLDER");
                fs::write(kept.join(format!("{}-threads-{name}", cores.threads)), used)?;
            }
            let process = Process::start(cores.proxy, &command, &folder, Some("log"))?;
            let addresses = Addresses { plain: values["plain"].clone(), tls: values["tls"].clone() };
            let mut proxy = Proxy { product, process, addresses, command };
            match proxy.is_ready() {
                Ok(()) => fleet.proxies.push(proxy),
                Err(error) => {
                    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                    eprintln!("rivals: LEFT OUT: {} did not start: {error}\n{log}", product.name());
                }
            }
        }
        if !fleet.proxies.iter().any(|proxy| proxy.product == Product::Tidegate) {
            return Err("there is nothing to compare with if Tidegate does not run".into());
        }
        Ok(fleet)
    }

    pub fn proxy(&self, product: Product) -> Option<&Proxy> {
        self.proxies.iter().find(|proxy| proxy.product == product)
    }

    /// Requests that have reached blue and green by HTTP/1.1.
    pub fn hits(&self) -> Outcome<[u64; 2]> {
        let (_, body) = get(&self.blue, "/hits", "")?;
        let mut numbers = body.split(' ').map(str::parse);
        Ok([numbers.next().ok_or("no hits")??, numbers.next().ok_or("no hits of green")??])
    }
}

impl Proxy {
    /// Waits until it has answered ten requests in a row with 200, on the plain address.
    fn is_ready(&mut self) -> Outcome<()> {
        let begun = Instant::now();
        let mut good = 0;
        while good < 10 {
            match get(&self.addresses.plain, "/", "") {
                Ok((head, _)) if head.starts_with("HTTP/1.1 200") => good += 1,
                answered => {
                    good = 0;
                    if self.process.has_ended() {
                        return Err("it ended".into());
                    }
                    if begun.elapsed() > STARTS_WITHIN {
                        let answered = answered.map(|(head, _)| head);
                        return Err(format!("not ready after {STARTS_WITHIN:?}: {answered:?}").into());
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
        Ok(())
    }
}

/// Head and body of an answer with a length, on a connection of its own. `fields` end in CRLF.
pub fn get(address: &str, path: &str, fields: &str) -> Outcome<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n{fields}\r\n")?;
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let before = head.len();
        if stream.read_line(&mut head)? == 0 {
            return Err("closed instead of an answer".into());
        }
        if head[before..].trim_end().is_empty() {
            break;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length.ok_or("no length")?];
    stream.read_exact(&mut body)?;
    Ok((head, String::from_utf8(body)?))
}

fn start_origin(cores: Cores) -> Outcome<(Process, BTreeMap<String, u16>)> {
    let command = [std::env::current_exe()?.display().to_string(), "origin".to_owned()];
    let mut child = on_cores(cores.others, &command).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take();
    let process = Process::of(child);
    let mut ports = String::new();
    BufReader::new(stdout.ok_or("the origin has no output")?).read_line(&mut ports)?;
    Ok((process, serde_json::from_str(&ports)?))
}

/// Free now, and nothing else here takes ports from this range before they are bound.
fn free_ports() -> Outcome<[u16; 3]> {
    let listeners: [_; 3] = std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}
