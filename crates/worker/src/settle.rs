//! What a worker held before a restart: found out for all attempts at once, told to the
//! coordinator at once, and then gone on with.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_domain::{CoordinatorError, Finding, Found, Holding, JobId, Lease, Phase};
use agent_runner::{RunnerError, Surveyed};

use crate::attempt::learned;
use crate::holds::{Hold, Holds};
use crate::worker::WorkerParts;

/// Pause after a coordinator, or a disk, that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What became of the attempts a worker held before a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settlement {
    /// All of them.
    pub held: usize,
    /// Agents that live, watched again.
    pub living: usize,
    /// Ended runs and deliveries, finished as slots come free.
    pub kept: usize,
    /// Runs that were lost.
    pub lost: usize,
    /// Jobs back in the queue: their run was lost, or had not begun.
    pub requeued: usize,
}

/// What is to be gone on with.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) settlement: Settlement,
    /// Agents are at work: to be watched at once.
    pub(crate) living: Vec<(Lease, Hold)>,
    /// Can wait for a slot.
    pub(crate) waiting: VecDeque<(Lease, Hold)>,
}

/// Why settling did not succeed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
}

/// Settles everything, if need be in several tries: nothing else is done before.
pub(crate) async fn settle(parts: &WorkerParts, holds: &Holds) -> Settled {
    loop {
        match try_settle(parts, holds).await {
            Ok(settled) => return settled,
            Err(error) => {
                tracing::warn!(%error, "what was running is not settled yet, trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn try_settle(parts: &WorkerParts, holds: &Holds) -> Result<Settled, Failure> {
    let id = &parts.config.id;
    let holdings = parts.coordinator.held(id).await?;
    let surveyed = survey(parts, &holdings).await?;
    let living: HashSet<JobId> = holdings
        .iter()
        .map(|holding| holding.lease.job)
        .filter(|job| surveyed.get(job) == Some(&Surveyed::Living))
        .collect();
    let mut findings = Vec::with_capacity(holdings.len());
    for holding in &holdings {
        let lease = holding.lease;
        let found = found(parts, holding, surveyed.get(&lease.job)).await;
        findings.push(Finding { lease, found });
    }
    let lost = |finding: &&Finding| matches!(finding.found, Found::Lost { .. });
    let mut settled = Settled {
        settlement: Settlement {
            held: holdings.len(),
            lost: findings.iter().filter(lost).count(),
            ..Settlement::default()
        },
        ..Settled::default()
    };
    for lease in parts.coordinator.settle(id, findings).await? {
        let hold = holds.hold(&lease);
        if living.contains(&lease.job) {
            settled.living.push((lease, hold));
        } else {
            settled.waiting.push_back((lease, hold));
        }
    }
    let counts = &mut settled.settlement;
    (counts.living, counts.kept) = (settled.living.len(), settled.waiting.len());
    counts.requeued = counts.held.saturating_sub(counts.living + counts.kept);
    Ok(settled)
}

/// Looks at every attempt whose agent may have been started.
async fn survey(
    parts: &WorkerParts,
    held: &[Holding],
) -> Result<HashMap<JobId, Surveyed>, RunnerError> {
    let started = held
        .iter()
        .filter(|holding| holding.phase == Phase::Agent)
        .map(|holding| (holding.lease.job, holding.lease.attempt))
        .collect();
    let found = parts.runner.survey(started).await?;
    Ok(found
        .into_iter()
        .map(|((job, _), found)| (job, found))
        .collect())
}

async fn found(parts: &WorkerParts, holding: &Holding, surveyed: Option<&Surveyed>) -> Found {
    match (holding.phase, surveyed) {
        // Recorded before the agent is started, so there is none.
        (Phase::Fetching | Phase::Preparing, _) | (_, Some(Surveyed::NeverStarted)) => {
            Found::Unstarted
        }
        (_, Some(Surveyed::Lost { rebooted })) => {
            let said = parts.runner.said(&holding.log).await;
            // After a power cut nobody knows which of its files have reached the disk.
            if said.is_over() && !rebooted {
                return Found::Kept;
            }
            Found::Lost {
                seen: if *rebooted {
                    "the machine went down".to_owned()
                } else {
                    "its supervisor was killed".to_owned()
                },
                facts: Box::new(learned(&said, None)),
            }
        }
        (Phase::Agent | Phase::Delivering, _) => Found::Kept,
    }
}

/// Attempts that wait for a slot. Their leases are renewed meanwhile, all in one go.
#[derive(Debug)]
pub(crate) struct Backlog(Mutex<VecDeque<(Lease, Hold)>>);

impl Backlog {
    pub(crate) const fn new(waiting: VecDeque<(Lease, Hold)>) -> Self {
        Self(Mutex::new(waiting))
    }

    /// Takes the next one out.
    pub(crate) fn next(&self) -> Option<(Lease, Hold)> {
        self.waiting().pop_front()
    }

    /// Renews all leases until none waits any more.
    pub(crate) async fn renew(&self, parts: &WorkerParts) {
        loop {
            let Some(terms) = self.waiting().front().map(|(lease, _)| lease.terms) else {
                return;
            };
            tokio::time::sleep(terms.heartbeat()).await;
            let leases: Vec<Lease> = self.waiting().iter().map(|(lease, _)| *lease).collect();
            match parts.coordinator.heartbeat(&leases).await {
                Ok(stale) => {
                    let stale: HashSet<JobId> = stale.into_iter().collect();
                    let mut waiting = self.waiting();
                    waiting.retain(|(lease, _)| !stale.contains(&lease.job));
                }
                Err(error) => tracing::warn!(%error, "leases not renewed"),
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(Lease, Hold)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
