//! What jobs leave on the disk of a worker: in git, and where the CLI keeps its sessions.

use std::sync::Arc;

use agent_domain::{
    BoxFuture, FoundWorkspace, Maintained, MirrorError, Reclaimed, RepoSlug, Upkeep, WorkOrigin,
};
use agent_git::Git;
use agent_runner::Runner;

/// Looks after all of it.
#[derive(Clone)]
pub struct House {
    git: Git,
    runner: Arc<Runner>,
}

impl House {
    /// Looks after what `git` and `runner` leave.
    pub fn new(git: Git, runner: Arc<Runner>) -> Self {
        Self { git, runner }
    }

    /// A job that ends while nobody works on it leaves the CLI's own copy of its session beside its
    /// workspace.
    async fn reclaim_all(
        &self,
        found: &FoundWorkspace,
        origin: Option<&WorkOrigin>,
    ) -> Result<Reclaimed, MirrorError> {
        let workspace = self.git.workspace_path(&found.repo, found.job);
        // Their names come from the real path of the workspace, while there is one.
        let sessions = self.runner.sessions_of(&workspace);
        let reclaimed = self.git.reclaim(found, origin).await?;
        if matches!(reclaimed, Reclaimed::Removed { .. }) {
            sessions.remove().await;
        }
        Ok(reclaimed)
    }
}

impl Upkeep for House {
    fn workspaces(&self) -> BoxFuture<'_, Result<Vec<FoundWorkspace>, MirrorError>> {
        self.git.workspaces()
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepoSlug>, MirrorError>> {
        self.git.repositories()
    }

    fn reclaim<'a>(
        &'a self,
        found: &'a FoundWorkspace,
        origin: Option<&'a WorkOrigin>,
    ) -> BoxFuture<'a, Result<Reclaimed, MirrorError>> {
        Box::pin(self.reclaim_all(found, origin))
    }

    fn sweep<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<usize, MirrorError>> {
        self.git.sweep(repo)
    }

    fn maintain<'a>(
        &'a self,
        repo: &'a RepoSlug,
    ) -> BoxFuture<'a, Result<Maintained, MirrorError>> {
        self.git.maintain(repo)
    }
}
