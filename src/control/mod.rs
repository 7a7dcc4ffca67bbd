//! The control plane: what should be, the one way to change it, and what makes it last.

mod settings;

pub use settings::{ControlSettings, ServiceConfig};
