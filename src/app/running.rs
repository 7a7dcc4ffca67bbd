//! A Tidegate that runs: every part started in order, and stopped in the opposite one.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::watch;

use super::admission::Admission;
use super::descriptors;
use super::handover::{Inherited, InheritedAdmin, Link, Links, Origin, TakeOverError};
use super::phase::{Phase, raise};
use super::reloader::{Fixed, Reloader, Turns};
use super::supervisor::Supervisor;
use super::threads::{
    Ends, Watcher, admin_and_telemetry, checks_and_ticks, look_at_certificates, spawn, tell_and_ask,
};
use super::upgrader::{Copies, Upgrader};
use crate::admin::api::{
    self, Problem, ProblemKind, ReloadRequest, Reloaded, Stopping, UpgradeRequest, Upgraded,
};
use crate::admin::server::{AdminError, AdminListener, Break, Ties};
use crate::clock::{self, Timestamp};
use crate::config::{Config, Overrides, PlanRequest};
use crate::control::{self, Control, KnownHealth, Opened, Who};
use crate::proxy::{self, Proxy, Shared, Sockets};
use crate::store::{AuditEntry, SecretError};
use crate::telemetry::{AccessLog, AccessLogError, Tallies, control_metrics};
use crate::traffic::{Key, KeyError, Keys};
use crate::upstream::Resolver;

/// How much longer than this process those before it may take to stop.
const PREDECESSORS_LATER: Duration = Duration::from_secs(1);
/// How long the access log may take for its last lines.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

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
    /// Looks the names of endpoints up; by default as the system is told to.
    pub resolver: Resolver,
}

/// What only the daemon has.
#[derive(Default)]
pub(super) struct Daemon {
    /// How it is started anew, for upgrades.
    pub(super) origin: Option<Origin>,
    /// The service manager.
    pub(super) supervisor: Arc<Supervisor>,
}

/// Everything that can fail before there is a state: sockets bound, files open, nothing served.
pub(super) struct Prepared {
    config: Config,
    extras: Extras,
    daemon: Daemon,
    admin: AdminListener,
    telemetry: Option<std::net::TcpListener>,
    sockets: Sockets,
    access_log: AccessLog,
}

impl Prepared {
    /// Takes what is `inherited` as far as the configuration has a use for it; the rest is closed here.
    pub(super) fn new(
        config: Config,
        extras: Extras,
        daemon: Daemon,
        mut inherited: Inherited,
    ) -> Result<Self, StartError> {
        descriptors::raise_limit();
        let (path, group) = (&config.admin.socket, config.admin.group.as_deref());
        // Before there are threads, because it narrows the umask for a moment.
        let admin = match inherited.admin(path) {
            Some(InheritedAdmin { path, socket, keeps_file }) => {
                AdminListener::adopt(socket, &path, group, keeps_file)?
            }
            None => AdminListener::bind(path, group)?,
        };
        let telemetry = match config.telemetry.address {
            Some(address) => Some(match inherited.telemetry(address) {
                Some(socket) => socket,
                None => bind(address)?,
            }),
            None => None,
        };
        let sockets = Sockets::bind(&config.proxy, inherited.listen).map_err(proxy::StartError::from)?;
        let access_log = AccessLog::open(&config.telemetry.access_log)?;
        Ok(Self { config, extras, daemon, admin, telemetry, sockets, access_log })
    }

    /// The state folder.
    pub(super) fn state(&self) -> &Path {
        &self.config.control.state
    }
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
    /// The process before, or a service manager.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
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

/// All parts, running.
pub struct Running {
    control: Control,
    proxy: Arc<Proxy>,
    upgrader: Arc<Upgrader>,
    supervisor: Arc<Supervisor>,
    access_log: AccessLog,
    phase: watch::Sender<Phase>,
    drain: Duration,
    threads: Vec<JoinHandle<()>>,
    telemetry: Option<SocketAddr>,
    socket: PathBuf,
    reloader: Arc<Reloader>,
}

impl Running {
    /// Starts everything. The threads live until [`Running::wait`] returns.
    pub fn start(config: Config, extras: Extras) -> Result<Self, StartError> {
        let opened = Opened::open(&config.control.state)?;
        let prepared = Prepared::new(config, extras, Daemon::default(), Inherited::default())?;
        Self::begin(prepared, opened, None)
    }

    /// Starts on a state folder. `taken_over`: from another process, of which this is known; changes are then refused
    /// until [`Control::open`].
    pub(super) fn begin(
        prepared: Prepared,
        opened: Opened,
        taken_over: Option<&[KnownHealth]>,
    ) -> Result<Self, StartError> {
        let system = |what| move |source| StartError::System { what, source };
        let metrics = control_metrics::install();
        let Prepared {
            config,
            extras,
            daemon: Daemon { origin, supervisor },
            admin: admin_listener,
            telemetry: metrics_listener,
            sockets,
            access_log,
        } = prepared;
        let Config {
            proxy: proxy_settings,
            control: control_settings,
            admin,
            telemetry,
            cookie,
            planner,
            hooks,
            roles,
            ..
        } = config;
        let planner = Arc::new(ArcSwap::from_pointee(planner));
        let hooks = Arc::new(ArcSwap::from_pointee(hooks));
        let roles = Arc::new(ArcSwap::from_pointee(roles));
        let keys = match cookie.keys {
            Some(keys) => keys,
            None => own_keys(&opened)?,
        };
        let keys = Arc::new(ArcSwap::from_pointee(keys));
        let telemetry_address = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let copies = copies(&admin_listener, telemetry.address, metrics_listener.as_ref())
            .map_err(system("a socket"))?;

        let seed = random().map_err(system("random numbers"))?;
        let tallies = Tallies::new(proxy_settings.threads.get());
        let control = Control::start(opened, control_settings.services, tallies.clone())?;
        if let Some(health) = taken_over {
            control.believe(health);
            control.begin_closed("tidegate is being upgraded; try again in a second");
        }
        let live = Arc::new(ArcSwap::from_pointee(proxy_settings.live.clone()));
        let shared = Shared {
            table: control.reader(),
            live: live.clone(),
            keys: keys.clone(),
            tallies: tallies.clone(),
            access_log: access_log.handle(),
            seed: None,
        };
        let proxy = match Proxy::start_on(sockets, proxy_settings.clone(), shared) {
            Ok(proxy) => Arc::new(proxy),
            Err(error) => {
                control.stop();
                return Err(error.into());
            }
        };

        let (phase, phases) = watch::channel(Phase::Serving);
        let (passed_on, passes_on) = watch::channel(false);
        let host = host_name();
        let upgrader = Arc::new(Upgrader {
            control: control.clone(),
            proxy: proxy.clone(),
            origin,
            state: control_settings.state.clone(),
            admin: admin_listener.path().to_owned(),
            copies: Mutex::new(Some(copies)),
            phase: phase.clone(),
            passed_on,
            host: host.clone(),
            handover: proxy_settings.handover,
            links: Arc::new(Links::default()),
            is_under_way: AtomicBool::new(false),
        });
        let reloader = Arc::new(Reloader {
            control: control.clone(),
            live: live.clone(),
            listen: proxy_settings.listen.clone(),
            keys: keys.clone(),
            planner: planner.clone(),
            hooks: hooks.clone(),
            roles: roles.clone(),
            source: extras.source,
            supervisor: supervisor.clone(),
            fixed: Fixed::of(&proxy_settings, &control_settings.state, &admin, &telemetry),
            drift: Mutex::default(),
            turns: Turns::default(),
        });
        let admission = Admission {
            control: control.clone(),
            planner: planner.clone(),
            hooks: hooks.clone(),
            roles: roles.clone(),
        };
        let ties = Ties {
            control: control.clone(),
            keys,
            host,
            started: clock::wall(),
            listen: proxy.addresses().iter().map(ToString::to_string).collect(),
            secure: Box::new({
                let (live, addresses) = (live.clone(), proxy.addresses().to_vec());
                move || {
                    let live = live.load();
                    let doors = addresses.iter().enumerate();
                    let secure = doors.filter(|(number, _)| live.listener(*number).tls.is_some());
                    secure.map(|(_, address)| address.to_string()).collect()
                }
            }),
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
                            let error = "this process is on its way out".to_owned();
                            return Err(Problem { kind: ProblemKind::Unavailable, error });
                        }
                        // A task of its own: a client that goes away must not leave half a reload behind.
                        let reload = tokio::spawn(async move { reloader.reload(request, who).await });
                        reload.await.unwrap_or_else(|_| {
                            let error = "the reload broke off".to_owned();
                            Err(Problem { kind: ProblemKind::Internal, error })
                        })
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
            upgrade: Box::new({
                let upgrader = upgrader.clone();
                move |request, who| Box::pin(upgrader.clone().upgrade(request, who))
            }),
            plan: Box::new(move |request, at| {
                let (plan, warnings) = planner.load().compile(&wanted(request, at))?;
                Ok((plan, warnings.iter().map(ToString::to_string).collect()))
            }),
            admit: Box::new(move |launch, at| admission.look(launch, at)),
            speaks: Box::new(move |role, user| roles.load().may_speak(role, user)),
            breaks: extras.breaks,
        };

        let socket = admin_listener.path().to_owned();
        let log = access_log.handle();
        let watcher = Watcher {
            control: control.clone(),
            tallies,
            log,
            metrics,
            hooks: hooks.clone(),
            live,
            addresses: proxy.addresses().to_vec(),
        };
        let mut threads = Vec::new();
        let admin_thread = {
            let ends = Ends { phases: phases.clone(), passed_on: passes_on.clone() };
            move || admin_and_telemetry(admin_listener, ties, metrics_listener, watcher, ends)
        };
        threads.push(spawn("admin", admin_thread).map_err(system("a thread"))?);
        let control_thread = {
            let ends = Ends { phases: phases.clone(), passed_on: passes_on.clone() };
            let (control, supervisor) = (control.clone(), supervisor.clone());
            let drain = proxy_settings.drain;
            move || checks_and_ticks(control, (seed, extras.resolver), ends, drain, &supervisor)
        };
        threads.push(spawn("control", control_thread).map_err(system("a thread"))?);
        let certificates_thread = {
            let reloader = reloader.clone();
            let ends = Ends { phases: phases.clone(), passed_on: passes_on.clone() };
            move || look_at_certificates(reloader, ends)
        };
        threads.push(spawn("certificates", certificates_thread).map_err(system("a thread"))?);
        let hooks_thread = {
            let control = control.clone();
            let ends = Ends { phases, passed_on: passes_on };
            move || tell_and_ask(control, hooks, seed, ends)
        };
        threads.push(spawn("hooks", hooks_thread).map_err(system("a thread"))?);
        Ok(Self {
            control,
            proxy,
            upgrader,
            supervisor,
            access_log,
            phase,
            drain: proxy_settings.drain,
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

    /// The service manager.
    pub(super) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// The control plane.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Begins to tell those before this process what is in force.
    pub(super) fn linker(&self) -> impl FnOnce(Vec<Link>) + use<> {
        let (links, control) = (self.upgrader.links.clone(), self.control.clone());
        let phases = self.phase.subscribe();
        move |new| links.begin(new, &control, &phases)
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

    /// Passes everything on to another process, as for USR2.
    pub fn upgrader(&self) -> impl AsyncFn() -> Result<Upgraded, Problem> + use<> {
        let upgrader = self.upgrader.clone();
        async move || {
            let who = Who { actor: "signal USR2".to_owned(), ..Who::default() };
            upgrader.clone().upgrade(UpgradeRequest::default(), who).await
        }
    }

    /// Waits until it was asked to stop, then stops: traffic first, the state last. `false` if the state
    /// in force is not on disk.
    pub fn wait(self) -> Result<bool, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|source| StartError::System { what: "a runtime", source })?;
        let Self { control, proxy, upgrader, supervisor, access_log, phase, drain, threads, .. } = self;
        let mut phases = phase.subscribe();
        runtime.block_on(async {
            // The sender is ours: it cannot be gone.
            let _ = phases.wait_for(|phase| *phase > Phase::Serving).await;
            // A port is closed when all copies are.
            upgrader.copies.lock().unwrap_or_else(PoisonError::into_inner).take();
            if !*upgrader.passed_on.borrow() {
                supervisor.stops();
            }
            let last = clock::now() + drain.saturating_add(PREDECESSORS_LATER);
            let obeyed = async {
                loop {
                    match *phases.borrow_and_update() {
                        Phase::Serving => {}
                        Phase::Leaving => proxy.leave(),
                        Phase::Draining => proxy.drain(),
                        Phase::Stopping | Phase::Ending => proxy.stop_now(),
                    }
                    if phases.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            tokio::select! {
                () = proxy.drained() => {}
                () = obeyed => {}
            }
            // A service manager takes this process for the service: what those before hold ends with it.
            wait_for_predecessors(&control, phase.subscribe(), last).await;
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

/// Until they are gone, and no longer than they are given.
async fn wait_for_predecessors(control: &Control, mut phases: watch::Receiver<Phase>, last: Instant) {
    tokio::select! {
        () = control.predecessors().gone() => return,
        () = tokio::time::sleep_until(last.into()) => return,
        _ = phases.wait_for(|phase| *phase >= Phase::Stopping) => {}
    }
    let _ = tokio::time::timeout(PREDECESSORS_LATER, control.predecessors().gone()).await;
}

/// What the planner is asked, in its own words.
fn wanted(request: api::PlanRequest, at: Timestamp) -> PlanRequest {
    let api::PlanRequest { service, schedule, plan, name, version } = request;
    PlanRequest { service, name, schedule, file: plan.map(|file| (file.name, file.text)), version, at }
}

fn copies(
    admin: &AdminListener,
    address: Option<SocketAddr>,
    telemetry: Option<&std::net::TcpListener>,
) -> io::Result<Copies> {
    let (socket, keeps_file) = admin.share()?;
    let telemetry = telemetry.map(std::net::TcpListener::try_clone).transpose()?;
    Ok(Copies { admin: socket, admin_keeps_file: keeps_file, telemetry: address.zip(telemetry) })
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
