//! The contract for what jobs leave on a disk: finding it, keeping what is of worth, removing the
//! rest.

use crate::{BoxFuture, BranchName, CommitId, JobId, MirrorError, RepoSlug};

/// A place on the disk where the work of a job may lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundWorkspace {
    /// The repository.
    pub repo: RepoSlug,
    /// The job it was made for.
    pub job: JobId,
}

/// What is known of the work in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkOrigin {
    /// The branch made for the job.
    pub branch: BranchName,
    /// The commit it started from; `None`: no workspace was ever finished.
    pub base: Option<CommitId>,
}

/// What became of a workspace that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reclaimed {
    /// There was none.
    Nothing,
    /// It is gone.
    Removed {
        /// The ref that holds what was not delivered, if there was anything.
        saved: Option<String>,
    },
    /// It stays for now.
    Kept {
        /// Why.
        why: &'static str,
    },
}

/// What became of the upkeep of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maintained {
    /// It is in good order, or was seen to less than a day ago.
    NotNeeded,
    /// A job has a workspace of it, or somebody is changing it.
    InUse,
    /// It was broken off for somebody who wanted the mirror.
    Interrupted,
    /// It is done.
    Done,
}

/// Looks after what stands on a disk. Everything can be repeated, and done beside running jobs.
pub trait Upkeep: Send + Sync {
    /// Every workspace there is, also one of which only traces are left.
    fn workspaces(&self) -> BoxFuture<'_, Result<Vec<FoundWorkspace>, MirrorError>>;

    /// Every repository that has a mirror or workspaces.
    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepoSlug>, MirrorError>>;

    /// Removes a workspace that no unfinished job has, after keeping what was not delivered. One
    /// in which a process is at work stays; so does one of a job nobody knows (`origin` is `None`)
    /// until it was left alone for a day: it may be another server's.
    fn reclaim<'a>(
        &'a self,
        found: &'a FoundWorkspace,
        origin: Option<&'a WorkOrigin>,
    ) -> BoxFuture<'a, Result<Reclaimed, MirrorError>>;

    /// Removes what killed programs and broken off removals have left of a repository; returns
    /// how many files and directories.
    fn sweep<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<usize, MirrorError>>;

    /// Packs the mirror if it needs it and nobody needs the mirror; gives way to whoever does.
    fn maintain<'a>(&'a self, repo: &'a RepoSlug)
    -> BoxFuture<'a, Result<Maintained, MirrorError>>;
}
