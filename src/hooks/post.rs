//! The post office: which channel is told what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::call::{CallError, Caller};
use super::desk::Desk;
use super::notice::{Notice, TIDEGATE, is_person, is_told};
use super::outbox::Outbox;
use super::reminders::{Escalations, Progress};
use super::settings::HookSettings;
use crate::clock;
use crate::outbound::causes;
use crate::rollout::View;
use crate::store::AuditEntry;

/// How often to look whether everything has been told, at the end.
const LOOK: Duration = Duration::from_millis(20);

/// Outboxes by channel, and what will have to be told.
pub struct Post {
    settings: Arc<ArcSwap<HookSettings>>,
    caller: Caller,
    desk: Desk,
    host: Arc<str>,
    chance: fastrand::Rng,
    outboxes: BTreeMap<Arc<str>, Outbox>,
    progress: Progress,
    escalations: Escalations,
    generation: u64,
}

impl Post {
    /// Without anything to tell.
    pub fn new(
        settings: Arc<ArcSwap<HookSettings>>,
        caller: Caller,
        desk: Desk,
        host: Arc<str>,
        seed: u64,
    ) -> Self {
        Self {
            settings,
            caller,
            desk,
            host,
            chance: fastrand::Rng::with_seed(seed),
            outboxes: BTreeMap::new(),
            progress: Progress::default(),
            escalations: Escalations::default(),
            generation: 0,
        }
    }

    /// What makes its calls.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Tells of `entry` whoever wants to know.
    pub fn tell(&mut self, now: Instant, entry: &AuditEntry) {
        self.generation = self.generation.max(entry.generation);
        self.escalations.see(entry);
        if super::notice::topic(&entry.what).is_none() {
            return;
        }
        let settings = self.settings.load_full();
        if settings.channels.is_empty() {
            return;
        }
        // Whom a launch has told is its own affair, not that of the rollout it may be in.
        let about_rollout = entry.service.as_deref().filter(|_| entry.launch.is_none());
        let view = about_rollout.and_then(|service| (self.desk.look)(service));
        let named = entry.launch.as_deref().map(|launch| (self.desk.channels)(launch)).unwrap_or_default();
        let notice = Notice::of(entry, &self.host, view.as_ref());
        let alarms = ["rollout-pause", "rollout-rollback", "launch-unattended"];
        let is_alarm = alarms.contains(&entry.what.as_str());
        for (name, channel) in &settings.channels {
            let is_named = named.is_empty() || named.contains(name);
            if !is_named || !is_told(name, channel, &entry.what, view.as_ref()) {
                continue;
            }
            self.put(name, notice.clone());
            if is_alarm && channel.escalate.is_some() && !is_person(&entry.actor) {
                self.escalations.open(now, name, &notice);
            }
        }
    }

    /// Tells every channel that events were lost.
    pub fn lagged(&mut self, missed: u64) {
        let sentence = format!("{missed} events came faster than they could be told; see `tidegate events`");
        let notice = Notice {
            event: "lost".to_owned(),
            sentence,
            actor: TIDEGATE.to_owned(),
            time: clock::wall(),
            generation: self.generation,
            host: self.host.clone(),
            ..Notice::default()
        };
        let settings = self.settings.load_full();
        for name in settings.channels.keys() {
            self.put(name, notice.clone());
        }
    }

    /// Tells what is due because of time.
    pub fn remind(&mut self, now: Instant, views: &[View]) {
        let settings = self.settings.load_full();
        self.outboxes.retain(|name, _| settings.channels.contains_key(name));
        for (name, view) in self.progress.due(now, &settings, views) {
            let notice = Notice::progress(view, &self.host, clock::wall(), self.generation);
            self.put(&name, notice);
        }
        for (name, notice) in self.escalations.due(now, &settings) {
            self.put(&name, Notice { time: clock::wall(), ..notice });
        }
    }

    /// When every notice has been told or given up.
    pub async fn emptied(&self) {
        while !self.outboxes.values().all(Outbox::is_empty) {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn put(&mut self, name: &Arc<str>, notice: Notice) {
        if let Some(outbox) = self.outboxes.get(name) {
            outbox.put(notice);
            return;
        }
        if !self.settings.load().channels.contains_key(name) {
            let sentence =
                format!("the channel {name:?} is to be told and is not configured: {}", notice.sentence);
            self.desk.complain("notify", notice.service.as_deref(), name, &sentence);
            return;
        }
        let outbox = self.outbox(name.clone());
        outbox.put(notice);
        self.outboxes.insert(name.clone(), outbox);
    }

    fn outbox(&mut self, name: Arc<str>) -> Outbox {
        let (settings, caller, channel) = (self.settings.clone(), self.caller.clone(), name.clone());
        let send = move |notice: Notice| {
            // Looked at for each try, so that a reload can mend an address while notices wait.
            let found = settings.load().channels.get(&channel).cloned();
            let caller = caller.clone();
            async move {
                let channel = found.ok_or(CallError::Gone)?;
                caller.call(&channel.call, notice.body(channel.style)).await
            }
        };
        let desk = self.desk.clone();
        let lost = move |notice: &Notice, error: &CallError| {
            let sentence =
                format!("the channel {name:?} was not told of {}: {}", notice.event, causes(error));
            desk.complain("notify", notice.service.as_deref(), &name, &sentence);
        };
        Outbox::start(self.chance.u64(..), send, lost)
    }
}
