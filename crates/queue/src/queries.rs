//! Reads.

use std::sync::atomic::Ordering;

use agent_domain::JobId;
use agent_storage::{
    HistoryEntry, JobFilter, JobPage, JobWithClient, QueueView, UsageFilter, UsageRow,
};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::views::Health;

impl Engine {
    /// Lists jobs, newest first.
    pub async fn jobs(&self, filter: JobFilter) -> Result<JobPage, EngineError> {
        Ok(self.inner.store.list_jobs(filter).await?)
    }

    /// Returns a job and its client.
    pub async fn job(&self, id: JobId) -> Result<JobWithClient, EngineError> {
        self.inner
            .store
            .job(id)
            .await?
            .ok_or(EngineError::JobNotFound)
    }

    /// Returns what happened to a job, oldest first.
    pub async fn history(&self, id: JobId) -> Result<Vec<HistoryEntry>, EngineError> {
        self.job(id).await?;
        Ok(self.inner.store.history(id).await?)
    }

    /// Returns what runs, and the first `limit` of what waits.
    pub async fn queue(&self, limit: u32) -> Result<QueueView, EngineError> {
        Ok(self.inner.store.queue(limit).await?)
    }

    /// Adds up what was spent.
    pub async fn usage(&self, filter: UsageFilter) -> Result<Vec<UsageRow>, EngineError> {
        Ok(self.inner.store.usage(filter).await?)
    }

    /// Slots of the built-in worker.
    pub fn max_concurrent(&self) -> u32 {
        self.inner.config.max_concurrent
    }

    /// Returns how the engine is; never waits for a process.
    pub async fn health(&self) -> Result<Health, EngineError> {
        let counts = self.inner.store.counts().await?;
        let credentials = self.credentials().await?;
        // Presence of a login is no proof that it is any good.
        let any_good = credentials.iter().any(|one| one.state.stopped.is_none());
        let mut agent = self.agent_seen();
        agent.authenticated &= any_good;
        Ok(Health {
            running: counts.running,
            ready: counts.ready,
            parked: counts.parked,
            parked_until: self.inner.store.next_not_before().await?,
            max_concurrent: self.inner.config.max_concurrent,
            stale_writes: self.inner.stale_writes.load(Ordering::Relaxed),
            failing_endpoints: self.failing_endpoints(),
            agent,
            credentials,
            draining: self.is_draining(),
            volumes: self.inner.disk.volumes(),
        })
    }

    /// Sixteen random bytes, by the source the engine was given.
    pub fn fresh(&self) -> [u8; 16] {
        self.inner.ids.fresh()
    }

    /// The current time, by the clock the engine was given.
    pub fn now(&self) -> agent_domain::Timestamp {
        self.inner.clock.now()
    }
}
