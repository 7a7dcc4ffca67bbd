//! The threads beside traffic: one for the admin socket and telemetry, one for health checks and ticks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::certificates;
use super::facts::facts;
use super::phase::Phase;
use super::reloader::Reloader;
use super::supervisor::Supervisor;
use crate::admin::server::{AdminListener, Ties};
use crate::clock;
use crate::control::{Control, run_checks};
use crate::hooks::{self, HookSettings};
use crate::proxy::LiveSettings;
use crate::telemetry::{AccessLogHandle, Tallies, control_metrics, listener, page};
use crate::upstream::Resolver;

/// How often traffic is measured.
const TICK: Duration = Duration::from_secs(1);

/// How long an alarm may not be followed by another one: a candidate that only fails must not keep this thread busy.
const ALARM_GAP: Duration = Duration::from_millis(20);

/// What a scrape looks at.
pub(super) struct Watcher {
    pub(super) control: Control,
    pub(super) tallies: Arc<Tallies>,
    pub(super) log: AccessLogHandle,
    pub(super) metrics: control_metrics::ControlMetrics,
    pub(super) hooks: Arc<ArcSwap<HookSettings>>,
    pub(super) live: Arc<ArcSwap<LiveSettings>>,
    pub(super) addresses: Vec<SocketAddr>,
}

/// When a thread has nothing left to do.
pub(super) struct Ends {
    pub(super) phases: watch::Receiver<Phase>,
    /// Whether another process has taken over.
    pub(super) passed_on: watch::Receiver<bool>,
}

impl Ends {
    /// Traffic has ended.
    fn ending(&self) -> impl Future<Output = ()> + use<> {
        let mut phases = self.phases.clone();
        async move {
            let _ = phases.wait_for(|phase| *phase == Phase::Ending).await;
        }
    }

    /// Another process has taken over. Never resolves otherwise.
    fn passed_on(&self) -> impl Future<Output = ()> + use<> {
        let mut passed_on = self.passed_on.clone();
        async move {
            if passed_on.wait_for(|passed_on| *passed_on).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Either.
    fn first(&self) -> impl Future<Output = ()> + use<> {
        let (ending, passed_on) = (self.ending(), self.passed_on());
        async {
            tokio::select! {
                () = ending => {}
                () = passed_on => {}
            }
        }
    }
}

pub(super) fn admin_and_telemetry(
    admin: AdminListener,
    ties: Ties,
    metrics: Option<std::net::TcpListener>,
    watcher: Watcher,
    ends: Ends,
) {
    let serve = async {
        let ready_phases = ends.phases.clone();
        let ready: listener::Ready = Arc::new(move || match *ready_phases.borrow() {
            Phase::Serving => Ok(()),
            _ => Err("draining".to_owned()),
        });
        let alerts: listener::Alerts = {
            let (control, hooks, asked) =
                (watcher.control.clone(), watcher.hooks.clone(), watcher.hooks.clone());
            let admit = move |authorization: Option<&str>| {
                hooks::alerts::admit(&asked.load(), authorization).map(drop)
            };
            let take: listener::Take = Arc::new(move |authorization, body| {
                let (control, hooks) = (control.clone(), hooks.load_full());
                Box::pin(async move {
                    if let Some(why) = control.closed() {
                        return (503, format!("{why}\n"));
                    }
                    hooks::alerts::receive(&control, &hooks, authorization.as_deref(), &body).await
                })
            });
            listener::Alerts { admit: Arc::new(admit), take }
        };
        let rendered: listener::Page = Arc::new(move || {
            let Watcher { control, tallies, log, metrics, live, addresses, .. } = &watcher;
            let certificates = certificates::facts(&live.load(), addresses);
            page::render(tallies, &facts(control, log.dropped(), certificates)) + &metrics.render()
        });
        let telemetry = async {
            match metrics.map(tokio::net::TcpListener::from_std) {
                Some(Ok(listener)) => {
                    // Whoever has taken over accepts on the same socket.
                    listener::serve(listener, rendered, ready, Some(alerts), ends.first()).await;
                }
                Some(Err(error)) => eprintln!("tidegate: telemetry is not served: {error}"),
                None => {}
            }
        };
        let admin = async {
            if let Err(error) = admin.serve(ties, ends.passed_on(), ends.ending()).await {
                eprintln!("tidegate: the admin socket is not served: {error}");
                ends.ending().await;
            }
        };
        tokio::join!(telemetry, admin);
    };
    block_on("admin", serve);
}

pub(super) fn checks_and_ticks(
    control: Control,
    (seed, resolver): (u64, Resolver),
    ends: Ends,
    drain: Duration,
    supervisor: &Supervisor,
) {
    // What is held after an upgrade asks for no endpoint any more, once connections that were kept are gone.
    let checks = async {
        let useless = async {
            ends.passed_on().await;
            tokio::time::sleep(drain).await;
        };
        tokio::select! {
            () = run_checks(control.clone(), seed, resolver) => {}
            () = useless => {}
        }
        std::future::pending::<()>().await;
    };
    let ticks = async {
        let mut every = tokio::time::interval(TICK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => {
                    control.tick(clock::now());
                    // After an upgrade nobody vouches for the process that serves but that one itself.
                    if !*ends.passed_on.borrow() {
                        supervisor.is_alive(clock::now());
                    }
                }
                () = control.alarmed() => {
                    control.tick_rollouts(clock::now(), clock::wall());
                    tokio::time::sleep(ALARM_GAP).await;
                }
                () = control.endpoints_alarmed() => {
                    let began = clock::now();
                    control.look_at_endpoints(began);
                    // With thousands of groups a look takes a while: endpoints that only fail get a part of this thread.
                    let took = clock::now().saturating_duration_since(began);
                    tokio::time::sleep(ALARM_GAP.max(took * 4)).await;
                }
            }
        }
    };
    let work = async {
        tokio::select! {
            () = checks => {}
            () = ticks => {}
            () = ends.ending() => {}
        }
    };
    block_on("control", work);
}

pub(super) fn tell_and_ask(control: Control, settings: Arc<ArcSwap<HookSettings>>, seed: u64, ends: Ends) {
    block_on("hooks", hooks::run(control, settings, seed, ends.first()));
}

pub(super) fn look_at_certificates(reloader: Arc<Reloader>, ends: Ends) {
    let watch = async {
        tokio::select! {
            () = certificates::watch(&reloader) => {}
            // Whoever has taken over shows them.
            () = ends.first() => {}
        }
    };
    block_on("certificates", watch);
}

fn block_on(name: &str, work: impl Future<Output = ()>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            runtime.block_on(work);
            // A file or a disk that hangs must not keep the process.
            runtime.shutdown_background();
        }
        Err(error) => eprintln!("tidegate: the {name} thread has no runtime: {error}"),
    }
}

pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}
