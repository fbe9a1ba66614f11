//! Stores to test with.

use agent_domain::{Event, Job, Timestamp};
use agent_storage::{CreatedJob, NewJob, Store, StoreConfig};
use tempfile::TempDir;

pub(crate) use crate::samples::*;

/// A store of its own, and the folder it is in.
pub(crate) fn store() -> (Store, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (open(&dir), dir)
}

pub(crate) fn open(dir: &TempDir) -> Store {
    let path = dir.path().join("agent.db");
    Store::open(StoreConfig { path, readers: 2 }).unwrap()
}

pub(crate) async fn create(store: &Store, job: &Job) -> CreatedJob {
    let new = NewJob {
        job: job.clone(),
        create_client: None,
    };
    store.create_job(new).await.unwrap()
}

/// Commits `event` and returns the job as it then is.
pub(crate) async fn happens(store: &Store, job: &Job, event: Event, now: Timestamp) -> Job {
    let change = change(job, event, now);
    let next = change.job.clone();
    assert!(store.commit(change).await.unwrap());
    next
}
