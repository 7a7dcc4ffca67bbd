//! Endpoints that come and go at run time.

use std::io::Write;
use std::time::Duration;

use super::args::{AddEndpoint, Change, Claim, Endpoint, EndpointVerb, Endpoints, Once};
use super::change::tell;
use super::failure::Failure;
use super::order::Places;
use super::{only_service, reach};
use crate::admin::api::{Changed, EndpointsChange, EndpointsRequest, ServiceChange, WaitQuery};
use crate::admin::client::{Client, Terms, printable};
use crate::clock;
use crate::config::show_duration;

/// How long is waited unless told otherwise.
const WAIT: Duration = Duration::from_secs(60);
/// From one look at the health of endpoints to the next.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn endpoint(order: Endpoint, out: &mut dyn Write) -> Result<(), Failure> {
    let (verb, weight, order) = match order.verb {
        EndpointVerb::Add(AddEndpoint { weight, endpoints }) => ("add", weight, endpoints),
        EndpointVerb::Remove(endpoints) => ("remove", None, endpoints),
        EndpointVerb::Drain(endpoints) => ("drain", None, endpoints),
        EndpointVerb::Undrain(endpoints) => ("undrain", None, endpoints),
    };
    let Endpoints { words, force, if_generation, wait, change, reach: how } = order;
    let Places { service, variant, endpoints } = Places::parse(&words)?;
    let client = reach(&how, wait)?;
    let service = match service {
        Some(service) => service,
        None => only_service(&client)?,
    };
    let Change { reason, claim: Claim { claimed }, once: Once { idempotency_key } } = change;
    let request = EndpointsRequest { variant, endpoints, weight, force, reason, claimed };
    let changed = client.endpoints(&service, verb, &request, &Terms { if_generation, idempotency_key })?;
    tell(out, how.json, &changed, done)?;
    if !wait {
        return Ok(());
    }
    let limit = how.timeout.unwrap_or(WAIT);
    let waited = match verb {
        "remove" | "drain" => empty(&client, &changed, limit)?,
        _ => healthy(&client, &changed, limit)?,
    };
    if !how.json {
        writeln!(out, "{}", printable(&waited))?;
    }
    Ok(())
}

/// Waits until nothing is under way at endpoints that get nothing new.
fn empty(client: &Client, changed: &Changed, limit: Duration) -> Result<String, Failure> {
    let start = clock::now();
    for (service, EndpointsChange { variant, endpoints, .. }) in told(changed) {
        for endpoint in endpoints {
            let left = limit.saturating_sub(clock::now() - start);
            client.wait(&WaitQuery {
                service: service.to_owned(),
                generation: changed.generation,
                variant: Some(*variant),
                endpoint: Some(endpoint.url.clone()),
                timeout_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            })?;
        }
    }
    Ok("nothing is under way there any more".to_owned())
}

/// Waits until endpoints are healthy; of a name with several addresses, one of them.
fn healthy(client: &Client, changed: &Changed, limit: Duration) -> Result<String, Failure> {
    let start = clock::now();
    for (service, EndpointsChange { variant, endpoints, .. }) in told(changed) {
        for wanted in endpoints {
            loop {
                let all = client.service(service)?.variants[*variant].endpoints.clone();
                let mut its = all.iter().filter(|endpoint| is_at(&endpoint.url, &wanted.url)).peekable();
                if its.peek().is_none() {
                    return Err(gone(service, &wanted.url));
                }
                let why = its.clone().find_map(|endpoint| endpoint.error.clone());
                if its.any(|endpoint| endpoint.health == "healthy") {
                    break;
                }
                let left = limit.saturating_sub(clock::now() - start);
                if left.is_zero() {
                    let (url, limit) = (&wanted.url, show_duration(limit));
                    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
                    return Err(Failure::NotInTime(printable(&format!(
                        "{service}: {variant} {url} is not healthy after {limit}{why}; it stays"
                    ))));
                }
                client.rest(left.min(LOOK_EVERY));
            }
        }
    }
    Ok("healthy".to_owned())
}

/// Whether a label is of the endpoint at `url`, or of one of its addresses: `http://a:1 (10.0.0.1)`.
fn is_at(label: &str, url: &str) -> bool {
    label.strip_prefix(url).is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
}

fn gone(service: &str, url: &str) -> Failure {
    Failure::Failed(printable(&format!("{service}: somebody has removed {url} meanwhile")))
}

fn told(changed: &Changed) -> impl Iterator<Item = (&str, &EndpointsChange)> {
    let changes = changed.changes.iter();
    changes.filter_map(|change| Some((&*change.service, change.endpoints_changed.as_ref()?)))
}

/// `green: http://a:1 (weight 2) added`.
fn done(change: &ServiceChange) -> String {
    let Some(EndpointsChange { variant, act, endpoints, forced }) = &change.endpoints_changed else {
        return "nothing changed".to_owned();
    };
    let (is, was) = match act.as_str() {
        "add" => ("added", "is there already"),
        "remove" => ("removed", "is gone already"),
        "drain" => ("gets nothing new", "gets nothing new already"),
        _ => ("in service again", "is in service already"),
    };
    let urls = endpoints.iter().map(|endpoint| match endpoint.weight {
        1 => endpoint.url.clone(),
        weight => format!("{} (weight {weight})", endpoint.url),
    });
    let urls: Vec<_> = urls.collect();
    let forced = forced.as_ref().map(|why| format!(", forced: {why}")).unwrap_or_default();
    format!("{variant} {} {}{forced}", urls.join(", "), if change.changed { is } else { was })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::EndpointShare;
    use crate::traffic::{Variant, Weight};

    #[test]
    fn an_endpoint_is_found_by_its_label() {
        for (label, url, expected) in [
            ("http://a:1", "http://a:1", true),
            ("http://a:1 (10.0.0.1)", "http://a:1", true),
            ("http://a:11", "http://a:1", false),
            ("unix:/run/shop (1).sock", "unix:/run/shop (1).sock", true),
        ] {
            assert_eq!(is_at(label, url), expected, "{label}");
        }
    }

    #[test]
    fn what_was_done_is_told_in_a_sentence() {
        #[track_caller]
        fn check(act: &str, changed: bool, forced: Option<&str>, expected: &str) {
            let share = |url: &str, weight| EndpointShare { url: url.to_owned(), weight };
            let change = ServiceChange {
                service: "shop".to_owned(),
                candidate: Variant::Green,
                from: Weight::ZERO,
                to: Weight::ZERO,
                mirror_from: Weight::ZERO,
                mirror: Weight::ZERO,
                lock: None,
                changed,
                endpoints: Vec::new(),
                version: None,
                endpoints_changed: Some(EndpointsChange {
                    variant: Variant::Green,
                    act: act.to_owned(),
                    endpoints: vec![share("http://a:1", 1), share("http://b:1", 2)],
                    forced: forced.map(str::to_owned),
                }),
                rollout: None,
            };
            assert_eq!(done(&change), format!("green http://a:1, http://b:1 (weight 2) {expected}"));
        }
        check("add", true, None, "added");
        check("remove", true, Some("none left"), "removed, forced: none left");
        check("drain", true, None, "gets nothing new");
        check("drain", false, None, "gets nothing new already");
        check("undrain", true, None, "in service again");
    }
}
