//! What it costs to say where a request goes: host and path to a service, who the visitor is, which variant he gets.
//! Everything that the proxy does between a parsed head and a chosen variant but counting.
//!
//! `cargo bench --bench decision`

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use divan::{Bencher, black_box};
use http::Request;
use http::request::Parts;
use tidegate::clock::Timestamp;
use tidegate::proxy::{CookieNames, Decision, Means, Origin, decide};
use tidegate::routing::{
    Group, Host, Limits, Matcher, Route, Service, ServiceSettings, Table, Tell, Timeouts, UserKey,
    WhenUnhealthy, normalise,
};
use tidegate::traffic::{
    By, Cause, Key, Keys, Otherwise, PerVariant, Reason, Split, Variant, VisitorCookie, VisitorId, Weight,
};
use tidegate::upstream::HealthSettings;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// One service, and so many that routes are not in the processor's caches.
const SERVICES: [usize; 2] = [1, 10_000];

fn main() {
    divan::main();
}

#[divan::bench(args = SERVICES)]
fn by_request(bencher: Bencher<'_, '_>, services: usize) {
    bench(bencher, services, split(By::Request), |request| request, Reason::Draw);
}

#[divan::bench(args = SERVICES)]
fn by_user(bencher: Bencher<'_, '_>, services: usize) {
    let key = |request: Request<()>| with(request, "x-user-id", "user-81723".to_owned());
    bench(bencher, services, split(By::User), key, Reason::User);
}

/// The visitor has been here: his cookie's signature is checked.
#[divan::bench(args = SERVICES)]
fn by_signed_cookie(bencher: Bencher<'_, '_>, services: usize) {
    let cookie = |request| with(request, "cookie", format!("theme=dark; tidegate={}; _ga=GA1.1.1", sealed()));
    bench(bencher, services, split(By::Cookie), cookie, Reason::Cookie);
}

/// The visitor is new: an id is drawn. The cookie is signed later, with the answer; see the bench `cookie`.
#[divan::bench(args = SERVICES)]
fn by_cookie_of_a_new_visitor(bencher: Bencher<'_, '_>, services: usize) {
    bench(bencher, services, split(By::Cookie), |request| request, Reason::Cookie);
}

/// Nobody's cookie matters after a kill.
#[divan::bench(args = SERVICES)]
fn killed(bencher: Bencher<'_, '_>, services: usize) {
    let split = Split { lock: Some(Cause::Kill), weight: Weight::ZERO, ..split(By::Cookie) };
    let cookie = |request| with(request, "cookie", format!("tidegate={}", sealed()));
    bench(bencher, services, split, cookie, Reason::Killed);
}

fn bench(
    bencher: Bencher<'_, '_>,
    services: usize,
    split: Split,
    shape: impl Fn(Request<()>) -> Request<()>,
    expected: Reason,
) {
    let table = table(services, &split);
    let names = CookieNames::of("service-0");
    let keys = keys();
    let mut random = fastrand::Rng::with_seed(1);
    // Each request is for another service, so that ten thousand are met.
    let requests: Vec<_> = (0..services).map(|at| shape(get(at)).into_parts().0).collect();
    let mut requests = requests.iter().cycle();
    let mut once = || {
        let request = requests.next().expect("it never ends");
        let means = Means { keys: &keys, random: &mut random, now: NOW };
        route_and_decide(&table, black_box(request), &names, means)
    };
    assert_eq!(once().assignment.reason, expected);
    bencher.bench_local(once);
}

fn route_and_decide(table: &Table, request: &Parts, names: &CookieNames, means: Means<'_>) -> Decision {
    let host = request.headers.get("host").and_then(|host| Host::parse(host.to_str().ok()?));
    let path = normalise(request.uri.path()).expect("the path is plain");
    let service = table.route(host.as_ref(), &path).expect("every request has a service");
    let origin = Origin { addr: IpAddr::V4(Ipv4Addr::LOCALHOST), is_https: false };
    decide(service, names, request, origin, means, |_| {})
}

fn get(service: usize) -> Request<()> {
    let request = Request::get("/api/v1/carts/17?page=2").body(()).expect("it is a request");
    with(request, "host", format!("service-{service}.example.com"))
}

fn with(mut request: Request<()>, name: &'static str, value: String) -> Request<()> {
    request.headers_mut().insert(name, value.parse().expect("it is a value"));
    request
}

fn keys() -> Keys {
    Keys::new(Key::new(&[1; 32]).expect("32 bytes are enough"), vec![])
}

fn sealed() -> String {
    VisitorCookie { id: VisitorId(0x00ab_cdef_0123_4567), issued: NOW }.seal(&keys(), VisitorCookie::NAME)
}

fn split(by: By) -> Split {
    Split {
        candidate: Variant::Green,
        weight: Weight::from_percent(25).unwrap_or_default(),
        by,
        otherwise: Otherwise::Cookie,
        ratchet: false,
        epoch: 7,
        salt: "shop-2.0".into(),
        lock: None,
    }
}

fn table(services: usize, split: &Split) -> Table {
    let services: Vec<_> = (0..services).map(|at| Arc::new(service(at, split.clone()))).collect();
    let routes = services.iter().map(|service| service.settings.routes.as_slice());
    let matcher = Arc::new(Matcher::new(routes).expect("no two services claim the same host"));
    Table::new(1, matcher, services)
}

fn service(at: usize, split: Split) -> Service {
    let route = Route {
        host: format!("service-{at}.example.com").parse().expect("it is a host"),
        path: "/".parse().expect("it is a path"),
    };
    let settings = ServiceSettings {
        name: format!("service-{at}").into(),
        routes: vec![route],
        health: HealthSettings::default(),
        when_unhealthy: PerVariant { blue: WhenUnhealthy::Fail, green: WhenUnhealthy::Spill },
        tester: None,
        tell: Tell::default(),
        timeouts: Timeouts::default(),
        limits: Limits::default(),
    };
    let user_key: UserKey = "header:x-user-id".parse().expect("it is a place");
    Service {
        settings: Arc::new(settings),
        slot: u32::try_from(at).unwrap_or(u32::MAX),
        changed_at: 1,
        split,
        user_keys: Arc::new([user_key]),
        groups: PerVariant { blue: Group::default(), green: Group::default() },
        cut: None,
    }
}
