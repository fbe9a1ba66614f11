//! The one place that changes a job's state: applies an event, stores the result with its
//! callback, and wakes whoever has to know.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use agent_domain::{
    DeliveryId, Directive, Effect, Ending, Event, Finding, Found, Job, JobId, Lease, Priority,
    Refused, State, Timestamp, Transition, WorkerId, apply,
};
use agent_storage::{Booking, Change, Decision, JobWithClient, NewDelivery, NewOnce, Standing};

use crate::credentials::Taker;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::leases::Expired;
use crate::payload;
use crate::seal::{Ended, Seals, ends_attempt};

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

/// Says what to remember of the request for a change, from the change.
pub(crate) type Remember = Box<dyn Fn(&Changed) -> NewOnce + Send + Sync>;

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
        self.change_once(id, event, None).await
    }

    /// As [`Engine::change`], and remembers in the same transaction the request for the change,
    /// where `once` tells it of the change.
    pub(crate) async fn change_once(
        &self,
        id: JobId,
        event: Event,
        once: Option<Remember>,
    ) -> Result<Changed, ChangeError> {
        let engine = self.clone();
        let changing =
            self.spawn(async move { Box::pin(engine.change_here(id, event, once)).await });
        changing
            .await
            .unwrap_or(Err(ChangeError::Engine(EngineError::Interrupted)))
    }

    async fn change_here(
        &self,
        id: JobId,
        event: Event,
        once: Option<Remember>,
    ) -> Result<Changed, ChangeError> {
        let mut seals = Seals::new();
        for _ in 0..ROUNDS_MAX {
            let found = self.inner.store.job(id).await.map_err(ChangeError::from)?;
            let before = found.ok_or(EngineError::JobNotFound)?.job;
            let next = apply(&before, event.clone(), self.inner.clock.now())
                .map_err(ChangeError::Refused)?;
            let effects = next.effects.clone();
            if ends_attempt(&before, &next.job) && seals.is_empty() {
                let attempt = Ended {
                    job: id,
                    attempt: before.attempt,
                    is_told: next.job.facts.usage.is_some(),
                };
                seals = self.seals_of(vec![attempt]).await;
            }
            let change = self.to_store(&before, next, &seals);
            let after = change.job.clone();
            let changed = Changed { before, after };
            let stored = match &once {
                None => self.inner.store.commit(change).await,
                Some(once) => self.inner.store.commit_once(change, once(&changed)).await,
            };
            if stored.map_err(ChangeError::from)? {
                if ends_attempt(&changed.before, &changed.after) && seals.is_empty() {
                    self.inner.unsealed.notify_one();
                }
                self.after(&changed.after, &effects);
                return Ok(changed);
            }
        }
        Err(ChangeError::Engine(EngineError::Contended))
    }

    /// Lets a queued job start earlier or later than it would.
    pub async fn reprioritize(&self, id: JobId, priority: Priority) -> Result<(), EngineError> {
        let event = Event::Reprioritized(priority);
        self.change(id, event).await?;
        Ok(())
    }

    /// Takes up to `limit` ready jobs from the queue, in order.
    pub(crate) async fn claim_ready(
        &self,
        worker: &WorkerId,
        limit: u32,
    ) -> Result<Vec<JobWithClient>, EngineError> {
        let now = self.inner.clock.now();
        let spending = self.inner.config.spending;
        let engine = self.clone();
        let taker = Taker {
            worker: worker.clone(),
            lease_until: self.lease_end(now),
            now,
        };
        let decide = move |ready: &JobWithClient, standing: Standing<'_>| {
            let Some((event, most)) = engine.turn_of(ready, standing, &taker) else {
                return Decision::PassClient;
            };
            let Ok(mut next) = apply(&ready.job, event, now) else {
                return Decision::Pass;
            };
            next.job.facts.allotted = most;
            Decision::Change(Box::new(engine.to_store(&ready.job, next, &Seals::new())))
        };
        let changed = self.inner.store.claim_within(limit, now, spending, decide);
        let changed = changed.await?;
        let runs = |found: &JobWithClient| matches!(found.job.state, State::Running { .. });
        let (claimed, unpaid): (Vec<_>, Vec<_>) = changed.into_iter().partition(runs);
        for found in &unpaid {
            let reason = found.job.state.reason().map(agent_domain::Reason::code);
            tracing::debug!(job.id = %found.job.id, job.reason = reason, "job cannot begin");
            if found.job.state.status().is_terminal() {
                self.after(&found.job, &[Effect::Callback, Effect::DirectiveChanged]);
            }
        }
        if claimed.is_empty() && !unpaid.is_empty() {
            // There may be others behind as many as are looked at together.
            self.inner.ready.notify_waiters();
        }
        Ok(claimed)
    }

    /// Renews leases in one go, and returns those jobs whose lease is still valid.
    pub(crate) async fn renew(
        &self,
        leases: &[Lease],
        lease_until: Timestamp,
    ) -> Result<Vec<Job>, EngineError> {
        let now = self.inner.clock.now();
        let fences = leases.iter().map(|lease| (lease.job, lease.fence));
        self.change_each(fences, Vec::new(), move |job, fence| {
            let fence = *fence;
            apply(job, Event::Renewed { fence, lease_until }, now).ok()
        })
        .await
    }

    /// Does what a worker's findings about the attempts it held call for, and returns the jobs
    /// that were changed: queued again, or running on with a new fence.
    pub(crate) async fn settle_some(
        &self,
        findings: Vec<Finding>,
    ) -> Result<Vec<Job>, EngineError> {
        let now = self.inner.clock.now();
        let lease_until = self.lease_end(now);
        let ended = findings
            .iter()
            .filter(|finding| finding.found != Found::Kept)
            .map(|finding| Ended::untold(finding.lease.job, finding.lease.attempt))
            .collect();
        let findings = findings
            .into_iter()
            .map(|finding| (finding.lease.job, finding));
        self.change_each(findings, ended, move |job, finding| {
            settled(job, finding, lease_until, now)
        })
        .await
    }

    /// Applies to each job its event, all in one transaction; those it does not fit stay as they
    /// are.
    pub(crate) async fn change_all(
        &self,
        events: Vec<(JobId, Event)>,
    ) -> Result<Vec<Job>, EngineError> {
        let now = self.inner.clock.now();
        self.change_each(events.into_iter(), Vec::new(), move |job, event| {
            apply(job, event.clone(), now).ok()
        })
        .await
    }

    /// Gives jobs back to the queue whose workers have fallen silent.
    pub(crate) async fn expire(&self, leases: Vec<Expired>) -> Result<(), EngineError> {
        if leases.is_empty() {
            return Ok(());
        }
        let now = self.inner.clock.now();
        let ended = leases
            .iter()
            .map(|lease| Ended::untold(lease.job, lease.attempt));
        let ended = ended.collect();
        let leases = leases.into_iter().map(|lease| (lease.job, lease));
        let changed = self.change_each(leases, ended, move |job, lease| {
            let event = Event::LeaseExpired {
                fence: lease.fence,
                lease_until: lease.until,
            };
            apply(job, event, now).ok()
        });
        for job in changed.await? {
            tracing::warn!(job.id = %job.id, job.attempt, "lease expired; its worker is lost");
        }
        Ok(())
    }

    /// Applies to each job what `choose` makes of it, all in one transaction; goes on when the
    /// caller is dropped, as [`Engine::change`] does. The logs of `ended` are sealed for the case that
    /// these attempts end.
    async fn change_each<T: Send + 'static>(
        &self,
        jobs: impl Iterator<Item = (JobId, T)>,
        ended: Vec<Ended>,
        choose: impl Fn(&Job, &T) -> Option<Transition> + Send + 'static,
    ) -> Result<Vec<Job>, EngineError> {
        let (ids, given): (Vec<_>, Vec<_>) = jobs.map(|(id, it)| (id, (id, it))).unzip();
        let given: HashMap<JobId, T> = given.into_iter().collect();
        let engine = self.clone();
        let changing = self.spawn(async move {
            let wanted = ended.len();
            let seals = engine.seals_of(ended).await;
            let all_sealed = seals.len() == wanted;
            let effects = Arc::new(Mutex::new(HashMap::new()));
            let (deciding, noted) = (engine.clone(), Arc::clone(&effects));
            let decide = move |job: &Job| {
                let next = choose(job, given.get(&job.id)?)?;
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                noted.insert(job.id, next.effects.clone());
                Some(deciding.to_store(job, next, &seals))
            };
            let changed = engine.inner.store.change_each(ids, decide).await?;
            let effects = effects.lock().unwrap_or_else(PoisonError::into_inner);
            if !all_sealed {
                engine.inner.unsealed.notify_one();
            }
            for job in &changed {
                engine.inner.leases.heard(job);
                engine.after(job, effects.get(&job.id).map_or(&[], Vec::as_slice));
            }
            Ok(changed)
        });
        changing.await.unwrap_or(Err(EngineError::Interrupted))
    }

    /// What is to be stored of a transition: with the callback that it owes, and with the seal of the
    /// log of the attempt that it ends, and what that has spent.
    fn to_store(&self, before: &Job, next: Transition, seals: &Seals) -> Change {
        let mut next = next;
        let told = next.job.facts.usage.take();
        let news = next.job.facts.news.take();
        let ends = ends_attempt(before, &next.job);
        let sealed = seals
            .get(&before.id)
            .filter(|sealed| sealed.attempt == before.attempt && ends);
        let seal = sealed.map(|sealed| sealed.seal);
        let booking = match told {
            Some(usage) if ends => Some(Booking {
                session_id: next.job.facts.session_id.clone(),
                cli_version: next.job.facts.cli_version.clone(),
                usage,
            }),
            _ => sealed.and_then(|sealed| sealed.booking.clone()),
        };
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
            delivery,
            seal,
            booking,
            news,
            ..quiet(next)
        }
    }

    fn after(&self, job: &Job, effects: &[Effect]) {
        // What is noted of it later does not end it once more.
        if job.state.ended_at() == Some(job.updated_at) {
            self.inner.vault.forget(job.id);
            self.inner.dependencies.notify_one();
            // Another one of its client may run now.
            self.inner.ready.notify_waiters();
            if job.attempt > 0 {
                self.inner.ended.add(job.id);
            }
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

/// What is to be stored of a transition that owes nobody a callback.
fn quiet(next: Transition) -> Change {
    Change {
        job: next.job,
        event: next.event,
        detail: next.detail,
        delivery: None,
        seal: None,
        booking: None,
        news: None,
    }
}

/// What a finding makes of a job. What would end with it is given back to the worker instead, which
/// ends it in the usual way: it keeps unfinished work, and cleans up.
fn settled(
    job: &Job,
    finding: &Finding,
    lease_until: Timestamp,
    now: Timestamp,
) -> Option<Transition> {
    let fence = finding.lease.fence;
    let reclaimed = Event::Reclaimed { fence, lease_until };
    let event = match &finding.found {
        Found::Unstarted => Event::Released { fence },
        Found::Kept => reclaimed.clone(),
        Found::Lost { seen, facts } => Event::Finished {
            fence,
            ending: Ending::Lost {
                error: seen.clone(),
            },
            facts: facts.as_ref().clone(),
        },
    };
    let next = apply(job, event, now).ok()?;
    if next.job.state.ended_at().is_none() {
        return Some(next);
    }
    apply(job, reclaimed, now).ok()
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
