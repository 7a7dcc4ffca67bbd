//! What launches ask of the world outside: people to be told on schedule, and flags to be switched off after a trip.
//!
//! What is due follows from the launch's record and the time alone, and that it was done goes into the record: each thing is told
//! once, also when the process ends in between. A channel hears of it by the event that comes with the note.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::call::Caller;
use super::desk::Desk;
use super::notice::TIDEGATE;
use super::rounds::Rounds;
use super::settings::HookSettings;
use crate::clock::Timestamp;
use crate::control::{Control, Who, Wish};
use crate::launch::{FlagsOff, Launch, Ledger, State, Stop, Told, Unmet};
use crate::outbound::causes;

/// How long a provider is asked to switch flags off, at least.
const FLAGS_FOR: Duration = Duration::from_secs(600);
/// The pause after the first refusal; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long nobody tries again to note what the book has refused.
const NOTE_PAUSE: Duration = Duration::from_secs(5);

/// All launches there are.
pub type Launches = Arc<dyn Fn() -> Vec<Arc<Ledger>> + Send + Sync>;
/// Notes that people were told, or flags switched off; `false` if the book refuses.
pub type Tell = Arc<dyn Fn(Arc<str>, Told) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// The book of launches, as far as it is used here.
#[derive(Clone)]
pub struct Book {
    /// All launches there are.
    pub launches: Launches,
    /// Into the book.
    pub tell: Tell,
}

impl Book {
    /// The control plane's.
    pub fn of(control: &Control) -> Self {
        let (looked, noted) = (control.clone(), control.clone());
        Self {
            launches: Arc::new(move || looked.launches()),
            tell: Arc::new(move |launch, about| {
                let control = noted.clone();
                Box::pin(async move {
                    let us = Who { actor: TIDEGATE.to_owned(), ..Who::default() };
                    control.note_launch(&launch, Wish::Tell { about }, &us).await.is_ok()
                })
            }),
        }
    }
}

/// What is under way.
#[derive(Default)]
pub struct Errands {
    rounds: Rounds<(Arc<str>, String)>,
}

/// What a hook is sent.
#[derive(Serialize)]
struct Body<'a> {
    launch: &'a str,
    service: &'a str,
    flags: &'a [Arc<str>],
    reason: &'a str,
}

impl Errands {
    /// Does what is due.
    pub fn run(
        &mut self,
        now: Instant,
        at: Timestamp,
        settings: &HookSettings,
        book: &Book,
        caller: &Caller,
        desk: &Desk,
    ) {
        let mut wanted = BTreeSet::new();
        for ledger in (book.launches)() {
            let name = &ledger.launch.name;
            let told = if settings.channels.is_empty() { Vec::new() } else { due(&ledger, at) };
            let flags = flags_off(&ledger, at);
            let given_up = matches!(flags, Some(Flags::GiveUp)).then_some(Told::FlagsOff { done: false });
            for about in told.into_iter().chain(given_up) {
                let key = (name.clone(), format!("{about:?}"));
                if self.rounds.due(&key, now).is_some() {
                    let noting = (book.tell)(name.clone(), about);
                    let running = tokio::spawn(async move {
                        // What is refused is due again.
                        let _ = noting.await;
                    });
                    self.rounds.started(key.clone(), running, now + NOTE_PAUSE);
                }
                wanted.insert(key);
            }
            if let Some(Flags::Ask { flags, reason }) = flags {
                let key = (name.clone(), "flags".to_owned());
                if let Some(times) = self.rounds.due(&key, now) {
                    let asking = switch_off(&ledger.launch, flags, &reason, settings, book, caller, desk);
                    let pause = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(times)).min(PAUSE_MAX);
                    self.rounds.started(key.clone(), tokio::spawn(asking), now + pause);
                }
                wanted.insert(key);
            }
        }
        self.rounds.keep(&wanted);
    }
}

/// What people have to be told now.
fn due(ledger: &Ledger, at: Timestamp) -> Vec<Told> {
    match ledger.run.state {
        State::Idle => before(ledger, at).into_iter().chain(overdue(ledger, at)).collect(),
        State::Running => progress(ledger, at).into_iter().collect(),
        State::RolledBack | State::Completed | State::Failed => Vec::new(),
    }
}

/// That the window is near. Of several that were missed, only the nearest one is told.
fn before(ledger: &Ledger, at: Timestamp) -> Option<Told> {
    let opens = ledger.launch.window?.from;
    let moment = |before: &Duration| opens.as_millis().saturating_sub(millis(*before));
    let passed = |before: &&Duration| {
        let moment = moment(before);
        moment >= ledger.planned.as_millis() && moment <= at.as_millis() && at < opens
    };
    let ms = millis(*ledger.launch.comms.before.iter().filter(passed).min()?);
    let nearer = |told: &Told| matches!(told, Told::Before { ms: told } if *told <= ms);
    (!ledger.told.iter().any(|(_, told)| nearer(told))).then_some(Told::Before { ms })
}

/// Who has not signed or voted by now, each once.
fn overdue(ledger: &Ledger, at: Timestamp) -> Vec<Told> {
    if ledger.launch.window.is_none_or(|window| at >= window.closes()) {
        return Vec::new();
    }
    let what = |unmet: Unmet| match unmet {
        Unmet::Unsigned { item, role, overdue: true } => Some(format!("{item}, to be signed by {role}")),
        Unmet::NoVote { role, overdue: true } => Some(format!("the vote of {role}")),
        _ => None,
    };
    let late = ledger.unmet(at).into_iter().filter_map(what).map(|what| Told::Overdue { what: what.into() });
    late.filter(|late| !ledger.told.iter().any(|(_, told)| told == late)).collect()
}

/// How it is going, every so often.
fn progress(ledger: &Ledger, at: Timestamp) -> Option<Told> {
    let every = ledger.launch.comms.every?;
    let told = ledger.told.iter().filter(|(_, told)| *told == Told::Progress).map(|(at, _)| *at).max();
    let last = told.max(ledger.run.started)?;
    (at.since(last) >= every).then_some(Told::Progress)
}

/// What is to be done about a launch's flags.
enum Flags<'l> {
    Ask { flags: &'l FlagsOff, reason: String },
    GiveUp,
}

/// After a trip, until the provider has said yes; as long as the launch runs, and ten minutes at least.
fn flags_off(ledger: &Ledger, at: Timestamp) -> Option<Flags<'_>> {
    let flags = ledger.launch.flags.as_ref()?;
    let Some(Stop::Breaker { sentence }) = &ledger.run.stopped else { return None };
    if ledger.told.iter().any(|(_, told)| matches!(told, Told::FlagsOff { .. })) {
        return None;
    }
    let is_over = ledger.run.state.is_over()
        && ledger.run.stopped_at.is_none_or(|stopped| at.since(stopped) >= FLAGS_FOR);
    Some(if is_over { Flags::GiveUp } else { Flags::Ask { flags, reason: sentence.clone() } })
}

fn switch_off(
    launch: &Arc<Launch>,
    flags: &FlagsOff,
    reason: &str,
    settings: &HookSettings,
    book: &Book,
    caller: &Caller,
    desk: &Desk,
) -> impl Future<Output = ()> + Send + use<> {
    let body = Body { launch: &launch.name, service: &launch.service, flags: &flags.names, reason };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let call = settings.hooks.get(&flags.hook).cloned();
    let (hook, launch) = (flags.hook.clone(), launch.clone());
    let (book, caller, desk) = (book.clone(), caller.clone(), desk.clone());
    async move {
        let said = match &call {
            Some(call) => match caller.call(call, body.into()).await {
                Ok(()) => {
                    (book.tell)(launch.name.clone(), Told::FlagsOff { done: true }).await;
                    return;
                }
                Err(error) => format!("has not switched them off: {}", causes(&error)),
            },
            None => "is not configured any more".to_owned(),
        };
        let sentence = format!(
            "launch {}: its flags are to be off, and the hook {hook:?} {said}; trying on",
            launch.name
        );
        desk.complain("launch-flags", Some(&launch.service), &hook, &sentence);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::{
        Action, Breaker, Comms, Entry, GoNoGo, Item, ItemKind, Phase, Record, Tier, Undo, Window,
    };
    use crate::traffic::Variant;

    const MINUTE: u64 = 60_000;
    const OPENS: u64 = 2000 * MINUTE;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(minutes * MINUTE)
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_millis(minutes * MINUTE)
    }

    fn ledger(planned: u64) -> Ledger {
        let person = ItemKind::Person { role: "devops".into(), due: Some(minutes(100)), evidence: false };
        let launch = Launch {
            name: "shop-2".into(),
            service: "shop".into(),
            version: None,
            environment: None,
            tier: Tier::Standard,
            window: Some(Window { from: Timestamp::from_millis(OPENS), lasts: minutes(60) }),
            rollback_within: None,
            breaker: Breaker::default(),
            flags: Some(FlagsOff { names: vec!["new".into()], hook: "flags".into() }),
            checklist: vec![Item { id: "backup".into(), title: None, kind: person }],
            go_nogo: Some(GoNoGo { roles: vec!["pm".into()], due: Some(minutes(10)) }),
            warmup: None,
            synthetic: Vec::new(),
            comms: Comms {
                channels: Vec::new(),
                before: vec![minutes(1440), minutes(60)],
                every: Some(minutes(30)),
            },
            contacts: Vec::new(),
            phases: vec![Phase {
                id: "observe".into(),
                title: None,
                check: Vec::new(),
                action: Action::Observe { lasts: minutes(30) },
                verify: None,
                undo: Undo::None,
                timeout: Some(minutes(60)),
                undo_timeout: minutes(1),
                rollback_on_failure: true,
            }],
            variables: Default::default(),
        };
        let entry = Entry::Planned { launch: Arc::new(launch) };
        Ledger::begin(&record(1, at(planned), entry)).unwrap()
    }

    fn record(seq: u64, at: Timestamp, entry: Entry) -> Record {
        Record { seq, at, actor: "tidegate".into(), claimed: None, entry, figures: None }
    }

    fn with(ledger: &Ledger, minute: u64, entry: Entry) -> Ledger {
        ledger.with(&record(ledger.seq + 1, at(minute), entry)).unwrap()
    }

    fn told(ledger: &Ledger, minute: u64, about: Told) -> Ledger {
        with(ledger, minute, Entry::Told { about })
    }

    fn started(minute: u64) -> Ledger {
        let start = Entry::Started {
            candidate: Variant::Green,
            holder: "here".into(),
            unmet: Vec::new(),
            reason: None,
        };
        with(&ledger(0), minute, start)
    }

    #[test]
    fn that_the_window_is_near_is_told_once_for_each_time_and_never_in_arrears() {
        #[track_caller]
        fn check(ledger: &Ledger, minute: u64, expected: Option<u64>) {
            let expected = expected.map(|minutes| Told::Before { ms: minutes * MINUTE });
            assert_eq!(before(ledger, at(minute)), expected);
        }
        let early = ledger(0);
        check(&early, 559, None);
        check(&early, 560, Some(1440));
        check(&early, 1939, Some(1440));
        check(&early, 1940, Some(60));
        check(&early, 2000, None);
        let once = told(&early, 560, Told::Before { ms: 1440 * MINUTE });
        check(&once, 561, None);
        check(&once, 1940, Some(60));
        let nearer = told(&early, 1950, Told::Before { ms: 60 * MINUTE });
        check(&nearer, 1951, None);
        let late = ledger(600);
        check(&late, 1000, None);
        check(&late, 1940, Some(60));
        check(&ledger(1990), 1995, None);
    }

    #[test]
    fn whoever_is_late_is_named_once() {
        #[track_caller]
        fn check(ledger: &Ledger, minute: u64, expected: &[&str]) {
            let expected: Vec<_> =
                expected.iter().map(|what| Told::Overdue { what: (*what).into() }).collect();
            assert_eq!(overdue(ledger, at(minute)), expected);
        }
        let ledger = ledger(0);
        check(&ledger, 1899, &[]);
        check(&ledger, 1900, &["backup, to be signed by devops"]);
        check(&ledger, 1990, &["backup, to be signed by devops", "the vote of pm"]);
        let once = told(&ledger, 1900, Told::Overdue { what: "backup, to be signed by devops".into() });
        check(&once, 1990, &["the vote of pm"]);
        check(&ledger, 2060, &[]);
        let signed = Entry::Signed { item: "backup".into(), role: "devops".into(), evidence: None };
        check(&with(&ledger, 1000, signed), 1950, &[]);
    }

    #[test]
    fn progress_is_told_as_often_as_it_is_asked_for_while_it_runs() {
        let ledger = started(2000);
        assert_eq!(due(&ledger, at(2029)), []);
        assert_eq!(due(&ledger, at(2030)), [Told::Progress]);
        let once = told(&ledger, 2031, Told::Progress);
        assert_eq!(due(&once, at(2060)), []);
        assert_eq!(due(&once, at(2061)), [Told::Progress]);
        assert_eq!(due(&with(&once, 2061, stopped()), at(2062)), [Told::Progress], "also while it is undone");
    }

    fn stopped() -> Entry {
        Entry::Stopped { why: Stop::Breaker { sentence: "green fails".to_owned() } }
    }

    #[test]
    fn flags_are_asked_off_after_a_trip_until_a_yes_or_ten_minutes_after_the_end() {
        #[track_caller]
        fn check(ledger: &Ledger, minute: u64, expected: &str) {
            let found = match flags_off(ledger, at(minute)) {
                Some(Flags::Ask { flags, reason }) => format!("{} {reason}", flags.names.join(",")),
                Some(Flags::GiveUp) => "give up".to_owned(),
                None => String::new(),
            };
            assert_eq!(found, expected);
        }
        let running = started(2000);
        check(&running, 2001, "");
        let by_hand = with(&running, 2001, Entry::Stopped { why: Stop::Person { reason: None } });
        check(&by_hand, 2002, "");
        let tripped = with(&running, 2001, stopped());
        check(&tripped, 2002, "new green fails");
        check(&tripped, 2500, "new green fails");
        let over = with(&tripped, 2003, Entry::Finished { state: State::RolledBack });
        check(&over, 2010, "new green fails");
        check(&over, 2011, "give up");
        for done in [true, false] {
            check(&told(&over, 2011, Told::FlagsOff { done }), 2012, "");
        }
    }
}
