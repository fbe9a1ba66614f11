//! The worker: claims attempts while it has free slots, and sees each to its end.

use std::sync::Arc;
use std::time::Duration;

use agent_domain::{Assignment, Clock, Coordinator, Ids, Lease, WorkerId};
use agent_forge::Forge;
use agent_git::Git;
use agent_runner::Runner;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::holds::{Hold, Holds};
use crate::settle::{Backlog, Settlement, settle};
use crate::slots::{Slot, Slots};
use crate::{attempt, health, orphans};

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
    /// Whether a job waits for the end of a usage limit and goes on then; else it fails.
    pub parks: bool,
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
///
/// It begins with what it held before a restart, and ends what is left of attempts that are not its
/// to do. One worker at a time may use a directory of attempts.
pub struct Worker {
    parts: WorkerParts,
    drain: CancellationToken,
    leave: CancellationToken,
    tasks: TaskTracker,
    settled: watch::Receiver<Option<Settlement>>,
}

impl Worker {
    /// Starts a worker inside the current tokio runtime.
    pub fn start(parts: WorkerParts) -> Self {
        let (drain, leave) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let (tell, settled) = watch::channel(None);
        let work = Work {
            slots: Slots::new(parts.config.slots),
            parts: parts.clone(),
            drain: drain.clone(),
            leave: leave.clone(),
            tasks: tasks.clone(),
            holds: Holds::default(),
        };
        tasks.spawn(health::watch(parts.clone(), drain.clone()));
        tasks.spawn(work.run(tell));
        Self {
            parts,
            drain,
            leave,
            tasks,
            settled,
        }
    }

    /// Waits until it is settled what becomes of the attempts that it held before a restart, and
    /// says so; `None` when it was stopped before.
    pub fn settled(&self) -> impl Future<Output = Option<Settlement>> + Send + use<> {
        let mut settled = self.settled.clone();
        async move {
            let told = settled.wait_for(Option::is_some).await;
            told.ok().and_then(|told| *told)
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

/// The worker at work.
#[derive(Clone)]
struct Work {
    parts: WorkerParts,
    drain: CancellationToken,
    leave: CancellationToken,
    tasks: TaskTracker,
    slots: Slots,
    holds: Holds,
}

impl Work {
    async fn run(self, tell: watch::Sender<Option<Settlement>>) {
        let settled = tokio::select! {
            () = self.drain.cancelled() => return,
            settled = settle(&self.parts, &self.holds) => settled,
        };
        tell.send_replace(Some(settled.settlement));
        // The living do not wait for a slot: somebody has to hear what they say.
        for (lease, hold) in settled.living {
            self.spawn(self.clone().take_up(lease, hold, self.slots.take()));
        }
        let backlog = Arc::new(Backlog::new(settled.waiting));
        let (parts, waiting) = (self.parts.clone(), Arc::clone(&backlog));
        self.spawn(async move { waiting.renew(&parts).await });
        let (parts, holds, drain) = (self.parts.clone(), self.holds.clone(), self.drain.clone());
        self.spawn(orphans::watch(parts, holds, drain));
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = self.fill_slots(&backlog) => {}
        }
    }

    /// Starts whatever there is to do while there are free slots: first what was begun before.
    async fn fill_slots(&self, backlog: &Backlog) {
        loop {
            let free = self.slots.free().await;
            if let Some((lease, hold)) = backlog.next() {
                self.spawn(self.clone().take_up(lease, hold, self.slots.take()));
                continue;
            }
            for assignment in claim(&self.parts, free).await {
                let (work, slot) = (self.clone(), self.slots.take());
                let hold = self.holds.hold(&assignment.lease);
                self.spawn(async move { work.execute(assignment, hold, slot).await });
            }
        }
    }

    /// Goes on with an attempt that was held before a restart.
    async fn take_up(self, lease: Lease, hold: Hold, slot: Slot) {
        // It may have waited for a slot, so it is not known any more for how long it is ours.
        let renew = || {
            self.parts
                .coordinator
                .heartbeat(std::slice::from_ref(&lease))
        };
        let renewed = crate::lease::insist(renew).await;
        if !renewed.is_ok_and(|stale| stale.is_empty()) {
            return;
        }
        let whole = crate::lease::insist(|| self.parts.coordinator.take_up(&lease)).await;
        match whole {
            Ok(assignment) => self.execute(assignment, hold, slot).await,
            Err(error) => tracing::warn!(job.id = %lease.job, %error, "not taken up again"),
        }
    }

    async fn execute(&self, assignment: Assignment, hold: Hold, slot: Slot) {
        attempt::execute(&self.parts, assignment, &hold).await;
        drop((hold, slot));
    }

    /// Starts work that ends when the worker leaves.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let leave = self.leave.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = leave.cancelled() => {}
                () = work => {}
            }
        });
    }
}

async fn claim(parts: &WorkerParts, free: usize) -> Vec<Assignment> {
    let claimed = parts
        .coordinator
        .claim(&parts.config.id, free, CLAIM_WAIT)
        .await;
    match claimed {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::warn!(%error, "no work could be claimed");
            tokio::time::sleep(CLAIM_PAUSE).await;
            Vec::new()
        }
    }
}
