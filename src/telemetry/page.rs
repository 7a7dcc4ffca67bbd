//! The request families of `/metrics`, in Prometheus' text format 0.0.4.
//!
//! Rendered from the tally at the moment of a scrape, so that there is no second set of counts that
//! could differ from what `status` and gates see. Each service is merged once; its lines go to one body
//! per family, because the format wants a family's lines together. What was never counted has no line:
//! ten thousand idle services cost their weights and nothing else.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::histogram::HistogramSnapshot;
use super::names::{self, Metric};
use super::tally::{
    ConnectionRefusal, Crowding, IGNORED_COOKIES, Limit, MirrorCounts, MirrorDrop, MirrorResult, QueueCounts,
    RetryReason, ServiceLimit, ServiceSlot, Tallies, VariantCounts,
};
use crate::traffic::{Cause, PerVariant, Reason, Role, Variant, Weight};

/// The bounds of every histogram on the page in seconds, as written; each is an exact edge of ours.
const BOUNDS: [(&str, Duration); 16] = [
    ("0.0005", Duration::from_micros(500)),
    ("0.001", Duration::from_micros(1_000)),
    ("0.0025", Duration::from_micros(2_500)),
    ("0.005", Duration::from_micros(5_000)),
    ("0.01", Duration::from_micros(10_000)),
    ("0.025", Duration::from_micros(25_000)),
    ("0.05", Duration::from_micros(50_000)),
    ("0.1", Duration::from_micros(100_000)),
    ("0.25", Duration::from_micros(250_000)),
    ("0.5", Duration::from_micros(500_000)),
    ("1", Duration::from_secs(1)),
    ("2.5", Duration::from_micros(2_500_000)),
    ("5", Duration::from_secs(5)),
    ("10", Duration::from_secs(10)),
    ("30", Duration::from_secs(30)),
    ("60", Duration::from_secs(60)),
];

/// What the page says besides counts.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The number of the routing table in force.
    pub generation: u64,
    /// Whether a change is in force that the disk does not have yet.
    pub state_unsaved: bool,
    /// Processes from before an upgrade.
    pub predecessors: u64,
    /// What they hold: tunnels.
    pub predecessor_tunnels: u64,
    /// And other requests.
    pub predecessor_requests: u64,
    /// Access log lines that were not written.
    pub access_log_dropped: u64,
    /// Every service in force.
    pub services: Vec<ServiceFacts>,
    /// Every certificate in use.
    pub certificates: Vec<CertificateFacts>,
}

/// A certificate, as the page describes it.
#[derive(Clone, Debug)]
pub struct CertificateFacts {
    /// Where it is shown.
    pub listener: String,
    /// What it is for.
    pub name: String,
    /// When it expires, in seconds since 1970-01-01 UTC.
    pub expires: u64,
}

/// A service, as the page describes it.
#[derive(Clone, Debug)]
pub struct ServiceFacts {
    /// Its name in the config.
    pub name: String,
    /// Where its counts are.
    pub slot: ServiceSlot,
    /// The share of stable's visitors whose requests are mirrored.
    pub mirror: Weight,
    /// Why it is locked, if it is.
    pub locked: Option<Cause>,
    /// What its rollout says, if it ever had one.
    pub rollout: Option<RolloutFacts>,
    /// What its launch says, if one runs.
    pub launch: Option<LaunchFacts>,
    /// Its variants.
    pub variants: PerVariant<VariantFacts>,
}

/// A launch that runs, as the page describes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaunchFacts {
    /// Whether nobody attends to it.
    pub unattended: bool,
    /// Whether it is being undone.
    pub stopped: bool,
}

/// A rollout, as the page describes it. The series end with the service, like all that are rendered from facts.
#[derive(Clone, Debug, Default)]
pub struct RolloutFacts {
    /// The stage it is in, from 1; 0 before its first and after its last.
    pub stage: u32,
    /// What speaks against the candidate, by gate; a value that is no number has no line.
    pub evidence: Vec<(Arc<str>, f64)>,
    /// How often each verdict was reached since the process started.
    pub verdicts: Vec<(&'static str, u64)>,
    /// Failures beyond what stable would have had, since the process started; never negative.
    pub excess_failures: f64,
}

/// A variant, as the page describes it.
#[derive(Clone, Debug)]
pub struct VariantFacts {
    /// What runs there; empty when nobody said.
    pub version: String,
    /// What it is for.
    pub role: Role,
    /// The share of visitors it is given; both variants' add up to 100 %.
    pub weight: Weight,
    /// Its endpoints.
    pub endpoints: Vec<EndpointFacts>,
}

/// An endpoint, as the page describes it. One that was never used has a line for its health only.
#[derive(Clone, Debug, Default)]
pub struct EndpointFacts {
    /// As written in the config or by `deploy`.
    pub address: String,
    /// Whether it passes its health checks.
    pub healthy: bool,
    /// Whether it has a pause because requests failed there.
    pub ejected: bool,
    /// How often it had one.
    pub ejections: u64,
    /// Attempts that are over.
    pub requests: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// What is under way there.
    pub in_flight: u64,
}

/// Renders the page. For ten thousand services this takes long enough to keep it off any thread that
/// serves requests.
pub fn render(tallies: &Tallies, facts: &Facts) -> String {
    let mut families = Families::default();
    for service in &facts.services {
        families.service(tallies, service);
    }
    families.process(tallies, facts);
    families.page()
}

/// The lines of one metric.
struct Family {
    metric: Metric,
    lines: String,
}

impl Family {
    const fn new(metric: Metric) -> Self {
        Self { metric, lines: String::new() }
    }

    /// One line; `labels` as between the braces.
    fn put(&mut self, labels: fmt::Arguments<'_>, value: impl fmt::Display) {
        self.put_as("", labels, value);
    }

    fn put_as(&mut self, suffix: &str, labels: fmt::Arguments<'_>, value: impl fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.lines, "{}{suffix}{{{labels}}} {value}", self.metric.name);
    }

    fn put_bare(&mut self, value: impl fmt::Display) {
        let _ = writeln!(self.lines, "{} {value}", self.metric.name);
    }

    fn put_counted(&mut self, labels: fmt::Arguments<'_>, count: u64) {
        if count > 0 {
            self.put(labels, count);
        }
    }

    fn put_histogram(&mut self, labels: &str, histogram: &HistogramSnapshot) {
        let count = histogram.count();
        if count == 0 {
            return;
        }
        for (le, bound) in BOUNDS {
            self.put_as("_bucket", format_args!("{labels},le=\"{le}\""), histogram.cumulative(bound));
        }
        self.put_as("_bucket", format_args!("{labels},le=\"+Inf\""), count);
        self.put_as("_sum", format_args!("{labels}"), histogram.sum().as_secs_f64());
        self.put_as("_count", format_args!("{labels}"), count);
    }
}

struct Families {
    requests: Family,
    failures: Family,
    late_failures: Family,
    request_duration: Family,
    upstream_ttfb: Family,
    upstream_connect: Family,
    upstream_errors: Family,
    assignments: Family,
    spilled: Family,
    retries: Family,
    retry_budget_exhausted: Family,
    queued: Family,
    queue_duration: Family,
    queue_shed: Family,
    informational: Family,
    streams_cut: Family,
    mirror_requests: Family,
    mirror_mismatches: Family,
    mirror_failures: Family,
    mirror_dropped: Family,
    mirror_ttfb: Family,
    mirror_ratio: Family,
    tunnels: Family,
    tunnels_opened: Family,
    tunnel_bytes: Family,
    in_flight: Family,
    weight_ratio: Family,
    variant_info: Family,
    locked: Family,
    endpoint_healthy: Family,
    endpoint_requests: Family,
    endpoint_failures: Family,
    endpoint_in_flight: Family,
    endpoint_ejected: Family,
    endpoint_ejections: Family,
    rollout_stage: Family,
    gate_evidence: Family,
    verdicts: Family,
    excess_failures: Family,
    launch_running: Family,
    launch_unattended: Family,
    launch_stopped: Family,
    limit_hits: Family,
    process: Vec<Family>,
}

impl Default for Families {
    fn default() -> Self {
        Self {
            requests: Family::new(names::REQUESTS),
            failures: Family::new(names::FAILURES),
            late_failures: Family::new(names::LATE_FAILURES),
            request_duration: Family::new(names::REQUEST_DURATION),
            upstream_ttfb: Family::new(names::UPSTREAM_TTFB),
            upstream_connect: Family::new(names::UPSTREAM_CONNECT),
            upstream_errors: Family::new(names::UPSTREAM_ERRORS),
            assignments: Family::new(names::ASSIGNMENTS),
            spilled: Family::new(names::SPILLED),
            retries: Family::new(names::RETRIES),
            retry_budget_exhausted: Family::new(names::RETRY_BUDGET_EXHAUSTED),
            queued: Family::new(names::QUEUED),
            queue_duration: Family::new(names::QUEUE_DURATION),
            queue_shed: Family::new(names::QUEUE_SHED),
            informational: Family::new(names::INFORMATIONAL),
            streams_cut: Family::new(names::STREAMS_CUT),
            mirror_requests: Family::new(names::MIRROR_REQUESTS),
            mirror_mismatches: Family::new(names::MIRROR_MISMATCHES),
            mirror_failures: Family::new(names::MIRROR_FAILURES),
            mirror_dropped: Family::new(names::MIRROR_DROPPED),
            mirror_ttfb: Family::new(names::MIRROR_TTFB),
            mirror_ratio: Family::new(names::MIRROR_RATIO),
            tunnels: Family::new(names::TUNNELS),
            tunnels_opened: Family::new(names::TUNNELS_OPENED),
            tunnel_bytes: Family::new(names::TUNNEL_BYTES),
            in_flight: Family::new(names::IN_FLIGHT),
            weight_ratio: Family::new(names::WEIGHT_RATIO),
            variant_info: Family::new(names::VARIANT_INFO),
            locked: Family::new(names::LOCKED),
            endpoint_healthy: Family::new(names::ENDPOINT_HEALTHY),
            endpoint_requests: Family::new(names::ENDPOINT_REQUESTS),
            endpoint_failures: Family::new(names::ENDPOINT_FAILURES),
            endpoint_in_flight: Family::new(names::ENDPOINT_IN_FLIGHT),
            endpoint_ejected: Family::new(names::ENDPOINT_EJECTED),
            endpoint_ejections: Family::new(names::ENDPOINT_EJECTIONS),
            rollout_stage: Family::new(names::ROLLOUT_STAGE),
            gate_evidence: Family::new(names::GATE_EVIDENCE),
            verdicts: Family::new(names::VERDICTS),
            excess_failures: Family::new(names::EXCESS_FAILURES),
            launch_running: Family::new(names::LAUNCH_RUNNING),
            launch_unattended: Family::new(names::LAUNCH_UNATTENDED),
            launch_stopped: Family::new(names::LAUNCH_STOPPED),
            limit_hits: Family::new(names::LIMIT_HITS),
            process: Vec::new(),
        }
    }
}

impl Families {
    fn service(&mut self, tallies: &Tallies, service: &ServiceFacts) {
        let name = Escaped(&service.name);
        for cause in Cause::ALL {
            let locked = u8::from(service.locked == Some(cause));
            self.locked.put(format_args!("service=\"{name}\",cause=\"{cause}\""), locked);
        }
        if let Some(rollout) = &service.rollout {
            self.rollout(&service.name, rollout);
        }
        // Where none runs there is nothing to say.
        if let Some(launch) = &service.launch {
            let place = format_args!("service=\"{name}\"");
            self.launch_running.put(place, 1);
            self.launch_unattended.put(place, u8::from(launch.unattended));
            self.launch_stopped.put(place, u8::from(launch.stopped));
        }
        for (variant, facts) in service.variants.iter() {
            self.described(&place(&service.name, variant), facts);
        }
        for (limit, count) in ServiceLimit::ALL.into_iter().zip(tallies.limit_hits(service.slot)) {
            let limit = limit.as_str();
            self.limit_hits.put_counted(format_args!("service=\"{name}\",limit=\"{limit}\""), count);
        }
        self.mirror_ratio.put(format_args!("service=\"{name}\""), service.mirror.ratio());
        for (variant, counts) in
            tallies.mirrored(service.slot).iter().filter(|(_, counts)| !counts.is_empty())
        {
            self.mirrored(&place(&service.name, variant), counts);
        }
        if let Some(counts) = tallies.merged(service.slot) {
            for (variant, counts) in counts.iter() {
                self.counted(&place(&service.name, variant), counts);
            }
        }
    }

    fn rollout(&mut self, service: &str, facts: &RolloutFacts) {
        let service = Escaped(service);
        self.rollout_stage.put(format_args!("service=\"{service}\""), facts.stage);
        for (gate, evidence) in facts.evidence.iter().filter(|(_, evidence)| !evidence.is_nan()) {
            let gate = Escaped(gate);
            // The format's infinity has a sign.
            let evidence = if evidence.is_infinite() { evidence.signum() * f64::MAX } else { *evidence };
            self.gate_evidence.put(format_args!("service=\"{service}\",gate=\"{gate}\""), evidence);
        }
        for (verdict, count) in &facts.verdicts {
            self.verdicts.put(format_args!("service=\"{service}\",verdict=\"{verdict}\""), count);
        }
        self.excess_failures.put(format_args!("service=\"{service}\""), facts.excess_failures.max(0.0));
    }

    fn described(&mut self, place: &str, facts: &VariantFacts) {
        let (version, role) = (Escaped(&facts.version), facts.role);
        self.weight_ratio.put(format_args!("{place}"), facts.weight.ratio());
        self.variant_info.put(format_args!("{place},version=\"{version}\",role=\"{role}\""), 1);
        for endpoint in &facts.endpoints {
            let address = Escaped(&endpoint.address);
            let healthy = u8::from(endpoint.healthy);
            let labels = format_args!("{place},endpoint=\"{address}\"");
            self.endpoint_healthy.put(labels, healthy);
            if endpoint.requests == 0 && endpoint.in_flight == 0 && endpoint.ejections == 0 {
                continue;
            }
            self.endpoint_requests.put(labels, endpoint.requests);
            self.endpoint_failures.put(labels, endpoint.failures);
            self.endpoint_in_flight.put(labels, endpoint.in_flight);
            self.endpoint_ejected.put(labels, u8::from(endpoint.ejected));
            self.endpoint_ejections.put(labels, endpoint.ejections);
        }
    }

    fn counted(&mut self, place: &str, counts: &VariantCounts) {
        let bare = format_args!("{place}");
        for ((method, code), count) in &counts.requests {
            let method = method.as_str();
            self.requests.put(format_args!("{place},code=\"{code}\",method=\"{method}\""), count);
        }
        for (error, count) in &counts.upstream_errors {
            self.upstream_errors.put(format_args!("{place},reason=\"{error}\""), count);
        }
        for reason in Reason::ALL {
            let labels = format_args!("{place},reason=\"{reason}\"");
            self.assignments.put_counted(labels, counts.assigned(reason));
        }
        self.failures.put_counted(bare, counts.totals.failures);
        self.late_failures.put_counted(bare, counts.totals.late_failures);
        self.spilled.put_counted(bare, counts.spilled);
        for (reason, count) in RetryReason::ALL.into_iter().zip(counts.retries) {
            self.retries.put_counted(format_args!("{place},reason=\"{}\"", reason.as_str()), count);
        }
        self.retry_budget_exhausted.put_counted(bare, counts.budget_exhausted);
        self.queue(place, &counts.queue);
        self.informational.put_counted(bare, counts.informational);
        self.streams_cut.put_counted(bare, counts.cut);
        let tunnels = counts.tunnels;
        if tunnels.opened > 0 {
            self.tunnels.put(bare, tunnels.open());
            self.tunnels_opened.put(bare, tunnels.opened);
            self.tunnel_bytes.put(format_args!("{place},from=\"client\""), tunnels.bytes_from_client);
            self.tunnel_bytes.put(format_args!("{place},from=\"endpoint\""), tunnels.bytes_from_endpoint);
        }
        self.in_flight.put(bare, counts.totals.in_flight());
        self.request_duration.put_histogram(place, &counts.duration);
        self.upstream_ttfb.put_histogram(place, &counts.ttfb);
        self.upstream_connect.put_histogram(place, &counts.connect);
    }

    fn mirrored(&mut self, place: &str, counts: &MirrorCounts) {
        for result in MirrorResult::ALL {
            let labels = format_args!("{place},result=\"{}\"", result.as_str());
            self.mirror_requests.put(labels, counts.came_to(result));
        }
        for why in MirrorDrop::ALL {
            self.mirror_dropped.put(format_args!("{place},reason=\"{}\"", why.as_str()), counts.dropped(why));
        }
        for (what, count) in [("status", counts.status_differs), ("body", counts.body_differs)] {
            self.mirror_mismatches.put(format_args!("{place},what=\"{what}\""), count);
        }
        for (only, count) in [("copy", counts.only_copy_failed), ("original", counts.only_original_failed)] {
            self.mirror_failures.put(format_args!("{place},only=\"{only}\""), count);
        }
        self.mirror_ttfb.put_histogram(&format!("{place},answer=\"copy\""), &counts.copy);
        self.mirror_ttfb.put_histogram(&format!("{place},answer=\"original\""), &counts.original);
    }

    fn queue(&mut self, place: &str, queue: &QueueCounts) {
        if queue.entered > 0 {
            self.queued.put(format_args!("{place}"), queue.waiting());
        }
        self.queue_duration.put_histogram(place, &queue.duration);
        for (why, count) in Crowding::ALL.into_iter().zip(queue.shed) {
            self.queue_shed.put_counted(format_args!("{place},reason=\"{}\"", why.as_str()), count);
        }
    }

    fn process(&mut self, tallies: &Tallies, facts: &Facts) {
        let counts = tallies.process();
        for (metric, value) in [
            (names::GENERATION, facts.generation),
            (names::STATE_UNSAVED, facts.state_unsaved.into()),
            (names::PREDECESSORS, facts.predecessors),
            (names::PREDECESSOR_TUNNELS, facts.predecessor_tunnels),
            (names::PREDECESSOR_REQUESTS, facts.predecessor_requests),
            (names::CONNECTIONS_ACCEPTED, counts.connections_accepted),
            (names::CONNECTIONS_OPEN, counts.connections_open),
            (names::SHED, counts.shed),
            (names::OVERRIDES_REFUSED, counts.overrides_refused),
            (names::ACCESS_LOG_DROPPED, facts.access_log_dropped),
        ] {
            let mut family = Family::new(metric);
            family.put_bare(value);
            self.process.push(family);
        }
        let mut build = Family::new(names::BUILD_INFO);
        build.put(format_args!("version=\"{}\"", Escaped(env!("CARGO_PKG_VERSION"))), 1);
        let mut unrouted = Family::new(names::UNROUTED);
        for (code, count) in &counts.unrouted {
            unrouted.put(format_args!("code=\"{code}\""), count);
        }
        let mut cookies = Family::new(names::COOKIES_IGNORED);
        for ((_, reason), count) in IGNORED_COOKIES.iter().zip(counts.cookies_ignored) {
            cookies.put(format_args!("reason=\"{reason}\""), count);
        }
        let mut refused = Family::new(names::CONNECTIONS_REFUSED);
        for why in ConnectionRefusal::ALL {
            refused.put(format_args!("reason=\"{}\"", why.as_str()), counts.refused(why));
        }
        for limit in Limit::ALL {
            self.limit_hits.put(format_args!("limit=\"{}\"", limit.as_str()), counts.hits(limit));
        }
        let mut expiry = Family::new(names::CERTIFICATE_EXPIRY);
        for CertificateFacts { listener, name, expires } in &facts.certificates {
            let labels = format_args!("listener=\"{}\",name=\"{}\"", Escaped(listener), Escaped(name));
            expiry.put(labels, *expires);
        }
        self.process.extend([build, unrouted, cookies, refused, expiry]);
    }

    fn page(self) -> String {
        let of_services = [
            self.requests,
            self.failures,
            self.late_failures,
            self.request_duration,
            self.upstream_ttfb,
            self.upstream_connect,
            self.upstream_errors,
            self.assignments,
            self.spilled,
            self.retries,
            self.retry_budget_exhausted,
            self.queued,
            self.queue_duration,
            self.queue_shed,
            self.informational,
            self.streams_cut,
            self.mirror_requests,
            self.mirror_mismatches,
            self.mirror_failures,
            self.mirror_dropped,
            self.mirror_ttfb,
            self.mirror_ratio,
            self.tunnels,
            self.tunnels_opened,
            self.tunnel_bytes,
            self.in_flight,
            self.weight_ratio,
            self.variant_info,
            self.locked,
            self.endpoint_healthy,
            self.endpoint_requests,
            self.endpoint_failures,
            self.endpoint_in_flight,
            self.endpoint_ejected,
            self.endpoint_ejections,
            self.rollout_stage,
            self.gate_evidence,
            self.verdicts,
            self.excess_failures,
            self.launch_running,
            self.launch_unattended,
            self.launch_stopped,
            self.limit_hits,
        ];
        let bytes: usize = of_services.iter().map(|family| family.lines.len() + 256).sum();
        let mut page = String::with_capacity(bytes + 4096);
        for Family { metric, lines } in of_services.into_iter().chain(self.process) {
            if !lines.is_empty() {
                let Metric { name, kind, help } = metric;
                let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {}\n{lines}", kind.as_str());
            }
        }
        page
    }
}

fn place(service: &str, variant: Variant) -> String {
    format!("service=\"{}\",variant=\"{variant}\"", Escaped(service))
}

/// A label value: backslash, quote and line feed escaped, as the format says.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['\\', '"', '\n']) {
            match part.as_bytes().last() {
                Some(b'\\') => write!(f, "{}\\\\", &part[..part.len() - 1])?,
                Some(b'"') => write!(f, "{}\\\"", &part[..part.len() - 1])?,
                Some(b'\n') => write!(f, "{}\\n", &part[..part.len() - 1])?,
                _ => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Failure, MethodLabel, Outcome, UpstreamError};
    use crate::traffic::CookieError;

    fn variant(role: Role, percent: u32) -> VariantFacts {
        VariantFacts {
            version: "2.0.1".into(),
            role,
            weight: Weight::from_percent(percent).unwrap(),
            endpoints: vec![EndpointFacts {
                address: format!("10.0.0.{percent}:80"),
                healthy: percent > 50,
                ..EndpointFacts::default()
            }],
        }
    }

    fn service(name: &str, slot: u32) -> ServiceFacts {
        ServiceFacts {
            name: name.into(),
            slot: ServiceSlot(slot),
            mirror: Weight::ZERO,
            locked: Some(Cause::Kill),
            rollout: None,
            launch: None,
            variants: PerVariant { blue: variant(Role::Stable, 75), green: variant(Role::Candidate, 25) },
        }
    }

    fn busy(tallies: &std::sync::Arc<Tallies>) {
        let worker = tallies.worker(0);
        let shop = worker.service(ServiceSlot(0));
        for ms in 1..=100 {
            let ttfb = Some(Duration::from_millis(ms));
            shop.started(Variant::Green, 1);
            shop.assigned(Variant::Green, Reason::Cookie);
            let outcome =
                Outcome { variant: Variant::Green, code: 200, method: MethodLabel::Get, ttfb, failure: None };
            shop.outcome(outcome);
            if ms > 1 {
                shop.finished(Variant::Green, 1, Duration::from_millis(ms), None);
            }
        }
        let failure = Some(Failure::Upstream(UpstreamError::Reset));
        shop.outcome(Outcome {
            variant: Variant::Green,
            code: 502,
            method: MethodLabel::Other,
            ttfb: None,
            failure,
        });
        shop.connect(Variant::Green, Duration::from_micros(80));
        shop.retried(Variant::Green, RetryReason::Status);
        shop.budget_exhausted(Variant::Green);
        shop.queued(Variant::Green);
        shop.queued(Variant::Green);
        shop.dequeued(Variant::Green, Duration::from_millis(1));
        shop.crowded_out(Variant::Green, Crowding::Timeout);
        shop.tunnel_opened(Variant::Green);
        shop.tunnel_opened(Variant::Green);
        shop.tunnelled(Variant::Green, 3, 4);
        shop.tunnel_closed(Variant::Green);
        worker.unrouted(404);
        worker.limit_hit(Limit::Uri);
        shop.limit_hit(ServiceLimit::FirstByte);
        worker.cookie_ignored(CookieError::Expired);
    }

    #[test]
    fn every_bound_is_an_exact_edge() {
        use crate::telemetry::Histogram;
        for (text, bound) in BOUNDS {
            assert_eq!(text.parse::<f64>().unwrap(), bound.as_secs_f64());
            let histogram = Histogram::default();
            histogram.record(bound);
            histogram.record(bound + Duration::from_nanos(1));
            assert_eq!(histogram.snapshot().cumulative(bound), 1, "{text}");
        }
    }

    #[test]
    fn the_page_says_what_the_tally_counted() {
        let tallies = Tallies::new(1);
        busy(&tallies);
        let facts = Facts {
            generation: 41,
            state_unsaved: true,
            predecessors: 2,
            predecessor_tunnels: 3,
            predecessor_requests: 4,
            access_log_dropped: 7,
            services: vec![service("shop", 0), service("idle", 1)],
            certificates: vec![CertificateFacts {
                listener: "0.0.0.0:443".to_owned(),
                name: "*.shop.example".to_owned(),
                expires: 1_800_000_000,
            }],
        };
        let page = render(&tallies, &facts);
        for line in [
            "# TYPE tidegate_requests_total counter",
            r#"tidegate_connections_refused_total{reason="tls"} 0"#,
            "# TYPE tidegate_limit_hits_total counter",
            r#"tidegate_limit_hits_total{limit="limits.uri"} 1"#,
            r#"tidegate_limit_hits_total{limit="timeouts.head"} 0"#,
            r#"tidegate_limit_hits_total{service="shop",limit="timeouts.first_byte"} 1"#,
            r#"tidegate_certificate_expiry_timestamp_seconds{listener="0.0.0.0:443",name="*.shop.example"} 1800000000"#,
            "# TYPE tidegate_upstream_ttfb_seconds histogram",
            r#"tidegate_requests_total{service="shop",variant="green",code="200",method="GET"} 100"#,
            r#"tidegate_requests_total{service="shop",variant="green",code="502",method="OTHER"} 1"#,
            r#"tidegate_failures_total{service="shop",variant="green"} 1"#,
            r#"tidegate_upstream_ttfb_seconds_bucket{service="shop",variant="green",le="0.0005"} 0"#,
            r#"tidegate_upstream_ttfb_seconds_bucket{service="shop",variant="green",le="0.05"} 50"#,
            r#"tidegate_upstream_ttfb_seconds_bucket{service="shop",variant="green",le="+Inf"} 100"#,
            r#"tidegate_upstream_ttfb_seconds_sum{service="shop",variant="green"} 5.05"#,
            r#"tidegate_upstream_ttfb_seconds_count{service="shop",variant="green"} 100"#,
            r#"tidegate_request_duration_seconds_count{service="shop",variant="green"} 99"#,
            r#"tidegate_upstream_errors_total{service="shop",variant="green",reason="reset"} 1"#,
            r#"tidegate_assignments_total{service="shop",variant="green",reason="cookie"} 100"#,
            r#"tidegate_in_flight{service="shop",variant="green"} 1"#,
            r#"tidegate_retries_total{service="shop",variant="green",reason="status"} 1"#,
            r#"tidegate_retry_budget_exhausted_total{service="shop",variant="green"} 1"#,
            r#"tidegate_queued{service="shop",variant="green"} 1"#,
            r#"tidegate_queue_duration_seconds_count{service="shop",variant="green"} 1"#,
            r#"tidegate_queue_shed_total{service="shop",variant="green",reason="timeout"} 1"#,
            "# TYPE tidegate_tunnels gauge",
            r#"tidegate_tunnels{service="shop",variant="green"} 1"#,
            r#"tidegate_tunnels_opened_total{service="shop",variant="green"} 2"#,
            r#"tidegate_tunnel_bytes_total{service="shop",variant="green",from="client"} 3"#,
            r#"tidegate_tunnel_bytes_total{service="shop",variant="green",from="endpoint"} 4"#,
            r#"tidegate_weight_ratio{service="idle",variant="green"} 0.25"#,
            r#"tidegate_variant_info{service="idle",variant="blue",version="2.0.1",role="stable"} 1"#,
            r#"tidegate_locked{service="shop",cause="kill"} 1"#,
            r#"tidegate_locked{service="shop",cause="state-lost"} 0"#,
            r#"tidegate_endpoint_healthy{service="shop",variant="blue",endpoint="10.0.0.75:80"} 1"#,
            r#"tidegate_endpoint_healthy{service="shop",variant="green",endpoint="10.0.0.25:80"} 0"#,
            "tidegate_generation 41",
            "tidegate_state_unsaved 1",
            "tidegate_predecessors 2",
            "tidegate_predecessor_tunnels 3",
            "tidegate_predecessor_requests 4",
            "tidegate_access_log_dropped_total 7",
            r#"tidegate_unrouted_requests_total{code="404"} 1"#,
            r#"tidegate_cookies_ignored_total{reason="expired"} 1"#,
            concat!("tidegate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(page.lines().any(|other| other == line), "{line} is not on the page:\n{page}");
        }
        assert!(!page.contains(r#"_total{service="idle""#), "{page}");
        assert!(!page.contains(r#"_count{service="idle""#), "{page}");
    }

    #[test]
    fn a_rollout_is_on_the_page_as_long_as_its_service() {
        let mut shop = service("shop", 0);
        shop.launch = Some(LaunchFacts { unattended: true, stopped: false });
        shop.rollout = Some(RolloutFacts {
            stage: 2,
            evidence: vec![
                ("errors".into(), 12.5),
                ("latency".into(), f64::INFINITY),
                ("x".into(), f64::NAN),
            ],
            verdicts: vec![("pass", 3), ("fail", 0)],
            excess_failures: -0.5,
        });
        let services = vec![shop, service("idle", 1)];
        let page = render(&Tallies::new(1), &Facts { services, ..Facts::default() });
        for line in [
            r#"tidegate_rollout_stage{service="shop"} 2"#,
            r#"tidegate_gate_evidence{service="shop",gate="errors"} 12.5"#,
            "# TYPE tidegate_verdicts_total counter",
            r#"tidegate_verdicts_total{service="shop",verdict="pass"} 3"#,
            r#"tidegate_verdicts_total{service="shop",verdict="fail"} 0"#,
            r#"tidegate_excess_failures_total{service="shop"} 0"#,
            r#"tidegate_launch_running{service="shop"} 1"#,
            r#"tidegate_launch_unattended{service="shop"} 1"#,
            r#"tidegate_launch_stopped{service="shop"} 0"#,
        ] {
            assert!(page.lines().any(|other| other == line), "{line} is not on the page:\n{page}");
        }
        assert!(page.contains(r#"gate="latency""#) && !page.contains(r#"gate="x""#), "{page}");
        assert!(!page.contains(r#"tidegate_rollout_stage{service="idle""#), "{page}");
        assert!(!page.contains(r#"tidegate_launch_running{service="idle""#), "{page}");
        let page = render(&Tallies::new(1), &Facts::default());
        assert!(!page.contains("tidegate_rollout_stage"), "{page}");
    }

    #[test]
    fn a_family_is_announced_once_and_its_lines_stay_together() {
        let tallies = Tallies::new(1);
        busy(&tallies);
        let services = vec![service("shop", 0), service("cart", 1), service("again", 0)];
        let page = render(&tallies, &Facts { services, ..Facts::default() });
        let mut announced = Vec::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let name = rest.split(' ').next().unwrap();
                assert!(!announced.contains(&name), "{name} twice");
                announced.push(name);
            } else if !line.starts_with('#') {
                assert!(line.starts_with(announced.last().unwrap()), "{line} is not with its family");
            }
        }
        assert!(announced.len() > 20);
    }

    #[test]
    fn label_values_are_escaped() {
        let awkward = service("a\\b\"c\nd", 0);
        let facts = Facts { services: vec![awkward], ..Facts::default() };
        let page = render(&Tallies::new(1), &facts);
        assert!(
            page.contains(r#"tidegate_weight_ratio{service="a\\b\"c\nd",variant="blue"} 0.75"#),
            "{page}"
        );
        assert_eq!(Escaped("plain").to_string(), "plain");
        assert_eq!(Escaped("\\\\").to_string(), "\\\\\\\\");
        assert_eq!(Escaped("").to_string(), "");
    }
}
