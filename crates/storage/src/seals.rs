//! Seals of logs. A seal is stored once and never changes.

use agent_domain::{JobId, LogSeal};
use rusqlite::{Connection, params};

use crate::rows::{self, Columns};
use crate::{Booking, Store, StoreError, Unsealed, jobs, ledger, sql};

pub(crate) const INSERT: &str = "
    INSERT INTO log_seals (job_seq, attempt, bytes, sha256) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT DO NOTHING";

pub(crate) const OF_JOB: &str = "
    SELECT s.attempt, s.bytes, s.sha256
    FROM jobs j CROSS JOIN log_seals s ON s.job_seq = j.seq
    WHERE j.id = ?1 ORDER BY s.attempt";

pub(crate) const ENDED: &str = "
    SELECT seq FROM jobs WHERE id = ?1 AND attempt - (status = 'running') >= ?2";

pub(crate) const UNSEALED: &str = "
    SELECT seq, id, attempt - (status = 'running')
    FROM jobs INDEXED BY jobs_unsealed
    WHERE seals < attempt - (status = 'running') AND seq > ?1 ORDER BY seq LIMIT ?2";

pub(crate) const SEALED: &str = "SELECT 1 FROM log_seals WHERE job_seq = ?1 AND attempt = ?2";

impl Store {
    /// Returns the seals of a job's logs with the numbers of their attempts, in order.
    pub async fn seals(&self, job: JobId) -> Result<Vec<(u32, LogSeal)>, StoreError> {
        self.read(move |conn| {
            sql::all(conn, OF_JOB, [job.to_string()], |row| {
                let mut columns = Columns::of(row);
                Ok((columns.whole()?, seal(&mut columns)?))
            })
        })
        .await
    }

    /// Stores the seal of an attempt that has ended. Returns false, and stores nothing, if it has
    /// not, or has one already. With it the attempt is booked, unless that was done at its end.
    pub async fn seal(
        &self,
        job: JobId,
        attempt: u32,
        seal: LogSeal,
        booking: Option<Booking>,
    ) -> Result<bool, StoreError> {
        self.write(move |conn| {
            let ended = params![job.to_string(), attempt];
            let seq = sql::one(conn, ENDED, ended, |row| Columns::of(row).take())?;
            let Some(seq) = seq else {
                return Ok(false);
            };
            let stored = insert(conn, seq, attempt, &seal)?;
            if stored {
                jobs::count_seal(conn, seq)?;
            }
            if let Some(booking) = booking.filter(|_| stored)
                && let Some(found) = jobs::find(conn, job)?
            {
                ledger::book_late(conn, &found.job, attempt, &booking)?;
            }
            Ok(stored)
        })
        .await
    }

    /// Returns up to `limit` jobs with logs to be sealed, beginning after the place `after`.
    pub async fn unsealed(&self, after: i64, limit: u32) -> Result<Vec<Unsealed>, StoreError> {
        self.read(move |conn| {
            let jobs = sql::all(conn, UNSEALED, params![after, limit], |row| {
                let mut columns = Columns::of(row);
                Ok((columns.take()?, columns.parsed()?, columns.whole()?))
            })?;
            jobs.into_iter()
                .map(|(place, job, ended)| {
                    let attempts = unsealed_attempts(conn, place, ended)?;
                    Ok(Unsealed {
                        place,
                        job,
                        attempts,
                    })
                })
                .collect()
        })
        .await
    }
}

fn unsealed_attempts(conn: &Connection, seq: i64, ended: u32) -> Result<Vec<u32>, StoreError> {
    let mut unsealed = Vec::new();
    for attempt in 1..=ended {
        let found = sql::one(conn, SEALED, params![seq, attempt], |row| {
            Columns::of(row).take::<i64>()
        })?;
        if found.is_none() {
            unsealed.push(attempt);
        }
    }
    Ok(unsealed)
}

/// Returns false if there is a seal already; else it is to be counted in the row of its job.
pub(crate) fn insert(
    conn: &Connection,
    seq: i64,
    attempt: u32,
    seal: &LogSeal,
) -> Result<bool, StoreError> {
    let length = rows::whole(seal.length)?;
    let params = params![seq, attempt, length, seal.sha256];
    Ok(sql::run(conn, INSERT, params)? > 0)
}

fn seal(columns: &mut Columns<'_, '_>) -> Result<LogSeal, StoreError> {
    Ok(LogSeal {
        length: columns.whole()?,
        sha256: columns.take()?,
    })
}
