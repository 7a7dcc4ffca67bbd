//! From the file to one service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::endpoint_tls::reach;
use super::endpoints::{Checked, balance, ejection, health};
use super::file::{
    EndpointFile, HealthFile, OverrideFile, RolloutFile, ServiceFile, SplitFile, TellFile, TimeoutsFile,
    VariantFile, VariantLong,
};
use super::mirror::mirror;
use super::plan::{Draft, Known, Name, Reader, Usual, draft, layered, scheduled, schedules, slo, unknown};
use super::planner::{DEFAULT_SCHEDULE, ServicePlans};
use super::problem::{Findings, below};
use super::process::some_time;
use super::retries::{limits, retries};
use super::scalar::{Count, Fact};
use super::secret::read_secret;
use super::units::show_duration;
use super::written::{List, Short, Written};
use crate::control::ServiceConfig;
use crate::rollout::{Gates, GuardMode};
use crate::routing::{
    HostPattern, PathPrefix, Recognition, Route, Secret, ServiceSettings, Tell, TesterOverride, Timeouts,
    UpgradeToken, UserKey, WhenUnhealthy,
};
use crate::traffic::{By, Otherwise, PerVariant, Role, Variant, Weight};
use crate::upstream::{EndpointSpec, EndpointUrl, Protocol, Reach};

const NAME_CHARS_MAX: usize = 63;
const ENDPOINT_WEIGHT_MAX: u32 = 1000;
const TESTER_HEADER: HeaderName = HeaderName::from_static("x-tidegate-override");
const TESTER_SECRET_BYTES_MIN: usize = 16;

/// A service, and the line in which its routes stand, for whoever claims the same.
pub(super) struct Built {
    pub(super) service: ServiceConfig,
    pub(super) routes_line: u64,
    pub(super) plans: ServicePlans,
}

pub(super) fn build(
    findings: &mut Findings,
    name: &Written<String>,
    mut file: ServiceFile,
    base: &Path,
    known: &Known,
    requests_max: Option<u32>,
) -> Built {
    let at = format!("services.{}", name.text);
    check_name(findings, &at, name);
    let usual = usual(findings, &at, name.line, &mut file, known);
    let guard = findings.read_or(&at, "guard", file.guard.as_ref(), GuardMode::default());
    let rollout = file
        .rollout
        .take()
        .and_then(|written| rollout(findings, &below(&at, "rollout"), written, known, &usual));
    let routes_line = file.host.as_ref().map(Short::line);
    let routes_line = routes_line.or(file.path.as_ref().map(|path| path.line)).unwrap_or(name.line);
    let routes = routes(findings, &at, file.host, file.path.as_ref());
    let stable = findings.read_or(&at, "stable", file.stable.as_ref(), Variant::Blue);
    let candidate = stable.other();

    let mut variants = PerVariant { blue: file.blue, green: file.green }.map(|variant, written| {
        let role = if variant == stable { Role::Stable } else { Role::Candidate };
        variant_settings(findings, &at, name.line, variant, role, written, base)
    });
    refuse_shared_endpoints(findings, &at, &mut variants);
    let split = file.split.unwrap_or_default();
    let split_expires = split_expires(findings, &below(&at, "split.expires"), split.expires.as_ref());
    let (recognition, initial_weight) =
        split_settings(findings, &below(&at, "split"), name, split, |weight| {
            let wanting = variants[candidate].endpoints.is_empty() && !variants[candidate].has_problem;
            (weight > Weight::ZERO && wanting).then(|| {
                format!("{candidate} has no endpoint that {weight} could go to; add one or start at 0%")
            })
        });
    let listed = PerVariant::from_fn(|variant| variants[variant].endpoints.len());
    let checked = PerVariant::from_fn(|variant| {
        let settings = &mut variants[variant];
        Checked { protocol: settings.reach.protocol, health: settings.health.take() }
    });
    let health = health(findings, &at, file.health, checked);
    let (mirror, initial_mirror) = mirror(findings, &below(&at, "mirror"), file.mirror, |share| {
        let wanting = variants[candidate].endpoints.is_empty() && !variants[candidate].has_problem;
        (share > Weight::ZERO && wanting)
            .then(|| format!("{candidate} has no endpoint that copies could go to; add one or start at 0%"))
    });
    let timeouts = timeouts(findings, &below(&at, "timeouts"), &file.timeouts.unwrap_or_default());
    let settings = ServiceSettings {
        name: name.text.as_str().into(),
        routes,
        health,
        balance: balance(findings, &below(&at, "balance"), file.balance),
        ejection: ejection(findings, &below(&at, "ejection"), file.ejection, listed),
        when_unhealthy: PerVariant::from_fn(|variant| variants[variant].when_unhealthy),
        tester: file
            .tester
            .and_then(|tester| tester_override(findings, &below(&at, "override"), &tester, base)),
        tell: tell(findings, &below(&at, "tell"), file.tell.unwrap_or_default()),
        retries: retries(findings, &below(&at, "retries"), file.retries, timeouts.first_byte),
        limits: limits(findings, &below(&at, "limits"), &file.limits.unwrap_or_default(), requests_max),
        timeouts,
        upgrades: upgrades(findings, &below(&at, "upgrades"), file.upgrades),
        mirror,
    };
    let version = PerVariant::from_fn(|variant| variants[variant].version.clone());
    let reach = PerVariant::from_fn(|variant| variants[variant].reach.clone());
    let endpoints = variants.map(|_, variant| variant.endpoints.into_iter().map(|(spec, _)| spec).collect());
    let settings = Arc::new(settings);
    let service = ServiceConfig {
        settings,
        recognition,
        stable,
        initial_weight,
        split_expires,
        initial_mirror,
        endpoints,
        reach,
        version,
        guard,
        gates: usual.gates.clone(),
        slo: usual.slo,
    };
    Built { service, routes_line, plans: ServicePlans { usual, rollout } }
}

/// What holds for all rollouts of the service, shifts by hand included.
fn usual(findings: &mut Findings, at: &str, line: u64, file: &mut ServiceFile, known: &Known) -> Usual {
    let mut reader = Reader::new(findings, at, line);
    let tier = reader.known("tier", file.tier.as_ref(), "tier", "tiers", known.tiers.keys());
    let base = tier.and_then(|tier| known.tiers.get(&tier).cloned()).unwrap_or_else(Gates::standard);
    let problems_before = reader.findings.problems.len();
    let gates = layered(&mut reader, "gates", file.gates.take(), &base, known);
    let usual = Usual { gates, slo: slo(&mut reader, "slo", file.slo.take()) };
    let is_right = |reader: &Reader<'_>| reader.findings.problems.len() == problems_before;
    if is_right(&reader)
        && let Some(draft) = scheduled(DEFAULT_SCHEDULE, &usual)
    {
        reader.check(&draft.plan);
    }
    // What is wrong here is told here, and not again for the rollout that builds on it.
    if is_right(&reader) { usual } else { Usual { gates: base, slo: None } }
}

fn rollout(
    findings: &mut Findings,
    at: &str,
    written: RolloutFile,
    known: &Known,
    usual: &Usual,
) -> Option<Draft> {
    match written {
        Short::One(name) => {
            let Name(schedule) = findings.read(at, &name)?;
            let draft = scheduled(&schedule, usual);
            if draft.is_none() {
                let names = schedules();
                let why = unknown(&schedule, "schedule", "schedule", names.iter().map(|name| &**name));
                findings.wrong(at, &name, why);
            }
            if let Some(draft) = &draft {
                let mut reader = Reader::new(findings, at, name.line);
                reader.check(&draft.plan);
                reader.doubt_unwatched(&draft.plan);
            }
            draft
        }
        Short::Mapping(file, line) => Some(draft(&mut Reader::new(findings, at, line), *file, known, usual)),
        Short::List(_, line) => {
            findings.wrong_at(at, None, line, "a schedule's name or a plan is expected here");
            None
        }
    }
}

fn check_name(findings: &mut Findings, at: &str, name: &Written<String>) {
    let text = &name.text;
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > NAME_CHARS_MAX || !text.bytes().all(letters) || text.starts_with('-') {
        let why =
            "a service's name has lower-case letters, digits and -, at most 63, and does not begin with -";
        findings.wrong_at(at, None, name.line, why);
    }
}

fn routes(
    findings: &mut Findings,
    at: &str,
    hosts: Option<List<HostPattern>>,
    path: Option<&Written<PathPrefix>>,
) -> Vec<Route> {
    let path = findings.read_or(at, "path", path, PathPrefix::root());
    let place = below(at, "host");
    let Some(hosts) = hosts else { return vec![Route { host: HostPattern::Any, path }] };
    let line = hosts.line();
    let hosts = hosts.into_items();
    if hosts.is_empty() {
        findings.wrong_at(&place, Some("[]"), line, "no host is left; add one, or remove host for any");
    }
    let mut routes: Vec<Route> = Vec::new();
    for written in &hosts {
        let Some(host) = findings.read(&place, written) else { continue };
        if routes.iter().any(|route| route.host == host) {
            findings.doubt(&place, written, "stands here twice");
            continue;
        }
        routes.push(Route { host, path: path.clone() });
    }
    routes
}

struct VariantSettings {
    endpoints: Vec<(EndpointSpec, u64)>,
    reach: Reach,
    version: Option<Arc<str>>,
    when_unhealthy: WhenUnhealthy,
    health: Option<HealthFile>,
    /// Something about its endpoints is noted already; what follows from that is not.
    has_problem: bool,
}

fn variant_settings(
    findings: &mut Findings,
    at: &str,
    service_line: u64,
    variant: Variant,
    role: Role,
    written: Option<VariantFile>,
    base: &Path,
) -> VariantSettings {
    let at = below(at, variant.as_str());
    let mut place = at.clone();
    let mut line = written.as_ref().map_or(service_line, Short::line);
    let mut long = VariantLong::default();
    let listed = match written {
        None => None,
        Some(Short::One(url)) => Some(vec![Short::One(url)]),
        Some(Short::List(endpoints, _)) => Some(endpoints),
        Some(Short::Mapping(mapping, _)) => {
            long = mapping;
            place = below(&at, "endpoints");
            match long.endpoints.take() {
                None => None,
                Some(Short::One(url)) => Some(vec![Short::One(url)]),
                Some(Short::List(endpoints, at)) => {
                    line = at;
                    Some(endpoints)
                }
                Some(Short::Mapping(never, _)) => match never {},
            }
        }
    };
    let problems_before = findings.problems.len();
    match (&listed, role) {
        (Some(listed), _) if listed.is_empty() => {
            let why = match role {
                Role::Stable => format!("{variant} is stable and has no endpoint; add one"),
                Role::Candidate => format!("{variant} has no endpoint; add one or remove {variant}"),
            };
            findings.wrong_at(&place, Some("[]"), line, why);
        }
        (None, Role::Stable) => {
            let why =
                format!("{variant} is stable and has no endpoint; add one, such as http://127.0.0.1:3001");
            findings.wrong_at(&place, None, line, why);
        }
        _ => {}
    }
    let endpoints = endpoints(findings, &place, listed.unwrap_or_default());
    let has_problem = findings.problems.len() > problems_before;
    let mut reach = reach(findings, &at, line, long.tls.take(), &endpoints, base);
    reach.protocol = findings.read_or(&at, "protocol", long.protocol.as_ref(), Protocol::default());
    let mut when_unhealthy = WhenUnhealthy::default();
    if let Some(written) = &long.when_unhealthy {
        let place = below(&at, "when_unhealthy");
        when_unhealthy = findings.read(&place, written).unwrap_or_default();
        if role == Role::Stable && when_unhealthy == WhenUnhealthy::Spill {
            findings.doubt(&place, written, "stable never spills; this counts once it is the candidate");
        }
    }
    let version = long.version.as_ref().and_then(|version| findings.read(&below(&at, "version"), version));
    let version = version.map(Into::into);
    VariantSettings { endpoints, reach, version, when_unhealthy, health: long.health, has_problem }
}

fn endpoints(findings: &mut Findings, place: &str, listed: Vec<EndpointFile>) -> Vec<(EndpointSpec, u64)> {
    let mut endpoints: Vec<(EndpointSpec, u64)> = Vec::new();
    for endpoint in listed {
        let (url, weight) = match endpoint {
            Short::One(url) => (url, None),
            Short::Mapping(long, _) => (long.url, long.weight),
            Short::List(_, line) => {
                findings.wrong_at(place, Some("[]"), line, "a single endpoint is expected here");
                continue;
            }
        };
        let mut share = 1;
        if let Some(written) = &weight {
            let place = below(place, "weight");
            let Count(count) = findings.read(&place, written).unwrap_or(Count(1));
            if count > ENDPOINT_WEIGHT_MAX {
                let why =
                    format!("must be 1 to {ENDPOINT_WEIGHT_MAX}; it counts beside the variant's others");
                findings.wrong(&place, written, why);
            }
            share = u16::try_from(count).unwrap_or(1);
        }
        let Some(address) = findings.read::<EndpointUrl>(place, &url) else { continue };
        if let Some((_, line)) = endpoints.iter().find(|(other, _)| other.url == address) {
            let why = format!("stands here twice (line {line}); leave one out, or give it a weight");
            findings.wrong(place, &url, why);
            continue;
        }
        endpoints.push((EndpointSpec { url: address, weight: share }, url.line));
    }
    endpoints
}

fn refuse_shared_endpoints(findings: &mut Findings, at: &str, variants: &mut PerVariant<VariantSettings>) {
    for (spec, line) in &variants.green.endpoints {
        let other = variants.blue.endpoints.iter().find(|(other, _)| other.url == spec.url);
        if let Some((_, other_line)) = other {
            let why = format!("blue has it, too (line {other_line}); blue and green are the same place then");
            findings.wrong_at(&below(at, "green"), Some(&spec.url.to_string()), *line, why);
        }
    }
}

fn split_settings(
    findings: &mut Findings,
    at: &str,
    name: &Written<String>,
    file: SplitFile,
    objection: impl FnOnce(Weight) -> Option<String>,
) -> (Recognition, Weight) {
    let by = findings.read_or(at, "by", file.by.as_ref(), By::default());
    let place = below(at, "user");
    let user = file.user.map(Short::into_items).unwrap_or_default();
    let user_keys: Vec<UserKey> = user.iter().filter_map(|key| findings.read(&place, key)).collect();
    match (by, &file.by, user.first()) {
        (By::User, Some(written), None) => {
            let why = "where does the user's key stand? Add user: [header:NAME], cookie:NAME, query:NAME or \
                       client_addr";
            findings.wrong(&below(at, "by"), written, why);
        }
        (By::Cookie | By::Request, _, Some(written)) => {
            findings.doubt(&place, written, "counts only with by: user");
        }
        _ => {}
    }
    let otherwise = findings.read_or(at, "otherwise", file.otherwise.as_ref(), Otherwise::default());
    if let Some(written) =
        file.otherwise.as_ref().filter(|_| by != By::User && otherwise != Otherwise::default())
    {
        findings.doubt(&below(at, "otherwise"), written, "counts only with by: user");
    }
    let initial_weight = findings.read_or(at, "initial_weight", file.initial_weight.as_ref(), Weight::ZERO);
    if let Some(written) = &file.initial_weight
        && let Some(why) = objection(initial_weight)
    {
        findings.wrong(&below(at, "initial_weight"), written, why);
    }
    let recognition = Recognition {
        by,
        user_keys,
        otherwise,
        ratchet: findings.read_or(at, "ratchet", file.ratchet.as_ref(), false),
        salt: findings.read_or(at, "salt", file.salt.as_ref(), name.text.clone()).into(),
    };
    (recognition, initial_weight)
}

fn split_expires(
    findings: &mut Findings,
    place: &str,
    written: Option<&Written<Duration>>,
) -> Option<Duration> {
    let expires = findings.read::<Duration>(place, written?)?;
    if expires.is_zero() {
        let why = "no split could stand at all; write for instance 24h, or leave it out for no limit";
        findings.wrong(place, written?, why);
        return None;
    }
    Some(expires)
}

fn tester_override(
    findings: &mut Findings,
    at: &str,
    file: &OverrideFile,
    base: &Path,
) -> Option<TesterOverride> {
    let header = findings.read_or(at, "header", file.header.as_ref(), TESTER_HEADER);
    let secret = read_secret(findings, &below(at, "secret"), &file.secret, base, TESTER_SECRET_BYTES_MIN)?;
    Some(TesterOverride { header, secret: Secret::new(&secret) })
}

fn tell(findings: &mut Findings, at: &str, file: TellFile) -> Tell {
    let mut facts = |key: &str, written: Option<List<Fact>>| {
        written.map(|list| {
            let place = below(at, key);
            list.into_items()
                .into_iter()
                .filter_map(|written| Some((findings.read(&place, &written)?, written)))
                .collect::<Vec<_>>()
        })
    };
    let (endpoint, client) = (facts("endpoint", file.endpoint), facts("client", file.client));
    let has = |facts: &[(Fact, Written<Fact>)], wanted| facts.iter().any(|(fact, _)| *fact == wanted);
    let client = client.unwrap_or_default();
    if let Some((_, written)) = client.iter().find(|(fact, _)| *fact == Fact::Visitor) {
        let why = "a client is told variant or nothing; the visitor id is for endpoints";
        findings.wrong(&below(at, "client"), written, why);
    }
    Tell {
        endpoint_variant: endpoint.as_ref().is_none_or(|facts| has(facts, Fact::Variant)),
        endpoint_visitor: endpoint.as_ref().is_some_and(|facts| has(facts, Fact::Visitor)),
        client_variant: has(&client, Fact::Variant),
    }
}

fn timeouts(findings: &mut Findings, at: &str, file: &TimeoutsFile) -> Timeouts {
    let default = Timeouts::default();
    let whole = |findings: &mut Findings, key: &str, written: &Option<Written<Duration>>| {
        findings.read::<Duration>(&below(at, key), written.as_ref()?)
    };
    let (total, stream) = (whole(findings, "total", &file.total), whole(findings, "stream", &file.stream));
    let usual = default.first_byte.min(total.unwrap_or(default.first_byte));
    let first_byte = some_time(findings, at, "first_byte", file.first_byte.as_ref(), usual);
    for (key, whole, written) in [("total", total, &file.total), ("stream", stream, &file.stream)] {
        let Some((written, whole)) = written.as_ref().zip(whole) else { continue };
        if whole.is_zero() {
            let why = "no time at all; write at least 1ms, or leave it out for no limit";
            findings.wrong(&below(at, key), written, why);
        } else if file.first_byte.is_some() && whole < first_byte {
            let (whole, first_byte) = (show_duration(whole), show_duration(first_byte));
            let why = format!(
                "all is over after {whole}, but the first byte may take {first_byte}; lower first_byte or raise {key}"
            );
            findings.wrong(&below(at, key), written, why);
        }
    }
    Timeouts {
        connect: some_time(findings, at, "connect", file.connect.as_ref(), default.connect),
        first_byte,
        body_idle: some_time(findings, at, "body_idle", file.body_idle.as_ref(), default.body_idle),
        tunnel_idle: some_time(findings, at, "tunnel_idle", file.tunnel_idle.as_ref(), default.tunnel_idle),
        total,
        stream,
    }
}

fn upgrades(findings: &mut Findings, at: &str, listed: Option<List<UpgradeToken>>) -> Vec<UpgradeToken> {
    let Some(listed) = listed else { return vec![UpgradeToken::websocket()] };
    listed.into_items().iter().filter_map(|token| findings.read(at, token)).collect()
}
