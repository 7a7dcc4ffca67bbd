//! A request that gates judge, from its routing decision to the one word on it.
//!
//! It is judged once: at the response head, at the error, or already while it waits, when it has waited so long that
//! nobody would still call it well. What breaks later counts as well, if the head was good. What a failure
//! needs to be remembered by is kept as handles to what the request's head holds anyway.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};

use crate::clock;
use crate::routing::normalise;
use crate::telemetry::{self, FailureNote, MethodLabel, ServiceTally, Trialled};

/// A request on trial.
#[derive(Debug)]
pub(super) struct Judged {
    trialled: Trialled,
    method: MethodLabel,
    uri: Uri,
    request_id: HeaderValue,
    /// With such a status it is a success for the business.
    success: Option<RangeInclusive<u16>>,
    endpoint: RefCell<Option<Arc<str>>>,
    verdict: Cell<Option<Verdict>>,
    /// How long it waited in vain.
    waited: Cell<Option<Duration>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Well,
    Failed,
}

/// The outcome of a judged request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    /// The status the client gets.
    pub(super) code: u16,
    /// Whether it is the status of an endpoint of the assigned variant.
    pub(super) is_variants_word: bool,
    pub(super) is_failure: bool,
    pub(super) error: Option<&'static str>,
    pub(super) waited: Option<Duration>,
}

impl Judged {
    /// `success` is there if the request may become one.
    pub(super) fn new(
        trialled: Trialled,
        method: MethodLabel,
        uri: &Uri,
        request_id: &HeaderValue,
        success: Option<RangeInclusive<u16>>,
    ) -> Self {
        Self {
            trialled,
            method,
            uri: uri.clone(),
            request_id: request_id.clone(),
            success,
            endpoint: RefCell::default(),
            verdict: Cell::new(None),
            waited: Cell::new(None),
        }
    }

    /// An attempt at an endpoint begins.
    pub(super) fn at(&self, endpoint: &Arc<str>) {
        *self.endpoint.borrow_mut() = Some(endpoint.clone());
    }

    /// It waited so long for a response head that did not come.
    pub(super) fn waited_in_vain(&self, waited: Duration) {
        self.waited.set(Some(waited));
    }

    /// It waits for a response head since so long: beyond the limit it is a failure here and now.
    pub(super) fn waits(&self, tally: &ServiceTally, waited: Duration) {
        if self.verdict.get().is_some() || tally.stall().is_none_or(|limit| waited < limit) {
            return;
        }
        let word = Word {
            code: 0,
            is_variants_word: false,
            is_failure: true,
            error: Some("stalled"),
            waited: Some(waited),
        };
        self.tell(tally, word);
    }

    /// The outcome.
    pub(super) fn tell(&self, tally: &ServiceTally, word: Word) {
        if self.verdict.get().is_some() {
            return;
        }
        let Word { code, is_variants_word, is_failure, error, waited } = word;
        self.verdict.set(Some(if is_failure { Verdict::Failed } else { Verdict::Well }));
        let judged = telemetry::Judged {
            is_failure,
            is_client_error: is_variants_word && (400..500).contains(&code),
            is_success: is_variants_word && self.success.as_ref().is_some_and(|range| range.contains(&code)),
            waited: waited.or(self.waited.get()),
            is_again: false,
        };
        if !tally.judge(&self.trialled, judged) {
            return;
        }
        tally.sampled(&self.trialled, self.method, || normalise(self.uri.path()).unwrap_or_default());
        if is_failure {
            self.remember(tally, code, error);
        }
    }

    /// After a good head the response broke.
    pub(super) fn broke(&self, tally: &ServiceTally, code: u16, error: &'static str) {
        if self.verdict.get() == Some(Verdict::Failed) {
            return;
        }
        let is_again = self.verdict.replace(Some(Verdict::Failed)).is_some();
        let judged = telemetry::Judged { is_failure: true, is_again, ..telemetry::Judged::default() };
        if tally.judge(&self.trialled, judged) {
            self.remember(tally, code, Some(error));
        }
    }

    fn remember(&self, tally: &ServiceTally, status: u16, error: Option<&'static str>) {
        tally.failed(&self.trialled, clock::wall(), || FailureNote {
            method: self.method,
            path: normalise(self.uri.path()).unwrap_or_default().into_owned(),
            status,
            error,
            endpoint: self.endpoint.borrow().clone(),
            request_id: self.request_id.to_str().unwrap_or_default().to_owned(),
        });
    }
}
