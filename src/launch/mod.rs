//! Launches: a whole release as phases in order, each with conditions, undone in reverse when one fails.
//!
//! Pure. A [`Launch`] says what is to happen, with every default filled in. A [`Ledger`] says what has happened: it is the sum of
//! numbered [`Record`]s, and [`Run::next`] says what comes next. Who runs commands (a *runner*, where the operator's rights are) and who
//! keeps the records (the daemon) both go by the same two, so neither can do or note what is out of turn.
//!
//! Everything that is done is noted before it is begun. What was begun and not ended when its runner went away is *unknown*, and an
//! unknown action is never done again by itself.

mod entry;
mod figures;
mod ledger;
mod lint;
mod phrases;
mod plan;
mod readiness;
pub mod report;
mod roles;
mod run;
mod sentences;
pub mod sql;
#[cfg(test)]
mod tests;
mod words;

pub use entry::{Entry, Outcome, Record, Step, Stop, Told, Verdict};
pub use figures::{Figures, Minute, Total, VariantFigures};
pub use ledger::{LEASE_MS, Lease, Ledger, Misfit, Signature, Vote};
pub use lint::lint;
pub use plan::{
    Action, Breaker, Check, CheckKind, Command, Comms, Contact, FlagsOff, GoNoGo, HttpCheck, Item, ItemKind,
    Launch, Limit, Phase, Policy, Rollout, SchemaCheck, Tier, Undo, Variable, Warmup, Window,
};
pub use readiness::Unmet;
pub use report::Report;
pub use roles::Roles;
pub use run::{Next, PhaseRun, PhaseState, Run, State};
pub use sentences::{Form, Mark, Sentence, Story, in_ascii, told_figures};
pub use words::expand;
