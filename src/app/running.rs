//! A Tidegate that runs: every part started in order, and stopped in the opposite one.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::watch;

use super::descriptors;
use super::facts::facts;
use crate::admin::api::{Problem, ProblemKind, ReloadRequest, Reloaded, Stopping};
use crate::admin::server::{AdminError, AdminListener, Break, Ties};
use crate::clock;
use crate::config::{self, Config, ConfigError, Overrides};
use crate::control::{self, Control, Opened, Who, run_checks};
use crate::proxy::{self, LiveSettings, Proxy, ProxySettings, Shared};
use crate::store::{AuditEntry, SecretError};
use crate::telemetry::{
    AccessLog, AccessLogError, AccessLogHandle, Tallies, control_metrics, listener, page,
};
use crate::traffic::{Key, KeyError, Keys};

/// How long the access log may take for its last lines.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// How often traffic is measured.
const TICK: Duration = Duration::from_secs(1);

/// Where the configuration came from, for reloads.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// What the command line said.
    pub overrides: Overrides,
}

/// What only some runs have.
#[derive(Default)]
pub struct Extras {
    /// Where the configuration came from; without it, a reload is refused.
    pub source: Option<Source>,
    /// The demo's: makes green misbehave.
    pub breaks: Option<Break>,
}

/// Why it does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The control plane.
    #[error(transparent)]
    Control(#[from] control::StartError),
    /// The admin socket.
    #[error("the admin socket: {0}")]
    Admin(#[from] AdminError),
    /// The data plane, most often a port in use.
    #[error(transparent)]
    Proxy(#[from] proxy::StartError),
    /// The access log.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The cookie key in the state folder.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The cookie key itself.
    #[error("the cookie key: {0}")]
    Key(#[from] KeyError),
    /// The port of the metrics.
    #[error("telemetry on {address}; choose another address with --telemetry, or `off`")]
    Telemetry {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Threads, random numbers.
    #[error("the system refused {what}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What has been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Stopping,
    /// Traffic has ended; the other threads may go.
    Ending,
}

/// All parts, running.
pub struct Running {
    control: Control,
    proxy: Proxy,
    access_log: AccessLog,
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<()>>,
    telemetry: Option<SocketAddr>,
    socket: PathBuf,
    reloader: Arc<Reloader>,
}

impl Running {
    /// Starts everything. The threads live until [`Running::wait`] returns.
    pub fn start(config: Config, extras: Extras) -> Result<Self, StartError> {
        let system = |what| move |source| StartError::System { what, source };
        descriptors::raise_limit();
        let metrics = control_metrics::install();
        let Config { proxy: proxy_settings, control: control_settings, admin, telemetry, cookie, .. } =
            config;

        let opened = Opened::open(&control_settings.state)?;
        let keys = match cookie.keys {
            Some(keys) => keys,
            None => own_keys(&opened)?,
        };
        let keys = Arc::new(ArcSwap::from_pointee(keys));
        // Before there are threads, because it narrows the umask for a moment.
        let admin_listener = AdminListener::bind(&admin.socket, admin.group.as_deref())?;
        let metrics_listener = telemetry.address.map(bind).transpose()?;
        let telemetry_address = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let access_log = AccessLog::open(&telemetry.access_log)?;

        let seed = random().map_err(system("random numbers"))?;
        let tallies = Tallies::new(proxy_settings.threads.get());
        let control = Control::start(opened, control_settings.services, tallies.clone())?;
        let live = Arc::new(ArcSwap::from_pointee(proxy_settings.live.clone()));
        let shared = Shared {
            table: control.reader(),
            live: live.clone(),
            keys: keys.clone(),
            tallies: tallies.clone(),
            access_log: access_log.handle(),
            seed: None,
        };
        let proxy = match Proxy::start(proxy_settings.clone(), shared) {
            Ok(proxy) => proxy,
            Err(error) => {
                control.stop();
                return Err(error.into());
            }
        };

        let (phase, phases) = watch::channel(Phase::Serving);
        let reloader = Arc::new(Reloader {
            control: control.clone(),
            live,
            keys: keys.clone(),
            source: extras.source,
            fixed: Fixed::of(&proxy_settings, &control_settings.state, &admin, &telemetry),
            drift: Mutex::default(),
        });
        let ties = Ties {
            control: control.clone(),
            keys,
            host: host_name(),
            started: clock::wall(),
            listen: proxy.addresses().iter().map(ToString::to_string).collect(),
            draining: Box::new({
                let phases = phases.clone();
                move || *phases.borrow() > Phase::Serving
            }),
            drift: Box::new({
                let reloader = reloader.clone();
                move || reloader.drift.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }),
            reload: Box::new({
                let (reloader, phases) = (reloader.clone(), phases.clone());
                move |request, who| {
                    let (reloader, draining) = (reloader.clone(), *phases.borrow() > Phase::Serving);
                    Box::pin(async move {
                        if draining {
                            return Err(unavailable("this process is on its way out"));
                        }
                        reloader.reload(request, who).await
                    })
                }
            }),
            stop: Box::new({
                let (phase, drain, control) = (phase.clone(), proxy_settings.drain, control.clone());
                move |now, who| {
                    let wanted = if now { Phase::Stopping } else { Phase::Draining };
                    control.record(AuditEntry {
                        time: clock::wall(),
                        what: "stop".to_owned(),
                        generation: control.generation(),
                        actor: who.actor,
                        claimed: who.claimed,
                        to: Some(if now { "now".to_owned() } else { "after open requests".to_owned() }),
                        ..AuditEntry::default()
                    });
                    raise(&phase, wanted);
                    let drain = if now { Duration::ZERO } else { drain };
                    Stopping { drain_ms: u64::try_from(drain.as_millis()).unwrap_or(u64::MAX) }
                }
            }),
            breaks: extras.breaks,
        };

        let socket = admin_listener.path().to_owned();
        let watcher = Watcher { control: control.clone(), tallies, log: access_log.handle(), metrics };
        let mut threads = Vec::new();
        let admin_thread = {
            let phases = phases.clone();
            move || admin_and_telemetry(admin_listener, ties, metrics_listener, watcher, phases)
        };
        threads.push(spawn("admin", admin_thread).map_err(system("a thread"))?);
        let control_thread = {
            let control = control.clone();
            move || checks_and_ticks(control, seed, phases)
        };
        threads.push(spawn("control", control_thread).map_err(system("a thread"))?);
        Ok(Self {
            control,
            proxy,
            access_log,
            phase,
            threads,
            telemetry: telemetry_address,
            socket,
            reloader,
        })
    }

    /// Where clients connect, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.proxy.addresses()
    }

    /// Where the metrics are.
    pub fn telemetry(&self) -> Option<SocketAddr> {
        self.telemetry
    }

    /// Where the admin API is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The control plane.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Asks it to stop: after open requests, or `now`. Asking again never slows it down.
    pub fn stopper(&self) -> impl Fn(bool) + Send + Sync + 'static {
        let phase = self.phase.clone();
        move |now| raise(&phase, if now { Phase::Stopping } else { Phase::Draining })
    }

    /// Reads the configuration again, as for HUP.
    pub fn reloader(&self) -> impl AsyncFn() -> Result<Reloaded, Problem> + use<> {
        let reloader = self.reloader.clone();
        async move || {
            let who = Who { actor: "signal HUP".to_owned(), ..Who::default() };
            reloader.reload(ReloadRequest::default(), who).await
        }
    }

    /// Waits until it was asked to stop, then stops: traffic first, the state last. `false` if the state
    /// in force is not on disk.
    pub fn wait(self) -> Result<bool, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|source| StartError::System { what: "a runtime", source })?;
        let Self { control, proxy, access_log, phase, threads, .. } = self;
        let mut phases = phase.subscribe();
        runtime.block_on(async {
            // The sender is ours: it cannot be gone.
            let _ = phases.wait_for(|phase| *phase > Phase::Serving).await;
            proxy.drain();
            tokio::select! {
                () = proxy.drained() => {}
                _ = phases.wait_for(|phase| *phase > Phase::Draining) => proxy.stop_now(),
            }
        });
        proxy.join();
        raise(&phase, Phase::Ending);
        for thread in threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        let saved = control.stop();
        access_log.close(LOG_PATIENCE);
        Ok(saved)
    }
}

fn raise(phase: &watch::Sender<Phase>, wanted: Phase) {
    phase.send_if_modified(|phase| {
        let later = wanted > *phase;
        *phase = wanted.max(*phase);
        later
    });
}

/// What a scrape looks at.
struct Watcher {
    control: Control,
    tallies: Arc<Tallies>,
    log: AccessLogHandle,
    metrics: control_metrics::ControlMetrics,
}

fn admin_and_telemetry(
    admin: AdminListener,
    ties: Ties,
    metrics: Option<std::net::TcpListener>,
    watcher: Watcher,
    mut phases: watch::Receiver<Phase>,
) {
    let serve = async {
        let ready_phases = phases.clone();
        let ready: listener::Ready = Arc::new(move || match *ready_phases.borrow() {
            Phase::Serving => Ok(()),
            _ => Err("draining".to_owned()),
        });
        let rendered: listener::Page = Arc::new(move || {
            let Watcher { control, tallies, log, metrics } = &watcher;
            page::render(tallies, &facts(control, log.dropped())) + &metrics.render()
        });
        let mut ending = phases.clone();
        let telemetry = async {
            match metrics.map(tokio::net::TcpListener::from_std) {
                Some(Ok(listener)) => {
                    let ending = async {
                        let _ = ending.wait_for(|phase| *phase == Phase::Ending).await;
                    };
                    listener::serve(listener, rendered, ready, ending).await;
                }
                Some(Err(error)) => eprintln!("tidegate: telemetry is not served: {error}"),
                None => {}
            }
        };
        let admin = async {
            tokio::select! {
                served = admin.serve(ties) => {
                    if let Err(error) = served {
                        eprintln!("tidegate: the admin socket is not served: {error}");
                    }
                }
                _ = phases.wait_for(|phase| *phase == Phase::Ending) => {}
            }
        };
        tokio::join!(telemetry, admin);
    };
    block_on("admin", serve);
}

fn checks_and_ticks(control: Control, seed: u64, mut phases: watch::Receiver<Phase>) {
    let ticks = async {
        let mut every = tokio::time::interval(TICK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            control.tick(clock::now());
        }
    };
    let work = async {
        tokio::select! {
            () = run_checks(control.clone(), seed) => {}
            () = ticks => {}
            _ = phases.wait_for(|phase| *phase == Phase::Ending) => {}
        }
    };
    block_on("control", work);
}

fn block_on(name: &str, work: impl Future<Output = ()>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => eprintln!("tidegate: the {name} thread has no runtime: {error}"),
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn bind(address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| StartError::Telemetry { address, source })
}

fn own_keys(opened: &Opened) -> Result<Keys, StartError> {
    let mut made = [0; 32];
    getrandom::fill(&mut made).map_err(|error| StartError::System {
        what: "random numbers",
        source: io::Error::other(error.to_string()),
    })?;
    let secret = opened.folder().secret("cookie.key", || made)?;
    Ok(Keys::new(Key::new(&secret)?, Vec::new()))
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u64::from_le_bytes(bytes))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn unavailable(why: &str) -> Problem {
    Problem { kind: ProblemKind::Unavailable, error: why.to_owned() }
}

/// Reads the configuration again.
struct Reloader {
    control: Control,
    live: Arc<ArcSwap<LiveSettings>>,
    keys: Arc<ArcSwap<Keys>>,
    source: Option<Source>,
    fixed: Fixed,
    drift: Mutex<Vec<String>>,
}

impl Reloader {
    async fn reload(&self, request: ReloadRequest, who: Who) -> Result<Reloaded, Problem> {
        let Some(source) = self.source.clone() else {
            let error = "this process was not started from a configuration file".to_owned();
            return Err(Problem { kind: ProblemKind::Conflict, error });
        };
        let read = tokio::task::spawn_blocking(move || config::load(&source.path, &source.overrides)).await;
        let config = match read {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => return Err(refused(&error)),
            Err(_) => {
                let error = "reading the configuration failed".to_owned();
                return Err(Problem { kind: ProblemKind::Internal, error });
            }
        };
        let waits = self.fixed.waiting(&Fixed::of(
            &config.proxy,
            &config.control.state,
            &config.admin,
            &config.telemetry,
        ));
        let changed_live = **self.live.load() != config.proxy.live;
        let mut reloaded = if request.dry_run {
            self.control.reload_dry_run(config.control.services)?
        } else {
            let reloaded = self.control.reload(config.control.services, &who).await?;
            self.live.store(Arc::new(config.proxy.live));
            // Without keys in the file, the generated ones stay: nothing else could verify the cookies out there.
            if let Some(keys) = config.cookie.keys {
                self.keys.store(Arc::new(keys));
            }
            *self.drift.lock().unwrap_or_else(PoisonError::into_inner) = waits.clone();
            reloaded
        };
        if changed_live {
            reloaded.changes.push("timeouts, limits or trusted proxies".to_owned());
        }
        let drift = waits.into_iter().chain(reloaded.drift).collect();
        let (applied, generation) = (!request.dry_run, self.control.generation());
        Ok(Reloaded { generation, applied, changes: reloaded.changes, drift })
    }
}

fn refused(error: &ConfigError) -> Problem {
    Problem { kind: ProblemKind::Invalid, error: error.to_string() }
}

/// What a running process cannot change, as text to compare and to show.
struct Fixed(Vec<(&'static str, String)>);

impl Fixed {
    fn of(
        proxy: &ProxySettings,
        state: &Path,
        admin: &config::AdminSettings,
        telemetry: &config::TelemetrySettings,
    ) -> Self {
        let listen: Vec<_> = proxy.listen.iter().map(ToString::to_string).collect();
        Self(vec![
            ("listen", listen.join(", ")),
            ("threads", proxy.threads.to_string()),
            ("timeouts.drain", format!("{:?}", proxy.drain)),
            ("state", state.display().to_string()),
            ("admin.socket", admin.socket.display().to_string()),
            ("admin.group", admin.group.clone().unwrap_or_else(|| "none".to_owned())),
            ("telemetry", telemetry.address.map_or_else(|| "off".to_owned(), |address| address.to_string())),
            ("access_log", format!("{:?}", telemetry.access_log)),
        ])
    }

    /// What `file` wants otherwise.
    fn waiting(&self, file: &Self) -> Vec<String> {
        let pairs = self.0.iter().zip(&file.0).filter(|(ours, theirs)| ours.1 != theirs.1);
        pairs
            .map(|((what, ours), (_, theirs))| {
                format!("{what} is {ours}, the file says {theirs}; it needs a restart")
            })
            .collect()
    }
}
