//! From an agent's finished work to a pushed branch and a pull request.
//!
//! Every step is idempotent: after a crash the same attempt delivers again from the top.

use std::time::Duration;

use agent_domain::{CommitId, Delivery, Ending, Phase, PullRequest, Reason};
use agent_forge::{ForgeError, PullRequestRequest};
use agent_git::{Git, GitError};

use crate::attempt::{Attempt, Halt};
use crate::clean_up::Unsaved;
use crate::patience::patiently;
use crate::prepare::{credentials_lost, forge_failed, git_failed};
use crate::room::Waited;

impl Attempt<'_> {
    /// Commits, pushes, and opens the pull request where there is something to see.
    pub(crate) async fn deliver(&mut self) -> Result<(), Halt> {
        let (head, files_changed) = match (&self.facts.head_commit, self.facts.files_changed) {
            (Some(head), Some(files)) => (head.clone(), files),
            _ => self.commit().await?,
        };
        // A first cancellation lets what is under way come to its end, so that its outcome is
        // known; a second one does not wait for a remote that hangs.
        let killing = self.killing();
        tokio::select! {
            delivered = self.send(&head, files_changed) => delivered,
            () = killing => Err(Ending::Cancelled.into()),
        }
    }

    /// What becomes of the work.
    pub(crate) fn delivery(&self) -> Delivery {
        self.assignment.options.delivery.unwrap_or_default()
    }

    async fn send(&mut self, head: &CommitId, files_changed: u64) -> Result<(), Halt> {
        self.ours().await;
        if self.delivery() == Delivery::None {
            return self.keep().await;
        }
        self.push(head).await?;
        self.ours().await;
        if self.delivery() == Delivery::Branch {
            return Ok(());
        }
        let known = self.assignment.continues.as_ref();
        let known = known.and_then(|continued| continued.pull_request.clone());
        if files_changed == 0 && known.is_some() {
            self.journal
                .say("Nothing changed; the pull request is as it was");
            self.facts.pull_request = known;
        } else if files_changed == 0 {
            self.journal
                .say("Nothing changed; the branch is pushed without a pull request");
        } else if self
            .forge()
            .ready()
            .await
            .map_err(|error| forge_failed(&error))?
        {
            let opened = self.open_pull_request().await?;
            self.journal
                .say(&format!("Pull request #{}: {}", opened.number, opened.url));
            self.label(opened.number).await;
            self.facts.pull_request = Some(opened);
        }
        Ok(())
    }

    /// Keeps the work on this machine, as unfinished work is kept.
    async fn keep(&mut self) -> Result<(), Halt> {
        let mut waited = Waited::default();
        loop {
            match self.save_work().await {
                Ok(()) => break,
                Err(Unsaved::Stale) => return Err(Halt::Stale),
                Err(Unsaved::Git(error)) if error.is_disk_full() => {
                    self.wait_for_room(&mut waited).await?;
                }
                Err(Unsaved::Git(error)) => return Err(git_failed(&error)),
            }
        }
        self.has_room(waited).await
    }

    /// Labels the pull request. The work is delivered by then, so what goes wrong is only said.
    async fn label(&self, number: u64) {
        let labels = self.assignment.options.labels.as_deref();
        let labels = labels.unwrap_or_default();
        if labels.is_empty() {
            return;
        }
        let (forge, repo) = (self.forge(), &self.assignment.repo);
        let label = || forge.label(repo, number, labels);
        let labelled = patiently(
            self.parts.ids.as_ref(),
            label,
            |_: &ForgeError, _| {},
            self.cancellation(),
        );
        if let Err(error) = labelled.await {
            self.journal
                .say(&format!("The pull request could not be labelled: {error}"));
        }
    }

    /// Commits what the agent left, and records what there is to deliver.
    async fn commit(&mut self) -> Result<(CommitId, u64), Halt> {
        let assignment = self.assignment;
        let message = match &assignment.title {
            Some(title) => title.clone(),
            None => format!("feat: {}", assignment.branch),
        };
        let Some(workspace) = self.workspace() else {
            let error = "the commit the work started from is not on record".to_owned();
            return Err(Ending::Failed {
                reason: Reason::Git,
                error,
            }
            .into());
        };
        let git = &self.parts.git;
        let mut waited = Waited::default();
        let head = loop {
            match git.commit_all(&workspace, &message).await {
                Err(error) if error.is_disk_full() => {
                    // Also for a server that takes this up: the agent is done.
                    self.phase = Phase::Delivering;
                    self.wait_for_room(&mut waited).await?;
                }
                other => break other.map_err(|error| git_failed(&error))?,
            }
        };
        self.has_room(waited).await?;
        let counted = git
            .files_changed(&assignment.repo, workspace.base(), &head)
            .await;
        let files_changed = counted.map_err(|error| git_failed(&error))?;
        self.facts.head_commit = Some(head.clone());
        self.facts.files_changed = Some(files_changed);
        self.progress(Phase::Delivering).await?;
        Ok((head, files_changed))
    }

    /// Pushes, when there is room for what git writes on the way.
    async fn push(&mut self, head: &CommitId) -> Result<(), Halt> {
        let assignment = self.assignment;
        // The server's own token may be allowed what the job's was not.
        if assignment.brought.git && assignment.secrets.git_token.is_none() {
            return Err(credentials_lost());
        }
        let git = self.git()?;
        let mut waited = Waited::default();
        loop {
            match self.push_patiently(&git, head).await {
                Err(error) if error.is_disk_full() => self.wait_for_room(&mut waited).await?,
                other => break other.map_err(|error| git_failed(&error))?,
            }
        }
        self.has_room(waited).await?;
        self.journal
            .say(&format!("Pushed {} at {head}", assignment.branch));
        Ok(())
    }

    async fn push_patiently(&self, git: &Git, head: &CommitId) -> Result<(), GitError> {
        let assignment = self.assignment;
        let onto = self.pushed_before();
        let push = || git.push_onto(&assignment.repo, head, &assignment.branch, onto);
        let tell = |error: &GitError, wait: Duration| {
            self.journal.say(&format!(
                "Push failed, next try in {} s: {error}",
                wait.as_secs()
            ));
        };
        patiently(self.parts.ids.as_ref(), push, tell, self.cancellation()).await
    }

    async fn open_pull_request(&self) -> Result<PullRequest, Halt> {
        let assignment = self.assignment;
        let feature = assignment.os_feature_id.as_deref().unwrap_or("N/A");
        let title = assignment.title.clone();
        let request = PullRequestRequest {
            repo: assignment.repo.clone(),
            head: assignment.branch.clone(),
            base: assignment
                .base
                .branch()
                .unwrap_or(&assignment.default_branch)
                .clone(),
            title: title.unwrap_or_else(|| assignment.branch.to_string()),
            body: format!("Automated by Claude Code Agent\n\nFeature ID: {feature}"),
            draft: assignment.options.draft.unwrap_or(false),
        };
        let forge = self.forge();
        let open = || forge.pull_request(&request);
        let tell = |error: &ForgeError, wait: Duration| {
            let wait = wait.as_secs();
            self.journal.say(&format!(
                "Pull request failed, next try in {wait} s: {error}"
            ));
        };
        let opened = patiently(self.parts.ids.as_ref(), open, tell, self.cancellation()).await;
        opened.map_err(|error| forge_failed(&error))
    }
}
