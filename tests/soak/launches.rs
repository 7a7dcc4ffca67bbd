//! Launches that are interrupted again and again: every runner, after every record, both ways.

use futures_util::future::join_all;
use tidegate::clock;
use tidegate::launch::State;

use crate::support::site::{Book, Running};
use crate::support::{Gate, Site, tidegate};
use crate::{ONE, chance, origins};

const RELEASE: &str = "
launch: SERVICE-2
service: SERVICE
rollback_within: 2m
comms: none
phases:
  - {id: expand, check: [{command: [./act, expand-check]}], do: [./act, expand], undo: [./act, expand-undo], verify: [{command: [./act, expand-verify]}], timeout: 1m}
  - {id: deploy, do: [./act, deploy], undo: [./act, deploy-undo], verify: [{command: [./act, deploy-verify]}], timeout: 1m}
  - {id: traffic, shift: 100%, verify: [{http_status: /}]}
  - {id: observe, for: 100ms}
";

/// How often the daemon dies while all of them run.
const ROUNDS: usize = 5;

fn site(gate: &Gate, service: &str) -> Site {
    let site = Site::new(gate, service);
    site.file("launch.yaml", RELEASE);
    for name in ["expand", "deploy"] {
        site.order(name, &format!("touch done-{name}"));
        site.order(&format!("{name}-verify"), &format!("[ -f done-{name} ]"));
        site.order(&format!("{name}-undo"), &format!("rm -f done-{name}"));
    }
    site
}

#[tokio::test]
async fn no_launch_is_lost_however_often_its_runner_and_its_daemon_are_killed() {
    let _alone = ONE.lock().await;
    let mut chance = chance();
    let (blue, green) = origins().await;
    let names: Vec<_> = (0..24).map(|number| format!("shop-{number}")).collect();
    let plan = names
        .iter()
        .fold(tidegate(), |plan, name| plan.service(name, &blue, &green).with(&format!("host: {name}.test")));
    let mut gate = plan.start_daemon().await;
    let begun = clock::now();
    let sites: Vec<_> = names.iter().map(|name| site(&gate, name)).collect();
    let mut runners: Vec<_> =
        sites.iter().map(|site| Some(site.begin(&["launch", "start", "-f", "launch.yaml"]))).collect();
    for _ in 0..ROUNDS {
        // Some runners die, then the daemon.
        for (name, runner) in names.iter().zip(&mut runners) {
            let is_hit = chance.bool();
            if let Some(runner) = runner.take_if(|_| is_hit) {
                let launch = format!("{name}-2");
                Book::of(&gate).has_noted(&launch, chance.u64(2..8)).await;
                runner.dies().await;
            }
        }
        gate = gate.dies().begins_again().unwrap();
    }
    let seeds: Vec<_> = names.iter().map(|_| chance.fork()).collect();
    let endings = names.iter().zip(&sites).zip(runners).zip(seeds);
    let endings = endings.map(|(((name, site), runner), chance)| ends(&gate, name, site, runner, chance));
    join_all(endings).await;
    let (mut completed, mut taken_back) = (0, 0);
    for (name, site) in names.iter().zip(&sites) {
        let book = Book::of(&gate);
        let state = book.state(&format!("{name}-2")).await;
        match state {
            State::Completed => completed += 1,
            State::RolledBack => taken_back += 1,
            other => panic!("{name} is {other:?}: {:?}", site.calls()),
        }
        let weight = gate.weight(name).await.to_string();
        assert_eq!(weight, if state == State::Completed { "100%" } else { "0%" }, "{name}");
        for action in ["expand", "deploy"] {
            let is_there = site.path(&format!("done-{action}")).exists();
            assert_eq!(is_there, state == State::Completed, "{name}: {action}");
        }
    }
    let (count, took) = (names.len(), clock::now() - begun);
    println!(
        "{count} launches, {ROUNDS} kills of the daemon: {completed} completed, {taken_back} taken back, in {took:?}"
    );
}

/// Whoever still runs it ends it; else somebody takes it over, who may die as well.
async fn ends(gate: &Gate, name: &str, site: &Site, runner: Option<Running>, mut chance: fastrand::Rng) {
    let (book, launch) = (Book::of(gate), format!("{name}-2"));
    if let Some(runner) = runner {
        runner.ends().await;
    }
    while book.is_free(&launch).await {
        let arguments: &[&str] = match chance.bool() {
            true => &["launch", "resume", &launch, "--redo"],
            false => &["launch", "rollback", &launch, "--redo", "--reason", "a long story"],
        };
        let seq = book.view(&launch).await.ledger.seq;
        let runner = site.begin(arguments);
        if chance.u8(..) < 64 {
            book.has_noted(&launch, seq + 1).await;
            runner.dies().await;
        } else {
            runner.ends().await;
        }
    }
}
