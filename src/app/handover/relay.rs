//! What the process that serves says to those before it, as long as they hold something: what is in force, and that
//! the service stops.
//!
//! Every one of them has a conversation of its own with whoever serves, never with another that is on its way out
//! itself: the ends of these conversations are passed on in each upgrade like the sockets. So it does not matter in
//! which order old processes go. One that hears from nobody any more cannot be killed, so it holds on no longer than
//! after a stop.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};

use super::wire::{Channel, Elder, Message};
use crate::app::phase::Phase;
use crate::control::{Control, Desired, Holds, Predecessor, ServiceState};

/// How often they are asked what they hold when there is nothing to say.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long one may take to answer; then it is left to itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long an upgrade waits for a conversation to pause.
const PAUSE_WITHIN: Duration = Duration::from_secs(1);

/// A conversation with a process from before an upgrade.
#[derive(Debug)]
pub(in crate::app) struct Link {
    elder: Elder,
    /// Taken for each exchange of words; gone when the other end is, or somebody else has the conversation.
    channel: Arc<tokio::sync::Mutex<Option<Channel>>>,
    is_passed_on: AtomicBool,
}

/// All of them.
#[derive(Debug, Default)]
pub(in crate::app) struct Links(Mutex<Vec<Arc<Link>>>);

/// A conversation that pauses, to be passed on.
pub(super) struct Paused {
    pub elder: Elder,
    channel: OwnedMutexGuard<Option<Channel>>,
}

impl Paused {
    pub fn channel(&self) -> io::Result<&Channel> {
        self.channel.as_ref().ok_or_else(|| ErrorKind::NotConnected.into())
    }
}

impl Links {
    /// From now on these are told, each by a thread of its own.
    pub fn begin(&self, links: Vec<Link>, control: &Control, phases: &watch::Receiver<Phase>) {
        for link in links {
            let link = Arc::new(link);
            let mut all = self.all();
            all.retain(|link| !link.is_over());
            all.push(link.clone());
            drop(all);
            let (control, phases) = (control.clone(), phases.clone());
            let relay = move || match tokio::runtime::Builder::new_current_thread().enable_time().build() {
                Ok(runtime) => runtime.block_on(link.relay(&control, phases)),
                Err(error) => link.is_lost(&control, &error),
            };
            if let Err(error) = std::thread::Builder::new().name("relay".to_owned()).spawn(relay) {
                // Its end of the conversation went with the closure.
                eprintln!("tidegate: WARNING: a process from before is not told of kills: {error}");
            }
        }
    }

    /// Pauses all conversations with those that know everything that is in force. Whoever does not is left to itself.
    pub(super) async fn pause(&self, control: &Control) -> Vec<Paused> {
        let behind = control.predecessors().confirmed(control.generation()).await;
        let links: Vec<_> = self.all().clone();
        let mut paused = Vec::new();
        for link in links.iter().filter(|link| !behind.contains(&link.elder.pid)) {
            let channel = tokio::time::timeout(PAUSE_WITHIN, link.channel.clone().lock_owned()).await;
            if let Ok(channel) = channel
                && channel.is_some()
            {
                paused.push(Paused { elder: link.elder.clone(), channel });
            }
        }
        paused
    }

    /// Another process has the conversations; those that it was not given end.
    pub(super) fn are_passed_on(&self, paused: Vec<Paused>) {
        for link in self.all().drain(..) {
            link.is_passed_on.store(true, Ordering::Release);
        }
        for mut paused in paused {
            paused.channel.take();
        }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Link>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// A conversation that goes on where what is in force is known. Changes wait for it from now on.
    pub(super) fn new(elder: Elder, channel: Channel, control: &Control) -> Self {
        control.predecessors().join(Predecessor {
            pid: elder.pid,
            version: elder.version.clone(),
            since: elder.since,
            confirmed: control.generation(),
            holds: Holds::default(),
        });
        let channel = Arc::new(tokio::sync::Mutex::new(Some(channel)));
        Self { elder, channel, is_passed_on: AtomicBool::new(false) }
    }

    /// Says that changes are made again.
    pub fn is_open(&self) {
        if let Ok(channel) = self.channel.try_lock()
            && let Some(channel) = &*channel
        {
            // If it is gone, the next word finds that out.
            let _ = channel.send(&Message::Open);
        }
    }

    fn is_over(&self) -> bool {
        self.channel.try_lock().is_ok_and(|channel| channel.is_none())
    }

    fn is_lost(&self, control: &Control, error: &io::Error) {
        let pid = self.elder.pid;
        eprintln!("tidegate: WARNING: process {pid} is not told of kills: {error}");
        control.predecessors().leave(pid);
    }

    /// Goes on until the other process has gone, somebody else has the conversation, or this process ends.
    async fn relay(&self, control: &Control, mut phases: watch::Receiver<Phase>) {
        let mut told = control.desired();
        let mut published = control.published();
        // Whatever came before is found by the first look.
        published.mark_changed();
        let mut asked = Phase::Leaving;
        loop {
            tokio::select! {
                news = published.changed() => if news.is_err() { break },
                news = phases.changed() => if news.is_err() { break },
                () = tokio::time::sleep(ASK_EVERY) => {}
            }
            let channel = self.channel.lock().await;
            let Some(channel) = channel.as_ref().filter(|_| !self.is_passed_on.load(Ordering::Acquire))
            else {
                break;
            };
            let phase = *phases.borrow();
            let said = self.tell(channel, control, &mut told).and_then(|()| {
                // Whoever has passed everything on is not the one to say so.
                if phase <= asked {
                    return Ok(());
                }
                asked = phase;
                channel.send(&Message::Leave { now: phase > Phase::Draining })
            });
            match said {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    self.is_lost(control, &error);
                    break;
                }
                Err(_) => break,
            }
        }
        self.channel.lock().await.take();
        control.predecessors().leave(self.elder.pid);
    }

    fn tell(&self, channel: &Channel, control: &Control, told: &mut Arc<Desired>) -> io::Result<()> {
        // In this order: what is confirmed is never more than what was told.
        let generation = control.generation();
        let desired = control.desired();
        let is_told = |state: &Arc<ServiceState>| {
            told.service(&state.name).is_some_and(|told| Arc::ptr_eq(told, state))
        };
        let states = desired.services().iter().filter(|state| !is_told(state));
        let states: Vec<_> = states.map(|state| ServiceState::clone(state)).collect();
        channel.send(&Message::Follow { generation, states })?;
        match channel.hear(Some(ANSWER_WITHIN))? {
            Message::Followed { generation, tunnels, requests } => {
                *told = desired;
                control.predecessors().confirms(self.elder.pid, generation, Holds { tunnels, requests });
                Ok(())
            }
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }
}
