//! How often the way of a request allocates, from the client's bytes to the client's bytes, over HTTP/1.1 with kept connections.
//!
//! `cargo bench --bench request` prints allocations and bytes for each way of assigning visitors; with `-- --profile` it leaves
//! `dhat-heap.json`, which says where. The client and the endpoint in this process allocate nothing while it is counted.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate::proxy::{LiveSettings, Proxy, ProxySettings, Shared};
use tidegate::routing::{
    Group, HostPattern, Matcher, Member, PathPrefix, Publisher, Route, Service, ServiceSettings, Table,
};
use tidegate::telemetry::{AccessLog, AccessLogSettings, Tallies};
use tidegate::traffic::{By, Key, Keys, Otherwise, PerVariant, Split, Variant, Weight};
use tidegate::upstream::{Endpoint, Health, Names, Reach, Way};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const WARM_UP: u64 = 500;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, world!";

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` only wants to know whether it runs.
    let counted = if arguments.iter().any(|word| word == "--bench") { 20_000 } else { 100 };
    let profiler = if arguments.iter().any(|word| word == "--profile") {
        dhat::Profiler::new_heap()
    } else {
        dhat::Profiler::builder().testing().build()
    };
    let endpoint = serve()?;
    println!("HTTP/1.1, kept connections, GET of 13 bytes, {counted} requests");
    for (name, by, fields) in [
        ("by request", By::Request, ""),
        ("by cookie, a visitor who is known", By::Cookie, "cookie"),
        ("by user", By::User, "x-user-id: alice\r\n"),
    ] {
        let (blocks, bytes) = count(endpoint, by, fields, counted)?;
        println!("{name:36} {blocks:6.2} allocations  {bytes:8.0} bytes a request");
    }
    rest(endpoint, if counted > 100 { 2_000 } else { 10 })?;
    drop(profiler);
    Ok(())
}

/// What connections take that wait for their next request, before and after they doze.
fn rest(endpoint: SocketAddr, connections: usize) -> Result<(), Failure> {
    let (proxy, _publisher, log) = start(endpoint, By::Request)?;
    let address = *proxy.addresses().first().ok_or("no address")?;
    let (request, mut room) = (request(""), vec![0; 16 * 1024]);
    let mut clients = Vec::with_capacity(connections);
    let before = dhat::HeapStats::get();
    for _ in 0..connections {
        let mut client = TcpStream::connect(address)?;
        ask(&mut client, request.as_bytes(), &mut room)?;
        clients.push(client);
    }
    let kept = dhat::HeapStats::get();
    let mut dozing = dhat::HeapStats::get();
    // Without a clock of our own: until nothing is given back any more.
    for _ in 0..100 {
        std::thread::park_timeout(Duration::from_millis(100));
        dozing = dhat::HeapStats::get();
    }
    let each = |bytes: usize| bytes.saturating_sub(before.curr_bytes) as f64 / connections as f64;
    println!(
        "{connections} connections at rest: {:.0} bytes of heap each, {:.0} when they doze",
        each(kept.curr_bytes),
        each(dozing.curr_bytes)
    );
    proxy.stop_now();
    proxy.join();
    log.close(Duration::from_secs(10));
    Ok(())
}

/// Blocks and bytes a request.
fn count(endpoint: SocketAddr, by: By, fields: &str, requests: u64) -> Result<(f64, f64), Failure> {
    let (proxy, _publisher, log) = start(endpoint, by)?;
    let address = *proxy.addresses().first().ok_or("no address")?;
    let mut client = TcpStream::connect(address)?;
    client.set_nodelay(true)?;
    let mut room = vec![0; 16 * 1024];
    let cookie;
    let fields = if fields == "cookie" {
        let head = ask(&mut client, request("").as_bytes(), &mut room)?;
        let head = String::from_utf8_lossy(room.get(..head).unwrap_or_default()).into_owned();
        let set =
            head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).ok_or("no cookie was set")?;
        cookie = format!("cookie: {}\r\n", set.split(';').next().unwrap_or_default());
        &cookie
    } else {
        fields
    };
    let request = request(fields);
    for _ in 0..WARM_UP {
        ask(&mut client, request.as_bytes(), &mut room)?;
    }
    let before = dhat::HeapStats::get();
    for _ in 0..requests {
        ask(&mut client, request.as_bytes(), &mut room)?;
    }
    let after = dhat::HeapStats::get();
    proxy.stop_now();
    proxy.join();
    log.close(Duration::from_secs(10));
    let each = |before: u64, after: u64| (after - before) as f64 / requests as f64;
    Ok((each(before.total_blocks, after.total_blocks), each(before.total_bytes, after.total_bytes)))
}

fn request(fields: &str) -> String {
    format!(
        "GET /products/17?page=2 HTTP/1.1\r\nhost: shop.example.com\r\nuser-agent: bench\r\naccept: */*\r\n{fields}\r\n"
    )
}

/// One request; how many bytes its answer had.
fn ask(client: &mut TcpStream, request: &[u8], room: &mut [u8]) -> Result<usize, Failure> {
    client.write_all(request)?;
    let mut filled = 0;
    loop {
        let free = room.get_mut(filled..).ok_or("the answer is too long")?;
        match client.read(free)? {
            0 => return Err("the connection ended".into()),
            more => filled += more,
        }
        if room.get(..filled).is_some_and(|read| read.ends_with(b"Hello, world!")) {
            return Ok(filled);
        }
    }
}

/// An endpoint that answers whatever comes in one piece.
fn serve() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let mut room = [0; 16 * 1024];
                while stream.read(&mut room).is_ok_and(|read| read > 0) && stream.write_all(ANSWER).is_ok() {}
            });
        }
    });
    Ok(address)
}

fn start(endpoint: SocketAddr, by: By) -> Result<(Proxy, Publisher, AccessLog), Failure> {
    let publisher = Publisher::new();
    let groups = PerVariant::from_fn(|variant| {
        let id = u32::from(variant == Variant::Green);
        let url = format!("http://{endpoint}").parse().ok();
        let members = url.map(|url| {
            let way = Way::new(url, &Reach::default(), &Names::default());
            Member::new(Arc::new(Endpoint::new(id, way, 1)), Health::Healthy)
        });
        Group::new(None, members.into_iter().collect())
    });
    let routes = vec![Route { host: HostPattern::Any, path: PathPrefix::root() }];
    let matcher = Matcher::new(std::iter::once(routes.as_slice())).map_err(|_| "routes overlap")?;
    let service = Service {
        settings: Arc::new(ServiceSettings {
            name: "shop".into(),
            routes,
            health: Default::default(),
            balance: Default::default(),
            ejection: Some(Default::default()),
            when_unhealthy: Default::default(),
            tester: None,
            tell: Default::default(),
            timeouts: Default::default(),
            retries: Some(Default::default()),
            limits: Default::default(),
            upgrades: Vec::new(),
            mirror: Default::default(),
        }),
        slot: 0,
        changed_at: 1,
        era: 1,
        success: None,
        split: Split {
            candidate: Variant::Green,
            weight: Weight::from_percent(50).ok_or("no weight")?,
            by,
            otherwise: Otherwise::Cookie,
            ratchet: false,
            epoch: 1,
            salt: "shop-2.0".into(),
            lock: None,
        },
        mirror: Weight::ZERO,
        user_keys: ["header:x-user-id".parse()?].into(),
        groups,
        cut: None,
    };
    publisher.publish(Arc::new(Table::new(1, Arc::new(matcher), [Arc::new(service)].into_iter().collect())));
    let log = AccessLog::start(&AccessLogSettings::default(), Box::new(std::io::sink()))?;
    let shared = Shared {
        table: publisher.reader(),
        live: Arc::new(ArcSwap::from_pointee(live())),
        keys: Arc::new(ArcSwap::from_pointee(Keys::new(Key::new(&[7; 32])?, Vec::new()))),
        tallies: Tallies::new(1),
        access_log: log.handle(),
        seed: Some(7),
    };
    let settings = ProxySettings {
        listen: vec!["127.0.0.1:0".parse()?],
        threads: NonZeroUsize::MIN,
        drain: Duration::from_secs(1),
        handover: Duration::from_secs(1),
        live: live(),
    };
    Ok((Proxy::start(settings, shared)?, publisher, log))
}

fn live() -> LiveSettings {
    let mut live = LiveSettings::default();
    live.timeouts.head = Duration::from_secs(2);
    live
}
