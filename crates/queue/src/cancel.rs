//! Cancelling: at once while a job is queued; recorded, carried out and awaited while it runs.

use agent_domain::{Directive, Event, Job, JobId, State, Status};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::views::CancelOutcome;

impl Engine {
    /// Cancels a job. With `wait`, a running one is answered for when its process tree is gone,
    /// or after [`crate::EngineConfig::cancel_wait`]; the recorded request stands either way.
    ///
    /// A second request while one is under way ends the agent at once.
    pub async fn cancel(&self, id: JobId, wait: bool) -> Result<CancelOutcome, EngineError> {
        let mut watch = self.inner.signals.watch(id);
        let changed = match self.change(id, Event::CancelRequested).await {
            Ok(changed) => changed,
            Err(error) => {
                self.inner.signals.end(id);
                return Err(error.into());
            }
        };
        if let State::Running {
            cancel_requested_at: Some(_),
            ..
        } = changed.before.state
        {
            self.inner.signals.direct(id, Directive::Kill);
        }
        let was_running = changed.before.state.status() == Status::Running;
        if !wait || changed.after.state.ended_at().is_some() {
            return Ok(CancelOutcome {
                was_running,
                job: changed.after,
            });
        }
        let ended = async {
            loop {
                let job = self.job_now(id).await?;
                if job.state.status() != Status::Running {
                    return Ok::<Job, EngineError>(job);
                }
                self.inner.signals.next(id, &mut watch).await;
            }
        };
        let job = match tokio::time::timeout(self.inner.config.cancel_wait, ended).await {
            Ok(ended) => ended?,
            Err(_) => self.job_now(id).await?,
        };
        match job.state.status() {
            // It was delivered before the request took hold.
            status @ (Status::Completed | Status::Failed) => Err(EngineError::JobEnded(status)),
            Status::Queued | Status::Running | Status::Cancelled => {
                Ok(CancelOutcome { was_running, job })
            }
        }
    }

    async fn job_now(&self, id: JobId) -> Result<Job, EngineError> {
        let found = self.inner.store.job(id).await?;
        found.map(|found| found.job).ok_or(EngineError::JobNotFound)
    }
}
