//! The contract of the domain for mirrors, kept by [`Git`].

use std::path::PathBuf;
use std::sync::Arc;

use agent_domain::{BoxFuture, BranchName, JobId, MirrorError, Mirrors, RepoSlug};

use crate::mirror::{blocking, is_complete};
use crate::{Git, refs};

impl Mirrors for Git {
    fn path(&self, repo: &RepoSlug) -> PathBuf {
        self.mirror_path(repo)
    }

    fn exists(&self, repo: &RepoSlug) -> bool {
        is_complete(&self.mirror_path(repo))
    }

    fn ensure<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<(), MirrorError>> {
        Box::pin(async { Ok(self.ensure_mirror(repo).await?) })
    }

    fn fetch<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<(), MirrorError>> {
        Box::pin(async { Ok(self.fetch_mirror(repo).await?) })
    }

    fn remove<'a>(&'a self, repo: &'a RepoSlug) -> BoxFuture<'a, Result<bool, MirrorError>> {
        Box::pin(async { Ok(self.remove_mirror(repo).await?) })
    }

    fn forget_work<'a>(
        &'a self,
        repo: &'a RepoSlug,
        job: JobId,
    ) -> BoxFuture<'a, Result<(), MirrorError>> {
        Box::pin(async move { Ok(Self::forget_work(self, repo, job).await?) })
    }

    fn clashing_branch<'a>(
        &'a self,
        repo: &'a RepoSlug,
        branch: &'a BranchName,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(async {
            let (mirror, branch) = (self.mirror_path(repo), branch.clone());
            // A mirror that cannot be read is found out by the job itself, with a better error.
            let inner = Arc::clone(&self.inner);
            // A look at two or three files costs less than handing it to another thread.
            if let Some(refs) = inner.opened.already(&mirror) {
                return refs::clash_on_remote(&refs, &branch).unwrap_or_default();
            }
            if !is_complete(&mirror) {
                return None;
            }
            blocking(move || refs::clash_on_remote(&inner.opened.refs(&mirror)?, &branch))
                .await
                .unwrap_or_default()
        })
    }
}
