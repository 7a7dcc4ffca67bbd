//! Stories of launches: what is noted, who may note it, and what happens when nobody does.

use std::time::{Duration, Instant};

use super::*;
use crate::clock::Timestamp;
use crate::launch::{
    Action, Breaker, Comms, Entry, GoNoGo, Item, ItemKind, LEASE_MS, Launch, Ledger, Misfit, Outcome, Phase,
    PhaseState, Record, State, Step, Stop, Tier, Told, Undo, Verdict as How, Window,
};
use crate::rollout::{Act, Hold, Plan, Stage, Verb};
use crate::telemetry::{Failure, MethodLabel, Outcome as Answered, ServiceSlot, ServiceTally};

const LEASE: Duration = Duration::from_millis(LEASE_MS);

fn launch(name: &str) -> Launch {
    let phase = |id: &str| Phase {
        id: id.into(),
        title: None,
        check: Vec::new(),
        action: Action::Command { run: crate::launch::Command::Argv(vec!["./do".into()]) },
        verify: None,
        undo: Undo::Command { run: crate::launch::Command::Argv(vec!["./undo".into()]) },
        timeout: Some(Duration::from_secs(60)),
        undo_timeout: Duration::from_secs(60),
        rollback_on_failure: true,
    };
    Launch {
        name: name.into(),
        service: "shop".into(),
        version: Some("2.0.2".into()),
        environment: None,
        tier: Tier::Standard,
        window: None,
        rollback_within: None,
        breaker: Breaker { error_rate: Some(0.02), ..Breaker::default() },
        flags: None,
        checklist: Vec::new(),
        go_nogo: None,
        warmup: None,
        synthetic: Vec::new(),
        comms: Comms::default(),
        contacts: Vec::new(),
        phases: vec![phase("deploy"), phase("observe")],
        variables: Default::default(),
    }
}

struct Story {
    control: Control,
    folder: tempfile::TempDir,
}

impl Drop for Story {
    fn drop(&mut self) {
        self.control.stop();
    }
}

impl Story {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { control: super::start(folder.path(), &["cart", "shop"]), folder }
    }

    /// The launch `l` of shop, running.
    async fn running() -> Self {
        let story = Self::new();
        story.plan(launch("l")).await.unwrap();
        story.start("l").await.unwrap();
        story
    }

    /// As a process that was killed and comes back.
    fn killed(self) -> Self {
        let place = self.folder.path();
        let copy = tempfile::tempdir().unwrap();
        copy_folder(place, copy.path());
        let control = super::start(copy.path(), &["cart", "shop"]);
        Self { control, folder: copy }
    }

    async fn wish(&self, name: &str, wish: Wish) -> Result<Arc<Ledger>, LaunchRefusal> {
        self.control.note_launch(name, wish, &ops()).await
    }

    async fn plan(&self, launch: Launch) -> Result<Arc<Ledger>, LaunchRefusal> {
        let name = launch.name.clone();
        self.wish(&name, Wish::Plan { launch: Arc::new(launch) }).await
    }

    async fn start(&self, name: &str) -> Result<Arc<Ledger>, LaunchRefusal> {
        self.wish(name, Wish::Start { holder: "here".into(), overrides: false, reason: None }).await
    }

    async fn note(&self, fence: u64, after: u64, entry: Entry) -> Result<Arc<Ledger>, LaunchRefusal> {
        self.wish("l", Wish::Note { fence, after, entry }).await
    }

    /// The step of a phase, from its beginning to its end.
    async fn step(&self, phase: usize, step: Step, verdict: How) -> Arc<Ledger> {
        let ledger = self.control.launch("l").unwrap();
        let fence = ledger.lease.as_ref().unwrap().fence;
        let began = self.note(fence, ledger.seq, Entry::Began { phase, step }).await.unwrap();
        let outcome = Outcome { verdict, said: String::new(), took_ms: 1 };
        self.note(fence, began.seq, Entry::Ended { phase, step, outcome }).await.unwrap()
    }

    async fn records(&self, after: u64) -> Vec<Record> {
        self.control.launch_records("l", after, 1000, Duration::ZERO).await.unwrap()
    }

    /// Waits for what the daemon notes by itself.
    async fn until(&self, is_it: impl Fn(&Ledger) -> bool) -> Arc<Ledger> {
        loop {
            let ledger = self.control.launch("l").unwrap();
            if is_it(&ledger) {
                return ledger;
            }
            self.control.launch_records("l", ledger.seq, 1, Duration::from_secs(20)).await.unwrap();
        }
    }

    fn events(&self, what: &str) -> Vec<String> {
        while !self.control.inner.events.is_written() {
            std::thread::yield_now();
        }
        self.control
            .events()
            .last(1000)
            .unwrap()
            .into_iter()
            .filter(|entry| entry.what == what)
            .map(|entry| entry.reason.unwrap_or_default())
            .collect()
    }

    fn shop(&self) -> std::rc::Rc<ServiceTally> {
        let table = self.control.table();
        let shop = table.services().iter().find(|service| &*service.settings.name == "shop").unwrap();
        self.control.tallies().worker(0).service(ServiceSlot(shop.slot))
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&place).unwrap();
            copy_folder(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), place).unwrap();
        }
    }
}

fn requests(shop: &ServiceTally, variant: Variant, good: u32, bad: u32) {
    for nth in 0..good + bad {
        let failure = (nth >= good).then_some(Failure::Status);
        let code = if nth < good { 200 } else { 500 };
        let ttfb = Some(Duration::from_millis(5));
        shop.started(variant, 1);
        shop.outcome(Answered { variant, code, method: MethodLabel::Get, ttfb, failure });
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, LaunchRefusal>, expected: &str) {
    let refusal = result.unwrap_err().to_string();
    assert!(refusal.contains(expected), "{refusal}");
}

#[tokio::test]
async fn a_launch_goes_through_its_phases_and_its_journal_has_every_step() {
    let story = Story::running().await;
    for phase in 0..2 {
        for step in [Step::Validate, Step::Execute, Step::Verify] {
            story.step(phase, step, How::Passed).await;
        }
    }
    let ledger = story.control.launch("l").unwrap();
    assert_eq!((ledger.run.state, ledger.candidate), (State::Completed, Some(Variant::Green)));
    let records = story.records(0).await;
    assert_eq!(
        records.iter().map(|record| record.seq).collect::<Vec<_>>(),
        (1..=ledger.seq).collect::<Vec<_>>()
    );
    assert!(matches!(records.last().unwrap().entry, Entry::Finished { state: State::Completed }));
    assert_eq!(&*records.last().unwrap().actor, "tidegate");
    assert_eq!(&*records[1].actor, "uid 1000 (ops)");
    assert_eq!(records[1].figures.as_ref().unwrap().candidate, Some(Variant::Green));
    assert!(
        records.iter().any(|record| matches!(record.entry, Entry::Minute(_))),
        "the rest of the last minute"
    );
    let part = story.control.launch_records("l", 3, 2, Duration::ZERO).await.unwrap();
    assert_eq!(part.iter().map(|record| record.seq).collect::<Vec<_>>(), [4, 5]);
    refused(story.start("l").await, "launch already in progress or completed (COMPLETED)");
    refused(story.plan(launch("l")).await, "launch already in progress or completed");
    let again = story.killed();
    assert_eq!(again.control.launch("l").unwrap(), ledger);
    assert_eq!(again.records(0).await, records);
}

#[tokio::test]
async fn the_same_plan_changes_nothing_and_another_one_voids_what_was_signed() {
    let story = Story::new();
    let person = ItemKind::Person { role: "devops".into(), due: None, evidence: true };
    let item = Item { id: "backup".into(), title: None, kind: person };
    let vote = GoNoGo { roles: vec!["pm".into()], due: None };
    let first = Launch { checklist: vec![item], go_nogo: Some(vote), ..launch("l") };
    assert_eq!(story.plan(first.clone()).await.unwrap().seq, 1);
    assert_eq!(story.plan(first.clone()).await.unwrap().seq, 1);
    let sign = |evidence: Option<&str>| Wish::Sign {
        item: "backup".into(),
        role: "devops".into(),
        evidence: evidence.map(Into::into),
    };
    let go = Wish::Vote { role: "pm".into(), go: true, note: None };
    refused(story.wish("l", sign(None)).await, "needs evidence");
    refused(story.wish("l", Wish::Vote { role: "cto".into(), go: true, note: None }).await, "pm do");
    refused(story.wish("nope", go.clone()).await, "there is no launch \"nope\"; there is l");
    refused(story.start("l").await, "backup is not signed by devops\n  pm has not voted");
    let unreasoned = Wish::Start { holder: "here".into(), overrides: true, reason: Some(" ".into()) };
    refused(story.wish("l", unreasoned).await, "needs a reason");
    story.wish("l", sign(Some("a link"))).await.unwrap();
    assert_eq!(story.wish("l", go).await.unwrap().unmet(Timestamp::from_millis(0)), []);
    let changed = Launch { version: Some("2.0.3".into()), ..first };
    let preview = story.control.preview(&Arc::new(changed.clone()), &ops()).unwrap();
    assert_eq!((preview.seq, preview.votes.len()), (4, 0));
    assert_eq!(story.control.launch("l").unwrap().seq, 3, "a preview notes nothing");
    assert_eq!(story.plan(changed).await.unwrap().signatures.len(), 0);
    let start = Wish::Start { holder: "here".into(), overrides: true, reason: Some("it burns".into()) };
    story.wish("l", start).await.unwrap();
    let Entry::Started { unmet, reason, .. } = story.records(4).await.remove(0).entry else { panic!() };
    assert_eq!((unmet.len(), reason.as_deref()), (2, Some("it burns")));
}

#[tokio::test]
async fn what_is_in_the_way_of_a_start_is_said() {
    let story = Story::new();
    for name in ["l", "m"] {
        story.plan(launch(name)).await.unwrap();
    }
    story.plan(Launch { service: "gone".into(), ..launch("n") }).await.unwrap();
    refused(story.start("n").await, "gone is not configured any more");
    commit(&story.control, &Change::Kill(named(&["shop"]))).await.unwrap();
    refused(story.start("l").await, "shop is locked (kill");
    commit(&story.control, &Change::Arm(named(&["shop"]))).await.unwrap();
    let hour = Hold::For(Duration::from_secs(3600));
    let plan = Arc::new(Plan::new(
        "canary",
        vec![Stage::new(percent(5), hour.clone()), Stage::new(percent(100), hour)],
    ));
    let rollout = Change::Start { service: "shop".into(), plan };
    commit(&story.control, &rollout).await.unwrap();
    refused(story.start("l").await, "the rollout canary drives shop");
    commit(&story.control, &Change::Rollout { service: "shop".into(), act: Act::Verb(Verb::Rollback) })
        .await
        .unwrap();
    story.start("l").await.unwrap();
    refused(story.start("m").await, "launch already in progress: l of shop");
    story.plan(Launch { service: "cart".into(), ..launch("o") }).await.unwrap();
    story.start("o").await.unwrap();
}

#[tokio::test]
async fn a_note_is_noted_once_in_turn_and_by_one_runner_only() {
    let story = Story::running().await;
    let fence = story.control.launch("l").unwrap().lease.as_ref().unwrap().fence;
    let began = Entry::Began { phase: 0, step: Step::Validate };
    let noted = story.note(fence, 2, began.clone()).await.unwrap();
    assert_eq!(noted.seq, 3);
    assert_eq!(story.note(fence, 2, began.clone()).await.unwrap().seq, 3, "the same again");
    let other = Entry::Began { phase: 1, step: Step::Validate };
    refused(story.note(fence, 2, other.clone()).await, "its last record is 3, not 2");
    refused(story.note(fence, 3, other).await, "not what comes next");
    refused(story.note(fence, 9, began.clone()).await, "its last record is 3, not 9");
    refused(story.note(fence + 1, 3, began.clone()).await, "somebody else runs it by now: here");
    story.wish("l", Wish::Tell { about: Told::Progress }).await.unwrap();
    assert_eq!(story.note(fence, 2, began.clone()).await.unwrap().seq, 4, "also after what the daemon noted");
    refused(story.wish("l", Wish::Lease { holder: "there".into() }).await, "here runs it");
    let released = story.control.heartbeat("l", fence, true, &ops()).await.unwrap();
    assert!(released.is_unattended());
    let leased = story.wish("l", Wish::Lease { holder: "there".into() }).await.unwrap();
    let lease = leased.lease.clone().unwrap();
    assert_eq!((lease.fence, &*lease.holder), (leased.seq, "there"));
    let outcome = Outcome { verdict: How::Passed, said: String::new(), took_ms: 1 };
    let late = Entry::Ended { phase: 0, step: Step::Validate, outcome };
    refused(story.note(fence, leased.seq, late).await, "somebody else runs it by now: there");
    assert!(matches!(
        story.control.heartbeat("l", fence, false, &ops()).await,
        Err(LaunchRefusal::Fenced { .. })
    ));
    assert_eq!(
        story.note(lease.fence, leased.seq, began).await.unwrap().run.phases[0].state,
        PhaseState::Validating
    );
}

#[tokio::test]
async fn a_runner_that_is_not_heard_of_for_a_lease_is_gone_until_it_is_back() {
    let story = Story::running().await;
    let fence = story.control.launch("l").unwrap().lease.as_ref().unwrap().fence;
    let beat = |now: Instant| story.control.tick_launches(now, clock::wall());
    story.control.heartbeat("l", fence, false, &ops()).await.unwrap();
    let heard = clock::now();
    beat(heard + LEASE - Duration::from_secs(1));
    assert!(!story.wish("l", Wish::Tell { about: Told::Progress }).await.unwrap().is_unattended());
    beat(heard + LEASE);
    let gone = story.until(Ledger::is_unattended).await;
    beat(heard + LEASE);
    let back = story.control.heartbeat("l", fence, false, &ops()).await.unwrap();
    assert_eq!((back.is_unattended(), back.seq), (false, gone.seq + 1));
    assert_eq!(story.control.heartbeat("l", fence, false, &ops()).await.unwrap().seq, back.seq, "no news");
    assert_eq!(story.control.launch_of("shop", clock::wall()).unwrap().launch.name, back.launch.name);
}

#[tokio::test]
async fn after_a_restart_a_runner_has_a_whole_lease_to_come_back() {
    let story = Story::running().await.killed();
    let restart = clock::now();
    story.control.tick_launches(restart, clock::wall());
    story.control.tick_launches(restart + LEASE - Duration::from_millis(1), clock::wall());
    assert!(!story.wish("l", Wish::Tell { about: Told::Progress }).await.unwrap().is_unattended());
    story.control.tick_launches(restart + LEASE, clock::wall());
    story.until(Ledger::is_unattended).await;
    let leased = story.wish("l", Wish::Lease { holder: "there".into() }).await.unwrap();
    assert!(!leased.is_unattended());
}

#[tokio::test]
async fn a_trip_takes_the_candidate_to_0_and_locks_and_stops_the_launch() {
    let story = Story::running().await;
    commit(&story.control, &shift(&[("shop", 25)])).await.unwrap();
    let (shop, start) = (story.shop(), clock::now());
    requests(&shop, Variant::Green, 0, 100);
    story.control.tick(start);
    assert_eq!(weight(&story.control, "shop"), percent(25), "what was before counts for nothing");
    requests(&shop, Variant::Green, 98, 2);
    story.control.tick(start + Duration::from_secs(1));
    assert_eq!(weight(&story.control, "shop"), percent(25));
    requests(&shop, Variant::Green, 0, 1);
    story.control.tick(start + Duration::from_secs(2));
    assert_eq!(weight(&story.control, "shop"), Weight::ZERO, "at once");
    let lock = story.control.desired().service("shop").unwrap().lock.clone().unwrap();
    assert!(lock.reason.unwrap().contains("launch l: green fails 3 % (3 of 101)"));
    let ledger = story.until(|ledger| ledger.run.state.is_over()).await;
    let Some(Stop::Breaker { sentence }) = &ledger.run.stopped else { panic!("{ledger:?}") };
    assert!(sentence.starts_with("green fails 3 % (3 of 101) in 2 s"), "{sentence}");
    assert_eq!(ledger.run.state, State::RolledBack, "nothing had been done that has to be undone");
    assert_eq!(ledger.traffic.variants.green.failures, 3 + 100, "the minutes have all of it");
    refused_up(&story.control).await;
    assert!(story.events("launch-stop")[0].contains("the breaker has tripped"));
    assert_eq!(story.events("rollout-rollback").len(), 1);
}

async fn refused_up(control: &Control) {
    assert!(matches!(
        commit(control, &shift(&[("shop", 1)])).await,
        Err(CommitError::Refused(Refusal::Locked { .. }))
    ));
}

#[tokio::test]
async fn after_a_promotion_a_trip_swaps_the_roles_back() {
    let story = Story::running().await;
    let hour = Hold::For(Duration::from_secs(3600));
    let stages = vec![Stage::new(percent(100), hour)];
    let plan = Arc::new(Plan { keep: Duration::ZERO, ..Plan::new("l", stages) });
    commit(&story.control, &Change::Start { service: "shop".into(), plan }).await.unwrap();
    let promote = Change::Rollout { service: "shop".into(), act: Act::Verb(Verb::Promote) };
    commit(&story.control, &promote).await.unwrap();
    assert_eq!(story.control.desired().service("shop").unwrap().stable, Variant::Green);
    let (shop, start) = (story.shop(), clock::now());
    story.control.tick(start);
    requests(&shop, Variant::Green, 50, 50);
    story.control.tick(start + Duration::from_secs(1));
    let state = story.control.desired().service("shop").unwrap().clone();
    assert_eq!((state.stable, state.weight, state.lock.is_some()), (Variant::Blue, Weight::ZERO, true));
}

#[tokio::test]
async fn a_trip_waits_for_no_disk() {
    let story = Story::running().await;
    commit(&story.control, &shift(&[("shop", 25)])).await.unwrap();
    let journal = story.folder.path().join("launches/l.jsonl");
    let kept = std::fs::read(&journal).unwrap();
    std::fs::remove_file(&journal).unwrap();
    std::os::unix::fs::symlink("/dev/full", &journal).unwrap();
    refused(story.wish("l", Wish::Tell { about: Told::Progress }).await, "the journal could not be written");
    let (shop, start) = (story.shop(), clock::now());
    story.control.tick(start);
    requests(&shop, Variant::Green, 0, 60);
    story.control.tick(start + Duration::from_secs(1));
    assert_eq!(weight(&story.control, "shop"), Weight::ZERO);
    refused_up(&story.control).await;
    assert_eq!(story.control.launch("l").unwrap().run.stopped, None);
    // Once the disk takes lines again, what has happened is noted.
    std::fs::remove_file(&journal).unwrap();
    std::fs::write(&journal, kept).unwrap();
    for second in 2.. {
        story.control.tick(start + Duration::from_secs(second));
        story.control.launch_records("l", 2, 1, Duration::from_millis(100)).await.unwrap();
        if story.control.launch("l").unwrap().run.stopped.is_some() {
            break;
        }
    }
    assert_eq!(story.events("launch-stop").len(), 1, "people were told once");
}

#[tokio::test]
async fn endpoints_whose_checks_fail_trip_it_but_not_those_that_were_sick_before() {
    let story = Story::new();
    let breaker = Breaker { health_check_failures: Some(3), ..Breaker::default() };
    story.plan(Launch { breaker, ..launch("l") }).await.unwrap();
    let check = |place: &str| {
        let has = |check: &CheckKey| check.way.url().to_string() == format!("http://{place}.shop:80");
        story.control.checks().into_iter().find(has).unwrap()
    };
    let fails = |place: &str| story.control.checked(&check(place), Err("refused".to_owned()));
    (0..5).for_each(|_| fails("blue"));
    story.start("l").await.unwrap();
    let start = clock::now();
    let beat = |second: u64| {
        story.control.tick_launches(start + Duration::from_secs(second), clock::wall());
        story.control.desired().service("shop").unwrap().lock.is_some()
    };
    assert!(!beat(0));
    (0..5).for_each(|_| fails("blue"));
    (0..5).for_each(|_| fails("green"));
    assert!(!beat(1), "green gets no traffic, and blue was sick before");
    (0..2).for_each(|_| story.control.checked(&check("blue"), Ok(())));
    assert!(!beat(2));
    (0..2).for_each(|_| fails("blue"));
    assert!(!beat(3));
    fails("blue");
    assert!(beat(4));
    let ledger = story.until(|ledger| ledger.run.stopped.is_some()).await;
    let why = ledger.why_stopped().unwrap();
    assert_eq!(why, "3 health checks of blue http://blue.shop:80 in a row failed (refused); the limit is 3");
}

#[tokio::test]
async fn traffic_is_noted_every_minute_and_so_is_downtime() {
    let story = Story::running().await;
    let (shop, start) = (story.shop(), clock::now());
    let none = Breaker::default();
    assert_eq!(none.error_rate, None);
    story.control.tick_launches(start, clock::wall());
    requests(&shop, Variant::Blue, 0, 3);
    story.control.tick_launches(start + Duration::from_secs(1), clock::wall());
    requests(&shop, Variant::Blue, 20, 0);
    story.control.tick_launches(start + Duration::from_secs(60), clock::wall());
    let ledger = story.until(|ledger| ledger.traffic.requests() > 0).await;
    assert_eq!(
        (ledger.traffic.requests(), ledger.traffic.failures(), ledger.traffic.down_seconds),
        (23, 3, 1)
    );
    assert!(ledger.traffic.span_ms >= 60_000);
}

#[tokio::test]
async fn a_launch_whose_service_goes_away_is_said_to_be_unwatched_and_can_be_ended() {
    let story = Story::running().await;
    story.control.reload(vec![config("cart")], Keep::All, &ops()).await.unwrap();
    for second in 0..3 {
        story.control.tick(clock::now() + Duration::from_secs(second));
    }
    let over = story.wish("l", Wish::Stop { why: Stop::Person { reason: None } }).await.unwrap();
    assert_eq!(over.run.state, State::RolledBack);
    assert_eq!(story.events("launch-unwatched").len(), 1);
    refused(
        story.wish("l", Wish::Stop { why: Stop::Person { reason: None } }).await,
        "is over (ROLLED_BACK)",
    );
}

#[tokio::test]
async fn a_failure_in_a_phase_is_undone_and_the_end_is_the_daemons() {
    let story = Story::running().await;
    story.step(0, Step::Validate, How::Passed).await;
    story.step(0, Step::Execute, How::Failed).await;
    let undone = story.step(0, Step::Undo, How::Passed).await;
    assert_eq!(undone.run.state, State::RolledBack);
    assert!(story.events("launch-end")[0].contains("launch l: ROLLED_BACK: phase deploy failed"));
}

#[tokio::test]
async fn a_launch_is_the_same_whatever_byte_its_journal_was_torn_at() {
    let story = Story::running().await;
    story.step(0, Step::Validate, How::Passed).await;
    let whole = std::fs::read(story.folder.path().join("launches/l.jsonl")).unwrap();
    let ends: Vec<_> = (0..whole.len()).filter(|at| whole[*at] == b'\n').map(|at| at + 1).collect();
    let place = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(place.path()).unwrap();
    folder.journals().append("l", "").unwrap();
    for cut in (0..=whole.len()).step_by(7).chain(ends.iter().copied()).chain(ends.iter().map(|end| end - 1))
    {
        std::fs::write(place.path().join("launches/l.jsonl"), &whole[..cut]).unwrap();
        let events =
            Events::start(folder.audit_log(AuditLimits::default()).unwrap(), folder.audit_reader()).unwrap();
        let disk = LaunchDisk { journals: Some((folder.journals(), folder.journal_reader())) };
        let (book, alarms) =
            crate::control::launches::Launches::start(disk, Tallies::new(0), Arc::new(events)).unwrap();
        assert_eq!(alarms, Vec::<String>::new(), "cut at {cut}");
        let expected = ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(book.seq("l"), (expected > 0).then_some(expected), "cut at {cut}");
        book.stop();
        std::fs::write(place.path().join("launches/l.jsonl"), "").unwrap();
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_refused_until_it_is_moved_away() {
    let story = Story::running().await;
    let journal = |story: &Story| story.folder.path().join("launches/l.jsonl");
    let text = std::fs::read_to_string(journal(&story)).unwrap().replacen("\"seq\":2", "\"seq\":3", 1);
    std::fs::write(journal(&story), text).unwrap();
    let story = story.killed();
    assert!(
        story
            .events("recovery")
            .iter()
            .any(|alarm| alarm.contains("line 2: its number is 3 and should be 2"))
    );
    refused(story.control.launch("l"), "nobody knows how far it is");
    refused(story.plan(launch("l")).await, "move it away");
    story.control.tick(clock::now());
    std::fs::rename(journal(&story), story.folder.path().join("l.bad")).unwrap();
    assert_eq!(story.plan(launch("l")).await.unwrap().seq, 1);
}

#[tokio::test]
async fn the_newest_200_launches_are_kept_and_those_that_run() {
    let story = Story::running().await;
    for nth in 0..205 {
        story.plan(launch(&format!("n{nth:03}"))).await.unwrap();
    }
    let known = story.control.launches();
    assert!(known.iter().any(|ledger| &*ledger.launch.name == "l"));
    assert_eq!(known.len(), 201);
    assert!(story.control.launch("n004").is_err() && story.control.launch("n005").is_ok());
    assert_eq!(std::fs::read_dir(story.folder.path().join("launches")).unwrap().count(), 201);
}

#[tokio::test]
async fn whoever_has_let_go_of_the_folder_notes_nothing_any_more() {
    let story = Story::running().await;
    story.control.close("upgrade").await;
    let lock = story.control.let_go().await.unwrap();
    refused(story.wish("l", Wish::Lease { holder: "x".into() }).await, "upgrade");
    story.control.open();
    refused(story.wish("l", Wish::Tell { about: Told::Progress }).await, "could not be written");
    story.control.begin_closed("upgrade");
    let opened = Opened::take_over(story.folder.path(), lock).unwrap();
    let new = Control::start(opened, vec![config("shop")], Tallies::new(0)).unwrap();
    assert_eq!(new.launch("l").unwrap().seq, 2);
    new.stop();
    drop(new);
    story.control.take_back().await.unwrap();
    assert_eq!(story.wish("l", Wish::Tell { about: Told::Progress }).await.unwrap().seq, 3);
}

#[tokio::test]
async fn whoever_waits_for_records_gets_them_when_they_are_there() {
    let story = Story::running().await;
    let control = story.control.clone();
    let waiting =
        tokio::spawn(async move { control.launch_records("l", 2, 10, Duration::from_secs(60)).await });
    story.wish("l", Wish::Tell { about: Told::Progress }).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap()[0].seq, 3);
    assert_eq!(story.records(3).await, []);
    assert_eq!(story.control.launch_records("l", u64::MAX, 10, Duration::ZERO).await.unwrap(), []);
    refused(story.control.launch_records("x", 0, 1, Duration::ZERO).await, "there is no launch \"x\"");
}

#[test]
fn what_is_no_launch_is_refused_with_all_its_reasons() {
    let at = Timestamp::from_millis(1_000_000);
    #[track_caller]
    fn check(launch: &Launch, at: Timestamp, expected: &[&str]) {
        let found = launch_problems(launch, at);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found:?}");
        }
    }
    check(&launch("l"), at, &[]);
    let window = Window { from: Timestamp::from_millis(0), lasts: Duration::from_secs(1000) };
    check(&Launch { window: Some(window), ..launch("l") }, at, &["it closed at"]);
    check(&Launch { window: Some(window), ..launch("l") }, Timestamp::from_millis(999_999), &[]);
    check(&Launch { phases: Vec::new(), ..launch("../l") }, at, &["letters, digits", "there is none"]);
    let mut twice = launch("l");
    twice.phases[1].id = "deploy".into();
    twice.phases[0].timeout = None;
    twice.breaker =
        Breaker { error_rate: Some(f64::NAN), over: Duration::from_secs(5), ..Breaker::default() };
    check(&twice, at, &["error_rate", "10s to 60s", "deploy is there twice", "needs a timeout"]);
    assert_eq!(Misfit::NotStarted.to_string(), "the launch has not started");
}
