//! The loop: what comes next is noted, done, and what came of it noted.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::away::{self, Leave, PATIENCE};
use super::command::{Commands, Place};
use super::error::RunnerError;
use super::hands::{Event, Hands};
use super::journal::Journal;
use super::output::last_line;
use super::signs::{self, Halt, Signs};
use super::{Ended, News, Orders, keeper, variables};
use crate::admin::api::{
    CheckedRequest, HeartbeatRequest, LaunchRollbackRequest, LaunchStartRequest, LaunchView, LeaseAnswer,
    LeaseRequest, Note,
};
use crate::admin::client::{Client, ClientError};
use crate::clock;
use crate::launch::{ItemKind, Ledger, Next, Outcome, State, Step, Verdict};

/// How often is looked whether the daemon noted something while a step is under way.
const LOOK: Duration = Duration::from_secs(1);

/// How long the daemon may keep a question for news open.
const LONG_LOOK: Duration = Duration::from_secs(1);

/// How long a step that has to end may take to: its keeper's grace, and a little more. After that it is left to its keeper.
const LET_GO: Duration = keeper::GRACE.saturating_add(Duration::from_secs(3));

/// Runs a launch under a lease that a start or [`Client::lease`] gave, until it is over for this runner. `tell` hears of everything meanwhile.
///
/// Takes Ctrl-C, TERM and HUP of the process from here on. Ends by itself, in a bounded time, whatever the daemon and the commands do.
///
/// # Errors
/// When the launch cannot be gone on with from here. It is let go of then, as far as the daemon can be reached.
pub fn attend(
    client: &Client,
    answer: LeaseAnswer,
    orders: &Orders,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Ended, RunnerError> {
    let signs = Signs::new();
    let (name, fence) = (answer.view.ledger.launch.name.clone(), answer.fence);
    let (ended, beats) = match signs.keep_lease(client, &name, fence) {
        Ok(beats) => (attended(client, answer, orders, &signs, tell), Some(beats)),
        Err(error) => (Err(error), None),
    };
    signs.end();
    if !matches!(ended, Ok(Ended::Over(_) | Ended::TakenOver)) {
        // A heartbeat that is on its way would take it up again.
        drop(beats.map(JoinHandle::join));
        // Whether that is heard or not: a lease that is not kept lapses.
        _ = client.heartbeat(&name, &HeartbeatRequest { fence, release: true });
    }
    ended
}

fn attended(
    client: &Client,
    answer: LeaseAnswer,
    orders: &Orders,
    signs: &Signs,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Ended, RunnerError> {
    signs.listen()?;
    let journal = Journal::new(client, answer.view.ledger, Some(answer.fence), signs.clone(), tell)?;
    let mut runner = Runner { journal, signs, orders };
    match runner.run() {
        Ok(ended) => Ok(ended),
        Err(Leave::Failed(error)) => Err(error),
        Err(Leave::Halted) => Ok(runner.halted()),
    }
}

struct Runner<'a> {
    journal: Journal<'a>,
    signs: &'a Signs,
    orders: &'a Orders,
}

impl Runner<'_> {
    fn run(&mut self) -> Result<Ended, Leave> {
        self.journal.read(Duration::ZERO)?;
        self.journal.judge()?;
        let names = variables::still_unset(&self.journal.ledger);
        if !names.is_empty() {
            return Err(RunnerError::Unset { names }.into());
        }
        loop {
            if self.signs.halted().is_some() {
                return Err(Leave::Halted);
            }
            match next_move(self.journal.ledger.next(), self.orders) {
                Move::Over => return Ok(Ended::Over(self.journal.ledger.run.state)),
                Move::Wait => self.wait()?,
                Move::Ask { phase, step } => return Ok(Ended::Choose { phase, step }),
                Move::Choose { phase, redo } => _ = self.journal.note(Note::Chose { phase, redo })?,
                Move::Do { phase, step } => self.step(phase, step)?,
            }
        }
    }

    fn step(&mut self, phase: usize, step: Step) -> Result<(), Leave> {
        if self.journal.note(Note::Began { phase, step })? {
            let outcome = self.outcome(phase, step)?;
            self.journal.note(Note::Ended { phase, step, outcome })?;
        }
        Ok(())
    }

    /// Has the step done on a thread of its own, and looks after the journal meanwhile.
    fn outcome(&mut self, phase: usize, step: Step) -> Result<Outcome, Leave> {
        let (tell, events) = mpsc::channel();
        let hands =
            Hands::new(self.journal.client(), &self.journal.ledger, phase, self.signs, self.orders, tell)?;
        let begun = clock::wall();
        signs::spawn("step", move || hands.act(step))?;
        let (mut waiting, mut left, mut failed) = (None, None, None);
        loop {
            match events.recv_timeout(LOOK) {
                Ok(Event::Done(done)) => return failed.map_or(done, Err),
                Ok(Event::Waiting { what, limit, since }) => {
                    let since = since.unwrap_or(begun);
                    waiting = Some(News::Waiting { phase, step, since, limit, what });
                }
                Err(RecvTimeoutError::Timeout) => {}
                // It broke: what became of the step is unknown, which is what letting go says.
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(RunnerError::Broke { step: step_word(step) }.into());
                }
            }
            if let Some(news) = &waiting {
                self.journal.tell(news);
            }
            match left {
                None if self.signs.halted().is_some() => left = Some(clock::now()),
                // It hears of a lost lease by the signs.
                None => match self.journal.glance() {
                    Ok(()) | Err(Leave::Halted) => {}
                    Err(why) => {
                        failed = Some(why);
                        self.signs.halt(Halt::Lost);
                    }
                },
                Some(since) if clock::now().saturating_duration_since(since) > LET_GO => {
                    return Err(failed.unwrap_or(Leave::Halted));
                }
                Some(_) => {}
            }
        }
    }

    /// For the daemon, which ends the launch by itself.
    fn wait(&mut self) -> Result<(), Leave> {
        let begun = clock::now();
        while next_move(self.journal.ledger.next(), self.orders) == Move::Wait {
            if self.signs.halted().is_some() {
                return Err(Leave::Halted);
            }
            if clock::now().saturating_duration_since(begun) > PATIENCE {
                let launch = self.journal.ledger.launch.name.clone();
                return Err(RunnerError::Stuck { launch }.into());
            }
            self.journal.read(LONG_LOOK)?;
        }
        Ok(())
    }

    fn halted(&mut self) -> Ended {
        if self.signs.halted() == Some(Halt::Interrupted) {
            return Ended::Interrupted;
        }
        // A lease ends with its launch, too.
        _ = self.journal.glance();
        match self.journal.ledger.run.state {
            state if state.is_over() => Ended::Over(state),
            _ => Ended::TakenOver,
        }
    }
}

/// What the runner does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// Begin a step.
    Do { phase: usize, step: Step },
    /// Note what was chosen beforehand.
    Choose { phase: usize, redo: bool },
    /// Ask a person.
    Ask { phase: usize, step: Step },
    /// Wait for the daemon, which ends the launch by itself.
    Wait,
    /// Nothing: it is over.
    Over,
}

/// What follows from where the launch is and from what whoever runs it said.
pub(super) fn next_move(next: Next, orders: &Orders) -> Move {
    match next {
        Next::Nothing => Move::Over,
        // Under a new lease nothing is under way; and what we began, we end before we ask again.
        Next::Await { .. } | Next::Finish(_) => Move::Wait,
        Next::Do { phase, step } => Move::Do { phase, step },
        // The other undos are not kept waiting.
        Next::Choose { phase, step: Step::Undo } => Move::Choose { phase, redo: orders.redo },
        Next::Choose { phase, .. } if orders.redo => Move::Choose { phase, redo: true },
        Next::Choose { phase, .. } if orders.undo => Move::Choose { phase, redo: false },
        Next::Choose { phase, step } => Move::Ask { phase, step },
    }
}

/// The step as commands and people are told it.
pub(super) const fn step_word(step: Step) -> &'static str {
    match step {
        Step::Validate => "validate",
        Step::Execute => "execute",
        Step::Verify => "verify",
        Step::Undo => "undo",
    }
}

/// Runs the commands of a launch's checklist, each one again, and notes what they said: before the start.
///
/// # Errors
/// When a secret is not set, the daemon refuses or is away, or somebody interrupts.
pub fn check_items(
    client: &Client,
    ledger: &Ledger,
    orders: &Orders,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<(), RunnerError> {
    let names = variables::unset(&ledger.launch);
    if !names.is_empty() {
        return Err(RunnerError::Unset { names });
    }
    let signs = Signs::new();
    signs.listen()?;
    let commands = Commands::under(&ledger.launch, &signs, orders, client.socket())?;
    let mut journal = Journal::new(client, ledger.clone(), None, signs.clone(), tell)?;
    let checked = checked(&mut journal, &commands, &signs);
    signs.end();
    match checked {
        Ok(()) => Ok(()),
        Err(Leave::Halted) => Err(RunnerError::Interrupted),
        Err(Leave::Failed(error)) => Err(error),
    }
}

fn checked(journal: &mut Journal<'_>, commands: &Commands, signs: &Signs) -> Result<(), Leave> {
    let launch = commands.launch().clone();
    for item in &launch.checklist {
        let ItemKind::Command { run, timeout } = &item.kind else { continue };
        journal.tell(&News::Checking { item: &item.id, limit: *timeout });
        let place = Place { phase: &item.id, step: "checklist" };
        let ran = commands.run(run, place, None, *timeout).ok_or(Leave::Halted)?;
        let passed = ran.verdict == Verdict::Passed;
        let said = if passed { last_line(&ran.said).to_owned() } else { ran.said };
        let request = CheckedRequest { item: item.id.clone(), passed, said };
        away::ask(&launch.name, signs, commands.runtime(), || {
            journal.client().checked(&launch.name, &request)
        })?;
        journal.read(Duration::ZERO)?;
    }
    Ok(())
}

/// Starts a launch, and takes its first lease. If the daemon goes away before it has answered, it is asked again; whether the launch was started by
/// this holder then stands on its book.
///
/// # Errors
/// The daemon's refusal: 409 with what is unmet, or that it is in progress or over. It is away for too long, or somebody interrupts.
pub fn start(client: &Client, name: &str, request: &LaunchStartRequest) -> Result<LeaseAnswer, RunnerError> {
    let mut is_again = false;
    patiently(name, || match client.start_launch(name, request) {
        Err(refusal @ ClientError::Refused { status: 409, .. }) if is_again => {
            let view = client.launch(name)?;
            let ours = view.ledger.lease.as_ref().filter(|lease| lease.holder == request.holder);
            match ours.map(|lease| lease.fence) {
                Some(fence) => Ok(LeaseAnswer { fence, view }),
                None => Err(refusal),
            }
        }
        other => {
            is_again = true;
            other
        }
    })
}

/// What the daemon knows of a launch; waits for a daemon that is away.
///
/// # Errors
/// The daemon's refusal. It is away for too long, or somebody interrupts.
pub fn view(client: &Client, name: &str) -> Result<LaunchView, RunnerError> {
    patiently(name, || client.launch(name))
}

fn patiently<T>(name: &str, call: impl FnMut() -> Result<T, ClientError>) -> Result<T, RunnerError> {
    let signs = Signs::new();
    signs.listen()?;
    let runtime = signs::runtime()?;
    let asked = away::ask(&name.into(), &signs, &runtime, call);
    signs.end();
    match asked {
        Ok(answer) => Ok(answer),
        Err(Leave::Halted) => Err(RunnerError::Interrupted),
        Err(Leave::Failed(error)) => Err(error),
    }
}

/// Has a launch undone: says so to the daemon, and if nobody attends to it takes the lease and does it. While another runner does, it only looks on.
///
/// # Errors
/// As of [`attend`]; 409 if the launch is over or has not started.
pub fn roll_back(
    client: &Client,
    name: &str,
    holder: &str,
    request: &LaunchRollbackRequest,
    orders: &Orders,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Ended, RunnerError> {
    let before = client.launch(name)?.ledger;
    let view = client.roll_back_launch(name, request)?;
    let lease = LeaseRequest { holder: holder.into(), claimed: request.claimed.clone() };
    match look_on(client, before, view, &lease, tell)? {
        Seen::Over(state) => Ok(Ended::Over(state)),
        Seen::Interrupted => Ok(Ended::Interrupted),
        Seen::Leased(answer) => attend(client, *answer, orders, tell),
    }
}

enum Seen {
    Over(State),
    Interrupted,
    Leased(Box<LeaseAnswer>),
}

/// Until it is over, or nobody attends to it and the lease is ours.
fn look_on(
    client: &Client,
    before: Ledger,
    mut view: LaunchView,
    lease: &LeaseRequest,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Seen, RunnerError> {
    let signs = Signs::new();
    signs.listen()?;
    let name = before.launch.name.clone();
    let mut journal = Journal::new(client, before, None, signs.clone(), tell)?;
    let runtime = signs::runtime()?;
    let mut look = || -> Result<Seen, Leave> {
        loop {
            journal.read(Duration::ZERO)?;
            if journal.ledger.run.state.is_over() {
                return Ok(Seen::Over(journal.ledger.run.state));
            }
            if view.unattended {
                match away::ask(&name, &signs, &runtime, || client.lease(&name, lease)) {
                    Ok(mut answer) => {
                        // So that nothing is told twice, and nothing left out.
                        journal.read(Duration::ZERO)?;
                        answer.view.ledger = journal.ledger.clone();
                        return Ok(Seen::Leased(Box::new(answer)));
                    }
                    // Somebody was faster.
                    Err(Leave::Failed(RunnerError::Client(ClientError::Refused { status: 409, .. }))) => {}
                    Err(other) => return Err(other),
                }
            }
            journal.read(LONG_LOOK)?;
            if signs.halted().is_some() {
                return Err(Leave::Halted);
            }
            view = away::ask(&name, &signs, &runtime, || client.launch(&name))?;
        }
    };
    let seen = look();
    signs.end();
    match seen {
        Ok(seen) => Ok(seen),
        Err(Leave::Halted) => Ok(Seen::Interrupted),
        Err(Leave::Failed(error)) => Err(error),
    }
}
