//! Cancelling: at once while a job is queued; recorded, carried out and awaited while it runs.

use agent_domain::{Directive, Event, Job, JobId, State, Status};

use crate::change::{Changed, Remember};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::once::{Begun, Once, Reply};
use crate::views::CancelOutcome;

impl Engine {
    /// Cancels a job. With `wait`, a running one is answered for when its process tree is gone,
    /// or after [`crate::EngineConfig::cancel_wait`]; the recorded request stands either way.
    ///
    /// A second request while one is under way ends the agent at once, unless `once` tells that it
    /// is the first one again: that waits for the same end.
    pub async fn cancel_once(
        &self,
        id: JobId,
        wait: bool,
        once: Option<Once<CancelOutcome>>,
    ) -> Result<Reply<CancelOutcome>, EngineError> {
        self.at_most_once(once, move |engine, begun| async move {
            engine.cancel(id, wait, begun).await
        })
        .await
    }

    async fn cancel(
        &self,
        id: JobId,
        wait: bool,
        begun: Option<Begun<CancelOutcome>>,
    ) -> Result<CancelOutcome, EngineError> {
        let mut watch = self.inner.signals.watch(id);
        let recorded = begun
            .as_ref()
            .is_some_and(|begun| begun.unfinished.is_some());
        if !recorded {
            let once = begun.clone().map(|begun| remember(begun, wait));
            let asked = self.ask_to_cancel(id, once).await?;
            if !wait || asked.job.state.ended_at().is_some() {
                return Ok(asked);
            }
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
                let was_running = true;
                let outcome = CancelOutcome { was_running, job };
                self.remember_answer(begun.as_ref(), &outcome).await?;
                Ok(outcome)
            }
        }
    }

    /// Records the request, and carries it out where it needs no waiting.
    async fn ask_to_cancel(
        &self,
        id: JobId,
        once: Option<Remember>,
    ) -> Result<CancelOutcome, EngineError> {
        let changed = match self.change_once(id, Event::CancelRequested, once).await {
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
        Ok(outcome(&changed))
    }

    async fn job_now(&self, id: JobId) -> Result<Job, EngineError> {
        let found = self.inner.store.job(id).await?;
        found.map(|found| found.job).ok_or(EngineError::JobNotFound)
    }
}

fn outcome(changed: &Changed) -> CancelOutcome {
    CancelOutcome {
        was_running: changed.before.state.status() == Status::Running,
        job: changed.after.clone(),
    }
}

/// What is remembered with the change: its answer, unless that waits for the job's end.
fn remember(begun: Begun<CancelOutcome>, wait: bool) -> Remember {
    Box::new(move |changed| {
        let (job, at) = (&changed.after, changed.after.updated_at);
        if wait && job.state.ended_at().is_none() {
            begun.begun(&job.id, at)
        } else {
            begun.answered(&outcome(changed), at)
        }
    })
}
