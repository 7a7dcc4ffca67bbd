//! The words of launches, as they are written.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};

use crate::cli::args::{Claim, Reach};
use crate::config::launch::PRESETS;

#[derive(Debug, Args)]
pub(in crate::cli) struct Launch {
    #[command(subcommand)]
    pub(in crate::cli) verb: LaunchVerb,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum LaunchVerb {
    /// Show what a launch file would do, how long a rollback may take, and what speaks against a start
    Plan(Plan),
    /// Run a launch to its end: `-f launch.yaml`, or one that is on the book
    Start(Start),
    /// Show where a launch stands
    Status(Status),
    /// Go on with a launch that nobody attends to
    Resume(Resume),
    /// Undo a launch: everybody back, then its phases in reverse
    Rollback(Rollback),
    /// Sign an item of the checklist
    Sign(Sign),
    /// Say go or no-go
    Vote(Vote),
    /// Tell what happened, line by line
    Log(Log),
    /// Write down what a launch did, what traffic did meanwhile, and who said yes
    Report(Report),
    /// Show all launches, the newest first
    List(List),
    /// Write a launch file to begin with
    Init(Init),
    /// End a command with its runner
    #[command(hide = true)]
    Keep(Keep),
}

/// A launch file, and what it is read with.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct What {
    /// The service, instead of the file's
    #[arg(long, value_name = "SERVICE")]
    pub(in crate::cli) service: Option<String>,
    /// What ${NAME} stands for; by default what the environment says
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub(in crate::cli) set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Plan {
    /// The launch file; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// Put it on the daemon's book, so that it can be signed and voted on
    #[arg(long)]
    pub(in crate::cli) book: bool,
    #[command(flatten)]
    pub(in crate::cli) what: What,
    #[command(flatten)]
    pub(in crate::cli) claim: Claim,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

/// How the lines of a launch are shown.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(in crate::cli) struct Told {
    /// Times of this machine's zone instead of UTC
    #[arg(long)]
    pub(in crate::cli) local: bool,
    /// Also what comes by the clock: every minute's counts, the beginning of every check
    #[arg(long)]
    pub(in crate::cli) all: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Start {
    /// A launch that is on the book
    #[arg(value_name = "NAME", conflicts_with_all = ["file", "service", "set"])]
    pub(in crate::cli) name: Option<String>,
    /// The launch file; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) file: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) what: What,
    /// Also outside its window, or without signatures and votes; recorded
    #[arg(long = "override", requires = "reason")]
    pub(in crate::cli) overrides: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(in crate::cli) reason: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) told: Told,
    #[command(flatten)]
    pub(in crate::cli) claim: Claim,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Status {
    /// Which launch
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// Again every second, until `q` or until it is over
    #[arg(short, long)]
    pub(in crate::cli) watch: bool,
    /// Times of this machine's zone instead of UTC
    #[arg(long)]
    pub(in crate::cli) local: bool,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Resume {
    /// Which launch
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// Do a step again of which nobody knows whether it was done
    #[arg(long, conflicts_with = "undo")]
    pub(in crate::cli) redo: bool,
    /// Do not do it again: undo it, and the launch with it
    #[arg(long)]
    pub(in crate::cli) undo: bool,
    #[command(flatten)]
    pub(in crate::cli) told: Told,
    #[command(flatten)]
    pub(in crate::cli) claim: Claim,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Rollback {
    /// Which launch
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// Do an undo again of which nobody knows whether it was done
    #[arg(long)]
    pub(in crate::cli) redo: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) told: Told,
    #[command(flatten)]
    pub(in crate::cli) claim: Claim,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Sign {
    /// The launch, and the item: `shop-2.0.2 db-backup`
    #[arg(required = true, num_args = 1..=2, value_names = ["NAME", "ITEM"])]
    pub(in crate::cli) words: Vec<String>,
    /// In which role
    #[arg(long, value_name = "ROLE")]
    pub(in crate::cli) role: String,
    /// What proves it: a text or a link
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) evidence: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) claim: Claim,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Vote {
    /// The launch, and `go` or `no-go`
    #[arg(required = true, num_args = 1..=2, value_names = ["NAME", "VOTE"])]
    pub(in crate::cli) words: Vec<String>,
    /// In which role
    #[arg(long, value_name = "ROLE")]
    pub(in crate::cli) role: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) note: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) claim: Claim,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Log {
    /// Which launch
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// Go on as it happens, until it is over
    #[arg(short, long)]
    pub(in crate::cli) follow: bool,
    #[command(flatten)]
    pub(in crate::cli) told: Told,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    #[default]
    Markdown,
    Json,
    Html,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Report {
    /// Which launch
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// How it is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(in crate::cli) format: Format,
    /// Into this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Init {
    /// What kind of launch
    #[arg(long, value_name = "PRESET", value_parser = PossibleValuesParser::new(PRESETS))]
    pub(in crate::cli) preset: String,
    /// The service that it releases
    #[arg(long, value_name = "SERVICE", default_value = "shop")]
    pub(in crate::cli) service: String,
    /// The version that it brings
    #[arg(long, value_name = "VERSION", default_value = "1.0.0")]
    pub(in crate::cli) version: String,
    /// Into this file, which must not exist, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Keep {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(in crate::cli) words: Vec<OsString>,
}

/// If a daemon answers, its splits that nobody moves on are looked at, too.
#[derive(Debug, Args)]
pub(in crate::cli) struct Lint {
    /// Configurations, plans and launches
    #[arg(required = true, value_name = "FILE")]
    pub(in crate::cli) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) what: What,
    #[command(flatten)]
    pub(in crate::cli) reach: Reach,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("write NAME=VALUE instead of {text:?}")),
    }
}
