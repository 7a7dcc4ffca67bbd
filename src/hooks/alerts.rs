//! What Alertmanager's notifications do to rollouts.
//!
//! `POST /v1/alerts` on the telemetry listener takes Alertmanager's webhook (version 4) with a bearer token. Each firing
//! alert stops the advances of the service that its label `service` names, or of all without one; or, if the
//! configuration allows it, fails their rollouts. The label `tidegate_action` (`ignore`, `freeze`, `rollback`) may only make
//! that milder: whoever may write an alert rule cannot take more power than the configuration gives. Resolved alerts do nothing;
//! a person says `freeze off`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::notice::ALERTMANAGER;
use super::settings::{AlertAction, AlertSettings, HookSettings, Token};
use crate::clock;
use crate::control::{Change, Control, Selection, Who};
use crate::outbound::causes;
use crate::rollout::Signal;

/// Alertmanager's webhook, as far as it matters here.
#[derive(Deserialize)]
struct Webhook {
    version: String,
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
struct Alert {
    status: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What one notification asks for: for each service (`None`: all) the strongest action and the alert behind it.
type Wanted = BTreeMap<Option<String>, (AlertAction, String)>;

/// Takes a notification in. `authorization` is the header of that name, `body` at most as long as the listener lets it
/// be. The answer's status, and a sentence that ends with a line break.
pub async fn receive(
    control: &Control,
    settings: &HookSettings,
    authorization: Option<&str>,
    body: &[u8],
) -> (u16, String) {
    let wanted = match admit(settings, authorization).and_then(|alerts| wanted(alerts, body)) {
        Ok(wanted) => wanted,
        Err(refusal) => return refusal,
    };
    let desired = control.desired();
    let known = desired.services().iter().map(|state| state.name.clone());
    let known: BTreeSet<Arc<str>> = known.filter(|name| control.config(name).is_some()).collect();
    let (actions, unknown) = by_service(&wanted, &known);

    let mut said: Vec<String> = Vec::new();
    let mut failed = false;
    for ((action, alert), services) in actions {
        let names = services.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
        match action {
            AlertAction::Freeze => {
                let selection = Selection::Named(services);
                let who = Who {
                    actor: ALERTMANAGER.to_owned(),
                    claimed: None,
                    reason: Some(format!("alert {alert}")),
                };
                let change = Change::Freeze { selection, on: true };
                match control.commit(&change, &who, None, clock::now()).await {
                    Ok(_) => said.push(format!("{alert} froze {names}")),
                    Err(error) => {
                        failed = true;
                        said.push(format!("{alert} could not freeze {names}: {}", causes(&error)));
                    }
                }
            }
            AlertAction::Rollback => {
                let signal =
                    Signal { name: alert.as_str().into(), critical: true, actor: ALERTMANAGER.into() };
                let told = services.iter().filter(|name| control.signal(name, signal.clone())).count();
                said.push(format!("{alert} fails what runs on {names}"));
                failed |= told < services.len();
            }
        }
    }
    said.extend(unknown.iter().map(|name| format!("there is no service {name:?}")));
    if said.is_empty() {
        said.push("nothing to do".to_owned());
    }
    // Alertmanager tries 5xx again and drops the rest.
    (if failed { 503 } else { 200 }, said.join("; ") + "\n")
}

/// Whether notifications are taken from whoever sends this header. Asked before anything is read.
pub fn admit<'s>(
    settings: &'s HookSettings,
    authorization: Option<&str>,
) -> Result<&'s AlertSettings, (u16, String)> {
    let refuse = |status, text: &str| Err((status, format!("{text}\n")));
    let Some(alerts) = &settings.alerts else {
        return refuse(404, "alerts are not configured here; see `alerts` in the configuration");
    };
    if !authorization.is_some_and(|header| is_authorized(&alerts.token, header)) {
        return refuse(401, "the token is missing or wrong: `Authorization: Bearer …`");
    }
    Ok(alerts)
}

fn wanted(settings: &AlertSettings, body: &[u8]) -> Result<Wanted, (u16, String)> {
    let refuse = |status, text: &str| Err((status, format!("{text}\n")));
    let webhook: Webhook = match serde_json::from_slice(body) {
        Ok(webhook) => webhook,
        Err(error) => return refuse(400, &format!("this is no Alertmanager webhook: {error}")),
    };
    if webhook.version != "4" {
        return refuse(
            400,
            &format!("Alertmanager webhooks of version {:?} are not known; 4 is", webhook.version),
        );
    }
    let mut wanted = Wanted::new();
    for alert in webhook.alerts.iter().filter(|alert| alert.status == "firing") {
        let Some(action) = action(settings.action, alert.labels.get("tidegate_action")) else { continue };
        let name = alert.labels.get("alertname").map_or("without a name", String::as_str);
        let name: String = name.chars().filter(|char| !char.is_control()).take(100).collect();
        let summary = alert
            .annotations
            .get("summary")
            .map(|summary| summary.chars().filter(|char| !char.is_control()).take(200).collect::<String>());
        let said = summary.map_or(name.clone(), |summary| format!("{name}: {summary}"));
        let service = alert.labels.get("service").filter(|service| !service.is_empty()).cloned();
        let strongest = wanted.entry(service).or_insert_with(|| (action, said.clone()));
        if strength(action) > strength(strongest.0) {
            *strongest = (action, said);
        }
    }
    Ok(wanted)
}

/// The milder of what is configured and what the label says; `None`: nothing. A word that is not known changes nothing.
fn action(configured: AlertAction, label: Option<&String>) -> Option<AlertAction> {
    let milder = |asked| if strength(asked) < strength(configured) { asked } else { configured };
    match label.map(String::as_str) {
        Some("ignore" | "none") => None,
        Some("freeze") => Some(milder(AlertAction::Freeze)),
        Some("rollback") => Some(milder(AlertAction::Rollback)),
        Some(_) | None => Some(configured),
    }
}

const fn strength(action: AlertAction) -> u8 {
    match action {
        AlertAction::Freeze => 0,
        AlertAction::Rollback => 1,
    }
}

/// The services of each action, and those that nobody knows.
#[allow(clippy::type_complexity, reason = "used once, right above")]
fn by_service<'w>(
    wanted: &'w Wanted,
    known: &BTreeSet<Arc<str>>,
) -> (Vec<((AlertAction, String), Vec<Arc<str>>)>, Vec<&'w str>) {
    let mut chosen: BTreeMap<Arc<str>, (AlertAction, String)> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (service, (action, alert)) in wanted {
        let services: Vec<Arc<str>> = match service {
            None => known.iter().cloned().collect(),
            Some(name) => match known.get(name.as_str()) {
                Some(name) => vec![name.clone()],
                None => {
                    unknown.push(name.as_str());
                    continue;
                }
            },
        };
        for service in services {
            let strongest = chosen.entry(service).or_insert_with(|| (*action, alert.clone()));
            if strength(*action) > strength(strongest.0) {
                *strongest = (*action, alert.clone());
            }
        }
    }
    let mut actions: Vec<((AlertAction, String), Vec<Arc<str>>)> = Vec::new();
    for (service, choice) in chosen {
        match actions.iter_mut().find(|(known, _)| *known == choice) {
            Some((_, services)) => services.push(service),
            None => actions.push((choice, vec![service])),
        }
    }
    (actions, unknown)
}

/// In constant time, and without telling the token's length.
fn is_authorized(token: &Token, header: &str) -> bool {
    let Some((scheme, said)) = header.split_once(' ') else { return false };
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    let same = digest(said.trim()).ct_eq(&digest(token.reveal()));
    scheme.eq_ignore_ascii_case("bearer") && !token.reveal().is_empty() && bool::from(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"version":"4","groupKey":"{}","status":"firing","alerts":[
        {"status":"firing","labels":{"alertname":"Slow","service":"shop"},"annotations":{"summary":"p99 is 3 s"}},
        {"status":"firing","labels":{"alertname":"Down","service":"shop","tidegate_action":"rollback"}},
        {"status":"firing","labels":{"alertname":"Mild","service":"cart","tidegate_action":"freeze"}},
        {"status":"firing","labels":{"alertname":"Not","service":"news","tidegate_action":"ignore"}},
        {"status":"resolved","labels":{"alertname":"Over"}}]}"#;

    fn settings(action: AlertAction) -> AlertSettings {
        AlertSettings { token: Token::new("tide"), action }
    }

    #[test]
    fn only_who_knows_the_token_is_heard() {
        #[track_caller]
        fn check(settings: Option<&AlertSettings>, header: Option<&str>, body: &str, expected: Option<u16>) {
            let hooks = HookSettings { alerts: settings.cloned(), ..HookSettings::default() };
            let found = admit(&hooks, header).and_then(|alerts| wanted(alerts, body.as_bytes()));
            assert_eq!(found.as_ref().err().map(|(status, _)| *status), expected, "{found:?}");
        }
        let freeze = settings(AlertAction::Freeze);
        let known = Some("Bearer tide");
        check(None, known, BODY, Some(404));
        for wrong in
            [None, Some(""), Some("tide"), Some("Bearer tid"), Some("Bearer tides"), Some("Basic tide")]
        {
            check(Some(&freeze), wrong, BODY, Some(401));
        }
        check(Some(&freeze), known, BODY, None);
        check(Some(&freeze), Some("bearer tide"), BODY, None);
        check(Some(&freeze), known, "{}", Some(400));
        check(Some(&freeze), known, r#"{"version":"3","alerts":[]}"#, Some(400));
        check(Some(&AlertSettings { token: Token::new(""), ..freeze }), Some("Bearer "), BODY, Some(401));
    }

    #[test]
    fn a_label_makes_an_alert_milder_and_never_stronger() {
        let of = |action| wanted(&settings(action), BODY.as_bytes()).unwrap();
        let (freeze, rollback) = (AlertAction::Freeze, AlertAction::Rollback);
        let (shop, cart) = (Some("shop".to_owned()), Some("cart".to_owned()));
        let said = |action, alert: &str| (action, alert.to_owned());
        let expected = Wanted::from([
            (shop.clone(), said(freeze, "Slow: p99 is 3 s")),
            (cart.clone(), said(freeze, "Mild")),
        ]);
        assert_eq!(of(freeze), expected);
        let expected =
            Wanted::from([(shop, said(rollback, "Slow: p99 is 3 s")), (cart, said(freeze, "Mild"))]);
        assert_eq!(of(rollback), expected);
    }

    #[test]
    fn an_alert_without_a_service_is_for_all_and_the_stronger_wins() {
        let known = BTreeSet::from(["shop".into(), "cart".into()]);
        let wanted = Wanted::from([
            (None, (AlertAction::Freeze, "All".to_owned())),
            (Some("shop".to_owned()), (AlertAction::Rollback, "Shop".to_owned())),
            (Some("nope".to_owned()), (AlertAction::Rollback, "Nope".to_owned())),
        ]);
        let (actions, unknown) = by_service(&wanted, &known);
        let expected = [
            ((AlertAction::Freeze, "All".to_owned()), vec!["cart".into()]),
            ((AlertAction::Rollback, "Shop".to_owned()), vec!["shop".into()]),
        ];
        assert_eq!((actions.as_slice(), unknown), (expected.as_slice(), vec!["nope"]));
    }
}
