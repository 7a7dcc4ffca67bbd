//! Two apps that answer with the name of their variant, and can be made to misbehave.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use crate::admin::api::{BreakRequest, Problem, ProblemKind};
use crate::traffic::{PerVariant, Variant, Weight};

/// How green misbehaves.
#[derive(Debug, Default)]
pub struct Faults {
    errors_millipercent: AtomicU32,
    latency_ms: AtomicU64,
}

impl Faults {
    /// Does what `request` asks for; what it leaves out stays.
    pub fn set(&self, request: BreakRequest) -> Result<(), Problem> {
        let errors = request
            .errors
            .as_deref()
            .map(str::parse::<Weight>)
            .transpose()
            .map_err(|error| Problem { kind: ProblemKind::Invalid, error: format!("errors: {error}") })?;
        if let Some(errors) = errors {
            self.errors_millipercent.store(errors.millipercent(), Ordering::Relaxed);
        }
        if let Some(latency) = request.latency_ms {
            self.latency_ms.store(latency.min(60_000), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether it misbehaves at all.
    pub fn any(&self) -> bool {
        self.errors_millipercent.load(Ordering::Relaxed) > 0 || self.latency_ms.load(Ordering::Relaxed) > 0
    }

    /// In a few words.
    pub fn describe(&self) -> String {
        let errors = Weight::from_millipercent(self.errors_millipercent.load(Ordering::Relaxed));
        let latency = self.latency_ms.load(Ordering::Relaxed);
        format!("{} errors, {latency} ms slower", errors.unwrap_or_default())
    }
}

/// Starts both on ports of their own; they end with the process.
pub fn start(faults: Arc<Faults>, seed: u64) -> io::Result<PerVariant<SocketAddr>> {
    let bind = || {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok::<_, io::Error>(listener)
    };
    let listeners = PerVariant { blue: bind()?, green: bind()? };
    let addresses = PerVariant { blue: listeners.blue.local_addr()?, green: listeners.green.local_addr()? };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("demo-apps".to_owned()).spawn(move || {
        runtime.block_on(async {
            let PerVariant { blue, green } = listeners;
            let blue = serve(Variant::Blue, blue, Arc::default(), seed);
            let green = serve(Variant::Green, green, faults, seed ^ 1);
            // They end only if their sockets break, and then the demo shows it.
            let _ = tokio::join!(blue, green);
        });
    })?;
    Ok(addresses)
}

async fn serve(
    variant: Variant,
    listener: std::net::TcpListener,
    faults: Arc<Faults>,
    seed: u64,
) -> io::Result<()> {
    let requests = Arc::new(AtomicU64::new(seed));
    let answer = move || {
        // A draw per request, from a sequence of its own.
        let mut chance =
            fastrand::Rng::with_seed(requests.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed));
        let faults = faults.clone();
        async move {
            let usual = Duration::from_micros(1000 + chance.u64(0..4000));
            let more = Duration::from_millis(faults.latency_ms.load(Ordering::Relaxed));
            tokio::time::sleep(usual + more).await;
            if chance.u32(0..Weight::FULL.millipercent()) < faults.errors_millipercent.load(Ordering::Relaxed)
            {
                return (StatusCode::INTERNAL_SERVER_ERROR, "out of order\n".to_owned());
            }
            (StatusCode::OK, format!("{variant}\n"))
        }
    };
    let app = Router::new().route("/up", get(|| async { "up\n" })).fallback(answer);
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener, app).await
}
