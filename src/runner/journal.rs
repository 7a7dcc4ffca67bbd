//! The launch as the daemon has it, and the runner's part of writing it.

use std::time::Duration;

use tokio::runtime::Runtime;

use super::News;
use super::away::{self, Leave};
use super::error::RunnerError;
use super::signs::{self, Halt, Signs};
use crate::admin::api::{Note, NoteRequest, RECORDS_MAX};
use crate::admin::client::{Client, ClientError};
use crate::launch::{Entry, Ledger, Next, Record};

/// A launch's journal, as far as it is known here.
pub(super) struct Journal<'a> {
    client: &'a Client,
    tell: &'a mut dyn FnMut(&News<'_>),
    signs: Signs,
    runtime: Runtime,
    /// With every record so far.
    pub(super) ledger: Ledger,
    /// Of our lease; `None` for who only looks on.
    fence: Option<u64>,
}

impl<'a> Journal<'a> {
    pub(super) fn new(
        client: &'a Client,
        ledger: Ledger,
        fence: Option<u64>,
        signs: Signs,
        tell: &'a mut dyn FnMut(&News<'_>),
    ) -> Result<Self, RunnerError> {
        Ok(Self { client, tell, signs, runtime: signs::runtime()?, ledger, fence })
    }

    /// Takes in what was noted since, as soon as there is something or `wait` is over; the new records.
    pub(super) fn read(&mut self, mut wait: Duration) -> Result<Vec<Record>, Leave> {
        let mut new = Vec::new();
        loop {
            let (client, launch, seq) = (self.client, &self.ledger.launch.name, self.ledger.seq);
            let page = away::ask(launch, &self.signs, &self.runtime, || client.records(launch, seq, wait))?;
            let is_last = page.len() < RECORDS_MAX;
            self.take(&page)?;
            new.extend(page);
            if is_last {
                return Ok(new);
            }
            wait = Duration::ZERO;
        }
    }

    /// The same, if the daemon answers at once.
    pub(super) fn glance(&mut self) -> Result<(), Leave> {
        match self.client.records(&self.ledger.launch.name, self.ledger.seq, Duration::ZERO) {
            Ok(page) => self.take(&page),
            Err(error) if away::is_away(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn take(&mut self, page: &[Record]) -> Result<(), Leave> {
        if page.is_empty() {
            return Ok(());
        }
        for record in page {
            self.ledger = self.ledger.with(record)?;
        }
        (self.tell)(&News::Records(&self.ledger, page));
        self.judge()
    }

    /// Whether the lease is still ours, and whether the launch is to be undone.
    pub(super) fn judge(&self) -> Result<(), Leave> {
        if let Some(why) = self.ledger.why_stopped() {
            self.signs.stop(why);
        }
        let holds = self.ledger.lease.as_ref().map(|lease| lease.fence);
        if self.fence.is_some() && self.fence != holds {
            self.signs.halt(Halt::Lost);
            return Err(Leave::Halted);
        }
        Ok(())
    }

    /// Notes what comes next; afterwards everything that was noted is taken in. `false`: it is not what comes next any more.
    pub(super) fn note(&mut self, note: Note) -> Result<bool, Leave> {
        loop {
            let (client, launch) = (self.client, &self.ledger.launch.name);
            let after = self.ledger.seq;
            let request = NoteRequest { fence: self.fence.unwrap_or_default(), after, note: note.clone() };
            let noted = away::ask(launch, &self.signs, &self.runtime, || client.note(launch, &request));
            match noted {
                Ok(_) => {
                    self.read(Duration::ZERO)?;
                    return Ok(true);
                }
                // Somebody else noted something; or this was noted before, and the answer was lost.
                Err(Leave::Failed(RunnerError::Client(
                    refusal @ ClientError::Refused { status: 409 | 412, .. },
                ))) => {
                    let new = self.read(Duration::ZERO)?;
                    if new.iter().any(|record| record.entry == Entry::from(note.clone())) {
                        return Ok(true);
                    }
                    if !fits(&note, self.ledger.next()) {
                        return Ok(false);
                    }
                    if new.is_empty() {
                        return Err(refusal.into());
                    }
                }
                Err(other) => return Err(other),
            }
        }
    }

    pub(super) fn tell(&mut self, news: &News<'_>) {
        (self.tell)(news);
    }

    pub(super) fn client(&self) -> &'a Client {
        self.client
    }
}

/// Whether it is its turn.
pub(super) fn fits(note: &Note, next: Next) -> bool {
    match *note {
        Note::Began { phase, step } => next == Next::Do { phase, step },
        Note::Ended { phase, step, .. } => next == Next::Await { phase, step },
        Note::Chose { phase, .. } => matches!(next, Next::Choose { phase: open, .. } if open == phase),
    }
}
