//! Tunnels that talk without a pause and requests that flow, while everything around them changes: weights,
//! certificates, and the binary itself.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::support::gate::has_gone;
use crate::support::http::WEBSOCKET;
use crate::support::{Authority, Gate, Load, Wire, connect, get, tidegate, until};
use crate::{ONE, latencies, origins};

/// From one word in a tunnel to the next.
const PAUSE: Duration = Duration::from_millis(50);
/// After this an answer in a tunnel will not come.
const PATIENCE: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(2);
/// Tunnels on one HTTP/2 connection.
const STREAMS: usize = 10;

/// How a tunnel is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
    /// Over TLS, as many as fit on a connection.
    Http2,
}

/// One tunnel, as its client sees it.
#[derive(Debug)]
struct Tunnel {
    way: Way,
    is_green: bool,
    echoed: AtomicU64,
    ended: Mutex<Option<(Instant, String)>>,
}

/// Tunnels, on a thread of their own.
struct Fleet {
    orders: UnboundedSender<Way>,
    tunnels: Arc<Mutex<Vec<Arc<Tunnel>>>>,
    failures: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Fleet {
    fn start(plain: SocketAddr, secure: SocketAddr, authority: Arc<Authority>) -> Self {
        let (orders, taken) = unbounded_channel();
        let (tunnels, failures, is_over) =
            (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let crew = Crew {
            plain,
            secure,
            authority,
            tunnels: tunnels.clone(),
            failures: failures.clone(),
            is_over: is_over.clone(),
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(Arc::new(crew).work(taken));
        });
        Self { orders, tunnels, failures, is_over, thread }
    }

    /// Opens so many, and waits until they talk.
    async fn opens(&self, way: Way, count: usize) {
        let before = self.all().len();
        for _ in 0..if way == Way::Http2 { count / STREAMS } else { count } {
            self.orders.send(way).unwrap();
        }
        until("they are open", async || {
            assert!(self.failures.lock().unwrap().is_empty(), "{:?}", self.failures.lock().unwrap());
            (self.all().len() == before + count).then_some(())
        })
        .await;
    }

    fn all(&self) -> Vec<Arc<Tunnel>> {
        self.tunnels.lock().unwrap().clone()
    }

    fn echoed(&self) -> u64 {
        self.all().iter().map(|tunnel| tunnel.echoed.load(Ordering::Relaxed)).sum()
    }

    /// Those that have ended.
    fn ended(&self) -> Vec<Arc<Tunnel>> {
        let mut all = self.all();
        all.retain(|tunnel| tunnel.ended.lock().unwrap().is_some());
        all
    }

    /// Waits until every open tunnel has talked again.
    async fn all_talk(&self) {
        let before: Vec<_> =
            self.all().into_iter().map(|tunnel| (tunnel.echoed.load(Ordering::Relaxed), tunnel)).collect();
        until("every tunnel talks", async || {
            let talks = |(before, tunnel): &(u64, Arc<Tunnel>)| {
                tunnel.ended.lock().unwrap().is_some() || tunnel.echoed.load(Ordering::Relaxed) > *before
            };
            before.iter().all(talks).then_some(())
        })
        .await;
    }

    fn ends(self) {
        self.is_over.store(true, Ordering::Relaxed);
        drop(self.orders);
        self.thread.join().unwrap();
    }
}

/// What the fleet's thread works with.
struct Crew {
    plain: SocketAddr,
    secure: SocketAddr,
    authority: Arc<Authority>,
    tunnels: Arc<Mutex<Vec<Arc<Tunnel>>>>,
    failures: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
}

impl Crew {
    async fn work(self: Arc<Self>, mut orders: UnboundedReceiver<Way>) {
        let mut open = JoinSet::new();
        while let Some(way) = orders.recv().await {
            let crew = self.clone();
            open.spawn(async move {
                let done = match way {
                    Way::Plain => crew.over_http1(way, connect(crew.plain).await).await,
                    Way::Tls => {
                        let stream = crew.authority.connect(crew.secure, &[]).await;
                        crew.over_http1(way, stream.map(Wire::new)).await
                    }
                    Way::Http2 => crew.over_http2().await,
                };
                if let Err(error) = done {
                    crew.failures.lock().unwrap().push(format!("{way:?}: {error}"));
                }
            });
        }
        while open.join_next().await.is_some() {}
    }

    async fn over_http1<S>(&self, way: Way, wire: std::io::Result<Wire<S>>) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let text = |error: std::io::Error| error.to_string();
        let mut wire = wire.map_err(text)?;
        let fields: Vec<_> = [("host", "shop.test")].into_iter().chain(WEBSOCKET).collect();
        wire.write(&get("/", &fields)).await.map_err(text)?;
        let head = wire.head().await.map_err(text)?.unwrap_or_default();
        if !head.starts_with("HTTP/1.1 101") {
            return Err(head);
        }
        self.talk(way, head.contains("x-app: green"), wire).await;
        Ok(())
    }

    async fn over_http2(self: &Arc<Self>) -> Result<(), String> {
        let stream =
            self.authority.connect(self.secure, &[b"h2"]).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let carried = tokio::spawn(connection);
        // Its settings come before its first answer.
        let hello = Request::get("https://shop.test/").body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(hello).await.map_err(|error| error.to_string())?;
        answer.into_body().collect().await.map_err(|error| error.to_string())?;
        let mut streams = JoinSet::new();
        for _ in 0..STREAMS {
            streams.spawn(self.clone().over_stream(sender.clone()));
        }
        while let Some(done) = streams.join_next().await {
            done.unwrap()?;
        }
        drop(sender);
        let _ = carried.await;
        Ok(())
    }

    async fn over_stream(self: Arc<Self>, mut sender: SendRequest<Empty<Bytes>>) -> Result<(), String> {
        let request = Request::connect("https://shop.test/")
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(Empty::new())
            .unwrap();
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if answer.status() != 200 {
            return Err(answer.status().to_string());
        }
        let is_green = answer.headers().get("x-app").is_some_and(|app| app == "green");
        let stream = hyper::upgrade::on(answer).await.map_err(|error| error.to_string())?;
        self.talk(Way::Http2, is_green, Wire::new(TokioIo::new(stream))).await;
        Ok(())
    }

    /// One line after the other, each said back.
    async fn talk<S>(&self, way: Way, is_green: bool, mut wire: Wire<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let tunnel = Arc::new(Tunnel { way, is_green, echoed: AtomicU64::new(0), ended: Mutex::default() });
        self.tunnels.lock().unwrap().push(tunnel.clone());
        while !self.is_over.load(Ordering::Relaxed) {
            let number = tunnel.echoed.load(Ordering::Relaxed);
            let said = format!("message {number} of a {way:?} tunnel");
            let echo = async {
                wire.write(format!("{said}\n").as_bytes()).await?;
                wire.line().await
            };
            let why = match tokio::time::timeout(PATIENCE, echo).await {
                Ok(Ok(heard)) if heard == said => {
                    tunnel.echoed.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Ok(Ok(heard)) => format!("{said:?} came back as {heard:?}"),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "silence".to_owned(),
            };
            *tunnel.ended.lock().unwrap() = Some((tidegate::clock::now(), why));
            return;
        }
    }
}

/// What h2load said of one run; `None` if it is not there.
async fn h2load(secure: SocketAddr) -> Option<String> {
    let arguments = ["-n", "3000", "-c", "4", "-m", "10"].map(str::to_owned);
    let url = format!("https://{secure}/");
    let ran = tokio::task::spawn_blocking(move || Command::new("h2load").args(arguments).arg(url).output());
    let output = ran.await.unwrap().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A line of h2load's that begins so.
fn line<'t>(said: &'t str, start: &str) -> &'t str {
    said.lines().find(|line| line.trim().starts_with(start)).unwrap_or_default().trim()
}

async fn secure(gate: &Gate) -> SocketAddr {
    gate.status().await.listen[1].parse().unwrap()
}

#[tokio::test]
async fn tunnels_and_requests_outlive_a_hundred_shifts_fifty_renewals_and_twenty_upgrades() {
    let _alone = ONE.lock().await;
    let (blue, green) = origins().await;
    let authority = Arc::new(Authority::new());
    authority.renew();
    let plan = tidegate()
        .set(&format!("listen: [{{address: \"127.0.0.1:0\"}}, {}]", authority.listener()))
        .set(&format!("timeouts: {{drain: 3s, grace: {}s}}", GRACE.as_secs()))
        .service("shop", &blue, &green)
        .with("split: {by: request}");
    let mut gate = plan.start_daemon().await;
    gate.shift("shop", "50%").await;
    let fleet = Fleet::start(gate.address(), secure(&gate).await, authority.clone());
    fleet.opens(Way::Plain, 100).await;
    fleet.opens(Way::Tls, 60).await;
    fleet.opens(Way::Http2, 40).await;
    let (load, begun) = (Load::of(gate.address(), "/"), tidegate::clock::now());
    let mut pids = vec![gate.pid()];
    let (mut renewals, mut bursts, mut all_bursts) = (0, 0, 0);
    for step in 0..100_u64 {
        gate.shift("shop", &format!("{}%", 20 + (step * 37) % 61)).await;
        if step % 2 == 0 {
            authority.renew();
            let reloaded = gate.reload().await.unwrap();
            assert!(reloaded.applied && !reloaded.changes.is_empty(), "{reloaded:?}");
            renewals += 1;
        }
        load.goes_on(100).await;
        if step % 5 == 4 {
            gate.upgrade("").await.unwrap_or_else(|refused| panic!("{refused:?}"));
            pids.push(gate.pid());
            load.goes_on(100).await;
            // So that every process holds some.
            fleet.opens(Way::Plain, 3).await;
            fleet.opens(Way::Tls, 3).await;
            fleet.opens(Way::Http2, STREAMS).await;
            fleet.all_talk().await;
            assert!(fleet.ended().is_empty(), "{:?}", fleet.ended());
        }
        if step % 10 == 7 {
            // Between two upgrades: it does not come back on a connection that was told to go.
            all_bursts += 1;
            match h2load(secure(&gate).await).await {
                Some(said) => {
                    let requests = line(&said, "requests:");
                    assert!(requests.contains(" 3000 succeeded, 0 failed, 0 errored"), "{said}");
                    bursts += 1;
                }
                None => println!("SKIPPED: h2load is not there; apt-get install nghttp2-client"),
            }
        }
    }
    // Idle connections of the older processes are gone by now or soon; tunnels stay.
    let seen = load.end().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    fleet.all_talk().await;
    let all = fleet.all();
    let count = |wanted: fn(&Tunnel) -> bool| all.iter().filter(|tunnel| wanted(tunnel)).count();
    let (greens, streams) = (count(|tunnel| tunnel.is_green), count(|tunnel| tunnel.way == Way::Http2));
    let status = gate.status().await;
    let held: u64 = status.predecessors.iter().map(|old| old.tunnels).sum();
    println!(
        "{} tunnels ({} over HTTP/1.1, {streams} over HTTP/2), {} messages said back, {} dropped, over 100 shifts, {renewals} new \
         certificates and {} upgrades in {:?}",
        all.len(),
        all.len() - streams,
        fleet.echoed(),
        fleet.ended().len(),
        pids.len() - 1,
        tidegate::clock::now() - begun,
    );
    println!("{} processes from before hold {held} of them", status.predecessors.len());
    println!("{} requests, {} failed; {}", seen.total(), seen.failures.len(), latencies(&seen));
    println!("h2load: {bursts} of {all_bursts} runs of 3000 requests, none failed");
    assert!(fleet.ended().is_empty(), "{:?}", fleet.ended());
    seen.assert_none_failed();
    assert_eq!((renewals, pids.len()), (50, 21));
    assert!(status.predecessors.len() >= 15 && greens > 50 && all.len() - greens > 50);

    let killed = gate.kill("shop").await;
    let at = tidegate::clock::now();
    assert!(killed.unconfirmed.is_empty(), "{killed:?}");
    until("all green tunnels have ended", async || (fleet.ended().len() >= greens).then_some(())).await;
    fleet.all_talk().await;
    let ended = fleet.ended();
    let mut after: Vec<_> =
        ended.iter().map(|tunnel| tunnel.ended.lock().unwrap().as_ref().unwrap().0 - at).collect();
    after.sort();
    println!(
        "killed, live in {} µs: {} of {greens} green tunnels ended {:?} to {:?} later (grace {GRACE:?}), {} blue ones go on",
        killed.live_us,
        ended.len(),
        after[0],
        after[after.len() - 1],
        all.len() - ended.len(),
    );
    assert!(ended.len() == greens && ended.iter().all(|tunnel| tunnel.is_green));
    assert!(after[0] >= GRACE, "not before the grace is over");
    fleet.ends();
    // Each ends with the last tunnel that it holds.
    for pid in &pids[..20] {
        has_gone(*pid).await;
    }
    assert!(gate.first_has_ended().await);
    assert!(gate.has_ended_when_stopped().await);
}
