//! One step, done on a thread of its own.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::Orders;
use super::attend::step_word;
use super::away::{self, Leave};
use super::check::{self, Asking};
use super::command::{Commands, Place};
use super::error::RunnerError;
use super::output::{bounded, last_line};
use super::signs::{Rest, Signs};
use super::variables;
use crate::admin::client::{Client, ClientError};
use crate::clock::{self, Timestamp};
use crate::launch::{
    Action, Check, CheckKind, Command, Entry, Launch, Ledger, Outcome, Phase, PhaseRun, Step, Undo, Verdict,
};
use crate::rollout::span;
use crate::traffic::Variant;

/// What a step says to whoever looks after it.
pub(super) enum Event {
    /// What it waits for.
    Waiting { what: String, limit: Option<Duration>, since: Option<Timestamp> },
    /// What came of it. The last one.
    Done(Result<Outcome, Leave>),
}

/// How a step ends, and why.
pub(super) type Found = (Verdict, String);

/// Does a step of a phase.
pub(super) struct Hands {
    pub(super) client: Client,
    pub(super) ledger: Ledger,
    pub(super) commands: Commands,
    pub(super) signs: Signs,
    /// Which, from 0.
    pub(super) at: usize,
    /// When the step began.
    begun: Instant,
    events: Sender<Event>,
}

impl Hands {
    pub(super) fn new(
        client: &Client,
        ledger: &Ledger,
        at: usize,
        signs: &Signs,
        orders: &Orders,
        events: Sender<Event>,
    ) -> Result<Self, RunnerError> {
        Ok(Self {
            client: client.another()?,
            ledger: ledger.clone(),
            commands: Commands::under(&ledger.launch, signs, orders, client.socket())?,
            signs: signs.clone(),
            at,
            begun: clock::now(),
            events,
        })
    }

    /// Does it, and says what came of it.
    pub(super) fn act(&self, step: Step) {
        let found = match (self.ledger.launch.phases.get(self.at), self.ledger.run.phases.get(self.at)) {
            (Some(phase), Some(run)) => match step {
                Step::Validate => self.validate(phase),
                Step::Execute => self.execute(phase, run),
                Step::Verify => self.ask_all(phase.verify(), step),
                Step::Undo => self.undo(phase),
            },
            _ => Ok((Verdict::Failed, "there is no such phase".to_owned())),
        };
        // What the daemon refuses is how the step ended: other phases are undone all the same.
        let found = match found {
            Err(Leave::Failed(RunnerError::Client(refused @ ClientError::Refused { .. }))) => {
                Ok((Verdict::Failed, refused.to_string()))
            }
            other => other,
        };
        let took = clock::now().saturating_duration_since(self.begun).as_millis();
        let took_ms = u64::try_from(took).unwrap_or(u64::MAX);
        // Who was asked may have repeated what it was asked with.
        let secrets = variables::secrets(self.launch());
        let done =
            found.map(|(verdict, said)| Outcome { verdict, said: bounded(secrets.mask(&said)), took_ms });
        // Whoever does not listen any more has let go.
        _ = self.events.send(Event::Done(done));
    }

    fn validate(&self, phase: &Phase) -> Result<Found, Leave> {
        let asked = self.ask_all(&phase.check, Step::Validate)?;
        let first = self.launch().phases.iter().position(|phase| phase.action.gives_weight());
        if asked.0 != Verdict::Passed || first != Some(self.at) {
            return Ok(asked);
        }
        let mut said = vec![asked.1];
        for prepare in [Self::warm_up, Self::synthetic_before] {
            let (verdict, what) = prepare(self)?;
            if verdict != Verdict::Passed {
                return Ok((verdict, what));
            }
            said.push(what);
        }
        said.retain(|what| !what.is_empty());
        Ok((Verdict::Passed, said.join("\n")))
    }

    /// Every check, also after one that says no: people want to know all of it at once.
    fn ask_all(&self, checks: &[Check], step: Step) -> Result<Found, Leave> {
        let (mut verdict, mut yes, mut no) = (Verdict::Passed, Vec::new(), Vec::new());
        for check in checks {
            let kind = check.kind.as_str();
            if let Some(why) = self.signs.stopped() {
                return Ok(stopped(&why));
            }
            self.waiting(format!("asking {kind}"), Some(check.timeout), None);
            let outcome = self.ask(check, step)?;
            match outcome.verdict {
                Verdict::Passed => yes.push(format!("{kind}: {}", last_line(&outcome.said))),
                Verdict::Failed => {
                    verdict = Verdict::Failed;
                    no.push(format!("{kind}: {}", outcome.said));
                }
                Verdict::TimedOut => {
                    if verdict == Verdict::Passed {
                        verdict = Verdict::TimedOut;
                    }
                    no.push(format!("{kind}: {}", outcome.said));
                }
            }
        }
        Ok((verdict, if no.is_empty() { yes } else { no }.join("\n")))
    }

    fn ask(&self, check: &Check, step: Step) -> Result<Outcome, Leave> {
        let outcome = self.ask_once(check, step)?;
        let needs_daemon = matches!(check.kind, CheckKind::HttpStatus(_));
        let is_away =
            || matches!(self.client.service(&self.launch().service), Err(error) if away::is_away(&error));
        if outcome.verdict != Verdict::Passed && needs_daemon && is_away() {
            self.service()?;
            return self.ask_once(check, step);
        }
        Ok(outcome)
    }

    fn ask_once(&self, check: &Check, step: Step) -> Result<Outcome, Leave> {
        let launch = self.launch();
        let place = self.place(step);
        let mut was_cut = false;
        let mut run = |command: &Command, input: Option<Vec<u8>>, limit: Duration| {
            self.commands.run(command, place, input, limit).unwrap_or_else(|| {
                was_cut = true;
                Outcome { verdict: Verdict::Failed, said: String::new(), took_ms: 0 }
            })
        };
        let outcome = check::ask(
            check,
            &mut Asking {
                launch,
                candidate: self.candidate(),
                expand: &|text| variables::expand(launch, text),
                client: Some(&self.client),
                run: &mut run,
                folder: self.commands.folder(),
            },
        );
        if was_cut { Err(Leave::Halted) } else { Ok(outcome) }
    }

    fn execute(&self, phase: &Phase, run: &PhaseRun) -> Result<Found, Leave> {
        // Only rollouts have none.
        let limit = phase.timeout.unwrap_or(Duration::MAX);
        match &phase.action {
            Action::Command { run } => self.command(run, Step::Execute, limit),
            Action::Rollout(rollout) => self.roll_out(rollout, run.since, phase.timeout),
            Action::Shift { weight } => self.shift(*weight, false),
            Action::DisableTraffic => self.disable_traffic(limit),
            Action::Synthetic => self.synthetic(limit),
            Action::Observe { lasts } => self.observe(*lasts, run.executed),
        }
    }

    fn undo(&self, phase: &Phase) -> Result<Found, Leave> {
        let limit = phase.undo_timeout;
        match &phase.undo {
            Undo::None => Ok((Verdict::Passed, String::new())),
            Undo::Command { run } => self.command(run, Step::Undo, limit),
            Undo::DisableTraffic => self.disable_traffic(limit),
            Undo::Shift { weight } => self.shift_back(*weight, limit),
        }
    }

    fn command(&self, command: &Command, step: Step, limit: Duration) -> Result<Found, Leave> {
        self.waiting(format!("running {}", shown(command)), Some(limit), None);
        let outcome = self.commands.run(command, self.place(step), None, limit).ok_or(Leave::Halted)?;
        let said = match outcome.verdict {
            Verdict::Passed => last_line(&outcome.said).to_owned(),
            Verdict::Failed | Verdict::TimedOut => outcome.said,
        };
        Ok((outcome.verdict, said))
    }

    /// Lets time go by from when this phase's action began the first time: whoever resumes goes on, the gates were armed meanwhile.
    fn observe(&self, lasts: Duration, began: Option<Timestamp>) -> Result<Found, Leave> {
        let first = self.first_began()?.or(began);
        // By the daemon's clock up to this beginning, by ours from there on.
        let before = match (began, first) {
            (Some(began), Some(first)) => began.since(first),
            _ => Duration::ZERO,
        };
        self.waiting("observing".to_owned(), Some(lasts), first);
        loop {
            let now = clock::now().saturating_duration_since(self.begun);
            let left = lasts.saturating_sub(before.saturating_add(now));
            if left.is_zero() {
                return Ok((Verdict::Passed, format!("observed for {}", span(lasts))));
            }
            match self.rest(left) {
                Rest::Over => {}
                Rest::Halted => return Err(Leave::Halted),
                Rest::Stopped(why) => return Ok(stopped(&why)),
            }
        }
    }

    fn first_began(&self) -> Result<Option<Timestamp>, Leave> {
        let is_first = |entry: &Entry| *entry == Entry::Began { phase: self.at, step: Step::Execute };
        let mut after = 0;
        while after < self.ledger.seq {
            let page = self.ask_daemon(|| self.client.records(&self.launch().name, after, Duration::ZERO))?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            if let Some(record) = page.iter().find(|record| is_first(&record.entry)) {
                return Ok(Some(record.at));
            }
        }
        Ok(None)
    }

    pub(super) fn launch(&self) -> &Launch {
        &self.ledger.launch
    }

    /// The place that the new version comes to, whatever its role is now. Known from the start on.
    pub(super) fn candidate(&self) -> Variant {
        self.ledger.candidate.unwrap_or(Variant::Green)
    }

    fn place(&self, step: Step) -> Place<'_> {
        let phase = self.launch().phases.get(self.at).map_or("", |phase| &phase.id);
        Place { phase, step: step_word(step) }
    }

    pub(super) fn waiting(&self, what: String, limit: Option<Duration>, since: Option<Timestamp>) {
        _ = self.events.send(Event::Waiting { what, limit, since });
    }

    pub(super) fn rest(&self, pause: Duration) -> Rest {
        self.signs.rest(self.commands.runtime(), pause)
    }

    /// Whether so much time has gone by since the step began.
    pub(super) fn is_late(&self, limit: Duration) -> bool {
        clock::now().saturating_duration_since(self.begun) >= limit
    }

    /// Asks the daemon, and waits for it while it is away.
    pub(super) fn ask_daemon<T>(&self, call: impl FnMut() -> Result<T, ClientError>) -> Result<T, Leave> {
        away::ask(&self.launch().name, &self.signs, self.commands.runtime(), call)
    }

    /// The same; a refusal is a sentence.
    pub(super) fn ask_or_refusal<T>(
        &self,
        call: impl FnMut() -> Result<T, ClientError>,
    ) -> Result<Result<T, String>, Leave> {
        match self.ask_daemon(call) {
            Ok(answer) => Ok(Ok(answer)),
            Err(Leave::Failed(RunnerError::Client(refused @ ClientError::Refused { .. }))) => {
                Ok(Err(refused.to_string()))
            }
            Err(other) => Err(other),
        }
    }

    /// The text with its variables filled in.
    pub(super) fn expand(&self, text: &str) -> Result<String, String> {
        variables::expand(self.launch(), text)
    }
}

/// How a wait ends that is not to be waited for any more.
pub(super) fn stopped(why: &str) -> Found {
    (Verdict::Failed, format!("stopped: {why}"))
}

/// A command as it is written, so without secrets; of several lines the first.
fn shown(command: &Command) -> String {
    match command {
        Command::Argv(argv) => argv.join(" "),
        Command::Shell(text) => text.trim().lines().next().unwrap_or_default().to_owned(),
    }
}
