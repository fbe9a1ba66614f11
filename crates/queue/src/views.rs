//! What callers give the engine and get from it, beyond the domain's own types.

use std::path::PathBuf;

use agent_domain::{
    AgentHealth, BranchName, Client, ClientId, Job, JobId, JobSecrets, JobSpec, LogStream,
    Priority, RepoSlug, Timestamp,
};
use agent_storage::ClientCounts;

use crate::credentials::CredentialView;
use crate::disk::DiskVolume;

/// A client, and whether its mirror is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientView {
    /// The client.
    pub client: Client,
    /// Whether there is a mirror of its repository.
    pub repo_exists: bool,
}

/// A client with the numbers of its jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientDetails {
    /// The client.
    pub client: Client,
    /// Whether there is a mirror of its repository.
    pub repo_exists: bool,
    /// How many jobs it has.
    pub counts: ClientCounts,
}

/// A client just created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedClient {
    /// The client.
    pub client: Client,
    /// Whether its mirror is complete by now.
    pub repo_cloned: bool,
    /// Why the clone failed, if it did.
    pub clone_error: Option<String>,
    /// Where the mirror is or will be.
    pub bare_repo_path: PathBuf,
}

/// Whose repository a job is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A client by id.
    Client(ClientId),
    /// A repository; its client is created if there is none yet.
    Repo(RepoSlug),
}

/// A job as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Whose repository.
    pub target: Target,
    /// What to do; [`JobSpec::secrets`] follows from `secrets`.
    pub spec: JobSpec,
    /// How urgent it is; `None` for as urgent as its client's jobs are.
    pub priority: Option<Priority>,
    /// Keys of its own, kept in memory only.
    pub secrets: JobSecrets,
    /// Not to be started earlier.
    pub not_before: Option<Timestamp>,
}

/// A job taken in: from now on it is not lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The job.
    pub id: JobId,
    /// Its client.
    pub client_id: ClientId,
    /// Its place among the jobs ready to run, from 1; `None` while it is not to be started.
    pub position: Option<u64>,
    /// Its branch; a retry may have got another one than it asked for.
    pub branch: BranchName,
    /// When it was taken in.
    pub created_at: Timestamp,
}

/// What became of a cancellation.
#[derive(Debug, Clone, PartialEq)]
pub struct CancelOutcome {
    /// Whether an attempt was under way.
    pub was_running: bool,
    /// The job as it stands; still running when the caller did not wait, or waited in vain.
    pub job: Job,
}

/// One message of a job's log, as a person would want to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it came from.
    pub stream: LogStream,
    /// The attempt that wrote it, from 1.
    pub attempt: u32,
    /// When it was written.
    pub at: Timestamp,
    /// The text; bytes that are not UTF-8 are shown replaced.
    pub text: String,
}

/// How the engine is.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Jobs running.
    pub running: u64,
    /// Jobs ready to run.
    pub ready: u64,
    /// Jobs queued but not before a given time.
    pub parked: u64,
    /// When the first of them may start.
    pub parked_until: Option<Timestamp>,
    /// Slots.
    pub max_concurrent: u32,
    /// Writes refused since the start because their lease was not valid any more.
    pub stale_writes: u64,
    /// Endpoints of callbacks that have failed too often and have not answered since.
    pub failing_endpoints: usize,
    /// The CLI and its login, as last seen.
    pub agent: AgentHealth,
    /// What jobs run on.
    pub credentials: Vec<CredentialView>,
    /// Whether the server is about to stop and takes no new work.
    pub draining: bool,
    /// Room on the volumes that are watched, as last seen.
    pub volumes: Vec<DiskVolume>,
}

/// One repository brought up to date, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// The repository.
    pub repo: RepoSlug,
    /// Why not.
    pub error: Option<String>,
}
