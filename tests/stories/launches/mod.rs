//! Whole releases: begun by the program that people type, recorded by a daemon that people run.
//!
//! What a launch runs are scripts that write down that they were called, so a story can say exactly what was done, and in which order.

mod bad_input;
mod faults;
mod interrupted;
mod people;
mod releases;

use crate::support::gate::Plan;
use crate::support::{Gate, Origin, Site, origin, tidegate};

/// Every kind of phase, each step of which can be told to go wrong: `expand` stays, all others can be undone.
const RELEASE: &str = "
launch: SERVICE-2
service: SERVICE
version: 2.0.2
rollback_within: 2m
breaker: {error_rate: 20%, over: 10s, min_requests: 20}
comms: none
phases:
  - {id: expand, check: [{command: [./act, expand-check]}], do: [./act, expand], undo: none, verify: [{command: [./act, expand-verify]}], timeout: 30s}
  - {id: deploy, check: [{command: [./act, deploy-check]}], do: [./act, deploy], undo: [./act, deploy-undo], verify: [{command: [./act, deploy-verify]}, {http_status: {path: /up, expected: 200}}], timeout: 30s}
  - {id: traffic, check: [{command: [./act, traffic-check]}], rollout: {plan: plan.yaml}, verify: [{command: [./act, traffic-verify]}]}
  - {id: after, do: [./act, after], undo: [./act, after-undo], verify: [{command: [./act, after-verify]}], timeout: 30s}
  - {id: observe, for: 100ms}
";

/// What is called when all goes well.
const WELL: [&str; 10] = [
    "expand-check",
    "expand",
    "expand-verify",
    "deploy-check",
    "deploy",
    "deploy-verify",
    "traffic-check",
    "traffic-verify",
    "after",
    "after-verify",
];

/// Straight to everybody, whatever is measured.
const AT_ONCE: &str = "
warmup: 0s
gates: none
on_inconclusive: advance
keep: 0s
stages: [{weight: 100%, hold: 100ms}]
";

/// Half of the visitors, until a gate says no.
const WATCHED: &str = "
warmup: 0s
gates: {latency: none, client_errors: none}
keep: 0s
stages: [{weight: 50%, hold: 1h}]
";

/// A gate with services of the same two origins.
fn services(names: &[String], blue: &Origin, green: &Origin) -> Plan {
    names.iter().fold(tidegate(), |plan, name| {
        let host = format!("host: {name}.test");
        plan.service(name, blue, green).with(&host).with("split: {by: request}")
    })
}

async fn origins() -> (Origin, Origin) {
    (origin().says("blue").start().await, origin().says("green").start().await)
}

/// A gate with a shop, and a site for its release.
async fn shop() -> (Origin, Origin, Gate, Site) {
    let (blue, green) = origins().await;
    let gate = tidegate().service("shop", &blue, &green).with("split: {by: request}").start_daemon().await;
    let site = site(&gate, "shop");
    (blue, green, gate, site)
}

/// A site with the release and its plan.
fn site(gate: &Gate, service: &str) -> Site {
    let site = Site::new(gate, service);
    site.file("launch.yaml", RELEASE).file("plan.yaml", AT_ONCE);
    site
}
