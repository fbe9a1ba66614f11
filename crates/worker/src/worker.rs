//! The worker: claims attempts while it has free slots, and sees each to its end.

use std::sync::Arc;
use std::time::Duration;

use agent_domain::{Assignment, Clock, Coordinator, Ids, WorkerId};
use agent_forge::Forge;
use agent_git::Git;
use agent_runner::Runner;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{attempt, health};

/// How long one claim waits for work before it asks anew.
const CLAIM_WAIT: Duration = Duration::from_mins(1);
/// Pause after a claim that failed.
const CLAIM_PAUSE: Duration = Duration::from_secs(1);

/// What a worker is told once.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Its name.
    pub id: WorkerId,
    /// Attempts under way at the same time.
    pub slots: usize,
    /// How often leases are renewed; well below their length.
    pub heartbeat: Duration,
}

/// What a worker is made of.
#[derive(Clone)]
pub struct WorkerParts {
    /// Settings.
    pub config: WorkerConfig,
    /// Hands out attempts.
    pub coordinator: Arc<dyn Coordinator>,
    /// Repositories and workspaces.
    pub git: Git,
    /// Pull requests.
    pub forge: Arc<Forge>,
    /// The agent.
    pub runner: Arc<Runner>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for jitter.
    pub ids: Arc<dyn Ids>,
}

/// Executes attempts until told to stop.
pub struct Worker {
    parts: WorkerParts,
    drain: CancellationToken,
    leave: CancellationToken,
    tasks: TaskTracker,
}

impl Worker {
    /// Starts a worker inside the current tokio runtime.
    pub fn start(parts: WorkerParts) -> Self {
        let (drain, leave) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        tasks.spawn(health::watch(parts.clone(), drain.clone()));
        tasks.spawn(claim_loop(
            parts.clone(),
            drain.clone(),
            leave.clone(),
            tasks.clone(),
        ));
        Self {
            parts,
            drain,
            leave,
            tasks,
        }
    }

    /// Claims nothing more, gives attempts under way up to `grace` to end, then leaves the rest
    /// to their supervisors, to be taken up again by the next server.
    pub async fn stop(&self, grace: Duration) {
        self.drain.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::info!(worker.id = %self.parts.config.id, "agents still at work go on under their supervisors");
        }
        self.leave.cancel();
        self.tasks.wait().await;
    }
}

async fn claim_loop(
    parts: WorkerParts,
    drain: CancellationToken,
    leave: CancellationToken,
    tasks: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(parts.config.slots));
    loop {
        let claimed = tokio::select! {
            () = drain.cancelled() => return,
            claimed = claim(&parts, &slots) => claimed,
        };
        for assignment in claimed {
            // Whoever claimed waited for free slots, and nobody else takes them.
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                continue;
            };
            let (parts, leave) = (parts.clone(), leave.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = leave.cancelled() => {}
                    () = attempt::execute(&parts, assignment) => {}
                }
                drop(slot);
            });
        }
    }
}

async fn claim(parts: &WorkerParts, slots: &Arc<Semaphore>) -> Vec<Assignment> {
    let Ok(first) = slots.acquire().await else {
        return Vec::new();
    };
    let free = slots.available_permits() + 1;
    let claimed = parts
        .coordinator
        .claim(&parts.config.id, free, CLAIM_WAIT)
        .await;
    drop(first);
    match claimed {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::warn!(%error, "no work could be claimed");
            tokio::time::sleep(CLAIM_PAUSE).await;
            Vec::new()
        }
    }
}
