//! The engine as the coordinator of the workers in its own process.

use std::time::Duration;

use agent_domain::{
    AgentHealth, Assignment, BoxFuture, Coordinator, CoordinatorError, Directive, Event, Facts,
    JobId, Lease, Phase, Refused, Report, State, Timestamp, WorkerId,
};
use agent_storage::JobWithClient;

use crate::change::ChangeError;
use crate::engine::Engine;
use crate::error::EngineError;

impl Coordinator for Engine {
    fn claim<'a>(
        &'a self,
        worker: &'a WorkerId,
        free: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Assignment>, CoordinatorError>> {
        Box::pin(async move {
            let waited = tokio::time::timeout(wait, self.claim_first(worker, free)).await;
            waited.unwrap_or_else(|_| Ok(Vec::new()))
        })
    }

    fn heartbeat<'a>(
        &'a self,
        lease: &'a Lease,
    ) -> BoxFuture<'a, Result<Timestamp, CoordinatorError>> {
        Box::pin(async move {
            let lease_until = self.lease_end(self.inner.clock.now());
            let event = Event::Renewed {
                fence: lease.fence,
                lease_until,
            };
            self.change(lease.job, event)
                .await
                .map_err(|error| told(lease, error))?;
            Ok(lease_until)
        })
    }

    fn directive<'a>(
        &'a self,
        lease: &'a Lease,
        seen: Directive,
    ) -> BoxFuture<'a, Result<Directive, CoordinatorError>> {
        Box::pin(async move {
            let mut watch = self.inner.signals.watch(lease.job);
            loop {
                let signalled = watch.borrow_and_update().directive;
                let directive = signalled.max(self.recorded_directive(lease).await?);
                if directive != seen {
                    return Ok(directive);
                }
                // Growth of the log is a signal too, but none that concerns the worker.
                if watch
                    .wait_for(|signal| signal.directive > signalled)
                    .await
                    .is_err()
                {
                    watch = self.inner.signals.watch(lease.job);
                }
            }
        })
    }

    fn progress<'a>(
        &'a self,
        lease: &'a Lease,
        phase: Phase,
        facts: Facts,
    ) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        Box::pin(async move {
            let event = Event::Progressed {
                fence: lease.fence,
                phase,
                facts,
            };
            self.change(lease.job, event)
                .await
                .map_err(|error| told(lease, error))?;
            self.inner.signals.touch(lease.job);
            Ok(())
        })
    }

    fn log_grew(&self, lease: &Lease) {
        self.inner.signals.touch(lease.job);
    }

    fn finish<'a>(
        &'a self,
        lease: &'a Lease,
        report: Report,
    ) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        Box::pin(async move {
            let Report { ending, facts } = report;
            self.note_login(&ending);
            let event = Event::Finished {
                fence: lease.fence,
                ending,
                facts,
            };
            self.change(lease.job, event)
                .await
                .map_err(|error| told(lease, error))?;
            Ok(())
        })
    }

    fn agent_health(&self, _worker: &WorkerId, health: AgentHealth) {
        let mut seen = self
            .inner
            .agent
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.health = health;
    }
}

impl Engine {
    pub(crate) fn lease_end(&self, now: Timestamp) -> Timestamp {
        now.checked_add(self.inner.config.lease)
            .unwrap_or(Timestamp::MAX)
    }

    async fn claim_first(
        &self,
        worker: &WorkerId,
        free: usize,
    ) -> Result<Vec<Assignment>, CoordinatorError> {
        loop {
            // Registered before looking, so that a job that comes in between is not missed.
            let ready = self.inner.ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            if free > 0 && !self.is_draining() {
                let claimed = self.claim_now(free).await?;
                if !claimed.is_empty() {
                    tracing::debug!(worker.id = %worker, jobs = claimed.len(), "jobs claimed");
                    return Ok(claimed);
                }
            }
            tokio::select! {
                () = ready => {}
                () = self.next_parked() => {}
            }
        }
    }

    async fn claim_now(&self, free: usize) -> Result<Vec<Assignment>, CoordinatorError> {
        let mut taken = Vec::new();
        while taken.len() < free {
            let Some(id) = self.next_interrupted() else {
                break;
            };
            if let Some(found) = self.reclaim(id).await? {
                taken.push(self.assignment(found, true));
            }
        }
        let left = u32::try_from(free - taken.len()).unwrap_or(u32::MAX);
        if left > 0 && self.admit().is_ok() {
            let ready = self.claim_ready(left).await.map_err(unavailable)?;
            taken.extend(ready.into_iter().map(|found| self.assignment(found, false)));
        }
        Ok(taken)
    }

    /// How many jobs that an earlier server had begun are still to be taken up again.
    pub(crate) fn unsettled(&self) -> usize {
        self.inner
            .interrupted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .len()
    }

    fn next_interrupted(&self) -> Option<JobId> {
        let mut left = self
            .inner
            .interrupted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        left.pop_front()
    }

    async fn reclaim(&self, id: JobId) -> Result<Option<JobWithClient>, CoordinatorError> {
        let lease_until = self.lease_end(self.inner.clock.now());
        match self.change(id, Event::Reclaimed { lease_until }).await {
            Ok(_) => self
                .inner
                .store
                .job(id)
                .await
                .map_err(|error| unavailable(error.into())),
            Err(ChangeError::Refused(_)) => Ok(None),
            Err(ChangeError::Engine(error)) => {
                let mut left = self
                    .inner
                    .interrupted
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                left.push_back(id);
                Err(unavailable(error))
            }
        }
    }

    /// Waits until the next parked job may start; for ever when none is parked.
    async fn next_parked(&self) {
        // Looks again at least this often: the wall clock may be set while we sleep.
        const LOOK_AGAIN: Duration = Duration::from_secs(30);
        match self.inner.store.next_not_before().await {
            Ok(Some(at)) => {
                let left = at.duration_since(self.inner.clock.now());
                let left = Duration::try_from(left).unwrap_or_default();
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            }
            Ok(None) | Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }

    fn assignment(&self, found: JobWithClient, resumed: bool) -> Assignment {
        let JobWithClient { job, client } = found;
        let (until, resume_from) = match job.state {
            State::Running {
                phase, lease_until, ..
            } => (lease_until, resumed.then_some(phase)),
            _ => (job.updated_at, None),
        };
        let lease = Lease {
            job: job.id,
            attempt: job.attempt,
            fence: job.fence,
            until,
        };
        Assignment {
            lease,
            repo: client.repo,
            default_branch: client.default_branch,
            branch: job.spec.branch,
            prompt: job.spec.prompt,
            title: job.spec.title,
            os_feature_id: job.spec.os_feature_id,
            options: job.spec.options.or(&client.options),
            trusted: client.trusted,
            facts: if resumed { job.facts } else { Facts::default() },
            resume_from,
            log: self.log_path(job.id, job.attempt),
        }
    }

    async fn recorded_directive(&self, lease: &Lease) -> Result<Directive, CoordinatorError> {
        let found = self.inner.store.job(lease.job).await;
        let found = found.map_err(|error| unavailable(error.into()))?;
        match found.map(|found| (found.job.fence, found.job.state)) {
            Some((
                fence,
                State::Running {
                    cancel_requested_at,
                    ..
                },
            )) if fence == lease.fence => {
                let asked = cancel_requested_at.is_some();
                Ok(if asked {
                    Directive::Cancel
                } else {
                    Directive::Continue
                })
            }
            _ => {
                self.inner.signals.end(lease.job);
                Err(CoordinatorError::Stale(lease.job))
            }
        }
    }
}

fn told(lease: &Lease, error: ChangeError) -> CoordinatorError {
    match error {
        ChangeError::Refused(Refused::Stale | Refused::Ended(_) | Refused::Unfit(_))
        | ChangeError::Engine(EngineError::JobNotFound) => CoordinatorError::Stale(lease.job),
        ChangeError::Engine(error) => unavailable(error),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads well as a function for `map_err`"
)]
fn unavailable(error: EngineError) -> CoordinatorError {
    CoordinatorError::Unavailable(error.to_string())
}
