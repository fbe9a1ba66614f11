//! Looks after what jobs leave behind: workspaces and leftovers, then the mirrors.
//!
//! Nothing here is urgent and all of it can be broken off anywhere and done again: the disk and the
//! jobs' states are the only memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_domain::{JobId, Maintained, Upkeep};
use tokio::sync::Notify;

use crate::engine::Engine;
use crate::reconcile;

/// How often everything is looked at.
const PERIOD: Duration = Duration::from_hours(1);
/// How often a workspace is looked at that could not be removed when its job ended.
const PAUSE: Duration = Duration::from_secs(5);
/// How many times; then it is left to the next look at everything.
const TRIES: u32 = 12;
/// Jobs that are remembered at most.
const ENDED_MAX: usize = 10_000;

impl Engine {
    /// Begins to look after a disk: at once, every hour, and when it is nearly full or has room
    /// again. For each disk once.
    pub fn keep_house(&self, upkeep: Arc<dyn Upkeep>) {
        self.inner.upkeep.get_or_init(|| Arc::clone(&upkeep));
        crate::loops::spawn_housekeeping(self, upkeep);
    }
}

/// Runs until the engine stops.
pub(crate) async fn keep(engine: Engine, upkeep: Arc<dyn Upkeep>) {
    let stopped = engine.inner.stop.clone();
    let keeping = async {
        loop {
            reconcile::reconcile(&engine, upkeep.as_ref()).await;
            maintain(upkeep.as_ref()).await;
            tokio::select! {
                () = engine.inner.house.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
                () = see_to_the_ended(&engine, upkeep.as_ref()) => {}
            }
        }
    };
    tokio::select! {
        () = stopped.cancelled() => {}
        () = keeping => {}
    }
}

/// Jobs that have ended a short while ago.
///
/// Whoever worked on one has removed its workspace, as a rule. But a job can be cancelled that
/// waits after a lost run, or be given up after one; and a full disk lets nothing be removed.
#[derive(Debug, Default)]
pub(crate) struct EndedJobs {
    jobs: Mutex<Vec<JobId>>,
    added: Notify,
}

impl EndedJobs {
    /// Lets the workspace of a job be looked for soon.
    pub(crate) fn add(&self, job: JobId) {
        let mut jobs = self.jobs();
        // What is too much is found within the hour.
        if jobs.len() < ENDED_MAX {
            jobs.push(job);
        }
        self.added.notify_one();
    }

    fn jobs(&self) -> MutexGuard<'_, Vec<JobId>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for the workspace of each job that ends, and again a few times for what stayed.
async fn see_to_the_ended(engine: &Engine, upkeep: &dyn Upkeep) {
    let mut staying: HashMap<JobId, u32> = HashMap::new();
    loop {
        let fresh = std::mem::take(&mut *engine.inner.ended.jobs());
        staying.extend(fresh.into_iter().map(|job| (job, TRIES)));
        let mut still = HashMap::new();
        for (job, tries) in staying {
            if !reconcile::look_at(engine, upkeep, job).await && tries > 1 {
                still.insert(job, tries - 1);
            }
        }
        staying = still;
        let added = engine.inner.ended.added.notified();
        if staying.is_empty() {
            added.await;
        } else {
            // Not more often, whoever ends meanwhile.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Brings the mirrors into good order, one after the other.
async fn maintain(upkeep: &dyn Upkeep) {
    let repositories = match upkeep.repositories().await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "the mirrors cannot be listed");
            return;
        }
    };
    for repo in repositories {
        let begun = tokio::time::Instant::now();
        match upkeep.maintain(&repo).await {
            Ok(Maintained::NotNeeded | Maintained::InUse) => {}
            Ok(Maintained::Interrupted) => {
                tracing::debug!(%repo, "packing of the mirror broken off for a job");
            }
            Ok(Maintained::Done) => {
                let seconds = begun.elapsed().as_secs();
                tracing::info!(%repo, seconds, "mirror packed");
            }
            Err(error) => tracing::warn!(%repo, %error, "mirror not packed"),
        }
    }
}
