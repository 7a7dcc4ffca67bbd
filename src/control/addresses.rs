//! What endpoints do beside being chosen: they get other addresses, and they end what they have begun.

use std::net::IpAddr;
use std::sync::Arc;

use super::commit::{Control, by_us};
use crate::store::AuditEntry;
use crate::telemetry::names;
use crate::traffic::Variant;
use crate::upstream::{Endpoint, EndpointUrl, Name};

impl Control {
    /// Takes in the answer to a look-up. Another set of several addresses is another set of endpoints.
    pub fn looked_up(&self, name: &Arc<Name>, answer: Result<Vec<IpAddr>, Arc<str>>) {
        // Learnt under the lock: whoever builds a table sees all of it or nothing.
        let (is_other, generation) = {
            let mut live = self.live();
            let is_other = name.learn(answer) && live.readdress(name);
            let generation = if is_other { self.publish_unasked(&mut live) } else { self.generation() };
            (is_other, generation)
        };
        let left_out = name.left_out();
        if left_out > 0 {
            metrics::counter!(names::ADDRESSES_LEFT_OUT.name).increment(left_out as u64);
        }
        if is_other {
            let addresses: Vec<_> = name.spread().iter().map(ToString::to_string).collect();
            let what = match addresses.len() {
                0 => "one endpoint".to_owned(),
                _ => format!("{} endpoints: {}", addresses.len(), addresses.join(", ")),
            };
            let reason = (left_out > 0).then(|| {
                format!("{left_out} more addresses are left out; {} is the most for a name", Name::SPREAD_MAX)
            });
            let to = Some(format!("{} is {what}", name.host()));
            self.record(AuditEntry { to, reason, ..by_us("addresses", generation) });
        }
    }

    /// Endpoints of a variant that no table holds any more, while something is under way there.
    pub fn leaving(&self, service: &str, variant: Variant) -> Vec<Arc<Endpoint>> {
        self.live().leaving.of(service, variant).collect()
    }

    /// How many requests and tunnels are under way at an endpoint that gets nothing new from `generation` on. `None`:
    /// none are, and all threads know that none may be.
    pub fn under_way(
        &self,
        service: &str,
        variant: Variant,
        url: &EndpointUrl,
        generation: u64,
    ) -> Option<u64> {
        // In this order: what a thread had begun before it saw the table is counted by then.
        let is_seen = self.inner.tallies.seen_generation() >= generation;
        let count = self.live().under_way(service, variant, url);
        (count > 0 || !is_seen).then_some(count)
    }
}
