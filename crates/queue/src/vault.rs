//! The jobs' own keys: in memory, from a job's acceptance to its end, and nowhere else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agent_domain::{Event, JobId, JobSecrets};

use crate::engine::Engine;
use crate::error::EngineError;

/// Jobs failed in one transaction after a restart: no other write waits for more.
const FAILED_AT_ONCE: usize = 500;

/// The keys of all unfinished jobs that brought some.
#[derive(Debug, Default)]
pub(crate) struct Vault(Mutex<HashMap<JobId, JobSecrets>>);

impl Vault {
    /// Keeps a job's keys.
    pub(crate) fn put(&self, job: JobId, secrets: JobSecrets) {
        if secrets.kinds().any() {
            self.locked().insert(job, secrets);
        }
    }

    /// The keys of a job; none where it brought none, or another server had them.
    pub(crate) fn of(&self, job: JobId) -> JobSecrets {
        self.locked().get(&job).cloned().unwrap_or_default()
    }

    /// Forgets the keys of a job that has ended.
    pub(crate) fn forget(&self, job: JobId) {
        self.locked().remove(&job);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<JobId, JobSecrets>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Fails the queued jobs whose keys another server had in memory. A running one goes on under
    /// its supervisor; its worker finds out whether it still needs them.
    pub(crate) async fn fail_without_keys(&self) -> Result<(), EngineError> {
        let queued = self.inner.store.queued_with_own_keys().await?;
        for jobs in queued.chunks(FAILED_AT_ONCE) {
            let jobs = jobs.iter().map(|id| (*id, Event::CredentialsLost));
            self.change_all(jobs.collect()).await?;
        }
        Ok(())
    }
}
