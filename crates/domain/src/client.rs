//! Clients: one configured repository of a customer.

use crate::{BranchName, ClientId, RepoSlug, Timestamp};

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
}

/// What to change about a client; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientChange {
    /// New name.
    pub name: Option<String>,
    /// New default branch, used by jobs claimed from now on.
    pub default_branch: Option<BranchName>,
}
