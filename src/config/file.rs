//! The file, key by key. The comments here are what an editor shows through the JSON Schema.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::endpoints::GrpcService;
use super::outside::{AlertsFile, ChannelFile, HookFile, SourceFile};
use super::plan::{GatesFile, Name, PlanFile, Ratio, SloFile, Statuses, Text};
use super::retries::{Attempts, Number, PerhapsTime, RetryEvent};
use super::scalar::{
    Bytes, CheckPath, ClientAuthMode, Compared, Count, Fact, ListenAddress, LogMode, LongTime, MirrorMethod,
    RedirectPort, SecretSource, Switch, TelemetryAddress,
};
use super::written::{List, Named, Never, Short, Written};
use crate::proxy::{ForwardedHeader, TlsVersion};
use crate::rollout::GuardMode;
use crate::routing::{HostPattern, PathPrefix, RetryMethods, UpgradeToken, UserKey, WhenUnhealthy};
use crate::traffic::{By, Otherwise, Variant, Weight};
use crate::upstream::{EndpointUrl, MaxEjected, Policy, Protocol};

/// Tidegate's configuration.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tidegate")]
pub(super) struct ConfigFile {
    /// Where clients connect: :PORT for every address of the machine, or IP:PORT; one or a list. Default :8080.
    pub(super) listen: Option<Short<ListenAddress, ListenFile, Never>>,
    /// Worker threads. Default: one per core.
    pub(super) threads: Option<Written<Count>>,
    /// Proxies in front whose word about the client counts. Default: none.
    pub(super) trusted_proxies: Option<TrustedProxiesFile>,
    /// The admin socket.
    pub(super) admin: Option<AdminFile>,
    /// Where /metrics, /livez and /readyz are served, or off. Default 127.0.0.1:9900.
    pub(super) telemetry: Option<Written<TelemetryAddress>>,
    /// The access log.
    pub(super) access_log: Option<AccessLogFile>,
    /// The state folder. Default /var/lib/tidegate for root, ~/.local/state/tidegate for others.
    pub(super) state: Option<Written<PathBuf>>,
    /// The visitor cookie.
    pub(super) cookie: Option<CookieFile>,
    /// Deadlines toward clients.
    pub(super) timeouts: Option<ClientTimeoutsFile>,
    /// Bounds on what clients send.
    pub(super) limits: Option<ClientLimitsFile>,
    /// Sets of gates by name, which services and plans refer to with tier.
    pub(super) tiers: Option<Named<GatesFile, true>>,
    /// What can be asked for a yes, by name.
    pub(super) hooks: Option<Named<Option<HookFile>, true>>,
    /// Where metrics are asked for, by name.
    pub(super) sources: Option<Named<Option<SourceFile>, true>>,
    /// Who is told about rollouts, by name.
    pub(super) notify: Option<Named<Option<ChannelFile>, true>>,
    /// What alerts that are sent to Tidegate do. Default: nobody may send any.
    pub(super) alerts: Option<AlertsFile>,
    /// What holds for all launches.
    pub(super) launches: Option<LaunchesFile>,
    /// The services by name: lower-case letters, digits and -, at most 63.
    pub(super) services: Option<Named<Option<ServiceFile>>>,
}

/// What holds for all launches.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LaunchesFile {
    /// Who may sign and vote in which role: names of users, one or a list; a role without names is everybody's. Launches
    /// can name no other roles. Default: any role, and everybody in each.
    pub(super) roles: Option<Named<Option<List<Text>>, true>>,
}

pub(super) type ListenFile = Short<ListenAddress, Never, ListenLong>;

/// A listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenLong {
    /// :PORT or IP:PORT.
    pub(super) address: Written<ListenAddress>,
    /// Certificates with their keys, or all about TLS. HTTP/2 and HTTP/1.1 are offered. Default: clients speak in the
    /// clear.
    pub(super) tls: Option<Short<Never, CertificateFile, TlsFile>>,
    /// The load balancers that begin every connection with a PROXY header (version 1 or 2). Default: none.
    pub(super) proxy_protocol: Option<ProxyProtocolFile>,
    /// Sends every request to https: true for port 443, or a port. Default false.
    pub(super) redirect_https: Option<Written<RedirectPort>>,
    /// Tells browsers to come by https alone, for so long, such as 365d. Default: they are not told.
    pub(super) hsts: Option<Short<LongTime, Never, HstsFile>>,
}

/// A certificate and its key. Both are read again when they change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateFile {
    /// PEM: the certificate, followed by those that lead to its authority.
    pub(super) cert: Written<PathBuf>,
    /// PEM: its private key, not encrypted.
    pub(super) key: Written<PathBuf>,
}

/// All about TLS.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsFile {
    /// By the host that a client asks for, exactly, then by wildcard; the first for all others.
    pub(super) certificates: Option<Short<Never, CertificateFile, Never>>,
    /// PEM: the authorities that client certificates are believed from. Default: clients are not asked for any.
    pub(super) client_ca: Option<Written<PathBuf>>,
    /// Whether clients must show a certificate: required or optional. Default required, with client_ca.
    pub(super) client_auth: Option<Written<ClientAuthMode>>,
    /// The oldest version that is spoken: 1.2 or 1.3. Default 1.2.
    pub(super) min_version: Option<Written<TlsVersion>>,
}

/// Load balancers that say who connected to them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyProtocolFile {
    /// Their networks or addresses, one or a list. They must send the header; others must not.
    pub(super) from: Option<List<IpNet>>,
}

/// HTTP Strict Transport Security (RFC 6797).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HstsFile {
    /// How long browsers remember it, such as 365d; 0s makes them forget.
    pub(super) max_age: Written<LongTime>,
    /// Whether it holds for all hosts below, too. Default false.
    pub(super) include_subdomains: Option<Written<bool>>,
    /// Whether browsers may ship with it. Default false; it is hard to take back.
    pub(super) preload: Option<Written<bool>>,
}

/// Proxies in front.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustedProxiesFile {
    /// Their networks or addresses; one or a list.
    pub(super) from: Option<List<IpNet>>,
    /// The one header that they set; all others are dropped and rebuilt. Default x-forwarded-for.
    pub(super) header: Option<Written<ForwardedHeader>>,
}

/// The admin socket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminFile {
    /// The unix socket. Default /run/tidegate/admin.sock for root; for others tidegate/admin.sock in the runtime folder, or
    /// admin.sock in /tmp/tidegate-UID.
    pub(super) socket: Option<Written<PathBuf>>,
    /// The group that may use it. Default: only the user that Tidegate runs as, and root.
    pub(super) group: Option<Written<String>>,
}

/// The access log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessLogFile {
    /// Whether requests are logged. Default off.
    pub(super) write: Option<Written<LogMode>>,
    /// The share of requests that write: sampled logs. Default 1%.
    pub(super) share: Option<Written<Weight>>,
    /// Where lines are appended. Default: standard output.
    pub(super) file: Option<Written<PathBuf>>,
    /// Whether query strings are logged. Default false: they often hold what no log should.
    pub(super) query: Option<Written<bool>>,
}

/// The visitor cookie.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CookieFile {
    /// Where the keys are, file:PATH or env:NAME, at least 32 bytes each; the first signs, all verify.
    /// Default: one is generated into the state folder.
    pub(super) keys: Option<List<SecretSource>>,
}

/// Deadlines toward clients.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientTimeoutsFile {
    /// From the connection accepted to the first byte of its first request, PROXY header and TLS included. Default 10s.
    pub(super) handshake: Option<Written<Duration>>,
    /// From a request's first byte to its complete head. Default 10s.
    pub(super) head: Option<Written<Duration>>,
    /// Between two requests of a connection. Default 75s.
    pub(super) keep_alive_idle: Option<Written<Duration>>,
    /// How long open requests may go on after a stop was asked for. Default 30s.
    pub(super) drain: Option<Written<Duration>>,
    /// How long the old process may keep tunnels and other long streams after an upgrade. Default 12h, at most 168h.
    pub(super) handover: Option<Written<Duration>>,
    /// How long open streams of a variant may go on after it was killed. Default 10s.
    pub(super) grace: Option<Written<Duration>>,
}

/// Bounds on what clients send.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientLimitsFile {
    /// A request's head. Default 32KiB, at least 8KiB.
    pub(super) head: Option<Written<Bytes>>,
    /// A request's header fields. Default 100.
    pub(super) fields: Option<Written<Count>>,
    /// A request's path and query. Default 8KiB.
    pub(super) uri: Option<Written<Bytes>>,
    /// Streams at once on an HTTP/2 connection, at most 10000. Default 100.
    pub(super) h2_streams: Option<Written<Count>>,
    /// Client connections at once. Default: as many as a good half of the file descriptors allow.
    pub(super) connections: Option<Written<Count>>,
    /// Client connections at once from one address, or one /64 of IPv6; trusted proxies apart. Default: unlimited.
    pub(super) connections_per_address: Option<Written<Count>>,
    /// Requests on one connection, then it is ended in good order. Default: unlimited.
    pub(super) requests_per_connection: Option<Written<Count>>,
    /// Requests at once in all, streams of HTTP/2 and tunnels among them; others get 503. Default: as many as there are
    /// file descriptors.
    pub(super) requests: Option<Written<Count>>,
}

/// A service: one application behind the proxy, in two variants.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceFile {
    /// The hosts it is for, one or a list: a name, *.NAME, or * for any. Default: any.
    pub(super) host: Option<List<HostPattern>>,
    /// The path at and below which it is for its hosts, by whole segments. Default /.
    pub(super) path: Option<Written<PathPrefix>>,
    /// The variant that is stable at first. Default blue.
    pub(super) stable: Option<Written<Variant>>,
    /// Blue: an endpoint, a list of them, or all about it.
    pub(super) blue: Option<VariantFile>,
    /// Green: an endpoint, a list of them, or all about it.
    pub(super) green: Option<VariantFile>,
    /// How endpoints are checked; blue and green may say something else.
    pub(super) health: Option<HealthFile>,
    /// How requests are spread over the endpoints of a variant: least_requests, round_robin, or all about it. Default
    /// least_requests.
    pub(super) balance: Option<BalanceFile>,
    /// When endpoints get a pause for requests that fail there, or off. Gates see those failures all the same. Default on.
    pub(super) ejection: Option<Switched<EjectionFile>>,
    /// How visitors are split between the variants.
    pub(super) split: Option<SplitFile>,
    /// How testers choose their variant. Default: they cannot.
    #[serde(rename = "override")]
    pub(super) tester: Option<OverrideFile>,
    /// Who is told what.
    pub(super) tell: Option<TellFile>,
    /// Deadlines toward endpoints.
    pub(super) timeouts: Option<TimeoutsFile>,
    /// How requests are tried again: off, or what and how often. Default: twice, if no connection came about, or it broke
    /// before the response head and the method may be repeated.
    pub(super) retries: Option<RetriesFile>,
    /// Bounds on requests.
    pub(super) limits: Option<LimitsFile>,
    /// What a connection may change to, one or a list: a protocol's name, or NAME/VERSION; [] for nothing. Default
    /// websocket. Requests for others go on as if they had not asked.
    pub(super) upgrades: Option<List<UpgradeToken>>,
    /// How requests are copied to the candidate, which nobody gets an answer of. Default: they are not.
    pub(super) mirror: Option<Short<Weight, Never, MirrorFile>>,
    /// What happens when a gate fails after a shift by hand: rollback (what the gate says), notify (people are told, nothing
    /// else) or off. Default rollback.
    pub(super) guard: Option<Written<GuardMode>>,
    /// The set of gates, as tiers names it. Default: Tidegate's own.
    pub(super) tier: Option<Written<Name>>,
    /// What is watched while the candidate has weight; what is not written stays as it is in the tier. none: nothing is.
    pub(super) gates: Option<GatesFile>,
    /// The share of requests that may not fail: 99.9%. Default none.
    pub(super) slo: Option<SloFile>,
    /// How `tidegate rollout start` goes about it: a schedule's name, or a plan. Default canary.
    pub(super) rollout: Option<RolloutFile>,
}

pub(super) type RolloutFile = Short<Name, Never, Box<PlanFile>>;

pub(super) type VariantFile = Short<EndpointUrl, EndpointFile, VariantLong>;

/// A variant.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VariantLong {
    /// Its endpoints. The candidate may do without the key until something is deployed to it.
    pub(super) endpoints: Option<Short<EndpointUrl, EndpointFile, Never>>,
    /// How its https:// endpoints are spoken to, also those that are added later. Default: they prove their URL's host
    /// to whom this machine trusts.
    pub(super) tls: Option<EndpointTlsFile>,
    /// What its endpoints speak: http1, or h2 for gRPC: by prior knowledge with http:// and unix:, by ALPN with https://.
    /// Default http1.
    pub(super) protocol: Option<Written<Protocol>>,
    /// A label for people, such as 2.0.1.
    pub(super) version: Option<Written<String>>,
    /// What its requests get while none of its endpoints is healthy: spill (stable answers) or fail (503).
    /// Default spill for the candidate; stable never spills.
    pub(super) when_unhealthy: Option<Written<WhenUnhealthy>>,
    /// How its endpoints are checked; what stands here wins over the service's health. Default: as the service says.
    pub(super) health: Option<HealthFile>,
}

/// TLS toward endpoints.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointTlsFile {
    /// A file with the certificates, in PEM, of who may vouch for endpoints. Default: those that this machine trusts.
    pub(super) ca: Option<Written<PathBuf>>,
    /// The name that endpoints must prove, and that they are asked for (SNI). Default: the host of their URL.
    pub(super) server_name: Option<Written<String>>,
    /// A file with our certificate, in PEM, for endpoints that ask who we are; with what leads to its root.
    pub(super) cert: Option<Written<PathBuf>>,
    /// The file with its private key, in PEM.
    pub(super) key: Option<Written<PathBuf>>,
    /// Whether endpoints must prove who they are. Default true; without, whoever is in between reads and changes all.
    pub(super) verify: Option<Written<bool>>,
}

pub(super) type EndpointFile = Short<EndpointUrl, Never, EndpointLong>;

/// An endpoint.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointLong {
    /// http://HOST:PORT, port 80 unless given; https://HOST:PORT, port 443 unless given; or unix:/PATH of a socket.
    pub(super) url: Written<EndpointUrl>,
    /// Its share among the endpoints of its variant, 1 to 1000. Default 1. It never moves the split.
    pub(super) weight: Option<Written<Count>>,
}

/// How endpoints are checked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthFile {
    /// What is asked for with GET. Default: a connection must be accepted.
    pub(super) path: Option<Written<CheckPath>>,
    /// The statuses that pass, one or a list: 200-399, 2xx, 204. Default 200-399.
    pub(super) expect: Option<List<Statuses>>,
    /// Asks by gRPC (grpc.health.v1.Health/Check) instead, for this service; "" for the server as a whole. It takes
    /// protocol: h2. Default: not by gRPC.
    pub(super) grpc: Option<Written<GrpcService>>,
    /// From one check to the next. Default 2s.
    pub(super) interval: Option<Written<Duration>>,
    /// How long an answer may take, at most the interval. Default 1s.
    pub(super) timeout: Option<Written<Duration>>,
    /// Passes in a row that make an unhealthy endpoint healthy. Default 2.
    pub(super) up: Option<Written<Count>>,
    /// Failures in a row that make a healthy endpoint unhealthy. Default 3.
    pub(super) down: Option<Written<Count>>,
}

pub(super) type BalanceFile = Short<Policy, Never, BalanceLong>;

/// How requests are spread over the endpoints of a variant.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BalanceLong {
    /// least_requests (the less busy of two random ones) or round_robin. Default least_requests.
    pub(super) policy: Option<Written<Policy>>,
    /// How long an endpoint that has come back takes until it gets its full share. Default 0s: at once.
    pub(super) slow_start: Option<Written<Duration>>,
}

/// When endpoints get a pause for requests that fail there.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EjectionFile {
    /// Failures in a row on one thread: 5xx, no connection, a broken one, a missed deadline. Default 5.
    pub(super) failures: Option<Written<Count>>,
    /// Endpoints that fail far more often than their peers, or off. Default on.
    pub(super) success_rate: Option<Switched<SuccessRateFile>>,
    /// The first pause, and how much longer each further one is. So long without an ejection takes one off the count.
    /// Default 30s.
    pub(super) pause: Option<Written<Duration>>,
    /// The longest pause. Default 5m.
    pub(super) pause_max: Option<Written<Duration>>,
    /// How much of a variant may be out at once, unhealthy endpoints included, rounded down to whole ones: the only endpoint
    /// is never ejected. all: every one. Default 50%.
    pub(super) max_ejected: Option<Written<MaxEjected>>,
}

/// Endpoints that fail far more often than their peers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SuccessRateFile {
    /// How many standard deviations below the mean stand out. Default 1.9.
    pub(super) deviations: Option<Written<Ratio>>,
    /// Over how long. Default 10s.
    pub(super) interval: Option<Written<Duration>>,
    /// Requests that an endpoint needs in that time to be compared. Default 100.
    pub(super) requests: Option<Written<Count>>,
    /// Endpoints with so many requests that it takes to compare. Default 5.
    pub(super) endpoints: Option<Written<Count>>,
}

/// How visitors are split between the variants.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SplitFile {
    /// What a visitor is recognised by. Default cookie.
    pub(super) by: Option<Written<By>>,
    /// Where the user's key stands, one place or a list; the first that has one decides:
    /// header:NAME, cookie:NAME, query:NAME or client_addr.
    pub(super) user: Option<List<UserKey>>,
    /// What happens under by: user to a visitor without a key. Default cookie.
    pub(super) otherwise: Option<Written<Otherwise>>,
    /// Once on the candidate, always on the candidate, until the weight is 0. Default false.
    pub(super) ratchet: Option<Written<bool>>,
    /// The candidate's share at first. Default 0%.
    pub(super) initial_weight: Option<Written<Weight>>,
    /// How long the candidate's share may stay between 0 and 100% while no rollout moves it; then `status`, an event and
    /// `lint` say so. Nothing is moved. Default: for ever.
    pub(super) expires: Option<Written<Duration>>,
    /// Decides who is first: another salt, other people. Default: the service's name.
    pub(super) salt: Option<Written<String>>,
}

/// How testers choose their variant.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OverrideFile {
    /// The header that carries VARIANT:SECRET. Default x-tidegate-override.
    pub(super) header: Option<Written<HeaderName>>,
    /// Where the secret is, file:PATH or env:NAME; at least 16 bytes.
    pub(super) secret: Written<SecretSource>,
}

/// Who is told what.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TellFile {
    /// What the endpoint is told: variant (X-Tidegate-Variant), visitor (X-Tidegate-Visitor). Default [variant].
    pub(super) endpoint: Option<List<Fact>>,
    /// What the client is told: variant (X-Tidegate-Variant). Default nothing.
    pub(super) client: Option<List<Fact>>,
}

/// Deadlines toward endpoints.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeoutsFile {
    /// For a connection to be accepted. Default 2s.
    pub(super) connect: Option<Written<Duration>>,
    /// From the request's head written to the response's head read. Default 60s, or total if that is less.
    pub(super) first_byte: Option<Written<Duration>>,
    /// Between two pieces of a body, either way. Default 60s.
    pub(super) body_idle: Option<Written<Duration>>,
    /// While nothing moves through a tunnel, such as a WebSocket, either way. Default 1h.
    pub(super) tunnel_idle: Option<Written<Duration>>,
    /// From a request's head read to the last byte of its response; not less than first_byte. Not for tunnels, event streams and
    /// gRPC. Default: unlimited.
    pub(super) total: Option<Written<Duration>>,
    /// The same for tunnels, event streams and gRPC calls. Default: unlimited.
    pub(super) stream: Option<Written<Duration>>,
}

/// Copies of requests for the candidate, whose answers are compared and thrown away.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MirrorFile {
    /// The share of stable's visitors whose requests are copied, at first: 10%. `tidegate mirror` changes it. Default 0%.
    pub(super) share: Option<Written<Weight>>,
    /// What is copied: safe (GET, HEAD, OPTIONS), all, or methods, one or a list. What changes something happens twice!
    /// Default safe.
    pub(super) methods: Option<List<MirrorMethod>>,
    /// Requests with a larger body are not copied, at most 16MiB. Default 64KiB.
    pub(super) body: Option<Written<Bytes>>,
    /// How long a copy may take, its answer included, and before it the body of its request to come. Default 10s.
    pub(super) timeout: Option<Written<Duration>>,
    /// Copies under way at once, 1 to 10000; what does not fit is dropped. Default 128.
    pub(super) max_in_flight: Option<Written<Count>>,
    /// What of both answers is compared: status (always), latency, body (its first MiB). Default [status, latency].
    pub(super) compare: Option<List<Compared>>,
}

/// Bounds on requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsFile {
    /// The largest request body. Default: unlimited.
    pub(super) body: Option<Written<Bytes>>,
    /// Requests at once, to both variants together; others get 503, which no variant is charged with. Default: unlimited.
    pub(super) requests: Option<Written<Count>>,
    /// Requests, streams and tunnels at once on each endpoint. Each worker thread keeps to its part, rounded up: exact with
    /// one thread, up to threads - 1 beyond it with more. Default: unlimited.
    pub(super) max_in_flight: Option<Written<Count>>,
    /// Requests that wait for a place at each endpoint, first come, first served, split over the threads in the same way.
    /// Those beyond get 503. Default 0: nobody waits.
    pub(super) queue: Option<Written<Number>>,
    /// How long they wait, then they get 503. Default 5s.
    pub(super) queue_timeout: Option<Written<Duration>>,
}

/// `off`, or all about it.
pub(super) type Switched<T> = Short<Switch, Never, T>;

pub(super) type RetriesFile = Switched<RetriesLong>;

/// How requests are tried again, always inside their variant. What fails first is what counts for gates.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetriesLong {
    /// Attempts after the first one, 1 to 10. Default 2.
    pub(super) attempts: Option<Written<Attempts>>,
    /// What is tried again, one or a list: connect (no connection, or the endpoint has turned the request away unseen; any
    /// method), reset (the connection broke before the response head), a status from 500 to 599, grpc-unavailable (a gRPC
    /// call that is answered with UNAVAILABLE and nothing else; whatever the call does). Default [connect, reset].
    pub(super) on: Option<List<RetryEvent>>,
    /// What may be sent again after it may have been processed: idempotent (GET, HEAD, OPTIONS, PUT, DELETE) or safe (GET,
    /// HEAD, OPTIONS). Default idempotent.
    pub(super) methods: Option<Written<RetryMethods>>,
    /// The longest body that is kept to be sent again, at most 1MiB. Default 64KiB.
    pub(super) body: Option<Written<Bytes>>,
    /// Retries for each request of the variant, beside those that reached no endpoint. Default 20%.
    pub(super) budget: Option<Written<Weight>>,
    /// So many a second are allowed whatever the share says. Default 3.
    pub(super) budget_floor: Option<Written<Number>>,
    /// The longest pause before the first retry, at most 10s; it doubles with each, up to ten times this, and is drawn at
    /// random. Default 25ms.
    pub(super) backoff: Option<Written<Duration>>,
    /// How long an attempt waits for its response head before another one may follow, or none. Default none.
    pub(super) per_try: Option<Written<PerhapsTime>>,
}
