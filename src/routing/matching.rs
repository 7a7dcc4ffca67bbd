//! Which service is a request for?
//!
//! First the host decides: the exact name, else the longest `*.` pattern, else the services for any host.
//! Then, among the services of that host alone, the longest path prefix by whole segments. As with a
//! virtual host of nginx or Envoy, a host that is named somewhere is not served by others' routes.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Host, HostPattern, PathPrefix};

/// One host and path that a service is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The host.
    pub host: HostPattern,
    /// The path at and below it.
    pub path: PathPrefix,
}

/// Two services that claim the same host and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// What both claim.
    pub route: Route,
    /// Who came first, as an index into the list that was given.
    pub first: usize,
    /// Who came second.
    pub second: usize,
}

/// The routes of all services, built once per configuration.
#[derive(Debug, Default)]
pub struct Matcher {
    exact: HashMap<Arc<str>, Paths>,
    below: HashMap<Arc<str>, Paths>,
    any: Paths,
}

impl Matcher {
    /// `services[i]` are the routes of service `i`. All overlaps are returned, not only the first.
    pub fn new<'s>(services: impl IntoIterator<Item = &'s [Route]>) -> Result<Self, Vec<Overlap>> {
        let mut matcher = Self::default();
        let mut overlaps = Vec::new();
        for (service, routes) in services.into_iter().enumerate() {
            for route in routes {
                let paths = match &route.host {
                    HostPattern::Exact(host) => matcher.exact.entry(host.clone()).or_default(),
                    HostPattern::Below(host) => matcher.below.entry(host.clone()).or_default(),
                    HostPattern::Any => &mut matcher.any,
                };
                if let Err(first) = paths.insert(&route.path, service) {
                    overlaps.push(Overlap { route: route.clone(), first, second: service });
                }
            }
        }
        if overlaps.is_empty() { Ok(matcher) } else { Err(overlaps) }
    }

    /// The index of the service for a host and a normalised path.
    pub fn find(&self, host: Option<&Host<'_>>, path: &str) -> Option<usize> {
        let host = host.map_or("", Host::as_str);
        self.paths_of(host).find(path)
    }

    fn paths_of(&self, host: &str) -> &Paths {
        if let Some(paths) = self.exact.get(host) {
            return paths;
        }
        if !self.below.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(paths) = self.below.get(parent) {
                    return paths;
                }
                rest = parent;
            }
        }
        &self.any
    }
}

/// Path prefixes of one host.
#[derive(Debug, Default)]
struct Paths {
    root: Option<usize>,
    deeper: HashMap<Arc<str>, usize>,
}

impl Paths {
    fn insert(&mut self, path: &PathPrefix, service: usize) -> Result<(), usize> {
        let taken = match path.as_str() {
            "/" => self.root.replace(service),
            deeper => self.deeper.insert(deeper.into(), service),
        };
        match taken {
            Some(first) if first != service => Err(first),
            _ => Ok(()),
        }
    }

    fn find(&self, path: &str) -> Option<usize> {
        if !self.deeper.is_empty() {
            let mut prefix = path;
            while !prefix.is_empty() {
                if let Some(service) = self.deeper.get(prefix) {
                    return Some(*service);
                }
                prefix = &prefix[..prefix.rfind('/')?];
            }
        }
        self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(texts: &[&str]) -> Vec<Vec<Route>> {
        texts
            .iter()
            .map(|text| {
                let at = text.find('/').unwrap();
                vec![Route { host: text[..at].parse().unwrap(), path: text[at..].parse().unwrap() }]
            })
            .collect()
    }

    fn matcher(texts: &[&str]) -> Result<Matcher, Vec<Overlap>> {
        Matcher::new(routes(texts).iter().map(Vec::as_slice))
    }

    #[test]
    fn the_host_decides_before_the_path_and_the_longest_prefix_wins() {
        let services = [
            "shop.example.com/",
            "shop.example.com/api",
            "shop.example.com/api/v2/",
            "*.example.com/",
            "*.eu.example.com/",
            "*/",
            "only.example.org/deep",
            "[::1]/",
        ];
        let matcher = matcher(&services).unwrap();
        #[track_caller]
        fn check(matcher: &Matcher, services: &[&str], host: &str, path: &str, expected: Option<&str>) {
            let host = Host::parse(host);
            let got = matcher.find(host.as_ref(), path).map(|index| services[index]);
            assert_eq!(got, expected, "{host:?}{path}");
        }
        let check =
            |host: &str, path: &str, expected: Option<&str>| check(&matcher, &services, host, path, expected);
        check("shop.example.com", "/", Some("shop.example.com/"));
        check("SHOP.example.com.:443", "/api", Some("shop.example.com/api"));
        check("shop.example.com", "/api/", Some("shop.example.com/api"));
        check("shop.example.com", "/api/v1", Some("shop.example.com/api"));
        check("shop.example.com", "/apis", Some("shop.example.com/"));
        check("shop.example.com", "/api/v2", Some("shop.example.com/api/v2/"));
        check("shop.example.com", "/api/v2/x/y", Some("shop.example.com/api/v2/"));
        check("shop.example.com", "/api/v22", Some("shop.example.com/api"));
        check("a.example.com", "/x", Some("*.example.com/"));
        check("a.b.example.com", "/x", Some("*.example.com/"));
        check("a.eu.example.com", "/x", Some("*.eu.example.com/"));
        check("eu.example.com", "/x", Some("*.example.com/"));
        check("example.com", "/x", Some("*/"));
        check("example.net", "/x", Some("*/"));
        check("[::1]:80", "/x", Some("[::1]/"));
        check("", "/x", Some("*/"));
        check("only.example.org", "/deep/er", Some("only.example.org/deep"));
        check("only.example.org", "/other", None);
    }

    #[test]
    fn the_same_host_and_path_twice_is_an_overlap() {
        let overlaps = matcher(&["a/", "b/x", "a/", "*.a/", "b/x/"]).unwrap_err();
        let pairs: Vec<_> = overlaps.iter().map(|overlap| (overlap.first, overlap.second)).collect();
        assert_eq!(pairs, [(0, 2), (1, 4)]);
    }
}
