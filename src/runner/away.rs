//! A daemon that is away for a while: restarted, upgraded, killed.
//!
//! Whatever a runner asks of it can be asked twice, so it is, until it is answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::error::RunnerError;
use super::signs::Signs;
use crate::admin::client::ClientError;
use crate::clock;

/// How long a daemon may be away.
pub(super) const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Until the second attempt; doubled from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why something is not gone on with.
#[derive(Debug)]
pub(super) enum Leave {
    /// The runner has to let go.
    Halted,
    /// It does not work.
    Failed(RunnerError),
}

impl<T: Into<RunnerError>> From<T> for Leave {
    fn from(error: T) -> Self {
        Self::Failed(error.into())
    }
}

/// Asks until there is an answer.
///
/// # Errors
/// The daemon's refusal; [`RunnerError::Away`]; or the runner has to let go while nobody answers.
pub(super) fn ask<T>(
    launch: &Arc<str>,
    signs: &Signs,
    runtime: &Runtime,
    mut call: impl FnMut() -> Result<T, ClientError>,
) -> Result<T, Leave> {
    let begun = clock::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match call() {
            Ok(answer) => return Ok(answer),
            Err(source) if is_away(&source) => {
                if clock::now().saturating_duration_since(begun) >= PATIENCE {
                    return Err(Leave::Failed(RunnerError::Away { launch: launch.clone(), source }));
                }
                if signs.pause(runtime, pause) {
                    return Err(Leave::Halted);
                }
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }
}

/// Whether asking again may help: nobody answers, the answer broke off, or the daemon says that it cannot now (its disk, its end).
pub(super) const fn is_away(error: &ClientError) -> bool {
    match error {
        ClientError::NotRunning { .. }
        | ClientError::TimedOut { .. }
        | ClientError::Socket { .. }
        | ClientError::BrokeOff { .. }
        | ClientError::Refused { status: 500 | 503 | 504, .. } => true,
        ClientError::NoPermission { .. }
        | ClientError::Several { .. }
        | ClientError::Refused { .. }
        | ClientError::NotUnderstood { .. }
        | ClientError::TooLong { .. }
        | ClientError::NotSendable(_)
        | ClientError::NotWritten(_)
        | ClientError::Start(_) => false,
    }
}
