//! What goes wrong is undone: exactly what was done, the last of it first.

use futures_util::future::join_all;
use tidegate::launch::{State, Step};

use super::{AT_ONCE, RELEASE, WATCHED, WELL, services, shop, site};
use crate::support::{Book, Gate, Mood, Site, origin, tidegate, until};

/// A way to fail, and what it leads to.
struct Fault {
    /// What fails, and how: `./act NAME` does this.
    orders: &'static [(&'static str, &'static str)],
    /// What is replaced in the launch.
    with: (&'static str, &'static str),
    /// What is called, in this order.
    calls: &'static [&'static str],
    /// What becomes of the phases.
    phases: [&'static str; 5],
    code: i32,
}

const FAULTS: &[Fault] = &[
    // A validator of each phase.
    Fault {
        orders: &[("expand-check", "exit 1")],
        with: ("", ""),
        calls: &["expand-check"],
        phases: ["FAILED", "SKIPPED", "SKIPPED", "SKIPPED", "SKIPPED"],
        code: 6,
    },
    Fault {
        orders: &[("deploy-check", "exit 1")],
        with: ("", ""),
        calls: &["expand-check", "expand", "expand-verify", "deploy-check"],
        phases: ["VERIFIED", "FAILED", "SKIPPED", "SKIPPED", "SKIPPED"],
        code: 6,
    },
    Fault {
        orders: &[("traffic-check", "exit 1")],
        with: ("", ""),
        calls: &[
            "expand-check",
            "expand",
            "expand-verify",
            "deploy-check",
            "deploy",
            "deploy-verify",
            "traffic-check",
            "deploy-undo",
        ],
        phases: ["VERIFIED", "ROLLED_BACK", "FAILED", "SKIPPED", "SKIPPED"],
        code: 6,
    },
    // An action.
    Fault {
        orders: &[("expand", "exit 3")],
        with: ("", ""),
        calls: &["expand-check", "expand"],
        phases: ["FAILED", "SKIPPED", "SKIPPED", "SKIPPED", "SKIPPED"],
        code: 6,
    },
    Fault {
        orders: &[("deploy", "exit 3")],
        with: ("", ""),
        calls: &["expand-check", "expand", "expand-verify", "deploy-check", "deploy", "deploy-undo"],
        phases: ["VERIFIED", "ROLLED_BACK", "SKIPPED", "SKIPPED", "SKIPPED"],
        code: 6,
    },
    // A deadline, with a process that does not want to end.
    Fault {
        orders: &[("deploy", "trap '' TERM; sleep 1000 & wait")],
        with: (
            "verify: [{command: [./act, deploy-verify]}, {http_status: {path: /up, expected: 200}}], timeout: 30s",
            "timeout: 300ms",
        ),
        calls: &["expand-check", "expand", "expand-verify", "deploy-check", "deploy", "deploy-undo"],
        phases: ["VERIFIED", "ROLLED_BACK", "SKIPPED", "SKIPPED", "SKIPPED"],
        code: 6,
    },
    // A verification.
    Fault {
        orders: &[("expand-verify", "exit 1")],
        with: ("", ""),
        calls: &["expand-check", "expand", "expand-verify"],
        phases: ["FAILED", "SKIPPED", "SKIPPED", "SKIPPED", "SKIPPED"],
        code: 6,
    },
    Fault {
        orders: &[("deploy-verify", "exit 1")],
        with: ("", ""),
        calls: &[
            "expand-check",
            "expand",
            "expand-verify",
            "deploy-check",
            "deploy",
            "deploy-verify",
            "deploy-undo",
        ],
        phases: ["VERIFIED", "ROLLED_BACK", "SKIPPED", "SKIPPED", "SKIPPED"],
        code: 6,
    },
    Fault {
        orders: &[("traffic-verify", "exit 1")],
        with: ("", ""),
        calls: &[
            "expand-check",
            "expand",
            "expand-verify",
            "deploy-check",
            "deploy",
            "deploy-verify",
            "traffic-check",
            "traffic-verify",
            "deploy-undo",
        ],
        phases: ["VERIFIED", "ROLLED_BACK", "ROLLED_BACK", "SKIPPED", "SKIPPED"],
        code: 6,
    },
    // An undo: the others are undone all the same.
    Fault {
        orders: &[("after", "exit 1"), ("after-undo", "exit 1")],
        with: ("", ""),
        calls: &[
            "expand-check",
            "expand",
            "expand-verify",
            "deploy-check",
            "deploy",
            "deploy-verify",
            "traffic-check",
            "traffic-verify",
            "after",
            "after-undo",
            "deploy-undo",
        ],
        phases: ["VERIFIED", "ROLLED_BACK", "ROLLED_BACK", "ROLLBACK_FAILED", "SKIPPED"],
        code: 7,
    },
    // A phase that is not to be undone leaves everything as it is.
    Fault {
        orders: &[("after", "exit 1")],
        with: (
            "timeout: 30s}\n  - {id: observe",
            "timeout: 30s, rollback_on_failure: false}\n  - {id: observe",
        ),
        calls: &[
            "expand-check",
            "expand",
            "expand-verify",
            "deploy-check",
            "deploy",
            "deploy-verify",
            "traffic-check",
            "traffic-verify",
            "after",
        ],
        phases: ["VERIFIED", "VERIFIED", "VERIFIED", "FAILED", "SKIPPED"],
        code: 1,
    },
];

#[tokio::test]
async fn a_fault_in_each_step_leaves_exactly_what_was_done_undone() {
    let (blue, green) = super::origins().await;
    let names: Vec<_> = (0..FAULTS.len()).map(|number| format!("shop-{number}")).collect();
    let gate = services(&names, &blue, &green).start_daemon().await;
    let told = names.iter().zip(FAULTS).map(|(name, fault)| tell(&gate, name, fault));
    join_all(told).await;
}

async fn tell(gate: &Gate, service: &str, fault: &Fault) {
    let site = site(gate, service);
    let (from, to) = fault.with;
    let text = if from.is_empty() { RELEASE.to_owned() } else { RELEASE.replace(from, to) };
    assert!(from.is_empty() || text != RELEASE, "{from} is not in the launch");
    site.file("launch.yaml", &text);
    for (name, shell) in fault.orders {
        site.order(name, shell);
    }
    let ended = site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await;
    let what = format!("{:?}\n{}", fault.orders, ended.said);
    assert_eq!(ended.code, Some(fault.code), "{what}");
    assert_eq!(site.calls(), fault.calls, "{what}");
    let book = Book::of(gate);
    let launch = format!("{service}-2");
    let ids = ["expand", "deploy", "traffic", "after", "observe"];
    let phases: Vec<_> = ids.iter().zip(fault.phases).map(|(id, state)| format!("{id} {state}")).collect();
    // What has `none` for its undo stays as it is.
    assert_eq!(book.phases(&launch).await, phases, "{what}");
    let state = if fault.code == 6 { State::RolledBack } else { State::Failed };
    assert_eq!(book.state(&launch).await, state, "{what}");
    if fault.code != 1 {
        assert_green_is_out(gate, service).await;
    }
}

/// Green serves nobody, and is the candidate.
async fn assert_green_is_out(gate: &Gate, service: &str) {
    let found = gate.service(service).await;
    assert_eq!((found.candidate.as_str(), found.weight.to_string().as_str()), ("green", "0%"), "{service}");
}

#[tokio::test]
async fn a_gate_that_fails_while_traffic_moves_takes_the_release_back() {
    let (_blue, green, gate, site) = shop().await;
    site.file("plan.yaml", WATCHED);
    let load = gate.load("/");
    let running = site.begin(&["launch", "start", "-f", "launch.yaml"]);
    Book::of(&gate).has_begun("shop-2", 2, Step::Execute).await;
    green.turns(Mood::Fails);
    let said = running.ends().await.with(6);
    assert!(said.contains("rolled back"), "{said}");
    let mut expected = WELL[..7].to_vec();
    expected.push("deploy-undo");
    assert_eq!(site.calls(), expected, "{said}");
    assert_green_is_out(&gate, "shop").await;
    load.end().await;
    green.turns(Mood::Answers);
    assert_eq!(gate.get("/").await.text(), "blue");
}

#[tokio::test]
async fn a_breaker_that_trips_during_observation_takes_the_release_back() {
    let blue = origin().says("blue").start().await;
    let green = origin().says("green").start().await;
    let off = origin().start().await;
    let hook = format!("hooks: {{flags: {{url: \"{}/off\", timeout: 5s}}}}", off.url());
    let gate = tidegate()
        .service("shop", &blue, &green)
        .with("split: {by: request}")
        .set(&hook)
        .start_daemon()
        .await;
    let site = Site::new(&gate, "shop");
    let text = RELEASE.replace("for: 100ms", "for: 1h") + "flags: {names: [new_checkout], off: flags}\n";
    site.file("launch.yaml", &text).file("plan.yaml", AT_ONCE);
    let load = gate.load("/");
    let running = site.begin(&["launch", "start", "-f", "launch.yaml"]);
    let book = Book::of(&gate);
    book.has_begun("shop-2", 4, Step::Execute).await;
    assert_eq!(gate.get("/").await.text(), "green");
    green.turns(Mood::Fails);
    let said = running.ends().await.with(6);
    let expected = [&WELL[..], &["after-undo", "deploy-undo"]].concat();
    assert_eq!(site.calls(), expected, "{said}");
    assert!(said.contains("green fails") && said.contains("the limit is 20 %"), "{said}");
    assert_green_is_out(&gate, "shop").await;
    load.end().await;
    assert_eq!(book.state("shop-2").await, State::RolledBack);
    let asked = off.last();
    let told: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!((&told["flags"][0], &told["service"]), (&"new_checkout".into(), &"shop".into()), "{told}");
}

#[tokio::test]
async fn a_launch_whose_traffic_somebody_else_takes_back_is_not_completed() {
    let (_blue, _green, gate, site) = shop().await;
    site.file("launch.yaml", &RELEASE.replace("for: 100ms", "for: 1h")).file("plan.yaml", AT_ONCE);
    let running = site.begin(&["launch", "start", "-f", "launch.yaml"]);
    Book::of(&gate).has_begun("shop-2", 4, Step::Execute).await;
    site.tidegate(&["rollback", "shop", "--reason", "by hand"]).await.with(0);
    let said = running.ends().await.with(6);
    assert!(said.contains("green was taken to 0 % by something else"), "{said}");
    assert_eq!(site.calls(), [&WELL[..], &["after-undo", "deploy-undo"]].concat(), "{said}");
    assert_green_is_out(&gate, "shop").await;
}

#[tokio::test]
async fn users_do_not_wait_for_what_is_under_way_when_a_launch_is_rolled_back() {
    let (_blue, _green, gate, site) = shop().await;
    site.order("after", "while [ -f hold ]; do sleep 0.05; done").file("hold", "");
    let running = site.begin(&["launch", "start", "-f", "launch.yaml"]);
    let book = Book::of(&gate);
    book.has_begun("shop-2", 3, Step::Execute).await;
    assert_eq!(gate.get("/").await.text(), "green");
    let back = site.begin(&["launch", "rollback", "shop-2"]);
    until("everybody is back", async || (gate.get("/").await.text() == "blue").then_some(())).await;
    let run = book.view("shop-2").await.ledger.run;
    assert_eq!(run.phases[3].under_way, Some(Step::Execute), "the command is still under way");
    std::fs::remove_file(site.path("hold")).unwrap();
    back.ends().await.with(6);
    running.ends().await.with(6);
    assert_green_is_out(&gate, "shop").await;
}
