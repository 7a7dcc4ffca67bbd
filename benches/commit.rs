//! What a change costs, with one service and with ten thousand, on a disk that takes no time.
//!
//! *Published* is until the table is in force: what a kill is about. *Acknowledged* is the whole commit, with the way
//! to the saver's thread and back; the state of all services is written as text there, so it grows with them.
//!
//! `cargo bench --bench commit`

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use futures_util::FutureExt as _;
use tempfile::TempDir;
use tidegate::clock;
use tidegate::control::{
    Change, Committed, Control, Disk, Events, EvidenceDisk, LaunchDisk, Selection, ServiceConfig, Who,
};
use tidegate::rollout::{Gates, GuardMode};
use tidegate::routing::{Limits, Recognition, Route, ServiceSettings, Tell, Timeouts, WhenUnhealthy};
use tidegate::store::{AuditLimits, Origin, Recovered, StateFolder};
use tidegate::telemetry::Tallies;
use tidegate::traffic::{By, Otherwise, PerVariant, Variant, Weight};
use tidegate::upstream::{BalanceSettings, EndpointSpec};
use tokio::runtime::{Builder, Runtime};

const SERVICES: [usize; 3] = [1, 100, 10_000];

fn main() {
    divan::main();
}

#[divan::bench(args = SERVICES, sample_size = 1, sample_count = 100)]
fn kill_published(bencher: Bencher<'_, '_>, services: usize) {
    let bench = Bench::new(services);
    let setup = || {
        bench.commit(&arm());
        bench.commit(&shift(50));
    };
    bencher.with_inputs(setup).bench_local_values(|()| bench.publish(&kill()));
}

#[divan::bench(args = SERVICES, sample_size = 1, sample_count = 100)]
fn kill_acknowledged(bencher: Bencher<'_, '_>, services: usize) {
    let bench = Bench::new(services);
    let setup = || {
        bench.commit(&arm());
        bench.commit(&shift(50));
    };
    bencher.with_inputs(setup).bench_local_values(|()| bench.commit(&kill()));
}

#[divan::bench(args = SERVICES, sample_size = 1, sample_count = 100)]
fn shift_down_published(bencher: Bencher<'_, '_>, services: usize) {
    let bench = Bench::new(services);
    bencher.with_inputs(|| bench.commit(&shift(50))).bench_local_values(|_| bench.publish(&shift(25)));
}

#[divan::bench(args = SERVICES, sample_size = 1, sample_count = 100)]
fn shift_up_acknowledged(bencher: Bencher<'_, '_>, services: usize) {
    let bench = Bench::new(services);
    bencher.with_inputs(|| bench.commit(&shift(25))).bench_local_values(|_| bench.commit(&shift(50)));
}

/// A beat of so many guarded rollouts without traffic; the records go nowhere.
#[divan::bench(args = SERVICES, sample_size = 1, sample_count = 40)]
fn beat_of_idle_rollouts(bencher: Bencher<'_, '_>, services: usize) {
    let bench = Bench::new(services);
    let weights = (0..services).map(|at| (format!("service-{at}").into(), percent(5))).collect();
    bench.commit(&Change::Shift { weights, if_generation: None, take_over: false });
    let now = Cell::new(clock::now());
    bencher.bench_local(|| {
        now.set(now.get() + Duration::from_secs(1));
        bench.control.tick_rollouts(now.get(), clock::wall());
    });
}

/// A control plane whose disk takes no time.
struct Bench {
    runtime: Runtime,
    control: Control,
    who: Who,
    _folder: TempDir,
}

impl Bench {
    fn new(services: usize) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let state = StateFolder::open(folder.path()).expect("the folder opens");
        let log = state.audit_log(AuditLimits::default()).expect("the audit log opens");
        let events = Arc::new(Events::start(log, state.audit_reader()).expect("a thread"));
        let evidence = EvidenceDisk::none();
        let disk = Disk {
            states: Box::new(|_| Ok(())),
            kills: Box::new(|_| Ok(())),
            evidence,
            launches: LaunchDisk::default(),
            events,
        };
        let fresh = Recovered { payload: None, origin: Origin::Fresh };
        let configs = (0..services).map(config).collect();
        let control =
            Control::start_on(disk, fresh, None, None, configs, Tallies::new(1)).expect("it starts");
        for check in control.checks() {
            control.checked(&check, Ok(()));
        }
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let who = Who { actor: "uid 1000 (ops)".to_owned(), claimed: None, reason: Some("bench".to_owned()) };
        Self { runtime, control, who, _folder: folder }
    }

    fn commit(&self, change: &Change) -> Committed {
        let committed = self.runtime.block_on(self.control.commit(change, &self.who, None, clock::now()));
        self.control.tick(clock::now());
        committed.expect("it is made")
    }

    /// Up to where it would wait for the disk. Only for changes toward stable, which are in force by then.
    fn publish(&self, change: &Change) {
        let _inside = self.runtime.enter();
        let answer = self.control.commit(change, &self.who, None, clock::now()).now_or_never();
        if let Some(Err(error)) = answer {
            panic!("{error}");
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.control.stop();
    }
}

fn percent(percent: u32) -> Weight {
    Weight::from_percent(percent).unwrap_or_default()
}

fn shift(to: u32) -> Change {
    Change::Shift {
        weights: BTreeMap::from([("service-0".into(), percent(to))]),
        if_generation: None,
        take_over: false,
    }
}

fn kill() -> Change {
    Change::Kill(Selection::Named(vec!["service-0".into()]))
}

fn arm() -> Change {
    Change::Arm(Selection::Named(vec!["service-0".into()]))
}

fn config(at: usize) -> ServiceConfig {
    let name = format!("service-{at}");
    let endpoints = |place: &str| {
        vec![EndpointSpec {
            url: format!("http://{place}.{name}:80").parse().expect("it is a URL"),
            weight: 1,
        }]
    };
    let route = Route {
        host: format!("{name}.example.com").parse().expect("it is a host"),
        path: "/".parse().expect("it is a path"),
    };
    let settings = ServiceSettings {
        name: name.as_str().into(),
        routes: vec![route],
        health: PerVariant::default(),
        balance: BalanceSettings::default(),
        ejection: None,
        when_unhealthy: PerVariant { blue: WhenUnhealthy::Fail, green: WhenUnhealthy::Spill },
        tester: None,
        tell: Tell::default(),
        timeouts: Timeouts::default(),
        retries: None,
        limits: Limits::default(),
        upgrades: Vec::new(),
        mirror: Default::default(),
    };
    ServiceConfig {
        settings: Arc::new(settings),
        recognition: Recognition {
            by: By::Cookie,
            user_keys: vec![],
            otherwise: Otherwise::Cookie,
            ratchet: false,
            salt: name.as_str().into(),
        },
        stable: Variant::Blue,
        initial_weight: Weight::ZERO,
        split_expires: None,
        initial_mirror: Weight::ZERO,
        endpoints: PerVariant { blue: endpoints("blue"), green: endpoints("green") },
        reach: PerVariant::default(),
        version: PerVariant::default(),
        guard: GuardMode::Rollback,
        gates: Gates::standard(),
        slo: None,
    }
}
