//! Many jobs at once: lists, the queue, and how many there are.
//!
//! Nothing here reads more than it returns, the rows left out by an offset aside: totals come from
//! counters, and each list comes out of one index, or several merged, in order.

use agent_domain::{JobId, Status};
use rusqlite::{Connection, params_from_iter};

use crate::rows::{self, Columns, int, owned, summary_columns, text};
use crate::{
    JobFilter, JobPage, JobSummary, QueueCounts, QueueView, Store, StoreError, clients, lanes, sql,
};

pub(crate) const SEQ_OF: &str = "SELECT seq FROM jobs WHERE id = ?1";

pub(crate) const SUMMARY: &str = concat!(
    "SELECT ",
    summary_columns!(),
    " FROM jobs j CROSS JOIN clients c ON c.id = j.client_id WHERE j.seq = ?1"
);

pub(crate) const RUNNING: &str = concat!(
    "SELECT ",
    summary_columns!(),
    " FROM jobs j INDEXED BY jobs_status CROSS JOIN clients c ON c.id = j.client_id
      WHERE j.status = 'running' ORDER BY j.seq"
);

pub(crate) const PARKED: &str = concat!(
    "SELECT ",
    summary_columns!(),
    " FROM jobs j INDEXED BY jobs_parked CROSS JOIN clients c ON c.id = j.client_id
      WHERE j.status = 'queued' AND j.ready_seq IS NULL AND j.not_before > ?2
      ORDER BY j.not_before LIMIT ?1"
);

pub(crate) const WAITING_FOR_JOBS: &str = concat!(
    "SELECT ",
    summary_columns!(),
    " FROM jobs j INDEXED BY jobs_parked CROSS JOIN clients c ON c.id = j.client_id
      WHERE j.status = 'queued' AND j.ready_seq IS NULL AND j.not_before IS NULL
      ORDER BY j.seq LIMIT ?1"
);

pub(crate) const READY_COUNT: &str =
    "SELECT jobs FROM job_counts WHERE client_id = '' AND bucket = 'ready'";

/// In [`clients::COUNTS`]: all clients together.
const EVERYONE: &str = "";

impl Store {
    /// Lists jobs, newest first.
    pub async fn list_jobs(&self, filter: JobFilter) -> Result<JobPage, StoreError> {
        self.read(move |conn| sql::snapshot(conn, |conn| page(conn, &filter)))
            .await
    }

    /// Returns the running jobs, and the first `limit` each of the ready and of the parked ones.
    pub async fn queue(&self, limit: u32) -> Result<QueueView, StoreError> {
        self.read(move |conn| sql::snapshot(conn, |conn| queue(conn, limit)))
            .await
    }

    /// Counts the unfinished jobs.
    pub async fn counts(&self) -> Result<QueueCounts, StoreError> {
        self.read(counts).await
    }
}

pub(crate) fn counts(conn: &Connection) -> Result<QueueCounts, StoreError> {
    let mut counts = QueueCounts::default();
    for (bucket, jobs) in sql::all(conn, clients::COUNTS, [EVERYONE], clients::bucket)? {
        match bucket.as_str() {
            "running" => counts.running = jobs,
            "ready" => counts.ready = jobs,
            "parked" => counts.parked = jobs,
            _ => {}
        }
    }
    Ok(counts)
}

/// How many jobs are ready.
pub(crate) fn ready(conn: &Connection) -> Result<u64, StoreError> {
    let ready = sql::one(conn, READY_COUNT, [], |row| Columns::of(row).whole())?;
    Ok(ready.unwrap_or(0))
}

fn queue(conn: &Connection, limit: u32) -> Result<QueueView, StoreError> {
    let mut running = sql::all(conn, RUNNING, [], rows::summary)?;
    // Few, by the number of slots; a job that was requeued began earlier than its neighbours.
    running.sort_by_key(|job| job.started_at);
    let mut parked = sql::all(conn, PARKED, [i64::from(limit), i64::MIN], rows::summary)?;
    parked.extend(sql::all(conn, WAITING_FOR_JOBS, [limit], rows::summary)?);
    parked.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(QueueView {
        running,
        ready: by_seq(conn, lanes::in_order(conn, limit)?)?,
        parked,
    })
}

fn page(conn: &Connection, filter: &JobFilter) -> Result<JobPage, StoreError> {
    Ok(JobPage {
        jobs: summaries(conn, filter)?,
        total: total(conn, filter)?,
    })
}

fn total(conn: &Connection, filter: &JobFilter) -> Result<u64, StoreError> {
    let client = filter.client_id.map(|id| id.to_string());
    let client = client.as_deref().unwrap_or(EVERYONE);
    let buckets = sql::all(conn, clients::COUNTS, [client], clients::bucket)?;
    let wanted = wanted(filter);
    let counted = buckets.iter().filter(|(bucket, _)| {
        let status = match bucket.as_str() {
            "ready" | "parked" => "queued",
            other => other,
        };
        wanted.iter().any(|wanted| wanted.as_str() == status)
    });
    Ok(counted.map(|(_, jobs)| jobs).sum())
}

fn summaries(conn: &Connection, filter: &JobFilter) -> Result<Vec<JobSummary>, StoreError> {
    let before = match filter.before {
        Some(id) => seq_of(conn, id)?,
        None => i64::MAX,
    };
    let statuses = wanted(filter);
    let mut values = vec![
        int(before),
        int(i64::from(filter.limit)),
        int(i64::from(filter.offset)),
    ];
    let one_index = filter.client_id.is_none() && statuses.len() == Status::ALL.len();
    if !one_index {
        values.extend(statuses.iter().map(|status| text(status.as_str())));
        values.extend(filter.client_id.as_ref().map(owned));
    }
    let arms = if one_index { 0 } else { statuses.len() };
    let sql = page_sql(arms, filter.client_id.is_some());
    let page = sql::all(conn, &sql, params_from_iter(values), |row| {
        Ok(row.get::<_, i64>(0)?)
    })?;
    by_seq(conn, page)
}

fn by_seq(conn: &Connection, page: Vec<i64>) -> Result<Vec<JobSummary>, StoreError> {
    let mut jobs = Vec::with_capacity(page.len());
    for seq in page {
        jobs.extend(sql::one(conn, SUMMARY, [seq], rows::summary)?);
    }
    Ok(jobs)
}

fn seq_of(conn: &Connection, id: JobId) -> Result<i64, StoreError> {
    let seq = sql::one(conn, SEQ_OF, [id.to_string()], |row| {
        Columns::of(row).take()
    })?;
    seq.ok_or(StoreError::UnknownCursor(id))
}

/// The statuses asked for, each once.
fn wanted(filter: &JobFilter) -> Vec<Status> {
    let asked = |status: &Status| filter.statuses.is_empty() || filter.statuses.contains(status);
    Status::ALL.into_iter().filter(asked).collect()
}

/// The statement for the rows of a page: values 1 to 3 are cursor, limit and offset, then come the
/// statuses, then the client.
///
/// Each status is a run of an index that is in order already; SQLite merges the runs as it goes and
/// stops at the limit. No status means the whole table in its own order.
pub(crate) fn page_sql(statuses: usize, client: bool) -> String {
    let arms: Vec<String> = (0..statuses)
        .map(|index| {
            let status = index + 4;
            let (index, owner) = if client {
                let owner = format!("client_id = ?{} AND ", statuses + 4);
                ("jobs_client_status", owner)
            } else {
                ("jobs_status", String::new())
            };
            format!(
                "SELECT seq FROM jobs INDEXED BY {index}
                 WHERE {owner}status = ?{status} AND seq < ?1"
            )
        })
        .collect();
    let rows = if arms.is_empty() {
        "SELECT seq FROM jobs WHERE seq < ?1".to_owned()
    } else {
        arms.join(" UNION ALL ")
    };
    format!("{rows} ORDER BY seq DESC LIMIT ?2 OFFSET ?3")
}
