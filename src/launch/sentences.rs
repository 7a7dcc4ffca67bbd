//! A launch's journal as people write it in the war room: one line a record, with the figures of that minute.
//!
//! ```text
//! 14:03:21  deploy     ✓ verified in 12 s        green 5 % · 412 req/s · err 0.02 % · p95 38 ms
//! ```
//!
//! A line has no colour and no width: who shows it knows the terminal. What came from outside has lost its control characters.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::entry::{Entry, Outcome, Record, Step, Stop, Told, Verdict};
use super::figures::{Figures, VariantFigures};
use super::ledger::Ledger;
use super::phrases::{quoted, share};
use super::plan::Launch;
use super::run::State;
use crate::clock::Timestamp;
use crate::traffic::{Variant, Weight};
use crate::wording::{grouped, millis, printable, rate, ratio, span};

/// One record as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// When.
    pub at: Timestamp,
    /// The phase, or what else it is about: `launch`, `checklist`, `vote`, `traffic`, `breaker`, `people`.
    pub about: Arc<str>,
    /// Whether it is good news.
    pub mark: Mark,
    /// What happened, in one line.
    pub text: String,
    /// What the service did in that minute, in one line.
    pub figures: Option<String>,
    /// What was said on a failure, beyond the first line.
    pub more: Vec<String>,
    /// Whether a story can do without it.
    pub is_quiet: bool,
}

/// What kind of news a sentence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It went well.
    Good,
    /// It did not.
    Bad,
    /// It begins.
    Begun,
    /// It is only said.
    Note,
}

impl Mark {
    /// A sign, one column wide.
    pub const fn sign(self, ascii: bool) -> &'static str {
        match (self, ascii) {
            (Self::Good, false) => "✓",
            (Self::Bad, false) => "✗",
            (Self::Begun, false) => "▸",
            (Self::Note, false) => "·",
            (Self::Good, true) => "+",
            (Self::Bad, true) => "x",
            (Self::Begun, true) => ">",
            (Self::Note, true) => "-",
        }
    }
}

/// How lines are written.
#[derive(Clone, Debug)]
pub struct Form {
    /// The zone of the times.
    pub zone: TimeZone,
    /// Only ASCII, for terminals that show nothing else.
    pub ascii: bool,
    /// How wide the column of phases is.
    pub column: usize,
}

impl Form {
    /// In UTC, with columns that fit the launch.
    pub fn of(launch: &Launch) -> Self {
        const WIDTH: std::ops::RangeInclusive<usize> = 9..=24;
        let widest = launch.phases.iter().map(|phase| phase.id.chars().count()).max().unwrap_or(0);
        Self { zone: TimeZone::UTC, ascii: false, column: widest.clamp(*WIDTH.start(), *WIDTH.end()) }
    }

    /// `14:03:21`.
    pub fn time(&self, at: Timestamp) -> String {
        let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(at) => at.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string(),
            Err(_) => at.to_string(),
        }
    }

    /// The text in ASCII, if that is asked for.
    pub fn text(&self, text: &str) -> String {
        if self.ascii { in_ascii(text) } else { text.to_owned() }
    }
}

/// The text without anything that is not ASCII: what has a likeness becomes it, the rest a question mark.
pub fn in_ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_ascii() => plain.push(c),
            '✓' => plain.push('+'),
            '✗' => plain.push('x'),
            '▸' => plain.push('>'),
            '█' => plain.push('#'),
            '░' => plain.push('.'),
            '·' => plain.push('|'),
            '–' | '−' => plain.push('-'),
            '…' => plain.push_str("..."),
            '→' => plain.push_str("->"),
            '×' => plain.push('*'),
            '≤' => plain.push_str("<="),
            '“' | '”' => plain.push('"'),
            '’' => plain.push('\''),
            _ => plain.push('?'),
        }
    }
    plain
}

impl Sentence {
    /// As one line without a line feed.
    pub fn line(&self, form: &Form) -> String {
        const TEXT_WIDTH: usize = 24;
        let Self { at, about, mark, text, figures, .. } = self;
        let (time, sign) = (form.time(*at), mark.sign(form.ascii));
        let (about, text) = (form.text(about), form.text(text));
        let column = form.column;
        match figures.as_ref().map(|figures| form.text(figures)) {
            None => format!("{time}  {about:<column$}  {sign} {text}"),
            Some(figures) => format!("{time}  {about:<column$}  {sign} {text:<TEXT_WIDTH$}   {figures}"),
        }
    }
}

/// Tells records in their order; it knows what the records before have said.
#[derive(Clone, Debug, Default)]
pub struct Story {
    launch: Option<Arc<Launch>>,
    candidate: Option<Variant>,
    started: Option<Timestamp>,
    stopped: Option<Timestamp>,
}

impl Story {
    /// From the first record on.
    pub fn new() -> Self {
        Self::default()
    }

    /// From here on.
    pub fn after(ledger: &Ledger) -> Self {
        let Ledger { launch, run, candidate, .. } = ledger;
        Self {
            launch: Some(launch.clone()),
            candidate: *candidate,
            started: run.started,
            stopped: run.stopped_at,
        }
    }

    /// The record as a sentence.
    pub fn tell(&mut self, record: &Record) -> Sentence {
        let (about, mark, text) = self.told(record);
        let (text, more) = match &record.entry {
            Entry::Ended { outcome, .. } if outcome.verdict != Verdict::Passed => (text, rest(&outcome.said)),
            Entry::Checked { passed: false, said, .. } => (text, rest(said)),
            _ => (text, Vec::new()),
        };
        Sentence {
            at: record.at,
            about: printable(&about).into(),
            mark,
            text: printable(&text),
            figures: record.figures.as_ref().map(told_figures),
            more,
            is_quiet: self.is_quiet(&record.entry),
        }
    }

    fn told(&mut self, record: &Record) -> (Arc<str>, Mark, String) {
        use Mark::{Bad, Begun, Good, Note};
        let who = who(record);
        let launch = || Arc::from("launch");
        match &record.entry {
            Entry::Planned { launch: planned } => {
                let is_change = self.launch.replace(planned.clone()).is_some();
                let text = match is_change {
                    true => format!("changed by {who}: signatures and votes are void"),
                    false => format!("on the book by {who}: {}", outline(planned)),
                };
                (launch(), Note, text)
            }
            Entry::Signed { item, role, evidence } => {
                let evidence =
                    evidence.as_ref().map(|text| format!(": {}", quoted(text))).unwrap_or_default();
                ("checklist".into(), Good, format!("{item} signed by {who} as {role}{evidence}"))
            }
            Entry::Checked { item, passed: true, .. } => {
                ("checklist".into(), Good, format!("{item} checked by its command"))
            }
            Entry::Checked { item, passed: false, said } => {
                ("checklist".into(), Bad, format!("{item} was checked: no{}", because(said)))
            }
            Entry::Voted { role, go, note } => {
                let note = note.as_ref().map(|note| format!(": {}", quoted(note))).unwrap_or_default();
                let (mark, vote) = if *go { (Good, "go") } else { (Bad, "no-go") };
                ("vote".into(), mark, format!("{role} says {vote} ({who}){note}"))
            }
            Entry::Started { candidate, holder, unmet, reason } => {
                (self.candidate, self.started) = (Some(*candidate), Some(record.at));
                let mut text = format!("started by {who}, run by {holder}, to {candidate}");
                if !unmet.is_empty() {
                    text.push_str(&format!("; overridden: {}", unmet.join("; ")));
                }
                if let Some(reason) = reason {
                    text.push_str(&format!(" ({})", quoted(reason)));
                }
                (launch(), Begun, text)
            }
            Entry::Leased { holder } => {
                (launch(), Note, format!("taken over by {holder}: what was under way is unknown"))
            }
            Entry::Unattended { released: true } => {
                (launch(), Note, "unattended: its runner let go; gates stay armed".to_owned())
            }
            Entry::Unattended { released: false } => {
                (launch(), Bad, "unattended: its runner is not heard of; gates stay armed".to_owned())
            }
            Entry::Attended => (launch(), Note, "attended again by the same runner".to_owned()),
            Entry::Began { phase, step } => (self.phase(*phase), Begun, self.begun(*phase, *step)),
            Entry::Ended { phase, step, outcome } => {
                let mark = if outcome.verdict == Verdict::Passed { Good } else { Bad };
                (self.phase(*phase), mark, ended(*step, outcome))
            }
            Entry::Chose { phase, redo } => {
                let choice = if *redo { "do it again" } else { "do not do it again" };
                (self.phase(*phase), Note, format!("{who} chose: {choice}"))
            }
            Entry::Stopped { why } => {
                self.stopped.get_or_insert(record.at);
                match why {
                    Stop::Phase { phase } => {
                        (launch(), Bad, format!("rolling back: phase {} failed", self.phase(*phase)))
                    }
                    Stop::Breaker { sentence } => {
                        let candidate = self.candidate.map_or("the candidate", Variant::as_str);
                        let text = format!("{sentence}: {candidate} to 0 %, locked, rolling back");
                        ("breaker".into(), Bad, text)
                    }
                    Stop::Person { reason } => {
                        let reason =
                            reason.as_ref().map(|text| format!(": {}", quoted(text))).unwrap_or_default();
                        (launch(), Bad, format!("rolling back: {who} said so{reason}"))
                    }
                }
            }
            Entry::Minute(minute) => {
                let mut text = format!(
                    "{} requests in {}, {} failed",
                    grouped(minute.requests()),
                    span(Duration::from_millis(minute.span_ms)),
                    grouped(minute.failures())
                );
                if minute.down_seconds > 0 {
                    text.push_str(&format!("; all of them in {} s", grouped(minute.down_seconds)));
                }
                ("traffic".into(), if minute.down_seconds > 0 { Bad } else { Note }, text)
            }
            Entry::Told { about } => self.told_people(about),
            Entry::Finished { state } => {
                let mark = if *state == State::Completed { Good } else { Bad };
                let since = |at: Option<Timestamp>| {
                    at.map(|at| span(whole(record.at.since(at)))).unwrap_or_else(|| "no time".to_owned())
                };
                let text = match (state, self.stopped) {
                    (State::RolledBack, Some(at)) => {
                        format!(
                            "ROLLED_BACK within {}, {} after the start",
                            since(Some(at)),
                            since(self.started)
                        )
                    }
                    (State::Failed, Some(_)) => {
                        format!("FAILED after {}: not everything could be undone", since(self.started))
                    }
                    _ => format!("{} after {}", state.as_str(), since(self.started)),
                };
                (launch(), mark, text)
            }
        }
    }

    fn told_people(&self, about: &Told) -> (Arc<str>, Mark, String) {
        let people = || Arc::from("people");
        match about {
            Told::Before { ms } => {
                let text = format!("told: it starts in {}", span(Duration::from_millis(*ms)));
                (people(), Mark::Note, text)
            }
            Told::Progress => (people(), Mark::Note, "told how it is going".to_owned()),
            Told::Overdue { what } => (people(), Mark::Bad, format!("told: {what} is overdue")),
            Told::FlagsOff { done } => {
                let flags = self.launch.as_ref().and_then(|launch| launch.flags.as_ref());
                let names = flags.map(|flags| format!(" {}", flags.names.join(", "))).unwrap_or_default();
                match done {
                    true => ("breaker".into(), Mark::Good, format!("flags{names} switched off")),
                    false => {
                        let text = format!("flags{names} NOT switched off: the hook did not say yes");
                        ("breaker".into(), Mark::Bad, text)
                    }
                }
            }
        }
    }

    fn phase(&self, at: usize) -> Arc<str> {
        let phase = self.launch.as_ref().and_then(|launch| launch.phases.get(at));
        phase.map_or_else(|| format!("phase {}", at.saturating_add(1)).into(), |phase| phase.id.clone())
    }

    fn begun(&self, at: usize, step: Step) -> String {
        let Some(phase) = self.launch.as_ref().and_then(|launch| launch.phases.get(at)) else {
            return format!("{} begins", step.as_str());
        };
        match step {
            Step::Validate => format!("validating{}", checks(phase.check.len())),
            Step::Execute => phase.action.to_string(),
            Step::Verify => format!("verifying{}", checks(phase.verify().len())),
            Step::Undo => format!("undoing: {}", phase.undo),
        }
    }

    /// What is known from the line after it, or comes by the clock.
    fn is_quiet(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Minute(minute) => minute.down_seconds == 0,
            Entry::Told { about } => *about == Told::Progress,
            Entry::Began { step: Step::Validate | Step::Verify, .. } => true,
            Entry::Ended { phase, step, outcome } => {
                let launch = self.launch.as_ref();
                let phase = launch.and_then(|launch| launch.phases.get(*phase));
                let is_empty = phase.is_some_and(|phase| phase.check.is_empty());
                *step == Step::Validate && outcome.verdict == Verdict::Passed && is_empty
            }
            Entry::Planned { .. }
            | Entry::Signed { .. }
            | Entry::Checked { .. }
            | Entry::Voted { .. }
            | Entry::Started { .. }
            | Entry::Leased { .. }
            | Entry::Unattended { .. }
            | Entry::Attended
            | Entry::Began { .. }
            | Entry::Chose { .. }
            | Entry::Stopped { .. }
            | Entry::Finished { .. } => false,
        }
    }
}

/// `green 5 % · 412 req/s · err 0.02 % · p95 38 ms`: of both variants, and the candidate's own where it does worse.
pub fn told_figures(figures: &Figures) -> String {
    let all = together(figures);
    let mut parts = Vec::new();
    let shown = figures.candidate.filter(|_| figures.weight > Weight::ZERO);
    if let Some(candidate) = figures.candidate {
        parts.push(format!("{candidate} {}", share(figures.weight)));
    }
    parts.push(format!("{} req/s", rate(all.rate)));
    let own = shown.map(|candidate| (candidate, figures.variants[candidate]));
    let own = own.filter(|(_, own)| own.rate > 0.0);
    if all.rate > 0.0 || all.failure_ratio.is_some() {
        let worse = own.filter(|(_, own)| {
            let (own, all) = (own.failure_ratio.unwrap_or(0.0), all.failure_ratio.unwrap_or(0.0));
            own > 2.0 * all && own > all + 0.001
        });
        parts.push(match worse {
            None => format!("err {}", ratio(all.failure_ratio)),
            Some((place, own)) => {
                format!("err {} ({place} {})", ratio(all.failure_ratio), ratio(own.failure_ratio))
            }
        });
    }
    if let Some(p95) = all.p95_us {
        let ms = |us: u64| millis(Some(us as f64 / 1000.0));
        let worse = own.and_then(|(place, own)| {
            let stable = figures.variants[place.other()].p95_us?;
            own.p95_us.filter(|own| *own > stable.saturating_add(stable / 2)).map(|own| (place, stable, own))
        });
        parts.push(match worse {
            None => format!("p95 {}", ms(p95)),
            Some((place, stable, own)) => format!("p95 {} ({place} {})", ms(stable), ms(own)),
        });
    }
    parts.join(" · ")
}

/// Both variants: rates added, the share of failures by rate, the greater p95.
fn together(figures: &Figures) -> VariantFigures {
    let mut all = VariantFigures::default();
    let mut failing = 0.0;
    for (_, variant) in figures.variants.iter() {
        all.rate += variant.rate;
        if let Some(ratio) = variant.failure_ratio {
            failing += ratio * variant.rate;
            all.failure_ratio = Some(0.0);
        }
        all.p95_us = all.p95_us.max(variant.p95_us);
        all.p99_us = all.p99_us.max(variant.p99_us);
    }
    if all.rate > 0.0 {
        all.failure_ratio = all.failure_ratio.map(|_| failing / all.rate);
    }
    all
}

/// `4 phases, from 14:00`.
fn outline(launch: &Launch) -> String {
    let count = launch.phases.len();
    let version = launch.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    format!("{}{version}, {count} phase{}", launch.service, if count == 1 { "" } else { "s" })
}

fn ended(step: Step, outcome: &Outcome) -> String {
    let took = span(whole(Duration::from_millis(outcome.took_ms)));
    let said = because(&outcome.said);
    match (outcome.verdict, step) {
        (Verdict::Passed, Step::Validate) => format!("validated in {took}"),
        (Verdict::Passed, Step::Execute) => format!("done in {took}"),
        (Verdict::Passed, Step::Verify) => format!("verified in {took}"),
        (Verdict::Passed, Step::Undo) => format!("undone in {took}"),
        (Verdict::Failed, Step::Validate) => format!("not valid after {took}{said}"),
        (Verdict::Failed, Step::Execute) => format!("failed after {took}{said}"),
        (Verdict::Failed, Step::Verify) => format!("not verified after {took}{said}"),
        (Verdict::Failed, Step::Undo) => format!("NOT UNDONE after {took}{said}"),
        (Verdict::TimedOut, Step::Undo) => format!("NOT UNDONE: ended after {took}{said}"),
        (Verdict::TimedOut, step) => format!("{} not done in time: ended after {took}{said}", step.as_str()),
    }
}

/// Milliseconds matter below a second only.
pub(super) fn whole(length: Duration) -> Duration {
    if length < Duration::from_secs(1) { length } else { Duration::from_secs(length.as_secs()) }
}

fn checks(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => ": 1 check".to_owned(),
        count => format!(": {count} checks"),
    }
}

fn who(record: &Record) -> String {
    match &record.claimed {
        Some(claimed) => format!("{} for {claimed}", record.actor),
        None => record.actor.to_string(),
    }
}

/// The first line of what was said.
fn because(said: &str) -> String {
    said.lines()
        .find(|line| !line.trim().is_empty())
        .map(|line| format!(": {}", quoted(line)))
        .unwrap_or_default()
}

fn rest(said: &str) -> Vec<String> {
    let lines = said.lines().filter(|line| !line.trim().is_empty()).skip(1);
    lines.map(|line| printable(line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{does, launch};
    use super::*;
    use crate::launch::Minute;
    use crate::traffic::PerVariant;

    fn record(entry: Entry) -> Record {
        Record {
            seq: 9,
            at: Timestamp::from_millis(1_767_276_201_500),
            actor: "uid 1000 (ops)".into(),
            claimed: None,
            entry,
            figures: None,
        }
    }

    fn story() -> Story {
        let mut planned = launch(vec![does("deploy"), does("traffic")]);
        planned.flags =
            Some(crate::launch::FlagsOff { names: vec!["new_checkout".into()], hook: "flags".into() });
        Story {
            launch: Some(Arc::new(planned)),
            candidate: Some(Variant::Green),
            started: Some(Timestamp::from_millis(1_767_276_001_500)),
            stopped: None,
        }
    }

    fn outcome(verdict: Verdict, said: &str) -> Outcome {
        Outcome { verdict, said: said.to_owned(), took_ms: 12_345 }
    }

    #[test]
    fn each_record_is_one_line() {
        #[track_caller]
        fn check(entry: Entry, expected: &str) {
            let form = Form { zone: TimeZone::UTC, ascii: false, column: 9 };
            let line = story().tell(&record(entry)).line(&form);
            assert_eq!(line.strip_prefix("14:03:21  "), Some(expected), "{line}");
        }
        let ended = |step, verdict, said| Entry::Ended { phase: 0, step, outcome: outcome(verdict, said) };
        check(Entry::Began { phase: 0, step: Step::Execute }, "deploy     ▸ do");
        check(Entry::Began { phase: 1, step: Step::Undo }, "traffic    ▸ undoing: undo");
        check(Entry::Began { phase: 7, step: Step::Undo }, "phase 8    ▸ undo begins");
        check(ended(Step::Verify, Verdict::Passed, ""), "deploy     ✓ verified in 12 s");
        check(
            ended(Step::Execute, Verdict::Failed, "\n cannot\x1b[2J reach\nmore"),
            "deploy     ✗ failed after 12 s: cannot[2J reach",
        );
        check(
            ended(Step::Execute, Verdict::TimedOut, ""),
            "deploy     ✗ execute not done in time: ended after 12 s",
        );
        check(ended(Step::Undo, Verdict::Failed, "no"), "deploy     ✗ NOT UNDONE after 12 s: no");
        check(
            Entry::Stopped { why: Stop::Breaker { sentence: "error rate 5.0 % of 2.0 %".into() } },
            "breaker    ✗ error rate 5.0 % of 2.0 %: green to 0 %, locked, rolling back",
        );
        check(
            Entry::Stopped { why: Stop::Person { reason: Some("looks\nbad".into()) } },
            "launch     ✗ rolling back: uid 1000 (ops) said so: looks bad",
        );
        check(
            Entry::Signed { item: "backup".into(), role: "devops".into(), evidence: Some("s3://b".into()) },
            "checklist  ✓ backup signed by uid 1000 (ops) as devops: s3://b",
        );
        check(
            Entry::Checked { item: "smoke".into(), passed: false, said: "500 at /".into() },
            "checklist  ✗ smoke was checked: no: 500 at /",
        );
        check(
            Entry::Voted { role: "qa".into(), go: false, note: None },
            "vote       ✗ qa says no-go (uid 1000 (ops))",
        );
        check(
            Entry::Started {
                candidate: Variant::Green,
                holder: "ada@build-7".into(),
                unmet: vec!["qa has not voted".into()],
                reason: Some("agreed by phone".into()),
            },
            "launch     ▸ started by uid 1000 (ops), run by ada@build-7, to green; overridden: qa has not voted (agreed by phone)",
        );
        check(
            Entry::Unattended { released: false },
            "launch     ✗ unattended: its runner is not heard of; gates stay armed",
        );
        check(
            Entry::Told { about: Told::FlagsOff { done: false } },
            "breaker    ✗ flags new_checkout NOT switched off: the hook did not say yes",
        );
        let green = crate::launch::Total { requests: 1200, failures: 3 };
        let variants = PerVariant { green, ..PerVariant::default() };
        check(
            Entry::Minute(Minute { span_ms: 60_000, variants, ..Minute::default() }),
            "traffic    · 1,200 requests in 1 min, 3 failed",
        );
        check(Entry::Finished { state: State::Completed }, "launch     ✓ COMPLETED after 3 min 20 s");
    }

    #[test]
    fn what_was_said_on_a_failure_is_kept() {
        let failed = Entry::Ended {
            phase: 0,
            step: Step::Execute,
            outcome: outcome(Verdict::Failed, "first\n\nsecond\x07\nthird"),
        };
        assert_eq!(story().tell(&record(failed)).more, ["second", "third"]);
    }

    #[test]
    fn figures_of_the_minute_stand_behind() {
        #[track_caller]
        fn check(weight: u32, blue: (f64, f64, u64), green: (f64, f64, u64), expected: &str) {
            let variant = |(rate, failing, p95): (f64, f64, u64)| VariantFigures {
                rate,
                failure_ratio: (rate > 0.0).then_some(failing),
                p95_us: (rate > 0.0).then_some(p95),
                p99_us: None,
            };
            let figures = Figures {
                weight: Weight::from_percent(weight).unwrap(),
                candidate: Some(Variant::Green),
                variants: PerVariant { blue: variant(blue), green: variant(green) },
            };
            assert_eq!(told_figures(&figures), expected);
        }
        let none = (0.0, 0.0, 0);
        check(0, none, none, "green 0 % · 0 req/s");
        check(0, (412.0, 0.0002, 38_000), none, "green 0 % · 412 req/s · err 0.02 % · p95 38.0 ms");
        check(
            5,
            (392.0, 0.0002, 38_000),
            (20.0, 0.0002, 39_000),
            "green 5 % · 412 req/s · err 0.02 % · p95 39.0 ms",
        );
        check(
            5,
            (380.0, 0.0, 38_000),
            (20.0, 0.1, 120_000),
            "green 5 % · 400 req/s · err 0.50 % (green 10.0 %) · p95 38.0 ms (green 120 ms)",
        );
    }

    #[test]
    fn times_are_of_a_zone_and_signs_of_a_terminal() {
        let figures = Figures { candidate: Some(Variant::Green), ..Figures::default() };
        let record = Record {
            figures: Some(figures),
            ..record(Entry::Ended { phase: 0, step: Step::Verify, outcome: outcome(Verdict::Passed, "") })
        };
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let form = Form { zone, ascii: true, column: 9 };
        assert_eq!(
            story().tell(&record).line(&form),
            "15:03:21  deploy     + verified in 12 s           green 0 % | 0 req/s"
        );
        assert_eq!(in_ascii("✗ 5 % → 10 % … ü"), "x 5 % -> 10 % ... ?");
    }

    #[test]
    fn what_comes_by_the_clock_is_quiet() {
        let quiet = |entry| story().tell(&record(entry)).is_quiet;
        assert!(quiet(Entry::Minute(Minute::default())));
        assert!(!quiet(Entry::Minute(Minute { down_seconds: 1, ..Minute::default() })));
        assert!(quiet(Entry::Told { about: Told::Progress }));
        assert!(quiet(Entry::Began { phase: 0, step: Step::Verify }));
        assert!(!quiet(Entry::Began { phase: 0, step: Step::Execute }));
        assert!(!quiet(Entry::Stopped { why: Stop::Phase { phase: 0 } }));
    }
}
