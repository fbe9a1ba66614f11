//! The one place that changes a job's state: applies an event, stores the result with its
//! callback, and wakes whoever has to know.

use agent_domain::{
    DeliveryId, Directive, Effect, Event, Job, JobId, Refused, State, Transition, apply,
};
use agent_storage::{Change, JobWithClient, NewDelivery};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::payload;

/// How often a change is tried again when somebody else changed the job in between. Each round
/// somebody succeeded, so this many in a row means a fault, not a busy moment.
const ROUNDS_MAX: u32 = 32;

/// Why a change was not made.
#[derive(Debug)]
pub(crate) enum ChangeError {
    /// The state machine refused the event.
    Refused(Refused),
    /// Something else went wrong.
    Engine(EngineError),
}

/// A change that was made.
#[derive(Debug)]
pub(crate) struct Changed {
    /// The job as it was.
    pub(crate) before: Job,
    /// The job as it is.
    pub(crate) after: Job,
}

impl Engine {
    /// Applies `event` to a job and stores the result; durable when it returns.
    ///
    /// Goes on when the caller is dropped: between storing a change and waking whoever has to
    /// know of it nothing may come in between.
    pub(crate) async fn change(&self, id: JobId, event: Event) -> Result<Changed, ChangeError> {
        let engine = self.clone();
        let changing = self.spawn(async move { engine.change_here(id, event).await });
        changing
            .await
            .unwrap_or(Err(ChangeError::Engine(EngineError::Interrupted)))
    }

    async fn change_here(&self, id: JobId, event: Event) -> Result<Changed, ChangeError> {
        for _ in 0..ROUNDS_MAX {
            let found = self.inner.store.job(id).await.map_err(ChangeError::from)?;
            let before = found.ok_or(EngineError::JobNotFound)?.job;
            let next = apply(&before, event.clone(), self.inner.clock.now())
                .map_err(ChangeError::Refused)?;
            let effects = next.effects.clone();
            let change = self.with_delivery(next);
            let after = change.job.clone();
            if self
                .inner
                .store
                .commit(change)
                .await
                .map_err(ChangeError::from)?
            {
                self.after(&after, &effects);
                return Ok(Changed { before, after });
            }
        }
        Err(ChangeError::Engine(EngineError::Contended))
    }

    /// Takes up to `limit` ready jobs from the queue, in order.
    pub(crate) async fn claim_ready(&self, limit: u32) -> Result<Vec<JobWithClient>, EngineError> {
        let now = self.inner.clock.now();
        let lease_until = self.lease_end(now);
        let decide = move |job: &Job| {
            let next = apply(job, Event::Claimed { lease_until }, now).ok()?;
            Some(Change {
                job: next.job,
                event: next.event,
                delivery: None,
            })
        };
        Ok(self.inner.store.claim(limit, now, decide).await?)
    }

    fn with_delivery(&self, next: Transition) -> Change {
        let due = next.effects.contains(&Effect::Callback);
        let delivery = next
            .job
            .spec
            .callback_url
            .clone()
            .filter(|_| due)
            .map(|url| NewDelivery {
                id: DeliveryId::fresh(self.inner.ids.as_ref()),
                url,
                body: payload::body(&next.job),
                due_at: next.job.updated_at,
            });
        Change {
            job: next.job,
            event: next.event,
            delivery,
        }
    }

    fn after(&self, job: &Job, effects: &[Effect]) {
        if job.state.ended_at().is_some() {
            let reason = job.state.reason().map(agent_domain::Reason::code);
            tracing::info!(job.id = %job.id, job.status = %job.state.status(), job.reason = reason, "job ended");
        }
        for effect in effects {
            match effect {
                Effect::Callback => self.inner.outbox.notify_one(),
                Effect::Ready => self.inner.ready.notify_waiters(),
                Effect::DirectiveChanged => match job.state {
                    State::Running {
                        cancel_requested_at: Some(_),
                        ..
                    } => {
                        self.inner.signals.direct(job.id, Directive::Cancel);
                    }
                    _ => self.inner.signals.end(job.id),
                },
            }
        }
    }
}

impl From<EngineError> for ChangeError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<agent_storage::StoreError> for ChangeError {
    fn from(error: agent_storage::StoreError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<ChangeError> for EngineError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(refused) => refused.into(),
            ChangeError::Engine(error) => error,
        }
    }
}
