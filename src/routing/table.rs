//! The table, and the one swap that replaces it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::{Host, Matcher, Recognition, ServiceSettings, SuccessRule, UserKey};
use crate::shared_list::SharedList;
use crate::traffic::{PerVariant, Split, Variant, Weight};
use crate::upstream::{Endpoint, Health};

/// Everything that requests need to know at one moment. Immutable.
#[derive(Debug)]
pub struct Table {
    generation: u64,
    matcher: Arc<Matcher>,
    services: SharedList<Arc<Service>>,
}

impl Table {
    /// `matcher` finds indexes into `services`. `generation` is larger than any before it.
    pub fn new(generation: u64, matcher: Arc<Matcher>, services: SharedList<Arc<Service>>) -> Self {
        Self { generation, matcher, services }
    }

    /// A table without services, generation 0.
    pub fn empty() -> Self {
        Self::new(0, Arc::default(), SharedList::default())
    }

    /// The number of this table: opaque, increasing, never reused.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The routes.
    pub fn matcher(&self) -> &Arc<Matcher> {
        &self.matcher
    }

    /// All services.
    pub fn services(&self) -> &SharedList<Arc<Service>> {
        &self.services
    }

    /// The service for a host and a normalised path.
    pub fn route(&self, host: Option<&Host<'_>>, path: &str) -> Option<&Arc<Service>> {
        self.services.get(self.matcher.find(host, path)?)
    }
}

/// One service at one moment.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the configuration says.
    pub settings: Arc<ServiceSettings>,
    /// The index of its counts: the same for as long as the process knows the service.
    pub slot: u32,
    /// The generation at which its split or endpoints last changed.
    pub changed_at: u64,
    /// The generation at which last changed who goes where: weight, candidate, lock or recognition. What was assigned
    /// in one era is never compared with what was assigned in another.
    pub era: u64,
    /// Which requests are successes for the business, if any are.
    pub success: Option<Arc<SuccessRule>>,
    /// Where its visitors go.
    pub split: Split,
    /// The share of stable's visitors whose requests are copied to the candidate; 0 while nothing may move there.
    pub mirror: Weight,
    /// Where user keys are looked for.
    pub user_keys: Arc<[UserKey]>,
    /// Its variants' endpoints.
    pub groups: PerVariant<Group>,
    /// Which open streams have to end.
    pub cut: Option<Cut>,
}

impl Service {
    /// What recognises visitors at the moment.
    pub fn recognition(&self) -> Recognition {
        Recognition {
            by: self.split.by,
            user_keys: self.user_keys.to_vec(),
            otherwise: self.split.otherwise,
            ratchet: self.split.ratchet,
            salt: self.split.salt.clone(),
        }
    }
}

/// After a kill, what is still open on the losing variant ends after a grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The losing variant.
    pub variant: Variant,
    /// Only what was assigned under an older generation.
    pub before: u64,
}

/// The endpoints of one variant.
#[derive(Clone, Debug, Default)]
pub struct Group {
    version: Option<Arc<str>>,
    members: Vec<Member>,
    usable: Vec<Arc<Endpoint>>,
}

/// An endpoint with what is known about it.
#[derive(Clone, Debug)]
pub struct Member {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its health, as checks see it.
    pub health: Health,
    /// Whether it takes part.
    pub standing: Standing,
    /// Since when it is in use, if it came to a group that others were known in, or came back: it starts slowly.
    pub since: Option<Instant>,
}

impl Member {
    /// One in service.
    pub fn new(endpoint: Arc<Endpoint>, health: Health) -> Self {
        Self { endpoint, health, standing: Standing::InService, since: None }
    }

    /// The same with another health. Whoever was unhealthy before starts slowly.
    pub fn flipped(self, to: Health, now: Instant) -> Self {
        let since = if self.health == Health::Unhealthy && to.is_usable() { Some(now) } else { self.since };
        Self { health: to, since, ..self }
    }

    /// The same in service again, from now on.
    pub fn back(self, now: Instant) -> Self {
        Self { standing: Standing::InService, since: Some(now), ..self }
    }

    /// Whether requests may be sent to it.
    pub fn is_usable(&self) -> bool {
        self.health.is_usable() && self.standing == Standing::InService
    }
}

/// Whether an endpoint takes part, whatever checks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    #[default]
    InService,
    /// Too many requests failed there: it has a pause.
    Ejected,
    /// Somebody took it out; what is under way there goes on.
    Draining,
}

impl Standing {
    /// `in service`, `ejected` or `draining`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InService => "in service",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
        }
    }
}

impl Group {
    /// `version` is a label for people, for instance `2.0.1`.
    pub fn new(version: Option<Arc<str>>, members: Vec<Member>) -> Self {
        let usable = members
            .iter()
            .filter(|member| member.is_usable())
            .map(|member| member.endpoint.clone())
            .collect();
        Self { version, members, usable }
    }

    /// The version label.
    pub fn version(&self) -> Option<&Arc<str>> {
        self.version.as_ref()
    }

    /// All endpoints.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The endpoints that requests may be sent to.
    pub fn usable(&self) -> &[Arc<Endpoint>] {
        &self.usable
    }

    /// Whether at least one endpoint is known to be healthy.
    pub fn is_healthy(&self) -> bool {
        self.members.iter().any(|member| member.is_usable() && member.health == Health::Healthy)
    }
}

/// Publishes tables. Readers hold the [`ArcSwap`]; what they let go of is freed here, by the publishing
/// side, so that no request ever pays for tearing down an old table.
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<Table>>,
    retired: Mutex<Vec<Arc<Table>>>,
}

impl Publisher {
    /// Starts with an empty table.
    pub fn new() -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(Table::empty())), retired: Mutex::default() }
    }

    /// What readers load from.
    pub fn reader(&self) -> Arc<ArcSwap<Table>> {
        self.current.clone()
    }

    /// The table in force.
    pub fn load(&self) -> Arc<Table> {
        self.current.load_full()
    }

    /// Puts `table` in force: every routing decision that starts after this returns sees it.
    pub fn publish(&self, table: Arc<Table>) {
        let old = self.current.swap(table);
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(old);
    }

    /// Frees the tables that no reader holds any more. Called now and then, not on the way of a change.
    pub fn sweep(&self) {
        let free: Vec<_> = {
            let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
            retired.extract_if(.., |table| Arc::strong_count(table) == 1).collect()
        };
        drop(free);
    }

    /// How many old tables are still held by readers or wait for the next sweep.
    pub fn retired(&self) -> usize {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_table_is_freed_by_the_publisher_once_no_reader_holds_it() {
        let publisher = Publisher::new();
        let held = publisher.load();
        publisher.publish(Arc::new(Table::new(1, Arc::default(), SharedList::default())));
        publisher.sweep();
        assert_eq!(publisher.retired(), 1);
        drop(held);
        assert_eq!(publisher.retired(), 1);
        publisher.sweep();
        assert_eq!(publisher.retired(), 0);
        assert_eq!(publisher.load().generation(), 1);
    }
}
