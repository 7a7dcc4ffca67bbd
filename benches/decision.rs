//! What it costs to decide where a request goes: host and path, visitor, assignment.
//!
//! `cargo bench --bench decision`

use std::net::IpAddr;
use std::sync::Arc;

use divan::{Bencher, black_box};
use http::Request;
use http::request::Parts;
use tidegate::clock::Timestamp;
use tidegate::proxy::{CookieNames, Decision, Means, Origin, decide};
use tidegate::routing::{
    Host, HostPattern, Matcher, PathPrefix, Route, Service, ServiceSettings, Table, normalise,
};
use tidegate::traffic::{
    By, Key, Keys, Otherwise, PerVariant, Split, Variant, VisitorCookie, VisitorId, Weight,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn main() {
    divan::main();
}

fn service(slot: u32, by: By, weight: &str) -> Service {
    let host = HostPattern::Exact(format!("shop-{slot}.example.com").into());
    Service {
        settings: Arc::new(ServiceSettings {
            name: format!("shop-{slot}").into(),
            routes: vec![Route { host, path: PathPrefix::root() }],
            health: Default::default(),
            balance: Default::default(),
            ejection: None,
            when_unhealthy: Default::default(),
            tester: None,
            tell: Default::default(),
            timeouts: Default::default(),
            retries: None,
            limits: Default::default(),
            upgrades: Vec::new(),
            mirror: Default::default(),
        }),
        slot,
        changed_at: 1,
        era: 1,
        success: None,
        split: Split {
            candidate: Variant::Green,
            weight: weight.parse().expect("a weight"),
            by,
            otherwise: Otherwise::Cookie,
            ratchet: false,
            epoch: 1,
            salt: "shop-2.0".into(),
            lock: None,
        },
        mirror: Weight::ZERO,
        user_keys: ["header:x-user-id".parse().expect("a key")].into(),
        groups: PerVariant::default(),
        cut: None,
    }
}

fn table(count: u32, by: By, weight: &str) -> Table {
    let services: Vec<_> = (0..count).map(|slot| Arc::new(service(slot, by, weight))).collect();
    let routes = services.iter().map(|service| service.settings.routes.as_slice());
    Table::new(1, Arc::new(Matcher::new(routes).expect("no overlap")), services.into_iter().collect())
}

fn keys() -> Keys {
    Keys::new(Key::new(&[7; 32]).expect("a key"), vec![])
}

fn request(fields: &[(&str, &str)]) -> Parts {
    let request = Request::get("/products/17?colour=green")
        .header("host", "shop-0.example.com")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        .header("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
        .header("accept-language", "en-US,en;q=0.5")
        .header("accept-encoding", "gzip, deflate, br, zstd");
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).expect("a request").into_parts().0
}

fn measure(bencher: Bencher<'_, '_>, table: &Table, request: &Parts) {
    let mut decider = Decider::new();
    bencher.bench_local(|| decider.decide(table, request));
}

/// What a worker thread has at hand.
struct Decider {
    keys: Keys,
    names: CookieNames,
    random: fastrand::Rng,
}

impl Decider {
    fn new() -> Self {
        Self { keys: keys(), names: CookieNames::of("shop-0"), random: fastrand::Rng::with_seed(7) }
    }

    fn decide(&mut self, table: &Table, request: &Parts) -> Decision {
        let request = black_box(request);
        let host = Host::parse(request.headers["host"].to_str().unwrap_or_default());
        let path = normalise(request.uri.path()).expect("a path");
        let service = table.route(host.as_ref(), &path).expect("a service");
        let origin = Origin { addr: IpAddr::from([192, 0, 2, 1]), is_https: false };
        let means = Means { keys: &self.keys, random: &mut self.random, now: NOW };
        decide(service, &self.names, request, origin, means, |_| {})
    }
}

#[divan::bench(args = [1, 10_000])]
fn nobody_on_the_candidate(bencher: Bencher<'_, '_>, services: u32) {
    measure(bencher, &table(services, By::Cookie, "0%"), &request(&[]));
}

#[divan::bench(args = [1, 10_000])]
fn a_user_by_header(bencher: Bencher<'_, '_>, services: u32) {
    measure(bencher, &table(services, By::User, "10%"), &request(&[("x-user-id", "user-123456")]));
}

/// The unflattering case: each request is for another one of ten thousand services, so no route is cached.
#[divan::bench(sample_size = 1000)]
fn a_user_over_ten_thousand_services(bencher: Bencher<'_, '_>) {
    let table = table(10_000, By::User, "10%");
    let hosts = (0..10_000).map(|slot| format!("shop-{slot}.example.com").parse().expect("a value"));
    let requests = hosts.map(|host: http::HeaderValue| {
        let mut request = request(&[("x-user-id", "user-123456")]);
        request.headers.insert("host", host);
        request
    });
    let requests: Vec<_> = requests.collect();
    let mut requests = requests.iter().cycle();
    let mut decider = Decider::new();
    bencher.bench_local(|| decider.decide(&table, requests.next().expect("they never end")));
}

#[divan::bench]
fn a_draw(bencher: Bencher<'_, '_>) {
    measure(bencher, &table(1, By::Request, "10%"), &request(&[]));
}

#[divan::bench]
fn a_new_visitor(bencher: Bencher<'_, '_>) {
    measure(bencher, &table(1, By::Cookie, "10%"), &request(&[]));
}

#[divan::bench]
fn a_signed_cookie(bencher: Bencher<'_, '_>) {
    let value = VisitorCookie { id: VisitorId(42), issued: NOW }.seal(&keys(), "tidegate");
    let cookies = format!("theme=dark; session=0123456789abcdef0123456789abcdef; tidegate={value}");
    measure(bencher, &table(1, By::Cookie, "10%"), &request(&[("cookie", &cookies)]));
}

#[divan::bench]
fn a_forged_cookie(bencher: Bencher<'_, '_>) {
    let value = VisitorCookie { id: VisitorId(42), issued: NOW }.seal(&keys(), "other");
    let cookies = format!("tidegate={value}");
    measure(bencher, &table(1, By::Cookie, "10%"), &request(&[("cookie", &cookies)]));
}
