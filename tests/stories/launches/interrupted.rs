//! Whoever goes away, and whenever: what was begun is known, nothing is done twice by itself, and somebody can go on or take it back.

use futures_util::future::join_all;
use tidegate::launch::{Entry, State, Step, Verdict};

use super::{AT_ONCE, RELEASE, WELL, services, shop};
use crate::support::site::Ended;
use crate::support::{Book, Gate, Site};

/// Actions leave a mark, and what verifies looks for it; an undo takes it away.
fn marks(site: &Site) {
    for name in ["expand", "deploy", "after"] {
        site.order(name, &format!("touch done-{name}"));
        site.order(&format!("{name}-verify"), &format!("[ -f done-{name} ]"));
        site.order(&format!("{name}-undo"), &format!("rm -f done-{name}"));
    }
}

/// How many records a launch has that goes through without a word from anybody but its runner and the daemon.
async fn records(gate: &Gate, service: &str) -> u64 {
    let site = site(gate, service);
    site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await.with(0);
    assert_eq!(site.calls(), WELL);
    Book::of(gate).view(&format!("{service}-2")).await.ledger.seq
}

fn site(gate: &Gate, service: &str) -> Site {
    let site = Site::new(gate, service);
    site.file("launch.yaml", RELEASE).file("plan.yaml", AT_ONCE);
    marks(&site);
    site
}

#[tokio::test]
async fn a_runner_that_is_killed_after_any_record_leaves_a_launch_that_can_be_ended() {
    let (blue, green) = super::origins().await;
    // More than there are records.
    let names: Vec<_> = (0..40).map(|number| format!("shop-{number}")).collect();
    let gate = services(&names, &blue, &green).start_daemon().await;
    let count = records(&gate, "shop-0").await;
    assert!((20..40).contains(&count), "{count} records");
    // The first is the plan, the last the end.
    join_all((2..count).map(|number| killed_after(&gate, number, number % 2 == 0))).await;
}

/// Kills the runner once there are so many records, and goes on or takes back.
async fn killed_after(gate: &Gate, number: u64, goes_on: bool) {
    let service = format!("shop-{number}");
    let (launch, site, book) = (format!("{service}-2"), site(gate, &service), Book::of(gate));
    let runner = site.begin(&["launch", "start", "-f", "launch.yaml"]);
    book.has_noted(&launch, number).await;
    runner.dies().await;
    if book.state(&launch).await == State::Completed {
        // It was quicker than the kill.
        assert_eq!(site.calls(), WELL);
        return;
    }
    book.is_unattended(&launch).await;
    let before = book.view(&launch).await.ledger;
    let what = format!("after record {number}, {:?}", before.next());
    let calls = site.calls();
    let is_unknown = matches!(before.next(), tidegate::launch::Next::Await { step: Step::Execute, .. })
        && before.run.phases.iter().any(|phase| phase.under_way == Some(Step::Execute));
    let ended: Ended = if goes_on {
        site.tidegate(&["launch", "resume", &launch]).await
    } else {
        site.tidegate(&["launch", "rollback", &launch, "--reason", "a story"]).await
    };
    if goes_on && ended.code == Some(3) {
        // Only what nobody knows is asked about, and only if it was not done.
        assert!(
            is_unknown && ended.said.contains("--redo") && ended.said.contains("--undo"),
            "{what}: {}",
            ended.said
        );
        site.tidegate(&["launch", "resume", &launch, "--redo"]).await.with(0);
        assert_eq!(book.state(&launch).await, State::Completed, "{what}");
        return;
    }
    for action in ["expand", "deploy", "after"] {
        assert!(site.called(action) <= 1, "{what}: {action} ran twice: {:?} then {:?}", calls, site.calls());
    }
    if goes_on {
        assert_eq!(ended.code, Some(0), "{what}: {}", ended.said);
        assert_eq!(book.state(&launch).await, State::Completed, "{what}");
        let found = gate.service(&service).await;
        assert_eq!(found.candidate.as_str(), "blue", "{what}: green is stable");
        return;
    }
    assert_eq!(ended.code, Some(6), "{what}: {}", ended.said);
    assert_eq!(book.state(&launch).await, State::RolledBack, "{what}");
    let found = gate.service(&service).await;
    assert_eq!((found.candidate.as_str(), &*found.weight.to_string()), ("green", "0%"), "{what}");
    // Whatever was touched is undone once, the last first.
    let undone: Vec<_> = site.calls().into_iter().filter(|call| call.ends_with("-undo")).collect();
    let touched = |action: &str| site.called(action) > 0;
    let expected: Vec<_> = ["after", "deploy"].into_iter().filter(|action| touched(action)).collect();
    let expected: Vec<_> = expected.into_iter().map(|action| format!("{action}-undo")).collect();
    let is_cut = is_unknown && undone.len() == expected.len() + 1;
    assert!(undone == expected || is_cut, "{what}: undone {undone:?}, touched {expected:?}");
    for action in ["deploy", "after"] {
        assert!(!site.path(&format!("done-{action}")).exists(), "{what}: {action} is not undone");
    }
}

#[tokio::test]
async fn a_daemon_that_is_killed_after_every_record_is_waited_for() {
    let (blue, green, gate, site) = shop().await;
    marks(&site);
    let launch = "shop-2";
    let runner = site.begin(&["launch", "start", "-f", "launch.yaml"]);
    let (mut gate, mut number) = (gate, 2);
    loop {
        let book = Book::of(&gate);
        let record = book.has_noted(launch, number).await;
        if matches!(record.entry, Entry::Finished { .. }) {
            break;
        }
        gate = gate.dies().begins_again().unwrap_or_else(|why| panic!("after record {number}: {why}"));
        number += 1;
    }
    let said = runner.ends().await.with(0);
    assert!(number > 20, "{number} records: {said}");
    assert_eq!(site.calls(), WELL, "{said}");
    gate.is_ready().await;
    assert_eq!(Book::of(&gate).state(launch).await, State::Completed);
    assert_eq!((gate.get("/").await.text(), gate.candidate("shop").await.as_str()), ("green", "blue"));
    drop((blue, green));
}

#[tokio::test]
async fn a_daemon_that_is_killed_while_a_launch_is_undone_is_waited_for() {
    let (blue, green, gate, site) = shop().await;
    marks(&site);
    site.order("after-verify", "exit 1");
    let launch = "shop-2";
    let runner = site.begin(&["launch", "start", "-f", "launch.yaml"]);
    let failed =
        |entry: &Entry| matches!(entry, Entry::Ended { outcome, .. } if outcome.verdict == Verdict::Failed);
    let first = Book::of(&gate).until(launch, "a failure", |record| failed(&record.entry)).await.seq;
    let (mut gate, mut number) = (gate, first);
    loop {
        let record = Book::of(&gate).has_noted(launch, number).await;
        if matches!(record.entry, Entry::Finished { .. }) {
            break;
        }
        gate = gate.dies().begins_again().unwrap_or_else(|why| panic!("after record {number}: {why}"));
        number += 1;
    }
    runner.ends().await.with(6);
    assert_eq!(site.calls(), [&WELL[..], &["after-undo", "deploy-undo"]].concat());
    gate.is_ready().await;
    assert_eq!(gate.get("/").await.text(), "blue");
    drop((blue, green));
}

#[tokio::test]
async fn an_action_that_was_cut_off_is_done_again_or_undone_only_if_somebody_says_so() {
    let (blue, green) = super::origins().await;
    let names = ["shop-redo".to_owned(), "shop-undo".to_owned()];
    let gate = services(&names, &blue, &green).start_daemon().await;
    let cut = async |service: &str, flag: &str, code: i32, rest: &[&str]| {
        let (launch, site, book) = (format!("{service}-2"), site(&gate, service), Book::of(&gate));
        // It hangs in the middle, and is not there any more after its runner.
        site.order("deploy", "echo $$ >pid; sleep 1000 & wait");
        let runner = site.begin(&["launch", "start", "-f", "launch.yaml"]);
        let pid = crate::support::until("the action runs", async || {
            std::fs::read_to_string(site.path("pid")).ok()?.trim().parse().ok()
        });
        let pid: u32 = pid.await;
        runner.dies().await;
        crate::support::gate::has_gone(pid).await;
        book.is_unattended(&launch).await;
        assert_eq!(gate.service(service).await.weight.to_string(), "0%");
        let asked = site.tidegate(&["launch", "resume", &launch]).await;
        let said = asked.with(3);
        assert!(said.contains("--redo") && said.contains("--undo") && said.contains("deploy"), "{said}");
        assert_eq!(site.called("deploy"), 1, "{said}");
        site.order("deploy", "touch done-deploy");
        site.tidegate(&["launch", "resume", &launch, flag]).await.with(code);
        let begun = ["expand-check", "expand", "expand-verify", "deploy-check", "deploy", "deploy-verify"];
        assert_eq!(site.calls(), [&begun[..], rest].concat());
    };
    let well: Vec<&str> = ["deploy", "deploy-verify"].iter().chain(&WELL[6..]).copied().collect();
    tokio::join!(cut("shop-redo", "--redo", 0, &well), cut("shop-undo", "--undo", 6, &["deploy-undo"]));
}

#[tokio::test]
async fn two_runners_do_not_drive_one_launch() {
    let (_blue, _green, gate, site) = shop().await;
    site.order("deploy", "while [ -f hold ]; do sleep 0.05; done").file("hold", "");
    let runner = site.begin(&["launch", "start", "-f", "launch.yaml"]);
    let book = Book::of(&gate);
    book.has_begun("shop-2", 1, Step::Execute).await;
    let second = site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await.with(3);
    assert!(second.contains("launch already in progress or completed"), "{second}");
    let resumed = site.tidegate(&["launch", "resume", "shop-2"]).await.with(3);
    assert!(resumed.contains("pid"), "it says who runs it: {resumed}");
    let (status, _) = gate
        .ask::<serde_json::Value>("POST", "/v1/launches/shop-2/lease", &[], r#"{"holder":"somebody"}"#)
        .await
        .unwrap_err();
    assert_eq!(status, 409);
    // Whoever does not hold the lease notes nothing.
    let seq = book.view("shop-2").await.ledger.seq;
    for fence in [0, 99] {
        let note = format!(
            r#"{{"fence":{fence},"after":{seq},"note":{{"note":"ended","phase":1,"step":"execute","outcome":{{"verdict":"passed","took_ms":1}}}}}}"#
        );
        let refused = gate.ask::<serde_json::Value>("POST", "/v1/launches/shop-2/note", &[], &note).await;
        assert_eq!(refused.unwrap_err().0, 409, "fence {fence}");
    }
    assert_eq!(book.view("shop-2").await.ledger.seq, seq);
    std::fs::remove_file(site.path("hold")).unwrap();
    runner.ends().await.with(0);
    assert_eq!(site.calls(), WELL);
    let again = site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await.with(3);
    assert!(again.contains("launch already in progress or completed"), "{again}");
}

#[tokio::test]
async fn a_runner_that_was_taken_over_from_ends_its_command_and_notes_nothing() {
    let (_blue, _green, gate, site) = shop().await;
    site.order("deploy", "echo $$ >pid; sleep 1000 & wait");
    let runner = site.begin(&["launch", "start", "-f", "launch.yaml"]);
    let book = Book::of(&gate);
    let pid: u32 = crate::support::until("the action runs", async || {
        std::fs::read_to_string(site.path("pid")).ok()?.trim().parse().ok()
    })
    .await;
    // It sleeps while its lease lapses, as a machine does whose lid is closed.
    crate::support::gate::send(runner.pid(), rustix::process::Signal::STOP);
    book.is_unattended("shop-2").await;
    let second = site.tidegate(&["launch", "rollback", "shop-2", "--reason", "it is gone"]).await.with(6);
    crate::support::gate::send(runner.pid(), rustix::process::Signal::CONT);
    let first = runner.ends().await;
    assert!(first.code != Some(0), "{}", first.said);
    crate::support::gate::has_gone(pid).await;
    assert_eq!(book.state("shop-2").await, State::RolledBack, "{second}");
    assert_eq!(
        site.calls(),
        ["expand-check", "expand", "expand-verify", "deploy-check", "deploy", "deploy-undo"]
    );
}
