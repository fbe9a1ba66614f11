//! What can go wrong in storage.

use std::path::PathBuf;

use agent_domain::{Class, JobId};
use rusqlite::ErrorCode;

/// Extended code of SQLite for "no room for the shared memory of the WAL".
const IOERR_SHMSIZE: i32 = 4874;

/// Why a storage operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another client has the same value.
    #[error("another client has this {what}")]
    Taken {
        /// Public name of the field: `osClientId` or `githubOrg/githubRepo`.
        what: &'static str,
    },
    /// The client has jobs that have not ended.
    #[error("the client has unfinished jobs")]
    ClientBusy,
    /// An unfinished job of the same client has the branch.
    #[error("branch is held by unfinished job {0}")]
    BranchHeld(JobId),
    /// Another unfinished job goes on in the session.
    #[error("unfinished job {0} goes on in the session")]
    SessionHeld(JobId),
    /// The client does not exist, or not any more.
    #[error("there is no such client")]
    ClientGone,
    /// A request with the same idempotency key has been answered meanwhile.
    #[error("a request with this idempotency key is answered already")]
    AnsweredAlready,
    /// A new job is to wait for one that does not exist.
    #[error("there is no job {0} to wait for")]
    UnknownDependency(JobId),
    /// The job a page was to start after does not exist.
    #[error("there is no job {0} to go on from")]
    UnknownCursor(JobId),
    /// Another process works on the database.
    #[error("another server uses this database: {} is locked", .lock.display())]
    InUse {
        /// The lock file.
        lock: PathBuf,
    },
    /// A newer version of this program has upgraded the database.
    #[error("the database has schema version {found}, this program knows up to {known}")]
    NewerSchema {
        /// Version of the database.
        found: i64,
        /// Last version known here.
        known: i64,
    },
    /// The file is a database, but not one of ours.
    #[error("{} is a database of some other program", .0.display())]
    Foreign(PathBuf),
    /// No room is left on the disk; nothing of the operation was stored.
    #[error("the disk is full")]
    DiskFull,
    /// The store is closed, or its writer has ended.
    #[error("the store is closed")]
    Closed,
    /// The machine does not let us work on the database at present.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database holds what this program would not have written.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// A fault of ours.
    #[error("storage failed: {0}")]
    Internal(String),
}

impl StoreError {
    /// What kind of error this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::Taken { .. }
            | Self::ClientBusy
            | Self::BranchHeld(_)
            | Self::SessionHeld(_)
            | Self::AnsweredAlready => Class::Conflict,
            Self::ClientGone => Class::NotFound,
            Self::UnknownCursor(_) | Self::UnknownDependency(_) => Class::Invalid,
            Self::InUse { .. } | Self::DiskFull | Self::Closed | Self::Unavailable(_) => {
                Class::Unavailable
            }
            Self::NewerSchema { .. } | Self::Foreign(_) | Self::Corrupt(_) | Self::Internal(_) => {
                Class::Bug
            }
        }
    }

    /// The stable code of this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "client_exists",
            Self::ClientBusy => "client_busy",
            Self::BranchHeld(_) => "branch_exists",
            Self::SessionHeld(_) => "session_busy",
            Self::ClientGone => "client_not_found",
            Self::AnsweredAlready => "idempotency_in_flight",
            Self::UnknownCursor(_) => "unknown_cursor",
            Self::UnknownDependency(_) => "invalid_field",
            Self::InUse { .. } => "database_in_use",
            Self::NewerSchema { .. } => "newer_schema",
            Self::Foreign(_) => "foreign_database",
            Self::DiskFull => "disk_full",
            Self::Closed | Self::Unavailable(_) => "storage_unavailable",
            Self::Corrupt(_) | Self::Internal(_) => "storage_failed",
        }
    }

    /// Puts a failed operation on a file into words.
    pub(crate) fn io(what: &str, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull {
            Self::DiskFull
        } else {
            Self::Unavailable(format!("{what}: {error}"))
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match &error {
            E::SqliteFailure(failure, _) if failure.extended_code == IOERR_SHMSIZE => {
                Self::DiskFull
            }
            E::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DiskFull => Self::DiskFull,
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::FileLockingProtocolFailed => Self::Unavailable(error.to_string()),
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                    Self::Corrupt(error.to_string())
                }
                _ => Self::Internal(error.to_string()),
            },
            E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::InvalidColumnType(..) => Self::Corrupt(error.to_string()),
            _ => Self::Internal(error.to_string()),
        }
    }
}
