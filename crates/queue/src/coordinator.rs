//! The engine as the coordinator of the workers in its own process.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_domain::{
    AgentHealth, Assignment, Base, BoxFuture, Coordinator, CoordinatorError, Directive, Event,
    Facts, Fence, Finding, Holding, JobId, Lease, Phase, Refused, Report, State, Timestamp,
    WorkerId,
};
use agent_storage::JobWithClient;

use crate::change::ChangeError;
use crate::engine::Engine;
use crate::error::EngineError;

/// How many attempts are settled in one transaction. Many, so that they share a commit; not more,
/// since SQLite goes over its journal of the open savepoint after each statement, which gets slower
/// with every change in it.
const SETTLED_TOGETHER: usize = 200;

impl Coordinator for Engine {
    fn held<'a>(
        &'a self,
        worker: &'a WorkerId,
    ) -> BoxFuture<'a, Result<Vec<Holding>, CoordinatorError>> {
        Box::pin(async move {
            let rows = self.inner.store.held().await;
            let rows = rows.map_err(|error| unavailable(error.into()))?;
            // Those without a name were taken when there was only one worker.
            let own = rows
                .into_iter()
                .filter(|row| row.worker.as_ref().is_none_or(|name| name == worker));
            let holding = |row: agent_storage::HeldJob| Holding {
                lease: self.lease(row.id, row.attempt, row.fence),
                phase: row.phase,
                log: self.log_path(row.id, row.attempt),
            };
            Ok(own.map(holding).collect())
        })
    }

    fn settle<'a>(
        &'a self,
        _worker: &'a WorkerId,
        findings: Vec<Finding>,
    ) -> BoxFuture<'a, Result<Vec<Lease>, CoordinatorError>> {
        Box::pin(async move {
            let mut leases = Vec::new();
            // What goes back to the queue goes to its front: the last one first.
            let mut findings = findings.into_iter().rev().peekable();
            while findings.peek().is_some() {
                let some: Vec<_> = findings.by_ref().take(SETTLED_TOGETHER).collect();
                let count = some.len();
                let changed = self.settle_some(some).await.map_err(unavailable)?;
                let kept = changed
                    .iter()
                    .filter(|job| matches!(job.state, State::Running { .. }))
                    .map(|job| self.lease(job.id, job.attempt, job.fence));
                leases.extend(kept);
                self.note_settled(count);
            }
            Ok(leases)
        })
    }

    fn take_up<'a>(
        &'a self,
        lease: &'a Lease,
    ) -> BoxFuture<'a, Result<Assignment, CoordinatorError>> {
        Box::pin(async move {
            let found = self.inner.store.job(lease.job).await;
            let found = found.map_err(|error| unavailable(error.into()))?;
            let current = |found: &JobWithClient| {
                found.job.fence == lease.fence && matches!(found.job.state, State::Running { .. })
            };
            let found = found.filter(current);
            let found = found.ok_or(CoordinatorError::Stale(lease.job))?;
            Ok(self.assignment(found, true))
        })
    }

    fn claim<'a>(
        &'a self,
        worker: &'a WorkerId,
        free: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Assignment>, CoordinatorError>> {
        Box::pin(self.claim_first(worker, free, wait))
    }

    fn heartbeat<'a>(
        &'a self,
        leases: &'a [Lease],
    ) -> BoxFuture<'a, Result<Vec<JobId>, CoordinatorError>> {
        Box::pin(async move {
            let lease_until = self.lease_end(self.inner.clock.now());
            let renewing = self.renew(leases, lease_until);
            let limit = self.inner.config.lease.margin();
            let renewed = match tokio::time::timeout(limit, renewing).await {
                Ok(Ok(renewed)) => renewed,
                // Nobody else can be given what cannot be written: while storage is away a lease
                // lives on in memory, so that a full disk ends no agent.
                _ if self.inner.leases.keep(leases) => return Ok(Vec::new()),
                Ok(Err(error)) => return Err(unavailable(error)),
                Err(_) => return Err(unavailable(EngineError::Interrupted)),
            };
            let valid: HashSet<JobId> = renewed.iter().map(|job| job.id).collect();
            let all = leases.iter().map(|lease| lease.job);
            let stale: Vec<JobId> = all.filter(|job| !valid.contains(job)).collect();
            self.count_stale(stale.len());
            Ok(stale)
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
                .map_err(|error| self.told(lease, error))?;
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
            let ending = self.waits_for_any(lease.job, ending, &facts).await;
            let ending = ending.map_err(unavailable)?;
            let tells = facts.news.is_some();
            let event = Event::Finished {
                fence: lease.fence,
                ending,
                facts,
            };
            let changed = self.change(lease.job, event).await;
            let changed = changed.map_err(|error| self.told(lease, error))?;
            if tells && let Err(error) = self.after_report(&changed).await {
                // The report is stored, so the worker is not to send it again.
                tracing::warn!(job.id = %lease.job, %error, "credentials not looked at");
            }
            Ok(())
        })
    }

    fn agent_health(&self, _worker: &WorkerId, health: AgentHealth) {
        for (name, is_there) in &health.logins {
            if let Some(is_there) = *is_there {
                let (engine, name) = (self.clone(), name.clone());
                self.spawn(async move { engine.note_login(name, is_there).await });
            }
        }
        let mut seen = self
            .inner
            .agent
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *seen = health;
    }
}

impl Engine {
    pub(crate) fn lease_end(&self, now: Timestamp) -> Timestamp {
        now.checked_add(self.inner.config.lease.lasts())
            .unwrap_or(Timestamp::MAX)
    }

    fn lease(&self, job: JobId, attempt: u32, fence: Fence) -> Lease {
        Lease {
            job,
            attempt,
            fence,
            terms: self.inner.config.lease,
        }
    }

    fn count_stale(&self, writes: usize) {
        let writes = u64::try_from(writes).unwrap_or(u64::MAX);
        self.inner.stale_writes.fetch_add(writes, Ordering::Relaxed);
    }

    /// What a worker is told when its write was not made.
    fn told(&self, lease: &Lease, error: ChangeError) -> CoordinatorError {
        match error {
            ChangeError::Refused(Refused::Stale | Refused::Ended(_) | Refused::Unfit(_))
            | ChangeError::Engine(EngineError::JobNotFound) => {
                self.count_stale(1);
                let Lease { job, attempt, .. } = lease;
                tracing::warn!(job.id = %job, attempt, "a write under a stale lease was refused");
                CoordinatorError::Stale(*job)
            }
            ChangeError::Engine(error) => unavailable(error),
        }
    }

    async fn claim_first(
        &self,
        worker: &WorkerId,
        free: usize,
        wait: Duration,
    ) -> Result<Vec<Assignment>, CoordinatorError> {
        let over = tokio::time::sleep(wait);
        tokio::pin!(over);
        loop {
            // Registered before looking, so that a job that comes in between is not missed.
            let ready = self.inner.ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            if free > 0 && !self.is_draining() && self.admit().is_ok() {
                let limit = u32::try_from(free).unwrap_or(u32::MAX);
                let claimed = self.claim_ready(worker, limit).await.map_err(unavailable)?;
                for found in &claimed {
                    self.inner.leases.heard(&found.job);
                }
                if !claimed.is_empty() {
                    tracing::debug!(worker.id = %worker, jobs = claimed.len(), "jobs claimed");
                    let assignment = |found| self.assignment(found, false);
                    return Ok(claimed.into_iter().map(assignment).collect());
                }
            }
            tokio::select! {
                () = ready => {}
                () = self.next_parked() => {}
                // Only here: what is being claimed would be nobody's until its lease has run out.
                () = &mut over => return Ok(Vec::new()),
            }
        }
    }

    fn note_settled(&self, jobs: usize) {
        let left = |unsettled: usize| Some(unsettled.saturating_sub(jobs));
        let unsettled = &self.inner.unsettled;
        unsettled
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .ok();
    }

    /// How many jobs that an earlier server had begun are not settled yet.
    pub(crate) fn unsettled(&self) -> usize {
        self.inner.unsettled.load(Ordering::Relaxed)
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
        let resume_from = match job.state {
            State::Running { phase, .. } => resumed.then_some(phase),
            _ => None,
        };
        let lease = self.lease(job.id, job.attempt, job.fence);
        let mut options = job.spec.options.or(&client.options);
        options.budget = options.budget.or(self.inner.config.spending.job_budget);
        Assignment {
            lease,
            repo: client.repo,
            base: job
                .spec
                .base
                .unwrap_or_else(|| Base::Branch(client.default_branch.clone())),
            default_branch: client.default_branch,
            branch: job.spec.branch,
            prompt: job.spec.prompt,
            title: job.spec.title,
            os_feature_id: job.spec.os_feature_id,
            options,
            trusted: client.trusted,
            credential: job.paid_by.map(|paid_by| paid_by.name),
            brought: job.spec.secrets,
            secrets: self.inner.vault.of(job.id),
            facts: job.facts,
            continues: job.continues,
            session: self.session_path(job.id),
            resume: job.resume,
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

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads well as a function for `map_err`"
)]
fn unavailable(error: EngineError) -> CoordinatorError {
    CoordinatorError::Unavailable(error.to_string())
}
