//! What is in force, piece by piece, and how the routing table is built from it.
//!
//! A change replaces only the services it touches, so a shift costs the same with one service as with
//! ten thousand but for copying a list of pointers. Endpoints keep their identity as long as their address
//! stays, so connections and counts survive every table. Each address is checked once per process, however
//! many services use it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use http::Method;

use super::change::Facts;
use super::desired::{Desired, ServiceState};
use super::leaving::Leaving;
use super::overlay::Placed;
use super::settings::ServiceConfig;
use super::wanted::{Wanted, spread};
use crate::clock;
use crate::rollout::{BusinessGate, Ending, Phase};
use crate::routing::{Cut, Group, Matcher, Member, Service, ServiceSettings, Standing, SuccessRule, Table};
use crate::shared_list::SharedList;
use crate::traffic::{PerVariant, Variant, Weight};
use crate::upstream::{
    Endpoint, EndpointSpec, EndpointUrl, Health, HealthSettings, Hysteresis, MaxEjected, Name, Names, Place,
    Way, has_room,
};

/// What is checked, and how. Endpoints of different services that agree in both share the check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckKey {
    /// The address, and how it is spoken to.
    pub way: Way,
    /// How.
    pub settings: HealthSettings,
}

/// What the checks of an address say so far.
#[derive(Debug)]
struct Checked {
    hysteresis: Hysteresis,
    error: Option<Arc<str>>,
    /// How many failed, the last one and those right before it.
    failed: u32,
    users: Vec<(usize, Variant)>,
}

impl Checked {
    fn at(health: Health) -> Self {
        Self { hysteresis: Hysteresis::at(health), error: None, failed: 0, users: Vec::new() }
    }
}

/// A health that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Before.
    pub from: Health,
    /// Now.
    pub to: Health,
    /// The variants that use the endpoint, by service name.
    pub users: Vec<(Arc<str>, Variant)>,
}

/// When somebody last asked for less of a candidate, also where there was nothing to change. A change toward the
/// candidate that waits for the disk must not land after that.
#[derive(Debug, Default)]
struct Asked {
    count: u64,
    all: u64,
    services: HashMap<Arc<str>, u64>,
}

/// A moment, for some services: as long as it stays the same, nobody has asked for less of their candidates.
#[derive(Debug, PartialEq, Eq)]
pub struct Mark(Vec<u64>);

#[derive(Debug)]
struct Entry {
    config: Arc<ServiceConfig>,
    slot: u32,
}

/// Everything in force.
#[derive(Debug, Default)]
pub struct Live {
    /// The desired state in force.
    pub desired: Arc<Desired>,
    entries: Vec<Entry>,
    index: HashMap<Arc<str>, usize>,
    matcher: Arc<Matcher>,
    services: SharedList<Arc<Service>>,
    slots: HashMap<Arc<str>, u32>,
    checks: HashMap<CheckKey, Checked>,
    endpoints_made: u32,
    names: Names,
    asked: Asked,
    pub(super) leaving: Leaving,
    /// Why nothing may be changed at the moment.
    pub closed: Option<Arc<str>>,
}

impl Live {
    /// Takes over a configuration and the state that belongs to it. `desired` has every configured service.
    pub fn configure(
        &mut self,
        configs: Vec<Arc<ServiceConfig>>,
        matcher: Arc<Matcher>,
        desired: Arc<Desired>,
    ) {
        let old: HashMap<Arc<str>, Arc<Service>> =
            self.services.iter().map(|service| (service.settings.name.clone(), service.clone())).collect();
        let mut services = Vec::with_capacity(configs.len());
        self.desired = desired;
        self.matcher = matcher;
        self.entries.clear();
        self.index.clear();
        self.forget_users();
        for config in configs {
            let name = config.settings.name.clone();
            let Some(state) = self.desired.service(&name).cloned() else { continue };
            let next_slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
            let slot = *self.slots.entry(name.clone()).or_insert(next_slot);
            let at = self.entries.len();
            self.index.insert(name.clone(), at);
            self.entries.push(Entry { config, slot });
            let service = self.build(at, &state, old.get(&name).map(Arc::as_ref));
            services.push(Arc::new(service));
        }
        self.services = services.into_iter().collect();
        let kept = |name: &Arc<str>| self.index.contains_key(name);
        for (name, service) in old.iter().filter(|(name, _)| !kept(name)) {
            for variant in Variant::ALL {
                for member in service.groups[variant].members() {
                    self.leaving.retire(name, variant, &member.endpoint);
                }
            }
        }
        self.checks.retain(|_, checked| !checked.users.is_empty());
    }

    /// Takes over the new state of services that a change touched.
    pub fn adopt(&mut self, desired: Arc<Desired>, touched: &[Arc<str>]) {
        let before = std::mem::replace(&mut self.desired, desired);
        for name in touched {
            let (Some(at), Some(state)) =
                (self.index.get(name).copied(), self.desired.service(name).cloned())
            else {
                continue;
            };
            let old = self.services[at].clone();
            let stays = before
                .service(name)
                .is_some_and(|before| before.deployed == state.deployed && before.overlay == state.overlay);
            let service = if stays {
                let entry = &self.entries[at];
                assemble(&entry.config, entry.slot, &state, old.groups.clone(), Some(&old))
            } else {
                self.build(at, &state, Some(&old))
            };
            self.services.set(at, Arc::new(service));
        }
        self.checks.retain(|_, checked| !checked.users.is_empty());
    }

    /// A name has other addresses: builds the services anew whose endpoints it is. Whether there are any, so that a
    /// table has to be published.
    pub fn readdress(&mut self, name: &Arc<Name>) -> bool {
        let has_it = |service: &Service| {
            endpoints(service).any(|endpoint| endpoint.way().name().is_some_and(|its| Arc::ptr_eq(its, name)))
        };
        let touched: Vec<usize> = (0..self.entries.len()).filter(|at| has_it(&self.services[*at])).collect();
        for at in &touched {
            let old = self.services[*at].clone();
            let Some(state) = self.desired.service(&old.settings.name).cloned() else { continue };
            let service = self.build(*at, &state, Some(&old));
            self.services.set(*at, Arc::new(service));
        }
        self.checks.retain(|_, checked| !checked.users.is_empty());
        !touched.is_empty()
    }

    /// The table to publish.
    pub fn table(&self, generation: u64) -> Table {
        Table::new(generation, self.matcher.clone(), self.services.clone())
    }

    /// What is under way at an endpoint, also where it is gone by now.
    pub fn under_way(&self, service: &str, variant: Variant, url: &EndpointUrl) -> u64 {
        let members =
            self.service(service).map(|service| service.groups[variant].members()).unwrap_or_default();
        let here = members.iter().map(|member| member.endpoint.clone());
        let all = here.chain(self.leaving.of(service, variant)).filter(|endpoint| endpoint.url() == url);
        all.map(|endpoint| endpoint.seen().in_flight).sum()
    }

    /// What a change needs to know about a configured service.
    pub fn facts(&self, name: &str) -> Option<Facts> {
        let at = *self.index.get(name)?;
        let (config, service) = (&self.entries[at].config, &self.services[at]);
        let state = self.desired.service(name)?;
        Some(Facts {
            config: config.clone(),
            specs: PerVariant::from_fn(|variant| {
                let (placed, _) = places(config, state, variant);
                placed.into_iter().map(|placed| placed.spec).collect()
            }),
            usable: PerVariant::from_fn(|variant| {
                service.groups[variant].usable().iter().map(|endpoint| endpoint.url().clone()).collect()
            }),
            healthy: PerVariant::from_fn(|variant| service.groups[variant].is_healthy()),
        })
    }

    /// Somebody asks for less of the candidates of these services, `None` for all.
    pub fn asked_for_stable(&mut self, services: Option<&[Arc<str>]>) {
        self.asked.count += 1;
        match services {
            None => self.asked.all = self.asked.count,
            Some(services) => {
                for service in services {
                    self.asked.services.insert(service.clone(), self.asked.count);
                }
            }
        }
    }

    /// Who asked for less of these services' candidates, until now.
    pub fn mark<'s>(&self, services: impl Iterator<Item = &'s Arc<str>>) -> Mark {
        let asked = |service| self.asked.services.get(service).copied().unwrap_or(0).max(self.asked.all);
        Mark(services.map(asked).collect())
    }

    /// A service as it is in the table.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(*self.index.get(name)?)
    }

    /// The configuration of a service.
    pub fn config(&self, name: &str) -> Option<&Arc<ServiceConfig>> {
        self.index.get(name).map(|at| &self.entries[*at].config)
    }

    /// All configurations, in the order of the table.
    pub fn configs(&self) -> impl Iterator<Item = &Arc<ServiceConfig>> {
        self.entries.iter().map(|entry| &entry.config)
    }

    /// Everything that has to be checked.
    pub fn checks(&self) -> impl Iterator<Item = &CheckKey> {
        self.checks.keys()
    }

    /// What is known of each address that is checked.
    pub fn health(&self) -> impl Iterator<Item = (&CheckKey, Health)> {
        self.checks.iter().map(|(key, checked)| (key, checked.hysteresis.health()))
    }

    /// Why the last check of an endpoint failed.
    pub fn check_error(&self, service: &Service, variant: Variant, way: &Way) -> Option<Arc<str>> {
        let settings = service.settings.health[variant].clone();
        self.checks.get(&CheckKey { way: way.clone(), settings })?.error.clone()
    }

    /// The endpoints of a variant, but for those that rest, whose last checks failed: which, how many in a row, and why.
    pub fn failing(&self, service: &Service, variant: Variant) -> Vec<(Arc<Endpoint>, u32, Arc<str>)> {
        let settings = &service.settings.health[variant];
        let members = service.groups[variant].members().iter();
        let in_use = members.filter(|member| member.standing != Standing::Draining);
        let failing = in_use.filter_map(|member| {
            let endpoint = &member.endpoint;
            let key = CheckKey { way: endpoint.way().clone(), settings: settings.clone() };
            let checked = self.checks.get(&key).filter(|checked| checked.failed > 0)?;
            Some((endpoint.clone(), checked.failed, checked.error.clone().unwrap_or_default()))
        });
        failing.collect()
    }

    /// Takes in the result of a check. If it changes the health of the endpoint, the services that use it are
    /// rebuilt and a table has to be published.
    pub fn checked(&mut self, key: &CheckKey, result: Result<(), String>, now: Instant) -> Option<Flip> {
        let checked = self.checks.get_mut(key)?;
        let from = checked.hysteresis.health();
        checked.hysteresis = checked.hysteresis.after(result.is_ok(), &key.settings);
        checked.failed = if result.is_ok() { 0 } else { checked.failed.saturating_add(1) };
        checked.error = result.err().map(Into::into);
        let to = checked.hysteresis.health();
        if from == to {
            return None;
        }
        let users = checked.users.clone();
        for (at, variant) in &users {
            let mut service = Service::clone(&self.services[*at]);
            let members = service.groups[*variant].members().iter().map(|member| {
                let is_it = *member.endpoint.way() == key.way;
                if is_it { member.clone().flipped(to, now) } else { member.clone() }
            });
            let mut members: Vec<_> = members.collect();
            relieve(&service.settings, &mut members, now);
            service.groups[*variant] = Group::new(service.groups[*variant].version().cloned(), members);
            self.services.set(*at, Arc::new(service));
        }
        let named = |(at, variant): (usize, Variant)| (self.services[at].settings.name.clone(), variant);
        Some(Flip { from, to, users: users.into_iter().map(named).collect() })
    }

    /// Ejects an endpoint, if there is room for it in its group; a table has to be published then.
    pub fn eject(&mut self, service: &str, variant: Variant, endpoint: u32) -> bool {
        let Some(at) = self.index.get(service).copied() else { return false };
        let group = &self.services[at].groups[variant];
        let Some(ejection) = &self.services[at].settings.ejection else { return false };
        let Some(suspect) = group.members().iter().position(|member| member.endpoint.id() == endpoint) else {
            return false;
        };
        let places: Vec<_> = group.members().iter().map(place_of).collect();
        if !has_room(&places, suspect, ejection.max_ejected) {
            return false;
        }
        self.stand(at, variant, |index, member| {
            if index == suspect { Member { standing: Standing::Ejected, ..member } } else { member }
        });
        true
    }

    /// Ends the ejections of these endpoints. Returns those that were out; if there are any, a table has to be published.
    pub fn take_back(
        &mut self,
        service: &str,
        variant: Variant,
        ids: &[u32],
        now: Instant,
    ) -> Vec<Arc<Endpoint>> {
        let Some(at) = self.index.get(service).copied() else { return Vec::new() };
        let is_out =
            |member: &Member| member.standing == Standing::Ejected && ids.contains(&member.endpoint.id());
        let group = &self.services[at].groups[variant];
        let out: Vec<_> = group.members().iter().filter(|member| is_out(member)).collect();
        let out: Vec<_> = out.into_iter().map(|member| member.endpoint.clone()).collect();
        if !out.is_empty() {
            self.stand(at, variant, |_, member| if is_out(&member) { member.back(now) } else { member });
        }
        out
    }

    fn stand(&mut self, at: usize, variant: Variant, change: impl Fn(usize, Member) -> Member) {
        let mut service = Service::clone(&self.services[at]);
        let group = &service.groups[variant];
        let members = group.members().iter().cloned().enumerate();
        let members = members.map(|(index, member)| change(index, member)).collect();
        service.groups[variant] = Group::new(group.version().cloned(), members);
        self.services.set(at, Arc::new(service));
    }

    /// A service as its configuration and state say, with the endpoints it had as far as they stay.
    fn build(&mut self, at: usize, state: &ServiceState, old: Option<&Service>) -> Service {
        let entry = &self.entries[at];
        let (config, slot) = (entry.config.clone(), entry.slot);
        let groups = PerVariant::from_fn(|variant| {
            let had = old.map_or(&[][..], |old| old.groups[variant].members());
            self.group(at, variant, &config, state, had)
        });
        assemble(&config, slot, state, groups, old)
    }

    fn group(
        &mut self,
        at: usize,
        variant: Variant,
        config: &ServiceConfig,
        state: &ServiceState,
        had: &[Member],
    ) -> Group {
        let (health, reach) = (&config.settings.health[variant], &config.reach[variant]);
        let (placed, version) = places(config, state, variant);
        let wanted: Vec<Wanted> =
            placed.iter().flat_map(|placed| spread(placed, reach, &self.names)).collect();
        for member in
            had.iter().filter(|member| !wanted.iter().any(|wanted| wanted.is(&member.endpoint, reach)))
        {
            self.leaving.retire(&config.settings.name, variant, &member.endpoint);
        }
        for member in had {
            self.drop_user(member.endpoint.way(), at, variant);
        }
        let mut members = Vec::with_capacity(wanted.len());
        let now = clock::now();
        // Whoever comes to others that are known already starts slowly, and not who begins together with them.
        let newcomer = had.iter().any(|member| member.health != Health::Unknown).then_some(now);
        for wanted in wanted {
            let before = had.iter().find(|member| wanted.is(&member.endpoint, reach));
            let endpoint = match before {
                Some(member) => member.endpoint.clone(),
                None => {
                    self.endpoints_made += 1;
                    Arc::new(Endpoint::new(
                        self.endpoints_made,
                        wanted.way.clone(),
                        wanted.placed.spec.weight,
                    ))
                }
            };
            let key = CheckKey { way: endpoint.way().clone(), settings: health.clone() };
            // Other settings do not make what is known about an address unknown.
            let known = wanted.known(had);
            let health = known.map_or(Health::Unknown, |member| member.health);
            let checked = self.checks.entry(key).or_insert_with(|| Checked::at(health));
            checked.users.push((at, variant));
            let health = checked.hysteresis.health();
            let member = match before {
                Some(member) => Member { health, ..member.clone() },
                None => {
                    let since = known.map_or(newcomer, |member| member.since);
                    Member { since, ..Member::new(endpoint.clone(), health) }
                }
            };
            self.leaving.rest(&endpoint, wanted.placed.drains);
            members.push(match member.standing {
                _ if wanted.placed.drains => Member { standing: Standing::Draining, ..member },
                Standing::Draining => member.back(now),
                Standing::InService | Standing::Ejected => member,
            });
        }
        relieve(&config.settings, &mut members, now);
        Group::new(version, members)
    }

    fn drop_user(&mut self, way: &Way, at: usize, variant: Variant) {
        let settings = &self.entries[at].config.settings.health[variant];
        let key = CheckKey { way: way.clone(), settings: settings.clone() };
        if let Some(checked) = self.checks.get_mut(&key)
            && let Some(place) = checked.users.iter().rposition(|user| *user == (at, variant))
        {
            checked.users.swap_remove(place);
        }
    }

    fn forget_users(&mut self) {
        for checked in self.checks.values_mut() {
            checked.users.clear();
        }
    }
}

/// Ejections never empty a group, whatever else takes its endpoints out: if nothing else is left, who is well comes back.
fn relieve(settings: &ServiceSettings, members: &mut [Member], now: Instant) {
    let may_be_empty =
        settings.ejection.as_ref().is_some_and(|ejection| ejection.max_ejected == MaxEjected::All);
    if may_be_empty || members.iter().any(Member::is_usable) {
        return;
    }
    for member in members {
        if member.standing == Standing::Ejected && member.health.is_usable() {
            *member = member.clone().back(now);
        }
    }
}

fn place_of(member: &Member) -> Place {
    Place {
        is_healthy: member.health.is_usable(),
        is_ejected: member.standing == Standing::Ejected,
        is_draining: member.standing == Standing::Draining,
    }
}

/// The endpoints and the version of a variant: what was deployed, else what is configured, with what was changed at
/// run time.
pub fn places(
    config: &ServiceConfig,
    state: &ServiceState,
    variant: Variant,
) -> (Vec<Placed>, Option<Arc<str>>) {
    let (specs, version) = base(config, state, variant);
    (state.overlay[variant].over(specs), version)
}

/// The same without what was changed at run time.
pub fn base<'s>(
    config: &'s ServiceConfig,
    state: &'s ServiceState,
    variant: Variant,
) -> (&'s [EndpointSpec], Option<Arc<str>>) {
    match &state.deployed[variant] {
        Some(deployed) => (&deployed.endpoints, deployed.version.clone()),
        None => (&config.endpoints[variant], config.version[variant].clone()),
    }
}

fn assemble(
    config: &ServiceConfig,
    slot: u32,
    state: &ServiceState,
    groups: PerVariant<Group>,
    old: Option<&Service>,
) -> Service {
    let split = state.split();
    // Streams that a rollback or a kill leaves behind on the candidate end after a while.
    let rolled_back = || {
        state.epoch == state.changed.generation
            && state.rollout.as_ref().is_some_and(|rollout| {
                matches!(rollout.phase, Phase::Ended { how: Ending::RolledBack { .. } })
            })
    };
    let cut = match old {
        Some(old) if (split.is_killed() && !old.split.is_killed()) || rolled_back() => {
            Some(Cut { variant: split.candidate, before: state.changed.generation })
        }
        Some(old) => old.cut,
        None => None,
    };
    let era = match old {
        Some(old) if old.split == split && *old.user_keys == state.recognition.user_keys[..] => old.era,
        Some(_) | None => state.changed.generation,
    };
    // Plans may have gates of their own.
    let gates = state.running().map_or(&config.gates, |rollout| {
        let stage = rollout.plan.stages.get(rollout.stage);
        stage.map_or(&rollout.plan.gates, |stage| rollout.plan.gates_of(stage))
    });
    Service {
        settings: config.settings.clone(),
        slot,
        changed_at: state.changed.generation,
        era,
        success: gates.business.as_ref().and_then(success_rule).map(Arc::new),
        mirror: if split.lock.is_some() { Weight::ZERO } else { state.mirror },
        split,
        user_keys: state.recognition.user_keys.clone().into(),
        groups,
        cut,
    }
}

/// What the proxy counts for a business gate. `None` if no request can match it: then there is no evidence either.
fn success_rule(gate: &BusinessGate) -> Option<SuccessRule> {
    let method = gate.method.as_ref().map(|method| Method::from_bytes(method.as_bytes())).transpose().ok()?;
    let (from, to) = gate.status;
    Some(SuccessRule { method, path: gate.path.parse().ok()?, status: from..=to })
}

fn endpoints(service: &Service) -> impl Iterator<Item = &Arc<Endpoint>> {
    Variant::ALL
        .into_iter()
        .flat_map(|variant| service.groups[variant].members())
        .map(|member| &member.endpoint)
}
