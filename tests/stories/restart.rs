//! After a restart everything is as it was; where that cannot be known, everyone is on stable, loudly.

use std::fs;

use sha2::{Digest as _, Sha256};
use tidegate::admin::api::ServiceStatus;
use tidegate::traffic::Cause;

use crate::support::gate::Remains;
use crate::support::{Gate, Origin, origin, tidegate};

async fn origins() -> (Origin, Origin) {
    (origin().says("blue").start().await, origin().says("green").start().await)
}

#[tokio::test]
async fn weights_locks_and_epochs_are_as_before_and_generations_go_on() {
    let (blue, green) = origins().await;
    let plan = tidegate().service("shop", &blue, &green).with("path: /shop");
    let gate = plan.service("cart", &blue, &green).with("path: /cart").start().await;
    gate.shift_all(&[("shop", "12.345%"), ("cart", "50%")], &[]).await.unwrap();
    let killed = gate.kill("cart").await.generation;
    let kept = |service: ServiceStatus| (service.weight, service.epoch, service.lock, service.salt);
    let before = (kept(gate.service("shop").await), kept(gate.service("cart").await));
    assert_eq!(before.1.1, killed, "a kill starts an epoch");

    let gate = gate.restarts().await;
    let after = (kept(gate.service("shop").await), kept(gate.service("cart").await));
    assert_eq!(after, before);
    gate.is_ready().await;
    assert!(gate.shift("shop", "13%").await.generation > killed);
    let (status, _) = gate.shift_all(&[("cart", "1%")], &[]).await.unwrap_err();
    assert_eq!(status, 423);
}

/// A gate at 60 % whose newest change is the shift from 40 %, stopped.
async fn stopped() -> (Remains, u64, Origin, Origin) {
    let (blue, green) = origins().await;
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start().await;
    gate.shift("shop", "40%").await;
    let last = gate.shift("shop", "60%").await.generation;
    (gate.stops().await, last, blue, green)
}

async fn assert_on_stable_and_locked(gate: &Gate, last: u64) {
    let shop = gate.service("shop").await;
    let lock = shop.lock.expect("a lock");
    assert_eq!((shop.weight.millipercent(), lock.cause), (0, Cause::StateLost));
    assert!(shop.changed_at > last && shop.epoch > last, "{} {}", shop.changed_at, shop.epoch);
    let seen = gate.get_many("/", 200).await;
    assert_eq!((seen.blue(), seen.failures.len()), (200, 0));
    assert_eq!(gate.metrics().await.count("tidegate_locked", &["cause=\"state-lost\""]), 1);
    let recovery = gate.events(20).await.into_iter().find(|event| event.what == "recovery");
    assert!(recovery.is_some_and(|event| event.reason.is_some()), "it is said");
    // Every lock opens.
    gate.is_ready().await;
    gate.arm("shop").await;
    gate.shift("shop", "10%").await;
}

#[tokio::test]
async fn a_cut_flipped_or_missing_state_means_stable_and_locked() {
    for damage in ["cut", "flipped", "missing", "empty"] {
        let (remains, last, _blue, _green) = stopped().await;
        let path = remains.state_file("state");
        let mut bytes = fs::read(&path).unwrap();
        match damage {
            "cut" => bytes.truncate(bytes.len() / 2),
            "flipped" => *bytes.last_mut().unwrap() ^= 1,
            "empty" => bytes.clear(),
            _ => {}
        }
        fs::write(&path, bytes).unwrap();
        if damage == "missing" {
            fs::remove_file(&path).unwrap();
        }
        let gate = remains.begins_again().unwrap_or_else(|why| panic!("{damage}: {why}"));
        assert_on_stable_and_locked(&gate, last).await;
    }
}

#[tokio::test]
async fn nothing_readable_at_all_means_stable_and_locked() {
    let (remains, last, _blue, _green) = stopped().await;
    for name in ["state", "state.previous", "kills"] {
        fs::write(remains.state_file(name), b"\xff\x00garbage").unwrap();
    }
    assert_on_stable_and_locked(&remains.begins_again().unwrap(), last).await;
}

#[tokio::test]
async fn a_state_of_a_newer_version_is_refused_with_what_to_do() {
    let (remains, _, _blue, _green) = stopped().await;
    let path = remains.state_file("state");
    let bytes = fs::read(&path).unwrap();
    let payload = &bytes[bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1..];
    let signed = Sha256::new().chain_update(format!("tidegate-state 99 {}\n", payload.len()));
    let digest: String =
        signed.chain_update(payload).finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let header = format!("tidegate-state 99 {digest} {}\n", payload.len());
    fs::write(&path, [header.as_bytes(), payload].concat()).unwrap();
    let Err(why) = remains.clone().begins_again() else { panic!("it must not start") };
    assert!(why.contains("schema 99") && why.contains("newer version"), "{why}");
    // Nothing was touched: with the right version everything is there.
    fs::write(&path, bytes).unwrap();
    assert_eq!(remains.begins_again().unwrap().weight("shop").await.to_string(), "60%");
}

#[tokio::test]
async fn a_kill_that_reached_only_the_kill_file_counts() {
    let (blue, green) = origins().await;
    let gate = tidegate().service("shop", &blue, &green).start().await;
    gate.shift("shop", "100%").await;
    let remains = gate.stops().await;
    let old = fs::read(remains.state_file("state")).unwrap();
    let gate = remains.begins_again().unwrap();
    let killed = gate.kill("shop").await.generation;
    let remains = gate.stops().await;
    // As if the disk had been full since before the kill.
    fs::write(remains.state_file("state"), old).unwrap();
    let gate = remains.begins_again().unwrap();
    let shop = gate.service("shop").await;
    assert_eq!(shop.lock.unwrap().cause, Cause::Kill);
    assert_eq!((shop.weight.millipercent(), shop.epoch), (0, killed));
    assert_eq!(gate.get("/").await.text(), "blue");
}

#[tokio::test]
async fn two_on_one_folder_are_refused() {
    let (blue, green) = origins().await;
    let gate = tidegate().service("shop", &blue, &green).start().await;
    let state = gate.folder().join("state");
    let second = tidegate().set(&format!("state: {}", state.display())).service("shop", &blue, &green);
    let Err(why) = second.tries_to_start() else { panic!("it must not start") };
    assert!(why.contains("in use by process"), "{why}");
    assert_eq!(gate.get("/").await.text(), "blue");
}
