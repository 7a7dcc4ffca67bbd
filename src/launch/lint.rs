//! Mistakes that people make in launches.

use std::cmp::Reverse;
use std::time::Duration;

use super::plan::{Action, Breaker, Command, ItemKind, Launch, Phase, Tier, Undo, Variable};
use crate::rollout::{Mistake, Severity, lint as lint_plan, schedule};
use crate::traffic::Weight;

/// More than this at first is no small step where much hangs on it.
const FIRST_WEIGHT_MAX: u32 = 25;
/// Fewer requests than this say nothing about a share of a few percent.
const MIN_REQUESTS_MIN: u64 = 10;
/// Words of steps that add and take nothing away: what they did harms nobody.
const ADDS: [&str; 12] = [
    "expand", "add", "create", "backup", "snapshot", "announce", "notify", "check", "test", "smoke", "warm",
    "verify",
];
/// Words of steps that take away what old code still needs.
const TAKES_AWAY: [&str; 4] = ["contract", "drop", "truncate", "cleanup"];

/// What is allowed in a launch, and hardly ever right; the worst first. What plans of its rollouts say is looked at by whoever can read
/// them.
pub fn lint(launch: &Launch) -> Vec<Mistake> {
    let mut found = Found { launch, mistakes: Vec::new() };
    found.readiness();
    found.breaker();
    found.undos();
    found.commands();
    found.traffic();
    found.contract();
    found.mistakes.sort_by_key(|mistake| Reverse(mistake.severity));
    found.mistakes
}

struct Found<'l> {
    launch: &'l Launch,
    mistakes: Vec<Mistake>,
}

impl Found<'_> {
    fn add(
        &mut self,
        severity: Severity,
        place: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        let (place, what, cure) = (place.into(), what.into(), cure.into());
        self.mistakes.push(Mistake { place, what, cure, severity });
    }

    fn is_critical(&self) -> bool {
        self.launch.tier == Tier::Critical
    }

    /// A warning, or a danger where much hangs on it.
    fn risk(&self) -> Severity {
        if self.is_critical() { Severity::Danger } else { Severity::Warning }
    }

    fn readiness(&mut self) {
        if !self.is_critical() {
            return;
        }
        let launch = self.launch;
        let mut missing = |is_missing: bool, place: &str, what: &str, cure: &str| {
            if is_missing {
                self.add(Severity::Warning, place, what, cure);
            }
        };
        missing(
            launch.window.is_none(),
            "window",
            "a critical launch may start at any time",
            "add a window in which the people who can help are there",
        );
        missing(
            launch.go_nogo.is_none(),
            "go_nogo",
            "nobody has to say go to a critical launch",
            "add go_nogo: {roles: [tech-lead, devops]}",
        );
        missing(
            launch.checklist.is_empty(),
            "checklist",
            "nothing has to be true before a critical launch",
            "add what people check by heart, such as {id: db-backup, sign: devops, evidence: required}",
        );
        missing(
            launch.rollback_within.is_none(),
            "rollback_within",
            "nobody said how long a rollback may take",
            "add it, such as rollback_within: 5m; undos are bounded by it",
        );
        let unproven =
            |item: &&super::plan::Item| matches!(item.kind, ItemKind::Person { evidence: false, .. });
        let unproven: Vec<_> = launch.checklist.iter().filter(unproven).map(|item| item.id.clone()).collect();
        for item in unproven {
            let cure = "add evidence: required, and sign with what proves it";
            self.add(
                Severity::Note,
                format!("checklist.{item}"),
                "is signed without anything that proves it",
                cure,
            );
        }
    }

    fn breaker(&mut self) {
        let Breaker { error_rate, latency_p99, health_check_failures, min_requests, .. } =
            self.launch.breaker;
        let moves = self.launch.phases.iter().any(|phase| phase.action.gives_weight());
        if error_rate.is_none() && latency_p99.is_none() && health_check_failures.is_none() {
            let severity = match self.launch.tier {
                Tier::Critical => Severity::Danger,
                Tier::Standard => Severity::Warning,
                Tier::Internal => Severity::Note,
            };
            if moves {
                let cure = "add breaker: {error_rate: 2%, latency_p99: 800ms, health_check_failures: 3}";
                self.add(severity, "breaker", "nothing ends the launch at once when it goes wrong", cure);
            }
            return;
        }
        if error_rate.is_some_and(|rate| rate <= 0.0) {
            let what = "hard-coded at 0: the first request that fails ends the launch";
            self.add(Severity::Warning, "breaker.error_rate", what, "write how much is too much, such as 2%");
        }
        if latency_p99.is_some_and(|latency| latency.is_zero()) {
            let what = "hard-coded at 0: the first request ends the launch";
            self.add(
                Severity::Warning,
                "breaker.latency_p99",
                what,
                "write how long is too long, such as 800ms",
            );
        }
        if error_rate.is_some() && min_requests < MIN_REQUESTS_MIN {
            let what = format!("{min_requests} requests decide about a share");
            self.add(Severity::Note, "breaker.min_requests", what, "write 50 or more");
        }
    }

    fn undos(&mut self) {
        for phase in &self.launch.phases {
            let place = format!("phases.{}.undo", phase.id);
            match (&phase.action, &phase.undo) {
                (Action::Command { .. }, Undo::None) if !smells(phase, &ADDS) && !takes_away(phase) => {
                    let cure = "write the command that undoes it; undo: none is for what adds and takes nothing away";
                    self.add(self.risk(), place, "nothing undoes it", cure);
                }
                (Action::Rollout(_) | Action::Shift { .. }, Undo::None) => {
                    let what = "the candidate keeps its traffic when the launch is undone";
                    self.add(Severity::Danger, place, what, "leave undo out: traffic is taken away then");
                }
                _ => {}
            }
            // Once old code cannot come back, undoing what came before is no way out.
            if !phase.rollback_on_failure && phase.action != Action::Synthetic && !takes_away(phase) {
                let what = "its failure leaves the release half done";
                let cure = "leave it out, unless somebody is there to repair it by hand";
                let place = format!("phases.{}.rollback_on_failure", phase.id);
                self.add(Severity::Warning, place, what, cure);
            }
        }
    }

    fn commands(&mut self) {
        for phase in &self.launch.phases {
            let Action::Command { run } = &phase.action else { continue };
            if phase.verify().is_empty() {
                let cure = "add verify: what has to be true afterwards, such as [{http_status: /up}]";
                let what = "nobody looks whether it worked";
                self.add(Severity::Warning, format!("phases.{}.verify", phase.id), what, cure);
            }
            let undo = match &phase.undo {
                Undo::Command { run } => Some(run),
                Undo::None | Undo::DisableTraffic | Undo::Shift { .. } => None,
            };
            for (key, run) in [("do", Some(run)), ("undo", undo)] {
                if let Some(name) = run.and_then(|run| self.secret_of(run)) {
                    let what =
                        format!("{name} is an argument: whoever lists the processes of the machine sees it");
                    let cure = "let the command read it from its environment";
                    self.add(Severity::Warning, format!("phases.{}.{key}", phase.id), what, cure);
                }
            }
        }
    }

    /// A secret that is among a command's arguments.
    fn secret_of(&self, run: &Command) -> Option<String> {
        let Command::Argv(words) = run else { return None };
        let mut secrets = self.launch.variables.iter().filter(|(_, variable)| **variable == Variable::Secret);
        secrets
            .find(|(name, _)| words.iter().any(|word| word.contains(&format!("${{{name}}}"))))
            .map(|(name, _)| name.to_string())
    }

    fn traffic(&mut self) {
        let phases = &self.launch.phases;
        let giving = || phases.iter().enumerate().filter(|(_, phase)| phase.action.gives_weight());
        let Some((first, phase)) = giving().next() else { return };
        self.first_weight(phase);
        let is_asked = !self.launch.synthetic.is_empty()
            || self.launch.warmup.is_some()
            || !phase.check.is_empty()
            || phases[..first]
                .iter()
                .any(|phase| phase.action == Action::Synthetic || !phase.verify().is_empty());
        if !is_asked {
            let cure = "add a check, synthetic checks or a warmup";
            let what = "nobody asks the candidate anything before its first weight";
            self.add(self.risk(), format!("phases.{}", phase.id), what, cure);
        }
        for (at, phase) in giving() {
            if let Action::Shift { weight } = phase.action {
                let is_watched = phases[at + 1..].iter().take_while(|next| !next.action.gives_weight());
                let is_watched = is_watched.into_iter().any(is_observation);
                if !is_watched {
                    let what = format!("no gate says whether {weight} went well before it goes on");
                    let cure = "use a rollout, or let time go by after it under the breaker, such as {id: watch, for: 15m}";
                    self.add(self.risk(), format!("phases.{}.shift", phase.id), what, cure);
                }
            }
        }
        let Some((last, phase)) = giving().next_back() else { return };
        let place = format!("phases.{}", phase.id);
        let is_taken_back = phases[last + 1..].iter().any(|phase| phase.action == Action::DisableTraffic);
        if is_taken_back {
            return;
        }
        match phase.action {
            Action::Shift { weight } if weight < Weight::FULL => {
                let what = format!("the split stays at {weight} when the launch is over");
                let cure = "add a shift to 100%, or a rollout; split.expires of the service reminds you of what is left";
                self.add(Severity::Warning, place, what, cure);
            }
            _ if !phases[last + 1..].iter().any(is_observation) => {
                let cure =
                    "let time go by at the end, such as {id: observe, for: 30m}: what comes late comes then";
                self.add(self.risk(), place, "nothing is observed once everybody is on it", cure);
            }
            _ => {}
        }
    }

    fn first_weight(&mut self, phase: &Phase) {
        let small = Weight::from_percent(FIRST_WEIGHT_MAX).unwrap_or(Weight::FULL);
        match &phase.action {
            Action::Shift { weight } => {
                let place = format!("phases.{}.shift", phase.id);
                let cure = "use a rollout with small steps, such as rollout: payment";
                if self.is_critical() && *weight > small {
                    let what = format!("the first step of a critical launch is {weight}");
                    self.add(Severity::Danger, place, what, cure);
                } else if *weight == Weight::FULL && self.launch.tier == Tier::Standard {
                    self.add(Severity::Warning, place, "everybody at once, in one step", cure);
                }
            }
            Action::Rollout(rollout) => {
                let Some(plan) = rollout.schedule.as_deref().and_then(schedule) else { return };
                for mistake in lint_plan(&plan, self.is_critical()) {
                    let place = format!("phases.{}.rollout", phase.id);
                    self.add(mistake.severity, place, mistake.what, mistake.cure);
                }
            }
            Action::Command { .. } | Action::DisableTraffic | Action::Synthetic | Action::Observe { .. } => {}
        }
    }

    /// What old code still needs is taken away only when no old code has traffic any more, and that was looked at.
    fn contract(&mut self) {
        let (mut full, mut observed) = (false, Duration::ZERO);
        for phase in &self.launch.phases {
            match &phase.action {
                Action::Rollout(_) => full = true,
                Action::Shift { weight } => full = *weight == Weight::FULL,
                Action::DisableTraffic => full = false,
                Action::Observe { lasts } if full => observed += *lasts,
                Action::Command { .. } if takes_away(phase) => {
                    let place = format!("phases.{}", phase.id);
                    if !full {
                        let what = "it takes away what old code needs, while old code has traffic";
                        let cure = "put it after 100% and an observation, or into a launch of its own";
                        self.add(Severity::Danger, place, what, cure);
                    } else if observed.is_zero() {
                        let what = "it takes away what a rollback needs, before the new version was observed";
                        let cure = "put an observation before it, such as {id: observe, for: 30m}";
                        self.add(self.risk(), place, what, cure);
                    }
                }
                Action::Command { .. } | Action::Synthetic | Action::Observe { .. } => {}
            }
        }
    }
}

fn is_observation(phase: &Phase) -> bool {
    matches!(phase.action, Action::Observe { .. })
}

/// Whether a phase takes away what old code needs. Contract tests do not.
fn takes_away(phase: &Phase) -> bool {
    smells(phase, &TAKES_AWAY) && !smells(phase, &["test", "tests", "pact"])
}

/// Whether one of these words is in what a phase is called or runs.
fn smells(phase: &Phase, of: &[&str]) -> bool {
    let texts: Vec<&str> = match &phase.action {
        Action::Command { run: Command::Argv(words) } => words.iter().map(|word| &**word).collect(),
        Action::Command { run: Command::Shell(line) } => vec![line],
        _ => Vec::new(),
    };
    let named = [Some(&phase.id), phase.title.as_ref()].into_iter().flatten().map(|text| &**text);
    texts.into_iter().chain(named).any(|text| {
        let text = text.to_ascii_lowercase();
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| of.contains(&word))
    })
}
