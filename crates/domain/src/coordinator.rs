//! The contract between whoever executes attempts and whoever hands them out.
//!
//! The engine implements it in process; a worker on another machine reaches it over HTTP. Local
//! and remote workers share every other line.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    AgentHealth, Base, BranchName, Class, Continued, CredentialName, Ending, Facts, JobId,
    JobSecrets, Phase, RepoSlug, Resume, RunOptions, SecretKinds,
};

/// A future that can be stored and sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Names a worker in leases and logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerId(pub Arc<str>);

/// A number that only grows, given out with every lease and checked by every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fence(pub u64);

/// How long a lease lasts, and all that worker and coordinator derive from it.
///
/// Both count by a clock that nobody sets, each from what it knows for certain: the worker from the
/// moment it *sent* the last renewal that was answered, the coordinator from the moment it
/// *stored* it. So the worker's time is up first, by two margins and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    lasts: Duration,
}

impl LeaseTerms {
    /// Thirty seconds: three renewals may be late before anything happens.
    pub const DEFAULT: Self = Self::new(Duration::from_secs(30));

    /// Leases that last this long.
    pub const fn new(lasts: Duration) -> Self {
        Self { lasts }
    }

    /// How long a lease lasts unless renewed.
    pub const fn lasts(self) -> Duration {
        self.lasts
    }

    /// How often a worker renews it: three times in its length.
    pub fn heartbeat(self) -> Duration {
        self.lasts / 3
    }

    /// How late either side may wake without being taken for one who was stopped: a sixth of the
    /// length.
    pub fn margin(self) -> Duration {
        self.lasts / 6
    }

    /// After this long without an answer a worker ends its own agent: early enough for the agent
    /// to be gone when [`coordinator_waits`](Self::coordinator_waits) is over.
    pub fn worker_gives_up_after(self) -> Duration {
        self.lasts.saturating_sub(self.margin() * 2)
    }

    /// After this long without a renewal a coordinator may give the job to another worker.
    pub fn coordinator_waits(self) -> Duration {
        self.lasts
    }
}

/// The right to work on a job for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Proves that no later lease was given.
    pub fence: Fence,
    /// How long it lasts unless renewed by [`Coordinator::heartbeat`].
    pub terms: LeaseTerms,
}

/// An attempt that a coordinator has a worker down for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The lease that was given out for it.
    pub lease: Lease,
    /// How far it had come.
    pub phase: Phase,
    /// See [`Assignment::log`].
    pub log: PathBuf,
}

/// What a worker has found of an attempt that it held before a restart.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// No agent was started: the job goes back to the queue at no cost.
    Unstarted,
    /// There is something to watch, to judge or to deliver: the worker goes on with it.
    Kept,
    /// The run is lost, and nothing of it is left running.
    Lost {
        /// What was seen, a clause for people.
        seen: String,
        /// What its transcript said until then, and so what it cost.
        facts: Box<Facts>,
    },
}

/// One answer to [`Coordinator::held`].
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The lease that was given out for the attempt.
    pub lease: Lease,
    /// What was found.
    pub found: Found,
}

/// One attempt of one job, with all a worker needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The right to do it.
    pub lease: Lease,
    /// The repository.
    pub repo: RepoSlug,
    /// Where the work starts from and the pull request goes to.
    pub default_branch: BranchName,
    /// The branch to make and push.
    pub branch: BranchName,
    /// What the agent is told.
    pub prompt: Arc<str>,
    /// Title of the pull request and subject of the commit.
    pub title: Option<String>,
    /// The feature's id in the caller's own system.
    pub os_feature_id: Option<String>,
    /// What it starts from.
    pub base: Base,
    /// How the agent is to be run: the job's wishes, then the client's.
    pub options: RunOptions,
    /// See [`crate::Client::trusted`].
    pub trusted: bool,
    /// What the agent is run on, where the job brought no key of its own.
    pub credential: Option<CredentialName>,
    /// Which keys of its own the job brought.
    pub brought: SecretKinds,
    /// Those of them that are still in memory; used in place of the worker's.
    pub secrets: JobSecrets,
    /// What earlier work on this attempt has found out. Of a new attempt: where the work of an
    /// earlier one was kept, and what workspace it may have left.
    pub facts: Facts,
    /// What it goes on from, where it continues the session of an ended job.
    pub continues: Option<Continued>,
    /// Where the session of the job is kept beyond its workspace.
    pub session: PathBuf,
    /// The session of an earlier attempt to go on in, where its workspace is still there: it was
    /// parked.
    pub resume: Option<Resume>,
    /// How far an interrupted worker had come with this attempt; `None` for a new attempt.
    pub resume_from: Option<Phase>,
    /// The log of this attempt, where the worker shares a file system with the coordinator and
    /// writes it directly.
    pub log: PathBuf,
}

/// What a worker is to do about a job it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Directive {
    /// Go on.
    Continue,
    /// End the agent in good order, then report.
    Cancel,
    /// End everything at once, then report.
    Kill,
}

/// How an attempt ended, told by the worker as its last word on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The verdict.
    pub ending: Ending,
    /// Everything found out since the last progress.
    pub facts: Facts,
}

impl Report {
    /// That an attempt ended so.
    pub const fn new(ending: Ending, facts: Facts) -> Self {
        Self { ending, facts }
    }
}

/// Why a coordinator refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorError {
    /// The lease is not the latest one, or the job is not running any more: stop working on it.
    #[error("lease of job {0} is no longer valid")]
    Stale(JobId),
    /// It cannot answer now; ask again.
    #[error("coordinator unavailable: {0}")]
    Unavailable(String),
}

impl CoordinatorError {
    /// What kind of error this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::Stale(_) => Class::Conflict,
            Self::Unavailable(_) => Class::Unavailable,
        }
    }
}

/// Hands out attempts and takes reports.
pub trait Coordinator: Send + Sync {
    /// Returns every attempt that `worker` held when it was last heard of. Asked once at its
    /// start, before its first claim.
    fn held<'a>(
        &'a self,
        worker: &'a WorkerId,
    ) -> BoxFuture<'a, Result<Vec<Holding>, CoordinatorError>>;

    /// Takes what a worker has found of the attempts it held, all at once, and returns new leases
    /// for those that it is to go on with.
    ///
    /// That is what it wants to keep, and also what would end for good otherwise: the worker ends
    /// it in the usual way, in which unfinished work is kept.
    fn settle<'a>(
        &'a self,
        worker: &'a WorkerId,
        findings: Vec<Finding>,
    ) -> BoxFuture<'a, Result<Vec<Lease>, CoordinatorError>>;

    /// Returns the whole of an attempt that [`Coordinator::settle`] gave a lease for.
    fn take_up<'a>(
        &'a self,
        lease: &'a Lease,
    ) -> BoxFuture<'a, Result<Assignment, CoordinatorError>>;

    /// Returns up to `free` new attempts for `worker`, waiting up to `wait` for the first one.
    ///
    /// Their leases are counted from the answer. Where that can be late, an implementation renews
    /// them before it hands them on.
    fn claim<'a>(
        &'a self,
        worker: &'a WorkerId,
        free: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Assignment>, CoordinatorError>>;

    /// Renews leases, and returns the jobs of those that are not valid any more.
    fn heartbeat<'a>(
        &'a self,
        leases: &'a [Lease],
    ) -> BoxFuture<'a, Result<Vec<JobId>, CoordinatorError>>;

    /// Waits until what is to be done about a job is no longer `seen`, and returns it.
    fn directive<'a>(
        &'a self,
        lease: &'a Lease,
        seen: Directive,
    ) -> BoxFuture<'a, Result<Directive, CoordinatorError>>;

    /// Records that the attempt entered `phase`, and what was found out on the way. Once it
    /// returns, a crash of anything does not undo it.
    fn progress<'a>(
        &'a self,
        lease: &'a Lease,
        phase: Phase,
        facts: Facts,
    ) -> BoxFuture<'a, Result<(), CoordinatorError>>;

    /// Says that the attempt's log has grown, so that whoever follows it looks again. Only a
    /// hint: losing it delays a viewer and nothing else.
    fn log_grew(&self, lease: &Lease);

    /// Ends the attempt.
    fn finish<'a>(
        &'a self,
        lease: &'a Lease,
        report: Report,
    ) -> BoxFuture<'a, Result<(), CoordinatorError>>;

    /// Takes note of the CLI and its login on the worker's machine.
    fn agent_health(&self, worker: &WorkerId, health: AgentHealth);
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
