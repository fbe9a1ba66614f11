//! The contract for the local copies of clients' repositories.

use std::path::PathBuf;

use crate::{BoxFuture, BranchName, Class, JobId, RepoSlug};

/// Why something about a mirror failed; the text is fit to show to a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MirrorError {
    /// What went wrong, without secrets.
    pub message: String,
    /// What kind of error it is; [`Class::Unavailable`] when trying again may help.
    pub class: Class,
}

/// The bare copies of remote repositories, one per repository, safe to use from many tasks.
pub trait Mirrors: Send + Sync {
    /// Where the mirror of `repo` is or would be.
    fn path(&self, repo: &RepoSlug) -> PathBuf;

    /// Whether there is a complete mirror of `repo`.
    fn exists(&self, repo: &RepoSlug) -> bool;

    /// Clones `repo` unless there is a mirror already.
    fn ensure<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<(), MirrorError>>;

    /// Brings an existing or missing mirror up to date with its remote.
    fn fetch<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<(), MirrorError>>;

    /// Removes the mirror; returns whether there was one.
    fn remove<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<bool, MirrorError>>;

    /// Removes the work kept of a job that ended undelivered; fine when there is none.
    fn forget_work<'a>(
        &'a self,
        repo: &'a RepoSlug,
        job: JobId,
    ) -> BoxFuture<'a, Result<(), MirrorError>>;

    /// Returns the remote branch that a new branch `branch` would clash with, as of the last
    /// fetch: the same name, or one that is a directory of the other. `None` without a mirror.
    fn clashing_branch<'a>(
        &'a self,
        repo: &'a RepoSlug,
        branch: &'a BranchName,
    ) -> BoxFuture<'a, Option<String>>;
}
