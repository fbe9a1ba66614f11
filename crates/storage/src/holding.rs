//! Running jobs, many at once and without their prompts: who holds them, and what becomes of them.

use std::sync::Arc;

use agent_domain::{Fence, Job, JobId, WorkerId};
use rusqlite::{Connection, Row};

use crate::jobs::Stored;
use crate::rows::{self, Columns, job_columns};
use crate::tally::{Tally, counted};
use crate::{Change, HeldJob, Store, StoreError, jobs, sql};

pub(crate) const HELD: &str = "
    SELECT id, worker, attempt, fence, phase, lease_until
    FROM jobs INDEXED BY jobs_status
    WHERE status = 'running' ORDER BY seq";

pub(crate) const QUEUED_WITH_OWN_KEYS: &str = "
    SELECT id FROM jobs INDEXED BY jobs_own_keys
    WHERE status = 'queued' AND own_agent_key + own_git_token > 0 AND seq > 0 ORDER BY seq";

pub(crate) const IN_BRIEF: &str = concat!(
    "SELECT ",
    job_columns!("''"),
    ", j.seq, j.version, j.bucket
      FROM jobs j LEFT JOIN job_options o ON o.job_seq = j.seq
      WHERE j.id = ?1"
);

impl Store {
    /// Returns every running job in brief, in the order in which they were accepted.
    pub async fn held(&self) -> Result<Vec<HeldJob>, StoreError> {
        self.read(|conn| {
            sql::all(conn, HELD, [], |row| {
                let mut columns = Columns::of(row);
                Ok(HeldJob {
                    id: columns.parsed()?,
                    worker: columns.take::<Option<Arc<str>>>()?.map(WorkerId),
                    attempt: columns.whole()?,
                    fence: Fence(columns.whole()?),
                    phase: columns.parsed()?,
                    lease_until: columns.time()?,
                })
            })
        })
        .await
    }

    /// Returns the queued jobs that brought keys of their own, in the order in which they were
    /// accepted.
    pub async fn queued_with_own_keys(&self) -> Result<Vec<JobId>, StoreError> {
        self.read(|conn| {
            let id = |row: &Row<'_>| Columns::of(row).parsed();
            sql::all(conn, QUEUED_WITH_OWN_KEYS, [], id)
        })
        .await
    }

    /// Changes each of `jobs` as `decide` says, all in one transaction, and returns those that
    /// were changed, as they are now. Their prompts are not read: to `decide` and in the answer
    /// they are empty.
    ///
    /// `decide` runs in the writer thread, so it must be quick and must not wait.
    pub async fn change_each(
        &self,
        jobs: Vec<JobId>,
        decide: impl FnMut(&Job) -> Option<Change> + Send + 'static,
    ) -> Result<Vec<Job>, StoreError> {
        self.write(move |conn| change_each(conn, &jobs, decide))
            .await
    }
}

fn change_each(
    conn: &Connection,
    ids: &[JobId],
    decide: impl FnMut(&Job) -> Option<Change>,
) -> Result<Vec<Job>, StoreError> {
    counted(conn, |tally| change_counted(conn, ids, decide, tally))
}

fn change_counted(
    conn: &Connection,
    ids: &[JobId],
    mut decide: impl FnMut(&Job) -> Option<Change>,
    tally: &mut Tally,
) -> Result<Vec<Job>, StoreError> {
    let mut changed = Vec::with_capacity(ids.len());
    for id in ids {
        let found = sql::one(conn, IN_BRIEF, [id.to_string()], |row| {
            let mut columns = Columns::of(row);
            Ok((rows::job(&mut columns)?, Stored::read(&mut columns)?))
        })?;
        let Some((job, stored)) = found else {
            continue;
        };
        let Some(change) = decide(&job) else {
            continue;
        };
        if change.job.id == *id && jobs::commit_stored(conn, &change, &stored, tally)? {
            changed.push(change.job);
        }
    }
    Ok(changed)
}
