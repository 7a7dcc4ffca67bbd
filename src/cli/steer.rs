//! The verbs about the daemon itself, and those for testers: stop, reload, override, demo break.

use std::io::Write;
use std::time::Duration;

use super::args::{Break, Override, Reload, Stop, Upgrade};
use super::failure::Failure;
use super::{json, only_service, order, reach};
use crate::admin::api::{
    BreakRequest, OverrideAnswer, OverrideRequest, ReloadRequest, Reloaded, Status, StopRequest,
    UpgradeRequest, Upgraded,
};
use crate::admin::client::printable;
use crate::config::show_duration;

/// What a stop may take longer than open requests are given.
const STOP_GRACE: Duration = Duration::from_secs(5);

pub(super) fn stop(order: Stop, out: &mut dyn Write) -> Result<(), Failure> {
    let Stop { now, wait, claim, reach: how } = order;
    let client = reach(&how, wait)?;
    let stopping = client.stop(&StopRequest { now, claimed: claim.claimed })?;
    let drain = Duration::from_millis(stopping.drain_ms);
    if how.json {
        json(out, &stopping)?;
    } else if drain.is_zero() {
        writeln!(out, "tidegate is stopping now")?;
    } else {
        writeln!(out, "tidegate is stopping; open requests have {} to end", show_duration(drain))?;
    }
    out.flush()?;
    if wait {
        client.wait_until_gone(how.timeout.unwrap_or(drain.saturating_add(STOP_GRACE)))?;
        if !how.json {
            writeln!(out, "stopped")?;
        }
    }
    Ok(())
}

pub(super) fn upgrade(order: Upgrade, out: &mut dyn Write) -> Result<(), Failure> {
    let Upgrade { binary, reason, claim, reach: how } = order;
    let timeout_ms = how.timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
    // As it is written: where a link leads is looked at when it is started.
    let binary = binary.map(std::path::absolute).transpose()?;
    let binary = match binary.map(|path| path.into_os_string().into_string()).transpose() {
        Ok(binary) => binary,
        Err(path) => return Err(Failure::Usage(format!("{path:?} is not a path in UTF-8"))),
    };
    let client = reach(&how, true)?;
    let request = UpgradeRequest { binary, timeout_ms, reason, claimed: claim.claimed };
    let upgraded = client.upgrade(&request)?;
    if how.json { json(out, &upgraded) } else { Ok(out.write_all(passed_on(&upgraded).as_bytes())?) }
}

/// `tidegate 0.1.0 → 0.2.0, process 812 → 977, in 94 ms; changes were refused for 12 ms [web-1]`.
fn passed_on(upgraded: &Upgraded) -> String {
    let Upgraded { host, old, new, took_ms, closed_ms, handover_ms } = upgraded;
    let versions = if old.version == new.version {
        old.version.clone()
    } else {
        format!("{} → {}", old.version, new.version)
    };
    let most = show_duration(Duration::from_millis(*handover_ms));
    let lines = [
        format!(
            "tidegate {versions}, process {} → {}, in {took_ms} ms; changes were refused for {closed_ms} ms [{host}]",
            old.pid, new.pid
        ),
        format!(
            "process {} goes with the last tunnel or stream that it holds, after {most} at most",
            old.pid
        ),
    ];
    lines.iter().map(|line| printable(line) + "\n").collect()
}

pub(super) fn reload(order: Reload, out: &mut dyn Write) -> Result<(), Failure> {
    let Reload { dry_run, discard_overlay, claim, reach: how } = order;
    let client = reach(&how, false)?;
    let reloaded = client.reload(&ReloadRequest { dry_run, discard_overlay, claimed: claim.claimed })?;
    if how.json { json(out, &reloaded) } else { Ok(out.write_all(told(&reloaded).as_bytes())?) }
}

fn told(reloaded: &Reloaded) -> String {
    let Reloaded { generation, applied, changes, drift } = reloaded;
    let mut lines: Vec<String> = changes.iter().map(|change| format!("  {change}")).collect();
    let head = match (applied, changes.is_empty()) {
        (_, true) => format!("nothing to change [generation {generation}]"),
        (true, false) => format!("reloaded [generation {generation}]:"),
        (false, false) => format!("a reload would change [generation {generation}]:"),
    };
    lines.insert(0, head);
    lines.extend(drift.iter().map(|drift| format!("drift: {drift}")));
    lines.into_iter().map(|line| printable(&line) + "\n").collect()
}

pub(super) fn tester(order: Override, out: &mut dyn Write) -> Result<(), Failure> {
    let Override { words, span, claim, reach: how } = order;
    let (service, variant) = order::tester(&words)?;
    let client = reach(&how, false)?;
    let service = match service {
        Some(service) => service,
        None => only_service(&client)?,
    };
    let request = OverrideRequest { variant, seconds: span.as_secs(), claimed: claim.claimed };
    let answer = client.override_cookie(&service, &request)?;
    if how.json {
        return json(out, &answer);
    }
    let status = client.status()?;
    let lines = [
        format!("{service}: {variant} for whoever sends this cookie, until {}", answer.expires),
        format!("  http   {}={}", answer.name, answer.value),
        format!("  https  {}={}", answer.https_name, answer.https_value),
        format!("  {}", curl(&status, &service, &answer)),
    ];
    let text: String = lines.iter().map(|line| printable(line) + "\n").collect();
    Ok(out.write_all(text.as_bytes())?)
}

/// A command that tries the cookie out.
fn curl(status: &Status, service: &str, answer: &OverrideAnswer) -> String {
    // Where both are, the clear one may only lead to the other.
    let secure = status.secure.first();
    let listen = secure.or(status.listen.first()).map_or("127.0.0.1:8080", String::as_str);
    let near = listen.replacen("0.0.0.0:", "127.0.0.1:", 1).replacen("[::]:", "[::1]:", 1);
    let route =
        status.services.iter().find(|found| found.name == service).and_then(|found| found.routes.first());
    let (host, path) = route.and_then(|route| Some(route.split_at(route.find('/')?))).unwrap_or(("*", "/"));
    let host = match host.strip_prefix("*.") {
        _ if host == "*" => None,
        Some(domain) => Some(format!("www.{domain}")),
        None => Some(host.to_owned()),
    };
    if secure.is_some() {
        let cookie = format!("{}={}", answer.https_name, answer.https_value);
        return match host {
            // Connected to here, it still asks for the name's certificate.
            Some(host) => format!("curl -b '{cookie}' --connect-to '::{near}' https://{host}{path}"),
            // Certificates are for names.
            None => format!("curl -k -b '{cookie}' https://{near}{path}"),
        };
    }
    let host = host.map(|host| format!(" -H 'Host: {host}'")).unwrap_or_default();
    format!("curl -b '{}={}'{host} http://{near}{path}", answer.name, answer.value)
}

pub(super) fn break_green(order: Break, out: &mut dyn Write) -> Result<(), Failure> {
    let Break { errors, latency, reach: how } = order;
    let client = reach(&how, false)?;
    let request = BreakRequest {
        errors: errors.map(|share| share.to_string()),
        latency_ms: latency.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    };
    client.demo_break(&request)?;
    if how.json {
        return json(out, &request);
    }
    let errors = errors.map(|share| format!("answers {share} of its requests with 500"));
    let latency = latency.map(|time| format!("takes {} longer", show_duration(time)));
    let both: Vec<String> = errors.into_iter().chain(latency).collect();
    Ok(writeln!(out, "green now {}", both.join(" and "))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api;
    use crate::cli::status::example;
    use crate::clock::Timestamp;

    #[test]
    fn a_reload_tells_what_changed_and_what_cannot() {
        let reloaded = |applied, changes: &[&str], drift: &[&str]| Reloaded {
            generation: 7,
            applied,
            changes: changes.iter().map(|text| (*text).to_owned()).collect(),
            drift: drift.iter().map(|text| (*text).to_owned()).collect(),
        };
        assert_eq!(told(&reloaded(true, &["cart is new"], &[])), "reloaded [generation 7]:\n  cart is new\n");
        assert_eq!(
            told(&reloaded(false, &["cart is new"], &["listen waits for a restart"])),
            "a reload would change [generation 7]:\n  cart is new\ndrift: listen waits for a restart\n"
        );
        assert_eq!(told(&reloaded(true, &[], &[])), "nothing to change [generation 7]\n");
    }

    #[test]
    fn an_upgrade_tells_who_went_who_came_and_how_long_it_took() {
        let process = |pid, version: &str| api::ProcessVersion { pid, version: version.to_owned() };
        let upgraded = |to| Upgraded {
            host: "web-1".to_owned(),
            old: process(812, "0.1.0"),
            new: process(977, to),
            took_ms: 94,
            closed_ms: 12,
            handover_ms: 43_200_000,
        };
        assert_eq!(
            passed_on(&upgraded("0.2.0")),
            "tidegate 0.1.0 → 0.2.0, process 812 → 977, in 94 ms; changes were refused for 12 ms [web-1]\n\
             process 812 goes with the last tunnel or stream that it holds, after 12h at most\n"
        );
        assert!(passed_on(&upgraded("0.1.0")).starts_with("tidegate 0.1.0, process 812 → 977, "));
    }

    #[test]
    fn a_tester_gets_a_command_that_works_here() {
        let answer = OverrideAnswer {
            name: "t".to_owned(),
            value: "v".to_owned(),
            https_name: "__Host-t".to_owned(),
            https_value: "w".to_owned(),
            expires: Timestamp::from_millis(0),
        };
        #[track_caller]
        fn check(answer: &OverrideAnswer, listen: &str, route: &str, expected: &str) {
            let mut status = example(1);
            status.listen = vec![listen.to_owned()];
            status.services[0].routes = vec![route.to_owned()];
            assert_eq!(curl(&status, "shop", answer), expected);
        }
        check(&answer, "0.0.0.0:8080", "*/", "curl -b 't=v' http://127.0.0.1:8080/");
        check(
            &answer,
            "[::]:80",
            "*.example.com/",
            "curl -b 't=v' -H 'Host: www.example.com' http://[::1]:80/",
        );
        check(&answer, "10.0.0.1:80", "a.com/x", "curl -b 't=v' -H 'Host: a.com' http://10.0.0.1:80/x");

        let mut status = example(1);
        status.listen = vec!["0.0.0.0:80".to_owned(), "0.0.0.0:443".to_owned()];
        status.secure = vec!["0.0.0.0:443".to_owned()];
        status.services[0].routes = vec!["a.com/x".to_owned()];
        let by_name = "curl -b '__Host-t=w' --connect-to '::127.0.0.1:443' https://a.com/x";
        assert_eq!(curl(&status, "shop", &answer), by_name);
        status.services[0].routes = vec!["*/".to_owned()];
        assert_eq!(curl(&status, "shop", &answer), "curl -k -b '__Host-t=w' https://127.0.0.1:443/");
    }
}
