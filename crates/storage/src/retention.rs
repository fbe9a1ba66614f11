//! Jobs that ended long ago: which they are, and forgetting them.

use agent_domain::{JobId, Timestamp};
use rusqlite::{Connection, params};

use crate::rows::{Columns, micros};
use crate::tally::{Tally, counted};
use crate::{ExpiredJob, ExpiredPlace, Store, StoreError, sql};

/// A job may be forgotten when nothing of it is still to be delivered and no unfinished job
/// repeats it.
pub(crate) const EXPIRED: &str = "
    SELECT j.id, c.github_org, c.github_repo, j.ended_at, j.seq
    FROM jobs j INDEXED BY jobs_ended CROSS JOIN clients c ON c.id = j.client_id
    WHERE j.ended_at < ?1 AND (j.ended_at, j.seq) > (?2, ?3)
        AND NOT EXISTS (SELECT 1 FROM deliveries d INDEXED BY deliveries_job
            WHERE d.job_seq = j.seq AND d.state = 'pending')
        AND NOT EXISTS (SELECT 1 FROM jobs r INDEXED BY jobs_retries
            WHERE r.retry_of = j.id AND r.ended_at IS NULL)
    ORDER BY j.ended_at, j.seq LIMIT ?4";

pub(crate) const ENDED: &str = "
    SELECT j.seq, j.client_id, j.bucket FROM jobs j
    WHERE j.id = ?1 AND j.ended_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM deliveries d INDEXED BY deliveries_job
            WHERE d.job_seq = j.seq AND d.state = 'pending')
        AND NOT EXISTS (SELECT 1 FROM jobs r INDEXED BY jobs_retries
            WHERE r.retry_of = j.id AND r.ended_at IS NULL)";

/// In this order: nothing refers to what is deleted.
pub(crate) const FORGET: &[&str] = &[
    "DELETE FROM delivery_tries WHERE delivery_seq IN
        (SELECT seq FROM deliveries INDEXED BY deliveries_job WHERE job_seq = ?1)",
    "DELETE FROM deliveries WHERE job_seq = ?1",
    "DELETE FROM log_seals WHERE job_seq = ?1",
    "DELETE FROM job_dependencies WHERE job_seq = ?1",
    "DELETE FROM job_history WHERE job_seq = ?1",
    "DELETE FROM job_options WHERE job_seq = ?1",
    "DELETE FROM job_continued WHERE job_seq = ?1",
    "DELETE FROM job_prompts WHERE job_seq = ?1",
    "DELETE FROM jobs WHERE seq = ?1",
];

pub(crate) const IS_THERE: &str = "SELECT 1 FROM jobs WHERE id = ?1";

impl Store {
    /// Returns those of `jobs` that are not there, or not any more.
    pub async fn unknown_jobs(&self, jobs: Vec<JobId>) -> Result<Vec<JobId>, StoreError> {
        self.read(move |conn| {
            let mut unknown = Vec::new();
            for id in jobs {
                if sql::one(conn, IS_THERE, [id.to_string()], |_| Ok(()))?.is_none() {
                    unknown.push(id);
                }
            }
            Ok(unknown)
        })
        .await
    }

    /// Returns up to `limit` jobs that ended before `before` and may be forgotten, the longest
    /// ended first, from behind the place of the last one seen.
    pub async fn expired_jobs(
        &self,
        before: Timestamp,
        after: ExpiredPlace,
        limit: u32,
    ) -> Result<Vec<ExpiredJob>, StoreError> {
        self.read(move |conn| {
            let params = params![micros(before), after.ended_at, after.seq, limit];
            sql::all(conn, EXPIRED, params, |row| {
                let mut columns = Columns::of(row);
                Ok(ExpiredJob {
                    id: columns.parsed()?,
                    repo: columns.repo()?,
                    place: ExpiredPlace {
                        ended_at: columns.take()?,
                        seq: columns.take()?,
                    },
                })
            })
        })
        .await
    }

    /// Forgets ended jobs with all that belongs to them, in one transaction, and returns how many
    /// there were. One that has something to deliver again, or that is repeated again, stays.
    pub async fn forget_jobs(&self, jobs: Vec<JobId>) -> Result<usize, StoreError> {
        // Also on a full disk: it makes room.
        self.write_surely(move |conn| {
            counted(conn, |tally| {
                let mut forgotten = 0;
                for id in &jobs {
                    forgotten += usize::from(forget(conn, *id, tally)?);
                }
                Ok(forgotten)
            })
        })
        .await
    }
}

fn forget(conn: &Connection, id: JobId, tally: &mut Tally) -> Result<bool, StoreError> {
    let ended = sql::one(conn, ENDED, [id.to_string()], |row| {
        let mut columns = Columns::of(row);
        let seq: i64 = columns.take()?;
        let (client, bucket): (String, String) = (columns.take()?, columns.take()?);
        Ok((seq, client, bucket))
    })?;
    let Some((seq, client, bucket)) = ended else {
        return Ok(false);
    };
    tally.left(&client, &bucket);
    for statement in FORGET {
        sql::run(conn, statement, [seq])?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open;

    #[test]
    fn every_table_that_belongs_to_a_job_is_cleared_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let opened = open::open(&dir.path().join("agent.db")).unwrap();
        let tables = "SELECT DISTINCT m.name
            FROM sqlite_schema m, pragma_foreign_key_list(m.name) f
            WHERE m.type = 'table' AND f.\"table\" IN ('jobs', 'deliveries')";
        let tables = sql::all(&opened.writer, tables, [], |row| {
            Ok(row.get::<_, String>(0)?)
        });
        let tables = tables.unwrap();
        assert!(tables.len() >= 4, "{tables:?}");
        for table in tables {
            let delete = format!("DELETE FROM {table} ");
            assert!(FORGET.iter().any(|one| one.starts_with(&delete)), "{table}");
        }
    }
}
