//! A coordinator that notes what it is asked, and answers as the test says.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use agent_domain::{
    AgentHealth, Assignment, BoxFuture, Coordinator, CoordinatorError, Directive, Ending, Facts,
    Finding, Found, Holding, JobId, Lease, Phase, Report, WorkerId,
};
use tokio::sync::Notify;

/// How renewals are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Renewals {
    #[default]
    Granted,
    /// The answer never comes.
    Swallowed,
    /// There is an answer, but no good one.
    Failing,
    /// The job was given to somebody else.
    Stale,
}

/// What a worker has said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Claimed,
    Settled(Vec<(JobId, Found)>),
    TookUp(JobId),
    Progressed(JobId, u32, Phase, Box<Facts>),
    Finished(JobId, u32, Ending),
}

#[derive(Debug, Default)]
struct Told {
    renewals: Renewals,
    held: Vec<(Holding, Assignment)>,
    waiting: VecDeque<Assignment>,
    said: Vec<Said>,
}

#[derive(Debug, Default)]
pub(crate) struct Played {
    told: Mutex<Told>,
    offered: Notify,
}

impl Played {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// Answers renewals like this from now on.
    pub(crate) fn answer_renewals(&self, how: Renewals) {
        self.told().renewals = how;
    }

    /// Hands this out with the next claim.
    pub(crate) fn offer(&self, assignment: Assignment) {
        self.told().waiting.push_back(assignment);
        self.offered.notify_one();
    }

    /// Has the worker down for this.
    pub(crate) fn holds(&self, assignment: Assignment, phase: Phase) {
        let (lease, log) = (assignment.lease, assignment.log.clone());
        self.told()
            .held
            .push((Holding { lease, phase, log }, assignment));
    }

    pub(crate) fn said(&self) -> Vec<Said> {
        self.told().said.clone()
    }

    pub(crate) fn has_finished(&self, job: JobId, attempt: u32) -> Option<Ending> {
        let said = self.said();
        said.into_iter().find_map(|said| match said {
            Said::Finished(one, number, ending) if (one, number) == (job, attempt) => Some(ending),
            _ => None,
        })
    }

    fn note(&self, said: Said) {
        self.told().said.push(said);
    }
}

impl Coordinator for Played {
    fn held<'a>(
        &'a self,
        _worker: &'a WorkerId,
    ) -> BoxFuture<'a, Result<Vec<Holding>, CoordinatorError>> {
        let held = self
            .told()
            .held
            .iter()
            .map(|(holding, _)| holding.clone())
            .collect();
        Box::pin(async move { Ok(held) })
    }

    fn settle<'a>(
        &'a self,
        _worker: &'a WorkerId,
        findings: Vec<Finding>,
    ) -> BoxFuture<'a, Result<Vec<Lease>, CoordinatorError>> {
        let kept = findings
            .iter()
            .filter(|finding| finding.found == Found::Kept);
        let leases = kept.map(|finding| finding.lease).collect();
        let found = findings
            .into_iter()
            .map(|it| (it.lease.job, it.found))
            .collect();
        self.note(Said::Settled(found));
        Box::pin(async move { Ok(leases) })
    }

    fn take_up<'a>(
        &'a self,
        lease: &'a Lease,
    ) -> BoxFuture<'a, Result<Assignment, CoordinatorError>> {
        self.note(Said::TookUp(lease.job));
        let told = self.told();
        let held = told
            .held
            .iter()
            .find(|(holding, _)| holding.lease == *lease);
        let taken = held.map(|(holding, assignment)| Assignment {
            resume_from: Some(holding.phase),
            ..assignment.clone()
        });
        drop(told);
        Box::pin(async move { taken.ok_or(CoordinatorError::Stale(lease.job)) })
    }

    fn claim<'a>(
        &'a self,
        _worker: &'a WorkerId,
        free: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Assignment>, CoordinatorError>> {
        self.note(Said::Claimed);
        Box::pin(async move {
            let offer = async {
                loop {
                    let offered = self.offered.notified();
                    let next = self.told().waiting.pop_front();
                    if let Some(next) = next.filter(|_| free > 0) {
                        return vec![next];
                    }
                    offered.await;
                }
            };
            Ok(tokio::time::timeout(wait, offer).await.unwrap_or_default())
        })
    }

    fn heartbeat<'a>(
        &'a self,
        leases: &'a [Lease],
    ) -> BoxFuture<'a, Result<Vec<JobId>, CoordinatorError>> {
        Box::pin(async move {
            let renewals = self.told().renewals;
            match renewals {
                Renewals::Granted => Ok(Vec::new()),
                Renewals::Swallowed => pending().await,
                Renewals::Failing => Err(CoordinatorError::Unavailable("on purpose".into())),
                Renewals::Stale => Ok(leases.iter().map(|lease| lease.job).collect()),
            }
        })
    }

    fn directive<'a>(
        &'a self,
        _lease: &'a Lease,
        seen: Directive,
    ) -> BoxFuture<'a, Result<Directive, CoordinatorError>> {
        Box::pin(async move {
            if seen == Directive::Continue {
                pending::<()>().await;
            }
            Ok(Directive::Continue)
        })
    }

    fn progress<'a>(
        &'a self,
        lease: &'a Lease,
        phase: Phase,
        facts: Facts,
    ) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        let said = Said::Progressed(lease.job, lease.attempt, phase, Box::new(facts));
        self.note(said);
        Box::pin(async { Ok(()) })
    }

    fn log_grew(&self, _lease: &Lease) {}

    fn finish<'a>(
        &'a self,
        lease: &'a Lease,
        report: Report,
    ) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        self.note(Said::Finished(lease.job, lease.attempt, report.ending));
        Box::pin(async { Ok(()) })
    }

    fn agent_health(&self, _worker: &WorkerId, _health: AgentHealth) {}
}
