//! Why the engine refused a request.

use agent_domain::{Class, JobId, Refused, RepoSlug, Status};
use agent_storage::StoreError;

use crate::disk::DiskShortage;

/// Why the engine refused a request; the text is fit to show to a caller.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No such job.
    #[error("Job not found")]
    JobNotFound,
    /// The job has no such delivery.
    #[error("Delivery not found")]
    DeliveryNotFound,
    /// No such client.
    #[error("Client not found")]
    ClientNotFound,
    /// A client with the same unique field is there already.
    #[error("A client with this {0} exists already")]
    ClientExists(&'static str),
    /// The client has unfinished jobs.
    #[error("Client has unfinished jobs")]
    ClientBusy,
    /// An unfinished job of the client has the branch.
    #[error("Branch {branch} is held by unfinished job {job}")]
    BranchHeld {
        /// The branch.
        branch: String,
        /// The job that holds it.
        job: JobId,
    },
    /// The remote has the branch, or one it would clash with.
    #[error("{}", clash_sentence(branch, clash))]
    BranchExists {
        /// The branch.
        branch: String,
        /// What is there.
        clash: String,
    },
    /// A field of the request is wrong in a way only the engine can know.
    #[error("{field} {problem}")]
    Field {
        /// The field's public name.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The job has ended.
    #[error("Job already {0}")]
    JobEnded(Status),
    /// The job has not ended yet.
    #[error("Job is still {0}")]
    JobUnfinished(Status),
    /// The job waits for no time.
    #[error("Job is {0} and does not wait for a time")]
    JobNotParked(Status),
    /// The job has left no session to go on in.
    #[error("Job has no session to go on in: its agent never began, or what it left is gone")]
    NoSession,
    /// An unfinished job goes on in the session.
    #[error("Job {0} goes on in this session and has not ended yet")]
    SessionBusy(JobId),
    /// What the job has left is in its workspace still.
    #[error("The work of job {0} is not kept yet; try again")]
    WorkNotKept(JobId),
    /// The server is about to stop.
    #[error("Server is shutting down and takes no new work")]
    Draining,
    /// There is too little room on a volume.
    #[error("The disk is nearly full and no new work is taken: {0}")]
    DiskLow(DiskShortage),
    /// There is no such credential.
    #[error("Credential not found")]
    CredentialNotFound,
    /// None of the server's credentials is for this repository.
    #[error("No credential of this server may be used for jobs of {0}")]
    NoCredential(RepoSlug),
    /// The log cannot be read.
    #[error("Log cannot be read: {0}")]
    Log(#[source] std::io::Error),
    /// Storage failed.
    #[error("Storage failed: {0}")]
    Storage(#[source] StoreError),
    /// The job brought keys of its own, which are not kept.
    #[error("The job brought its own {0}, which was not kept: give it in secrets again")]
    SecretsRequired(&'static str),
    /// The key was used for another request.
    #[error("This Idempotency-Key was used for another request")]
    IdempotencyKeyReused,
    /// The first request with the key is still being done.
    #[error("The first request with this Idempotency-Key is still being worked on")]
    IdempotencyInFlight,
    /// The work was broken off; whether it was done is not known.
    #[error("The request was interrupted; look before trying again")]
    Interrupted,
    /// The same row was changed by others too many times in a row.
    #[error("Job is being changed by others; try again")]
    Contended,
}

impl EngineError {
    /// What kind of error this is.
    pub fn class(&self) -> Class {
        match self {
            Self::JobNotFound
            | Self::ClientNotFound
            | Self::DeliveryNotFound
            | Self::CredentialNotFound => Class::NotFound,
            Self::ClientExists(_)
            | Self::ClientBusy
            | Self::BranchHeld { .. }
            | Self::BranchExists { .. }
            | Self::JobUnfinished(_)
            | Self::JobNotParked(_)
            | Self::NoSession
            | Self::NoCredential(_)
            | Self::SessionBusy(_)
            | Self::IdempotencyInFlight => Class::Conflict,
            Self::IdempotencyKeyReused => Class::Unprocessable,
            // The specification answers 400, not 409, when an ended job is cancelled.
            Self::Field { .. } | Self::JobEnded(_) | Self::SecretsRequired(_) => Class::Invalid,
            Self::Draining
            | Self::DiskLow(_)
            | Self::WorkNotKept(_)
            | Self::Contended
            | Self::Interrupted => Class::Unavailable,
            Self::Log(_) => Class::Bug,
            Self::Storage(error) => error.class(),
        }
    }

    /// The stable public code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::JobNotFound => "job_not_found",
            Self::ClientNotFound => "client_not_found",
            Self::DeliveryNotFound => "delivery_not_found",
            Self::ClientExists(_) => "client_exists",
            Self::ClientBusy => "client_busy",
            Self::BranchHeld { .. } | Self::BranchExists { .. } => "branch_exists",
            Self::Field { .. } => "invalid_field",
            Self::JobEnded(_) => "job_ended",
            Self::JobUnfinished(_) => "job_unfinished",
            Self::JobNotParked(_) => "job_not_parked",
            Self::NoSession => "no_session",
            Self::CredentialNotFound => "credential_not_found",
            Self::NoCredential(_) => "no_credential",
            Self::SessionBusy(_) => "session_busy",
            Self::WorkNotKept(_) => "work_not_kept",
            Self::Draining => "draining",
            Self::DiskLow(_) => "disk_low",
            Self::Log(_) => "log_unreadable",
            Self::Storage(StoreError::DiskFull) => "disk_full",
            Self::Storage(error) if error.class() == Class::Unavailable => "storage_unavailable",
            Self::Storage(_) => "storage_failed",
            Self::Contended => "contended",
            Self::SecretsRequired(_) => "secrets_required",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::IdempotencyInFlight => "idempotency_in_flight",
            Self::Interrupted => "interrupted",
        }
    }

    /// The public name of the field that is wrong, where it is one.
    pub const fn field(&self) -> Option<&'static str> {
        match self {
            Self::Field { field, .. } => Some(field),
            Self::BranchHeld { .. } | Self::BranchExists { .. } => Some("branchName"),
            Self::SecretsRequired(_) => Some("secrets"),
            _ => None,
        }
    }
}

fn clash_sentence(branch: &str, clash: &str) -> String {
    if branch == clash {
        format!("Branch {branch} exists already in the repository")
    } else {
        format!("Branch {branch} cannot stand beside {clash}, which the repository has already")
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Taken { what } => Self::ClientExists(what),
            StoreError::ClientBusy => Self::ClientBusy,
            StoreError::SessionHeld(job) => Self::SessionBusy(job),
            StoreError::ClientGone => Self::ClientNotFound,
            StoreError::AnsweredAlready => Self::IdempotencyInFlight,
            other => Self::Storage(other),
        }
    }
}

impl From<Refused> for EngineError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Ended(status) => Self::JobEnded(status),
            Refused::Unfit(status) => Self::JobUnfinished(status),
            Refused::Stale => Self::Contended,
        }
    }
}
