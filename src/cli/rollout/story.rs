//! What happened to a service's rollouts, from the audit log.

use std::time::Duration;

use super::words;
use crate::admin::api::Event;
use crate::admin::client::printable;
use crate::clock::Timestamp;

/// What else moves a candidate, or stops it.
const BESIDES: [&str; 6] = ["shift", "kill", "arm", "deploy", "freeze", "signal"];

/// The events that belong to the story of a service's rollouts, in the order they happened.
pub(super) fn of(service: &str, events: Vec<Event>) -> Vec<Event> {
    let belongs = |event: &Event| {
        let is_told = event.what.starts_with("rollout-") || BESIDES.contains(&event.what.as_str());
        // What is about no service in particular is about all.
        is_told && event.service.as_deref().is_none_or(|named| named == service)
    };
    events.into_iter().filter(belongs).collect()
}

/// One line each: when, how long after the start, what, by whom, why.
pub(super) fn told(service: &str, story: &[Event]) -> String {
    if story.is_empty() {
        return printable(&format!(
            "{service}: nothing happened to its rollouts, as far as the log goes back"
        )) + "\n";
    }
    let mut started: Option<Timestamp> = None;
    let mut text = String::new();
    for event in story {
        let what = event.what.strip_prefix("rollout-").unwrap_or(&event.what);
        if event.what == "rollout-start" {
            started = Some(event.time);
            text.push_str(if text.is_empty() { "" } else { "\n" });
        }
        let after = match started.map(|started| event.time.since(started)) {
            None | Some(Duration::ZERO) => String::new(),
            Some(after) => format!("+{}", words::span(u64::try_from(after.as_millis()).unwrap_or(u64::MAX))),
        };
        let mut line = format!("{}  {after:<12}  {what:<10}", event.time);
        match (&event.from, &event.to) {
            (Some(from), Some(to)) => line.push_str(&format!("  {from} → {to}")),
            (None, Some(to)) => line.push_str(&format!("  → {to}")),
            (Some(from), None) => line.push_str(&format!("  from {from}")),
            (None, None) => {}
        }
        if let Some(reason) = &event.reason {
            line.push_str(&format!("  {reason}"));
        }
        line.push_str(&format!("  (by {}", event.actor));
        if let Some(claimed) = &event.claimed {
            line.push_str(&format!(" for {claimed}"));
        }
        line.push(')');
        text.push_str(&printable(&line));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seconds: u64, what: &str, service: Option<&str>, reason: &str) -> Event {
        Event {
            time: Timestamp::from_millis(seconds * 1000),
            what: what.to_owned(),
            generation: 41,
            actor: "tidegate".to_owned(),
            service: service.map(str::to_owned),
            from: what.ends_with("stage").then(|| "1%".to_owned()),
            to: what.ends_with("stage").then(|| "5%".to_owned()),
            reason: Some(reason.to_owned()),
            ..Event::default()
        }
    }

    #[test]
    fn a_story_tells_what_belongs_to_it_and_how_long_after_the_start() {
        let story = of(
            "shop",
            vec![
                event(0, "rollout-start", Some("shop"), "2.0.1 started"),
                event(1, "rollout-start", Some("cart"), "not ours"),
                event(900, "rollout-stage", Some("shop"), "stage 2 of 5"),
                event(960, "health", Some("shop"), "not ours"),
                event(961, "freeze", None, "incident\x1b[2J"),
                event(4000, "rollout-rollback", Some("shop"), "green fails"),
            ],
        );
        assert_eq!(
            told("shop", &story),
            "1970-01-01T00:00:00.000Z                start       2.0.1 started  (by tidegate)\n\
             1970-01-01T00:15:00.000Z  +15 min       stage       1% → 5%  stage 2 of 5  (by tidegate)\n\
             1970-01-01T00:16:01.000Z  +16 min 1 s   freeze      incident[2J  (by tidegate)\n\
             1970-01-01T01:06:40.000Z  +1 h 6 min    rollback    green fails  (by tidegate)\n"
        );
        assert_eq!(
            told("shop", &[]),
            "shop: nothing happened to its rollouts, as far as the log goes back\n"
        );
    }
}
