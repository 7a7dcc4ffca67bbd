//! The control plane: what should be, the one way to change it, and what makes it last.

mod acts;
mod addresses;
mod attempt;
mod change;
mod checkpoints;
mod checks;
mod commit;
mod desired;
mod ejections;
mod endpoints;
mod events;
mod evidence;
mod expiry;
mod grpc_health;
mod holdings;
mod inbox;
mod launches;
mod leaving;
mod live;
mod overlay;
mod predecessors;
mod probes;
mod recorder;
mod recovery;
mod refusal;
mod reload;
mod rollouts;
mod saver;
mod settings;
mod ticker;
mod wanted;

pub use change::{
    Applied, Change, Delta, Direction, Facts, FoundStep, Happened, Refusal, Selection, Stamp, apply,
};
pub use checks::run_checks;
pub use commit::{CommitError, Committed, Control, Disk, IdempotencyKey, Opened, StartError, Who};
pub use desired::{Answer, Changed, Deployed, Desired, LastGood, ServiceState};
pub use ejections::EndpointFigures;
pub use endpoints::{EndpointAct, EndpointChange, EndpointsChanged, at};
pub use events::Events;
pub use holdings::{KnownHealth, LetGoError, TakeBackError};
pub use launches::{LaunchDisk, LaunchRefusal, Wish, problems as launch_problems};
pub use live::CheckKey;
pub use overlay::{Overlay, Placed};
pub use predecessors::{Holds, Predecessor, Predecessors};
pub use probes::{Answered, WARMUP_SLICE_MAX, Warmed, asked, probe, warm_up};
pub use recovery::{KillFile, Kills, TIDEGATE};
pub use reload::{Keep, ReloadError, Reloaded};
pub use rollouts::{EvidenceDisk, RolloutFigures};
pub use saver::Sink;
pub use settings::{ControlSettings, ServiceConfig};
pub use ticker::Verdicts;

#[cfg(test)]
mod tests;
