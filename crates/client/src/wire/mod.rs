//! The JSON bodies of the native API, field for field.
//!
//! Requests refuse unknown fields; answers do not, so that an older caller can talk to a newer
//! server. Times are ISO 8601 in UTC with milliseconds, ids are opaque.

// First, since others use its macros.
#[macro_use]
mod options;

mod clients;
mod credentials;
mod events;
mod jobs;
mod patch;
mod problem;
mod secrets;
mod system;
mod usage;

pub use clients::{
    ClientCreated, ClientDeleted, ClientDetails, ClientList, ClientSummary, CreateClient,
    UpdateClient,
};
pub use credentials::{Credential, CredentialLimit, CredentialList, CredentialWindow};
pub use events::{Event, EventContent, EventPage, McpServer};
pub use jobs::{
    Cancelled, CreateJob, CreateMessage, Delivery, DeliveryList, DeliveryTry, HistoryEntry,
    JobClient, JobContinued, JobCreated, JobDetails, JobHistory, JobList, JobRetried, JobSummary,
    Message, PermissionDenial, Redelivered, Released, RetryJob, SealedLog, UpdateJob,
};
pub use options::{Dollars, JsonObject, RunOptions};
pub use patch::Patch;
pub use problem::Problem;
pub use secrets::JobSecrets;
pub use system::{
    AgentHealth, CallbackHealth, Check, CredentialHealth, Health, QueueHealth, QueueView,
    QueuedJob, Readiness, RunningJob, SyncResult, SyncedRepo, VolumeHealth,
};
pub use usage::{UsageReport, UsageRow};
