//! A branch that is still held by the workspace of a job that has ended.

use agent_domain::{BranchName, FoundWorkspace, JobId, Reclaimed, RepoSlug, WorkOrigin};

use crate::mirror::blocking;
use crate::{Git, GitError, worktree};

impl Git {
    /// Removes the workspaces of other jobs that were made for `branch`, their work kept first,
    /// and says what has become of each.
    ///
    /// Only for the one unfinished job of the repository that asks for this branch: whoever else
    /// has held it has ended, and could not remove its workspace, because the disk was full, say.
    pub async fn free_branch(
        &self,
        repo: &RepoSlug,
        job: JobId,
        branch: &BranchName,
    ) -> Result<Vec<(JobId, Reclaimed)>, GitError> {
        let own = self.unmade_workspace(repo, job, branch)?;
        let holders = blocking(move || Ok(worktree::made_for_the_same(&own))).await?;
        let origin = WorkOrigin {
            branch: branch.clone(),
            base: None,
        };
        let mut freed = Vec::new();
        for job in holders {
            let found = FoundWorkspace {
                repo: repo.clone(),
                job,
            };
            let reclaimed = self.reclaim_workspace(&found, Some(&origin)).await?;
            tracing::warn!(%job, %branch, ?reclaimed, "an ended job's workspace held the branch");
            freed.push((job, reclaimed));
        }
        Ok(freed)
    }
}
