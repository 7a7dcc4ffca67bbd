//! When a rollout may start and advance: times of the week, and dates that are denied.
//!
//! Gates and rollbacks know no windows. Zones come from the database that is built in, not from the machine's: the
//! same record replays the same everywhere.

use std::sync::{Arc, LazyLock};

use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Allowed times. Empty `allowed` allows always, but on denied dates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Windows {
    /// Any of these.
    pub allowed: Vec<Window>,
    /// None of these dates (`2026-12-24`), from midnight to midnight in `zone`.
    pub denied: Vec<Arc<str>>,
    /// An IANA time zone; empty: UTC.
    pub zone: Arc<str>,
}

/// A time of some days of the week.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Window {
    /// Monday is 0, Sunday 6; empty: every day.
    pub days: Vec<u8>,
    /// Minutes since midnight, 0 to 1439.
    pub from: u16,
    /// Minutes since midnight, 1 to 1440, not included; smaller than `from` means the next day.
    pub to: u16,
}

/// How many windows a plan may have. Each tick outside of them looks for the next one, a year ahead.
const ALLOWED_MAX: usize = 64;
/// How many days a plan may leave out.
const DENIED_MAX: usize = 400;
/// How many days ahead an opening is looked for.
const DAYS_AHEAD: usize = 366;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

impl Windows {
    /// Whether a rollout may start or advance at this moment. Never in a zone that nobody knows.
    pub fn is_open(&self, at: Timestamp) -> bool {
        if self.allowed.is_empty() && self.denied.is_empty() {
            return true;
        }
        self.calendar().is_some_and(|calendar| calendar.is_open(instant(at)))
    }

    /// The next moment at which it is open: `at` itself if it is open then, and `None` if it does not open within a year.
    pub fn next_opening(&self, at: Timestamp) -> Option<Timestamp> {
        if self.is_open(at) {
            return Some(at);
        }
        let calendar = self.calendar()?;
        let from = instant(at);
        let mut day = calendar.zone.to_datetime(from).date();
        for _ in 0..=DAYS_AHEAD {
            let next = day.tomorrow().ok()?;
            let opening = calendar
                .changes(day, next)
                .into_iter()
                .find(|change| *change > from && calendar.is_open(*change));
            if let Some(opening) = opening {
                return timestamp(opening);
            }
            day = next;
        }
        None
    }

    /// What is wrong with them, each with its place below `windows`.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if !self.zone.is_empty() && zone(&self.zone).is_none() {
            problems.push(("zone".to_owned(), unknown_zone(&self.zone)));
        }
        for (place, length, most) in
            [("allowed", self.allowed.len(), ALLOWED_MAX), ("denied", self.denied.len(), DENIED_MAX)]
        {
            if length > most {
                problems
                    .push((place.to_owned(), format!("there are {length}; at most {most} are looked at")));
            }
        }
        for (at, window) in self.allowed.iter().enumerate() {
            let place = format!("allowed[{at}]");
            if window.days.iter().any(|day| *day > 6) {
                problems.push((place.clone(), "a day of the week is 0 (Monday) to 6 (Sunday)".to_owned()));
            }
            if window.from >= MINUTES_A_DAY || window.to > MINUTES_A_DAY {
                problems.push((place, "a time of day is 00:00 to 24:00".to_owned()));
            } else if window.from == window.to {
                problems.push((place, "it never opens: it ends when it begins".to_owned()));
            }
        }
        for (at, date) in self.denied.iter().enumerate() {
            if date.parse::<Date>().is_err() {
                let why = format!("{date:?} is not a date; write it as 2026-12-24");
                problems.push((format!("denied[{at}]"), why));
            }
        }
        problems
    }

    fn calendar(&self) -> Option<Calendar<'_>> {
        let zone = if self.zone.is_empty() { TimeZone::UTC } else { zone(&self.zone)? };
        let denied = self.denied.iter().filter_map(|date| date.parse().ok()).collect();
        Some(Calendar { windows: self, zone, denied })
    }
}

/// The next moment after `after` at which clocks in `zone` show this time of day; a time that a clock change skips
/// comes as much later as the change is long. `None` if nobody knows the zone.
pub fn next_time_of_day(minute_of_day: u16, zone_name: &str, after: Timestamp) -> Option<Timestamp> {
    let zone = zone(zone_name)?;
    let mut day = zone.to_datetime(instant(after)).date();
    // Two days suffice, but for places that once skipped a whole day.
    for _ in 0..4 {
        let shown = time_on(day, minute_of_day)?;
        let moment = zone.to_timestamp(shown).ok().and_then(timestamp)?;
        if moment > after {
            return Some(moment);
        }
        day = day.tomorrow().ok()?;
    }
    None
}

/// Whether the database of time zones has this name.
pub fn is_zone(name: &str) -> bool {
    zone(name).is_some()
}

/// What is said of a zone that the database does not have.
pub(super) fn unknown_zone(name: &str) -> String {
    format!("{name:?} is not a time zone; write it as Europe/Berlin")
}

struct Calendar<'w> {
    windows: &'w Windows,
    zone: TimeZone,
    denied: Vec<Date>,
}

impl Calendar<'_> {
    fn is_open(&self, at: jiff::Timestamp) -> bool {
        let shown = self.zone.to_datetime(at);
        if self.denied.contains(&shown.date()) {
            return false;
        }
        let minute = minute_of_day(shown);
        let today = weekday(shown.date());
        let yesterday = (today + 6) % 7;
        let allowed = &self.windows.allowed;
        allowed.is_empty()
            || allowed.iter().any(|window| {
                let on = |day| window.days.is_empty() || window.days.contains(&day);
                if window.from < window.to {
                    on(today) && (window.from..window.to).contains(&minute)
                } else {
                    window.from > window.to
                        && ((on(today) && minute >= window.from) || (on(yesterday) && minute < window.to))
                }
            })
    }

    /// Every moment of a day at which it may open: its beginning, the beginnings of windows (twice, if clocks
    /// show them twice), and changes of the clock. In order.
    fn changes(&self, day: Date, next: Date) -> Vec<jiff::Timestamp> {
        let beginnings = std::iter::once(0).chain(self.windows.allowed.iter().map(|window| window.from));
        let mut changes = Vec::new();
        for minute in beginnings {
            let Some(shown) = time_on(day, minute) else { continue };
            let ambiguous = self.zone.to_ambiguous_timestamp(shown);
            changes.extend(ambiguous.earlier().into_iter().chain(ambiguous.later()));
        }
        let bounds =
            (self.zone.to_timestamp(day.to_datetime(NOON)), self.zone.to_timestamp(next.to_datetime(NOON)));
        if let (Ok(noon), Ok(end)) = bounds {
            // From a day before noon, because clocks change at night.
            let begin = noon.checked_sub(jiff::SignedDuration::from_hours(24)).unwrap_or(noon);
            let transitions = self.zone.following(begin).map(|transition| transition.timestamp());
            changes.extend(transitions.take_while(|at| *at <= end));
        }
        changes.sort_unstable();
        changes
    }
}

const MINUTES_A_DAY: u16 = 24 * 60;
const NOON: jiff::civil::Time = jiff::civil::Time::constant(12, 0, 0, 0);

fn zone(name: &str) -> Option<TimeZone> {
    ZONES.get(name).ok()
}

fn instant(at: Timestamp) -> jiff::Timestamp {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX)
}

fn timestamp(at: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(at.as_millisecond()).ok().map(Timestamp::from_millis)
}

fn time_on(day: Date, minute_of_day: u16) -> Option<DateTime> {
    let (hour, minute) = (i8::try_from(minute_of_day / 60).ok()?, i8::try_from(minute_of_day % 60).ok()?);
    Some(day.to_datetime(jiff::civil::Time::new(hour, minute, 0, 0).ok()?))
}

fn minute_of_day(shown: DateTime) -> u16 {
    u16::from(shown.hour().unsigned_abs()) * 60 + u16::from(shown.minute().unsigned_abs())
}

fn weekday(day: Date) -> u8 {
    day.weekday().to_monday_zero_offset().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn windows(zone: &str, allowed: &[(&[u8], u16, u16)], denied: &[&str]) -> Windows {
        let allowed =
            allowed.iter().map(|(days, from, to)| Window { days: days.to_vec(), from: *from, to: *to });
        Windows {
            allowed: allowed.collect(),
            denied: denied.iter().map(|date| (*date).into()).collect(),
            zone: zone.into(),
        }
    }

    #[test]
    fn more_windows_than_a_tick_can_look_at_are_a_problem() {
        let window = Window { days: vec![], from: 60, to: 61 };
        let mut many = Windows { allowed: vec![window; ALLOWED_MAX], ..Windows::default() };
        many.denied = vec!["2026-12-24".into(); DENIED_MAX];
        assert_eq!(many.problems(), []);
        many.allowed.extend(many.allowed.clone());
        many.denied.push("2026-12-25".into());
        let places: Vec<_> = many.problems().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["allowed", "denied"]);
    }

    #[test]
    fn a_window_is_open_by_the_clocks_of_its_zone() {
        #[track_caller]
        fn check(windows: &Windows, moment: &str, open: bool, next: Option<&str>) {
            assert_eq!(windows.is_open(at(moment)), open, "{moment}");
            assert_eq!(windows.next_opening(at(moment)), next.map(at), "{moment}");
        }
        let always = Windows::default();
        check(&always, "2026-01-01T00:00:00Z", true, Some("2026-01-01T00:00:00Z"));

        let office = windows("Europe/Berlin", &[(&[0, 1, 2, 3, 4], 9 * 60, 16 * 60)], &["2026-01-06"]);
        check(&office, "2026-01-05T07:59:59.999Z", false, Some("2026-01-05T08:00:00Z"));
        check(&office, "2026-01-05T08:00:00Z", true, Some("2026-01-05T08:00:00Z"));
        check(&office, "2026-01-05T14:59:59.999Z", true, Some("2026-01-05T14:59:59.999Z"));
        check(&office, "2026-01-05T15:00:00Z", false, Some("2026-01-07T08:00:00Z"));
        check(&office, "2026-01-09T15:00:00Z", false, Some("2026-01-12T08:00:00Z"));
        check(&office, "2026-07-06T07:00:00Z", true, Some("2026-07-06T07:00:00Z"));

        let night = windows("", &[(&[4], 22 * 60, 4 * 60)], &[]);
        check(&night, "2026-01-09T23:00:00Z", true, Some("2026-01-09T23:00:00Z"));
        check(&night, "2026-01-10T03:59:00Z", true, Some("2026-01-10T03:59:00Z"));
        check(&night, "2026-01-10T04:00:00Z", false, Some("2026-01-16T22:00:00Z"));

        let whole_day = windows("", &[(&[6], 0, 1440)], &[]);
        check(&whole_day, "2026-01-10T23:59:00Z", false, Some("2026-01-11T00:00:00Z"));
        check(&whole_day, "2026-01-11T23:59:59Z", true, Some("2026-01-11T23:59:59Z"));

        let denied = windows("America/New_York", &[], &["2026-12-24", "2026-12-25"]);
        check(&denied, "2026-12-24T04:59:59Z", true, Some("2026-12-24T04:59:59Z"));
        check(&denied, "2026-12-24T05:00:00Z", false, Some("2026-12-26T05:00:00Z"));

        check(&windows("", &[(&[], 60, 60)], &[]), "2026-01-01T01:00:00Z", false, None);
        check(&windows("Nowhere/Never", &[], &["2026-01-02"]), "2026-01-01T01:00:00Z", false, None);
    }

    #[test]
    fn changes_of_the_clock_neither_skip_nor_hide_a_window() {
        // On 2026-03-29 clocks in Berlin go from 02:00 to 03:00 at 01:00Z, on 2026-10-25 from 03:00 to 02:00.
        let early = windows("Europe/Berlin", &[(&[], 150, 240)], &[]);
        assert_eq!(early.next_opening(at("2026-03-29T00:30:00Z")), Some(at("2026-03-29T01:00:00Z")));
        let short = windows("Europe/Berlin", &[(&[], 135, 150)], &[]);
        assert_eq!(short.next_opening(at("2026-10-25T00:45:00Z")), Some(at("2026-10-25T01:15:00Z")));
        assert_eq!(short.next_opening(at("2026-03-29T00:30:00Z")), Some(at("2026-03-30T00:15:00Z")));
    }

    #[test]
    fn a_time_of_day_is_the_next_one() {
        #[track_caller]
        fn check(minute: u16, zone: &str, after: &str, expected: Option<&str>) {
            assert_eq!(next_time_of_day(minute, zone, at(after)), expected.map(at), "{after}");
        }
        check(540, "Europe/Berlin", "2026-01-05T07:59:00Z", Some("2026-01-05T08:00:00Z"));
        check(540, "Europe/Berlin", "2026-01-05T08:00:00Z", Some("2026-01-06T08:00:00Z"));
        check(540, "Europe/Berlin", "2026-03-28T08:00:00Z", Some("2026-03-29T07:00:00Z"));
        check(150, "Europe/Berlin", "2026-03-28T12:00:00Z", Some("2026-03-29T01:30:00Z"));
        check(0, "Pacific/Apia", "2011-12-30T09:00:00Z", Some("2011-12-30T10:00:00Z"));
        check(540, "Berlin", "2026-01-05T07:59:00Z", None);
    }

    #[test]
    fn what_cannot_be_meant_is_said_with_its_place() {
        let wrong = windows("Berlin", &[(&[7], 0, 60), (&[], 60, 60), (&[], 0, 1441)], &["24.12."]);
        let places: Vec<_> = wrong.problems().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["zone", "allowed[0]", "allowed[1]", "allowed[2]", "denied[0]"]);
        assert!(windows("Asia/Tokyo", &[(&[], 1380, 60)], &["2026-12-24"]).problems().is_empty());
    }
}
