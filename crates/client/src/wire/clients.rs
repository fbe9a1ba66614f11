//! Clients.

use serde::{Deserialize, Serialize};

use super::{Dollars, Patch, RunOptions};

with_options! {
    /// Body of `POST /clients`.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct CreateClient {
        /// The customer's id in the caller's own system.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub os_client_id: Option<String>,
        /// For people.
        pub name: String,
        /// Organisation or user.
        pub github_org: String,
        /// Repository.
        pub github_repo: String,
        /// `main` unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub default_branch: Option<String>,
        /// Whether the repository's own hooks, settings and MCP servers may run; false unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub trusted: Option<bool>,
        /// How urgent its jobs are unless they say otherwise, from -100 to 100; 0 unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub priority: Option<i64>,
        /// How many of its jobs may run at once; no limit unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub max_concurrent: Option<u32>,
        /// What all its jobs may spend in a day (UTC).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub budget_daily_usd: Option<Dollars>,
        /// What all its jobs may spend in a calendar month (UTC).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub budget_monthly_usd: Option<Dollars>,
    }
}

with_option_patches! {
    /// Body of `PATCH /clients/:id`.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct UpdateClient {
        /// New name; null is refused.
        #[serde(default, skip_serializing_if = "Patch::is_absent")]
        pub name: Patch<String>,
        /// New default branch; null is refused.
        #[serde(default, skip_serializing_if = "Patch::is_absent")]
        pub default_branch: Patch<String>,
        /// Whether the repository's own hooks, settings and MCP servers may run; null is refused.
        #[serde(default, skip_serializing_if = "Patch::is_absent")]
        pub trusted: Patch<bool>,
        /// How urgent its jobs are unless they say otherwise; null is refused.
        #[serde(default, skip_serializing_if = "Patch::is_absent")]
        pub priority: Patch<i64>,
        /// How many of its jobs may run at once; null clears it.
        #[serde(default, skip_serializing_if = "Patch::is_absent")]
        pub max_concurrent: Patch<u32>,
        /// What all its jobs may spend in a day (UTC); null is no limit.
        #[serde(default, skip_serializing_if = "Patch::is_absent")]
        pub budget_daily_usd: Patch<Dollars>,
        /// What all its jobs may spend in a calendar month (UTC); null is no limit.
        #[serde(default, skip_serializing_if = "Patch::is_absent")]
        pub budget_monthly_usd: Patch<Dollars>,
    }
}

/// A client in a list, and the answer to a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientSummary {
    /// Ours.
    pub id: String,
    /// The customer's id in the caller's own system.
    pub os_client_id: Option<String>,
    /// For people.
    pub name: String,
    /// Organisation or user.
    pub github_org: String,
    /// Repository.
    pub github_repo: String,
    /// Where jobs start from.
    pub default_branch: String,
    /// Whether the bare repository is there.
    pub repo_exists: bool,
    /// When it was added.
    pub created_at: String,
    /// Whether the repository's own hooks, settings and MCP servers may run.
    #[serde(default)]
    pub trusted: bool,
    /// How urgent its jobs are unless they say otherwise.
    #[serde(default)]
    pub priority: i64,
    /// How many of its jobs may run at once; null for no limit.
    #[serde(default)]
    pub max_concurrent: Option<u32>,
    /// What all its jobs may spend in a day (UTC).
    #[serde(default)]
    pub budget_daily_usd: Option<Dollars>,
    /// What all its jobs may spend in a calendar month (UTC).
    #[serde(default)]
    pub budget_monthly_usd: Option<Dollars>,
    /// What it says of its jobs' runs; members of this object, not of one inside.
    #[serde(flatten)]
    pub options: RunOptions,
}

/// Answer to `GET /clients`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientList {
    /// All clients.
    pub clients: Vec<ClientSummary>,
}

/// Answer to `GET /clients/:id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientDetails {
    /// Ours.
    pub id: String,
    /// The customer's id in the caller's own system.
    pub os_client_id: Option<String>,
    /// For people.
    pub name: String,
    /// Organisation or user.
    pub github_org: String,
    /// Repository.
    pub github_repo: String,
    /// Where jobs start from.
    pub default_branch: String,
    /// Whether the bare repository is there.
    pub repo_exists: bool,
    /// Jobs queued or running.
    pub active_jobs: u64,
    /// All jobs.
    pub total_jobs: u64,
    /// When it was added.
    pub created_at: String,
    /// Whether the repository's own hooks, settings and MCP servers may run.
    #[serde(default)]
    pub trusted: bool,
    /// How urgent its jobs are unless they say otherwise.
    #[serde(default)]
    pub priority: i64,
    /// How many of its jobs may run at once; null for no limit.
    #[serde(default)]
    pub max_concurrent: Option<u32>,
    /// What all its jobs may spend in a day (UTC).
    #[serde(default)]
    pub budget_daily_usd: Option<Dollars>,
    /// What all its jobs may spend in a calendar month (UTC).
    #[serde(default)]
    pub budget_monthly_usd: Option<Dollars>,
    /// What it says of its jobs' runs; members of this object, not of one inside.
    #[serde(flatten)]
    pub options: RunOptions,
}

/// Answer to `POST /clients`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientCreated {
    /// Ours.
    pub id: String,
    /// The customer's id in the caller's own system.
    pub os_client_id: Option<String>,
    /// For people.
    pub name: String,
    /// Organisation or user.
    pub github_org: String,
    /// Repository.
    pub github_repo: String,
    /// Where jobs start from.
    pub default_branch: String,
    /// Whether the bare repository is complete by now.
    pub repo_cloned: bool,
    /// Why the clone failed; absent when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_error: Option<String>,
    /// Where the bare repository is, or will be.
    pub bare_repo_path: String,
}

/// Answer to `DELETE /clients/:id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientDeleted {
    /// Always true.
    pub deleted: bool,
    /// Whether the bare repository was removed too.
    pub repo_removed: bool,
}
