//! The CLI's permission modes, and what is known of the CLI on a machine.

use std::fmt;
use std::str::FromStr;

use crate::{CredentialName, Timestamp};

/// A permission mode of the Claude Code CLI (`--permission-mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PermissionMode {
    /// `acceptEdits`: edits are allowed, most commands are not.
    AcceptEdits,
    /// `auto`.
    Auto,
    /// `bypassPermissions`: everything is allowed. The only mode in which an unattended run can
    /// do all its work, so the default.
    #[default]
    BypassPermissions,
    /// `default`: whatever would prompt is denied.
    Default,
    /// `dontAsk`.
    DontAsk,
    /// `plan`: nothing is changed.
    Plan,
}

impl PermissionMode {
    /// Every mode.
    pub const ALL: [Self; 6] = [
        Self::AcceptEdits,
        Self::Auto,
        Self::BypassPermissions,
        Self::Default,
        Self::DontAsk,
        Self::Plan,
    ];

    /// The CLI's own spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AcceptEdits => "acceptEdits",
            Self::Auto => "auto",
            Self::BypassPermissions => "bypassPermissions",
            Self::Default => "default",
            Self::DontAsk => "dontAsk",
            Self::Plan => "plan",
        }
    }
}

impl fmt::Display for PermissionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no permission mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of acceptEdits, auto, bypassPermissions, default, dontAsk, plan")]
pub struct PermissionModeError;

impl FromStr for PermissionMode {
    type Err = PermissionModeError;

    fn from_str(text: &str) -> Result<Self, PermissionModeError> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or(PermissionModeError)
    }
}

/// What is known of the CLI and its login on a worker's machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentHealth {
    /// As `claude --version` prints it, without the product's name; `None`: not found.
    pub version: Option<String>,
    /// Whether credentials are present (`claude auth status`), and no run has since failed for
    /// want of valid ones.
    pub authenticated: bool,
    /// Of each credential that was asked about, whether it is there; `None`: nobody could tell.
    pub logins: Vec<(CredentialName, Option<bool>)>,
    /// When this was found out; `None`: not yet.
    pub checked_at: Option<Timestamp>,
}
