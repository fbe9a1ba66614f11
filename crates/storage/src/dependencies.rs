//! Which jobs wait for which, and what has become of those they wait for.

use agent_domain::{Awaited, Job, JobId, Status};
use rusqlite::{Connection, params};

use crate::rows::Columns;
use crate::{DependencyNews, Store, StoreError, sql};

pub(crate) const STATUS: &str = "SELECT status FROM jobs WHERE id = ?1";

pub(crate) const INSERT: &str =
    "INSERT INTO job_dependencies (job_seq, on_id, outcome) VALUES (?1, ?2, ?3)";

pub(crate) const ENDED: &str = "
    UPDATE job_dependencies INDEXED BY job_dependencies_open SET outcome = ?2
    WHERE on_id = ?1 AND outcome IS NULL";

pub(crate) const NEWS: &str = "
    SELECT d.job_seq, j.id
    FROM job_dependencies d INDEXED BY job_dependencies_news CROSS JOIN jobs j ON j.seq = d.job_seq
    WHERE d.outcome IS NOT NULL AND d.settled = 0 AND d.job_seq > ?1
    GROUP BY d.job_seq ORDER BY d.job_seq LIMIT ?2";

pub(crate) const ALL_OF: &str =
    "SELECT on_id, outcome FROM job_dependencies WHERE job_seq = ?1 ORDER BY on_id";

pub(crate) const SETTLE: &str = "
    UPDATE job_dependencies SET settled = 1
    WHERE job_seq = ?1 AND on_id = ?2 AND outcome IS NOT NULL";

impl Store {
    /// Returns up to `limit` jobs of whose dependencies some have ended, the oldest first, until
    /// [`Store::settle_dependencies`] is told that this was seen to.
    pub async fn dependency_news(&self, limit: u32) -> Result<Vec<DependencyNews>, StoreError> {
        self.read(move |conn| sql::snapshot(conn, |conn| news(conn, limit)))
            .await
    }

    /// Takes note that what `news` say was seen to.
    pub async fn settle_dependencies(&self, news: Vec<DependencyNews>) -> Result<(), StoreError> {
        self.write_surely(move |conn| {
            for one in &news {
                for on in &one.ended {
                    sql::run(conn, SETTLE, params![one.place, on.to_string()])?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// Jobs that one is to wait for, with how they have ended if they have.
pub(crate) type Known = Vec<(JobId, Option<Status>)>;

/// Looks up what a new job is to wait for; each of them must be known.
pub(crate) fn known(conn: &Connection, job: &Job) -> Result<Known, StoreError> {
    let look_up = |on: &JobId| {
        let status = sql::one(conn, STATUS, [on.to_string()], |row| {
            Columns::of(row).parsed::<Status>()
        })?;
        let status = status.ok_or(StoreError::UnknownDependency(*on))?;
        Ok((*on, Some(status).filter(|status| status.is_terminal())))
    };
    job.spec.depends_on.iter().map(look_up).collect()
}

/// Stores what a new job waits for.
pub(crate) fn insert(conn: &Connection, seq: i64, known: &Known) -> Result<(), StoreError> {
    for (on, ended) in known {
        let outcome = ended.map(Status::as_str);
        sql::run(conn, INSERT, params![seq, on.to_string(), outcome])?;
    }
    Ok(())
}

/// Tells those who wait for a job how it has ended.
pub(crate) fn ended(conn: &Connection, job: &Job) -> Result<(), StoreError> {
    let status = job.state.status();
    sql::run(conn, ENDED, params![job.id.to_string(), status.as_str()])?;
    Ok(())
}

fn news(conn: &Connection, limit: u32) -> Result<Vec<DependencyNews>, StoreError> {
    let jobs = sql::all(conn, NEWS, params![i64::MIN, limit], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.take::<i64>()?, columns.parsed::<JobId>()?))
    })?;
    let mut news = Vec::with_capacity(jobs.len());
    for (place, job) in jobs {
        let all = sql::all(conn, ALL_OF, [place], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.parsed()?, columns.parsed_option()?))
        })?;
        news.push(told(place, job, &all));
    }
    Ok(news)
}

fn told(place: i64, job: JobId, all: &[(JobId, Option<Status>)]) -> DependencyNews {
    let ended = all.iter().filter(|(_, status)| status.is_some());
    let missed = all.iter().find_map(|(job, status)| match status {
        Some(status @ (Status::Failed | Status::Cancelled)) => Some(Awaited::Ended {
            job: *job,
            status: *status,
        }),
        _ => None,
    });
    let all_ended = all.iter().all(|(_, status)| status.is_some());
    DependencyNews {
        place,
        job,
        ended: ended.map(|(job, _)| *job).collect(),
        awaited: missed.or_else(|| all_ended.then_some(Awaited::Completed)),
    }
}
