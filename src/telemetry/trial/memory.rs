//! What is remembered of judged requests for people: the last failures, and which requests a variant gets at all.
//!
//! Memory is the worker's own, and only a reader's look can be in its way: then the worker skips a failure and counts
//! that. Only failures are written in full, a bounded number a second, so a flood of them stays cheap; of
//! all requests one in 64 is noted by method and path. Paths are patterns: what looks like an id is `*`, so that
//! the same thing at two orders is one thing, and nobody's id is kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError, TryLockError};

use super::{RecentFailure, Remembered};
use crate::telemetry::counter::Counter;

const FAILURES_MAX: usize = 256;
const FAILURES_A_SECOND_MAX: u32 = 200;
/// One request of so many is noted.
const SAMPLE_EVERY: u64 = 64;
const SAMPLE_KINDS_MAX: usize = 256;
/// Where requests go that found no room of their own.
const OTHERS: &str = "*";

const PATH_BYTES_MAX: usize = 200;
/// Hex digits in a row from so many on are an id.
const HEX_MIN: usize = 8;
/// No word that a person wrote is longer.
const WORD_BYTES_MAX: usize = 40;

/// One worker's memory of one variant.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Memory {
    failures: Mutex<Failures>,
    sample: Mutex<BTreeMap<(&'static str, String), u64>>,
    requests: Counter,
    skipped: Counter,
}

#[derive(Debug, Default)]
struct Failures {
    recent: VecDeque<RecentFailure>,
    second: u64,
    in_second: u32,
}

impl Memory {
    /// Remembers a failure of this second, unless there were too many. Only the owning thread calls it.
    pub(in crate::telemetry) fn failed(&self, second: u64, failure: impl FnOnce() -> RecentFailure) {
        let mut failures = match self.failures.try_lock() {
            Ok(failures) => failures,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return self.skipped.increment(),
        };
        if failures.second != second {
            (failures.second, failures.in_second) = (second, 0);
        }
        if failures.in_second >= FAILURES_A_SECOND_MAX {
            return self.skipped.increment();
        }
        failures.in_second += 1;
        if failures.recent.len() >= FAILURES_MAX {
            failures.recent.pop_front();
        }
        failures.recent.push_back(failure());
    }

    /// Notes one request of 64, the first of them. Only the owning thread calls it.
    pub(in crate::telemetry) fn passed<'p>(
        &self,
        method: &'static str,
        path: impl FnOnce() -> std::borrow::Cow<'p, str>,
    ) {
        let nth = self.requests.read();
        self.requests.increment();
        if !nth.is_multiple_of(SAMPLE_EVERY) {
            return;
        }
        let Ok(mut sample) = self.sample.try_lock() else { return };
        let path = pattern(&path());
        let is_full = sample.len() >= SAMPLE_KINDS_MAX;
        let key = (method, path);
        let key = if is_full && !sample.contains_key(&key) { (OTHERS, OTHERS.to_owned()) } else { key };
        *sample.entry(key).or_default() += 1;
    }

    /// Adds what is remembered here.
    pub(super) fn add_to(&self, remembered: &mut Remembered) {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.failures.extend(failures.recent.iter().cloned());
        drop(failures);
        remembered.skipped += self.skipped.read();
        let sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        for ((method, path), count) in sample.iter() {
            let is_it = |((known, at), _): &&mut ((String, String), u64)| known == method && at == path;
            match remembered.sample.iter_mut().find(is_it) {
                Some((_, sum)) => *sum += count,
                None => remembered.sample.push((((*method).to_owned(), path.clone()), *count)),
            }
        }
    }

    /// Another rollout: what was before is of no interest.
    pub(super) fn forget(&self) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).recent.clear();
        self.sample.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A path with what looks like an id replaced by `*`, at most 200 bytes, without control characters.
pub(super) fn pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len().min(PATH_BYTES_MAX));
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            pattern.push('/');
        }
        if is_id(segment) {
            pattern.push('*');
        } else {
            pattern.extend(segment.chars().filter(|character| !character.is_control()));
        }
        if pattern.len() > PATH_BYTES_MAX {
            pattern.truncate(pattern.floor_char_boundary(PATH_BYTES_MAX - 3));
            pattern.push('…');
            break;
        }
    }
    pattern
}

/// Digits, long hex, a UUID, or longer than any word.
fn is_id(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_hex = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let is_number =
        digits > 0 && segment.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_'));
    let is_long_hex = segment.len() >= HEX_MIN && segment.bytes().all(is_hex) && digits > 0;
    is_number || is_long_hex || segment.len() > WORD_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use proptest::prelude::*;

    #[test]
    fn ids_in_a_path_are_stars() {
        #[track_caller]
        fn check(path: &str, expected: &str) {
            assert_eq!(pattern(path), expected);
        }
        check("/", "/");
        check("/orders", "/orders");
        check("/orders/17", "/orders/*");
        check("/orders/17/items/", "/orders/*/items/");
        check("/o/2026-11-20", "/o/*");
        check("/api/v2/users", "/api/v2/users");
        check("/x/deadbeef", "/x/deadbeef");
        check("/x/deadbee1", "/x/*");
        check("/x/dead1", "/x/dead1");
        check("/x/123E4567-e89b-12d3-a456-426614174000", "/x/*");
        check("/x/ä\u{7}\u{9b}b", "/x/äb");
        check(&format!("/t/{}", "x".repeat(41)), "/t/*");
        check(&format!("/t/{}", "x".repeat(40)), &format!("/t/{}", "x".repeat(40)));
    }

    fn failure(nth: usize) -> RecentFailure {
        RecentFailure {
            at: Timestamp::from_millis(nth as u64),
            method: "GET".into(),
            path: "/".into(),
            status: 500,
            error: None,
            endpoint: None,
            request_id: nth.to_string(),
            visitor: None,
        }
    }

    #[test]
    fn a_flood_of_failures_is_bounded_in_number_and_in_rate() {
        let memory = Memory::default();
        for nth in 0..1_000 {
            memory.failed((nth / 250) as u64, || failure(nth));
        }
        let mut remembered = Remembered::default();
        memory.add_to(&mut remembered);
        assert_eq!(remembered.failures.len(), FAILURES_MAX);
        assert_eq!(remembered.failures.last().unwrap().request_id, "949");
        assert_eq!(remembered.skipped, 200);
        memory.forget();
        let mut after = Remembered::default();
        memory.add_to(&mut after);
        assert!(after.failures.is_empty());
    }

    #[test]
    fn a_failure_is_skipped_while_somebody_reads() {
        let memory = Memory::default();
        let reading = memory.failures.lock().unwrap();
        memory.failed(0, || failure(0));
        drop(reading);
        assert_eq!((memory.skipped.read(), memory.failures.lock().unwrap().recent.len()), (1, 0));
    }

    #[test]
    fn one_request_of_64_is_in_the_sample_and_kinds_are_bounded() {
        let (one, other) = (Memory::default(), Memory::default());
        for nth in 0..640 {
            one.passed("GET", || format!("/orders/{nth}").into());
            other.passed("GET", || "/orders/1".into());
        }
        let mut remembered = Remembered::default();
        one.add_to(&mut remembered);
        other.add_to(&mut remembered);
        assert_eq!(remembered.sample, [(("GET".to_owned(), "/orders/*".to_owned()), 20)]);

        for nth in 0..64 * 300 {
            one.passed("POST", || format!("/kind-{nth}").into());
        }
        assert_eq!(one.sample.lock().unwrap().len(), SAMPLE_KINDS_MAX + 1);
        assert_eq!(one.sample.lock().unwrap()[&(OTHERS, OTHERS.to_owned())], 300 - 255);
    }

    proptest! {
        #[test]
        fn a_pattern_is_short_and_fit_to_print(path in "(/[^/]{0,60}){0,12}") {
            let pattern = pattern(&path);
            prop_assert!(pattern.len() <= PATH_BYTES_MAX);
            prop_assert!(!pattern.contains(char::is_control));
        }
    }
}
