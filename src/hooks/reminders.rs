//! What is told because of time: how far rollouts are, and that nobody has acted.
//!
//! Pure: the time is an argument, of a clock that never jumps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::notice::{Notice, for_people, is_named, is_person};
use super::settings::HookSettings;
use crate::rollout::View;
use crate::store::AuditEntry;

/// Which channels hear of which running rollouts next.
#[derive(Debug, Default)]
pub struct Progress {
    /// By channel, service and rollout.
    next: BTreeMap<(Arc<str>, Arc<str>, u64), Instant>,
}

impl Progress {
    /// Which channel is to be told of which rollout now. The first time is one interval after a rollout was first seen.
    pub fn due<'v>(
        &mut self,
        now: Instant,
        settings: &HookSettings,
        views: &'v [View],
    ) -> Vec<(Arc<str>, &'v View)> {
        let mut due = Vec::new();
        let mut running = BTreeSet::new();
        for (name, channel) in &settings.channels {
            let Some(every) = channel.every.filter(|every| *every > Duration::ZERO) else { continue };
            for view in views.iter().filter(|view| !view.rollout.manual && is_named(name, Some(view))) {
                let key = (name.clone(), view.service.clone(), view.rollout.id);
                let next = self.next.entry(key.clone()).or_insert(now + every);
                if now >= *next {
                    *next = now + every;
                    due.push((name.clone(), view));
                }
                running.insert(key);
            }
        }
        self.next.retain(|key, _| running.contains(key));
        due
    }
}

/// Pauses and rollbacks that nobody has acted on yet.
#[derive(Debug, Default)]
pub struct Escalations {
    /// By channel and service: since when, what.
    open: BTreeMap<(Arc<str>, String), (Instant, Notice)>,
}

impl Escalations {
    /// `channel` has been told of this pause or rollback that nobody asked for.
    pub fn open(&mut self, now: Instant, channel: &Arc<str>, notice: &Notice) {
        let Some(service) = &notice.service else { return };
        // The newest is what somebody has to act on; the time counts from the oldest.
        let since = self.open.get(&(channel.clone(), service.clone())).map_or(now, |(since, _)| *since);
        self.open.insert((channel.clone(), service.clone()), (since, notice.clone()));
    }

    /// Whatever a person does to a service, or to all, closes what is open there.
    pub fn see(&mut self, entry: &AuditEntry) {
        if !is_person(&entry.actor) {
            return;
        }
        match &entry.service {
            Some(service) => self.open.retain(|(_, open), _| open != service),
            None if matches!(entry.what.as_str(), "kill" | "arm" | "freeze") => self.open.clear(),
            None => {}
        }
    }

    /// Who else is to be told now; each once.
    pub fn due(&mut self, now: Instant, settings: &HookSettings) -> Vec<(Arc<str>, Notice)> {
        let mut due = Vec::new();
        self.open.retain(|(channel, service), (since, notice)| {
            let escalation = settings.channels.get(channel).and_then(|channel| channel.escalate.as_ref());
            let Some(escalation) = escalation else { return false };
            let stood = now.saturating_duration_since(*since);
            if stood < escalation.after {
                return true;
            }
            let stood = for_people(u64::try_from(stood.as_millis()).unwrap_or(u64::MAX));
            let sentence = format!("nobody has acted on {service} for {stood}: {}", notice.sentence);
            let notice = Notice { event: "escalation".to_owned(), sentence, ..notice.clone() };
            due.push((escalation.to.clone(), notice));
            false
        });
        due
    }
}
