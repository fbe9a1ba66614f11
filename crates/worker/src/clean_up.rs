//! What remains of an attempt that has ended: nothing, or its unfinished work in the mirror.

use agent_domain::{Assignment, Ending};
use agent_git::GitError;

use crate::attempt::Attempt;
use crate::room::Waited;

impl Attempt<'_> {
    /// Keeps what was not delivered, then removes the workspace.
    ///
    /// Can be repeated after a crash: a workspace that is gone has nothing left to keep.
    pub(crate) async fn clean_up(&mut self, ending: &Ending) {
        self.ours().await;
        let job = self.assignment.lease.job;
        if ending.leaves_processes() {
            // They may still be writing there.
            if let Ending::Failed { error, .. } = ending {
                self.journal.say(error);
                tracing::error!(job.id = %job, %error, "processes of a job are left");
            }
            return;
        }
        let comes_back = self.comes_back(ending);
        self.keep_session(!comes_back).await;
        if comes_back {
            return;
        }
        if *ending != Ending::Completed && !self.keep_work(ending).await {
            return;
        }
        let (repo, branch) = (&self.assignment.repo, &self.assignment.branch);
        if let Err(error) = self.parts.git.remove_workspace(repo, job, branch).await {
            tracing::warn!(job.id = %job, %error, "workspace not removed");
        }
    }

    /// Keeps what was not delivered, and waits for room if need be: not for a job that is cancelled, or
    /// that comes back to its workspace. Returns whether the workspace may be removed: what could not
    /// be saved must not be.
    async fn keep_work(&mut self, ending: &Ending) -> bool {
        let may_wait = matches!(ending, Ending::Failed { .. } | Ending::Lost { .. });
        let mut waited = Waited::default();
        loop {
            let error = match self.save_work().await {
                Ok(()) => return self.has_room(waited).await.is_ok(),
                Err(Unsaved::Stale) => return false,
                Err(Unsaved::Git(error)) => error,
            };
            let goes_on = may_wait && error.is_disk_full();
            if !goes_on || self.wait_for_room(&mut waited).await.is_err() {
                self.stays(&error);
                return false;
            }
        }
    }

    /// Keeps unfinished work as a ref in the mirror, if there is any.
    pub(crate) async fn save_work(&mut self) -> Result<(), Unsaved> {
        let job = self.assignment.lease.job;
        let Some(workspace) = self.workspace().filter(|found| found.path().exists()) else {
            return Ok(());
        };
        let saved = self.parts.git.save_work(&workspace, job).await;
        let Some(saved) = saved.map_err(Unsaved::Git)? else {
            return Ok(());
        };
        self.journal.say(&format!(
            "Kept the unfinished work as {saved} in the mirror"
        ));
        self.facts.saved_ref = Some(saved);
        // On record before the workspace goes: afterwards nobody could tell.
        let recorded = self.progress(self.phase).await;
        recorded.map_err(|_| Unsaved::Stale)
    }

    /// Says that unfinished work is where it was.
    pub(crate) fn stays(&self, error: &GitError) {
        let Assignment { repo, lease, .. } = self.assignment;
        let path = self.parts.git.workspace_path(repo, lease.job);
        let path = path.display();
        self.journal
            .say(&format!("Unfinished work stays in {path}: {error}"));
        tracing::error!(job.id = %lease.job, %error, %path, "unfinished work not saved");
    }
}

/// Why unfinished work was not saved.
pub(crate) enum Unsaved {
    /// Git could not.
    Git(GitError),
    /// The attempt is no longer ours.
    Stale,
}
