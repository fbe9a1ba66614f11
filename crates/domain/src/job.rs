//! Jobs: what was asked for, and where it stands.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{
    Base, BranchName, CallbackUrl, ClientId, Continued, Facts, Fence, JobId, JsonText, LostRun,
    PaidBy, Priority, Reason, Resume, RunOptions, SecretKinds, Timestamp, WorkerId,
};

/// What a caller asked for; never changes once acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// What the agent is told.
    pub prompt: Arc<str>,
    /// The branch the work goes to.
    pub branch: BranchName,
    /// Title of the pull request and subject of the commit.
    pub title: Option<String>,
    /// The feature's id in the caller's own system.
    pub os_feature_id: Option<String>,
    /// Where the callback goes.
    pub callback_url: Option<CallbackUrl>,
    /// What it starts from; the client's default branch unless given.
    pub base: Option<Base>,
    /// The caller's own object, returned as it was given.
    pub metadata: Option<JsonText>,
    /// How the agent is to be run, as far as the job says.
    pub options: RunOptions,
    /// Which keys of its own it brought.
    pub secrets: SecretKinds,
    /// Jobs that must be completed before it begins, each once and in order.
    pub depends_on: Vec<JobId>,
}

/// One request and its present state.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Ours.
    pub id: JobId,
    /// Whose repository.
    pub client_id: ClientId,
    /// What was asked for.
    pub spec: JobSpec,
    /// The job this one repeats.
    pub retry_of: Option<JobId>,
    /// How urgent it is, before others that wait.
    pub priority: Priority,
    /// Counts changes; every write names the version it changes.
    pub version: u64,
    /// Attempts begun.
    pub attempt: u32,
    /// Grows with every lease; a write with an older one is refused.
    pub fence: Fence,
    /// Who took it last.
    pub worker: Option<WorkerId>,
    /// The runs that were lost since one last ended otherwise, oldest first.
    pub lost_runs: Vec<LostRun>,
    /// The session in which the next attempt goes on, or the present one does; in its workspace,
    /// which the facts name.
    pub resume: Option<Resume>,
    /// The ended job in whose session it goes on.
    pub continues: Option<Continued>,
    /// What its last attempt ran on; `None`: a key of its own, or nothing yet.
    pub paid_by: Option<PaidBy>,
    /// Where it stands.
    pub state: State,
    /// What is known about its execution.
    pub facts: Facts,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it first began to run.
    pub started_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waits for a slot; parked when `not_before` is set.
    Queued {
        /// Not to be started earlier.
        not_before: Option<Timestamp>,
        /// Why it went back to the queue.
        reason: Option<Reason>,
    },
    /// A worker holds it.
    Running {
        /// What the worker is doing.
        phase: Phase,
        /// When the worker's lease runs out unless it is renewed.
        lease_until: Timestamp,
        /// When its cancellation was asked for.
        cancel_requested_at: Option<Timestamp>,
    },
    /// The agent succeeded and its work is delivered.
    Completed {
        /// When.
        at: Timestamp,
    },
    /// It will not be tried again by itself.
    Failed {
        /// When.
        at: Timestamp,
        /// Why, as a stable code.
        reason: Reason,
        /// Why, as a sentence.
        error: String,
    },
    /// Someone stopped it.
    Cancelled {
        /// When.
        at: Timestamp,
        /// When its cancellation was asked for.
        requested_at: Timestamp,
    },
}

/// The public name of a [`State`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// [`State::Queued`].
    Queued,
    /// [`State::Running`].
    Running,
    /// [`State::Completed`].
    Completed,
    /// [`State::Failed`].
    Failed,
    /// [`State::Cancelled`].
    Cancelled,
}

/// What a worker is doing with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Bringing the mirror up to date.
    Fetching,
    /// Making the workspace.
    Preparing,
    /// The agent runs.
    Agent,
    /// Commit, push, pull request.
    Delivering,
}

impl State {
    /// The public name.
    pub const fn status(&self) -> Status {
        match self {
            Self::Queued { .. } => Status::Queued,
            Self::Running { .. } => Status::Running,
            Self::Completed { .. } => Status::Completed,
            Self::Failed { .. } => Status::Failed,
            Self::Cancelled { .. } => Status::Cancelled,
        }
    }

    /// Whether it is queued and waits for something that comes at no set time.
    pub const fn waits_for_others(&self) -> bool {
        match self {
            Self::Queued {
                reason: Some(Reason::WaitingForJobs),
                ..
            } => true,
            Self::Queued {
                not_before: None,
                reason: Some(reason),
            } => reason.is_of_login(),
            Self::Queued { .. }
            | Self::Running { .. }
            | Self::Completed { .. }
            | Self::Failed { .. }
            | Self::Cancelled { .. } => false,
        }
    }

    /// When the job ended, if it has.
    pub const fn ended_at(&self) -> Option<Timestamp> {
        match self {
            Self::Queued { .. } | Self::Running { .. } => None,
            Self::Completed { at } | Self::Failed { at, .. } | Self::Cancelled { at, .. } => {
                Some(*at)
            }
        }
    }

    /// Why it waits, failed or was cancelled.
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Queued { reason, .. } => *reason,
            Self::Running { .. } | Self::Completed { .. } => None,
            Self::Failed { reason, .. } => Some(*reason),
            Self::Cancelled { .. } => Some(Reason::CancelledByUser),
        }
    }
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The public spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the job will never change again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 4] = [
        Self::Fetching,
        Self::Preparing,
        Self::Agent,
        Self::Delivering,
    ];

    /// The public spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Preparing => "preparing",
            Self::Agent => "agent",
            Self::Delivering => "delivering",
        }
    }
}

/// A text that names no member of its closed list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown name")]
pub struct NameError;

impl FromStr for Status {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(NameError)
    }
}

impl FromStr for Phase {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or(NameError)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
