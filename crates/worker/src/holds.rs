//! The attempts this worker has a hand in. What has a directory and is not among them is an orphan,
//! and of two attempts of one job the later waits until the earlier has let go.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_domain::{JobId, Lease};
use tokio::sync::Notify;

/// All attempts that are held.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holds(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    held: Mutex<HashSet<(JobId, u32)>>,
    released: Notify,
}

/// One attempt that is held, until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    all: Arc<Inner>,
    job: JobId,
    attempt: u32,
}

impl Holds {
    /// Holds an attempt; before anything is done about it.
    pub(crate) fn hold(&self, lease: &Lease) -> Hold {
        let Lease { job, attempt, .. } = *lease;
        self.0.held().insert((job, attempt));
        Hold {
            all: Arc::clone(&self.0),
            job,
            attempt,
        }
    }

    pub(crate) fn is_held(&self, job: JobId, attempt: u32) -> bool {
        self.0.held().contains(&(job, attempt))
    }
}

impl Hold {
    /// Waits until no earlier attempt of the same job is held any more.
    pub(crate) async fn alone(&self) {
        loop {
            let released = self.all.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            let earlier = (1..self.attempt).map(|attempt| (self.job, attempt));
            let is_alone = {
                let held = self.all.held();
                earlier.into_iter().all(|other| !held.contains(&other))
            };
            if is_alone {
                return;
            }
            released.await;
        }
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, HashSet<(JobId, u32)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.all.held().remove(&(self.job, self.attempt));
        self.all.released.notify_waiters();
    }
}
