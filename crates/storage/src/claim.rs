//! The line of ready jobs: who becomes ready when, and who is taken first.
//!
//! A parked job whose time has come is promoted: it gets the last place in the line, or the first
//! if it comes back from a run that was lost, and from then on it is found, counted and claimed as
//! any ready job. Its content stays as it is, so a change
//! somebody has in hand for it still fits.

use agent_domain::{Job, Timestamp};
use rusqlite::{Connection, params};

use crate::rows::{Columns, micros};
use crate::tally::{Tally, counted};
use crate::{Change, JobWithClient, Store, StoreError, jobs, sql};

/// How many jobs one claim passes over at most, for a bound on how long it holds up other writes.
const PASSED_OVER_MAX: usize = 1_000;

pub(crate) const DUE: &str = "
    SELECT seq, client_id FROM jobs INDEXED BY jobs_parked
    WHERE status = 'queued' AND ready_seq IS NULL AND not_before <= ?1 ORDER BY not_before";

pub(crate) const MISDATED: &str = "
    SELECT seq, client_id FROM jobs INDEXED BY jobs_parked
    WHERE status = 'queued' AND ready_seq IS NULL AND not_before > ?1 AND reason = 'lost'";

pub(crate) const PROMOTE: &str = "
    UPDATE jobs
    SET ready_seq = CASE WHEN reason = 'lost' THEN
        (SELECT coalesce(min(ready_seq), 1099511627776) - 1 FROM jobs INDEXED BY jobs_ready
         WHERE ready_seq > 0)
    ELSE
        (SELECT coalesce(max(ready_seq), 1099511627776) + 1 FROM jobs INDEXED BY jobs_ready
         WHERE ready_seq > 0)
    END
    WHERE seq = ?1";

pub(crate) const NEXT_READY: &str = "
    SELECT ready_seq, id FROM jobs INDEXED BY jobs_ready
    WHERE ready_seq > ?1 ORDER BY ready_seq LIMIT 1";

pub(crate) const NEXT_NOT_BEFORE: &str = "
    SELECT not_before FROM jobs INDEXED BY jobs_parked
    WHERE status = 'queued' AND ready_seq IS NULL AND not_before > ?1
    ORDER BY not_before LIMIT 1";

impl Store {
    /// Takes up to `limit` ready jobs in order, as of `now`.
    ///
    /// `decide` is asked for the change of each; a job it returns none for is passed over and
    /// stays where it is. It runs in the writer thread, so it must be quick and must not wait.
    pub async fn claim(
        &self,
        limit: u32,
        now: Timestamp,
        decide: impl FnMut(&Job) -> Option<Change> + Send + 'static,
    ) -> Result<Vec<JobWithClient>, StoreError> {
        self.write(move |conn| counted(conn, |tally| claim(conn, limit, now, decide, tally)))
            .await
    }

    /// Makes parked jobs ready whose time has come, and says how many. [`Store::claim`] and
    /// [`Store::create_job`] do so too; without any of them such a job is still counted as parked.
    pub async fn promote(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(move |conn| counted(conn, |tally| promote(conn, now, tally)))
            .await
    }

    /// Makes jobs ready that wait after a lost run, and until later than `latest`, which is when
    /// they could wait until at most had the clock not been set back.
    pub async fn promote_misdated(&self, latest: Timestamp) -> Result<u64, StoreError> {
        let promote = move |conn: &Connection| {
            counted(conn, |tally| promote_each(conn, MISDATED, latest, tally))
        };
        self.write(promote).await
    }

    /// The time at which the first parked job becomes ready.
    pub async fn next_not_before(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|conn| {
            sql::one(conn, NEXT_NOT_BEFORE, [i64::MIN], |row| {
                Columns::of(row).time()
            })
        })
        .await
    }
}

fn claim(
    conn: &Connection,
    limit: u32,
    now: Timestamp,
    mut decide: impl FnMut(&Job) -> Option<Change>,
    tally: &mut Tally,
) -> Result<Vec<JobWithClient>, StoreError> {
    promote(conn, now, tally)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut claimed = Vec::new();
    let (mut last, mut passed_over) = (0, 0);
    while claimed.len() < limit && passed_over < PASSED_OVER_MAX {
        let Some((place, ready)) = next_ready(conn, last)? else {
            break;
        };
        last = place;
        match decide(&ready.job) {
            Some(change)
                if change.job.id == ready.job.id && jobs::commit(conn, &change, tally)? =>
            {
                claimed.push(JobWithClient {
                    job: change.job,
                    client: ready.client,
                });
            }
            _ => passed_over += 1,
        }
    }
    Ok(claimed)
}

fn next_ready(conn: &Connection, last: i64) -> Result<Option<(i64, JobWithClient)>, StoreError> {
    let next = sql::one(conn, NEXT_READY, [last], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.take::<i64>()?, columns.parsed()?))
    })?;
    let Some((place, id)) = next else {
        return Ok(None);
    };
    Ok(jobs::find(conn, id)?.map(|job| (place, job)))
}

pub(crate) fn promote(
    conn: &Connection,
    now: Timestamp,
    tally: &mut Tally,
) -> Result<u64, StoreError> {
    promote_each(conn, DUE, now, tally)
}

fn promote_each(
    conn: &Connection,
    found_by: &'static str,
    at: Timestamp,
    tally: &mut Tally,
) -> Result<u64, StoreError> {
    let due = sql::all(conn, found_by, [micros(at)], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut promoted = 0;
    for (seq, client) in due {
        sql::run(conn, PROMOTE, params![seq])?;
        tally.left(&client, "parked");
        tally.came(&client, "ready");
        promoted += 1;
    }
    Ok(promoted)
}
