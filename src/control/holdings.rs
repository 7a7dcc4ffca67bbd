//! What is written in the state folder, and how another process takes that over.
//!
//! Every writer sits behind a [`Pen`], so that it can be laid down while the threads that write go on waiting. A process
//! that lets go has said its last word on everything: nothing changes any more ([`Control::close`]), everything is on
//! disk ([`Control::let_go`]), and its pens are down. Then the other one has the folder, under the same lock. Until it
//! has said that it serves, all of this can be taken back ([`Control::take_back`]); afterwards this process only follows
//! what the other one says ([`Control::follow`]), in memory.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;

use super::commit::Control;
use super::desired::{Desired, ServiceState};
use crate::clock;
use crate::store::{
    AuditLimits, CheckpointFile, RecordLimits, RecoverError, SlotFile, StateFile, StateFolder,
};
use crate::upstream::Health;

/// How long the disk may take for everything that is still to be written.
const LET_GO_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long the first save may take after everything was taken back; changes are let in all the same.
const SAVE_AGAIN_PATIENCE: Duration = Duration::from_secs(1);

/// Why the state folder is not let go of. It is still this process's.
#[derive(Debug, Error)]
pub enum LetGoError {
    /// The disk refuses.
    #[error("the state cannot be saved")]
    NotSaved(#[source] Arc<io::Error>),
    /// The disk does not answer.
    #[error("the disk did not take the state within {} s", LET_GO_PATIENCE.as_secs())]
    DiskTimeout,
    /// There is no folder, or its lock cannot be shared.
    #[error("the state folder's lock cannot be shared")]
    NotShared(#[source] io::Error),
}

/// Why the state folder could not be taken back in full.
#[derive(Debug, Error)]
pub enum TakeBackError {
    /// What is there cannot be read.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// A file cannot be written any more.
    #[error("open the files of the state folder")]
    Open(#[from] io::Error),
}

/// A writer that can be laid down and taken up again, by whoever has a copy.
#[derive(Debug)]
pub(super) struct Pen<W>(Arc<Mutex<Option<W>>>);

impl<W> Clone for Pen<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W> Pen<W> {
    pub fn new(writer: W) -> Self {
        Self(Arc::new(Mutex::new(Some(writer))))
    }

    /// One that is laid down.
    pub fn empty() -> Self {
        Self(Arc::default())
    }

    /// Writes; an error while it is laid down.
    pub fn with<T>(&self, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        match self.held().as_mut() {
            Some(writer) => write(writer),
            None => Err(io::Error::other("another process has the state folder")),
        }
    }

    fn lay_down(&self) {
        self.held().take();
    }

    pub fn take_up(&self, writer: W) {
        *self.held() = Some(writer);
    }

    fn held(&self) -> MutexGuard<'_, Option<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state folder and the pens that only the savers hold otherwise.
pub(super) struct Holdings {
    pub folder: StateFolder,
    pub states: Pen<StateFile>,
    pub kills: Pen<SlotFile>,
    pub checkpoints: Pen<CheckpointFile>,
}

/// What is known of an endpoint, for a process that takes over: it would else try dead ones until its first check.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct KnownHealth {
    /// The address, as it is written.
    pub url: String,
    /// Whether checks pass there.
    pub healthy: bool,
}

/// Whose the state folder is.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    /// Another process writes there.
    has_let_go: AtomicBool,
}

impl Ownership {
    pub fn has_let_go(&self) -> bool {
        self.has_let_go.load(Ordering::Acquire)
    }
}

impl Control {
    /// From now on every change is refused with `why`, and no rollout is ticked; what is under way ends first.
    pub async fn close(&self, why: &str) {
        let _turn = self.take_turn().await;
        self.live().closed = Some(why.into());
    }

    /// The same at a moment when nobody else can be changing anything: right after the start.
    pub fn begin_closed(&self, why: &str) {
        self.live().closed = Some(why.into());
    }

    /// Changes are made again.
    pub fn open(&self) {
        self.live().closed = None;
    }

    /// Why changes are refused at the moment, if they are.
    pub fn closed(&self) -> Option<Arc<str>> {
        self.live().closed.clone()
    }

    /// Writes the last of everything, lays the pens down, and gives the lock of the state folder to whoever takes over.
    /// Call [`Control::close`] before, and [`Control::take_back`] after an error.
    pub async fn let_go(&self) -> Result<OwnedFd, LetGoError> {
        let rollouts = &self.inner.rollouts;
        let Some(holdings) = self.inner.holdings.get() else {
            return Err(LetGoError::NotShared(io::ErrorKind::NotFound.into()));
        };
        rollouts.checkpoint_now(self, clock::now());
        let (state, kills) = self.inner.saver.save_without_reserve(self.desired());
        let written = async {
            for ticket in [state, kills] {
                match ticket.await {
                    Ok(outcome) => outcome.map_err(LetGoError::NotSaved)?,
                    Err(_) => return Err(LetGoError::DiskTimeout),
                }
            }
            let is_written = || {
                rollouts.checkpoints.is_written()
                    && rollouts.recorder.is_written()
                    && self.inner.launches.is_written()
                    && self.inner.events.is_written()
            };
            self.inner.events.be_quiet(true);
            while !is_written() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        tokio::time::timeout(LET_GO_PATIENCE, written).await.unwrap_or(Err(LetGoError::DiskTimeout))?;
        let lock = holdings.folder.share_lock().map_err(LetGoError::NotShared)?;
        self.inner.ownership.has_let_go.store(true, Ordering::Release);
        holdings.states.lay_down();
        holdings.kills.lay_down();
        holdings.checkpoints.lay_down();
        self.inner.events.log.lay_down();
        self.inner.launches.pen().lay_down();
        if let Some(log) = &rollouts.recorder.log {
            log.lay_down();
        }
        Ok(lock)
    }

    /// Takes everything back and lets changes in again: nobody else writes there any more. What is in force is as
    /// before; only the generation numbers that the other process may have given out are skipped. After an error
    /// traffic goes on and the state is unsaved, which is said and counted as ever.
    pub async fn take_back(&self) -> Result<(), TakeBackError> {
        let taken = self.take_up_pens();
        self.inner.events.be_quiet(false);
        let desired = self.desired();
        let (state, kills) = (self.save(desired.clone()), self.save_kills(desired));
        // Numbers are set aside again before any is given out, unless the disk takes too long for a kill to wait.
        let saved = async { (state.await, kills.await) };
        let _ = tokio::time::timeout(SAVE_AGAIN_PATIENCE, saved).await;
        self.open();
        taken
    }

    fn take_up_pens(&self) -> Result<(), TakeBackError> {
        let Some(holdings) = self.inner.holdings.get() else { return Ok(()) };
        if !self.inner.ownership.has_let_go() {
            return Ok(());
        }
        self.inner.ownership.has_let_go.store(false, Ordering::Release);
        let folder = &holdings.folder;
        folder.sign_lock();
        let recovered = folder.recover()?;
        if let Some(loaded) = recovered.payload.as_deref().and_then(|bytes| Desired::from_bytes(bytes).ok()) {
            self.inner.allocated.fetch_max(loaded.ceiling, Ordering::AcqRel);
        }
        holdings.states.take_up(folder.state_file());
        holdings.kills.take_up(folder.kill_file()?);
        holdings.checkpoints.take_up(folder.checkpoint_file());
        self.inner.events.log.take_up(folder.audit_log(AuditLimits::default())?);
        self.inner.launches.pen().take_up(folder.journals());
        if let Some(log) = &self.inner.rollouts.recorder.log {
            log.take_up(folder.record_log(RecordLimits::default()));
        }
        Ok(())
    }

    /// Puts in force what the process that has taken over says of some services: weights, locks, everything. Nothing is
    /// saved, services that are not configured here are passed over.
    pub fn follow(&self, generation: u64, states: Vec<ServiceState>) {
        let mut live = self.live();
        let mut desired = Desired::clone(&live.desired);
        let names: Vec<_> = states.iter().map(|state| state.name.clone()).collect();
        for state in states {
            desired.replace(state);
        }
        desired.generation = desired.generation.max(generation);
        live.adopt(Arc::new(desired), &names);
        let generation = generation.max(self.generation());
        self.inner.allocated.fetch_max(generation, Ordering::AcqRel);
        self.publish(&mut live, generation);
    }

    /// Changes with every table that is published; the value is its generation.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.inner.published.subscribe()
    }

    /// What is known of all endpoints that are checked; those that have not been yet are left out.
    pub fn known_health(&self) -> Vec<KnownHealth> {
        let live = self.live();
        let known = live.health().filter(|(_, health)| *health != Health::Unknown);
        known
            .map(|(key, health)| KnownHealth {
                url: key.way.url().to_string(),
                healthy: health == Health::Healthy,
            })
            .collect()
    }

    /// Begins with what another process knows of endpoints; its own checks go on from there.
    pub fn believe(&self, known: &[KnownHealth]) {
        for key in self.checks() {
            let url = key.way.url().to_string();
            let mut known = known.iter().filter(|known| known.url == url).peekable();
            if known.peek().is_some() {
                // One for each address of a name; what they are is looked up anew.
                let result = if known.any(|known| known.healthy) {
                    Ok(())
                } else {
                    Err("as before the upgrade".to_owned())
                };
                self.checked(&key, result);
            }
        }
    }
}
