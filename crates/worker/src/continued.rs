//! A job that goes on in the session of an ended one: on its branch, with its work, and with its
//! session put where the CLI finds it.

use agent_domain::{BranchMoved, CommitId, Continued, Ending, Reason};
use agent_git::{GitError, Workspace};

use crate::attempt::{Attempt, Halt};
use crate::prepare::git_failed;

/// What the work of a job is counted from, and what it begins with.
pub(crate) struct Ground {
    pub(crate) base: CommitId,
    pub(crate) start: CommitId,
    /// Whether the remote has the branch, as work of the session's earlier jobs.
    pub(crate) is_pushed: bool,
}

impl Ground {
    /// Of a job that begins with nothing but the base.
    pub(crate) fn plain(base: CommitId) -> Self {
        Self {
            start: base.clone(),
            base,
            is_pushed: false,
        }
    }
}

impl Attempt<'_> {
    /// Where the job begins; its own base, or what the session's last job has left, as of a fetch.
    pub(crate) async fn ground(&self, fetched: CommitId) -> Result<Ground, Halt> {
        let assignment = self.assignment;
        let Some(continued) = &assignment.continues else {
            return Ok(Ground::plain(fetched));
        };
        let (git, repo) = (&self.parts.git, &assignment.repo);
        let failed = |error: GitError| git_failed(&error);
        let tip = git.remote_branch(repo, &assignment.branch).await;
        let tip = tip.map_err(failed)?;
        continued.expects(tip.as_ref()).map_err(moved)?;
        let saved = match &continued.saved_ref {
            Some(name) => git.kept_work(repo, name).await.map_err(failed)?,
            None => None,
        };
        let base = tip.clone().unwrap_or_else(|| continued.base.clone());
        let left = [saved, continued.head.clone(), tip.clone()];
        let start = left.into_iter().flatten().next();
        Ok(Ground {
            start: start.unwrap_or_else(|| base.clone()),
            base,
            is_pushed: tip.is_some(),
        })
    }

    /// What the remote has of the branch while this job works on top of it.
    pub(crate) fn pushed_before(&self) -> Option<&CommitId> {
        let base = self.facts.base_commit.as_ref()?;
        self.assignment.continues.as_ref()?.lease(base)
    }

    /// Puts the session of an ended job where the CLI finds it, and returns its id.
    pub(crate) async fn put_session(
        &self,
        workspace: &Workspace,
        continued: &Continued,
    ) -> Result<String, Halt> {
        let id = &continued.session_id;
        let (runner, from) = (&self.parts.runner, &self.assignment.session);
        let gone = |why: &str| Ending::Failed {
            reason: Reason::SessionLost,
            error: format!("the session {id} of job {} {why}", continued.job),
        };
        match runner.put_session(from, workspace.path(), id).await {
            Ok(true) => Ok(id.clone()),
            Ok(false) => Err(gone("is not there any more").into()),
            Err(error) => Err(gone(&error.to_string()).into()),
        }
    }

    /// Keeps the session for whoever goes on in it; only with `last` it is no more where the CLI put it.
    pub(crate) async fn keep_session(&self, last: bool) {
        let job = self.assignment.lease.job;
        let (Some(id), Some(workspace)) = (&self.facts.session_id, self.workspace()) else {
            return;
        };
        let (runner, to) = (&self.parts.runner, &self.assignment.session);
        let masker = runner.masker(&self.assignment.secrets.all());
        let kept = runner.keep_session(workspace.path(), id, to, masker, last);
        if let Err(error) = kept.await {
            tracing::warn!(job.id = %job, %error, "its session is not kept");
        }
    }
}

fn moved(error: BranchMoved) -> Halt {
    Ending::Failed {
        reason: Reason::BranchMoved,
        error: error.to_string(),
    }
    .into()
}
