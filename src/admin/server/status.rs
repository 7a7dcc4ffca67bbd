//! Status: the table, the counts and the last minute, put together for people.

use std::time::{Duration, Instant};

use crate::admin::api::{
    Ejection, EndpointStatus, LaunchSummary, MirrorStatus, RolloutStatus, ServiceStatus, VariantStatus,
};
use crate::clock::Timestamp;
use crate::control::{Control, Desired};
use crate::routing::Service;
use crate::telemetry::{HistogramSnapshot, MirrorDrop, MirrorResult, ServiceSlot, VariantCounts, WindowView};
use crate::traffic::{PerVariant, Variant, Weight};
use crate::upstream::{Ejected, Endpoint, Health};

/// The status of one service. `now` and `wall` are the same moment.
pub fn service(
    control: &Control,
    desired: &Desired,
    service: &Service,
    now: Instant,
    wall: Timestamp,
) -> ServiceStatus {
    let slot = ServiceSlot(service.slot);
    let windows = control.windows().view(slot, now);
    let counts = control.tallies().merged(slot).unwrap_or_default();
    let visitors = control.tallies().visitors(slot, wall);
    let lately = PerVariant::from_fn(|variant| windows[variant].long.requests);
    let name = &service.settings.name;
    let split = &service.split;
    ServiceStatus {
        name: name.to_string(),
        routes: service.settings.routes.iter().map(|route| format!("{}{}", route.host, route.path)).collect(),
        stable: split.stable(),
        candidate: split.candidate,
        weight: split.weight,
        by: split.by,
        ratchet: split.ratchet,
        salt: split.salt.to_string(),
        epoch: split.epoch,
        changed_at: service.changed_at,
        lock: desired.service(name).and_then(|state| state.lock.clone()),
        rollout: control.rollout(name).as_ref().map(RolloutStatus::of),
        mirror: mirror_status(control, service),
        launch: control.launch_of(name, wall).map(|ledger| LaunchSummary::of(&ledger)),
        variants: PerVariant::from_fn(|variant| {
            let seen = Seen {
                window: &windows[variant],
                counts: &counts[variant],
                share_of_requests: part(lately[variant], lately[variant.other()]),
                share_of_visitors: part(visitors[variant], visitors[variant.other()]),
            };
            variant_status(control, service, variant, &seen, (now, wall))
        }),
        split_expired: control.split_expired(name, wall),
        drift: control.drift(name),
    }
}

fn mirror_status(control: &Control, service: &Service) -> Option<MirrorStatus> {
    let counts = control.mirrored(ServiceSlot(service.slot), service.split.candidate);
    let share = service.mirror;
    if share == Weight::ZERO && counts.is_empty() {
        return None;
    }
    let dropped = MirrorDrop::ALL.into_iter().map(|why| (why.as_str().to_owned(), counts.dropped(why)));
    let quantile = |of: &HistogramSnapshot, q| of.quantile(q).map(millis);
    Some(MirrorStatus {
        share,
        compared: counts.compared(),
        different: counts.came_to(MirrorResult::Different) + counts.came_to(MirrorResult::Failed),
        status_differs: counts.status_differs,
        body_differs: counts.body_differs,
        only_candidate_failed: counts.only_copy_failed,
        only_stable_failed: counts.only_original_failed,
        unpaired: counts.came_to(MirrorResult::Unpaired),
        dropped: dropped.filter(|(_, count)| *count > 0).collect(),
        candidate_p50_ms: quantile(&counts.copy, 0.5),
        candidate_p99_ms: quantile(&counts.copy, 0.99),
        stable_p50_ms: quantile(&counts.original, 0.5),
        stable_p99_ms: quantile(&counts.original, 0.99),
    })
}

struct Seen<'s> {
    window: &'s WindowView,
    counts: &'s VariantCounts,
    share_of_requests: Option<f64>,
    share_of_visitors: Option<f64>,
}

fn variant_status(
    control: &Control,
    service: &Service,
    variant: Variant,
    seen: &Seen<'_>,
    moment: (Instant, Timestamp),
) -> VariantStatus {
    let Seen { window, counts, share_of_requests, share_of_visitors } = *seen;
    let (totals, last) = (&counts.totals, &window.long);
    let group = &service.groups[variant];
    let measured = |ratio: f64| (last.requests > 0).then_some(ratio);
    VariantStatus {
        version: group.version().map(|version| version.to_string()),
        role: service.split.role(variant),
        share: service.split.share(variant),
        share_of_requests,
        share_of_visitors,
        requests: totals.requests,
        failures: totals.failures + totals.late_failures,
        rate: window.short.request_rate(),
        failure_ratio: measured(last.failure_ratio()),
        client_error_ratio: measured(last.client_error_ratio()),
        p50_ms: last.ttfb.p50.map(millis),
        p95_ms: last.ttfb.p95.map(millis),
        p99_ms: last.ttfb.p99.map(millis),
        in_flight: totals.started.saturating_sub(totals.finished),
        spilled: counts.spilled,
        endpoints: endpoints(control, service, variant, moment),
    }
}

/// The endpoints of a variant, last those that are gone while something is under way there. Both clocks of `moment` say
/// the same.
pub fn endpoints(
    control: &Control,
    service: &Service,
    variant: Variant,
    moment: (Instant, Timestamp),
) -> Vec<EndpointStatus> {
    let of = |endpoint: &Endpoint, health: Health, standing: &str| {
        let seen = endpoint.seen();
        EndpointStatus {
            url: endpoint.label().to_string(),
            health: health.as_str().to_owned(),
            standing: standing.to_owned(),
            weight: endpoint.weight(),
            in_flight: seen.in_flight,
            requests: seen.attempts,
            failures: seen.failures,
            ejections: 0,
            ejected: None,
            error: None,
        }
    };
    let members = service.groups[variant].members().iter();
    let members = members.zip(control.endpoint_figures(service, variant)).map(|(member, figures)| {
        let error = control.check_error(service, variant, member.endpoint.way());
        EndpointStatus {
            ejections: figures.ejections,
            ejected: figures.ejected.as_ref().map(|ejected| ejection(ejected, moment)),
            error: error.map(|error| error.to_string()),
            ..of(&member.endpoint, member.health, member.standing.as_str())
        }
    });
    let leaving = control.leaving(&service.settings.name, variant);
    members.chain(leaving.iter().map(|endpoint| of(endpoint, Health::Unknown, "leaving"))).collect()
}

fn ejection(ejected: &Ejected, (now, wall): (Instant, Timestamp)) -> Ejection {
    let left = ejected.until.saturating_duration_since(now);
    let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    Ejection {
        until: Timestamp::from_millis(wall.as_millis().saturating_add(left_ms)),
        why: ejected.cause.to_string(),
    }
}

fn part(one: u64, other: u64) -> Option<f64> {
    let all = one + other;
    (all > 0).then(|| one as f64 / all as f64)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
