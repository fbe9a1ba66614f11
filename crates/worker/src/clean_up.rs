//! What remains of an attempt that has ended: nothing, or its unfinished work in the mirror.

use agent_domain::Ending;

use crate::attempt::Attempt;

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
        if *ending != Ending::Completed && !self.save_work().await {
            return;
        }
        let (repo, branch) = (&self.assignment.repo, &self.assignment.branch);
        if let Err(error) = self.parts.git.remove_workspace(repo, job, branch).await {
            tracing::warn!(job.id = %job, %error, "workspace not removed");
        }
    }

    /// Returns whether the workspace may be removed: what could not be saved must not be.
    pub(crate) async fn save_work(&mut self) -> bool {
        let job = self.assignment.lease.job;
        let Some(workspace) = self.workspace().filter(|found| found.path().exists()) else {
            return true;
        };
        match self.parts.git.save_work(&workspace, job).await {
            Ok(None) => true,
            Ok(Some(saved)) => {
                self.journal.say(&format!(
                    "Kept the unfinished work as {saved} in the mirror"
                ));
                self.facts.saved_ref = Some(saved);
                // On record before the workspace goes: afterwards nobody could tell.
                self.progress(self.phase).await.is_ok()
            }
            Err(error) => {
                let path = workspace.path().display();
                self.journal
                    .say(&format!("Unfinished work stays in {path}: {error}"));
                tracing::error!(job.id = %job, %error, %path, "unfinished work not saved");
                false
            }
        }
    }
}
