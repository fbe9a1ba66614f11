//! The contract of the domain for what jobs leave on a disk, kept by [`Git`].

use agent_domain::{
    BoxFuture, FoundWorkspace, Maintained, MirrorError, Reclaimed, RepoSlug, Upkeep, WorkOrigin,
};

use crate::Git;
use crate::mirror::blocking;

impl Upkeep for Git {
    fn workspaces(&self) -> BoxFuture<'_, Result<Vec<FoundWorkspace>, MirrorError>> {
        let git = self.clone();
        Box::pin(async move { Ok(blocking(move || Ok(git.find_workspaces())).await?) })
    }

    fn repositories(&self) -> BoxFuture<'_, Result<Vec<RepoSlug>, MirrorError>> {
        let git = self.clone();
        Box::pin(async move { Ok(blocking(move || Ok(git.find_repositories())).await?) })
    }

    fn reclaim<'a>(
        &'a self,
        found: &'a FoundWorkspace,
        origin: Option<&'a WorkOrigin>,
    ) -> BoxFuture<'a, Result<Reclaimed, MirrorError>> {
        Box::pin(async move { Ok(self.reclaim_workspace(found, origin).await?) })
    }

    fn sweep<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<usize, MirrorError>> {
        Box::pin(async move { Ok(self.sweep_repository(repo).await?) })
    }

    fn maintain<'a>(
        &'a self,
        repo: &'a RepoSlug,
    ) -> BoxFuture<'a, Result<Maintained, MirrorError>> {
        Box::pin(async move { Ok(self.maintain_mirror(repo).await?) })
    }
}
