//! What agent-server is about, without any I/O: ids, clients, jobs, the state machine, outcomes,
//! limits, and the contracts that have more than one implementation.
//!
//! Nothing here reads a clock, a file, the environment or a socket; every rule is a pure function,
//! so it can be tested by calling it.

#![warn(clippy::wildcard_enum_match_arm)]

mod address;
mod agent;
mod branch;
mod budget;
mod callback;
mod cidr;
mod client;
mod commit;
mod continued;
mod coordinator;
mod credential;
mod delivery;
mod denied;
mod dependencies;
mod disk;
mod error;
mod facts;
mod failures;
mod id;
mod job;
mod json;
pub mod limits;
mod line;
mod log_line;
mod log_seal;
mod lost;
mod mirrors;
mod money;
mod once;
mod options;
mod outcome;
mod parking;
mod progress;
mod reason;
mod repo;
mod retry;
mod secret;
mod session;
mod text;
mod time;
mod tool_rule;
mod transcript;
mod transition;
mod upkeep;
mod usage;
mod variable;

pub use address::special_address;
pub use agent::{AgentHealth, PermissionMode, PermissionModeError};
pub use branch::{BranchName, BranchNameError};
pub use budget::{
    Account, Allotted, AtCap, Caps, Period, Reached, Spending, Whose, allot, is_capped,
};
pub use callback::{CALLBACK_SCHEDULE, CallbackUrl, CallbackUrlError};
pub use cidr::{Cidr, CidrError};
pub use client::{Client, ClientChange, NewClient};
pub use commit::{CommitId, CommitIdError};
pub use continued::{BranchMoved, Continued};
pub use coordinator::{
    Assignment, BoxFuture, Coordinator, CoordinatorError, Directive, Fence, Finding, Found,
    Holding, Lease, LeaseTerms, Report, WorkerId,
};
pub use credential::{
    Choice, Credential, CredentialKind, CredentialName, CredentialNameError, CredentialNews,
    CredentialState, Lack, LimitWindow, Limited, PaidBy, RepoPattern, Stopped, choose,
};
pub use delivery::{Base, BaseError, Delivery, DeliveryError};
pub use denied::{DENIED_CALLS_MAX, DeniedCall};
pub use dependencies::Awaited;
pub use disk::{Bytes, Room, Shortage, Watermark};
pub use error::Class;
pub use facts::{Facts, PullRequest};
pub use failures::{FAILURES, Failure, Policy};
pub use id::{ClientId, DeliveryId, IdError, Ids, JobId};
pub use job::{Job, JobSpec, NameError, Phase, State, Status};
pub use json::JsonText;
pub use line::{Place, Priority, PriorityError, Tag};
pub use log_line::{ENTRY_TEXT_MAX, LINE_TORN, LogLine, LogStream};
pub use log_seal::LogSeal;
pub use lost::{LOST_RUNS_MAX, LOST_WAIT_MAX, LostRun};
pub use mirrors::{MirrorError, Mirrors};
pub use money::Usd;
pub use once::{Answer, IdempotencyKey, IdempotencyKeyError, ONCE_KEPT, OnceRequest, Seal};
pub use options::{Edit, RunOptions, RunOptionsChange};
pub use outcome::{Ending, ResultSummary, RunEnd, RunSummary, Stop, judge, policy, unkillable};
pub use progress::{PHASE_DETAIL, RENEWED};
pub use reason::{Reason, ReasonError};
pub use repo::{RepoSlug, RepoSlugError};
pub use retry::{Backoff, jittered};
pub use secret::{AgentKey, JobSecrets, Secret, SecretError, SecretKinds};
pub use session::{Resume, after_limit, is_session_id};
pub use text::{TextError, one_line, prompt};
pub use time::{Clock, Timestamp, iso_millis, utc_date, utc_date_text, utc_day, utc_month};
pub use tool_rule::{ToolRule, ToolRuleError};
pub use transcript::{EventContent, TranscriptEvent, TranscriptReader};
pub use transition::{CREDENTIALS_LOST, Effect, Event, Refused, Transition, apply};
pub use upkeep::{FoundWorkspace, Maintained, Reclaimed, Upkeep, WorkOrigin};
pub use usage::{RunUsage, Share, Source, Spent, Tokens, Usage, list_price, seen_price};
pub use variable::{VariableName, VariableNameError};
