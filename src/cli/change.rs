//! The verbs that change something: shift, kill, arm, deploy.

use std::io::Write;
use std::time::Duration;

use super::args::{Arm, Change, Claim, Deploy, Kill, Mirror, Once, Shift};
use super::failure::Failure;
use super::order::{Deployment, Shares};
use super::{figures, json, only_service, reach};
use crate::admin::api::{
    ArmRequest, Changed, DeployRequest, KillRequest, MirrorRequest, ServiceChange, ShiftRequest, WaitQuery,
};
use crate::admin::client::{Client, Terms, printable};
use crate::clock;
use crate::config::show_duration;

const WAIT: Duration = Duration::from_secs(30);
const DEPLOY_WAIT: Duration = Duration::from_secs(60);

/// From one look at the candidate's health to the next.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn shift(shift: Shift, out: &mut dyn Write) -> Result<(), Failure> {
    let Shift { words, if_generation, take_over, wait, change, reach: how } = shift;
    let shares = Shares::parse(&words)?;
    let client = reach(&how, wait)?;
    let services = match shares {
        Shares::ByService(services) => services,
        Shares::OfTheOnly(weight) => [(only_service(&client)?, weight)].into(),
    };
    let services = services.into_iter().map(|(service, weight)| (service, weight.to_string())).collect();
    let Change { reason, claim: Claim { claimed }, once: Once { idempotency_key } } = change;
    let request = ShiftRequest { services, take_over, reason, claimed };
    let changed = client.shift(&request, &Terms { if_generation, idempotency_key })?;
    tell(out, how.json, &changed, shifted)?;
    if wait { nothing_older(&client, &changed, how.timeout, how.json, out) } else { Ok(()) }
}

pub(super) fn mirror(mirror: Mirror, out: &mut dyn Write) -> Result<(), Failure> {
    let Mirror { words, if_generation, change, reach: how } = mirror;
    let shares = Shares::parse_mirrored(&words)?;
    let client = reach(&how, false)?;
    let services = match shares {
        Shares::ByService(services) => services,
        Shares::OfTheOnly(share) => [(only_service(&client)?, share)].into(),
    };
    let services = services.into_iter().map(|(service, share)| (service, share.to_string())).collect();
    let Change { reason, claim: Claim { claimed }, once: Once { idempotency_key } } = change;
    let request = MirrorRequest { services, reason, claimed };
    let changed = client.mirror(&request, &Terms { if_generation, idempotency_key })?;
    tell(out, how.json, &changed, mirrored)
}

pub(super) fn kill(kill: Kill, out: &mut dyn Write) -> Result<(), Failure> {
    let Kill { services, all, wait, change, reach: how } = kill;
    let client = reach(&how, wait)?;
    let services = named(&client, services, all)?;
    let Change { reason, claim: Claim { claimed }, once: Once { idempotency_key } } = change;
    let request = KillRequest { services, all, reason, claimed };
    let changed = client.kill(&request, &Terms { if_generation: None, idempotency_key })?;
    tell(out, how.json, &changed, killed)?;
    if wait { nothing_older(&client, &changed, how.timeout, how.json, out) } else { Ok(()) }
}

pub(super) fn arm(arm: Arm, out: &mut dyn Write) -> Result<(), Failure> {
    let Arm { services, all, note, claim: Claim { claimed }, once: Once { idempotency_key }, reach: how } =
        arm;
    let client = reach(&how, false)?;
    let services = named(&client, services, all)?;
    let request = ArmRequest { services, all, note, claimed };
    let changed = client.arm(&request, &Terms { if_generation: None, idempotency_key })?;
    tell(out, how.json, &changed, armed)
}

pub(super) fn deploy(deploy: Deploy, out: &mut dyn Write) -> Result<(), Failure> {
    let Deploy { words, version, wait, change, reach: how } = deploy;
    let Deployment { service, endpoints } = Deployment::parse(&words)?;
    let client = reach(&how, wait)?;
    let service = match service {
        Some(service) => service,
        None => only_service(&client)?,
    };
    let Change { reason, claim: Claim { claimed }, once: Once { idempotency_key } } = change;
    let request = DeployRequest { endpoints, version, reason, claimed };
    let changed = client.deploy(&service, &request, &Terms { if_generation: None, idempotency_key })?;
    tell(out, how.json, &changed, deployed)?;
    if wait { healthy(&client, &service, how.timeout.unwrap_or(DEPLOY_WAIT), how.json, out) } else { Ok(()) }
}

fn named(client: &Client, services: Vec<String>, all: bool) -> Result<Vec<String>, Failure> {
    if services.is_empty() && !all { Ok(vec![only_service(client)?]) } else { Ok(services) }
}

/// Waits until nothing is in flight that was assigned before the change.
fn nothing_older(
    client: &Client,
    changed: &Changed,
    limit: Option<Duration>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (start, limit) = (clock::now(), limit.unwrap_or(WAIT));
    for ServiceChange { service, .. } in &changed.changes {
        let left = limit.saturating_sub(clock::now() - start);
        let timeout_ms = Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        let generation = changed.generation;
        let service = service.clone();
        client.wait(&WaitQuery { service, generation, timeout_ms, ..WaitQuery::default() })?;
    }
    if !json {
        writeln!(out, "nothing older than generation {} is in flight", changed.generation)?;
    }
    Ok(())
}

/// Waits until one of the candidate's endpoints is healthy.
fn healthy(
    client: &Client,
    service: &str,
    limit: Duration,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let start = clock::now();
    loop {
        let status = client.service(service)?;
        let endpoints = &status.variants[status.candidate].endpoints;
        if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.health == "healthy") {
            if !json {
                writeln!(
                    out,
                    "{}",
                    printable(&format!("{service}: {} {} is healthy", status.candidate, endpoint.url))
                )?;
            }
            return Ok(());
        }
        let left = limit.saturating_sub(clock::now() - start);
        if left.is_zero() {
            let why = endpoints.iter().map(|endpoint| match &endpoint.error {
                Some(error) => format!("{}: {error}", endpoint.url),
                None => format!("{}: {}", endpoint.url, endpoint.health),
            });
            let why: Vec<String> = why.collect();
            let (candidate, limit) = (status.candidate, show_duration(limit));
            return Err(Failure::NotInTime(printable(&format!(
                "{service}: {candidate} has no healthy endpoint after {limit} ({}); it stays deployed, at {}",
                why.join(", "),
                figures::share(status.weight),
            ))));
        }
        client.rest(left.min(LOOK_EVERY));
    }
}

/// One line a service, then what goes for all of them.
pub(super) fn tell(
    out: &mut dyn Write,
    as_json: bool,
    changed: &Changed,
    what: fn(&ServiceChange) -> String,
) -> Result<(), Failure> {
    if as_json { json(out, changed) } else { Ok(out.write_all(reply(changed, what).as_bytes())?) }
}

/// What a shift came to, in lines.
pub fn reply_to_shift(changed: &Changed) -> String {
    reply(changed, shifted)
}

/// What a kill came to, in lines.
pub fn reply_to_kill(changed: &Changed) -> String {
    reply(changed, killed)
}

/// What arming came to, in lines.
pub fn reply_to_arm(changed: &Changed) -> String {
    reply(changed, armed)
}

pub(super) fn reply(changed: &Changed, what: fn(&ServiceChange) -> String) -> String {
    let mut end = String::new();
    if changed.live_us > 0 {
        end.push_str(&format!(", live in {}", figures::live(changed.live_us)));
    }
    if changed.changes.iter().any(|change| change.changed) || !changed.saved {
        end.push_str(if changed.saved {
            ", saved"
        } else {
            ", NOT SAVED: the disk does not answer; a restart may undo it"
        });
    }
    if !changed.unconfirmed.is_empty() {
        let pids: Vec<_> = changed.unconfirmed.iter().map(ToString::to_string).collect();
        let plural = if pids.len() == 1 { "process" } else { "processes" };
        end.push_str(&format!(
            ", NOT CONFIRMED by {plural} {}, which may hold tunnels from before an upgrade",
            pids.join(", ")
        ));
    }
    end.push_str(&format!(" [{}, generation {}]", changed.host, changed.generation));

    let mut lines: Vec<String> =
        changed.changes.iter().map(|change| format!("{}: {}", change.service, what(change))).collect();
    match lines.as_mut_slice() {
        [only] => only.push_str(&end),
        all => {
            let count = all.len();
            lines.push(format!("{count} services{end}"));
        }
    }
    if let Some(undo) = &changed.undo {
        lines.push(format!("undo: {undo}"));
    }
    lines.into_iter().map(|line| printable(&line) + "\n").collect()
}

/// `green 0 % → 5 %`.
pub(super) fn moved(change: &ServiceChange) -> String {
    let ServiceChange { candidate, from, to, mirror_from, mirror, .. } = change;
    let mut told = if from == to {
        format!("{candidate} stays at {}", figures::share(*to))
    } else {
        format!("{candidate} {} → {}", figures::share(*from), figures::share(*to))
    };
    if mirror_from != mirror {
        let (from, to) = (figures::share(*mirror_from), figures::share(*mirror));
        told.push_str(&format!(", mirroring {from} → {to}"));
    }
    told
}

fn shifted(change: &ServiceChange) -> String {
    moved(change)
}

fn mirrored(change: &ServiceChange) -> String {
    let ServiceChange { candidate, to, mirror_from, mirror, .. } = change;
    let share = match mirror_from == mirror {
        true => format!("mirroring to {candidate} stays at {}", figures::share(*mirror)),
        false => {
            format!("mirroring to {candidate} {} → {}", figures::share(*mirror_from), figures::share(*mirror))
        }
    };
    format!("{share}, {candidate} stays at {}", figures::share(*to))
}

fn killed(change: &ServiceChange) -> String {
    let locked = if change.changed { "locked" } else { "was locked already" };
    format!("{}, {locked}", moved(change))
}

fn armed(change: &ServiceChange) -> String {
    let unlocked = match (&change.lock, change.changed) {
        (Some(lock), _) => format!("still locked ({})", lock.cause),
        (None, true) => "unlocked".to_owned(),
        (None, false) => "was not locked".to_owned(),
    };
    format!("{unlocked}, {}", moved(change))
}

fn deployed(change: &ServiceChange) -> String {
    let version = change.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let endpoints = change.endpoints.join(", ");
    let already = if change.changed { "" } else { " already" };
    let ServiceChange { candidate, to, .. } = change;
    format!("{candidate} is{already}{version} at {endpoints}, share {}", figures::share(*to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::traffic::{Cause, Lock, Variant, Weight};

    fn change(service: &str, from: u32, to: u32) -> ServiceChange {
        ServiceChange {
            service: service.to_owned(),
            candidate: Variant::Green,
            from: Weight::from_percent(from).unwrap(),
            to: Weight::from_percent(to).unwrap(),
            mirror_from: Weight::ZERO,
            mirror: Weight::ZERO,
            lock: None,
            changed: from != to,
            endpoints: Vec::new(),
            version: None,
            endpoints_changed: None,
            rollout: None,
        }
    }

    fn changed(changes: Vec<ServiceChange>) -> Changed {
        let host = "web-1".to_owned();
        Changed {
            host,
            generation: 41,
            saved: true,
            unconfirmed: Vec::new(),
            live_us: 210,
            changes,
            undo: None,
        }
    }

    #[test]
    fn a_reply_says_what_how_fast_whether_saved_and_how_to_undo() {
        let undo = Some("tidegate shift shop 0%".to_owned());
        let one = Changed { undo, ..changed(vec![change("shop", 0, 5)]) };
        assert_eq!(
            reply(&one, shifted),
            "shop: green 0 % → 5 %, live in 0.2 ms, saved [web-1, generation 41]\nundo: tidegate shift shop 0%\n"
        );
        let two = changed(vec![change("cart", 0, 5), change("shop", 50, 25)]);
        assert_eq!(
            reply(&two, shifted),
            "cart: green 0 % → 5 %\nshop: green 50 % → 25 %\n\
             2 services, live in 0.2 ms, saved [web-1, generation 41]\n"
        );
        let none = Changed { live_us: 0, ..changed(vec![change("shop", 5, 5)]) };
        assert_eq!(reply(&none, shifted), "shop: green stays at 5 % [web-1, generation 41]\n");
    }

    #[test]
    fn a_kill_that_is_not_on_disk_says_so() {
        let unconfirmed = Changed { unconfirmed: vec![7, 9], ..changed(vec![change("shop", 25, 0)]) };
        let text = reply(&unconfirmed, killed);
        assert!(text.contains("saved, NOT CONFIRMED by processes 7, 9, which may hold"), "{text}");
        let unsaved = Changed { saved: false, ..changed(vec![change("shop\x1b[2J", 25, 0)]) };
        assert_eq!(
            reply(&unsaved, killed),
            "shop[2J: green 25 % → 0 %, locked, live in 0.2 ms, \
             NOT SAVED: the disk does not answer; a restart may undo it [web-1, generation 41]\n"
        );
    }

    #[test]
    fn locks_and_deployments_are_told_in_their_own_words() {
        let at = Timestamp::from_millis(0);
        let lock = Some(Lock { cause: Cause::Kill, actor: "uid 0 (root)".to_owned(), at, reason: None });
        let plain = change("shop", 0, 0);
        let opened = ServiceChange { changed: true, ..plain.clone() };
        let filled = ServiceChange {
            endpoints: vec!["http://a:1".to_owned(), "http://b:2".to_owned()],
            version: Some("2.0.1".to_owned()),
            ..opened.clone()
        };
        assert_eq!(killed(&plain), "green stays at 0 %, was locked already");
        assert_eq!(armed(&plain), "was not locked, green stays at 0 %");
        assert_eq!(armed(&opened), "unlocked, green stays at 0 %");
        assert_eq!(
            armed(&ServiceChange { lock, ..plain.clone() }),
            "still locked (kill), green stays at 0 %"
        );
        assert_eq!(deployed(&filled), "green is 2.0.1 at http://a:1, http://b:2, share 0 %");
        let again = ServiceChange { version: None, changed: false, ..filled };
        assert_eq!(deployed(&again), "green is already at http://a:1, http://b:2, share 0 %");
    }
}
