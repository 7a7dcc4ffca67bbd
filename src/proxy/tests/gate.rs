//! A proxy with a table built by hand.

use std::cell::Cell;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Origin;
use crate::proxy::room::Room;
use crate::proxy::{ListenerSettings, LiveSettings, Proxy, ProxySettings, Shared, Sockets};
use crate::routing::{
    Cut, Group, HostPattern, Matcher, Member, PathPrefix, Publisher, Route, Secret, Service, ServiceSettings,
    SuccessRule, Table, TesterOverride, UserKey,
};
use crate::telemetry::{
    AccessLog, AccessLogSettings, ConnectionRefusal, ServiceSlot, Tallies, VariantCounts,
};
use crate::traffic::{Cause, Key, Keys, PerVariant, Split, Variant, Weight};
use crate::upstream::{Endpoint, EndpointUrl, Health, Names, Reach, Way};

/// What a test says about its proxy.
pub(super) struct Builder {
    pub(super) split: Split,
    pub(super) mirror: Weight,
    pub(super) settings: ServiceSettings,
    pub(super) live: LiveSettings,
    pub(super) user_keys: Vec<UserKey>,
    pub(super) success: Option<SuccessRule>,
    pub(super) drain: Duration,
    pub(super) handover: Duration,
    pub(super) room: Room,
    pub(super) log: Option<(AccessLogSettings, Box<dyn std::io::Write + Send>)>,
    /// Hosts of further services, with all their endpoints.
    pub(super) others: Vec<(String, SocketAddr)>,
    endpoints: PerVariant<Vec<(SocketAddr, Health)>>,
}

/// The service `shop` on any host, everybody on blue.
pub(super) fn gate(blue: &Origin, green: &Origin) -> Builder {
    let healthy = |origin: &Origin| vec![(origin.address, Health::Healthy)];
    Builder {
        split: Split {
            candidate: Variant::Green,
            weight: Weight::ZERO,
            by: crate::traffic::By::Cookie,
            otherwise: crate::traffic::Otherwise::Cookie,
            ratchet: false,
            epoch: 1,
            salt: "salt".into(),
            lock: None,
        },
        mirror: Weight::ZERO,
        settings: ServiceSettings {
            name: "shop".into(),
            routes: vec![Route { host: HostPattern::Any, path: PathPrefix::root() }],
            health: Default::default(),
            balance: Default::default(),
            ejection: None,
            when_unhealthy: Default::default(),
            tester: None,
            tell: crate::routing::Tell {
                endpoint_variant: true,
                endpoint_visitor: false,
                client_variant: true,
            },
            timeouts: Default::default(),
            retries: Some(Default::default()),
            limits: Default::default(),
            upgrades: vec![crate::routing::UpgradeToken::websocket()],
            mirror: Default::default(),
        },
        live: LiveSettings::default(),
        user_keys: Vec::new(),
        success: None,
        drain: Duration::from_secs(30),
        handover: Duration::from_secs(3600),
        room: Room { clients: 1000, endpoints: 1000, requests: 1000 },
        log: None,
        others: Vec::new(),
        endpoints: PerVariant { blue: healthy(blue), green: healthy(green) },
    }
}

impl Builder {
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn weight(self, weight: &str) -> Self {
        self.with(|gate| gate.split.weight = weight.parse().unwrap())
    }

    pub(super) fn tester(self, secret: &str) -> Self {
        self.with(|gate| {
            gate.settings.tester = Some(TesterOverride {
                header: http::HeaderName::from_static("x-tidegate-override"),
                secret: Secret::new(secret.as_bytes()),
            });
        })
    }

    pub(super) fn trusting_us(self) -> Self {
        self.with(|gate| gate.live.trusted_proxies.from = vec!["127.0.0.0/8".parse().unwrap()])
    }

    /// How its one address is served.
    pub(super) fn listener(self, change: impl FnOnce(&mut ListenerSettings)) -> Self {
        self.with(|gate| {
            let mut listener = ListenerSettings::plain();
            change(&mut listener);
            gate.live.listeners = vec![listener];
        })
    }

    pub(super) fn endpoints(mut self, variant: Variant, all: &[(SocketAddr, Health)]) -> Self {
        self.endpoints[variant] = all.to_vec();
        self
    }

    pub(super) fn start(self) -> Gate {
        let publisher = Publisher::new();
        let tallies = Tallies::new(1);
        let keys = Keys::new(Key::new(&[7; 32]).unwrap(), vec![]);
        let groups = self.endpoints.clone().map(|variant, endpoints| {
            let members = endpoints
                .into_iter()
                .enumerate()
                .map(|(index, (address, health))| {
                    let id = index as u32 * 2 + u32::from(variant == Variant::Green);
                    let url = format!("http://{address}").parse().unwrap();
                    Member::new(Arc::new(endpoint(id, url, &Reach::default())), health)
                })
                .collect();
            Group::new(None, members)
        });
        let service = Service {
            settings: Arc::new(self.settings),
            slot: 0,
            changed_at: 1,
            era: 1,
            success: self.success.map(Arc::new),
            split: self.split,
            mirror: self.mirror,
            user_keys: self.user_keys.into(),
            groups,
            cut: None,
        };
        let (settings, sink) = self.log.unwrap_or_else(|| (Default::default(), Box::new(std::io::sink())));
        let log = AccessLog::start(&settings, sink).unwrap();
        let others: Vec<_> = self
            .others
            .iter()
            .zip(1..)
            .map(|((host, address), slot)| Arc::new(other(&service, slot, host, *address)))
            .collect();
        let routes = others.iter().map(|other| other.settings.routes.as_slice());
        let matcher = Matcher::new(std::iter::once(service.settings.routes.as_slice()).chain(routes));
        let matcher = Arc::new(matcher.unwrap());
        let live = Arc::new(ArcSwap::from_pointee(self.live.clone()));
        let shared = Shared {
            table: publisher.reader(),
            live: live.clone(),
            keys: Arc::new(ArcSwap::from_pointee(keys.clone())),
            tallies: tallies.clone(),
            access_log: log.handle(),
            seed: Some(7),
        };
        let settings = ProxySettings {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            threads: NonZeroUsize::MIN,
            drain: self.drain,
            handover: self.handover,
            live: self.live,
        };
        let gate = Gate {
            publisher,
            live,
            tallies,
            keys,
            matcher,
            service,
            others,
            generation: Cell::new(0),
            log: Some(log),
            proxy: Proxy::start_within(
                self.room,
                Sockets::bind(&settings, Vec::new()).unwrap(),
                settings,
                shared,
            )
            .unwrap(),
        };
        gate.publish(|_| {});
        gate
    }
}

fn copy(service: &Service) -> Service {
    Service {
        settings: service.settings.clone(),
        split: service.split.clone(),
        user_keys: service.user_keys.clone(),
        groups: service.groups.clone(),
        success: service.success.clone(),
        ..*service
    }
}

/// An endpoint whose name, if it has one, nobody looks up.
pub fn endpoint(id: u32, url: EndpointUrl, reach: &Reach) -> Endpoint {
    Endpoint::new(id, Way::new(url, reach, &Names::default()), 1)
}

/// A service like this one, for another host and with one endpoint.
fn other(service: &Service, slot: u32, host: &str, address: SocketAddr) -> Service {
    let url = format!("http://{address}").parse().unwrap();
    let endpoint = endpoint(1000 + slot, url, &Reach::default());
    let member = Member::new(Arc::new(endpoint), Health::Healthy);
    let mut settings = ServiceSettings::clone(&service.settings);
    settings.name = host.into();
    settings.routes = vec![Route { host: host.parse().unwrap(), path: PathPrefix::root() }];
    Service {
        settings: Arc::new(settings),
        slot,
        groups: PerVariant::from_fn(|_| Group::new(None, vec![member.clone()])),
        ..copy(service)
    }
}

/// A running proxy; it stops when this is dropped.
pub(super) struct Gate {
    pub(super) proxy: Proxy,
    pub(super) keys: Keys,
    pub(super) tallies: Arc<Tallies>,
    pub(super) live: Arc<ArcSwap<LiveSettings>>,
    publisher: Publisher,
    matcher: Arc<Matcher>,
    service: Service,
    others: Vec<Arc<Service>>,
    generation: Cell<u64>,
    log: Option<AccessLog>,
}

impl Gate {
    pub(super) fn address(&self) -> SocketAddr {
        self.proxy.addresses()[0]
    }

    pub(super) fn get(&self, path: &str, lines: &str) -> super::Answer {
        super::get(self.address(), path, lines)
    }

    /// What another proxy would share with this one.
    pub(super) fn shared(&self) -> Shared {
        Shared {
            table: self.publisher.reader(),
            live: Arc::default(),
            keys: Arc::new(ArcSwap::from_pointee(self.keys.clone())),
            tallies: Tallies::new(1),
            access_log: self.log.as_ref().unwrap().handle(),
            seed: None,
        }
    }

    /// How many connections were refused for this reason.
    pub(super) fn refused(&self, why: ConnectionRefusal) -> u64 {
        self.tallies.process().refused(why)
    }

    /// Publishes the service after a change to how it started.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Service)) {
        self.generation.set(self.generation.get() + 1);
        self.publish_unnumbered(change);
    }

    /// Another table of the same generation.
    pub(super) fn publish_unnumbered(&self, change: impl FnOnce(&mut Service)) {
        let generation = self.generation.get();
        let mut service = copy(&self.service);
        service.changed_at = generation;
        change(&mut service);
        let mut services = vec![Arc::new(service)];
        services.extend(self.others.iter().cloned());
        self.publisher.publish(Arc::new(Table::new(
            generation,
            self.matcher.clone(),
            services.into_iter().collect(),
        )));
    }

    pub(super) fn kill(&self) {
        let before = self.generation.get() + 1;
        self.publish(|service| {
            service.split.weight = Weight::ZERO;
            service.split.lock = Some(Cause::Kill);
            service.split.epoch += 1;
            service.cut = Some(Cut { variant: service.split.candidate, before });
        });
    }

    pub(super) fn counts(&self, variant: Variant) -> VariantCounts {
        let both = self.tallies.merged(ServiceSlot(0)).unwrap_or_default();
        match variant {
            Variant::Blue => both.blue,
            Variant::Green => both.green,
        }
    }

    /// Waits until the proxy's counts say so.
    #[track_caller]
    pub(super) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..3000 {
            if holds(self) {
                return;
            }
            #[allow(clippy::disallowed_methods, reason = "counts come a moment after the bytes")]
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("still not: {what}");
    }

    /// Waits until no request is in flight.
    #[track_caller]
    pub(super) fn until_quiet(&self) {
        self.until("nothing in flight", |gate| {
            Variant::ALL.iter().all(|variant| gate.counts(*variant).totals.in_flight() == 0)
        });
    }

    /// Ends the proxy and everything it logs.
    pub(super) fn finish(mut self) {
        self.proxy.stop_now();
        self.proxy.join();
        assert!(self.log.take().unwrap().close(Duration::from_secs(30)));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.proxy.stop_now();
        self.proxy.join();
    }
}
