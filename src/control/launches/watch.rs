//! What the daemon does by itself for launches that run: once a second it looks whether somebody attends to them, and whether their
//! traffic stays within its limits.
//!
//! The beat waits for nothing. What it finds is noted by the scribe, and found again by a later beat if the disk refused; traffic that
//! has to be moved is moved right here, whatever the disk does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::attempt::Attempt;
use super::super::change::Change;
use super::super::commit::{Control, Who, by_us};
use super::super::ticker::us;
use super::breaker::{Failing, crossed};
use super::scribe::{LEASE, Scribe, taken_back};
use super::wish::Wish;
use crate::clock::Timestamp;
use crate::launch::{Ledger, Next, Stop};
use crate::rollout::{Act, Verb};
use crate::routing::Service;
use crate::store::AuditEntry;
use crate::telemetry::ServiceSlot;
use crate::traffic::{Variant, Weight};
use crate::upstream::Health;

/// How often it is noted what traffic did.
const MINUTE: Duration = Duration::from_secs(60);

/// The launches that run, as far as the beat has to remember something.
#[derive(Default)]
pub(super) struct Watch {
    running: HashMap<Arc<str>, Watched>,
}

struct Watched {
    /// When it was first seen here.
    since: Instant,
    /// When it was last noted what traffic did.
    minute: Instant,
    /// Shared with what is on its way to the disk: while there is anything, nothing more is sent there.
    turn: Arc<()>,
    /// Endpoints that were well while it ran and this process watched: one that was sick before is not the launch's doing.
    well: HashSet<u32>,
    /// What has stopped it here.
    stopped: Option<Stop>,
    /// How often it is still tried to take its traffic back: once to leave a rollout that somebody started since, once for a promotion.
    ways_back: u8,
    /// Whether it was said that its service is gone.
    is_gone: bool,
}

impl Watch {
    /// One beat.
    pub fn beat(&mut self, control: &Control, scribe: &Scribe, now: Instant, at: Timestamp) {
        let shelf = scribe.desk.shelf();
        self.running.retain(|name, _| shelf.running().any(|ledger| ledger.launch.name == *name));
        for ledger in shelf.running() {
            let name = &ledger.launch.name;
            let service = control.live().service(&ledger.launch.service).cloned();
            let watched = self.running.entry(name.clone()).or_insert_with(|| Watched::new(now));
            if let Some(service) = &service {
                scribe.desk.meters.begin(name, ServiceSlot(service.slot), now);
                scribe.desk.meters.second(name);
            }
            watched.tell_gone(control, ledger, service.is_none());
            if let Some(service) = &service {
                watched.look_at_traffic(control, ledger, service, now);
            }
            for wish in watched.wishes(ledger, scribe, now) {
                let job = control.job(ledger, wish, &us(), (now, at));
                // What does not fit in is found again by the next beat.
                let _ = scribe.put(super::scribe::Job { _turn: Some(watched.turn.clone()), ..job });
            }
        }
    }
}

impl Watched {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            minute: now,
            turn: Arc::default(),
            well: HashSet::new(),
            stopped: None,
            ways_back: 3,
            is_gone: false,
        }
    }

    /// Keeps traffic where the launch says that it is, and within its limits.
    fn look_at_traffic(&mut self, control: &Control, ledger: &Ledger, service: &Service, now: Instant) {
        let candidate = ledger.candidate.unwrap_or(Variant::Green);
        let is_exposed = service.split.share(candidate) > Weight::ZERO;
        if self.stopped.is_some() {
            return;
        }
        // Also while it is undone: that may take long, and users are still there.
        if (ledger.run.stopped.is_none() || is_exposed)
            && let Some(sentence) = self.judge(control, ledger, service, now)
        {
            trip(control, ledger, &sentence, now);
            self.stopped = Some(Stop::Breaker { sentence });
        } else if ledger.run.stopped.is_none() && ledger.exposes() && !is_exposed {
            self.stopped = Some(taken_back(candidate));
        } else if is_exposed && ledger.takes_traffic_back() && self.ways_back > 0 {
            // Whatever is under way of the launch, and whether anybody attends to it: users do not wait for that.
            self.ways_back -= 1;
            let (service, act) = (ledger.launch.service.clone(), Act::Verb(Verb::Rollback));
            let reason = ledger.why_stopped().map(|why| format!("launch {}: {why}", ledger.launch.name));
            let who = Who { reason, ..us() };
            let change = Change::Rollout { service, act };
            // What cannot be done now is the business of the phase's undo, which says why.
            let _ = Attempt { control: control.clone(), change, who, key: None, read_at: now }.at_once();
        }
    }

    /// What is to be noted now.
    fn wishes(&mut self, ledger: &Ledger, scribe: &Scribe, now: Instant) -> Vec<Wish> {
        let name = &ledger.launch.name;
        let silence = scribe.desk.silence(name, now);
        if Arc::strong_count(&self.turn) > 1 {
            return Vec::new();
        }
        let mut wishes = Vec::new();
        if let Some(why) = self.stopped.clone().filter(|_| ledger.run.stopped.is_none()) {
            wishes.push(Wish::Stop { why });
        }
        if let Some(lease) = ledger.lease.as_ref().filter(|lease| !lease.lapsed && silence >= LEASE) {
            wishes.push(Wish::Lapse { fence: lease.fence });
        }
        if now.saturating_duration_since(self.minute) >= MINUTE {
            self.minute = now;
            wishes.push(Wish::Minute);
        }
        if matches!(ledger.next(), Next::Finish(_)) {
            wishes.push(Wish::Finish);
        }
        wishes
    }

    /// Which limit is crossed, as a sentence.
    fn judge(
        &mut self,
        control: &Control,
        ledger: &Ledger,
        service: &Service,
        now: Instant,
    ) -> Option<String> {
        let breaker = &ledger.launch.breaker;
        let over = breaker.over.min(now.saturating_duration_since(self.since)).max(Duration::from_secs(1));
        let lately = control.windows().lately(ServiceSlot(service.slot), now, over);
        let mut failing = Vec::new();
        let members = Variant::ALL.iter().flat_map(|variant| service.groups[*variant].members());
        let well = members
            .filter(|member| member.health == Health::Healthy || self.well.contains(&member.endpoint.id()));
        self.well = well.map(|member| member.endpoint.id()).collect();
        for variant in serving(service) {
            for (endpoint, times, why) in control.live().failing(service, variant) {
                if !self.well.contains(&endpoint.id()) {
                    continue;
                }
                let (endpoint, why) = (endpoint.label().to_string(), why.to_string());
                failing.push(Failing { variant, endpoint, times, why });
            }
        }
        crossed(breaker, over, &lately, &failing)
    }

    /// A reload may take the service away from under a launch: nothing is watched then, and a person has to know.
    fn tell_gone(&mut self, control: &Control, ledger: &Ledger, is_gone: bool) {
        if std::mem::replace(&mut self.is_gone, is_gone) || !is_gone {
            return;
        }
        let (launch, service) = (&ledger.launch.name, &ledger.launch.service);
        let sentence = format!(
            "launch {launch}: {service} is not configured any more, so its traffic is not watched; bring it back, or \
             `tidegate launch rollback {launch}`"
        );
        eprintln!("tidegate: WARNING: {sentence}");
        control.record(AuditEntry { reason: Some(sentence), ..of(ledger, "launch-unwatched", control) });
    }
}

/// The variants that get traffic.
fn serving(service: &Service) -> impl Iterator<Item = Variant> {
    let shares = Variant::ALL.map(|variant| (variant, service.split.share(variant)));
    shares.into_iter().filter(|(_, share)| *share > Weight::ZERO).map(|(variant, _)| variant)
}

/// Away from the candidate, at once.
fn trip(control: &Control, ledger: &Ledger, sentence: &str, now: Instant) {
    let launch = &ledger.launch;
    let said = format!("launch {}: {sentence}", launch.name);
    eprintln!("tidegate: {}: {said}", launch.service);
    let candidate = ledger.candidate.unwrap_or(Variant::Green);
    let change = Change::Trip { service: launch.service.clone(), candidate, sentence: said };
    let attempt = Attempt { control: control.clone(), change, who: us(), key: None, read_at: now };
    let moved = attempt.at_once();
    let mut reason = format!("launch {}: the breaker has tripped: {sentence}", launch.name);
    if let Err(error) = &moved {
        reason.push_str(&format!("; traffic could not be moved: {error}"));
    }
    control.record(AuditEntry { reason: Some(reason), ..of(ledger, "launch-stop", control) });
}

fn of(ledger: &Ledger, what: &str, control: &Control) -> AuditEntry {
    AuditEntry {
        service: Some(ledger.launch.service.to_string()),
        launch: Some(ledger.launch.name.to_string()),
        ..by_us(what, control.generation())
    }
}
