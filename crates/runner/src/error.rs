//! What can go wrong with a run that is not the agent's own failure.

use std::io;

use agent_domain::{Class, CredentialName};

use crate::LostRun;
use crate::output::is_full;

/// Why a run could not be started, followed or ended in good order.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// There is a record that this attempt was started before.
    #[error("this attempt was started already")]
    AlreadyStarted,
    /// This server knows nothing of the credential; nothing was started.
    #[error("the credential {0} is not configured on this server")]
    NoCredential(CredentialName),
    /// There is no room on the disk for what the run needs; nothing was started.
    #[error("no space left on the disk: {0}")]
    DiskFull(String),
    /// The supervisor could not be started, or refused its task.
    #[error("the supervisor could not be started: {0}")]
    Supervisor(String),
    /// A supervisor holds the attempt but cannot be reached.
    #[error("the supervisor does not answer")]
    Unreachable,
    /// The supervisor ended without an exit record; what was left of its tree has been ended
    /// as far as that can be done.
    #[error("the supervisor was lost")]
    Lost(Box<LostRun>),
    /// The attempt's directory could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl RunnerError {
    /// What kind of error this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::AlreadyStarted => Class::Conflict,
            Self::NoCredential(_)
            | Self::DiskFull(_)
            | Self::Supervisor(_)
            | Self::Unreachable
            | Self::Lost(_)
            | Self::Io { .. } => Class::Unavailable,
        }
    }

    /// Whether the same run may be started once there is room on the disk.
    pub const fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }

    /// For `map_err`: says what was tried.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_full(&source) {
                Self::DiskFull(what.to_owned())
            } else {
                Self::Io { what, source }
            }
        }
    }
}
