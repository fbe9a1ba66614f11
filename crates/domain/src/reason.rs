//! Why a job ended as it did, or why it waits: one closed list with stable codes.

use std::fmt;
use std::str::FromStr;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Why a job failed, was cancelled or waits; the code is public and never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The public code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

reasons! {
    /// The agent said it failed, or ended without a result.
    AgentFailed = "agent_failed",
    /// It ran longer than allowed.
    TimedOut = "timed_out",
    /// It was silent longer than allowed.
    Idle = "idle",
    /// The subscription's usage limit is reached.
    UsageLimit = "usage_limit",
    /// The CLI is not logged in, or its credentials were refused.
    Auth = "auth",
    /// The account cannot pay.
    Billing = "billing",
    /// The model's API failed: overloaded, unreachable, 5xx, rate limited.
    Api = "api",
    /// The job's own money cap is reached.
    Budget = "budget",
    /// The turn limit is reached.
    MaxTurns = "max_turns",
    /// The model refused.
    Refused = "refused",
    /// Prompt and context are larger than the model takes.
    PromptTooLong = "prompt_too_long",
    /// The model's name is unknown.
    ModelNotFound = "model_not_found",
    /// The answer never had the form that was asked for.
    OutputSchema = "output_schema",
    /// The answer is longer than the model can write.
    MaxOutputTokens = "max_output_tokens",
    /// Clone, fetch, workspace, commit or push failed.
    Git = "git",
    /// The branch asked for exists already.
    BranchExists = "branch_exists",
    /// The branch that the job goes on with is not where its session has left it.
    BranchMoved = "branch_moved",
    /// The session that the job goes on in is gone.
    SessionLost = "session_lost",
    /// The work could not be delivered: no way to open the pull request.
    Delivery = "delivery",
    /// The worker or the supervisor was lost.
    Lost = "lost",
    /// Its runs were lost one after the other.
    Poison = "poison",
    /// Keys that lived only in memory are gone.
    CredentialsLost = "credentials_lost",
    /// The agent was killed for want of memory.
    OutOfMemory = "out_of_memory",
    /// Something the agent has started cannot be ended, and may still be at work.
    Unkillable = "unkillable",
    /// The disk is full.
    DiskFull = "disk_full",
    /// The agent could not be started.
    Spawn = "spawn",
    /// What was to be around the agent could not be set up.
    Sandbox = "sandbox",
    /// It waits for other jobs to be completed.
    WaitingForJobs = "waiting_for_jobs",
    /// A job that it waited for has failed or was cancelled.
    DependencyFailed = "dependency_failed",
    /// Someone cancelled it.
    CancelledByUser = "cancelled_by_user",
}

impl Reason {
    /// Whether it is a credential that stands in the way.
    pub const fn is_of_credential(self) -> bool {
        matches!(self, Self::UsageLimit) || self.is_of_login()
    }

    /// Whether it is over only when somebody has seen to a login or an account.
    pub const fn is_of_login(self) -> bool {
        matches!(self, Self::Auth | Self::Billing)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A text that is no reason's code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a reason code")]
pub struct ReasonError;

impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(code: &str) -> Result<Self, ReasonError> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.code() == code)
            .ok_or(ReasonError)
    }
}
