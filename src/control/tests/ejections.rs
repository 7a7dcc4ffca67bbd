//! Who is ejected, who comes back, and since when.

use std::time::{Duration, Instant};

use super::*;
use crate::routing::{Member, Standing};
use crate::upstream::{EjectionSettings, MaxEjected};

const SECOND: Duration = Duration::from_secs(1);

/// A service whose blue has so many endpoints, all healthy.
fn start_group(folder: &std::path::Path, count: usize, ejection: EjectionSettings) -> Control {
    let mut shop = config("shop");
    let url = |at| format!("http://blue-{at}.shop:80").parse().unwrap();
    shop.endpoints.blue = (0..count).map(|at| EndpointSpec { url: url(at), weight: 1 }).collect();
    Arc::get_mut(&mut shop.settings).unwrap().ejection = Some(ejection);
    let control = start_with(folder, vec![shop]);
    control.look_at_endpoints(clock::now());
    control
}

fn members(control: &Control) -> Vec<Member> {
    control.table().services()[0].groups.blue.members().to_vec()
}

/// One letter an endpoint: in use, ejected, or out by its checks.
fn standing(control: &Control) -> String {
    let letter = |member: Member| match (member.is_usable(), member.standing) {
        (true, _) => '+',
        (false, Standing::Ejected) => 'e',
        (false, Standing::InService | Standing::Draining) => 'u',
    };
    members(control).into_iter().map(letter).collect()
}

fn fail(control: &Control, endpoint: usize, times: usize) {
    let gauge = members(control)[endpoint].endpoint.gauge();
    for _ in 0..times {
        gauge.attempted(true);
    }
}

/// Checks of this endpoint fail, or pass, until that is believed.
fn check(control: &Control, endpoint: usize, passes: bool) {
    let url = members(control)[endpoint].endpoint.url().clone();
    let key = control.checks().into_iter().find(|key| *key.way.url() == url).unwrap();
    for _ in 0..3 {
        control.checked(&key, if passes { Ok(()) } else { Err("refused".into()) });
    }
}

#[test]
fn who_is_ejected_comes_back_after_its_pause_and_starts_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let control = start_group(folder.path(), 2, EjectionSettings::default());
    assert!(members(&control).iter().all(|member| member.since.is_none()), "a fresh start is no slow one");
    let now = clock::now();
    fail(&control, 1, 4);
    control.look_at_endpoints(now);
    assert_eq!(standing(&control), "++");
    fail(&control, 1, 5);
    let before = control.generation();
    control.look_at_endpoints(now);
    assert_eq!(standing(&control), "+e");
    assert!(control.generation() > before);
    let figures = |now: Instant| {
        let service = control.table().services()[0].clone();
        let ejected = control.endpoint_figures(&service, Variant::Blue)[1].ejected.clone();
        ejected.map(|ejected| (ejected.until - now, ejected.cause.to_string()))
    };
    assert_eq!(figures(now), Some((30 * SECOND, "5 failures in a row".to_owned())));

    fail(&control, 0, 5);
    control.look_at_endpoints(now);
    assert_eq!(standing(&control), "+e", "there is no room");
    check(&control, 1, true);
    assert_eq!(standing(&control), "+e", "a check that passes does not end it");

    let later = now + 30 * SECOND;
    control.look_at_endpoints(later);
    assert_eq!(standing(&control), "++");
    assert_eq!(members(&control)[1].since, Some(later));
    assert_eq!(figures(later), None);
    let before = control.generation();
    control.look_at_endpoints(later + SECOND);
    assert_eq!(control.generation(), before, "nothing to publish");
}

#[test]
fn who_is_ejected_is_used_when_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let control = start_group(folder.path(), 2, EjectionSettings::default());
    fail(&control, 0, 5);
    control.look_at_endpoints(clock::now());
    assert_eq!(standing(&control), "e+");
    check(&control, 1, false);
    assert_eq!(standing(&control), "+u", "in the same table");
    fail(&control, 0, 5);
    control.look_at_endpoints(clock::now());
    assert_eq!(standing(&control), "+u", "and it stays");
    check(&control, 1, true);
    assert_eq!(standing(&control), "++");
    assert!(members(&control).iter().all(|member| member.since.is_some()), "both have come back");
}

#[test]
fn all_may_be_ejected_if_somebody_wants_that() {
    let folder = tempfile::tempdir().unwrap();
    let all = EjectionSettings { max_ejected: MaxEjected::All, ..EjectionSettings::default() };
    let control = start_group(folder.path(), 1, all);
    fail(&control, 0, 5);
    control.look_at_endpoints(clock::now());
    assert_eq!(standing(&control), "e");
    control.look_at_endpoints(clock::now() + 30 * SECOND);
    assert_eq!(standing(&control), "+");
}

#[tokio::test]
async fn a_reload_keeps_who_is_ejected_and_starts_newcomers_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let control = start_group(folder.path(), 2, EjectionSettings::default());
    fail(&control, 0, 5);
    let now = clock::now();
    control.look_at_endpoints(now);
    let mut shop = ServiceConfig::clone(&control.config("shop").unwrap());
    let spec = EndpointSpec { url: "http://blue-new.shop:80".parse().unwrap(), weight: 1 };
    shop.endpoints.blue.push(spec);
    control.reload(vec![shop.clone()], Keep::All, &ops()).await.unwrap();
    assert_eq!(standing(&control), "e++");
    let since: Vec<_> = members(&control).iter().map(|member| member.since.is_some()).collect();
    assert_eq!(since, [false, false, true]);

    // Another weight makes another endpoint of the same place: that is no newcomer.
    shop.endpoints.blue[1].weight = 3;
    control.reload(vec![shop.clone()], Keep::All, &ops()).await.unwrap();
    assert!(members(&control)[1].since.is_none());

    let mut settings = ServiceSettings::clone(&shop.settings);
    settings.ejection = None;
    shop.settings = Arc::new(settings);
    control.reload(vec![shop], Keep::All, &ops()).await.unwrap();
    control.look_at_endpoints(now + SECOND);
    assert_eq!(standing(&control), "+++");
}
