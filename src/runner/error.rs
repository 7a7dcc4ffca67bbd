//! Why a runner stops before its launch is over.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::admin::client::ClientError;
use crate::launch::Misfit;

/// Why a runner stopped before its launch was over. The lease is let go, as far as the daemon could be told; `launch resume` goes on.
#[derive(Debug, Error)]
pub enum RunnerError {
    /// Secrets that the environment does not have. Nothing was begun.
    #[error("not set in the environment, and secrets of the launch: {}", .names.join(", "))]
    Unset {
        /// Their names; at least one.
        names: Vec<Arc<str>>,
    },
    /// The daemon refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon did not answer for five minutes.
    #[error("the daemon has been away for 5 min; once it is back, `tidegate launch resume {launch}` goes on")]
    Away {
        /// Whose runner.
        launch: Arc<str>,
        /// The last attempt's.
        #[source]
        source: ClientError,
    },
    /// The journal is not one: another version's, or none of a daemon's.
    #[error("the launch's journal does not fit together; is the daemon of another version?")]
    Journal(#[from] Misfit),
    /// The daemon has not said what only it can.
    #[error("the daemon leaves the launch where it is; see `tidegate launch log {launch}`")]
    Stuck {
        /// Whose runner.
        launch: Arc<str>,
    },
    /// A step ended without a word, by a fault of ours. What became of it is unknown.
    #[error("the runner broke at a step ({step}); what became of that is unknown")]
    Broke {
        /// Which.
        step: &'static str,
    },
    /// Ctrl-C, TERM or HUP, before anything was started.
    #[error("interrupted")]
    Interrupted,
    /// The operating system has no resources left for us.
    #[error("start {what}")]
    Start {
        /// What could not be started.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}
