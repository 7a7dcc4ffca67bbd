//! What failures of late have in common, as facts and as a sentence.
//!
//! Whoever is woken at night wants one line: how many, of whom, and what they share. So each property is cut into
//! groups and only the largest is told: "all", "12 of 14", or how many groups there are when none stands out. The other
//! variant's share on the same route says whether it is the release at all.
//!
//! Failures are remembered one by one and requests are only sampled, so the other variant's share is an estimate; the
//! counts of requests and failures are exact.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::admin::api::{Cut, FailureSample, FailureStory, Failures, Group};
use crate::clock::Timestamp;
use crate::telemetry::{RecentFailure, Remembered};
use crate::traffic::{PerVariant, Role, Variant};

/// What "of late" means where failures are that fresh.
const LATELY: Duration = Duration::from_secs(60);
/// How many are told one by one.
const NEWEST_MAX: usize = 5;

/// Requests and failures of some time, exactly.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Outcomes.
    pub requests: u64,
    /// Failures.
    pub failures: u64,
}

/// What is known about a variant.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'s> {
    /// One by one.
    pub remembered: &'s Remembered,
    /// In the last minute.
    pub minute: Counted,
    /// Since the process started.
    pub ever: Counted,
}

/// The story of both variants, the candidate first.
pub fn story(service: &str, candidate: Variant, seen: &PerVariant<Seen<'_>>, now: Timestamp) -> FailureStory {
    let variants = PerVariant::from_fn(|variant| {
        let role = if variant == candidate { Role::Candidate } else { Role::Stable };
        facts(role, &seen[variant], &seen[variant.other()], now)
    });
    let sentences = [candidate, candidate.other()].map(|variant| sentence(variant, &variants[variant]));
    FailureStory { service: service.to_owned(), candidate, variants, sentences: sentences.into() }
}

/// What one variant's failures have in common: those of the last minute, else all since the start.
fn facts(role: Role, seen: &Seen<'_>, other: &Seen<'_>, now: Timestamp) -> Failures {
    let is_late = |failure: &&RecentFailure| now.since(failure.at) <= LATELY;
    let lately = seen.minute.failures > 0 && seen.remembered.failures.iter().any(|failure| is_late(&failure));
    let of = |seen: &Seen<'_>| if lately { seen.minute } else { seen.ever };
    let told = |seen: &Seen<'_>| -> Vec<RecentFailure> {
        seen.remembered.failures.iter().filter(|failure| !lately || is_late(failure)).cloned().collect()
    };
    let (counted, failures) = (of(seen), told(seen));
    let remembered = failures.len() as u64;
    let visitors: BTreeSet<u64> = failures.iter().filter_map(|failure| failure.visitor).collect();
    let route = cut(failures.iter().map(|failure| Some(route_of(&failure.method, &failure.path))));
    let other_on_route =
        route.as_ref().and_then(|route| ratio_on(&route.largest.what, other, of(other), &told(other)));
    // What was counted before this look and remembered after it differ by a request or two.
    let failed = counted.failures.max(remembered);
    Failures {
        role,
        seconds: lately.then_some(LATELY.as_secs()),
        requests: counted.requests.max(failed),
        failures: failed,
        remembered,
        visitors: (!visitors.is_empty()).then_some(visitors.len() as u64),
        status: cut(failures.iter().map(|failure| Some(failure.status.to_string()))),
        endpoint: cut(failures.iter().map(|failure| failure.endpoint.as_deref().map(clean))),
        error: cut(failures.iter().map(|failure| failure.error.map(str::to_owned))),
        route,
        other_on_route,
        newest: failures.iter().rev().take(NEWEST_MAX).map(sample).collect(),
    }
}

/// Groups by what there is; the first of equally large ones in the order of names.
fn cut(values: impl Iterator<Item = Option<String>>) -> Option<Cut> {
    let mut groups: BTreeMap<String, u64> = BTreeMap::new();
    for value in values.flatten() {
        *groups.entry(value).or_default() += 1;
    }
    let count = groups.len() as u64;
    let (what, failures) =
        groups.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    Some(Cut { largest: Group { what, failures }, groups: count })
}

/// The share of failures among a variant's requests on a route.
fn ratio_on(route: &str, seen: &Seen<'_>, counted: Counted, failures: &[RecentFailure]) -> Option<f64> {
    let part = |on_route: u64, all: u64| if all == 0 { 0.0 } else { on_route as f64 / all as f64 };
    let sample = &seen.remembered.sample;
    let sampled: u64 = sample.iter().map(|(_, count)| count).sum();
    let on_route = sample.iter().filter(|((method, path), _)| route_of(method, path) == route);
    let requests = counted.requests as f64 * part(on_route.map(|(_, count)| count).sum(), sampled);
    let failed = failures.iter().filter(|failure| route_of(&failure.method, &failure.path) == route).count();
    let failed = counted.failures as f64 * part(failed as u64, failures.len() as u64);
    (requests >= 1.0).then(|| (failed / requests).min(1.0))
}

/// The facts as a sentence, or as two.
fn sentence(variant: Variant, facts: &Failures) -> String {
    let Failures { requests, failures, remembered, visitors, seconds, .. } = facts;
    let when = seconds.map_or_else(
        || "since this process started".to_owned(),
        |seconds| format!("in the last {seconds} s"),
    );
    if *requests == 0 {
        return format!("{variant} got no request {when}");
    }
    if *failures == 0 {
        return format!("none of {} {variant} requests failed {when}", thousands(*requests));
    }
    let mut text =
        format!("{} of {} {variant} requests failed {when}", thousands(*failures), thousands(*requests));
    if let Some(visitors) = visitors {
        let who = if *visitors == 1 { "visitor" } else { "visitors" };
        text.push_str(&format!(", from {} {who}", thousands(*visitors)));
    }
    let common = [
        facts.status.as_ref().map(|cut| part(cut, *remembered, "with", "", "statuses")),
        facts.error.as_ref().map(|cut| part(cut, *remembered, "with", "error ", "errors")),
        facts.route.as_ref().map(|cut| part(cut, *remembered, "on", "", "routes")),
        facts.endpoint.as_ref().map(|cut| part(cut, *remembered, "from", "endpoint ", "endpoints")),
    ];
    let common: Vec<String> = common.into_iter().flatten().collect();
    if !common.is_empty() {
        let of = if remembered < failures {
            format!("of the newest {}: ", thousands(*remembered))
        } else {
            String::new()
        };
        text.push_str(&format!("; {of}{}", common.join(", ")));
    }
    if let (Some(route), Some(ratio)) = (&facts.route, facts.other_on_route) {
        text.push_str(&format!("; {} on {}: {}", variant.other(), route.largest.what, percent(ratio)));
    }
    text
}

/// `all 500`, `12 of 14 from endpoint a:1`, or `7 routes` where no group has more than half.
fn part(cut: &Cut, all: u64, link: &str, kind: &str, many: &str) -> String {
    let Group { what, failures } = &cut.largest;
    match *failures {
        _ if all == 1 => format!("{kind}{what}"),
        count if count == all => format!("all {kind}{what}"),
        count if count * 2 > all || cut.groups == 1 => {
            format!("{} of {} {link} {kind}{what}", thousands(count), thousands(all))
        }
        _ => format!("{} {many}", thousands(cut.groups)),
    }
}

fn sample(failure: &RecentFailure) -> FailureSample {
    FailureSample {
        at: failure.at,
        method: clean(&failure.method),
        path: clean(&failure.path),
        status: failure.status,
        error: failure.error.map(str::to_owned),
        endpoint: failure.endpoint.as_deref().map(clean),
        request_id: clean(&failure.request_id),
    }
}

fn route_of(method: &str, path: &str) -> String {
    clean(&format!("{method} {path}"))
}

/// Without what a terminal would obey.
fn clean(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).collect()
}

fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0 %".to_owned(),
        percent if percent < 0.01 => "<0.01 %".to_owned(),
        percent if percent < 0.095 => format!("{percent:.2} %"),
        percent if percent >= 99.95 => "100 %".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}

fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    /// `status route endpoint visitor`, so many seconds ago.
    fn failure(
        seconds: u64,
        status: u16,
        route: &str,
        endpoint: Option<&str>,
        visitor: u64,
    ) -> RecentFailure {
        let (method, path) = route.split_once(' ').unwrap();
        RecentFailure {
            at: Timestamp::from_millis(1_000_000 - seconds * 1000),
            method: method.to_owned(),
            path: path.to_owned(),
            status,
            error: None,
            endpoint: endpoint.map(Into::into),
            request_id: format!("r{seconds}"),
            visitor: (visitor > 0).then_some(visitor),
        }
    }

    fn remembered(failures: Vec<RecentFailure>, sample: &[(&str, u64)]) -> Remembered {
        let route = |text: &str| {
            let (method, path) = text.split_once(' ').unwrap();
            (method.to_owned(), path.to_owned())
        };
        let sample = sample.iter().map(|(text, count)| (route(text), *count)).collect();
        Remembered { failures, sample, skipped: 0 }
    }

    fn counted(requests: u64, failures: u64) -> Counted {
        Counted { requests, failures }
    }

    #[track_caller]
    fn check(
        green: (&Remembered, Counted, Counted),
        blue: (&Remembered, Counted, Counted),
        expected: [&str; 2],
    ) {
        let seen = |(remembered, minute, ever)| Seen { remembered, minute, ever };
        let seen = PerVariant { blue: seen(blue), green: seen(green) };
        assert_eq!(story("shop", Variant::Green, &seen, NOW).sentences, expected);
    }

    #[test]
    fn what_all_failures_share_is_said_in_one_sentence() {
        let orders = (0..14).map(|n| failure(n, 500, "POST /orders", Some("10.0.0.21:3000"), 1 + n.min(10)));
        let green = remembered(orders.collect(), &[("POST /orders", 20), ("GET /", 80)]);
        let other = failure(3, 502, "POST /orders", Some("10.0.0.11:3000"), 77);
        let blue = remembered(vec![other], &[("POST /orders", 50), ("GET /", 50)]);
        check(
            (&green, counted(583, 14), counted(9000, 20)),
            (&blue, counted(1000, 1), counted(90_000, 30)),
            [
                "14 of 583 green requests failed in the last 60 s, from 11 visitors; all 500, all POST /orders, \
                 all endpoint 10.0.0.21:3000; blue on POST /orders: 0.2 %",
                "1 of 1,000 blue requests failed in the last 60 s, from 1 visitor; 502, POST /orders, \
                 endpoint 10.0.0.11:3000; green on POST /orders: 12.0 %",
            ],
        );
    }

    #[test]
    fn a_group_that_does_not_stand_out_is_only_counted() {
        let mut failures: Vec<_> =
            (0..12).map(|n| failure(n, 500, &format!("GET /{n}"), Some("a:1"), 0)).collect();
        failures.push(RecentFailure { error: Some("connect"), ..failure(12, 502, "GET /x", None, 0) });
        failures.push(RecentFailure { error: Some("connect"), ..failure(13, 502, "GET /x", None, 0) });
        check(
            (&remembered(failures, &[]), counted(100, 14), counted(100, 14)),
            (&Remembered::default(), counted(0, 0), counted(5000, 0)),
            [
                "14 of 100 green requests failed in the last 60 s; 12 of 14 with 500, 2 of 14 with error connect, \
                 13 routes, 12 of 14 from endpoint a:1",
                "none of 5,000 blue requests failed since this process started",
            ],
        );
    }

    #[test]
    fn when_it_is_over_all_since_the_start_is_told() {
        let old: Vec<_> = (100..110).map(|n| failure(n, 503, "GET /", Some("a:1"), 0)).collect();
        check(
            (&remembered(old, &[("GET /", 10)]), counted(0, 0), counted(2000, 400)),
            (&remembered(vec![], &[("GET /", 10)]), counted(600, 0), counted(3000, 0)),
            [
                "400 of 2,000 green requests failed since this process started; of the newest 10: all 503, all GET /, \
                 all endpoint a:1; blue on GET /: 0 %",
                "none of 3,000 blue requests failed since this process started",
            ],
        );
        check(
            (&Remembered::default(), counted(0, 0), counted(0, 0)),
            (&Remembered::default(), counted(0, 0), counted(0, 0)),
            [
                "green got no request since this process started",
                "blue got no request since this process started",
            ],
        );
    }

    #[test]
    fn what_a_terminal_would_obey_is_left_out() {
        let bad = RecentFailure {
            request_id: "a\x07b".to_owned(),
            ..failure(1, 500, "GET /\x1b[2J\u{9b}x", Some("a:1\n"), 0)
        };
        let green = remembered(vec![bad], &[]);
        let quiet = Remembered::default();
        let seen = |remembered| Seen { remembered, minute: counted(10, 1), ever: counted(10, 1) };
        let both = PerVariant { blue: seen(&quiet), green: seen(&green) };
        let told = story("shop", Variant::Green, &both, NOW);
        let text = serde_json::to_string(&told).unwrap();
        assert!(!text.contains("\\u001b") && !text.contains("\\u0007") && !text.contains('\u{9b}'), "{text}");
        assert_eq!(told.variants.green.newest[0].path, "/[2Jx");
    }

    #[test]
    fn only_the_newest_are_told_one_by_one_newest_first() {
        let failures = (0..9).rev().map(|n| failure(n, 500, "GET /", None, 0)).collect();
        let (green, quiet) = (remembered(failures, &[]), Remembered::default());
        let seen = |remembered| Seen { remembered, minute: counted(10, 9), ever: counted(10, 9) };
        let told =
            story("shop", Variant::Green, &PerVariant { blue: seen(&quiet), green: seen(&green) }, NOW);
        let ids: Vec<_> = told.variants.green.newest.iter().map(|one| one.request_id.as_str()).collect();
        assert_eq!(ids, ["r0", "r1", "r2", "r3", "r4"]);
    }
}
