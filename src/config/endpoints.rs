//! From the file to how a variant's endpoints are chosen, checked and ejected.

use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::{Schema, json_schema};

use super::file::{BalanceFile, EjectionFile, HealthFile, SuccessRateFile, Switched};
use super::plan::{Ratio, Statuses};
use super::problem::{Findings, below};
use super::process::some_time;
use super::scalar::{Count, Scalar, Switch, choose};
use super::units::show_duration;
use super::written::{List, Short, Written};
use crate::traffic::{PerVariant, Variant, Weight};
use crate::upstream::{
    BalanceSettings, EjectionSettings, Expected, HealthSettings, MaxEjected, Policy, Probe, Protocol,
    SuccessRate,
};

/// More would be hours in which nothing changes, whatever checks say.
const RUN_MAX: u32 = 1000;

const SLOW_START_MAX: Duration = Duration::from_secs(3600);
/// An endpoint that is out for a day is out for good: that is for people to decide.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

impl Scalar for Policy {
    fn read(text: &str) -> Result<Self, String> {
        // As other proxies call it.
        match text.to_ascii_lowercase().as_str() {
            "leastconn" | "least_conn" | "least_request" => Err("did you mean least_requests?".to_owned()),
            "rr" => Err("did you mean round_robin?".to_owned()),
            _ => choose(text, &[("least_requests", Self::LeastRequests), ("round_robin", Self::RoundRobin)]),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["least_requests", "round_robin"] })
    }
}

impl Scalar for MaxEjected {
    fn read(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        match text.parse::<Weight>().map_err(|error| error.to_string())? {
            Weight::ZERO => Err("nothing could be ejected; write ejection: off if that is meant".to_owned()),
            Weight::FULL => {
                Err("would let ejections take out the whole variant; write less, or all if that is meant"
                    .to_owned())
            }
            share => Ok(Self::Share(share)),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,3}0*)? ?%$|^all$", "examples": ["50%", "all"] })
    }
}

pub(super) fn balance(findings: &mut Findings, at: &str, file: Option<BalanceFile>) -> BalanceSettings {
    let default = BalanceSettings::default();
    match file {
        None => default,
        Some(Short::One(policy)) => {
            BalanceSettings { policy: findings.read(at, &policy).unwrap_or_default(), ..default }
        }
        Some(Short::List(_, line)) => {
            findings.wrong_at(at, None, line, "a policy's name or all about it is expected here");
            default
        }
        Some(Short::Mapping(file, _)) => {
            let policy = findings.read_or(at, "policy", file.policy.as_ref(), default.policy);
            let (written, place) = (file.slow_start.as_ref(), below(at, "slow_start"));
            let slow_start = findings.read_or(at, "slow_start", written, default.slow_start);
            let slow_start = at_most(findings, &place, written, slow_start, SLOW_START_MAX);
            BalanceSettings { policy, slow_start }
        }
    }
}

fn at_most(
    findings: &mut Findings,
    place: &str,
    written: Option<&Written<Duration>>,
    time: Duration,
    most: Duration,
) -> Duration {
    if let Some(written) = written.filter(|_| time > most) {
        findings.wrong(
            place,
            written,
            format!("far longer than is of use; write at most {}", show_duration(most)),
        );
    }
    time.min(most)
}

/// A variant, as far as its checks depend on it.
pub(super) struct Checked {
    pub(super) protocol: Protocol,
    pub(super) health: Option<HealthFile>,
}

/// How each variant's endpoints are checked; what a variant says itself wins over what the service says.
pub(super) fn health(
    findings: &mut Findings,
    at: &str,
    file: Option<HealthFile>,
    variants: PerVariant<Checked>,
) -> PerVariant<HealthSettings> {
    let file = file.unwrap_or_default();
    let place = below(at, "health");
    let usual = one(findings, &place, file.clone(), &HealthSettings::default());
    variants.map(|variant, Checked { protocol, health }| {
        let own_place = below(&below(at, variant.as_str()), "health");
        let own_grpc = health.as_ref().and_then(|file| file.grpc.clone());
        let settings = match health {
            Some(own) => one(findings, &own_place, own, &usual),
            None => usual.clone(),
        };
        if matches!(settings.probe, Probe::Grpc { .. }) && protocol != Protocol::Http2 {
            let why = format!(
                "can never pass: {variant} speaks HTTP/1.1, gRPC takes HTTP/2; add protocol: h2 there"
            );
            match (&own_grpc, &file.grpc) {
                (Some(written), _) => findings.wrong(&below(&own_place, "grpc"), written, why),
                (None, Some(written)) => findings.wrong(&below(&place, "grpc"), written, why),
                (None, None) => {}
            }
        }
        settings
    })
}

fn one(findings: &mut Findings, at: &str, file: HealthFile, base: &HealthSettings) -> HealthSettings {
    let interval = some_time(findings, at, "interval", file.interval.as_ref(), base.interval);
    let timeout = some_time(findings, at, "timeout", file.timeout.as_ref(), base.timeout);
    let blamed = file.timeout.as_ref().map(|written| ("timeout", written));
    if let Some((key, written)) = blamed.or(file.interval.as_ref().map(|written| ("interval", written)))
        && timeout > interval
    {
        let (timeout, interval) = (show_duration(timeout), show_duration(interval));
        let why = format!(
            "a check may take {timeout}, but the next begins after {interval}; make timeout at most interval"
        );
        findings.wrong(&below(at, key), written, why);
    }
    let up = run(findings, at, "up", file.up.as_ref(), base.up);
    let down = run(findings, at, "down", file.down.as_ref(), base.down);
    HealthSettings { probe: probe(findings, at, file, &base.probe), interval, timeout, up, down }
}

fn run(findings: &mut Findings, at: &str, key: &str, written: Option<&Written<Count>>, usual: u32) -> u32 {
    let Count(count) = findings.read_or(at, key, written, Count(usual));
    if let Some(written) = written.filter(|_| count > RUN_MAX) {
        findings.wrong(&below(at, key), written, format!("must be 1 to {RUN_MAX}; {usual} is usual"));
    }
    count.min(RUN_MAX)
}

fn probe(findings: &mut Findings, at: &str, file: HealthFile, base: &Probe) -> Probe {
    let path = file.path.as_ref().and_then(|path| findings.read(&below(at, "path"), path));
    let expect = file.expect.map(|expect| (expect.line(), expected(findings, &below(at, "expect"), expect)));
    if let Some(written) = &file.grpc {
        let GrpcService(service) = findings.read(&below(at, "grpc"), written).unwrap_or_default();
        if path.is_some() || expect.is_some() {
            let why = "a check asks by gRPC or for a path, not both; leave one out";
            findings.wrong(&below(at, "grpc"), written, why);
        }
        return Probe::Grpc { service: service.into() };
    }
    match (path, expect, base) {
        (None, None, base) => base.clone(),
        (Some(path), expect, base) => {
            let usual = || match base {
                Probe::Get { expect, .. } => expect.clone(),
                Probe::Connect | Probe::Grpc { .. } => Expected::default(),
            };
            Probe::Get { path: path.0.into(), expect: expect.map_or_else(usual, |(_, expect)| expect) }
        }
        (None, Some((_, expect)), Probe::Get { path, .. }) => Probe::Get { path: path.clone(), expect },
        (None, Some((line, _)), base) => {
            if file.path.is_none() {
                let why = "no answer is asked for that could have a status; add a path, such as /up";
                findings.wrong_at(&below(at, "expect"), None, line, why);
            }
            base.clone()
        }
    }
}

fn expected(findings: &mut Findings, at: &str, listed: List<Statuses>) -> Expected {
    let line = listed.line();
    let items = listed.into_items();
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for written in &items {
        let Some(Statuses(from, to)) = findings.read(at, written) else { continue };
        if to < 200 {
            findings.wrong(at, written, "can never pass: an answer ends with a status from 200 on");
        }
        ranges.push(from..=to);
    }
    if items.is_empty() {
        findings.wrong_at(at, Some("[]"), line, "can never pass: no status is left; write 200-399");
    }
    Expected::new(ranges)
}

/// The name of a gRPC service, or nothing for all of the server.
#[derive(Clone, Debug, Default)]
pub(super) struct GrpcService(String);

impl Scalar for GrpcService {
    fn read(text: &str) -> Result<Self, String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
        if text.len() > 256 || !text.bytes().all(is_name) {
            return Err(format!(
                "{text:?} is no gRPC service; write a name such as shop.v1.Cart, or \"\" for the server as a whole"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["", "shop.v1.Cart"] })
    }
}

/// What is said about something that can be switched off; `Err` if nothing is but whether it is on.
pub(super) fn switched<T>(findings: &mut Findings, at: &str, file: Option<Switched<T>>) -> Result<T, Switch> {
    match file {
        None => Err(Switch(true)),
        Some(Short::One(switch)) => Err(findings.read(at, &switch).unwrap_or(Switch(true))),
        Some(Short::List(_, line)) => {
            findings.wrong_at(at, None, line, "off or all about it is expected here");
            Err(Switch(true))
        }
        Some(Short::Mapping(file, _)) => Ok(file),
    }
}

/// `listed`: how many endpoints each variant has.
pub(super) fn ejection(
    findings: &mut Findings,
    at: &str,
    file: Option<Switched<EjectionFile>>,
    listed: PerVariant<usize>,
) -> Option<EjectionSettings> {
    let default = EjectionSettings::default();
    let file = match switched(findings, at, file) {
        Ok(file) => file,
        Err(Switch(is_on)) => return is_on.then_some(default),
    };
    let pause = some_time(findings, at, "pause", file.pause.as_ref(), default.pause);
    let pause = at_most(findings, &below(at, "pause"), file.pause.as_ref(), pause, PAUSE_MAX);
    let usual_max = default.pause_max.max(pause);
    let pause_max = some_time(findings, at, "pause_max", file.pause_max.as_ref(), usual_max);
    let pause_max = at_most(findings, &below(at, "pause_max"), file.pause_max.as_ref(), pause_max, PAUSE_MAX);
    if let Some(written) = file.pause_max.as_ref().filter(|_| pause_max < pause) {
        let why =
            format!("the first pause is {} already; make pause_max at least that", show_duration(pause));
        findings.wrong(&below(at, "pause_max"), written, why);
    }
    let max_ejected = findings.read_or(at, "max_ejected", file.max_ejected.as_ref(), default.max_ejected);
    if let (Some(written), MaxEjected::Share(share)) = (&file.max_ejected, max_ejected) {
        let most = Variant::ALL.into_iter().map(|variant| listed[variant]).max().unwrap_or(0);
        if most > 1 && most as u64 * u64::from(share.millipercent()) < 100_000 {
            let why = format!("less than one of {most} endpoints: none is ever ejected");
            findings.doubt(&below(at, "max_ejected"), written, why);
        }
    }
    Some(EjectionSettings {
        failures: findings
            .read_or(
                at,
                "failures",
                file.failures.as_ref(),
                Count(u32::try_from(default.failures).unwrap_or(5)),
            )
            .0
            .into(),
        success_rate: success_rate(findings, &below(at, "success_rate"), file.success_rate),
        pause,
        pause_max,
        max_ejected,
    })
}

fn success_rate(
    findings: &mut Findings,
    at: &str,
    file: Option<Switched<SuccessRateFile>>,
) -> Option<SuccessRate> {
    let default = SuccessRate::default();
    let file = match switched(findings, at, file) {
        Ok(file) => file,
        Err(Switch(is_on)) => return is_on.then_some(default),
    };
    let usual = |count: u64| Count(u32::try_from(count).unwrap_or(u32::MAX));
    let endpoints =
        findings.read_or(at, "endpoints", file.endpoints.as_ref(), usual(default.endpoints as u64)).0;
    if let Some(written) = file.endpoints.as_ref().filter(|_| endpoints < 3) {
        findings.wrong(
            &below(at, "endpoints"),
            written,
            "of two nobody can tell who stands out; write at least 3",
        );
    }
    let deviations =
        findings.read_or(at, "deviations", file.deviations.as_ref(), Ratio(default.deviations)).0;
    // One of n is at most so far from the mean of all, if all others agree.
    let most = f64::from(endpoints.max(1) - 1).sqrt();
    if let Some(written) = file.deviations.as_ref().filter(|_| deviations >= most) {
        let why = format!(
            "one of {endpoints} endpoints is never {most:.1} deviations off or more; write less, or raise endpoints"
        );
        findings.doubt(&below(at, "deviations"), written, why);
    }
    Some(SuccessRate {
        deviations,
        interval: some_time(findings, at, "interval", file.interval.as_ref(), default.interval),
        requests: findings.read_or(at, "requests", file.requests.as_ref(), usual(default.requests)).0.into(),
        endpoints: endpoints as usize,
    })
}
