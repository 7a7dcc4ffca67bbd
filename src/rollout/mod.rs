//! Rollouts: plans of rising exposure, the gates that watch them, and the machine that decides.
//!
//! Everything here is pure: time, evidence and chance are arguments. So the same code decides on live
//! traffic, in `tidegate simulate` and in `tidegate rollout replay`, and it decides the same.
//!
//! ```text
//!   Plan ──▶ Rollout ◀── take(Act) ─┬─ people
//!               │                   │
//!   Evidence ─▶ Guard ── Tick ──────┘ its own steps
//!               └ Judge
//! ```
//!
//! [`Rollout`] is what is saved with the desired state: it changes only at transitions. [`Guard`] holds clocks and
//! evidence: it changes with every tick, is checkpointed apart, and starting it anew only makes it see a
//! shorter time.

mod act;
mod check;
mod decide;
mod evidence;
mod guard;
mod judge;
mod lint;
mod machine;
mod mistake;
mod per_role;
mod plan;
mod record;
mod schedule;
mod sentences;
#[cfg(test)]
mod storm_tests;
mod verdict;
mod view;
mod windows;

pub use crate::wording::{grouped, span};
pub use act::{Act, Circumstances, Effect, Refusal, Shift, Step, Verb};
pub use evidence::{Count, Evidence, Mirrored, QUANTILES, Reading, Signal, Stratum, StratumEvidence};
pub use guard::{Guard, News, TICK_COUNTED_MAX, Tick, Told, Until, Waiting};
pub use judge::foresight::{Foresight, foresee};
pub use judge::{Finding, Judge, Moment};
pub use lint::{lint, lint_gates};
pub use machine::{Ending, GuardMode, Moving, Phase, Rollout, Stop};
pub use mistake::{Mistake, Severity};
pub use per_role::PerRole;
pub use plan::{
    BusinessGate, Compare, Confirms, ErrorsGate, Gates, HealthGate, Hold, LatencyGate, MetricGate,
    MetricSource, OnFail, OnInconclusive, Plan, PlanError, RatioGate, Slo, Stage,
};
pub use record::{Difference, Line, ReplayError, Replayed, replay};
pub use schedule::{SCHEDULES, schedule};
pub use verdict::{Failure, GateReading, Verdict, Wait};
pub use view::{Freeze, View};
pub use windows::{Window, Windows, is_zone, next_time_of_day};
