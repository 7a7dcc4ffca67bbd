//! The world outside, as far as rollouts deal with it: who is told, who is asked, and where values come from.
//!
//! Nothing here decides. Whatever answers late, wrongly or never is no evidence, and no decision waits for it.

mod settings;

pub use settings::{
    AlertAction, AlertSettings, Call, Channel, Escalation, HookSettings, Source, Style, Token,
};
