//! How a command ends when it does not succeed.

use std::io;

use thiserror::Error;

use crate::admin::api::ProblemKind;
use crate::admin::client::ClientError;
use crate::app::RunError;
use crate::config::ConfigError;
use crate::runner::RunnerError;

/// Why a command did not succeed.
#[derive(Debug, Error)]
pub enum Failure {
    /// The daemon, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The daemon did not run to its proper end.
    #[error(transparent)]
    Run(#[from] RunError),
    /// What was typed.
    #[error("{0}")]
    Usage(String),
    /// Something that was waited for.
    #[error("{0}")]
    NotInTime(String),
    /// Something is as it must not be, or a person has to choose.
    #[error("{0}")]
    Conflict(String),
    /// A launch was undone.
    #[error("{0}")]
    RolledBack(String),
    /// A launch could not be undone wholly.
    #[error("{0}")]
    RollbackFailed(String),
    /// A launch could not be gone on with from here.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// Reading or writing, most often of standard output.
    #[error("input or output")]
    Output(#[from] io::Error),
}

impl Failure {
    /// 1 failed · 2 usage or invalid · 3 conflict or locked · 4 not in time · 5 daemon not reachable · 6 launch rolled back · 7 its rollback
    /// failed.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            // A port in use, a folder that cannot be written: the configuration does not fit this machine.
            Self::Run(RunError::Config(_) | RunError::Start(_)) => 2,
            Self::Failed(_) | Self::Output(_) | Self::Run(RunError::NotSaved) => 1,
            Self::NotInTime(_) => 4,
            Self::Conflict(_) => 3,
            Self::RolledBack(_) => 6,
            Self::RollbackFailed(_) => 7,
            Self::Runner(error) => match error {
                RunnerError::Client(error) => of_client(error),
                RunnerError::Away { .. } => 5,
                RunnerError::Unset { .. } => 2,
                RunnerError::Journal(_)
                | RunnerError::Stuck { .. }
                | RunnerError::Broke { .. }
                | RunnerError::Interrupted
                | RunnerError::Start { .. } => 1,
            },
            Self::Client(error) => of_client(error),
        }
    }

    /// Whoever read our output has had enough; no reason to complain.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What happened and why, in one text; each cause once.
    pub(super) fn story(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let more = error.to_string();
            // Some errors say themselves what caused them.
            if !text.ends_with(&more) {
                text.push_str(&format!(": {more}"));
            }
            cause = error.source();
        }
        text
    }
}

fn of_client(error: &ClientError) -> u8 {
    match error {
        ClientError::NotRunning { .. } | ClientError::NoPermission { .. } | ClientError::Socket { .. } => 5,
        ClientError::Several { .. } | ClientError::NotSendable(_) => 2,
        ClientError::TimedOut { .. } => 4,
        ClientError::BrokeOff { .. }
        | ClientError::NotUnderstood { .. }
        | ClientError::TooLong { .. }
        | ClientError::NotWritten(_)
        | ClientError::Start(_) => 1,
        ClientError::Refused { problem, .. } => match problem.kind {
            ProblemKind::Invalid
            | ProblemKind::NotFound
            | ProblemKind::MethodNotAllowed
            | ProblemKind::TooLarge => 2,
            ProblemKind::Conflict | ProblemKind::Stale | ProblemKind::KeyReused | ProblemKind::Locked => 3,
            ProblemKind::Internal | ProblemKind::Unavailable => 1,
            ProblemKind::TimedOut => 4,
        },
    }
}
