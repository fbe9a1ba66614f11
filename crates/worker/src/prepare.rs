//! From a lease to a workspace in which the agent can be started.

use std::path::Path;

use agent_domain::{
    Assignment, Base, CREDENTIALS_LOST, CommitId, Delivery, Ending, Lease, Phase, Reason,
    unkillable,
};
use agent_forge::ForgeError;
use agent_git::{GitError, Layout, Workspace};
use agent_runner::{CLAUDE_MD_MAX, Conventions, Project, RunRequest};

use crate::attempt::{Attempt, Halt};
use crate::clean_up::Unsaved;
use crate::continued::Ground;
use crate::patience::{Transient, patiently};

/// Where a repository tells the agent how to work in it.
const CLAUDE_MD: &str = "CLAUDE.md";
/// Where a repository sets up the CLI.
const SETUP: &[&str] = &[".claude", ".mcp.json"];

impl Transient for GitError {
    fn is_transient(&self) -> bool {
        Self::is_transient(self)
    }
}

impl Transient for ForgeError {
    fn is_transient(&self) -> bool {
        Self::is_transient(self)
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        Self::retry_after(self)
    }
}

/// Says how an attempt ends when git fails.
pub(crate) fn git_failed(error: &GitError) -> Halt {
    Ending::Failed {
        reason: error.reason(),
        error: error.to_string(),
    }
    .into()
}

/// Says how an attempt ends whose keys are gone.
pub(crate) fn credentials_lost() -> Halt {
    Ending::Failed {
        reason: Reason::CredentialsLost,
        error: CREDENTIALS_LOST.to_owned(),
    }
    .into()
}

/// Says how an attempt ends when the forge fails.
pub(crate) fn forge_failed(error: &ForgeError) -> Halt {
    Ending::Failed {
        reason: Reason::Delivery,
        error: error.to_string(),
    }
    .into()
}

impl Attempt<'_> {
    /// Makes the workspace; whatever an interrupted try of the same attempt left is made anew.
    ///
    /// A cancellation ends it at once. Everything that can fail without the agent fails here,
    /// before it has cost anything.
    pub(crate) async fn prepare(&mut self) -> Result<RunRequest, Halt> {
        self.unless_cancelled()?;
        self.has_its_keys()?;
        self.end_earlier().await?;
        let fetched = tokio::select! {
            () = self.cancellation() => return Err(Ending::Cancelled.into()),
            fetched = self.fetch() => fetched?,
        };
        let ground = self.ground(fetched).await?;
        self.keep_leftovers().await?;
        let assignment = self.assignment;
        let job = assignment.lease.job;
        let cwd = self.parts.git.workspace_path(&assignment.repo, job);
        self.facts.base_commit = Some(ground.base.clone());
        self.facts.worktree_path = Some(cwd.clone());
        self.progress(Phase::Preparing).await?;
        let layout = self.layout();
        let made = self.make_workspace(&ground, layout).await;
        let workspace = made.map_err(|error| git_failed(&error))?;
        let project = self.project(&ground.start).await?;
        let session = match &assignment.continues {
            Some(continued) => Some(self.put_session(&workspace, continued).await?),
            None => None,
        };
        self.unless_cancelled()?;
        // Recorded before the agent is started: from here on a restarted server looks for it.
        self.progress(Phase::Agent).await?;
        self.ours().await;
        self.journal.say(&format!(
            "Workspace ready on branch {} at {}",
            assignment.branch, ground.start
        ));
        let request = self.request(&cwd, project, workspace.reach(layout));
        let told = assignment.continues.as_ref();
        let told = told.and_then(|continued| continued.told.as_deref());
        Ok(RunRequest {
            prompt: told.map_or_else(|| request.prompt.clone(), Into::into),
            resume: session,
            ..request
        })
    }

    /// Makes the workspace. A branch in its way may be that of a job that has ended and could not
    /// remove its own: an unfinished one cannot have it, or this one would not have been taken in.
    async fn make_workspace(&self, ground: &Ground, layout: Layout) -> Result<Workspace, GitError> {
        let Assignment {
            lease: Lease { job, .. },
            repo,
            branch,
            ..
        } = self.assignment;
        let git = &self.parts.git;
        let wanted = git.workspace(repo, *job, branch, &ground.base);
        let wanted = wanted.going_on(ground.start.clone(), ground.is_pushed);
        let add = || git.make_workspace(wanted.clone(), layout);
        match add().await {
            Err(GitError::BranchExists { existing }) => {
                let freed = git.free_branch(repo, *job, branch).await?;
                if freed.is_empty() {
                    return Err(GitError::BranchExists { existing });
                }
                for (ended, _) in freed {
                    self.journal.say(&format!(
                        "Job {ended}, which has ended, still held the branch"
                    ));
                }
                add().await
            }
            made => made,
        }
    }

    /// What of the repository's own set-up for the CLI counts: all of it, or its conventions,
    /// read from the commit itself.
    pub(crate) async fn project(&self, base: &CommitId) -> Result<Project, Halt> {
        let Assignment { repo, trusted, .. } = self.assignment;
        if *trusted {
            return Ok(Project::Trusted);
        }
        let git = &self.parts.git;
        let has_setup = git.tracks(repo, base, SETUP).await;
        if has_setup.map_err(|error| git_failed(&error))? {
            self.journal.say(
                "The repository is not trusted: its settings, hooks and MCP servers are left out",
            );
        }
        let found = git.committed_file(repo, base, Path::new(CLAUDE_MD), CLAUDE_MD_MAX);
        let found = found.await.map_err(|error| git_failed(&error))?;
        let conventions = found.map(|file| Conventions::new(&file.beginning, file.length));
        if conventions.as_ref().is_some_and(Conventions::is_cut) {
            self.journal
                .say("The repository's CLAUDE.md is too long; only its beginning is passed on");
        }
        Ok(Project::Untrusted(conventions))
    }

    /// Makes sure that no earlier attempt of the job is still at work on this machine.
    pub(crate) async fn end_earlier(&self) -> Result<(), Halt> {
        let Lease { job, attempt, .. } = self.assignment.lease;
        for earlier in 1..attempt {
            let runner = &self.parts.runner;
            let ended = runner.end(job, earlier).await;
            let left = ended.map_err(|error| {
                let error = format!("attempt {earlier} cannot be ended: {error}");
                Halt::Ended(Ending::Lost { error })
            })?;
            if !left.is_empty() {
                return Err(unkillable(&left).into());
            }
            if let Err(error) = runner.forget(job, earlier).await {
                tracing::warn!(job.id = %job, earlier, %error, "attempt directory not removed");
            }
        }
        Ok(())
    }

    /// Keeps what an earlier attempt, whose run was lost, has left in the workspace.
    async fn keep_leftovers(&mut self) -> Result<(), Halt> {
        let error = match self.save_work().await {
            Ok(()) => return Ok(()),
            Err(Unsaved::Stale) => return Err(Halt::Stale),
            Err(Unsaved::Git(error)) => error,
        };
        self.stays(&error);
        let what = "unfinished work of an earlier attempt cannot be kept";
        Err(Ending::Failed {
            reason: error.reason(),
            error: format!("{what}: {error}"),
        }
        .into())
    }

    /// An agent is not started, and nothing fetched, on the server's keys in place of the job's.
    pub(crate) fn has_its_keys(&self) -> Result<(), Halt> {
        let Assignment {
            brought, secrets, ..
        } = self.assignment;
        if brought.without(secrets.kinds()).any() {
            return Err(credentials_lost());
        }
        Ok(())
    }

    /// Asks whether what comes of the job can be delivered, before it costs anything.
    pub(crate) async fn has_a_way_out(&self) -> Result<(), Halt> {
        if self.delivery() == Delivery::PullRequest {
            let ready = self.forge().ready().await;
            ready.map_err(|error| forge_failed(&error))?;
        }
        Ok(())
    }

    async fn fetch(&self) -> Result<CommitId, Halt> {
        let assignment = self.assignment;
        self.has_a_way_out().await?;
        self.journal.say(&format!("Fetching {}", assignment.repo));
        let git = self.git()?;
        let fetch = || async {
            match &assignment.base {
                Base::Branch(branch) => git.fetch_base(&assignment.repo, branch).await,
                Base::Commit(commit) => git.fetch_commit(&assignment.repo, commit).await,
            }
        };
        let tell = |error: &GitError, wait: std::time::Duration| {
            self.journal.say(&format!(
                "Fetch failed, next try in {} s: {error}",
                wait.as_secs()
            ));
        };
        let fetched = patiently(self.parts.ids.as_ref(), fetch, tell, self.cancellation()).await;
        fetched.map_err(|error| git_failed(&error))
    }
}
