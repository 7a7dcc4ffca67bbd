//! The verbs that only look: status, candidate, explain, events, healthcheck.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::args::{Candidate, Events, Explain, Healthcheck, Status};
use super::failure::Failure;
use super::watch::{Form, Scene};
use super::{figures, json, only_service, reach, status, watch};
use crate::admin::api;
use crate::admin::client::{Client, Subject, printable};

/// As wide as output that nobody said the width of.
const WIDTH: usize = 120;

/// A probe that waits longer than this has its answer.
const HEALTHCHECK_DEADLINE: Duration = Duration::from_secs(5);

pub(super) fn status(order: Status, out: &mut dyn Write) -> Result<(), Failure> {
    let Status { service, watch: again, reach: how } = order;
    let client = reach(&how, false)?;
    let look = || only(client.status()?, service.as_deref());
    let mut show = |form| Ok(status::shown(&look()?, form));
    match (again, how.json) {
        (true, true) => loop {
            json(out, &look()?)?;
            out.flush()?;
            client.rest(Duration::from_secs(1));
        },
        (true, false) if watch::can_redraw() => watch::redraw(out, colored(), Scene::of(&mut show)),
        (true, false) => watch::print(out, |pause| client.rest(pause), Scene::of(&mut show)),
        (false, true) => match service {
            Some(service) => json(out, &client.service(&service)?),
            None => json(out, &client.status()?),
        },
        (false, false) => {
            let text = show(Form::Screen { width: width(), color: colored() })?;
            Ok(out.write_all(text.as_bytes())?)
        }
    }
}

/// The status with one service only, if one is named.
fn only(mut status: api::Status, service: Option<&str>) -> Result<api::Status, Failure> {
    if let Some(service) = service {
        if !status.services.iter().any(|found| found.name == service) {
            let names = status.services.into_iter().map(|found| found.name);
            return Err(Failure::Usage(printable(&api::unknown_service(service, names))));
        }
        status.services.retain(|found| found.name == service);
    }
    Ok(status)
}

/// The terminal's width, or what is good for files.
pub(super) fn width() -> usize {
    let terminal = io::stdout().is_terminal().then(crossterm::terminal::size);
    terminal.and_then(Result::ok).map_or(WIDTH, |(width, _)| usize::from(width).max(20))
}

/// <https://no-color.org>: any value but an empty one.
pub fn colored() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

pub(super) fn candidate(order: Candidate, out: &mut dyn Write) -> Result<(), Failure> {
    let client = reach(&order.reach, false)?;
    let service = service_or_only(&client, order.service)?;
    let candidate = client.service(&service)?.candidate;
    if order.reach.json {
        return json(out, &serde_json::json!({ "service": service, "candidate": candidate }));
    }
    Ok(writeln!(out, "{candidate}")?)
}

pub(super) fn explain(order: Explain, out: &mut dyn Write) -> Result<(), Failure> {
    let client = reach(&order.reach, false)?;
    let service = service_or_only(&client, order.service)?;
    let subject = match (order.user, order.visitor) {
        (Some(user), None) => Subject::User(user),
        (None, Some(visitor)) => Subject::Visitor(visitor),
        (None, None) => {
            let story = client.failures(&service)?;
            return match order.reach.json {
                true => json(out, &story),
                false => Ok(out.write_all(failed(&story).as_bytes())?),
            };
        }
        _ => return Err(Failure::Usage("either --user or --visitor says whom to explain".to_owned())),
    };
    let explanation = client.explain(&service, &subject)?;
    if order.reach.json {
        return json(out, &explanation);
    }
    Ok(out.write_all(explained(&explanation).as_bytes())?)
}

/// What failures have in common, and the newest of the candidate's.
fn failed(story: &api::FailureStory) -> String {
    let mut lines: Vec<String> =
        story.sentences.iter().map(|sentence| format!("{}: {sentence}", story.service)).collect();
    let newest = &story.variants[story.candidate].newest;
    if !newest.is_empty() {
        lines.push(format!("  the newest of {}:", story.candidate));
    }
    lines.extend(newest.iter().map(|failure| {
        let api::FailureSample { at, method, path, status, error, endpoint, request_id } = failure;
        let error = error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        let endpoint = endpoint.as_ref().map(|endpoint| format!(" from {endpoint}")).unwrap_or_default();
        format!("  {at}  {status}{error}  {method} {path}{endpoint}  request {request_id}")
    }));
    lines.iter().map(|line| printable(line) + "\n").collect()
}

fn explained(explanation: &api::Explanation) -> String {
    let api::Explanation { service, subject, bucket, salt, weight, rule, variant, role, sentence } =
        explanation;
    let mut facts = Vec::new();
    if let (Some(variant), Some(role)) = (variant, role) {
        facts.push(format!("{service}: {subject} → {variant} ({role})"));
        facts.push(format!("  rule    {rule}"));
        facts.push(format!("  bucket  {} of 100,000, salt {salt:?}", figures::count((*bucket).into())));
    } else {
        facts.push(format!("{service}: {subject} → drawn anew for each request"));
        facts.push(format!("  rule    {rule}"));
    }
    facts.push(format!("  weight  {}", figures::share(*weight)));
    facts.push(format!("  {sentence}"));
    facts.iter().map(|fact| printable(fact) + "\n").collect()
}

pub(super) fn events(order: Events, out: &mut dyn Write) -> Result<(), Failure> {
    let Events { last, follow, reach: how } = order;
    let client = reach(&how, false)?;
    // First listen, then ask for the past: what happens in between comes twice instead of never.
    let coming = if follow { Some(reach(&how, false)?.follow()?) } else { None };
    let past = if last > 0 { client.events(last)? } else { Vec::new() };
    for event in &past {
        tell_event(out, event, how.json)?;
    }
    out.flush()?;
    let Some(coming) = coming else { return Ok(()) };
    for event in coming {
        let event = event?;
        if !past.contains(&event) {
            tell_event(out, &event, how.json)?;
            out.flush()?;
        }
    }
    Err(Failure::Failed(format!("{} closed the stream of events", client.socket().display())))
}

fn tell_event(out: &mut dyn Write, event: &api::Event, as_json: bool) -> Result<(), Failure> {
    if as_json { json(out, event) } else { Ok(writeln!(out, "{}", happened(event))?) }
}

fn happened(event: &api::Event) -> String {
    let api::Event { time, what, generation, actor, claimed, service, from, to, reason, .. } = event;
    let mut text = format!("{time}  {what:<8}");
    if let Some(service) = service {
        text.push_str(&format!("  {service}"));
    }
    match (from, to) {
        (Some(from), Some(to)) => text.push_str(&format!("  {from} → {to}")),
        (None, Some(to)) => text.push_str(&format!("  → {to}")),
        (Some(from), None) => text.push_str(&format!("  from {from}")),
        (None, None) => {}
    }
    text.push_str(&format!("  by {actor}"));
    if let Some(claimed) = claimed {
        text.push_str(&format!(" for {claimed}"));
    }
    text.push_str(&format!("  [generation {generation}]"));
    if let Some(reason) = reason {
        text.push_str(&format!("  {reason}"));
    }
    printable(&text)
}

/// Whatever is wrong, a probe is told 1: it knows no other failure.
pub(super) fn healthcheck(order: Healthcheck, out: &mut dyn Write) -> Result<(), Failure> {
    let deadline = order.reach.timeout.unwrap_or(HEALTHCHECK_DEADLINE);
    let status = reach(&order.reach, false)
        .and_then(|client| Ok(client.with_deadline(deadline).status()?))
        .map_err(|failure| Failure::Failed(failure.story()))?;
    if status.draining {
        return Err(Failure::Failed("tidegate is stopping".to_owned()));
    }
    if order.reach.json {
        return json(out, &serde_json::json!({ "healthy": true, "generation": status.generation }));
    }
    Ok(writeln!(out, "ok")?)
}

fn service_or_only(client: &Client, service: Option<String>) -> Result<String, Failure> {
    service.map_or_else(|| only_service(client), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::traffic::{Role, Variant, Weight};

    #[test]
    fn an_event_is_one_line_whatever_its_actor_wrote() {
        let event = api::Event {
            time: Timestamp::from_millis(1_767_225_599_123),
            what: "shift".to_owned(),
            generation: 41,
            actor: "uid 1000 (ops)".to_owned(),
            claimed: Some("alice".to_owned()),
            service: Some("shop".to_owned()),
            launch: None,
            from: Some("0%".to_owned()),
            to: Some("5%".to_owned()),
            reason: Some("first\nlook\x07".to_owned()),
        };
        assert_eq!(
            happened(&event),
            "2025-12-31T23:59:59.123Z  shift     shop  0% → 5%  by uid 1000 (ops) for alice  [generation 41]  first look"
        );
        let short = api::Event { claimed: None, service: None, from: None, to: None, reason: None, ..event };
        assert_eq!(
            happened(&short),
            "2025-12-31T23:59:59.123Z  shift     by uid 1000 (ops)  [generation 41]"
        );
    }

    #[test]
    fn an_explanation_names_bucket_rule_and_variant() {
        let explanation = api::Explanation {
            service: "shop".to_owned(),
            subject: "user alice".to_owned(),
            bucket: 94_123,
            salt: "shop-2.0".to_owned(),
            weight: Weight::from_percent(25).unwrap(),
            rule: "user".to_owned(),
            variant: Some(Variant::Blue),
            role: Some(Role::Stable),
            sentence: "94123 is not below 25000.".to_owned(),
        };
        assert_eq!(
            explained(&explanation),
            "shop: user alice → blue (stable)\n  rule    user\n  bucket  94,123 of 100,000, salt \"shop-2.0\"\n  \
             weight  25 %\n  94123 is not below 25000.\n"
        );
        let drawn = api::Explanation { rule: "draw".to_owned(), variant: None, role: None, ..explanation };
        assert_eq!(
            explained(&drawn),
            "shop: user alice → drawn anew for each request\n  rule    draw\n  weight  25 %\n  \
             94123 is not below 25000.\n"
        );
    }
}
