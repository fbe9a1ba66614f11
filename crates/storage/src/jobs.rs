//! One job: creating, reading and changing it.

use std::sync::Arc;

use agent_domain::{Client, ClientId, Job, JobId, PHASE_DETAIL, RENEWED, Usd};
use rusqlite::{Connection, params, params_from_iter};

use crate::rows::{self, Columns, client_columns, job_columns, micros};
use crate::tally::{Tally, counted};
use crate::{
    Change, CreatedJob, HistoryEntry, JobWithClient, NewJob, NewOnce, Store, StoreError, claim,
    clients, continued, credentials, dependencies, lanes, ledger, lists, once, options, outbox,
    seals, sql,
};

/// The values of [`rows::changing`], then those of [`rows::fixed`].
pub(crate) const INSERT: &str = "
    INSERT INTO jobs (
        version, attempt, fence, status, ready_seq, not_before, reason, phase, lease_until,
        cancel_requested_at, ended_at, error, base_commit, head_commit, saved_ref, worktree_path,
        exit_code, pr_number, pr_url, files_changed, session_id, model, cli_version, num_turns,
        spent_nanos, started_at, updated_at, worker, lost_runs, allotted_nanos, phase_detail, denied,
        resume, priority, output, credential, credential_epoch, id, client_id, branch, title, os_feature_id, callback_url, wanted_model, permission_mode,
        timeout_us, idle_timeout_us, own_agent_key, own_git_token, retry_of, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?,
        ?, ?, ?, ?, ?, ?, ?,
        ?, ?, ?, ?, ?, ?, ?, ?,
        ?, ?, ?, ?, ?, ?, ?, ?,
        ?, ?, ?, ?, ?, ?, ?, ?,
        ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// The values of [`rows::changing`], of which [`rows::BOOKED`] is what is booked with the change, and is
/// added; then whether a log is sealed with it, `seq` and the version before.
pub(crate) const UPDATE: &str = "
    UPDATE jobs
    SET version = ?, attempt = ?, fence = ?, status = ?, ready_seq = ?, not_before = ?, reason = ?,
        phase = ?, lease_until = ?, cancel_requested_at = ?, ended_at = ?, error = ?,
        base_commit = ?, head_commit = ?, saved_ref = ?, worktree_path = ?, exit_code = ?,
        pr_number = ?, pr_url = ?, files_changed = ?, session_id = ?, model = ?, cli_version = ?,
        num_turns = ?, spent_nanos = coalesce(coalesce(spent_nanos, 0) + ?, spent_nanos),
        started_at = ?, updated_at = ?, worker = ?, lost_runs = ?, allotted_nanos = ?,
        phase_detail = ?, denied = ?, resume = ?, priority = ?, output = ?,
        credential = ?, credential_epoch = ?, seals = seals + ?
    WHERE seq = ? AND version = ?";

/// What [`Stored`] holds.
pub(crate) const STORED: &str = "SELECT seq, version, bucket FROM jobs WHERE id = ?1";

pub(crate) const COUNT_SEAL: &str = "UPDATE jobs SET seals = seals + 1 WHERE seq = ?1";

pub(crate) const ADD_COST: &str =
    "UPDATE jobs SET spent_nanos = coalesce(spent_nanos, 0) + ?2 WHERE id = ?1";

pub(crate) const INSERT_PROMPT: &str = "INSERT INTO job_prompts (job_seq, prompt) VALUES (?1, ?2)";

pub(crate) const INSERT_OPTIONS: &str =
    "INSERT INTO job_options (job_seq, options) VALUES (?1, ?2)";

pub(crate) const INSERT_HISTORY: &str = "
    INSERT INTO job_history (job_seq, version, at, event, status, attempt, detail)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

pub(crate) const BRANCH_HOLDER: &str = "
    SELECT id FROM jobs INDEXED BY jobs_branch
    WHERE client_id = ?1 AND branch = ?2 AND ended_at IS NULL";

pub(crate) const BY_ID: &str = concat!(
    "SELECT ",
    job_columns!(),
    ", ",
    client_columns!(),
    " FROM jobs j
      CROSS JOIN job_prompts p ON p.job_seq = j.seq
      CROSS JOIN clients c ON c.id = j.client_id
      LEFT JOIN job_options o ON o.job_seq = j.seq
      WHERE j.id = ?1"
);

pub(crate) const HISTORY: &str = "
    SELECT h.at, h.event, h.status, h.attempt, h.detail
    FROM jobs j CROSS JOIN job_history h ON h.job_seq = j.seq
    WHERE j.id = ?1 ORDER BY h.version";

impl Store {
    /// Stores a new job, and the client of its repository if there is none yet.
    pub async fn create_job(&self, new: NewJob) -> Result<CreatedJob, StoreError> {
        self.create_job_then(new, || ()).await
    }

    /// As [`Store::create_job`], and calls `stored` once the job is durable, even when the caller
    /// has gone meanwhile; it must not block.
    pub async fn create_job_then(
        &self,
        new: NewJob,
        stored: impl FnOnce() + Send + 'static,
    ) -> Result<CreatedJob, StoreError> {
        self.write_then(move |conn| create(conn, new), stored).await
    }

    /// As [`Store::create_job_then`], and remembers in the same transaction the request that made
    /// the job, which `once` tells of the job as it was stored.
    pub async fn create_job_once(
        &self,
        new: NewJob,
        once: impl FnOnce(&CreatedJob) -> NewOnce + Send + 'static,
        stored: impl FnOnce() + Send + 'static,
    ) -> Result<CreatedJob, StoreError> {
        let work = move |conn: &Connection| {
            let created = create(conn, new)?;
            once::remember(conn, &once(&created))?;
            Ok(created)
        };
        self.write_then(work, stored).await
    }

    /// Finds a job.
    pub async fn job(&self, id: JobId) -> Result<Option<JobWithClient>, StoreError> {
        self.read(move |conn| find(conn, id)).await
    }

    /// Returns what happened to a job, oldest first; nothing for a job that does not exist.
    pub async fn history(&self, id: JobId) -> Result<Vec<HistoryEntry>, StoreError> {
        self.read(move |conn| {
            sql::all(conn, HISTORY, [id.to_string()], |row| {
                let mut columns = Columns::of(row);
                Ok(HistoryEntry {
                    at: columns.time()?,
                    event: columns.take()?,
                    status: columns.parsed()?,
                    attempt: columns.whole()?,
                    detail: columns.take()?,
                })
            })
        })
        .await
    }

    /// Stores a change, its entry in the job's history (a renewal has none, nor what holds a phase up) and its callback
    /// together. Returns false, and stores nothing, if somebody else has changed the job since.
    ///
    /// Where the disk is full, part of the reserve (see [`Store::keep_reserve`]) is given up for
    /// it; not for a renewal, which is tried again soon in any case.
    pub async fn commit(&self, change: Change) -> Result<bool, StoreError> {
        if is_renewal(&change) {
            return self.write(move |conn| commit_alone(conn, &change)).await;
        }
        let change = Arc::new(change);
        self.write_surely(move |conn| commit_alone(conn, &change))
            .await
    }

    /// As [`Store::commit`], and remembers in the same transaction the request for the change.
    pub async fn commit_once(&self, change: Change, once: NewOnce) -> Result<bool, StoreError> {
        self.write(move |conn| {
            let stored = commit_alone(conn, &change)?;
            if stored {
                once::remember(conn, &once)?;
            }
            Ok(stored)
        })
        .await
    }
}

pub(crate) fn find(conn: &Connection, id: JobId) -> Result<Option<JobWithClient>, StoreError> {
    sql::one(conn, BY_ID, [id.to_string()], rows::job_with_client)
}

fn create(conn: &Connection, new: NewJob) -> Result<CreatedJob, StoreError> {
    let (seq, job) = counted(conn, |tally| insert(conn, new, tally))?;
    let position = match rows::place(&job) {
        Some(place) => lanes::position(conn, &job, (place.get(), seq))?,
        None => lists::ready(conn)? + 1,
    };
    Ok(CreatedJob {
        client_id: job.client_id,
        position,
    })
}

fn insert(conn: &Connection, new: NewJob, tally: &mut Tally) -> Result<(i64, Job), StoreError> {
    let mut job = new.job;
    job.client_id = client_of(conn, job.client_id, new.create_client)?;
    if let Some(holder) = branch_holder(conn, &job)? {
        return Err(StoreError::BranchHeld(holder));
    }
    if let Some(holder) = continued::holder(conn, &job)? {
        return Err(StoreError::SessionHeld(holder));
    }
    let awaited = dependencies::known(conn, &job)?;
    // Those that became ready before it stand before it.
    claim::promote(conn, job.created_at, tally)?;
    let values = rows::changing(&job)?.into_iter().chain(rows::fixed(&job));
    sql::run(conn, INSERT, params_from_iter(values))?;
    let seq = conn.last_insert_rowid();
    sql::run(conn, INSERT_PROMPT, params![seq, &*job.spec.prompt])?;
    if let Some(options) = options::of_job(&job.spec)? {
        sql::run(conn, INSERT_OPTIONS, params![seq, options])?;
    }
    dependencies::insert(conn, seq, &awaited)?;
    continued::insert(conn, seq, &job)?;
    record(conn, seq, &job, "created", None)?;
    tally.came(&job.client_id, rows::bucket(&job));
    Ok((seq, job))
}

fn client_of(
    conn: &Connection,
    named: ClientId,
    create: Option<Client>,
) -> Result<ClientId, StoreError> {
    let Some(client) = create else {
        let there = clients::is_there(conn, named)?;
        return there.then_some(named).ok_or(StoreError::ClientGone);
    };
    if let Some(present) = clients::by_repo(conn, &client.repo)? {
        return Ok(present.id);
    }
    clients::insert(conn, &client)?;
    Ok(client.id)
}

fn branch_holder(conn: &Connection, job: &Job) -> Result<Option<JobId>, StoreError> {
    let client = job.client_id.to_string();
    let params = params![client, job.spec.branch.as_str()];
    sql::one(conn, BRANCH_HOLDER, params, |row| Columns::of(row).parsed())
}

/// Counts a seal that was stored for an attempt that had ended before.
pub(crate) fn count_seal(conn: &Connection, seq: i64) -> Result<(), StoreError> {
    sql::run(conn, COUNT_SEAL, [seq]).map(drop)
}

/// Adds what an attempt has cost that had ended before.
pub(crate) fn add_cost(conn: &Connection, job: JobId, nanos: i64) -> Result<(), StoreError> {
    sql::run(conn, ADD_COST, params![job.to_string(), nanos]).map(drop)
}

/// What a change of a job has to know of it as it is stored.
pub(crate) struct Stored {
    seq: i64,
    version: u64,
    bucket: String,
}

impl Stored {
    /// Reads `seq, version, bucket`.
    pub(crate) fn read(columns: &mut Columns<'_, '_>) -> Result<Self, StoreError> {
        Ok(Self {
            seq: columns.take()?,
            version: columns.whole()?,
            bucket: columns.take()?,
        })
    }
}

fn commit_alone(conn: &Connection, change: &Change) -> Result<bool, StoreError> {
    counted(conn, |tally| commit(conn, change, tally))
}

/// Stores a change of a job.
pub(crate) fn commit(
    conn: &Connection,
    change: &Change,
    tally: &mut Tally,
) -> Result<bool, StoreError> {
    let stored = sql::one(conn, STORED, [change.job.id.to_string()], |row| {
        Stored::read(&mut Columns::of(row))
    })?;
    stored.map_or(Ok(false), |stored| {
        commit_stored(conn, change, &stored, tally)
    })
}

/// Stores a change of a job that was read in the same transaction as `stored`.
pub(crate) fn commit_stored(
    conn: &Connection,
    change: &Change,
    stored: &Stored,
    tally: &mut Tally,
) -> Result<bool, StoreError> {
    let job = &change.job;
    let seq = stored.seq;
    if job.version.checked_sub(1) != Some(stored.version) {
        return Ok(false);
    }
    let sealed = match &change.seal {
        Some(seal) => seals::insert(conn, seq, job.attempt, seal)?,
        None => false,
    };
    let cost = match &change.booking {
        Some(booking) => ledger::book(conn, job, job.attempt, booking)?,
        None => None,
    };
    if let (Some(news), Some(paid_by)) = (&change.news, &job.paid_by) {
        credentials::note(conn, paid_by, news, job.updated_at)?;
    }
    let guard = [
        rows::int(sealed.into()),
        rows::int(seq),
        rows::whole(stored.version)?,
    ];
    let mut values = rows::changing(job)?;
    values[rows::BOOKED] = rows::whole_option(cost.map(Usd::nanos))?;
    let values = values.into_iter().chain(guard);
    if sql::run(conn, UPDATE, params_from_iter(values))? != 1 {
        let why = "a job changed within the transaction that had read it";
        return Err(StoreError::Internal(why.to_owned()));
    }
    let bucket = rows::bucket(job);
    if bucket == "ready" {
        tally.moved(&job.client_id);
    }
    if bucket != stored.bucket {
        tally.left(&job.client_id, &stored.bucket);
        tally.came(&job.client_id, bucket);
    }
    if bucket != stored.bucket && job.state.status().is_terminal() {
        dependencies::ended(conn, job)?;
    }
    if !is_renewal(change) && change.event != PHASE_DETAIL {
        record(conn, seq, job, change.event, change.detail.as_deref())?;
    }
    if let Some(delivery) = &change.delivery {
        outbox::insert(conn, seq, job.updated_at, delivery)?;
    }
    Ok(true)
}

fn is_renewal(change: &Change) -> bool {
    change.event == RENEWED
}

fn record(
    conn: &Connection,
    seq: i64,
    job: &Job,
    event: &str,
    detail: Option<&str>,
) -> Result<(), StoreError> {
    let params = [
        rows::int(seq),
        rows::whole(job.version)?,
        rows::int(micros(job.updated_at)),
        rows::text(event),
        rows::text(job.state.status().as_str()),
        rows::int(i64::from(job.attempt)),
        rows::option(detail, rows::text),
    ];
    sql::run(conn, INSERT_HISTORY, params)?;
    Ok(())
}
