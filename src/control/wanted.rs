//! What somebody's endpoint stands for: one way, or one for each address of a name that has several.
//!
//! Each has its own check, connections and counts, and the weight that was written for the name, as with nginx, Envoy
//! and HAProxy: an address more is an instance more. Requests and certificates stay the name's.

use crate::routing::Member;
use crate::upstream::{Endpoint, Names, Reach, Way};

use super::overlay::Placed;

/// An endpoint that a variant is to have.
pub(super) struct Wanted<'p> {
    pub way: Way,
    pub placed: &'p Placed,
}

/// All that an endpoint stands for at the moment. Before the first answer, a name is one endpoint.
pub(super) fn spread<'p>(placed: &'p Placed, reach: &Reach, names: &Names) -> Vec<Wanted<'p>> {
    let way = Way::new(placed.spec.url.clone(), reach, names);
    let addresses = way.name().map(|name| name.spread()).unwrap_or_default();
    if addresses.is_empty() {
        return vec![Wanted { way, placed }];
    }
    addresses.into_iter().map(|address| Wanted { way: way.at(address), placed }).collect()
}

impl Wanted<'_> {
    /// Whether `endpoint` is it.
    pub fn is(&self, endpoint: &Endpoint, reach: &Reach) -> bool {
        endpoint.way().is_to(&self.placed.spec.url, reach)
            && endpoint.way().address() == self.way.address()
            && endpoint.weight() == self.placed.spec.weight
    }

    /// Where something is known about its address. What is known of a name goes for the addresses that it turns out to
    /// have.
    pub fn known<'m>(&self, had: &'m [Member]) -> Option<&'m Member> {
        let (url, address) = (self.way.url(), self.way.address());
        let of_url = || had.iter().filter(|member| member.endpoint.url() == url);
        let same = of_url().find(|member| member.endpoint.way().address() == address);
        same.or_else(|| {
            of_url().find(|member| address.is_none() || member.endpoint.way().address().is_none())
        })
    }
}
