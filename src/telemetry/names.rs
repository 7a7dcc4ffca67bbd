//! Every metric's name, kind and help text, in one place, so that page, dashboards and documents agree.
//!
//! Prometheus' conventions: base units, `_total` for counters, `_ratio` for shares of one. No label ever
//! carries what a stranger chose.

/// What a number on the page may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

/// A metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name, prefix included.
    pub name: &'static str,
    /// What its numbers may do.
    pub kind: Kind,
    /// One line for people.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, help }
}

/// `{service, variant, code, method}`
pub const REQUESTS: Metric =
    counter("tidegate_requests_total", "Requests by assigned variant, counted at the response head.");
/// `{service, variant}`
pub const FAILURES: Metric =
    counter("tidegate_failures_total", "Requests that failed, as gates count it: also if a retry hid it.");
/// `{service, variant}`
pub const LATE_FAILURES: Metric =
    counter("tidegate_late_failures_total", "Responses that went wrong after their head.");
/// `{service, variant}`
pub const REQUEST_DURATION: Metric =
    histogram("tidegate_request_duration_seconds", "From a request's arrival to its last byte sent.");
/// `{service, variant}`
pub const UPSTREAM_TTFB: Metric = histogram(
    "tidegate_upstream_ttfb_seconds",
    "From the request head written to the response head received; what gates read.",
);
/// `{service, variant}`
pub const UPSTREAM_CONNECT: Metric =
    histogram("tidegate_upstream_connect_seconds", "How long connections to endpoints took to be made.");
/// `{service, variant, reason}`
pub const UPSTREAM_ERRORS: Metric =
    counter("tidegate_upstream_errors_total", "Errors of endpoints, also of attempts that a retry hid.");
/// `{service, variant, reason}`
pub const ASSIGNMENTS: Metric =
    counter("tidegate_assignments_total", "Routing decisions by the rule that took them.");
/// `{service, variant}`
pub const SPILLED: Metric = counter(
    "tidegate_spilled_total",
    "Requests that the other variant answered because this one had no healthy endpoint.",
);
/// `{service, variant, reason}`
pub const RETRIES: Metric =
    counter("tidegate_retries_total", "Further attempts after a failed one, by what failed.");
/// `{service, variant}`
pub const RETRY_BUDGET_EXHAUSTED: Metric = counter(
    "tidegate_retry_budget_exhausted_total",
    "Failed attempts that nothing followed because the budget of retries was used up.",
);
/// `{service, variant}`
pub const QUEUED: Metric = gauge("tidegate_queued", "Requests that wait for a place at an endpoint now.");
/// `{service, variant}`
pub const QUEUE_DURATION: Metric = histogram(
    "tidegate_queue_duration_seconds",
    "How long requests waited for a place at an endpoint, of those that had to.",
);
/// `{service, variant, reason}`: full or timeout
pub const QUEUE_SHED: Metric = counter(
    "tidegate_queue_shed_total",
    "Requests turned away because no endpoint had a place: the queues were full, or the wait too long.",
);
/// `{service, variant}`
pub const INFORMATIONAL: Metric = counter(
    "tidegate_informational_responses_total",
    "Responses before the final one, such as 103, that endpoints gave by HTTP/1.1 and that end here; 100 apart.",
);
/// `{service, variant}`
pub const STREAMS_CUT: Metric = counter(
    "tidegate_streams_cut_total",
    "Streams ended because their grace after a kill or rollback was over.",
);
/// `{service, variant, result}`
pub const MIRROR_REQUESTS: Metric = counter(
    "tidegate_mirror_requests_total",
    "Requests copied to a variant, by how its answers compare; they are in no other count.",
);
/// `{service, variant, what}`: status or body
pub const MIRROR_MISMATCHES: Metric = counter(
    "tidegate_mirror_mismatches_total",
    "Mirrored requests whose two answers differ, by what differs.",
);
/// `{service, variant, only}`: copy or original
pub const MIRROR_FAILURES: Metric = counter(
    "tidegate_mirror_failures_total",
    "Mirrored requests of which one failed and the other did not, by which.",
);
/// `{service, variant, reason}`
pub const MIRROR_DROPPED: Metric =
    counter("tidegate_mirror_dropped_total", "Requests that were to be mirrored and were not, by reason.");
/// `{service, variant, answer}`: copy or original
pub const MIRROR_TTFB: Metric = histogram(
    "tidegate_mirror_ttfb_seconds",
    "From the request head written to the response head received, of mirrored requests: the copy's and the original's.",
);
/// `{service}`
pub const MIRROR_RATIO: Metric =
    gauge("tidegate_mirror_ratio", "The share of stable's visitors whose requests are mirrored.");
/// `{service, variant}`
pub const TUNNELS: Metric =
    gauge("tidegate_tunnels", "Tunnels open now, such as WebSockets, by the variant that they lead to.");
/// `{service, variant}`
pub const TUNNELS_OPENED: Metric =
    counter("tidegate_tunnels_opened_total", "Tunnels opened, by the variant that they lead to.");
/// `{service, variant, from}`: from client or endpoint
pub const TUNNEL_BYTES: Metric =
    counter("tidegate_tunnel_bytes_total", "Bytes that came through tunnels, by who sent them.");
/// `{service, variant}`
pub const IN_FLIGHT: Metric = gauge("tidegate_in_flight", "Requests that are not over yet.");
/// `{service, variant}`
pub const WEIGHT_RATIO: Metric = gauge("tidegate_weight_ratio", "The share of visitors a variant is given.");
/// `{service, variant, version, role}`
pub const VARIANT_INFO: Metric = gauge("tidegate_variant_info", "What runs in a variant, and what for.");
/// `{service, cause}`
pub const LOCKED: Metric =
    gauge("tidegate_locked", "Whether nothing may move toward the candidate, by cause.");
/// `{service, variant, endpoint}`
pub const ENDPOINT_HEALTHY: Metric =
    gauge("tidegate_endpoint_healthy", "Whether an endpoint passes its health checks.");
/// `{service, variant, endpoint}`
pub const ENDPOINT_REQUESTS: Metric = counter(
    "tidegate_endpoint_requests_total",
    "Attempts that an endpoint answered or failed, retries included.",
);
/// `{service, variant, endpoint}`
pub const ENDPOINT_FAILURES: Metric = counter(
    "tidegate_endpoint_failures_total",
    "Attempts that failed at an endpoint: 5xx, no connection, a deadline.",
);
/// `{service, variant, endpoint}`
pub const ENDPOINT_IN_FLIGHT: Metric =
    gauge("tidegate_endpoint_in_flight", "Requests and tunnels under way at an endpoint.");
/// `{service, variant, endpoint}`
pub const ENDPOINT_EJECTED: Metric =
    gauge("tidegate_endpoint_ejected", "Whether an endpoint has a pause because requests failed there.");
/// `{service, variant, endpoint}`
pub const ENDPOINT_EJECTIONS: Metric =
    counter("tidegate_endpoint_ejections_total", "How often an endpoint was ejected.");
/// `{service}`
pub const ROLLOUT_STAGE: Metric = gauge(
    "tidegate_rollout_stage",
    "The stage a rollout is in, from 1; 0 before its first and after its last.",
);
/// `{service, gate}`
pub const GATE_EVIDENCE: Metric =
    gauge("tidegate_gate_evidence", "How much speaks against the candidate, by gate; 1 is nothing.");
/// `{service, verdict}`
pub const VERDICTS: Metric = counter("tidegate_verdicts_total", "Verdicts on candidates, one a second.");
/// `{service}`
pub const EXCESS_FAILURES: Metric = counter(
    "tidegate_excess_failures_total",
    "Failures of candidates beyond what stable would have had of the same traffic.",
);
/// `{service}`
pub const LAUNCH_RUNNING: Metric = gauge("tidegate_launch_running", "Whether a launch of the service runs.");
/// `{service}`
pub const LAUNCH_UNATTENDED: Metric =
    gauge("tidegate_launch_unattended", "Whether a launch of the service runs and nobody attends to it.");
/// `{service}`
pub const LAUNCH_STOPPED: Metric =
    gauge("tidegate_launch_stopped", "Whether a launch of the service runs and is being undone.");
/// no labels
pub const GENERATION: Metric = gauge("tidegate_generation", "The number of the routing table in force.");
/// no labels
pub const STATE_UNSAVED: Metric =
    gauge("tidegate_state_unsaved", "Whether a change is in force that the disk does not have yet.");
/// no labels
pub const PREDECESSORS: Metric =
    gauge("tidegate_predecessors", "Processes from before an upgrade that still hold something.");
/// no labels
pub const PREDECESSOR_TUNNELS: Metric =
    gauge("tidegate_predecessor_tunnels", "Open tunnels in processes from before an upgrade.");
/// no labels
pub const PREDECESSOR_REQUESTS: Metric =
    gauge("tidegate_predecessor_requests", "Other open requests in processes from before an upgrade.");
/// `{version}`
pub const BUILD_INFO: Metric = gauge("tidegate_build_info", "Which Tidegate this is.");
/// no labels
pub const CONNECTIONS_ACCEPTED: Metric =
    counter("tidegate_connections_accepted_total", "Client connections accepted.");
/// no labels
pub const CONNECTIONS_OPEN: Metric = gauge("tidegate_connections_open", "Client connections open now.");
/// `{reason}`
pub const CONNECTIONS_REFUSED: Metric = counter(
    "tidegate_connections_refused_total",
    "Client connections that were turned away or ended for what they did, by reason.",
);
/// `{listener, name}`
pub const CERTIFICATE_EXPIRY: Metric = gauge(
    "tidegate_certificate_expiry_timestamp_seconds",
    "When a certificate in use expires, in seconds since 1970.",
);
/// `{code}`
pub const UNROUTED: Metric =
    counter("tidegate_unrouted_requests_total", "Requests answered here because they reached no service.");
/// no labels
pub const SHED: Metric =
    counter("tidegate_shed_total", "Requests and connections turned away because there were too many.");
/// `{limit}`, of a service's `{service, limit}`
pub const LIMIT_HITS: Metric = counter(
    "tidegate_limit_hits_total",
    "How often a bound or a deadline was hit, by its key in the configuration.",
);
/// `{reason}`
pub const COOKIES_IGNORED: Metric =
    counter("tidegate_cookies_ignored_total", "Cookies of our name that were not believed.");
/// no labels
pub const OVERRIDES_REFUSED: Metric =
    counter("tidegate_overrides_refused_total", "Requests for a variant without the right secret.");
/// no labels
pub const ACCESS_LOG_DROPPED: Metric =
    counter("tidegate_access_log_dropped_total", "Access log lines that were not written.");

/// `{result}`: ok or error
pub const CERTIFICATE_RELOADS: Metric =
    counter("tidegate_certificate_reloads_total", "Certificate files that changed and were read again.");
/// `{kind}`: shift, kill, arm, …
pub const COMMITS: Metric = counter("tidegate_commits_total", "Changes that were put into force.");
/// `{result}`: ok or error
pub const SAVES: Metric = counter("tidegate_saves_total", "Attempts to save the state.");
/// no labels
pub const SAVE_DURATION: Metric =
    histogram("tidegate_save_duration_seconds", "How long saving the state took, to the disk.");
/// no labels
pub const AUDIT_DROPPED: Metric =
    counter("tidegate_audit_dropped_total", "Audit log entries that could not be written.");
/// `{result}`: ok or error
pub const HEALTH_CHECKS: Metric =
    counter("tidegate_health_checks_total", "Active health checks of endpoints.");
/// `{result}`: ok or error
pub const NAME_LOOK_UPS: Metric = counter(
    "tidegate_name_look_ups_total",
    "Look-ups of endpoints' names; after an error, old addresses stay.",
);
/// no labels
pub const ADDRESSES_LEFT_OUT: Metric = counter(
    "tidegate_name_addresses_left_out_total",
    "Addresses of endpoints' names that were left out of an answer because there were too many.",
);
/// `{code}`
pub const ADMIN_REQUESTS: Metric =
    counter("tidegate_admin_requests_total", "Requests to the admin socket by status code.");

/// What control counts through the `metrics` macros; everything else is rendered from the tally.
pub const CONTROL: [Metric; 9] = [
    COMMITS,
    SAVES,
    SAVE_DURATION,
    AUDIT_DROPPED,
    HEALTH_CHECKS,
    NAME_LOOK_UPS,
    ADDRESSES_LEFT_OUT,
    ADMIN_REQUESTS,
    CERTIFICATE_RELOADS,
];

impl Kind {
    /// The word after `# TYPE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}
