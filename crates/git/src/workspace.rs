//! Workspaces: making one from a commit, and removing it with all that belongs to it.

use std::sync::Arc;

use agent_domain::{BranchName, CommitId, JobId, RepoSlug};

use crate::lock::RepoLock;
use crate::mirror::{blocking, blocking_under};
use crate::stale;
use crate::{Git, GitError, Layout, Workspace, owned, trash, worktree};

impl Git {
    /// Makes the workspace of a job at `base`, on the new branch `branch`.
    ///
    /// [`GitError::BranchExists`] when the branch clashes with one of the remote (as of the last
    /// fetch) or of another job. Whatever an interrupted earlier try of the same job has left is
    /// removed first.
    pub async fn add_workspace(
        &self,
        repo: &RepoSlug,
        job: JobId,
        branch: &BranchName,
        base: &CommitId,
        layout: Layout,
    ) -> Result<Workspace, GitError> {
        self.make_workspace(self.workspace(repo, job, branch, base), layout)
            .await
    }

    /// As [`Git::add_workspace`], of a workspace that is described.
    pub async fn make_workspace(
        &self,
        workspace: Workspace,
        layout: Layout,
    ) -> Result<Workspace, GitError> {
        let (repo, job, branch) = (workspace.repo(), workspace.job(), workspace.branch());
        let lock = self.lock(repo).await?;
        let register = move |workspace: &Workspace| worktree::register(workspace, layout);
        self.change(&workspace, lock, register).await?;
        if let Err(error) = self.fill(&workspace, layout).await {
            if let Err(left) = self.remove_workspace(repo, job, branch).await {
                tracing::warn!(%job, %left, "a workspace could not be removed");
            }
            return Err(error);
        }
        self.empty_trash(&workspace).await?;
        Ok(workspace)
    }

    /// Removes the workspace of a job and its local branch, as far as they are there. Branches
    /// of anyone else stay, and so does everything on the remote.
    pub async fn remove_workspace(
        &self,
        repo: &RepoSlug,
        job: JobId,
        branch: &BranchName,
    ) -> Result<(), GitError> {
        let workspace = self.unmade_workspace(repo, job, branch)?;
        if workspace.admin().exists() || workspace.path().exists() {
            let lock = self.lock(repo).await?;
            self.change(&workspace, lock, worktree::unregister).await?;
        }
        self.empty_trash(&workspace).await
    }

    /// A workspace of which it does not matter which commit it was made from.
    pub(crate) fn unmade_workspace(
        &self,
        repo: &RepoSlug,
        job: JobId,
        branch: &BranchName,
    ) -> Result<Workspace, GitError> {
        let nothing = "0".repeat(40).parse();
        let nothing = nothing.map_err(|error| GitError::Repository(format!("{error}")))?;
        Ok(self.workspace(repo, job, branch, &nothing))
    }

    /// Writes the files, and git's own where they go with them.
    async fn fill(&self, workspace: &Workspace, layout: Layout) -> Result<(), GitError> {
        self.check_out(workspace).await?;
        if layout == Layout::Linked {
            return Ok(());
        }
        let config = self.config_of(workspace.repo(), "bare = false").await?;
        let workspace = workspace.clone();
        blocking(move || owned::create(&workspace, &config)).await
    }

    /// Writes the files. Without the lock: nothing is touched but what belongs to the workspace.
    async fn check_out(&self, workspace: &Workspace) -> Result<(), GitError> {
        self.inner
            .program
            .command("read-tree")
            .config("checkout.workers=0")
            .args(["--reset", "-u", "HEAD"])
            .git_dir(workspace.admin())
            .work_tree(workspace.path())
            .run_ok()
            .await
            .map(drop)
    }

    async fn empty_trash(&self, workspace: &Workspace) -> Result<(), GitError> {
        let path = workspace.path().to_owned();
        blocking(move || trash::empty(&path)).await
    }

    /// Changes the registration of a workspace past stale lock files, and gives the lock back.
    async fn change(
        &self,
        workspace: &Workspace,
        lock: Arc<RepoLock>,
        work: impl Fn(&Workspace) -> Result<(), GitError> + Clone + Send + 'static,
    ) -> Result<(), GitError> {
        self.settle(workspace.repo(), &lock).await?;
        stale::past(&self.scope_of(workspace), || {
            let (workspace, lock) = (workspace.clone(), Arc::clone(&lock));
            let work = work.clone();
            blocking_under(lock, move || work(&workspace))
        })
        .await
    }
}
