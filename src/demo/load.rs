//! A gentle synthetic load: visitors that come back and keep their cookies, over real sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use crate::traffic::VisitorCookie;

/// Clients at once, each with a connection of its own.
const CLIENTS: usize = 64;
/// How often each of them asks: 400 requests a second in all, as long as answers take less than this.
const EVERY: Duration = Duration::from_millis(160);
/// Visitors who share a client.
const VISITORS_PER_CLIENT: usize = 40;

/// Starts the load on `target`; it ends with the process.
pub fn start(target: SocketAddr, seed: u64) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("demo-load".to_owned()).spawn(move || {
        runtime.block_on(async {
            let mut clients = tokio::task::JoinSet::new();
            let mut chance = fastrand::Rng::with_seed(seed);
            for _ in 0..CLIENTS {
                clients.spawn(client(target, chance.fork()));
            }
            while clients.join_next().await.is_some() {}
        });
    })?;
    Ok(())
}

async fn client(target: SocketAddr, mut chance: fastrand::Rng) {
    let mut cookies: Vec<Option<HeaderValue>> = vec![None; VISITORS_PER_CLIENT];
    tokio::time::sleep(EVERY.mul_f64(chance.f64())).await;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        // A connection that breaks is replaced at the next tick; what failed shows in the status.
        let _ = visit(target, &mut cookies, &mut ticks, &mut chance).await;
        ticks.tick().await;
    }
}

/// Visits over one connection until it breaks.
async fn visit(
    target: SocketAddr,
    cookies: &mut [Option<HeaderValue>],
    ticks: &mut tokio::time::Interval,
    chance: &mut fastrand::Rng,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(target).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let result = async {
        loop {
            ticks.tick().await;
            let visitor = chance.usize(0..cookies.len());
            let mut request =
                Request::get("/").header(header::HOST, "demo.localhost").body(Empty::<Bytes>::new())?;
            if let Some(cookie) = &cookies[visitor] {
                request.headers_mut().insert(header::COOKIE, cookie.clone());
            }
            let response = sender.send_request(request).await?;
            if let Some(cookie) = response.headers().get(header::SET_COOKIE) {
                let pair = cookie.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
                if pair.starts_with(VisitorCookie::NAME.as_bytes()) {
                    cookies[visitor] = HeaderValue::from_bytes(pair).ok();
                }
            }
            response.into_body().collect().await?;
        }
    }
    .await;
    driver.abort();
    result
}
