//! Endpoints as the data plane saw them: who is ejected and comes back, and whose variant has none left.
//!
//! Once a second, and at once when requests fail at an endpoint in a row, each group is looked at. Counts are read and
//! compared without holding what a kill needs; only what was found is put in force under it, all of it in one table.
//! What is told is told once per change, and never per look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::commit::{Control, by_us};
use crate::routing::{Group, Member, Service, Standing, WhenUnhealthy};
use crate::store::AuditEntry;
use crate::telemetry::ServiceSlot;
use crate::traffic::{PerVariant, Role, Variant, Weight};
use crate::upstream::{Cause, Ejected, Endpoint, Found, Look, MaxEjected, Seen, Watch};

/// What is remembered from look to look, by the service's slot.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    watches: Mutex<HashMap<u32, PerVariant<Watch>>>,
    /// Variants with a share and no usable endpoint, and how many of their requests stable had answered before.
    outages: Mutex<HashMap<(u32, Variant), u64>>,
}

impl Ejections {
    fn watches(&self) -> MutexGuard<'_, HashMap<u32, PerVariant<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the data plane has seen of an endpoint, and what became of that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointFigures {
    /// Counts of all threads.
    pub seen: Seen,
    /// How often it was ejected since the start.
    pub ejections: u64,
    /// The ejection that lasts, if one does.
    pub ejected: Option<Ejected>,
}

/// What a look at one group has found.
struct Finding {
    service: Arc<Service>,
    variant: Variant,
    found: Found,
}

impl Control {
    /// Resolves when endpoints should be looked at right away: requests fail at one in a row.
    pub async fn endpoints_alarmed(&self) {
        self.inner.tallies.endpoints_alarm().notified().await;
    }

    /// Ejects who fails, and takes back whose pause is over.
    pub fn look_at_endpoints(&self, now: Instant) {
        let mut watches = self.inner.ejections.watches();
        let mut before = std::mem::take(&mut *watches);
        let mut findings = Vec::new();
        for service in self.table().services().iter() {
            if !Variant::ALL.into_iter().any(|variant| is_watched(service, variant)) {
                continue;
            }
            let mut watched = before.remove(&service.slot).unwrap_or_default();
            for variant in Variant::ALL {
                let found = look(&mut watched[variant], service, variant, now);
                if found != Found::default() {
                    findings.push(Finding { service: service.clone(), variant, found });
                }
            }
            watches.insert(service.slot, watched);
        }
        let entries = self.put_in_force(&mut watches, findings, now);
        drop(watches);
        entries.into_iter().for_each(|entry| self.record(entry));
    }

    /// Tells of variants that have lost their last usable endpoint while they have a share, and of those that have one
    /// again.
    pub(super) fn look_for_outages(&self) {
        let table = self.table();
        let mut outages = self.inner.ejections.outages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *outages);
        let mut entries = Vec::new();
        let generation = table.generation();
        for service in table.services().iter() {
            for variant in Variant::ALL {
                let is_out = service.groups[variant].usable().is_empty();
                let known = before.remove(&(service.slot, variant));
                if known.is_none() && !is_out {
                    continue;
                }
                let has_share = service.split.share(variant) > Weight::ZERO;
                match known {
                    None if !has_share => {}
                    None => {
                        outages.insert((service.slot, variant), self.spilled(service, variant));
                        entries.push(outage_began(service, variant, generation));
                    }
                    Some(spilled) if is_out && has_share => {
                        outages.insert((service.slot, variant), spilled);
                    }
                    Some(spilled) => {
                        let spilled = self.spilled(service, variant).saturating_sub(spilled);
                        entries.push(outage_ended(service, variant, is_out, spilled, generation));
                    }
                }
            }
        }
        drop(outages);
        entries.into_iter().for_each(|entry| self.record(entry));
    }

    /// What is known of each endpoint of a variant, in the order of its group's members.
    pub fn endpoint_figures(&self, service: &Service, variant: Variant) -> Vec<EndpointFigures> {
        let watches = self.inner.ejections.watches();
        let watch = watches.get(&service.slot).map(|watched| &watched[variant]);
        let members = service.groups[variant].members().iter();
        let figures = members.map(|member| {
            let id = member.endpoint.id();
            let ejected = watch.filter(|_| member.standing == Standing::Ejected);
            EndpointFigures {
                seen: member.endpoint.seen(),
                ejections: watch.map_or(0, |watch| watch.ejections(id)),
                ejected: ejected.and_then(|watch| watch.ejection(id)).cloned(),
            }
        });
        figures.collect()
    }

    /// In one table, however much was found. Returns what there is to tell.
    fn put_in_force(
        &self,
        watches: &mut HashMap<u32, PerVariant<Watch>>,
        findings: Vec<Finding>,
        now: Instant,
    ) -> Vec<AuditEntry> {
        let mut entries = Vec::new();
        if findings.is_empty() {
            return entries;
        }
        let mut live = self.live();
        let mut is_changed = false;
        for Finding { service, variant, found } in findings {
            let Some(watch) = watches.get_mut(&service.slot).map(|watched| &mut watched[variant]) else {
                continue;
            };
            let name = &service.settings.name;
            for endpoint in live.take_back(name, variant, &found.back, now) {
                watch.came_back(endpoint.id(), now);
                is_changed = true;
                let why =
                    if service.settings.ejection.is_some() { "its pause is over" } else { "ejection is off" };
                entries.push(back(name, variant, &endpoint, why));
            }
            let group = &service.groups[variant];
            let endpoint = |id| {
                group.members().iter().map(|member| &member.endpoint).find(|endpoint| endpoint.id() == id)
            };
            for endpoint in found.relieved.into_iter().filter_map(endpoint) {
                entries.push(back(name, variant, endpoint, "nothing else was left of its variant"));
            }
            let Some(settings) = &service.settings.ejection else { continue };
            for (id, cause) in found.suspects {
                if let Some(endpoint) = endpoint(id).filter(|_| live.eject(name, variant, id)) {
                    is_changed = true;
                    let until = watch.ejected(id, cause.clone(), now, settings);
                    entries.push(out(name, variant, endpoint, &cause, until.saturating_duration_since(now)));
                }
            }
        }
        let generation = if is_changed { self.publish_unasked(&mut live) } else { self.generation() };
        drop(live);
        entries.iter_mut().for_each(|entry| entry.generation = generation);
        entries
    }

    fn spilled(&self, service: &Service, variant: Variant) -> u64 {
        let counts = self.inner.tallies.merged(ServiceSlot(service.slot));
        counts.map_or(0, |counts| counts[variant].spilled)
    }
}

/// Most groups are one endpoint, which is never ejected.
fn is_watched(service: &Service, variant: Variant) -> bool {
    let members = service.groups[variant].members();
    let may_be_empty =
        || service.settings.ejection.as_ref().is_some_and(|ejection| ejection.max_ejected == MaxEjected::All);
    members.len() > 1 || may_be_empty() || members.iter().any(|member| member.standing == Standing::Ejected)
}

fn look(watch: &mut Watch, service: &Service, variant: Variant, now: Instant) -> Found {
    let settings = service.settings.ejection.as_ref();
    let group = &service.groups[variant];
    let alarm = settings.filter(|_| is_watched(service, variant)).map(|settings| settings.failures);
    let seen: Vec<_> = group
        .members()
        .iter()
        .map(|member| {
            member.endpoint.ring_after(alarm);
            member.endpoint.seen_by_thread()
        })
        .collect();
    let looks: Vec<_> = group
        .members()
        .iter()
        .zip(&seen)
        .map(|(member, seen)| Look {
            id: member.endpoint.id(),
            seen,
            is_ejected: member.standing == Standing::Ejected,
            is_in_use: member.is_usable(),
        })
        .collect();
    watch.look(now, settings, &looks)
}

fn out(
    service: &Arc<str>,
    variant: Variant,
    endpoint: &Endpoint,
    cause: &Cause,
    pause: Duration,
) -> AuditEntry {
    let url = endpoint.label();
    AuditEntry {
        service: Some(service.to_string()),
        from: Some(format!("{variant} {url} in service")),
        to: Some(format!("{variant} {url} ejected for {} s", pause.as_secs_f64().ceil())),
        reason: Some(cause.to_string()),
        ..by_us("ejection", 0)
    }
}

fn back(service: &Arc<str>, variant: Variant, endpoint: &Endpoint, why: &str) -> AuditEntry {
    let url = endpoint.label();
    AuditEntry {
        service: Some(service.to_string()),
        from: Some(format!("{variant} {url} ejected")),
        to: Some(format!("{variant} {url} in service")),
        reason: Some(why.to_owned()),
        ..by_us("ejection", 0)
    }
}

fn outage_began(service: &Service, variant: Variant, generation: u64) -> AuditEntry {
    let spills = service.split.role(variant) == Role::Candidate
        && service.settings.when_unhealthy[variant] == WhenUnhealthy::Spill;
    let stable = service.split.stable();
    let then = if spills { format!("{stable} answers for it") } else { "its requests get 503".to_owned() };
    AuditEntry {
        service: Some(service.settings.name.to_string()),
        to: Some(format!("{variant} has no usable endpoint: {then}")),
        reason: Some(whereabouts(&service.groups[variant])),
        ..by_us("outage", generation)
    }
}

fn outage_ended(
    service: &Service,
    variant: Variant,
    is_out: bool,
    spilled: u64,
    generation: u64,
) -> AuditEntry {
    let stable = service.split.stable();
    let now = if is_out { "has no share any more" } else { "has a usable endpoint again" };
    let meanwhile = (spilled > 0).then(|| format!("{stable} answered {spilled} requests for it"));
    AuditEntry {
        service: Some(service.settings.name.to_string()),
        to: Some(format!("{variant} {now}")),
        reason: meanwhile,
        ..by_us("outage", generation)
    }
}

/// `2 unhealthy, 1 ejected`.
fn whereabouts(group: &Group) -> String {
    let count = |is: &dyn Fn(&Member) -> bool, word: &str| {
        let count = group.members().iter().filter(|member| is(member)).count();
        (count > 0).then(|| format!("{count} {word}"))
    };
    let draining = |member: &Member| member.standing == Standing::Draining;
    let ejected = |member: &Member| member.standing == Standing::Ejected;
    let parts = [
        count(&|member| !member.health.is_usable() && member.standing == Standing::InService, "unhealthy"),
        count(&ejected, "ejected"),
        count(&draining, "draining"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "no endpoints".to_owned() } else { parts.join(", ") }
}
