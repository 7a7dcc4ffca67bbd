//! Whether every endpoint of the candidate answers as expected, asked by the daemon over its own connections.

use std::fmt::Write as _;
use std::time::Duration;

use super::Asking;
use crate::admin::api::{ProbeAnswer, ProbeRequest, Probed};
use crate::launch::HttpCheck;
use crate::outbound::causes;

/// What the daemon takes at most, in ms.
const PROBE_MS_MAX: u128 = 60_000;

pub(super) fn ask(check: &HttpCheck, timeout: Duration, asking: &Asking<'_>) -> Result<String, String> {
    let mut check = check.clone();
    check.path = (asking.expand)(&check.path)?.into();
    if let Some(contains) = &check.contains {
        check.contains = Some((asking.expand)(contains)?.into());
    }
    let client = asking.client.ok_or("nobody can ask the endpoints: there is no daemon")?;
    let request = ProbeRequest {
        variant: Some(asking.candidate),
        requests: vec![check.clone()],
        timeout_ms: u64::try_from(timeout.as_millis().clamp(1, PROBE_MS_MAX)).unwrap_or(1),
    };
    let answer = client.probe(&asking.launch.service, &request);
    judged(&check, &answer.map_err(|error| format!("ask the daemon: {}", causes(&error)))?)
}

fn judged(check: &HttpCheck, answer: &ProbeAnswer) -> Result<String, String> {
    let variant = answer.variant.as_str();
    if answer.endpoints.is_empty() {
        return Err(format!("{variant} has no endpoint; deploy one, or add it with `tidegate deploy`"));
    }
    if answer.passed() {
        let statuses = answer.endpoints.values().flatten().filter_map(|probed| probed.status);
        let mut statuses: Vec<_> = statuses.map(|status| status.to_string()).collect();
        statuses.sort();
        statuses.dedup();
        let (count, s) = (answer.endpoints.len(), if answer.endpoints.len() == 1 { "" } else { "s" });
        let verb = if count == 1 { "answers" } else { "answer" };
        let statuses = statuses.join(" or ");
        return Ok(format!("{count} endpoint{s} of {variant} {verb} {} with {statuses}", check.path));
    }
    let wrong = answer.endpoints.iter().flat_map(|(endpoint, probed)| {
        probed.iter().filter(|probed| !probed.passed).map(move |probed| sentence(endpoint, probed, check))
    });
    Err(wrong.collect::<Vec<_>>().join("\n"))
}

fn sentence(endpoint: &str, probed: &Probed, check: &HttpCheck) -> String {
    let mut sentence = format!("{endpoint}{}: ", probed.path);
    _ = match (probed.status, &probed.why) {
        (Some(status), None) => write!(sentence, "{status}"),
        (Some(status), Some(why)) => write!(sentence, "{status}: {why}"),
        (None, Some(why)) => write!(sentence, "{why}"),
        (None, None) => write!(sentence, "no answer"),
    };
    if probed.status.is_some_and(|status| !is_expected(status, check)) {
        _ = write!(sentence, "; expected is {}", expected(check));
    }
    if probed.attempts > 1 {
        _ = write!(sentence, ", after {} attempts", probed.attempts);
    }
    sentence
}

fn is_expected(status: u16, check: &HttpCheck) -> bool {
    check.expected.iter().any(|(from, to)| (*from..=*to).contains(&status))
}

fn expected(check: &HttpCheck) -> String {
    let ranges = check.expected.iter().map(|(from, to)| match from == to {
        true => from.to_string(),
        false => format!("{from}–{to}"),
    });
    ranges.collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::traffic::Variant;

    #[test]
    fn each_endpoint_that_is_not_as_expected_is_named() {
        let check = HttpCheck {
            path: "/up".into(),
            expected: vec![(200, 200), (204, 206)],
            contains: Some("ok".into()),
            retries: 3,
        };
        let probed = |passed, status: Option<u16>, why: Option<&str>, attempts| {
            let why = why.map(str::to_owned);
            vec![Probed { path: "/up".into(), passed, status, why, attempts, ttfb_us: 1 }]
        };
        let said = |endpoints: &[(&str, Vec<Probed>)]| {
            let endpoints: BTreeMap<_, _> =
                endpoints.iter().map(|(at, probed)| ((*at).to_owned(), probed.clone())).collect();
            judged(&check, &ProbeAnswer { variant: Variant::Green, endpoints })
        };
        let fine = probed(true, Some(200), None, 1);
        assert_eq!(said(&[("http://a", fine.clone())]).unwrap(), "1 endpoint of green answers /up with 200");
        let two = said(&[("http://a", fine.clone()), ("http://b", probed(true, Some(204), None, 2))]);
        assert_eq!(two.unwrap(), "2 endpoints of green answer /up with 200 or 204");
        assert!(said(&[]).unwrap_err().starts_with("green has no endpoint"));
        let wrong = said(&[
            ("http://a", fine),
            ("http://b", probed(false, Some(503), None, 4)),
            ("http://c", probed(false, None, Some("connection refused"), 1)),
            ("http://d", probed(false, Some(200), Some("its body does not contain \"ok\""), 1)),
        ]);
        assert_eq!(
            wrong.unwrap_err(),
            "http://b/up: 503; expected is 200 or 204–206, after 4 attempts\n\
             http://c/up: connection refused\n\
             http://d/up: 200: its body does not contain \"ok\""
        );
    }
}
