//! The control plane: what should be, the one way to change it, and what makes it last.

mod change;
mod desired;
mod settings;

pub use change::{Applied, Change, Delta, Direction, Facts, Refusal, Selection, Stamp, apply};
pub use desired::{Answer, Changed, Deployed, Desired, ServiceState};
pub use settings::{ControlSettings, ServiceConfig};
