use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::traffic::Variant;

pub(super) fn command(word: &str) -> Command {
    Command::Argv(vec![word.into()])
}

pub(super) fn phase(id: &str, action: Action, undo: Undo) -> Phase {
    Phase {
        id: id.into(),
        title: None,
        check: Vec::new(),
        action,
        verify: None,
        undo,
        timeout: Some(Duration::from_secs(60)),
        undo_timeout: Duration::from_secs(60),
        rollback_on_failure: true,
    }
}

pub(super) fn does(id: &str) -> Phase {
    phase(id, Action::Command { run: command("do") }, Undo::Command { run: command("undo") })
}

pub(super) fn launch(phases: Vec<Phase>) -> Launch {
    Launch {
        name: "shop-2.0.2".into(),
        service: "shop".into(),
        version: None,
        environment: None,
        tier: Tier::Standard,
        window: None,
        rollback_within: None,
        breaker: Breaker::default(),
        flags: None,
        checklist: Vec::new(),
        go_nogo: None,
        warmup: None,
        synthetic: Vec::new(),
        comms: Comms::default(),
        contacts: Vec::new(),
        phases,
        variables: Default::default(),
    }
}

/// A ledger with its journal.
struct Book {
    ledger: Ledger,
    records: Vec<Record>,
}

impl Book {
    fn new(launch: Launch) -> Self {
        let first = record(1, 1, Entry::Planned { launch: Arc::new(launch) });
        Self { ledger: Ledger::begin(&first).unwrap(), records: vec![first] }
    }

    fn started(phases: Vec<Phase>) -> Self {
        let mut book = Self::new(launch(phases));
        book.note(start()).unwrap();
        book
    }

    fn note(&mut self, entry: Entry) -> Result<(), Misfit> {
        let record = record(self.ledger.seq + 1, self.ledger.seq + 1, entry);
        self.ledger = self.ledger.with(&record)?;
        self.records.push(record);
        Ok(())
    }

    /// Does what comes next, until something else than `script` has to be asked.
    fn run(&mut self, mut outcome: impl FnMut(usize, Step) -> Verdict) -> Next {
        loop {
            match self.ledger.next() {
                Next::Do { phase, step } => {
                    self.note(Entry::Began { phase, step }).unwrap();
                    let outcome = ended(outcome(phase, step));
                    self.note(Entry::Ended { phase, step, outcome }).unwrap();
                }
                Next::Finish(state) => self.note(Entry::Finished { state }).unwrap(),
                other => return other,
            }
        }
    }

    fn states(&self) -> Vec<PhaseState> {
        self.ledger.run.phases.iter().map(|phase| phase.state).collect()
    }

    fn begun(&self, wanted: Step) -> Vec<usize> {
        let begun = self.records.iter().filter_map(|record| match record.entry {
            Entry::Began { phase, step } if step == wanted => Some(phase),
            _ => None,
        });
        begun.collect()
    }
}

fn record(seq: u64, at: u64, entry: Entry) -> Record {
    Record { seq, at: Timestamp::from_millis(at), actor: "uid 0".into(), claimed: None, entry, figures: None }
}

fn start() -> Entry {
    Entry::Started { candidate: Variant::Green, holder: "here".into(), unmet: Vec::new(), reason: None }
}

fn ended(verdict: Verdict) -> Outcome {
    Outcome { verdict, said: String::new(), took_ms: 1 }
}

fn leased() -> Entry {
    Entry::Leased { holder: "there".into() }
}

use PhaseState::{Failed, RollbackFailed, RolledBack, Skipped, Verified};

#[test]
fn phases_are_done_in_order_and_undone_in_reverse() {
    #[track_caller]
    fn check(fails: &[(usize, Step)], states: &[PhaseState], state: State, undone: &[usize]) {
        let mut book = Book::started(vec![does("a"), does("b"), does("c")]);
        let verdict = |phase, step| match fails.contains(&(phase, step)) {
            true => Verdict::Failed,
            false => Verdict::Passed,
        };
        assert_eq!(book.run(verdict), Next::Nothing);
        assert_eq!((book.states().as_slice(), book.ledger.run.state), (states, state));
        assert_eq!(book.begun(Step::Undo), undone);
    }
    check(&[], &[Verified; 3], State::Completed, &[]);
    check(&[(0, Step::Validate)], &[Failed, Skipped, Skipped], State::RolledBack, &[]);
    check(&[(0, Step::Execute)], &[RolledBack, Skipped, Skipped], State::RolledBack, &[0]);
    check(&[(1, Step::Validate)], &[RolledBack, Failed, Skipped], State::RolledBack, &[0]);
    check(&[(1, Step::Verify)], &[RolledBack, RolledBack, Skipped], State::RolledBack, &[1, 0]);
    check(&[(2, Step::Execute)], &[RolledBack; 3], State::RolledBack, &[2, 1, 0]);
    check(
        &[(2, Step::Execute), (1, Step::Undo)],
        &[RolledBack, RollbackFailed, RolledBack],
        State::Failed,
        &[2, 1, 0],
    );
}

#[test]
fn what_has_nothing_to_undo_stays() {
    let expand = phase("expand", Action::Command { run: command("up") }, Undo::None);
    let mut book = Book::started(vec![expand, does("deploy")]);
    book.run(
        |phase, step| if (phase, step) == (1, Step::Verify) { Verdict::TimedOut } else { Verdict::Passed },
    );
    assert_eq!(book.states(), [Verified, RolledBack]);
    assert_eq!(book.ledger.run.state, State::RolledBack);
}

#[test]
fn a_phase_may_fail_without_undoing_anything() {
    let mut second = does("b");
    second.rollback_on_failure = false;
    let mut book = Book::started(vec![does("a"), second, does("c")]);
    book.run(
        |phase, step| if (phase, step) == (1, Step::Execute) { Verdict::Failed } else { Verdict::Passed },
    );
    assert_eq!(
        (book.states().as_slice(), book.ledger.run.state),
        (&[Verified, Failed, Skipped][..], State::Failed)
    );
    assert!(book.begun(Step::Undo).is_empty());
}

#[test]
fn an_interrupted_action_is_verified_and_never_done_again_by_itself() {
    let asks =
        Check { kind: CheckKind::Tcp { address: "127.0.0.1:1".into() }, timeout: Duration::from_secs(1) };
    let mut book = Book::started(vec![Phase { verify: Some(vec![asks]), ..does("migrate") }]);
    for step in [Step::Validate, Step::Execute] {
        assert_eq!(book.ledger.next(), Next::Do { phase: 0, step });
        book.note(Entry::Began { phase: 0, step }).unwrap();
        if step == Step::Validate {
            book.note(Entry::Ended { phase: 0, step, outcome: ended(Verdict::Passed) }).unwrap();
        }
    }
    book.note(leased()).unwrap();
    assert_eq!(book.ledger.next(), Next::Do { phase: 0, step: Step::Verify });
    let open = Next::Choose { phase: 0, step: Step::Execute };
    assert_eq!(book.run(|_, _| Verdict::Failed), open);
    let (before, records) = (book.ledger.clone(), book.records.len());
    book.note(Entry::Chose { phase: 0, redo: false }).unwrap();
    book.run(|_, _| Verdict::Passed);
    assert_eq!((book.states(), book.begun(Step::Execute)), (vec![RolledBack], vec![0]));
    book.ledger = before;
    book.records.truncate(records);
    book.note(Entry::Chose { phase: 0, redo: true }).unwrap();
    book.run(|_, _| Verdict::Passed);
    assert_eq!((book.states(), book.begun(Step::Execute)), (vec![Verified], vec![0, 0]));
}

#[test]
fn an_interrupted_action_that_nothing_is_asked_after_is_a_persons_to_judge() {
    let mut book = Book::started(vec![does("migrate")]);
    book.note(Entry::Began { phase: 0, step: Step::Validate }).unwrap();
    book.note(Entry::Ended { phase: 0, step: Step::Validate, outcome: ended(Verdict::Passed) }).unwrap();
    book.note(Entry::Began { phase: 0, step: Step::Execute }).unwrap();
    book.note(leased()).unwrap();
    assert_eq!(book.ledger.next(), Next::Choose { phase: 0, step: Step::Execute });
    book.note(Entry::Chose { phase: 0, redo: false }).unwrap();
    assert_eq!(book.run(|_, _| Verdict::Passed), Next::Nothing);
    assert_eq!((book.states(), book.begun(Step::Execute)), (vec![RolledBack], vec![0]));
}

#[test]
fn where_users_are_is_what_the_last_phase_that_moved_them_came_to() {
    let shift = |weight: &str| {
        let action = Action::Shift { weight: weight.parse().unwrap() };
        phase(&format!("to-{weight}"), action, Undo::DisableTraffic)
    };
    let mut book = Book::started(vec![does("a"), shift("50%"), does("b"), shift("0%"), does("c")]);
    let mut seen = Vec::new();
    while let Next::Do { phase, step } = book.ledger.next() {
        book.note(Entry::Began { phase, step }).unwrap();
        let verdict = if phase == 4 { Verdict::Failed } else { Verdict::Passed };
        let was_taken_back = book.ledger.takes_traffic_back();
        book.note(Entry::Ended { phase, step, outcome: ended(verdict) }).unwrap();
        seen.push((phase, step, book.ledger.exposes(), was_taken_back));
    }
    let exposed: Vec<_> =
        seen.iter().filter(|(.., exposes, _)| *exposes).map(|(phase, step, ..)| (*phase, *step)).collect();
    let expected =
        [(1, Step::Verify), (2, Step::Validate), (2, Step::Execute), (2, Step::Verify), (3, Step::Validate)];
    assert_eq!(exposed, expected);
    let back: Vec<_> =
        seen.iter().filter(|(.., back)| *back).map(|(phase, step, ..)| (*phase, *step)).collect();
    assert_eq!(back, [(3, Step::Undo), (2, Step::Undo), (1, Step::Undo)]);
}

#[test]
fn an_interrupted_action_that_can_be_repeated_is() {
    let traffic = phase("traffic", Action::Rollout(Rollout::default()), Undo::DisableTraffic);
    let mut book = Book::started(vec![traffic]);
    book.note(Entry::Began { phase: 0, step: Step::Validate }).unwrap();
    book.note(Entry::Ended { phase: 0, step: Step::Validate, outcome: ended(Verdict::Passed) }).unwrap();
    book.note(Entry::Began { phase: 0, step: Step::Execute }).unwrap();
    book.note(leased()).unwrap();
    assert_eq!(book.ledger.next(), Next::Do { phase: 0, step: Step::Execute });
}

#[test]
fn what_is_under_way_ends_before_anything_is_undone() {
    let mut book = Book::started(vec![does("a"), does("b")]);
    book.note(Entry::Began { phase: 0, step: Step::Validate }).unwrap();
    let why = Stop::Breaker { sentence: "error rate 5 % of 2 %".into() };
    book.note(Entry::Stopped { why: why.clone() }).unwrap();
    assert_eq!(book.ledger.next(), Next::Await { phase: 0, step: Step::Validate });
    book.note(Entry::Ended { phase: 0, step: Step::Validate, outcome: ended(Verdict::Passed) }).unwrap();
    book.note(Entry::Stopped { why: Stop::Person { reason: None } }).unwrap();
    book.run(|_, _| Verdict::Passed);
    assert_eq!(
        (book.states().as_slice(), book.ledger.run.state),
        (&[Skipped, Skipped][..], State::RolledBack)
    );
    assert_eq!(book.ledger.run.stopped, Some(why));
}

#[test]
fn a_second_start_is_refused() {
    let mut book = Book::started(vec![does("a")]);
    let refusal = book.note(start()).unwrap_err();
    assert_eq!(refusal.to_string(), "launch already in progress or completed (RUNNING)");
    book.run(|_, _| Verdict::Passed);
    let refusal = book.note(start()).unwrap_err();
    assert_eq!(refusal.to_string(), "launch already in progress or completed (COMPLETED)");
    let again = Entry::Planned { launch: book.ledger.launch.clone() };
    assert_eq!(book.note(again), Err(Misfit::Started(State::Completed)));
}

#[test]
fn a_start_needs_window_signatures_and_votes() {
    let minute = Duration::from_secs(60);
    let mut planned = launch(vec![does("a")]);
    planned.window = Some(Window { from: Timestamp::from_millis(3_600_000), lasts: minute });
    let person = ItemKind::Person { role: "devops".into(), due: Some(minute * 30), evidence: true };
    let run = ItemKind::Command { run: command("smoke"), timeout: minute };
    planned.checklist = vec![
        Item { id: "backup".into(), title: None, kind: person },
        Item { id: "smoke".into(), title: None, kind: run },
    ];
    planned.go_nogo = Some(GoNoGo { roles: vec!["qa".into()], due: None });
    let mut book = Book::new(planned.clone());
    let said = |book: &Book, at| {
        let unmet = book.ledger.unmet(Timestamp::from_millis(at));
        unmet.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let early = "the window opens at 1970-01-01T01:00:00.000Z";
    let smoke = "smoke has not been checked";
    assert_eq!(said(&book, 0), [early, "backup is not signed by devops", smoke, "qa has not voted"]);
    assert_eq!(said(&book, 1_800_000)[1], "backup is not signed by devops (overdue)");

    let sign = |role: &str, evidence: Option<&str>| Entry::Signed {
        item: "backup".into(),
        role: role.into(),
        evidence: evidence.map(Into::into),
    };
    let vote = |role: &str, go| Entry::Voted { role: role.into(), go, note: None };
    for (entry, why) in [
        (sign("devops", None), "item \"backup\" needs evidence: a text or a link"),
        (sign("qa", Some("ok")), "item \"backup\" is signed by devops"),
        (vote("boss", true), "\"boss\" has no vote in this launch; qa do"),
    ] {
        assert_eq!(book.note(entry).unwrap_err().to_string(), why);
    }
    book.note(sign("devops", Some("s3://backup"))).unwrap();
    book.note(vote("qa", false)).unwrap();
    book.note(Entry::Checked { item: "smoke".into(), passed: false, said: String::new() }).unwrap();
    assert_eq!(said(&book, 3_600_000), ["smoke was checked, and the answer was no", "qa voted no-go"]);
    book.note(vote("qa", true)).unwrap();
    book.note(Entry::Checked { item: "smoke".into(), passed: true, said: String::new() }).unwrap();
    assert_eq!(said(&book, 3_659_999), [""; 0]);
    assert_eq!(said(&book, 3_660_000), ["the window closed at 1970-01-01T01:01:00.000Z"]);
    book.note(Entry::Planned { launch: Arc::new(planned) }).unwrap();
    assert!(
        book.ledger.signatures.is_empty() && book.ledger.votes.is_empty(),
        "another plan, other signatures"
    );
}

#[test]
fn texts_are_expanded() {
    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let value = |name: &str| (name != "UNSET").then(|| format!("<{name}>"));
        assert_eq!(expand(text, value), expected.map(str::to_owned).map_err(str::to_owned));
    }
    check("", Ok(""));
    check("plain $HOME", Ok("plain $HOME"));
    check("${A}-${B_2}", Ok("<A>-<B_2>"));
    check("$${A} ${A}", Ok("${A} <A>"));
    check("x${UNSET}", Err("UNSET"));
    check("x${A", Err("${A"));
    check("${} ", Err("${} "));
    check("${2}", Err("${2}"));
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => Just(Action::Command { run: command("do") }),
        1 => Just(Action::Rollout(Rollout::default())),
        1 => Just(Action::Observe { lasts: Duration::from_secs(1) }),
    ]
}

fn any_undo() -> impl Strategy<Value = Undo> {
    prop_oneof![
        3 => Just(Undo::Command { run: command("undo") }),
        1 => Just(Undo::DisableTraffic),
        1 => Just(Undo::None),
    ]
}

proptest! {
    /// Whatever fails, whoever goes away, and whatever people choose: it comes to an end, what was touched is undone in reverse order or
    /// stays on purpose, and no command runs twice that nobody asked for again.
    #[test]
    fn every_launch_comes_to_a_correct_end(
        kinds in prop::collection::vec((any_action(), any_undo(), prop::bool::weighted(0.8)), 1..6),
        chances in prop::collection::vec(0_u8..16, 0..80),
    ) {
        let mut phases: Vec<Phase> = Vec::new();
        for (at, (action, undo, rolls_back)) in kinds.into_iter().enumerate() {
            phases.push(Phase { rollback_on_failure: rolls_back, ..phase(&format!("p{at}"), action, undo) });
        }
        let planned = phases.clone();
        let mut book = Book::started(phases);
        let mut chances = chances.into_iter();
        let mut redone = Vec::new();
        for _ in 0..400 {
            let chance = chances.next().unwrap_or(15);
            match (book.ledger.next(), chance) {
                (Next::Nothing, _) => break,
                (_, 0) => book.note(leased()).unwrap(),
                (_, 1) => book.note(Entry::Stopped { why: Stop::Person { reason: None } }).unwrap(),
                (Next::Do { phase, step }, _) => book.note(Entry::Began { phase, step }).unwrap(),
                (Next::Await { phase, step }, _) => {
                    let verdict = match chance { 2..=5 => Verdict::Failed, 6 => Verdict::TimedOut, _ => Verdict::Passed };
                    book.note(Entry::Ended { phase, step, outcome: ended(verdict) }).unwrap();
                }
                (Next::Choose { phase, step }, _) => {
                    let redo = chance % 2 == 0;
                    book.note(Entry::Chose { phase, redo }).unwrap();
                    if redo { redone.push((phase, step)); }
                }
                (Next::Finish(state), _) => {
                    for wrong in [State::Idle, State::Running, State::Completed, State::RolledBack, State::Failed] {
                        let refused = book.note(Entry::Finished { state: wrong }).is_err();
                        prop_assert!(wrong == state || refused);
                        if !refused { break; }
                    }
                    prop_assert_eq!(book.ledger.run.state, state);
                }
            }
        }
        let run = &book.ledger.run;
        prop_assert!(run.state.is_over(), "{:?}", book.records);
        for (step, is_idempotent) in [
            (Step::Execute, Box::new(|at: usize| planned[at].action.is_idempotent()) as Box<dyn Fn(usize) -> bool>),
            (Step::Undo, Box::new(|at: usize| planned[at].undo.is_idempotent())),
        ] {
            let begun = book.begun(step);
            for at in 0..planned.len() {
                let times = begun.iter().filter(|phase| **phase == at).count();
                let asked = redone.iter().filter(|redone| **redone == (at, step)).count();
                prop_assert!(is_idempotent(at) || times <= 1 + asked, "{step:?} of {at}: {times}");
            }
        }
        let undone = book.begun(Step::Undo);
        prop_assert!(undone.windows(2).all(|pair| pair[0] >= pair[1]), "{undone:?}");
        prop_assert!(undone.iter().all(|at| run.phases[*at].touched));
        let failed = run.phases.iter().any(|phase| phase.state == RollbackFailed);
        match run.state {
            State::Completed => prop_assert!(book.states().iter().all(|state| *state == Verified)),
            State::RolledBack => {
                prop_assert!(!failed);
                for (phase, planned) in run.phases.iter().zip(&planned) {
                    let is_undone = phase.state == RolledBack;
                    prop_assert_eq!(is_undone, phase.touched && planned.undo != Undo::None);
                }
            }
            _ => prop_assert!(failed || run.stopped.is_none()),
        }

        let text: Vec<String> =
            book.records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
        let read: Vec<Record> = text.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let replayed = read[1..].iter().try_fold(Ledger::begin(&read[0]).unwrap(), |ledger, record| ledger.with(record));
        prop_assert_eq!(replayed.as_ref(), Ok(&book.ledger));
    }
}
