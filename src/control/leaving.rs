//! Endpoints on their way out: what is under way there is never cut.
//!
//! They are told once a table without them is published, never before, so that nothing is sent to an endpoint that
//! believes to be out. From then on they are held weakly here: whoever has a request or a tunnel there keeps them, and
//! they are shown as long as somebody does.

use std::sync::{Arc, Weak};

use crate::traffic::Variant;
use crate::upstream::Endpoint;

/// Those of all services.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// To be told that they are out, and whose they were.
    retiring: Vec<(Arc<str>, Variant, Arc<Endpoint>)>,
    /// To be told whether they get something new.
    resting: Vec<(Arc<Endpoint>, bool)>,
    gone: Vec<Gone>,
}

#[derive(Debug)]
struct Gone {
    service: Arc<str>,
    variant: Variant,
    endpoint: Weak<Endpoint>,
    /// The first generation without it.
    since: u64,
}

impl Leaving {
    /// The next table has an endpoint no more.
    pub fn retire(&mut self, service: &Arc<str>, variant: Variant, endpoint: &Arc<Endpoint>) {
        self.retiring.push((service.clone(), variant, endpoint.clone()));
    }

    /// The next table sends an endpoint nothing new, or something again.
    pub fn rest(&mut self, endpoint: &Arc<Endpoint>, rests: bool) {
        if endpoint.is_resting() != rests {
            self.resting.push((endpoint.clone(), rests));
        }
    }

    /// The table of `generation` is published.
    pub fn published(&mut self, generation: u64) {
        for (endpoint, rests) in self.resting.drain(..) {
            endpoint.rest(rests);
        }
        for (service, variant, endpoint) in self.retiring.drain(..) {
            endpoint.retire();
            let endpoint = Arc::downgrade(&endpoint);
            self.gone.push(Gone { service, variant, endpoint, since: generation });
        }
    }

    /// Those of a variant that something is under way at.
    pub fn of(&self, service: &str, variant: Variant) -> impl Iterator<Item = Arc<Endpoint>> {
        let is_its = move |gone: &&Gone| *gone.service == *service && gone.variant == variant;
        let there = self.gone.iter().filter(is_its).filter_map(|gone| gone.endpoint.upgrade());
        there.filter(|endpoint| endpoint.seen().in_flight > 0)
    }

    /// Forgets those that nothing is under way at and nobody will send anything to: all threads have seen the table of
    /// generation `seen`.
    pub fn forget(&mut self, seen: u64) {
        self.gone.retain(|gone| {
            let endpoint = gone.endpoint.upgrade();
            endpoint.is_some_and(|endpoint| gone.since > seen || endpoint.seen().in_flight > 0)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Names, Reach, Way};

    #[test]
    fn an_endpoint_is_told_after_the_table_and_forgotten_when_every_thread_knows() {
        let way = Way::new("http://127.0.0.1:1".parse().unwrap(), &Reach::default(), &Names::default());
        let endpoint = Arc::new(Endpoint::new(1, way, 1));
        let service: Arc<str> = "shop".into();
        let mut leaving = Leaving::default();
        leaving.rest(&endpoint, true);
        assert!(!endpoint.is_resting(), "the old table still sends to it");
        leaving.published(7);
        assert!(endpoint.is_resting() && !endpoint.is_retired());
        leaving.rest(&endpoint, false);
        leaving.retire(&service, Variant::Green, &endpoint);
        leaving.published(8);
        assert!(endpoint.is_retired());
        let count = |leaving: &Leaving| leaving.gone.len();
        leaving.forget(7);
        assert_eq!(count(&leaving), 1, "a thread may still choose it");
        assert_eq!(leaving.of("shop", Variant::Green).count(), 0, "nothing is under way there");
        leaving.forget(8);
        assert_eq!(count(&leaving), 0);
        leaving.retire(&service, Variant::Green, &endpoint);
        drop(endpoint);
        leaving.published(9);
        leaving.forget(1);
        assert_eq!(count(&leaving), 0, "nobody has it any more");
    }
}
