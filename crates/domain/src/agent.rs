//! How the agent is run, and what is known of the CLI on a machine.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Timestamp;

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

/// What a job, its client or the server may set about a run; `None` means not set here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Passed as `--model`; without it the CLI picks one by the kind of credential.
    pub model: Option<String>,
    /// Passed as `--permission-mode`.
    pub permission_mode: Option<PermissionMode>,
    /// Longest run of the agent, by the wall clock.
    pub timeout: Option<Duration>,
    /// Longest silence of the agent.
    pub idle_timeout: Option<Duration>,
}

impl RunOptions {
    /// Fills what is not set here from `fallback`: job, then client, then server.
    #[must_use]
    pub fn or(self, fallback: &Self) -> Self {
        Self {
            model: self.model.or_else(|| fallback.model.clone()),
            permission_mode: self.permission_mode.or(fallback.permission_mode),
            timeout: self.timeout.or(fallback.timeout),
            idle_timeout: self.idle_timeout.or(fallback.idle_timeout),
        }
    }
}

/// What to do with a value that need not be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Edit<T> {
    /// Leave it as it is.
    #[default]
    Keep,
    /// Remove it.
    Clear,
    /// Replace it.
    Set(T),
}

impl<T> Edit<T> {
    /// Returns what becomes of `value`.
    pub fn applied_to(self, value: Option<T>) -> Option<T> {
        match self {
            Self::Keep => value,
            Self::Clear => None,
            Self::Set(new) => Some(new),
        }
    }
}

/// What to change about options; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunOptionsChange {
    /// See [`RunOptions::model`].
    pub model: Edit<String>,
    /// See [`RunOptions::permission_mode`].
    pub permission_mode: Edit<PermissionMode>,
    /// See [`RunOptions::timeout`].
    pub timeout: Edit<Duration>,
    /// See [`RunOptions::idle_timeout`].
    pub idle_timeout: Edit<Duration>,
}

impl RunOptionsChange {
    /// Returns what becomes of `options`.
    #[must_use]
    pub fn applied_to(self, options: RunOptions) -> RunOptions {
        RunOptions {
            model: self.model.applied_to(options.model),
            permission_mode: self.permission_mode.applied_to(options.permission_mode),
            timeout: self.timeout.applied_to(options.timeout),
            idle_timeout: self.idle_timeout.applied_to(options.idle_timeout),
        }
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
    /// When this was found out; `None`: not yet.
    pub checked_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(model: &str, mode: PermissionMode, seconds: u64) -> RunOptions {
        RunOptions {
            model: Some(model.into()),
            permission_mode: Some(mode),
            timeout: Some(Duration::from_secs(seconds)),
            idle_timeout: Some(Duration::from_secs(seconds + 1)),
        }
    }

    #[test]
    fn each_option_is_the_jobs_else_the_clients_else_the_servers() {
        let server = options("server", PermissionMode::BypassPermissions, 30);
        let client = RunOptions {
            model: Some("client".into()),
            permission_mode: Some(PermissionMode::Plan),
            timeout: Some(Duration::from_secs(20)),
            idle_timeout: None,
        };
        let job = RunOptions {
            model: Some("job".into()),
            ..RunOptions::default()
        };
        let wanted = RunOptions {
            model: Some("job".into()),
            permission_mode: Some(PermissionMode::Plan),
            timeout: Some(Duration::from_secs(20)),
            idle_timeout: Some(Duration::from_secs(31)),
        };
        assert_eq!(job.or(&client).or(&server), wanted);

        let full = options("job", PermissionMode::Auto, 10);
        assert_eq!(full.clone().or(&client).or(&server), full);
        assert_eq!(RunOptions::default().or(&full), full);
    }

    #[test]
    fn each_option_is_kept_cleared_or_set_by_itself() {
        let before = options("a", PermissionMode::Plan, 10);
        let change = RunOptionsChange {
            model: Edit::Clear,
            permission_mode: Edit::Set(PermissionMode::Auto),
            timeout: Edit::Keep,
            idle_timeout: Edit::Clear,
        };
        let after = RunOptions {
            model: None,
            permission_mode: Some(PermissionMode::Auto),
            timeout: before.timeout,
            idle_timeout: None,
        };
        assert_eq!(change.applied_to(before.clone()), after);
        assert_eq!(
            RunOptionsChange::default().applied_to(before.clone()),
            before
        );
        let back = RunOptionsChange {
            model: Edit::Set("a".into()),
            permission_mode: Edit::Set(PermissionMode::Plan),
            timeout: Edit::Set(Duration::from_secs(10)),
            idle_timeout: Edit::Set(Duration::from_secs(11)),
        };
        assert_eq!(back.applied_to(after), before);
    }
}
