//! What the disk gives: one commit for each row, one after the other.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::{Connection, params};

/// What is written for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// One row of about a job's size in a table of its own.
    One,
    /// What the server writes for a job: its row with every index, prompt, history and counters.
    Job,
}

const ONE_SCHEMA: &str = "
    CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        client_id TEXT NOT NULL,
        branch TEXT NOT NULL,
        prompt TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;";
const JOB_SCHEMA: &str = include_str!("../../../migrations/sqlite/0001_jobs.sql");
const CLIENT: &str = "
    INSERT INTO clients (id, name, github_org, github_repo, default_branch, created_at, updated_at)
    VALUES ('c', 'c', 'c', 'c', 'main', 0, 0)";
/// As durable as the server's commits.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

const ONE: &str = "
    INSERT INTO jobs (id, client_id, branch, prompt, status, created_at)
    VALUES (?1, 'c', ?1, ?2, 'queued', ?3)";
const JOB: &str = "
    INSERT INTO jobs (id, client_id, branch, version, attempt, fence, status, ready_seq, created_at,
        updated_at)
    VALUES (?1, 'c', ?1, 0, 0, 0, 'queued',
        (SELECT coalesce(max(ready_seq), 0) + 1 FROM jobs INDEXED BY jobs_ready WHERE ready_seq > 0),
        ?2, ?2)";
const PROMPT: &str = "INSERT INTO job_prompts (job_seq, prompt) VALUES (?1, ?2)";
const HISTORY: &str = "
    INSERT INTO job_history (job_seq, version, at, event, status, attempt)
    VALUES (?1, 0, ?2, 'created', 'queued', 0)";

/// Commits before the first that counts: until SQLite's log has its full length and is written
/// over from its begin, every commit makes a file longer, which costs far more.
const WARM_UP: u32 = 1_500;
/// They may take no longer.
const WARM_UP_TIME: Duration = Duration::from_secs(20);

/// A database that stays open, as the server's does.
pub(crate) struct Baseline {
    conn: Connection,
    rows: Rows,
    prompt: String,
    written: u32,
}

impl Baseline {
    /// Makes a new database at `path`, and brings it to a steady state.
    pub(crate) fn open(path: &Path, rows: Rows, prompt: String) -> Result<Self> {
        let conn = Connection::open(path)?;
        conn.execute_batch(PRAGMAS)?;
        match rows {
            Rows::One => conn.execute_batch(ONE_SCHEMA)?,
            Rows::Job => {
                conn.execute_batch(JOB_SCHEMA)?;
                conn.execute(CLIENT, [])?;
            }
        }
        let mut baseline = Self {
            conn,
            rows,
            prompt,
            written: 0,
        };
        let began = Instant::now();
        while baseline.written < WARM_UP && began.elapsed() < WARM_UP_TIME {
            baseline.commit()?;
        }
        Ok(baseline)
    }

    /// Commits for `time`, and returns how many a second.
    pub(crate) fn commits_a_second(&mut self, time: Duration) -> Result<f64> {
        let (before, began) = (self.written, Instant::now());
        while began.elapsed() < time {
            self.commit()?;
        }
        Ok(f64::from(self.written - before) / began.elapsed().as_secs_f64())
    }

    fn commit(&mut self) -> Result<()> {
        let id = format!("{:032x}", self.written);
        let transaction = self.conn.transaction()?;
        match self.rows {
            Rows::One => {
                let mut insert = transaction.prepare_cached(ONE)?;
                insert.execute(params![id, self.prompt, self.written])?;
            }
            Rows::Job => write_job(&transaction, &id, &self.prompt, self.written)?,
        }
        transaction.commit()?;
        self.written += 1;
        Ok(())
    }
}

fn write_job(conn: &Connection, id: &str, prompt: &str, at: u32) -> Result<()> {
    conn.prepare_cached(JOB)?.execute(params![id, at])?;
    let seq = conn.last_insert_rowid();
    conn.prepare_cached(PROMPT)?.execute(params![seq, prompt])?;
    conn.prepare_cached(HISTORY)?.execute(params![seq, at])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_rows_can_be_committed_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        for rows in [Rows::One, Rows::Job] {
            let path = dir.path().join(format!("{rows:?}.db"));
            let mut baseline = Baseline::open(&path, rows, "a prompt".to_owned()).unwrap();
            for _ in 0..2 {
                assert!(
                    baseline
                        .commits_a_second(Duration::from_millis(20))
                        .unwrap()
                        > 0.0
                );
            }
            let count = "SELECT count(*) FROM jobs";
            let counted: u32 = baseline
                .conn
                .query_row(count, [], |row| row.get(0))
                .unwrap();
            assert_eq!(counted, baseline.written);
        }
    }
}
