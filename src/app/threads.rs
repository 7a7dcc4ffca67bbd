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
use crate::admin::server::{AdminListener, Ties};
use crate::clock;
use crate::control::{Control, run_checks};
use crate::hooks::{self, HookSettings};
use crate::proxy::LiveSettings;
use crate::telemetry::{AccessLogHandle, Tallies, control_metrics, listener, page};

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

pub(super) fn admin_and_telemetry(
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
        let alerts: listener::Alerts = {
            let (control, hooks, asked) =
                (watcher.control.clone(), watcher.hooks.clone(), watcher.hooks.clone());
            let admit = move |authorization: Option<&str>| {
                hooks::alerts::admit(&asked.load(), authorization).map(drop)
            };
            let take: listener::Take = Arc::new(move |authorization, body| {
                let (control, hooks) = (control.clone(), hooks.load_full());
                Box::pin(async move {
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
        let mut ending = phases.clone();
        let telemetry = async {
            match metrics.map(tokio::net::TcpListener::from_std) {
                Some(Ok(listener)) => {
                    let ending = async {
                        let _ = ending.wait_for(|phase| *phase == Phase::Ending).await;
                    };
                    listener::serve_with_alerts(listener, rendered, ready, Some(alerts), ending).await;
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

pub(super) fn checks_and_ticks(control: Control, seed: u64, mut phases: watch::Receiver<Phase>) {
    let ticks = async {
        let mut every = tokio::time::interval(TICK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => control.tick(clock::now()),
                () = control.alarmed() => {
                    control.tick_rollouts(clock::now(), clock::wall());
                    tokio::time::sleep(ALARM_GAP).await;
                }
            }
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

pub(super) fn tell_and_ask(
    control: Control,
    settings: Arc<ArcSwap<HookSettings>>,
    seed: u64,
    mut phases: watch::Receiver<Phase>,
) {
    let ending = async {
        let _ = phases.wait_for(|phase| *phase == Phase::Ending).await;
    };
    block_on("hooks", hooks::run(control, settings, seed, ending));
}

pub(super) fn look_at_certificates(reloader: Arc<Reloader>, phases: watch::Receiver<Phase>) {
    block_on("certificates", certificates::watch(reloader, phases));
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
