//! Health, queue and repositories.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Answer to `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`; `draining` while the server is about to stop, `disk_low` while it takes no new work
    /// for want of room.
    pub status: String,
    /// The queue in numbers.
    pub queue: QueueHealth,
    /// Callbacks in numbers.
    #[serde(default)]
    pub callbacks: CallbackHealth,
    /// The CLI and its login.
    pub claude: AgentHealth,
    /// What jobs run on.
    #[serde(default)]
    pub credentials: Vec<CredentialHealth>,
    /// Room on the volumes that are watched.
    pub disk: Vec<VolumeHealth>,
}

/// A volume that is watched, as last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeHealth {
    /// What it is for: `data`, `repositories`, `workspaces`.
    pub name: String,
    /// The directory watched.
    pub path: String,
    /// Free bytes; null when it cannot be looked at.
    pub free_bytes: Option<u64>,
    /// Bytes that must be free for new work to be taken.
    pub min_free_bytes: u64,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// Answer to `GET /livez` and `GET /readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// `ready` or `unready`; `alive`.
    pub status: String,
    /// Every check by its name.
    pub checks: BTreeMap<String, Check>,
}

/// One check of a server's readiness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// What is wrong.
    pub problem: Option<String>,
}

/// The queue in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueHealth {
    /// Jobs running.
    pub running: u64,
    /// Jobs waiting, parked ones too.
    pub queued: u64,
    /// Jobs waiting for a given time.
    pub parked: u64,
    /// When the first of them may start.
    #[serde(default)]
    pub parked_until: Option<String>,
    /// Slots.
    pub max_concurrent: u32,
    /// Writes refused since the start because their lease was not valid any more.
    #[serde(default)]
    pub stale_writes: u64,
}

/// Callbacks in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallbackHealth {
    /// Endpoints that have failed too often and have not answered since.
    pub failing_endpoints: u64,
}

/// The CLI and its login, as last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentHealth {
    /// Whether it is logged in.
    pub authenticated: bool,
    /// Its version; null when it was not found.
    pub version: Option<String>,
    /// When this was found out; null: not yet.
    pub checked_at: Option<String>,
}

/// A credential in brief.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialHealth {
    /// Its name.
    pub name: String,
    /// `ok`, `limited` or `stopped`.
    pub status: String,
    /// When the limit resets.
    pub limited_until: Option<String>,
}

/// Answer to `GET /queue`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueView {
    /// Running jobs, oldest first.
    pub running: Vec<RunningJob>,
    /// Jobs waiting: the ready ones in order, then the parked ones.
    pub queued: Vec<QueuedJob>,
    /// Slots.
    pub max_concurrent: u32,
}

/// A running job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningJob {
    /// The job.
    pub id: String,
    /// The client's name.
    pub client_name: String,
    /// The branch the work goes to.
    pub branch_name: String,
    /// When it first began to run.
    pub started_at: Option<String>,
    /// Time since then, like `5m 23s`.
    pub running_for: String,
    /// What its worker is doing.
    pub phase: Option<String>,
}

/// A waiting job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueuedJob {
    /// The job.
    pub id: String,
    /// The client's name.
    pub client_name: String,
    /// The branch the work goes to.
    pub branch_name: String,
    /// Place in the queue, from 1; null for a parked job.
    pub position: Option<u64>,
    /// How urgent it is, from -100 to 100.
    #[serde(default)]
    pub priority: i64,
    /// When it was taken in.
    pub created_at: String,
    /// Time before which a parked job is not started.
    pub not_before: Option<String>,
    /// Stable code: why it went back to the queue.
    pub reason: Option<String>,
}

/// Answer to `POST /sync`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncResult {
    /// Every repository.
    pub synced: Vec<SyncedRepo>,
}

/// One repository brought up to date, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncedRepo {
    /// Repository.
    pub repo: String,
    /// Organisation or user.
    pub github_org: String,
    /// Whether it worked.
    pub success: bool,
    /// Why not.
    pub error: Option<String>,
}
