//! Forgetting jobs that ended long ago, or whose logs take too much room: a few at a time, so that
//! nothing waits for it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use agent_domain::{JobId, Timestamp};
use agent_storage::{ExpiredJob, ExpiredPlace};

use crate::engine::Engine;
use crate::error::EngineError;

/// How often it is looked for jobs to forget.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// The same after a failure: on a full disk the room is needed.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// Jobs forgotten in one transaction: no other write waits for more.
const BATCH: u32 = 50;
/// Pause between two transactions, so that others come between them.
const PAUSE: Duration = Duration::from_millis(20);

/// How long ended jobs are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Forgotten so long after their end; `None`: never for their age.
    pub age: Option<Duration>,
    /// Bytes that all logs together may take; beyond it the longest ended are forgotten first.
    /// `None`: any number.
    pub logs: Option<u64>,
}

/// Runs until the engine stops.
pub(crate) async fn watch(engine: Engine) {
    loop {
        let mut pause = LOOK_EVERY;
        match forget_old(&engine).await {
            Ok(0) => {}
            Ok(jobs) => tracing::info!(jobs, "ended jobs forgotten"),
            Err(error) => {
                tracing::warn!(%error, "ended jobs not forgotten");
                pause = LOOK_AGAIN;
            }
        }
        tokio::select! {
            () = engine.inner.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn forget_old(engine: &Engine) -> Result<usize, EngineError> {
    let now = engine.inner.clock.now();
    let Retention { age, logs } = engine.inner.config.retention;
    let mut forgotten = 0;
    if let Some(before) = age.and_then(|age| now.checked_sub(age).ok()) {
        let mut place = ExpiredPlace::FIRST;
        while let Some(batch) = forget_batch(engine, before, place).await? {
            forgotten += batch.jobs;
            place = batch.last;
        }
    }
    if let Some(most) = logs {
        let mut taken = measured(engine).await?;
        let mut place = ExpiredPlace::FIRST;
        while taken > most {
            let Some(batch) = forget_batch(engine, now, place).await? else {
                break;
            };
            taken = taken.saturating_sub(batch.bytes);
            place = batch.last;
            forgotten += batch.jobs;
        }
    }
    Ok(forgotten)
}

/// What one transaction has forgotten.
struct Batch {
    jobs: usize,
    /// What their logs took.
    bytes: u64,
    /// The last one that was looked at: those that cannot be forgotten hold up none behind them.
    last: ExpiredPlace,
}

/// Forgets the next jobs behind `place` that ended before `before`; `None` when there are none.
async fn forget_batch(
    engine: &Engine,
    before: Timestamp,
    place: ExpiredPlace,
) -> Result<Option<Batch>, EngineError> {
    if engine.inner.stop.is_cancelled() {
        return Ok(None);
    }
    let expired = engine.inner.store.expired_jobs(before, place, BATCH);
    let expired = expired.await?;
    let Some(last) = expired.last().map(|job| job.place) else {
        return Ok(None);
    };
    let mut cleared = Vec::new();
    let mut bytes = 0;
    for job in expired {
        // The row is the last to go: while it is there, the rest is found and tried again.
        match clear(engine, &job).await {
            Ok(log) => {
                bytes += log;
                cleared.push(job.id);
            }
            Err(error) => tracing::warn!(job.id = %job.id, error, "job not forgotten"),
        }
    }
    let jobs = engine.inner.store.forget_jobs(cleared).await?;
    tokio::time::sleep(PAUSE).await;
    Ok(Some(Batch { jobs, bytes, last }))
}

/// Removes what a job has outside the database; returns what its logs took.
async fn clear(engine: &Engine, job: &ExpiredJob) -> Result<u64, String> {
    let forgotten = engine.inner.mirrors.forget_work(&job.repo, job.id).await;
    forgotten.map_err(|error| error.to_string())?;
    let logs = engine.logs_of(job.id);
    let removed = tokio::task::spawn_blocking(move || {
        let bytes = size_of(&logs);
        match fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(bytes),
        }
    });
    removed.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// What the logs of all jobs take. Logs of jobs that are not there any more go on the way: were
/// they counted, all other jobs would be forgotten for them.
async fn measured(engine: &Engine) -> Result<u64, EngineError> {
    let logs = engine.inner.config.logs_dir.clone();
    let measuring = tokio::task::spawn_blocking(move || {
        let dirs = fs::read_dir(&logs).into_iter().flatten().flatten();
        let named = |dir: fs::DirEntry| {
            let job: JobId = dir.file_name().to_str()?.parse().ok()?;
            Some((job, size_of(&dir.path())))
        };
        dirs.filter_map(named).collect::<Vec<_>>()
    });
    let mut found = measuring.await.unwrap_or_default();
    let jobs = found.iter().map(|(job, _)| *job).collect();
    let unknown = engine.inner.store.unknown_jobs(jobs).await?;
    let unknown: HashSet<JobId> = unknown.into_iter().collect();
    found.retain(|(job, _)| !unknown.contains(job));
    let left: Vec<_> = unknown.into_iter().map(|job| engine.logs_of(job)).collect();
    let removing = tokio::task::spawn_blocking(move || {
        for dir in left {
            if let Err(error) = fs::remove_dir_all(&dir) {
                tracing::warn!(path = %dir.display(), %error, "logs of no job not removed");
            }
        }
    });
    removing.await.ok();
    Ok(found.iter().map(|(_, bytes)| bytes).sum())
}

/// What the files of a directory take; what cannot be read takes nothing.
fn size_of(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}

impl Engine {
    /// Where the logs of a job's attempts are.
    fn logs_of(&self, job: JobId) -> std::path::PathBuf {
        self.inner.config.logs_dir.join(job.to_string())
    }
}
