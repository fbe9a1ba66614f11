//! What can go wrong with git, told apart by what follows from it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use agent_domain::{BranchName, Class, CommitId, MirrorError, Reason};

/// Why something with git failed; the texts hold no secrets and are fit to show to a caller.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// A setting cannot be used.
    #[error("git settings: {0}")]
    Config(String),
    /// The `git` program could not be started.
    #[error("cannot run git: {0}")]
    Spawn(io::Error),
    /// The branch asked for clashes with one that exists.
    #[error("branch {existing} exists already")]
    BranchExists {
        /// The existing branch: the same name, or one that is a directory of the other.
        existing: String,
    },
    /// The branch is not where our own work has left it.
    #[error(
        "branch {branch} on the remote is not at the commit that was pushed before, so nothing is pushed on top of it"
    )]
    BranchMoved {
        /// The branch.
        branch: BranchName,
    },
    /// The work is not on top of what was pushed before.
    #[error(
        "the agent has rewritten the history of the branch: what is there, {onto}, is not part of it"
    )]
    Rewritten {
        /// What the remote has.
        onto: CommitId,
    },
    /// The branch to start from is not on the remote.
    #[error("the remote repository has no branch {base}")]
    MissingBase {
        /// The missing branch.
        base: BranchName,
    },
    /// No branch of the remote leads to the commit to start from.
    #[error("no branch of the remote leads to commit {commit}")]
    MissingCommit {
        /// The commit.
        commit: CommitId,
    },
    /// The remote repository does not exist, or is not shown to us.
    #[error("git {verb}: repository not found: {message}")]
    NotFound {
        /// The git command.
        verb: &'static str,
        /// What git said.
        message: String,
    },
    /// The remote does not know us, or does not let us.
    #[error("git {verb}: access denied: {message}")]
    Denied {
        /// The git command.
        verb: &'static str,
        /// What git said.
        message: String,
    },
    /// The remote looked at what was pushed and refused it.
    #[error("push refused by the remote: {message}")]
    Rejected {
        /// What the remote said.
        message: String,
    },
    /// The network or the remote's server failed; trying again may help.
    #[error("git {verb}: {message}")]
    Network {
        /// The git command.
        verb: &'static str,
        /// What git said.
        message: String,
    },
    /// It took too long and was ended.
    #[error("git {verb} took longer than {} s", after.as_secs())]
    TimedOut {
        /// The git command, or `lock` when the repository's lock was not to be had.
        verb: &'static str,
        /// The limit.
        after: Duration,
    },
    /// A file of git's that says another git is at work is in the way.
    #[error("another git holds {}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("git {verb}: no space left on the disk")]
    DiskFull {
        /// The git command, or what was being written.
        verb: &'static str,
    },
    /// Git failed in a way that has no name here.
    #[error("git {verb} failed ({}): {message}", code.map_or_else(|| "by a signal".to_owned(), |code| format!("exit code {code}")))]
    Command {
        /// The git command.
        verb: &'static str,
        /// The exit code; `None` when a signal ended it.
        code: Option<i32>,
        /// What git said.
        message: String,
    },
    /// A file or directory could not be worked on.
    #[error("cannot {what} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// A repository on our disk could not be read.
    #[error("cannot read the repository: {0}")]
    Repository(String),
}

impl GitError {
    /// What kind of error this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::Config(_) => Class::Invalid,
            Self::BranchExists { .. } | Self::BranchMoved { .. } | Self::Rewritten { .. } => {
                Class::Conflict
            }
            Self::MissingBase { .. } | Self::MissingCommit { .. } | Self::NotFound { .. } => {
                Class::NotFound
            }
            Self::Denied { .. } | Self::Rejected { .. } => Class::Denied,
            Self::Network { .. }
            | Self::TimedOut { .. }
            | Self::Locked { .. }
            | Self::DiskFull { .. } => Class::Unavailable,
            Self::Spawn(_) | Self::Command { .. } | Self::Io { .. } | Self::Repository(_) => {
                Class::Bug
            }
        }
    }

    /// Whether the same call may succeed a little later. A git that was ended by a signal has
    /// given no verdict: the machine was short of memory, or someone was in the way.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Network { .. }
                | Self::TimedOut { .. }
                | Self::Locked { .. }
                | Self::Command { code: None, .. }
        )
    }

    /// Whether the same call may succeed once there is room on the disk.
    pub const fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Why a job fails that meets this error.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::BranchExists { .. } => Reason::BranchExists,
            Self::BranchMoved { .. } => Reason::BranchMoved,
            Self::DiskFull { .. } => Reason::DiskFull,
            _ => Reason::Git,
        }
    }

    /// Wraps a failed file operation; a full disk keeps its own name.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { verb: what }
            }
            _ => Self::Io {
                what,
                path: path.into(),
                cause,
            },
        }
    }
}

impl From<GitError> for MirrorError {
    fn from(error: GitError) -> Self {
        Self {
            message: error.to_string(),
            class: error.class(),
        }
    }
}
