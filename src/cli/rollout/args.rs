//! The words of rollouts, as they are written.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::args::{Change, Claim, Reach};

#[derive(Debug, Args)]
pub(in crate::cli) struct Rollout {
    #[command(subcommand)]
    pub(in crate::cli) verb: RolloutVerb,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RolloutVerb {
    /// Begin: `start shop --schedule canary`, or `-f plan.yaml`
    Start(Start),
    /// Print what a schedule or a file compiles to, and what each stage could notice; changes nothing
    Plan(Plan),
    /// Show stage, evidence, verdict and what is waited for
    Status(Status),
    /// Stay at this weight; the gates stay armed
    Pause(Act),
    /// Go on
    Resume(Act),
    /// The next stage now; also gives an approval
    Advance(Act),
    /// The last stage now, and the roles swap
    Promote(Act),
    /// Back to last-known-good, now
    Rollback(Act),
    /// Tell what happened to its rollouts
    Log(Log),
    /// Compute every verdict of a recorded rollout again; exits with 1 if one differs
    Replay(Replay),
}

/// What a rollout does.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct What {
    /// canary, payment, aggressive, conservative, emergency, hourly or blue-green
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    pub(in crate::cli) schedule: Option<String>,
    /// A plan as YAML; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) file: Option<PathBuf>,
    /// The rollout's name, also the salt; by default the plan's own, or the version
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// The candidate's version; by default what was deployed
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) version: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Start {
    /// Which service
    pub(in crate::cli) service: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) what: What,
    /// Also while another rollout drives the service; that one is rolled back first
    #[arg(long)]
    pub(in crate::cli) take_over: bool,
    /// Return once it has ended: 0 if promoted, 4 if rolled back or paused by a gate
    #[arg(long)]
    pub(in crate::cli) wait: bool,
    #[command(flatten)]
    pub(in crate::cli) change: Change,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Plan {
    /// Which service
    pub(in crate::cli) service: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) what: What,
    /// The configuration file whose names are meant, instead of the running daemon's
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Status {
    /// Only this service; by default all with a rollout
    pub(in crate::cli) service: Option<String>,
    /// Again every second, until `q`
    #[arg(short, long)]
    pub(in crate::cli) watch: bool,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Act {
    /// Which service
    pub(in crate::cli) service: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) change: Change,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Log {
    /// Which service
    pub(in crate::cli) service: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Replay {
    /// The record, one JSON object a line; `-` reads standard input
    pub(in crate::cli) file: PathBuf,
    /// Print what was found as one JSON object
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Freeze {
    /// Whether advances stop
    pub(in crate::cli) state: OnOff,
    /// Which services
    #[arg(value_name = "SERVICE")]
    pub(in crate::cli) services: Vec<String>,
    /// Every service
    #[arg(long, conflicts_with = "services")]
    pub(in crate::cli) all: bool,
    #[command(flatten)]
    pub(in crate::cli) change: Change,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum OnOff {
    On,
    Off,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Signal {
    /// The service, and the alarm's name: `shop db_corruption`
    #[arg(required = true, num_args = 1..=2, value_names = ["SERVICE", "NAME"])]
    pub(in crate::cli) words: Vec<String>,
    /// Roll back and lock, instead of stopping advances
    #[arg(long)]
    pub(in crate::cli) critical: bool,
    #[command(flatten)]
    pub(in crate::cli) claim: Claim,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Metric {
    #[command(subcommand)]
    pub(in crate::cli) verb: MetricVerb,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum MetricVerb {
    /// Give a gate of the running rollout a value
    Push(Push),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Push {
    /// The service, and the gate's name: `shop conversion`
    #[arg(required = true, num_args = 1..=2, value_names = ["SERVICE", "GATE"])]
    pub(in crate::cli) words: Vec<String>,
    /// The candidate's value
    #[arg(long, value_name = "NUMBER", value_parser = number, allow_negative_numbers = true)]
    pub(in crate::cli) candidate: f64,
    /// Stable's value, for gates that compare the two
    #[arg(long, value_name = "NUMBER", value_parser = number, allow_negative_numbers = true)]
    pub(in crate::cli) stable: Option<f64>,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("{text:?} is no number such as 0.98")),
    }
}
