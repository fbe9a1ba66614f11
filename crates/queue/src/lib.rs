//! The engine: takes jobs in, hands attempts out to workers, takes their reports, sends callbacks.
//!
//! [`Engine`] is what an API calls and what a worker sees as its
//! [`Coordinator`](agent_domain::Coordinator). Every state of a job is decided by
//! [`agent_domain::apply`], called from one place (`change.rs`), and stored by one operation of the
//! storage crate; everything else here reads, waits or wakes.

mod breaker;
mod cancel;
mod change;
mod clients;
mod coordinator;
mod credentials;
mod dependencies;
mod disk;
mod engine;
mod error;
mod events;
mod housekeeping;
mod leases;
mod lines;
mod log;
mod loops;
mod messages;
mod once;
mod outbox;
mod payload;
mod queries;
mod readiness;
mod reconcile;
mod release;
mod retention;
mod seal;
mod sessions;
mod signals;
mod submit;
mod system;
mod vault;
mod views;

pub use agent_storage::{
    ClientCounts, DeliveryLog, DeliveryState, DeliveryTry, HistoryEntry, JobFilter, JobPage,
    JobSummary, JobWithClient, QueueView, UsageFilter, UsageKey, UsageRow,
};
pub use credentials::CredentialView;
pub use disk::{DiskConfig, DiskShortage, DiskTrouble, DiskVolume};
pub use engine::{Engine, EngineConfig, EngineParts};
pub use error::EngineError;
pub use events::{EventPage, Logged, LoggedEvent};
pub use log::LogRange;
pub use once::{Once, Reply};
pub use readiness::Readiness;
pub use retention::Retention;
pub use system::{RandomIds, SystemClock};
pub use views::{
    Accepted, CancelOutcome, ClientDetails, ClientView, CreatedClient, Health, Message, Submission,
    Synced, Target,
};
