//! What is told because of time: how far rollouts are, and that nobody has acted.
//!
//! Pure: the time is an argument, of a clock that never jumps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::notice::{Notice, is_named, is_person};
use super::settings::HookSettings;
use crate::rollout::{View, span};
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
            let stood = span(stood);
            let sentence = format!("nobody has acted on {service} for {stood}: {}", notice.sentence);
            let notice = Notice { event: "escalation".to_owned(), sentence, ..notice.clone() };
            due.push((escalation.to.clone(), notice));
            false
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::hooks::settings::{Call, Channel, Escalation, Style};

    const MINUTE: Duration = Duration::from_secs(60);

    fn settings() -> HookSettings {
        let channel = Channel {
            call: Call::Command { argv: vec!["true".into()], timeout: MINUTE },
            style: Style::Json,
            on: vec![],
            every: None,
            escalate: Some(Escalation { after: 15 * MINUTE, to: "boss".into() }),
        };
        HookSettings { channels: BTreeMap::from([("ops".into(), channel)]), ..HookSettings::default() }
    }

    fn entry(actor: &str, service: Option<&str>, what: &str) -> AuditEntry {
        AuditEntry {
            what: what.to_owned(),
            actor: actor.to_owned(),
            service: service.map(str::to_owned),
            ..AuditEntry::default()
        }
    }

    #[test]
    fn the_other_channel_is_told_once_unless_a_person_has_acted() {
        #[track_caller]
        fn check(entries: &[AuditEntry], told: usize) {
            let (start, mut escalations) = (clock::now(), Escalations::default());
            let notice = Notice { service: Some("shop".into()), sentence: "bad".into(), ..Notice::default() };
            escalations.open(start, &"ops".into(), &notice);
            entries.iter().for_each(|entry| escalations.see(entry));
            assert_eq!(escalations.due(start + 15 * MINUTE - Duration::from_millis(1), &settings()), []);
            let due = escalations.due(start + 15 * MINUTE, &settings());
            assert_eq!(due.len(), told);
            for (to, notice) in due {
                assert_eq!((&*to, notice.event.as_str()), ("boss", "escalation"));
                assert_eq!(notice.sentence, "nobody has acted on shop for 15 min: bad");
            }
            assert_eq!(escalations.due(start + 60 * MINUTE, &settings()), [], "once");
        }
        check(&[], 1);
        check(&[entry("tidegate", Some("shop"), "rollout-suspect")], 1);
        check(&[entry("alertmanager", Some("shop"), "freeze")], 1);
        check(&[entry("uid 1000 (ops)", Some("cart"), "kill")], 1);
        check(&[entry("uid 1000 (ops)", None, "reload")], 1);
        check(&[entry("uid 1000 (ops)", Some("shop"), "rollout-resume")], 0);
        check(&[entry("uid 1000 (ops)", None, "kill")], 0);
    }
}
