//! Stores to test with.

use std::time::Duration;

use agent_domain::{Delivery, Event, Job, JsonText, PermissionMode, RunOptions, Timestamp, Usd};
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

/// Every option there is, no two alike.
pub(crate) fn options() -> RunOptions {
    RunOptions {
        model: Some("model".into()),
        fallback_model: Some("fallback".into()),
        permission_mode: Some(PermissionMode::Plan),
        timeout: Some(Duration::from_secs(11)),
        idle_timeout: Some(Duration::from_millis(12)),
        max_turns: Some(13),
        budget: Some(Usd::from_nanos(17)),
        allowed_tools: Some(vec![
            "Edit".parse().unwrap(),
            "Bash(git *)".parse().unwrap(),
        ]),
        disallowed_tools: Some(Vec::new()),
        append_system_prompt: Some("two\nlines".into()),
        agents: Some(JsonText::new(r#"{"b":{"prompt":"\"p\""},"a":{}}"#)),
        mcp_servers: Some(JsonText::new("{}")),
        output_schema: Some(JsonText::new("true")),
        delivery: Some(Delivery::None),
        draft: Some(false),
        labels: Some(vec!["bot, made".into()]),
        max_attempts: Some(7),
        env: Some([("CI".parse().unwrap(), "=\n\"".into())].into()),
    }
}
