//! What strangers may do to a gate that stands on the internet: the real program as a process of its own, what it takes of
//! memory and time, and what others notice of it.
//!
//! `cargo test --release --test soak -- abuse:: --nocapture --test-threads 1`. Ten thousand connections need 12,000 file
//! descriptors here and as many there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use tidegate::clock;

use crate::support::gate::cpu_time;
use crate::support::{Gate, Wire, connect, get, tidegate, until};
use crate::{ONE, quantiles};

const IDLE: usize = 10_000;
const SLOW_READERS: usize = 1_000;
const SLOW_WRITERS: usize = 2_000;
const STREAMS: u32 = 3_000;
const FLOOD: usize = 64 << 20;
const BIG: u64 = 64 << 20;
/// Later than `timeouts.head`, when an idle connection gives its buffers away.
const ASLEEP_AFTER: Duration = Duration::from_secs(5);
/// Whoever takes nothing for so long takes nothing more.
const PATIENCE: Duration = Duration::from_secs(3);

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

// Those on the other side of the gate.

/// Answers everything but `/held` at once, `/big` with 64 MiB; a thread of its own.
struct App {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl App {
    fn start() -> Self {
        // Not the few that the standard library lets wait: whoever is not let in at once waits for a second.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(4096).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener: std::net::TcpListener = socket.into();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<AtomicU64>::default();
        let counted = requests.clone();
        // It ends with the test process.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(stream, counted.clone()));
                }
            });
        });
        Self { address, requests }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same app under another name: nobody is sent there.
    fn elsewhere(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn answer(stream: TcpStream, requests: Arc<AtomicU64>) {
    drop(stream.set_nodelay(true));
    let mut wire = Wire::new(stream);
    while let Ok(Some(request)) = wire.request().await {
        if request.head.contains("/held") {
            requests.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        let length = if request.head.contains("/big") { BIG } else { 2 };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        if length == 2 {
            if wire.write(format!("{head}ok").as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        if wire.write(head.as_bytes()).await.is_err() {
            return;
        }
        let piece = [b'x'; 64 * 1024];
        for _ in 0..length / piece.len() as u64 {
            if wire.write(&piece).await.is_err() {
                return;
            }
        }
    }
}

/// Other clients, who ask now and then on connections that they keep.
struct Others {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<Vec<u64>>,
}

impl Others {
    fn begin(address: SocketAddr) -> Self {
        let (is_over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (told, counted) = (is_over.clone(), answered.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let flows: Vec<_> = (0..4)
                    .map(|_| tokio::task::spawn_local(ask_on(address, told.clone(), counted.clone())))
                    .collect();
                let mut all = Vec::new();
                for flow in flows {
                    all.extend(flow.await.unwrap());
                }
                all
            })
        });
        Self { is_over, answered, thread }
    }

    /// Waits for so many answers at least, of whatever is going on. Fails unless all were served.
    async fn end(self) -> String {
        until("the others were served", async || {
            (self.answered.load(Ordering::SeqCst) >= 200 || self.thread.is_finished()).then_some(())
        })
        .await;
        self.is_over.store(true, Ordering::SeqCst);
        until("the others have their answers", async || self.thread.is_finished().then_some(())).await;
        quantiles(self.thread.join().expect("others are served"))
    }
}

async fn ask_on(address: SocketAddr, is_over: Arc<AtomicBool>, answered: Arc<AtomicU64>) -> Vec<u64> {
    let mut wire = connect(address).await.unwrap();
    let (request, mut took) = (get("/", &[]), Vec::new());
    while !is_over.load(Ordering::SeqCst) {
        let begun = clock::now();
        let answer = wire.ask(&request).await.unwrap();
        took.push((clock::now() - begun).as_micros() as u64);
        answered.fetch_add(1, Ordering::SeqCst);
        assert_eq!(answer.status(), 200, "{}", answer.head);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    took
}

/// What the gate's process takes, from one moment on.
struct Spent {
    pid: u32,
    begun: Instant,
    bytes: u64,
    cpu: Duration,
}

impl Spent {
    fn since_now(gate: &Gate) -> Self {
        let pid = gate.pid();
        Self { pid, begun: clock::now(), bytes: resident(pid), cpu: cpu_time(pid) }
    }

    /// How many bytes of memory came on top.
    fn growth(&self) -> u64 {
        resident(self.pid).saturating_sub(self.bytes)
    }

    fn told(&self) -> String {
        let (took, cpu) = (clock::now() - self.begun, cpu_time(self.pid) - self.cpu);
        format!(
            "memory {:.1} → {:.1} MiB, {:.2} s of processor time in {:.1} s",
            self.bytes as f64 / 1048576.0,
            resident(self.pid) as f64 / 1048576.0,
            cpu.as_secs_f64(),
            took.as_secs_f64()
        )
    }
}

/// Bytes of memory that a process has (`VmRSS`).
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let most = limit.maximum.unwrap_or(u64::MAX);
    assert!(most >= 20_000, "needs 20,000 file descriptors; {most} are allowed");
}

/// A gate before the app, warm.
async fn gate(app: &App, settings: &str, line: &str) -> Gate {
    raise_descriptors();
    let mut plan = tidegate().service_at("shop", &app.url(), &app.elsewhere()).set(settings);
    if !line.is_empty() {
        plan = plan.with(line);
    }
    let gate = plan.start_daemon().await;
    let mut wire = connect(gate.address()).await.unwrap();
    for _ in 0..2_000 {
        assert_eq!(wire.ask(&get("/", &[])).await.unwrap().status(), 200);
    }
    gate
}

/// Where else it listens, as it has said.
fn second_address(gate: &Gate) -> SocketAddr {
    let said = gate.said();
    let mut words = said.split([' ', ',', '\n']).filter_map(|word| word.parse().ok());
    words.find(|address| *address != gate.address() && *address != gate.telemetry()).unwrap()
}

async fn limit_hits(gate: &Gate, limit: &str) -> u64 {
    gate.metrics().await.count("tidegate_limit_hits_total", &[&format!("limit=\"{limit}\"")])
}

// Many connections.

fn per_connection(growth: u64, count: usize) -> f64 {
    growth as f64 / count as f64 / 1024.0
}

#[tokio::test]
async fn ten_thousand_idle_connections_in_the_clear() {
    let _alone = ONE.lock().await;
    let app = App::start();
    let gate = gate(&app, "timeouts: {head: 2s, keep_alive_idle: 10m}", "").await;
    let (others, spent) = (Others::begin(gate.address()), Spent::since_now(&gate));
    let mut idle = Vec::with_capacity(IDLE);
    for number in 0..IDLE {
        let mut wire = connect(gate.address()).await.unwrap();
        let answer = wire.ask(&get("/", &[])).await.unwrap_or_else(|why| panic!("{number}: {why}"));
        assert_eq!(answer.status(), 200);
        idle.push(wire);
    }
    let growth = spent.growth();
    println!("{IDLE} connections in use: {:.1} KiB each; {}", per_connection(growth, IDLE), spent.told());
    tokio::time::sleep(ASLEEP_AFTER).await;
    let asleep = per_connection(spent.growth(), IDLE);
    println!("{IDLE} idle connections: {asleep:.1} KiB each; {}", spent.told());
    assert_eq!(gate.metrics().await.count("tidegate_connections_open", &[]), IDLE as u64 + 4);
    // They are still there, and still served.
    for wire in idle.iter_mut().step_by(100) {
        assert_eq!(wire.ask(&get("/", &[])).await.unwrap().status(), 200);
    }
    drop(idle);
    println!("others: {}", others.end().await);
    assert!(per_connection(growth, IDLE) < 40.0);
}

#[tokio::test]
async fn ten_thousand_idle_connections_by_tls() {
    let _alone = ONE.lock().await;
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let own = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    std::fs::write(path("shop.pem"), own.cert.pem()).unwrap();
    std::fs::write(path("shop.key"), own.signing_key.serialize_pem()).unwrap();
    let listen = format!(
        "listen: [{{address: \"127.0.0.1:0\"}}, {{address: \"127.0.0.1:0\", tls: [{{cert: {}, key: {}}}]}}]",
        path("shop.pem").display(),
        path("shop.key").display()
    );
    let gate = gate(&app, &format!("{listen}\ntimeouts: {{head: 2s, keep_alive_idle: 10m}}"), "").await;
    let secure = second_address(&gate);
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let dial = async || -> Wire<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(secure).await.unwrap();
        let name = ServerName::try_from("shop.test").unwrap();
        Wire::new(connector.connect(name, stream).await.unwrap())
    };
    assert_eq!(dial().await.ask(&get("/", &[])).await.unwrap().status(), 200);

    let (others, spent) = (Others::begin(gate.address()), Spent::since_now(&gate));
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let mut wire = dial().await;
        assert_eq!(wire.ask(&get("/", &[])).await.unwrap().status(), 200);
        idle.push(wire);
    }
    let growth = spent.growth();
    println!(
        "{IDLE} connections in use by TLS: {:.1} KiB each; {}",
        per_connection(growth, IDLE),
        spent.told()
    );
    tokio::time::sleep(ASLEEP_AFTER).await;
    let asleep = per_connection(spent.growth(), IDLE);
    println!("{IDLE} idle connections by TLS: {asleep:.1} KiB each; {}", spent.told());
    for wire in idle.iter_mut().step_by(100) {
        assert_eq!(wire.ask(&get("/", &[])).await.unwrap().status(), 200);
    }
    drop(idle);
    println!("others: {}", others.end().await);
    assert!(per_connection(growth, IDLE) < 64.0);
}

#[tokio::test]
async fn a_thousand_slow_readers_of_a_big_body() {
    let _alone = ONE.lock().await;
    let app = App::start();
    let gate = gate(&app, "", "").await;
    let (others, spent) = (Others::begin(gate.address()), Spent::since_now(&gate));
    let mut readers = Vec::with_capacity(SLOW_READERS);
    for _ in 0..SLOW_READERS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(gate.address()).await.unwrap();
        stream.write_all(&get("/big", &[])).await.unwrap();
        readers.push(stream);
    }
    let (mut read, mut most) = (0, 0);
    for _ in 0..20 {
        for reader in &mut readers {
            read += reader.read(&mut [0; 1024]).await.unwrap();
        }
        most = most.max(spent.growth());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!(
        "{SLOW_READERS} readers that took {} KiB of {} GiB: {:.1} KiB each; {}",
        read / 1024,
        (BIG * SLOW_READERS as u64) >> 30,
        per_connection(most, SLOW_READERS),
        spent.told()
    );
    println!("others: {}", others.end().await);
    assert!(per_connection(most, SLOW_READERS) < 512.0);
}

#[tokio::test]
async fn two_thousand_heads_that_never_end() {
    let _alone = ONE.lock().await;
    let app = App::start();
    let gate = gate(&app, "timeouts: {head: 2s}", "").await;
    let (others, spent) = (Others::begin(gate.address()), Spent::since_now(&gate));
    let mut slow = Vec::with_capacity(SLOW_WRITERS);
    for _ in 0..SLOW_WRITERS {
        let mut stream = TcpStream::connect(gate.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: gate.test\r\nx: ").await.unwrap();
        slow.push((stream, clock::now()));
    }
    let growth = spent.growth();
    let mut longest = Duration::ZERO;
    while !slow.is_empty() {
        let mut open = Vec::new();
        for (stream, since) in slow {
            let age = clock::now() - since;
            // A byte now and then, as long as it is taken.
            let mut answer = [0; 64];
            let is_open = stream.try_write(b"y").is_ok()
                && stream
                    .try_read(&mut answer)
                    .is_err_and(|why| why.kind() == std::io::ErrorKind::WouldBlock);
            if is_open {
                open.push((stream, since));
            } else {
                longest = longest.max(age);
            }
        }
        slow = open;
        assert!(longest < Duration::from_secs(20), "some stay for ever");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!(
        "{SLOW_WRITERS} heads that never end: all gone after {longest:?} at the latest (2 s are allowed), {:.1} KiB each; {}",
        per_connection(growth, SLOW_WRITERS),
        spent.told()
    );
    assert_eq!(limit_hits(&gate, "timeouts.head").await, SLOW_WRITERS as u64);
    println!("others: {}", others.end().await);
    assert_eq!(app.requests(), 0);
}

#[tokio::test]
async fn more_requests_at_once_than_there_may_be() {
    let _alone = ONE.lock().await;
    let app = App::start();
    let gate = gate(&app, "limits: {requests: 500}", "").await;
    let others = Others::begin(gate.address());
    let mut held = Vec::new();
    for _ in 0..400 {
        let mut wire = connect(gate.address()).await.unwrap();
        wire.write(&get("/held", &[])).await.unwrap();
        held.push(wire);
    }
    until("they are under way", async || (app.requests() == 400).then_some(())).await;
    let spent = Spent::since_now(&gate);
    println!("others, with 400 of 500 places taken: {}", others.end().await);
    let mut shed = 0;
    for _ in 0..5_000 {
        let mut wire = connect(gate.address()).await.unwrap();
        wire.write(&get("/held", &[])).await.unwrap();
        held.push(wire);
    }
    until("the rest was turned away", async || {
        shed = limit_hits(&gate, "limits.requests").await;
        (shed + app.requests() >= 5_400).then_some(())
    })
    .await;
    println!("5,000 more: {} reached the app, {shed} were shed; {}", app.requests(), spent.told());
    assert!((438..=500).contains(&app.requests()), "{}", app.requests());
    assert_eq!(gate.metrics().await.count("tidegate_failures_total", &[]), 0);
}

// HTTP/2.

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A request's fields, literal and short (RFC 7541 §6.2.2).
fn block(path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "shop")];
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

async fn dial_http2(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// Sends without reading until nobody takes it any more: how many bytes were taken.
async fn pour(stream: &mut TcpStream, piece: &[u8], most: usize) -> usize {
    let mut taken = 0;
    while taken < most {
        match tokio::time::timeout(PATIENCE, stream.write(piece.get(taken % piece.len()..).unwrap())).await {
            Ok(Ok(count)) => taken += count,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    taken
}

#[tokio::test]
async fn three_thousand_streams_reset_at_once_and_one_by_one() {
    let _alone = ONE.lock().await;
    let app = App::start();
    let gate = gate(&app, "", "").await;
    let (others, spent) = (Others::begin(gate.address()), Spent::since_now(&gate));
    let numbers = || (1..2 * STREAMS).step_by(2);
    let reset = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let open = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &block("/held"));
    let mut stream = dial_http2(gate.address()).await;
    let all: Vec<u8> = numbers().flat_map(|number| [open(number), reset(number)].concat()).collect();
    drop(stream.write_all(&all).await);
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await);
    let at_once = app.requests();
    let mut stream = dial_http2(gate.address()).await;
    let mut sent = 0;
    for number in numbers() {
        let before = app.requests();
        if stream.write_all(&open(number)).await.is_err() {
            break;
        }
        // Only when it has arrived: what comes in one go is bounded elsewhere.
        let arrived = async {
            while app.requests() == before {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, arrived).await.is_err()
            || stream.write_all(&reset(number)).await.is_err()
        {
            break;
        }
        sent += 1;
    }
    let one_by_one = app.requests() - at_once;
    println!(
        "{STREAMS} streams reset: at once {at_once} reached the endpoint; one by one {one_by_one}, then it was over (after \
         {sent}); {}",
        spent.told()
    );
    println!("others: {}", others.end().await);
    assert!(at_once <= 150 && one_by_one <= 150);
    assert!(spent.growth() < 32 << 20);
}

#[tokio::test]
async fn a_head_of_64_mib_in_continuations() {
    let _alone = ONE.lock().await;
    let app = App::start();
    let gate = gate(&app, "", "").await;
    let (others, spent) = (Others::begin(gate.address()), Spent::since_now(&gate));
    let mut stream = dial_http2(gate.address()).await;
    stream.write_all(&frame(HEADERS, END_STREAM, 1, &block("/held"))).await.unwrap();
    // Fields of 4 KiB each: 0, the name's length and the name, the value's length and the value.
    let field = [&[0, 1, b'x', 127, 0x81, 0x1f][..], &[b'y'; 4096]].concat();
    let flood = frame(CONTINUATION, 0, 1, &field);
    let taken = pour(&mut stream, &flood, FLOOD).await;
    println!("a head of 64 MiB in continuations: {} KiB were taken; {}", taken / 1024, spent.told());
    println!("others: {}", others.end().await);
    assert!(taken < FLOOD && spent.growth() < 32 << 20);
    assert_eq!(app.requests(), 0);
}

#[tokio::test]
async fn floods_of_frames_that_say_nothing() {
    let _alone = ONE.lock().await;
    let app = App::start();
    let gate = gate(&app, "", "").await;
    let floods = [
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("settings that change something", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("empty data", frame(0, 0, 1, &[])),
        ("empty continuations", frame(CONTINUATION, 0, 1, &[])),
        ("window updates of nothing", frame(WINDOW_UPDATE, 0, 1, &0_u32.to_be_bytes())),
        ("window updates", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("unknown frames", frame(99, 0, 0, &[])),
    ];
    for (name, one) in floods {
        let (others, spent) = (Others::begin(gate.address()), Spent::since_now(&gate));
        let mut stream = dial_http2(gate.address()).await;
        if matches!(name, "empty data" | "window updates of nothing") {
            // A request whose body goes on.
            stream.write_all(&frame(HEADERS, END_HEADERS, 1, &block("/held"))).await.unwrap();
        } else if name == "empty continuations" {
            stream.write_all(&frame(HEADERS, END_STREAM, 1, &block("/held"))).await.unwrap();
        }
        let piece = one.repeat(16 * 1024 / one.len());
        let taken = pour(&mut stream, &piece, FLOOD / 4).await;
        drop(stream);
        println!(
            "{name}: {} KiB of {} KiB were taken; {}; others: {}",
            taken / 1024,
            FLOOD / 4 / 1024,
            spent.told(),
            others.end().await
        );
        assert!(spent.growth() < 32 << 20);
    }
}
