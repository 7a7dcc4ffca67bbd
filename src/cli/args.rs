//! The command line as it is written.
//!
//! Values that mean something by themselves (shares, times, variants) are parsed here; what only means
//! something together (is the first word of `shift` a service or a share?) becomes one in [`super::order`].

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub(super) use super::launch::args::{Launch, Lint};
pub(super) use super::rollout::args::{Act, Freeze, Metric, Rollout, Signal};
use crate::config::parse_duration;
use clap::{ArgGroup, Args, Parser, Subcommand};

/// Moves traffic from one version of an app to the next by degrees, and back at once.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100, after_help = AFTER_HELP, subcommand_required = true)]
pub(super) struct CommandLine {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

const AFTER_HELP: &str = "\
The service may be left out when there is only one, and so may a launch.
Exit codes: 0 done · 1 failed · 2 usage or invalid config · 3 conflict, locked, or somebody has to \
choose · 4 not in time, or a rollout that was waited for did not go through · 5 no daemon reachable · \
6 a launch was rolled back · 7 its rollback failed. For probes, `healthcheck` knows 0 and 1 only; \
`lint` ends with 1 if it found something.";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Start the proxy
    Run(Run),
    /// Check a configuration without starting anything
    Check(Check),
    /// Start a proxy with two built-in apps and a gentle load, to play with
    Demo(Demo),
    /// Show blue and green side by side
    Status(Status),
    /// Set the candidate's share: `shop 25%`, or `shop=25% cart=10%`
    Shift(Shift),
    /// Copy requests of a share of visitors to the candidate, unseen: `shop 10%`, or `shop off`
    Mirror(Mirror),
    /// Send everybody to stable, now, and lock
    Kill(Kill),
    /// Remove locks; moves no traffic
    Arm(Arm),
    /// Fill the candidate, at 0 %, with a new version
    Deploy(Deploy),
    /// Bring endpoints in, take them out, or let them rest
    Endpoint(Endpoint),
    /// Print which variant is the candidate
    Candidate(Candidate),
    /// Say what recent failures have in common; or where a visitor goes, and why
    Explain(Explain),
    /// Move traffic by a plan, under gates
    Rollout(Rollout),
    /// Run a whole release: phases in order, each undone in reverse when one fails
    Launch(Launch),
    /// Name well-known mistakes in configurations, plans and launches, with their cure
    Lint(Lint),
    /// Back to last-known-good, now: 0 %, or the roles as they were before the last promotion
    Rollback(Act),
    /// Stop all advances, or let them go on; gates stay armed
    Freeze(Freeze),
    /// Send an alarm: a critical one rolls back, others freeze
    Signal(Signal),
    /// Give gates their values
    Metric(Metric),
    /// Show who did what
    Events(Events),
    /// Let open requests end, then stop
    Stop(Stop),
    /// Read the configuration file again
    Reload(Reload),
    /// Start the binary anew and pass everything on to it, without losing a request
    Upgrade(Upgrade),
    /// Exit with 0 if the daemon answers and is not stopping, else (not reachable, too) with 1
    Healthcheck(Healthcheck),
    /// Make a cookie that sends a tester to a variant
    Override(Override),
    /// Show how often gates are wrong, and how quick, on simulated traffic
    Simulate(Simulate),
}

#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// Where chance begins; the same seed gives the same figures
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) seed: u64,
    /// Runs of each kind of traffic, 1 to 1000000
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) runs: u32,
    /// Fewer runs, done within seconds: a target is missed only if that cannot be chance
    #[arg(long, conflicts_with = "runs")]
    pub(super) quick: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// How a running daemon is reached.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Reach {
    /// The admin socket; without it, the only daemon that answers
    #[arg(long, env = "TIDEGATE_SOCKET", value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Print the API's JSON
    #[arg(long)]
    pub(super) json: bool,
    /// For how long to wait, such as 300ms or 60s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) timeout: Option<Duration>,
}

/// Who says so, for the audit log.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Claim {
    /// On whose behalf
    #[arg(long = "as", value_name = "WHO")]
    pub(super) claimed: Option<String>,
}

/// What goes with every change.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Change {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) claim: Claim,
    #[command(flatten)]
    pub(super) once: Once,
}

/// What makes a repeated command have one effect.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Once {
    /// However often it is repeated with this key, it has one effect
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    pub(super) idempotency_key: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The configuration file
    #[arg(short, long, env = "TIDEGATE_CONFIG", value_name = "FILE")]
    pub(super) config: PathBuf,
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

/// What wins over the configuration file.
#[derive(Debug, Args)]
pub(super) struct Overrides {
    /// Where clients connect, such as :8080; several with commas
    #[arg(long, env = "TIDEGATE_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    pub(super) listen: Vec<String>,
    /// The state folder
    #[arg(long, env = "TIDEGATE_STATE", value_name = "FOLDER")]
    pub(super) state: Option<PathBuf>,
    /// The admin socket
    #[arg(long, env = "TIDEGATE_SOCKET", value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// The group that may use the admin socket
    #[arg(long, env = "TIDEGATE_GROUP", value_name = "NAME")]
    pub(super) group: Option<String>,
    /// Where metrics are served: an address, or `off`
    #[arg(long, env = "TIDEGATE_TELEMETRY", value_name = "ADDRESS")]
    pub(super) telemetry: Option<String>,
    /// How many worker threads; one per core by default
    #[arg(long, env = "TIDEGATE_THREADS", value_name = "COUNT")]
    pub(super) threads: Option<NonZeroUsize>,
    /// What the access log gets: `off`, `sampled` or `all`
    #[arg(long, env = "TIDEGATE_ACCESS_LOG", value_name = "WHAT")]
    pub(super) access_log: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file
    #[arg(short, long, env = "TIDEGATE_CONFIG", value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Print what was found as one JSON object
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Demo {
    /// The proxy's port; the other ports and the socket follow it
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: u16,
    #[command(subcommand)]
    pub(super) verb: Option<DemoVerb>,
}

#[derive(Debug, Subcommand)]
pub(super) enum DemoVerb {
    /// Make green misbehave
    Break(Break),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("how").args(["errors", "latency"]).multiple(true).required(true))]
pub(super) struct Break {
    /// The share of requests that green answers with 500, such as 5%
    #[arg(long, value_name = "SHARE")]
    pub(super) errors: Option<crate::traffic::Weight>,
    /// How much longer green takes, such as 200ms
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) latency: Option<Duration>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Only this service
    pub(super) service: Option<String>,
    /// Again every second, until `q`
    #[arg(short, long)]
    pub(super) watch: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Shift {
    /// `SERVICE SHARE`, `SHARE`, or any number of `SERVICE=SHARE`
    #[arg(required = true, value_name = "SERVICE=SHARE")]
    pub(super) words: Vec<String>,
    /// Only if no named service changed after this generation
    #[arg(long, value_name = "N")]
    pub(super) if_generation: Option<u64>,
    /// Also up while a rollout drives a service; that ends the rollout
    #[arg(long)]
    pub(super) take_over: bool,
    /// Return once nothing is in flight that was assigned before
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) change: Change,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Mirror {
    /// `SERVICE SHARE`, `SHARE`, or any number of `SERVICE=SHARE`; `off` is 0%
    #[arg(required = true, value_name = "SERVICE=SHARE")]
    pub(super) words: Vec<String>,
    /// Only if no named service changed after this generation
    #[arg(long, value_name = "N")]
    pub(super) if_generation: Option<u64>,
    #[command(flatten)]
    pub(super) change: Change,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Kill {
    /// Which services
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
    /// Every service
    #[arg(long, conflicts_with = "services")]
    pub(super) all: bool,
    /// Return once nothing is in flight that was assigned before
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) change: Change,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Arm {
    /// Which services
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
    /// Every locked service
    #[arg(long, conflicts_with = "services")]
    pub(super) all: bool,
    /// What was found out
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(super) note: String,
    #[command(flatten)]
    pub(super) claim: Claim,
    #[command(flatten)]
    pub(super) once: Once,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// The service, then where the new version listens: `shop http://10.0.0.21:3000`
    #[arg(required = true, value_name = "SERVICE | URL")]
    pub(super) words: Vec<String>,
    /// The new version's label
    #[arg(long, value_name = "VERSION")]
    pub(super) version: Option<String>,
    /// Return once one of its endpoints is healthy
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) change: Change,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// What is under way at an endpoint is never cut.
#[derive(Debug, Args)]
pub(super) struct Endpoint {
    #[command(subcommand)]
    pub(super) verb: EndpointVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum EndpointVerb {
    /// Bring endpoints in; with --wait, return once all are healthy
    Add(AddEndpoint),
    /// Take endpoints out; with --wait, return once nothing is under way there
    Remove(Endpoints),
    /// Send endpoints nothing new, but keep them; with --wait, return once nothing is under way there
    Drain(Endpoints),
    /// Send drained endpoints something again; with --wait, return once all are healthy
    Undrain(Endpoints),
}

#[derive(Debug, Args)]
pub(super) struct AddEndpoint {
    /// The share of each among the variant's others, 1 to 1000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) weight: Option<u16>,
    #[command(flatten)]
    pub(super) endpoints: Endpoints,
}

#[derive(Debug, Args)]
pub(super) struct Endpoints {
    /// The service, the variant, then where the endpoints listen: `shop green http://10.0.0.22:3000`
    #[arg(required = true, value_name = "SERVICE | VARIANT | URL")]
    pub(super) words: Vec<String>,
    /// Also where that leaves users with nobody to answer them, or changes a weight
    #[arg(long)]
    pub(super) force: bool,
    /// Only if the service did not change after this generation
    #[arg(long, value_name = "N")]
    pub(super) if_generation: Option<u64>,
    /// Return once it has taken effect in full
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) change: Change,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Candidate {
    /// Which service
    pub(super) service: Option<String>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// Without a user or a visitor: what the failures of late have in common.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("subject").args(["user", "visitor"]))]
pub(super) struct Explain {
    /// Which service
    pub(super) service: Option<String>,
    /// The key that the service recognises a user by
    #[arg(long, value_name = "KEY")]
    pub(super) user: Option<String>,
    /// The visitor's id, as in the access log
    #[arg(long, value_name = "ID")]
    pub(super) visitor: Option<String>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Events {
    /// How many of the last, 0 to 1000
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(super) last: u32,
    /// Go on as they happen
    #[arg(short, long)]
    pub(super) follow: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Stop {
    /// Without waiting for open requests
    #[arg(long)]
    pub(super) now: bool,
    /// Return once it has stopped
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) claim: Claim,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Reload {
    /// Only say what would change
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Let go of all changes to endpoints that were made at run time
    #[arg(long)]
    pub(super) discard_overlay: bool,
    #[command(flatten)]
    pub(super) claim: Claim,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// `--timeout` is for the new process to be ready; 30s by default, up to 10m.
#[derive(Debug, Args)]
pub(super) struct Upgrade {
    /// Another binary than the one at the path that the daemon was started from; for root and the daemon's user
    #[arg(long, value_name = "PATH")]
    pub(super) binary: Option<PathBuf>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) claim: Claim,
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    pub(super) reach: Reach,
}

#[derive(Debug, Args)]
pub(super) struct Override {
    /// The service, and where the tester goes: `shop green`
    #[arg(required = true, num_args = 1..=2, value_names = ["SERVICE", "VARIANT"])]
    pub(super) words: Vec<String>,
    /// For how long, 1s to 7d
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub(super) span: Duration,
    #[command(flatten)]
    pub(super) claim: Claim,
    #[command(flatten)]
    pub(super) reach: Reach,
}

fn idempotency_key(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("an idempotency key cannot be empty".to_owned()),
        129.. => Err("an idempotency key has at most 128 bytes".to_owned()),
        _ if text.chars().any(char::is_control) => {
            Err("an idempotency key has no control characters".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}
