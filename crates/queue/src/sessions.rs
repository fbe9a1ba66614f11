//! Going on in the session of an ended job: as a further message to it, or as a repetition of it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use agent_domain::{Client, Continued, Delivery, Job, JobId, JobSecrets, JobSpec, Status};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::once::{Begun, Once, Reply};
use crate::reconcile;
use crate::submit::{Fresh, check_secrets};
use crate::views::Accepted;

/// What the agent of a repetition is told; the session knows the rest.
pub(crate) const TRY_AGAIN: &str = "Your last run on this task ended before it was done, and what it had not delivered is back in the workspace. \
     Go on with the task where you left off.";

impl Engine {
    /// Takes `prompt` in as a new job that goes on in the session of an ended job, on the same branch;
    /// at most once. It goes on from whatever is last in the session; one unfinished job at a time has
    /// it.
    pub async fn message_once(
        &self,
        id: JobId,
        prompt: Arc<str>,
        secrets: JobSecrets,
        once: Option<Once<Accepted>>,
    ) -> Result<Reply<Accepted>, EngineError> {
        self.at_most_once(once, move |engine, begun| async move {
            engine.take_message_in(id, prompt, secrets, begun).await
        })
        .await
    }

    async fn take_message_in(
        &self,
        id: JobId,
        prompt: Arc<str>,
        secrets: JobSecrets,
        begun: Option<Begun<Accepted>>,
    ) -> Result<Accepted, EngineError> {
        self.admit()?;
        let last = self.last_of_session(id).await?;
        check_secrets(last.spec.secrets, &secrets)?;
        let client = self.inner.store.client(last.client_id).await?;
        let client = client.ok_or(EngineError::ClientNotFound)?;
        let new = Fresh {
            client: &client,
            not_before: None,
            create_client: None,
            spec: JobSpec {
                prompt,
                depends_on: Vec::new(),
                ..last.spec.clone()
            },
            priority: last.priority,
            secrets,
            retry_of: None,
            continues: Continued::message(&last, delivery_of(&last, &client)),
        };
        let accepted = self.store_job(new, begun).await?;
        tracing::info!(job.id = %accepted.id, continues = %last.id, "job queued");
        Ok(accepted)
    }

    /// The job that has left the session of this job as it is now.
    pub(crate) async fn last_of_session(&self, id: JobId) -> Result<Job, EngineError> {
        let named = self.job(id).await?.job;
        if named.state.ended_at().is_none() {
            return Err(EngineError::JobUnfinished(named.state.status()));
        }
        let root = named.continues.as_ref().map_or(id, |it| it.root);
        let mut jobs = self.inner.store.jobs_of_session(root).await?;
        jobs.push(root);
        for one in jobs {
            let Some(found) = self.inner.store.job(one).await? else {
                continue;
            };
            if found.job.state.ended_at().is_none() {
                return Err(EngineError::SessionBusy(one));
            }
            let has_session = Continued::message(&found.job, Delivery::default()).is_some();
            if has_session && self.session_path(one).is_file() {
                return self.with_its_work_kept(found.job).await;
            }
        }
        Err(EngineError::NoSession)
    }

    /// A job that was cancelled while nobody worked on it may have left work that is not kept yet,
    /// and that whoever goes on in its session begins with.
    async fn with_its_work_kept(&self, job: Job) -> Result<Job, EngineError> {
        let workspace = job.facts.worktree_path.as_deref();
        let may_have_left = job.state.status() != Status::Completed
            && workspace.is_some_and(std::path::Path::exists);
        let Some(upkeep) = self.inner.upkeep.get().filter(|_| may_have_left) else {
            return Ok(job);
        };
        if !reconcile::look_at(self, upkeep.as_ref(), job.id).await {
            return Err(EngineError::WorkNotKept(job.id));
        }
        Ok(self.job(job.id).await?.job)
    }

    /// Where the session of a job is kept beyond its workspace: with its logs, and as long as they.
    pub(crate) fn session_path(&self, job: JobId) -> PathBuf {
        let logs = self.inner.config.logs_dir.join(job.to_string());
        logs.join("session.jsonl")
    }

    /// Gives a new job the session that it goes on in; whoever ended with it may be forgotten before
    /// it begins. A second name for one file: whoever keeps a session replaces it.
    pub(crate) fn hand_session_on(&self, job: &Job) -> Result<(), EngineError> {
        let Some(continued) = &job.continues else {
            return Ok(());
        };
        let (from, to) = (self.session_path(continued.job), self.session_path(job.id));
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(EngineError::Log)?;
        }
        match fs::hard_link(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(EngineError::NoSession),
            Err(_) => fs::copy(&from, &to).map(drop).map_err(EngineError::Log),
            Ok(()) => Ok(()),
        }
    }

    /// Takes that back where the job was not taken in.
    pub(crate) fn take_session_back(&self, job: JobId) {
        let path = self.session_path(job);
        fs::remove_file(&path).ok();
        path.parent().map(fs::remove_dir);
    }
}

/// What was to become of a job's work.
pub(crate) fn delivery_of(job: &Job, client: &Client) -> Delivery {
    let wished = job.spec.options.delivery.or(client.options.delivery);
    wished.unwrap_or_default()
}
