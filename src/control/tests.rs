//! Stories of the control plane: real state folders, and disks that are slow or broken on command.

mod ejections;
mod launches;
mod rollouts;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;

use super::commit::matcher;
use super::*;
use crate::clock;
use crate::rollout::{Gates, GuardMode};
use crate::routing::{Limits, Recognition, Route, ServiceSettings, Tell, Timeouts, WhenUnhealthy};
use crate::store::{AuditLimits, Origin, Recovered, StateFolder};
use crate::telemetry::Tallies;
use crate::traffic::{By, Cause, Otherwise, PerVariant, Variant, Weight};
use crate::upstream::{BalanceSettings, EndpointSpec};

pub(super) fn config(name: &str) -> ServiceConfig {
    let endpoints = |place: &str| {
        let url = format!("http://{place}.{name}:80").parse().unwrap();
        vec![EndpointSpec { url, weight: 1 }]
    };
    ServiceConfig {
        settings: Arc::new(ServiceSettings {
            name: name.into(),
            routes: vec![Route {
                host: format!("{name}.example.com").parse().unwrap(),
                path: "/".parse().unwrap(),
            }],
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
        }),
        recognition: Recognition {
            by: By::Cookie,
            user_keys: vec![],
            otherwise: Otherwise::Cookie,
            ratchet: false,
            salt: name.into(),
        },
        stable: Variant::Blue,
        initial_weight: Weight::ZERO,
        split_expires: None,
        initial_mirror: Weight::ZERO,
        endpoints: PerVariant { blue: endpoints("blue"), green: endpoints("green") },
        reach: PerVariant::default(),
        version: PerVariant::default(),
        guard: GuardMode::Off,
        gates: Gates::standard(),
        slo: None,
    }
}

fn percent(percent: u32) -> Weight {
    Weight::from_percent(percent).unwrap()
}

fn shift(weights: &[(&str, u32)]) -> Change {
    let weights = weights.iter().map(|(name, to)| ((*name).into(), percent(*to))).collect();
    Change::Shift { weights, if_generation: None, take_over: false }
}

fn shift_if(name: &str, to: u32, generation: u64) -> Change {
    Change::Shift {
        weights: BTreeMap::from([(name.into(), percent(to))]),
        if_generation: Some(generation),
        take_over: false,
    }
}

fn named(names: &[&str]) -> Selection {
    Selection::Named(names.iter().map(|name| (*name).into()).collect())
}

fn ops() -> Who {
    Who { actor: "uid 1000 (ops)".into(), claimed: None, reason: Some("story".into()) }
}

/// A control plane on a real folder whose endpoints are all healthy.
fn start(folder: &std::path::Path, names: &[&str]) -> Control {
    start_with(folder, names.iter().map(|name| config(name)).collect())
}

fn start_with(folder: &std::path::Path, configs: Vec<ServiceConfig>) -> Control {
    let opened = Opened::open(folder).unwrap();
    let control = Control::start(opened, configs, Tallies::new(0)).unwrap();
    all_healthy(&control);
    control
}

fn all_healthy(control: &Control) {
    for check in control.checks() {
        control.checked(&check, Ok(()));
    }
}

/// As after kill -9: nothing is said to the threads, and the folder is opened anew.
fn crash(control: Control) {
    // The saver and its hold on the folder are leaked on purpose; the lock is taken over by copying.
    std::mem::forget(control);
}

async fn commit(control: &Control, change: &Change) -> Result<Committed, CommitError> {
    control.commit(change, &ops(), None, clock::now()).await
}

fn weight(control: &Control, name: &str) -> Weight {
    let table = control.table();
    let service = table.services().iter().find(|service| &*service.settings.name == name).unwrap();
    let state = control.desired().service(name).unwrap().clone();
    assert_eq!(service.split, state.split(), "the table says what the state says");
    service.split.weight
}

/// A disk whose writes of the state wait to be told how they end. Kills are taken at once.
struct SlowDisk {
    written: mpsc::Receiver<Vec<u8>>,
    tell: mpsc::Sender<io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl SlowDisk {
    /// A control plane on it; the first save is through.
    fn control(kills_work: bool) -> (Control, Self) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        let events =
            Events::start(state.audit_log(AuditLimits::default()).unwrap(), state.audit_reader()).unwrap();
        let (write, written) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let states: Sink = Box::new(move |bytes| {
            let _ = write.send(bytes.to_vec());
            told.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        });
        let kills: Sink =
            Box::new(move |_| if kills_work { Ok(()) } else { Err(io::ErrorKind::Other.into()) });
        tell.send(Ok(())).unwrap();
        let disk = Disk {
            states,
            kills,
            evidence: EvidenceDisk::none(),
            launches: LaunchDisk::default(),
            events: Arc::new(events),
        };
        let fresh = Recovered { payload: None, origin: Origin::Fresh };
        let configs = vec![config("cart"), config("shop")];
        let control = Control::start_on(disk, fresh, None, None, configs, Tallies::new(0)).unwrap();
        all_healthy(&control);
        let disk = Self { written, tell, _folder: folder };
        disk.sees_a_write();
        (control, disk)
    }

    fn sees_a_write(&self) {
        self.written.recv().unwrap();
    }

    fn ends_well(&self) {
        self.tell.send(Ok(())).unwrap();
    }

    fn takes(&self) {
        self.sees_a_write();
        self.ends_well();
    }
}

#[tokio::test]
async fn traffic_is_where_it_was_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop", "cart"]);
    let shifted = commit(&control, &shift(&[("shop", 25), ("cart", 10)])).await.unwrap();
    assert!(shifted.saved);
    let killed = commit(&control, &Change::Kill(named(&["cart"]))).await.unwrap();
    assert!(killed.saved && killed.generation > shifted.generation);
    let epoch = control.desired().service("cart").unwrap().epoch;
    assert!(control.stop());
    drop(control);

    let control = start(folder.path(), &["shop", "cart"]);
    assert_eq!((weight(&control, "shop"), weight(&control, "cart")), (percent(25), Weight::ZERO));
    let cart = control.desired().service("cart").unwrap().clone();
    assert_eq!((cart.lock.as_ref().unwrap().cause, cart.epoch), (Cause::Kill, epoch));
    let next = commit(&control, &shift(&[("shop", 30)])).await.unwrap();
    assert!(next.generation > killed.generation);
    let what: Vec<_> = control.events().last(1000).unwrap().into_iter().map(|entry| entry.what).collect();
    assert!(what.contains(&"kill".to_owned()) && what.contains(&"start".to_owned()), "{what:?}");
}

#[tokio::test]
async fn a_shift_up_waits_for_the_disk() {
    let (control, disk) = SlowDisk::control(true);
    let shifting = tokio::spawn({
        let control = control.clone();
        async move { commit(&control, &shift(&[("shop", 25)])).await }
    });
    until_written(&disk).await;
    assert_eq!(weight(&control, "shop"), Weight::ZERO, "not in force before it is on disk");
    disk.ends_well();
    assert!(shifting.await.unwrap().unwrap().saved);
    assert_eq!(weight(&control, "shop"), percent(25));
}

#[tokio::test]
async fn a_kill_overtakes_a_shift_that_waits_for_the_disk() {
    let (control, disk) = SlowDisk::control(true);
    let shifting = tokio::spawn({
        let control = control.clone();
        async move { commit(&control, &shift(&[("shop", 25)])).await }
    });
    until_written(&disk).await;
    let killed = commit(&control, &Change::Kill(named(&["shop"]))).await.unwrap();
    assert!(killed.saved, "the kill file does not wait for the state");
    assert!(control.desired().service("shop").unwrap().lock.is_some());
    disk.ends_well();
    disk.takes();
    let refused = shifting.await.unwrap().unwrap_err();
    assert!(matches!(refused, CommitError::Refused(Refusal::Locked { .. })), "{refused}");
    assert_eq!(weight(&control, "shop"), Weight::ZERO);
}

#[tokio::test]
async fn a_shift_up_never_lands_after_an_acknowledged_shift_down() {
    for before in [0, 20] {
        let (control, disk) = SlowDisk::control(true);
        if before > 0 {
            let shifting = tokio::spawn({
                let control = control.clone();
                async move { commit(&control, &shift(&[("shop", before)])).await }
            });
            until_written(&disk).await;
            disk.ends_well();
            shifting.await.unwrap().unwrap();
        }
        let shifting = tokio::spawn({
            let control = control.clone();
            async move { commit(&control, &shift(&[("shop", 80)])).await }
        });
        until_written(&disk).await;
        let regrets = tokio::spawn({
            let control = control.clone();
            async move { commit(&control, &shift(&[("shop", 0)])).await }
        });
        tokio::task::yield_now().await;
        for _ in 0..8 {
            disk.ends_well();
        }
        assert_eq!(regrets.await.unwrap().unwrap().changes[0].to, Weight::ZERO);
        let refused = shifting.await.unwrap().unwrap_err();
        assert!(matches!(refused, CommitError::Refused(Refusal::Overtaken(_))), "from {before}%: {refused}");
        assert_eq!(weight(&control, "shop"), Weight::ZERO);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_disk_and_what_is_in_force_the_same() {
    let (control, disk) = SlowDisk::control(true);
    let shifting = tokio::spawn({
        let control = control.clone();
        async move { commit(&control, &shift(&[("shop", 50)])).await }
    });
    until_written(&disk).await;
    shifting.abort();
    assert!(shifting.await.unwrap_err().is_cancelled());
    for _ in 0..8 {
        disk.ends_well();
    }
    while weight(&control, "shop") != percent(50) {
        tokio::task::yield_now().await;
    }
    assert!(control.stop());
    let newest = disk.written.try_iter().last().unwrap();
    assert_eq!(Desired::from_bytes(&newest).unwrap().desired.service("shop").unwrap().weight, percent(50));
}

#[tokio::test]
async fn a_flapping_endpoint_neither_starves_changes_nor_uses_up_the_numbers() {
    let (control, disk) = SlowDisk::control(true);
    let check =
        control.checks().into_iter().find(|check| check.way.url().authority() == "green.cart").unwrap();
    let flap = |times: u32| {
        for _ in 0..times {
            for _ in 0..3 {
                control.checked(&check, Err("refused".into()));
            }
            for _ in 0..2 {
                control.checked(&check, Ok(()));
            }
        }
    };
    let shifting = tokio::spawn({
        let control = control.clone();
        async move { commit(&control, &shift(&[("shop", 25)])).await }
    });
    until_written(&disk).await;
    flap(3);
    disk.ends_well();
    let shifted = shifting.await.unwrap().unwrap();
    assert_eq!((weight(&control, "shop"), shifted.generation), (percent(25), control.generation()));

    // The disk hangs from here on: the numbers that it knows of are all that health may use.
    flap(20_000);
    let newest = disk.written.try_iter().last();
    let last = control.generation();
    let known = newest.map_or(0, |bytes| Desired::from_bytes(&bytes).unwrap().ceiling);
    assert!(last <= control.inner.saver.reserved().max(known), "{last} is beyond what the disk knows of");
    for _ in 0..8 {
        disk.ends_well();
    }
}

#[tokio::test]
async fn a_damaged_kill_file_locks_everything() {
    for damage in ["gone", "flipped"] {
        let folder = tempfile::tempdir().unwrap();
        let control = start(folder.path(), &["shop"]);
        commit(&control, &shift(&[("shop", 25)])).await.unwrap();
        control.stop();
        drop(control);
        let path = folder.path().join("kills");
        if damage == "gone" {
            std::fs::remove_file(&path).unwrap();
        } else {
            let mut bytes = std::fs::read(&path).unwrap();
            let half = bytes.len() / 2;
            for at in [60, half + 60] {
                bytes[at] ^= 1;
            }
            std::fs::write(&path, bytes).unwrap();
        }
        let control = start(folder.path(), &["shop"]);
        let shop = control.desired().service("shop").unwrap().clone();
        assert_eq!(
            (shop.weight, shop.lock.as_ref().unwrap().cause),
            (Weight::ZERO, Cause::StateLost),
            "{damage}"
        );
    }
}

#[tokio::test]
async fn a_clean_stop_leaves_no_gap_in_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    commit(&control, &shift(&[("shop", 25)])).await.unwrap();
    let last = control.generation();
    assert!(control.stop());
    drop(control);
    let opened = Opened::open(folder.path()).unwrap();
    let control = Control::start(opened, vec![config("shop")], Tallies::new(0)).unwrap();
    assert_eq!(control.generation(), last + 1);
}

#[tokio::test]
async fn other_check_settings_do_not_make_a_dead_endpoint_usable() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    let green =
        control.checks().into_iter().find(|check| check.way.url().authority() == "green.shop").unwrap();
    for _ in 0..3 {
        control.checked(&green, Err("refused".into()));
    }
    let mut shop = config("shop");
    let settings = Arc::get_mut(&mut shop.settings).unwrap();
    settings.health.green.interval *= 2;
    settings.health.blue.interval *= 2;
    control.reload(vec![shop], Keep::All, &ops()).await.unwrap();
    assert!(control.table().services()[0].groups.green.usable().is_empty());
}

/// Lets other tasks run until the disk has something to write.
async fn until_written(disk: &SlowDisk) {
    while disk.written.try_recv().is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_shift_that_was_overtaken_by_another_service_starts_over() {
    let (control, disk) = SlowDisk::control(true);
    let shifting = tokio::spawn({
        let control = control.clone();
        async move { commit(&control, &shift(&[("shop", 25)])).await }
    });
    until_written(&disk).await;
    commit(&control, &Change::Kill(named(&["cart"]))).await.unwrap();
    for _ in 0..8 {
        // However often it is written meanwhile.
        disk.ends_well();
    }
    let shifted = shifting.await.unwrap().unwrap();
    assert_eq!(weight(&control, "shop"), percent(25));
    assert!(control.desired().service("cart").unwrap().lock.is_some());
    let newest = disk.written.try_iter().last().unwrap();
    let saved: serde_json::Value = serde_json::from_slice(&newest).unwrap();
    assert_eq!(saved["generation"], shifted.generation, "what is on disk is what is in force: {saved}");
}

#[tokio::test(start_paused = true)]
async fn toward_stable_is_acknowledged_without_the_disk() {
    let (control, disk) = SlowDisk::control(false);
    let killed = commit(&control, &Change::Kill(named(&["shop"]))).await.unwrap();
    assert!(!killed.saved);
    assert_eq!(weight(&control, "shop"), Weight::ZERO);
    assert!(!control.is_saved());
    let again = commit(&control, &Change::Kill(named(&["shop"]))).await.unwrap();
    assert_eq!((again.changes[0].changed, again.saved), (false, false), "a second kill changes nothing");
    drop(disk);
}

#[tokio::test]
async fn toward_the_candidate_is_refused_without_the_disk() {
    let (control, disk) = SlowDisk::control(true);
    let shifting = tokio::spawn({
        let control = control.clone();
        async move { commit(&control, &shift(&[("shop", 25)])).await }
    });
    until_written(&disk).await;
    disk.tell.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    assert!(matches!(shifting.await.unwrap(), Err(CommitError::NotSaved(_))));
    assert_eq!(weight(&control, "shop"), Weight::ZERO);
    // What is in force goes to disk again, in case the refused state got there after all.
    disk.sees_a_write();
    disk.ends_well();
}

#[tokio::test]
async fn of_two_who_know_the_same_generation_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop", "cart"]);
    let known = control.desired().service("shop").unwrap().changed.generation;
    commit(&control, &shift(&[("cart", 5)])).await.unwrap();
    commit(&control, &shift_if("shop", 10, known)).await.unwrap();
    let refused = commit(&control, &shift_if("shop", 20, known)).await.unwrap_err();
    assert!(matches!(refused, CommitError::Refused(Refusal::Stale { .. })));
    assert!(refused.to_string().contains("by uid 1000 (ops) at"), "{refused}");
    assert_eq!(weight(&control, "shop"), percent(10));
}

#[tokio::test]
async fn an_idempotency_key_has_one_effect_even_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    let key = IdempotencyKey { key: "deploy-7".into(), digest: "a".into() };
    let ask = async |control: &Control, to, key: &IdempotencyKey| {
        control.commit(&shift(&[("shop", to)]), &ops(), Some(key), clock::now()).await
    };
    let first = ask(&control, 10, &key).await.unwrap();
    commit(&control, &shift(&[("shop", 50)])).await.unwrap();
    let again = ask(&control, 10, &key).await.unwrap();
    assert_eq!((again.generation, &again.changes), (first.generation, &first.changes));
    assert_eq!(weight(&control, "shop"), percent(50), "it had its effect once");
    let other = IdempotencyKey { digest: "b".into(), ..key.clone() };
    assert!(matches!(ask(&control, 20, &other).await, Err(CommitError::KeyReused(_))));
    control.stop();
    drop(control);
    let control = start(folder.path(), &["shop"]);
    assert_eq!(ask(&control, 10, &key).await.unwrap().generation, first.generation);
    assert_eq!(weight(&control, "shop"), percent(50));
}

#[tokio::test]
async fn generations_never_repeat_even_if_they_were_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    let shifted = commit(&control, &shift(&[("shop", 25)])).await.unwrap();
    // What is on disk now is what a kill -9 later would leave behind.
    for file in ["state", "state.previous", "kills"] {
        let from = folder.path().join(file);
        if from.exists() {
            std::fs::copy(from, copy.path().join(file)).unwrap();
        }
    }
    let unsaved = commit(&control, &shift(&[("shop", 0)])).await.unwrap();
    crash(control);
    let control = start(copy.path(), &["shop"]);
    assert_eq!(weight(&control, "shop"), percent(25));
    assert!(control.generation() > unsaved.generation && unsaved.generation > shifted.generation);
}

#[tokio::test]
async fn a_kill_survives_though_the_state_was_never_saved() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop", "cart"]);
    commit(&control, &shift(&[("shop", 25), ("cart", 25)])).await.unwrap();
    std::fs::copy(folder.path().join("state"), copy.path().join("state")).unwrap();
    let killed = commit(&control, &Change::Kill(named(&["shop"]))).await.unwrap();
    control.stop();
    std::fs::copy(folder.path().join("kills"), copy.path().join("kills")).unwrap();
    let control = start(copy.path(), &["shop", "cart"]);
    assert_eq!((weight(&control, "shop"), weight(&control, "cart")), (Weight::ZERO, percent(25)));
    let shop = control.desired().service("shop").unwrap().clone();
    assert_eq!(
        (shop.epoch, shop.lock.clone().unwrap().actor),
        (killed.generation, "uid 1000 (ops)".to_owned())
    );

    // Armed again, the old record in the kill file means nothing any more.
    commit(&control, &Change::Arm(named(&["shop"]))).await.unwrap();
    control.stop();
    drop(control);
    let control = start(copy.path(), &["shop", "cart"]);
    assert!(control.desired().service("shop").unwrap().lock.is_none());
}

#[tokio::test]
async fn after_a_lost_state_everyone_is_on_stable_and_locked() {
    for damage in ["lost", "previous", "garbage"] {
        let folder = tempfile::tempdir().unwrap();
        let control = start(folder.path(), &["shop", "cart"]);
        commit(&control, &shift(&[("shop", 25)])).await.unwrap();
        let last = commit(&control, &shift(&[("shop", 50)])).await.unwrap().generation;
        control.stop();
        drop(control);
        std::fs::write(folder.path().join("state"), "torn").unwrap();
        match damage {
            "lost" => std::fs::remove_file(folder.path().join("state.previous")).unwrap(),
            "garbage" => std::fs::write(folder.path().join("state.previous"), "torn, too").unwrap(),
            _ => {}
        }
        let control = start(folder.path(), &["shop", "cart"]);
        for name in ["shop", "cart"] {
            assert_eq!(weight(&control, name), Weight::ZERO, "{damage}");
            let lock = control.desired().service(name).unwrap().lock.clone().unwrap();
            assert_eq!(lock.cause, Cause::StateLost, "{damage}");
        }
        assert!(control.generation() > last, "{damage}");
        let refused = commit(&control, &shift(&[("shop", 1)])).await.unwrap_err();
        assert!(refused.to_string().contains("shop is locked (state-lost, by tidegate"), "{refused}");
        assert!(commit(&control, &Change::Arm(Selection::All)).await.is_ok());
        assert!(commit(&control, &shift(&[("shop", 1)])).await.is_ok());
    }
}

#[tokio::test]
async fn a_reload_never_moves_traffic() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop", "cart"]);
    commit(&control, &shift(&[("shop", 25)])).await.unwrap();
    let endpoint = control.table().services()[1].groups.blue.members()[0].endpoint.clone();

    let mut shop = config("shop");
    shop.initial_weight = percent(90);
    shop.recognition.salt = "other".into();
    shop.endpoints.green[0].url = "http://elsewhere:80".parse().unwrap();
    let settings = Arc::make_mut(&mut shop.settings);
    settings.balance.slow_start = std::time::Duration::from_secs(5);
    settings.limits.requests_max = Some(5);
    let new = vec![shop, config("wishes")];
    let before = control.table();
    let dry = control.reload_dry_run(new.clone(), Keep::All).unwrap();
    assert!(Arc::ptr_eq(&before, &control.table()), "a dry run changes nothing");
    let reloaded = control.reload(new, Keep::All, &ops()).await.unwrap();
    assert_eq!(dry, reloaded);
    assert_eq!(
        reloaded.changes,
        [
            "cart: removed; its state is kept",
            "shop: green from http://green.shop:80 to http://elsewhere:80",
            "shop: settings of balance, limits",
            "shop: split settings",
            "wishes: added",
        ]
    );
    assert_eq!(
        reloaded.drift,
        [
            "shop: green is at 25%, the file starts it at 90%",
            "shop: the split settings of the file wait until the weight is 0% or 100%",
        ]
    );
    assert_eq!(weight(&control, "shop"), percent(25));
    assert_eq!(&*control.desired().service("shop").unwrap().recognition.salt, "shop");
    let table = control.table();
    let shop = table.services().iter().find(|service| &*service.settings.name == "shop").unwrap();
    assert!(shop.groups.blue.members().iter().any(|member| member.health.is_usable()));
    assert!(!shop.groups.green.is_healthy(), "a new endpoint has to be checked first");
    let stays = |id| {
        table
            .services()
            .iter()
            .flat_map(|service| service.groups.blue.members())
            .any(|member| member.endpoint.id() == id)
    };
    assert!(endpoint.is_retired() && !stays(endpoint.id()), "cart's endpoint is out of every table");

    let refused = commit(&control, &shift(&[("cart", 5)])).await.unwrap_err();
    assert!(refused.to_string().contains("no service \"cart\""), "{refused}");
    commit(&control, &shift(&[("shop", 0)])).await.unwrap();
    assert_eq!(&*control.desired().service("shop").unwrap().recognition.salt, "other");
    control.reload(vec![config("shop"), config("cart")], Keep::All, &ops()).await.unwrap();
    assert_eq!(control.table().services().len(), 2);
}

#[tokio::test]
async fn a_deployment_fills_the_candidate_and_survives() {
    let folder = tempfile::tempdir().unwrap();
    let mut shop = config("shop");
    shop.endpoints.green.clear();
    let control = start_with(folder.path(), vec![shop.clone()]);
    let refused = commit(&control, &shift(&[("shop", 5)])).await.unwrap_err();
    assert!(refused.to_string().contains("green has no endpoint"), "{refused}");
    let deployed = Deployed {
        endpoints: vec![EndpointSpec { url: "http://new:80".parse().unwrap(), weight: 1 }],
        version: Some("2.0.1".into()),
    };
    commit(&control, &Change::Deploy { service: "shop".into(), deployed }).await.unwrap();
    let refused = commit(&control, &shift(&[("shop", 5)])).await.unwrap_err();
    assert!(refused.to_string().contains("no healthy endpoint"), "{refused}");
    all_healthy(&control);
    commit(&control, &shift(&[("shop", 5)])).await.unwrap();
    control.stop();
    drop(control);
    let control = start_with(folder.path(), vec![shop]);
    let table = control.table();
    let green = &table.services()[0].groups.green;
    assert_eq!((green.version().map(|v| &**v), green.members().len()), (Some("2.0.1"), 1));
    assert_eq!(
        control.drift("shop"),
        [
            "green is at 5%, the file starts it at 0%",
            "green was deployed to http://new:80, the file says no endpoint"
        ]
    );
}

#[tokio::test]
async fn a_failing_endpoint_leaves_the_table_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    let green =
        control.checks().into_iter().find(|check| check.way.url().authority() == "green.shop").unwrap();
    let usable = || control.table().services()[0].groups.green.usable().len();
    let before = control.generation();
    for _ in 0..2 {
        control.checked(&green, Err("refused".into()));
        assert_eq!(usable(), 1, "not after the first failures");
    }
    control.checked(&green, Err("refused".into()));
    assert_eq!(usable(), 0);
    assert!(control.generation() > before);
    assert_eq!(
        control.check_error(&control.table().services()[0], Variant::Green, &green.way).as_deref(),
        Some("refused")
    );
    control.checked(&green, Ok(()));
    control.checked(&green, Ok(()));
    assert_eq!(usable(), 1);
}

fn endpoints(variant: Variant, act: EndpointAct) -> Change {
    let service = "shop".into();
    Change::Endpoints(EndpointChange { service, variant, act, force: false, if_generation: None })
}

fn specs(urls: &[&str]) -> Vec<EndpointSpec> {
    at(urls.iter().map(|url| url.parse().unwrap()).collect())
}

/// The endpoints of green and how they stand.
fn green(control: &Control) -> Vec<String> {
    let table = control.table();
    let shop = table.services().iter().find(|service| &*service.settings.name == "shop").unwrap();
    let members = shop.groups.green.members().iter();
    members.map(|member| format!("{} {}", member.endpoint.label(), member.standing.as_str())).collect()
}

#[tokio::test]
async fn changes_of_endpoints_survive_a_restart_and_end_with_the_configuration_that_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    let (new, old) = (specs(&["http://new:80"]), specs(&["http://green.shop:80"]));
    commit(&control, &endpoints(Variant::Green, EndpointAct::Add(new))).await.unwrap();
    all_healthy(&control);
    commit(&control, &shift(&[("shop", 25)])).await.unwrap();
    let before = control.table().services()[0].clone();
    commit(&control, &endpoints(Variant::Green, EndpointAct::Drain(old))).await.unwrap();
    let expected = ["http://green.shop:80 draining", "http://new:80 in service"];
    assert_eq!(green(&control), expected);
    let after = control.table().services()[0].clone();
    assert_eq!((&after.split, after.era), (&before.split, before.era), "nobody moves");
    let drained = &after.groups.green.members()[0];
    assert!(drained.endpoint.is_resting() && !drained.endpoint.is_retired());
    assert!(control.checks().iter().any(|check| check.way == *drained.endpoint.way()), "it is checked on");
    control.stop();
    drop(control);

    let control = start(folder.path(), &["shop"]);
    assert_eq!(green(&control), expected);
    let drift = "green was changed at run time: added http://new:80; draining http://green.shop:80";
    assert!(control.drift("shop").iter().any(|sentence| sentence == drift), "{:?}", control.drift("shop"));

    // The file has it by now.
    let mut named = config("shop");
    named.endpoints.green.extend(specs(&["http://new:80"]));
    control.reload(vec![named.clone()], Keep::All, &ops()).await.unwrap();
    assert_eq!(green(&control), expected);
    let overlay = control.desired().service("shop").unwrap().overlay.green.clone();
    assert_eq!((overlay.added.len(), overlay.drained.len()), (0, 1));

    let dry = control.reload_dry_run(vec![named.clone()], Keep::Nothing).unwrap();
    let sentence = "shop: green no longer changed at run time: draining http://green.shop:80";
    assert_eq!(dry.changes, [sentence]);
    assert_eq!(green(&control), expected);
    let reloaded = control.reload(vec![named], Keep::Nothing, &ops()).await.unwrap();
    assert_eq!(reloaded, dry);
    assert_eq!(green(&control), ["http://green.shop:80 in service", "http://new:80 in service"]);
    let table = control.table();
    assert!(table.services()[0].groups.green.members().iter().all(|member| !member.endpoint.is_resting()));
}

#[tokio::test]
async fn a_configuration_with_nobody_but_who_was_taken_out_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut both = config("shop");
    both.endpoints.blue.extend(specs(&["http://other:80"]));
    let control = start_with(folder.path(), vec![both]);
    all_healthy(&control);
    for (act, word) in [
        (EndpointAct::Drain(specs(&["http://blue.shop:80"])), "draining"),
        (EndpointAct::Remove(specs(&["http://blue.shop:80"])), "removed"),
    ] {
        commit(&control, &endpoints(Variant::Blue, act)).await.unwrap();
        let why = format!(
            "shop: blue, the stable variant, would have no endpoint left, because at run time was {word} \
             http://blue.shop:80; take that back first, or reload with --discard-overlay"
        );
        let dry = control.reload_dry_run(vec![config("shop")], Keep::All).unwrap_err();
        let refused = control.reload(vec![config("shop")], Keep::All, &ops()).await.unwrap_err();
        assert_eq!((dry.to_string(), refused.to_string()), (why.clone(), why));
    }
    assert_eq!(control.table().services()[0].groups.blue.members().len(), 1);
    control.reload(vec![config("shop")], Keep::Nothing, &ops()).await.unwrap();
    let table = control.table();
    let blue = table.services()[0].groups.blue.members();
    assert_eq!((blue.len(), &**blue[0].endpoint.label()), (1, "http://blue.shop:80"));
}

#[tokio::test]
async fn what_is_removed_is_known_until_nothing_is_under_way_there() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    let url = "http://green.shop:80".parse().unwrap();
    let endpoint = control.table().services()[0].groups.green.members()[0].endpoint.clone();
    let act = EndpointAct::Remove(specs(&["http://green.shop:80"]));
    let generation = commit(&control, &endpoints(Variant::Green, act)).await.unwrap().generation;
    assert!(green(&control).is_empty() && endpoint.is_retired());
    assert!(!control.checks().iter().any(|check| check.way == *endpoint.way()), "it is not checked any more");
    assert_eq!(control.under_way("shop", Variant::Green, &url, generation), None);
    assert!(control.leaving("shop", Variant::Green).is_empty());
    // There are no threads that could not know of it by now.
    control.tick(clock::now());
    drop(endpoint);
}

#[tokio::test]
async fn taking_an_endpoint_out_waits_for_no_disk_and_bringing_one_in_does() {
    let (control, disk) = SlowDisk::control(true);
    let _ = &disk;
    let act = EndpointAct::Remove(specs(&["http://green.shop:80"]));
    let removed = tokio::spawn({
        let control = control.clone();
        async move { commit(&control, &endpoints(Variant::Green, act)).await }
    });
    while !green(&control).is_empty() {
        tokio::task::yield_now().await;
    }
    disk.written.recv().unwrap();
    disk.tell.send(Ok(())).unwrap();
    removed.await.unwrap().unwrap();

    let act = EndpointAct::Add(specs(&["http://new:80"]));
    let added = tokio::spawn({
        let control = control.clone();
        async move { commit(&control, &endpoints(Variant::Green, act)).await }
    });
    let written = loop {
        tokio::task::yield_now().await;
        if let Ok(written) = disk.written.try_recv() {
            break written;
        }
    };
    assert!(String::from_utf8(written).unwrap().contains("http://new:80"));
    assert!(green(&control).is_empty(), "not before it is on disk");
    disk.tell.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    let refused = added.await.unwrap().unwrap_err();
    assert!(matches!(refused, CommitError::NotSaved(_)), "{refused}");
    assert!(green(&control).is_empty());
    while disk.written.try_recv().is_err() {
        tokio::task::yield_now().await;
    }
    disk.tell.send(Ok(())).unwrap();
}

#[tokio::test]
async fn a_name_with_several_addresses_is_an_endpoint_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let control = start(folder.path(), &["shop"]);
    let ip = |last: u8| std::net::IpAddr::from([127, 0, 0, last]);
    let name = || {
        let checks = control.checks();
        checks
            .iter()
            .filter_map(|check| check.way.name())
            .find(|name| &**name.host() == "green.shop")
            .cloned()
    };
    let learn = |addresses: &[u8]| {
        control.looked_up(&name().unwrap(), Ok(addresses.iter().map(|last| ip(*last)).collect()));
    };
    let before = control.generation();
    assert_eq!(green(&control), ["http://green.shop:80 in service"]);
    learn(&[1]);
    assert_eq!(green(&control), ["http://green.shop:80 in service"]);
    assert_eq!(control.generation(), before, "nothing is different");
    learn(&[3, 2]);
    let of = |last: u8| format!("http://green.shop:80 (127.0.0.{last}) in service");
    assert_eq!(green(&control), [of(2), of(3)]);
    let ids = || {
        let table = control.table();
        let members = table.services()[0].groups.green.members().iter();
        members.map(|member| (member.endpoint.id(), member.health)).collect::<Vec<_>>()
    };
    let first = ids();
    assert!(first.iter().all(|(_, health)| *health == crate::upstream::Health::Healthy));
    let checks = control.checks();
    let checked: Vec<_> = checks.iter().filter(|check| check.way.url().authority() == "green.shop").collect();
    assert_eq!(checked.len(), 2, "each is checked on its own");

    // One of them fails alone.
    let third = checked.iter().find(|check| check.way.address() == Some(ip(3))).unwrap();
    for _ in 0..3 {
        control.checked(third, Err("refused".into()));
    }
    let usable = || control.table().services()[0].groups.green.usable().len();
    assert_eq!(usable(), 1);

    // Shuffled and failed answers change nothing.
    let before = control.generation();
    learn(&[2, 3]);
    control.looked_up(&name().unwrap(), Err("no answer".into()));
    assert_eq!(control.generation(), before);
    // What stays keeps its identity and what is known of it.
    let gone = control.table().services()[0].groups.green.members()[0].endpoint.clone();
    learn(&[3, 4]);
    assert_eq!(green(&control), [of(3), of(4)]);
    assert_eq!(ids()[0].0, first[1].0);
    assert!(gone.is_retired() && control.generation() > before);

    // What is said of the name goes for all of them.
    let drain = EndpointAct::Drain(specs(&["http://green.shop:80"]));
    commit(&control, &endpoints(Variant::Green, drain)).await.unwrap();
    learn(&[3, 5]);
    assert!(green(&control).iter().all(|text| text.ends_with("draining")), "{:?}", green(&control));
    assert_eq!(usable(), 0);
    // A state that names no addresses is saved.
    assert!(!String::from_utf8(control.desired().to_bytes(1)).unwrap().contains("127.0.0"));
    learn(&[5]);
    assert_eq!(green(&control), ["http://green.shop:80 draining"]);
}

#[test]
fn overlapping_routes_are_refused() {
    let mut other = config("other");
    Arc::get_mut(&mut other.settings).unwrap().routes = config("shop").settings.routes.clone();
    let error = matcher(&[Arc::new(config("shop")), Arc::new(other)]).unwrap_err();
    assert_eq!(error.to_string(), "shop and other both claim shop.example.com/");
}
