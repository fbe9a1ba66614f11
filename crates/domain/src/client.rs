//! Clients: one configured repository of a customer.

use crate::{
    BranchName, Caps, ClientId, Edit, Priority, RepoSlug, RunOptions, RunOptionsChange, Timestamp,
    Usd,
};

/// A configured repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Ours.
    pub id: ClientId,
    /// The customer's id in the caller's own system; unique where given.
    pub os_client_id: Option<String>,
    /// For people.
    pub name: String,
    /// Unique among the clients that are not deleted, regardless of case.
    pub repo: RepoSlug,
    /// Jobs start from it and pull requests go to it.
    pub default_branch: BranchName,
    /// For its jobs, where they do not say otherwise themselves.
    pub options: RunOptions,
    /// Whether the repository's own hooks, settings and MCP servers may run on our machine. Its
    /// `CLAUDE.md` counts either way.
    pub trusted: bool,
    /// For its jobs, where they do not say otherwise themselves.
    pub priority: Priority,
    /// How many of its jobs may run at once; `None` for as many as there are slots.
    pub max_concurrent: Option<u32>,
    /// What all its jobs together may spend.
    pub caps: Caps,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A client as asked for, before it has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewClient {
    /// See [`Client::os_client_id`].
    pub os_client_id: Option<String>,
    /// See [`Client::name`].
    pub name: String,
    /// See [`Client::repo`].
    pub repo: RepoSlug,
    /// See [`Client::default_branch`].
    pub default_branch: BranchName,
    /// See [`Client::options`].
    pub options: RunOptions,
    /// See [`Client::trusted`].
    pub trusted: bool,
    /// See [`Client::priority`].
    pub priority: Priority,
    /// See [`Client::max_concurrent`].
    pub max_concurrent: Option<u32>,
    /// See [`Client::caps`].
    pub caps: Caps,
}

/// What to change about a client; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientChange {
    /// New name.
    pub name: Option<String>,
    /// New default branch, used by jobs claimed from now on.
    pub default_branch: Option<BranchName>,
    /// New options, used by jobs claimed from now on.
    pub options: RunOptionsChange,
    /// Whether it is trusted, for attempts begun from now on; `None` leaves it as it is.
    pub trusted: Option<bool>,
    /// New priority of jobs accepted from now on.
    pub priority: Option<Priority>,
    /// New limit, for jobs claimed from now on.
    pub max_concurrent: Edit<u32>,
    /// See [`Caps::daily`].
    pub daily: Edit<Usd>,
    /// See [`Caps::monthly`].
    pub monthly: Edit<Usd>,
}

impl ClientChange {
    /// Returns what becomes of `client`.
    #[must_use]
    pub fn applied_to(self, client: Client, now: Timestamp) -> Client {
        Client {
            name: self.name.unwrap_or(client.name),
            default_branch: self.default_branch.unwrap_or(client.default_branch),
            options: self.options.applied_to(client.options),
            trusted: self.trusted.unwrap_or(client.trusted),
            priority: self.priority.unwrap_or(client.priority),
            max_concurrent: self.max_concurrent.applied_to(client.max_concurrent),
            caps: Caps {
                daily: self.daily.applied_to(client.caps.daily),
                monthly: self.monthly.applied_to(client.caps.monthly),
            },
            updated_at: now,
            ..client
        }
    }
}
