//! What can go wrong at a forge.

use std::time::Duration;

use agent_domain::Class;

/// Why a pull request could not be opened; the texts hold no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// The remote is GitHub, but nothing here may speak to its API.
    #[error("no way to open pull requests: {0}")]
    Unavailable(String),
    /// The credentials were refused, or do not reach far enough.
    #[error("GitHub denied access ({status}): {message}")]
    Denied {
        /// The HTTP status.
        status: u16,
        /// What GitHub said.
        message: String,
    },
    /// The repository does not exist, or is not shown to us.
    #[error("GitHub does not find the repository: {0}")]
    NotFound(String),
    /// The request was refused as it stands.
    #[error("GitHub refused the pull request ({status}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What GitHub said.
        message: String,
    },
    /// GitHub is in trouble, or wants fewer requests.
    #[error("GitHub cannot answer now ({status}): {message}")]
    Busy {
        /// The HTTP status.
        status: u16,
        /// What GitHub said.
        message: String,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// The network failed.
    #[error("GitHub cannot be reached: {0}")]
    Network(String),
    /// The `gh` command failed in a way that is not GitHub's answer.
    #[error("gh failed: {0}")]
    Command(String),
    /// An answer that is not what GitHub's documentation says.
    #[error("GitHub gave an unexpected answer: {0}")]
    Unexpected(String),
}

impl ForgeError {
    /// What kind of error this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::Unavailable(_) | Self::Busy { .. } | Self::Network(_) => Class::Unavailable,
            Self::Denied { .. } => Class::Denied,
            Self::NotFound(_) => Class::NotFound,
            Self::Refused { .. } => Class::Invalid,
            Self::Command(_) | Self::Unexpected(_) => Class::Bug,
        }
    }

    /// Whether the same call may succeed a little later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Network(_))
    }

    /// How long GitHub asked to wait.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
