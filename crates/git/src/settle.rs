//! Undoes what an agent can have done to git's own files, before a command of ours goes by them.
//!
//! In a linked worktree an agent can write to the mirror, which all jobs of its repository share: to
//! settings that name programs to run, to lists of other places to take objects from, to rewritten
//! history. None of these is ever there in good order, so whatever is there goes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use agent_domain::RepoSlug;

use crate::lock::RepoLock;
use crate::mirror::{blocking, blocking_under, is_complete};
use crate::relic::{is_dir, text};
use crate::{Git, GitError, Workspace, trash};

/// What in a mirror changes what its commits are, which files count, or where objects come from.
const FOREIGN: &[&str] = &[
    "config.worktree",
    "info/attributes",
    "info/exclude",
    "info/grafts",
    "info/sparse-checkout",
    "objects/info/alternates",
    "objects/info/http-alternates",
    "refs/replace",
    "shallow",
];
/// Directories of a mirror that, where they are there, must be in it, not links to somewhere else.
const PLACES: &[&str] = &[
    "info",
    "objects",
    "objects/info",
    "objects/pack",
    "refs",
    "refs/agent",
    "refs/heads",
    "refs/remotes",
    "worktrees",
];
/// A longer file of settings is none of ours, in bytes.
const CONFIG_MAX: u64 = 64 * 1024;

impl Git {
    /// Undoes what an agent has changed in the mirror, if there is one.
    pub(crate) async fn settle(
        &self,
        repo: &RepoSlug,
        lock: &Arc<RepoLock>,
    ) -> Result<(), GitError> {
        let mirror = self.mirror_path(repo);
        let wanted = self.config_of(repo, "bare = true").await?;
        blocking_under(Arc::clone(lock), move || {
            if !is_complete(&mirror) || is_settled(&mirror, &wanted)? {
                return Ok(());
            }
            let repo = mirror.display();
            tracing::warn!(%repo, "what an agent changed in the mirror is undone");
            settle(&mirror, &wanted)
        })
        .await
    }

    /// As [`Git::settle`], taking the lock only if there is something to undo.
    pub(crate) async fn ensure_settled(&self, repo: &RepoSlug) -> Result<(), GitError> {
        let mirror = self.mirror_path(repo);
        let wanted = self.config_of(repo, "bare = true").await?;
        if blocking(move || is_settled(&mirror, &wanted)).await? {
            return Ok(());
        }
        let lock = self.lock(repo).await?;
        self.settle(repo, &lock).await
    }

    /// As [`Git::ensure_settled`], with what belongs to a workspace whose agent has ended.
    pub(crate) async fn settle_workspace(&self, workspace: &Workspace) -> Result<(), GitError> {
        self.ensure_settled(workspace.repo()).await?;
        let workspace = workspace.clone();
        blocking(move || settle_admin(&workspace)).await
    }
}

/// Whether all is as we have made it. An error when the mirror's own directories lead elsewhere.
fn is_settled(mirror: &Path, wanted: &str) -> Result<bool, GitError> {
    if !is_complete(mirror) {
        return Ok(true);
    }
    let missing = |place: &Path| place.symlink_metadata().is_err();
    for place in PLACES.iter().map(|place| mirror.join(place)) {
        if !is_dir(&place) && !missing(&place) {
            let what = format!("{} is no directory any more", place.display());
            return Err(GitError::Repository(what));
        }
    }
    let foreign = FOREIGN.iter().any(|name| !missing(&mirror.join(name)));
    Ok(!foreign && text(&mirror.join("config"), CONFIG_MAX) == wanted)
}

fn settle(mirror: &Path, wanted: &str) -> Result<(), GitError> {
    for name in FOREIGN {
        trash::delete(&mirror.join(name))?;
    }
    replace(&mirror.join("config"), wanted)
}

/// Writes a file that is complete or not there, in the place of whatever is.
fn replace(file: &Path, content: &str) -> Result<(), GitError> {
    if file.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        trash::delete(file)?;
    }
    let fresh = file.with_extension("new");
    trash::delete(&fresh)?;
    fs::write(&fresh, content)
        .and_then(|()| fs::rename(&fresh, file))
        .map_err(|source| GitError::io("write", file, source))
}

/// Makes the administrative directory of a workspace one of its mirror's again.
fn settle_admin(workspace: &Workspace) -> Result<(), GitError> {
    let admin = workspace.admin();
    let meta = admin.symlink_metadata();
    if meta.is_err() {
        return Ok(());
    }
    if !is_dir(&admin) || !is_dir(workspace.path()) && workspace.path().symlink_metadata().is_ok() {
        let what = "the workspace's own directories lead elsewhere";
        return Err(GitError::Repository(what.into()));
    }
    for name in ["config.worktree", "info"] {
        trash::delete(&admin.join(name))?;
    }
    for name in ["HEAD", "index", "MERGE_HEAD"] {
        let file = admin.join(name);
        // A pipe would keep git waiting, a link would lead it elsewhere.
        if file.symlink_metadata().is_ok_and(|meta| !meta.is_file()) {
            trash::delete(&file)?;
        }
    }
    let commondir = admin.join("commondir");
    if text(&commondir, CONFIG_MAX) != COMMONDIR {
        replace(&commondir, COMMONDIR)?;
    }
    Ok(())
}

/// Where a linked worktree's administrative directory finds its mirror.
pub(crate) const COMMONDIR: &str = "../..\n";
