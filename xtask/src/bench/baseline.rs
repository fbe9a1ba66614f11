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

/// Commits for `time`, in a database at `path` that is made when it is not there; returns how
/// many a second.
pub(crate) fn commits_a_second(
    path: &Path,
    rows: Rows,
    prompt: &str,
    time: Duration,
) -> Result<f64> {
    let mut conn = open(path, rows)?;
    let first: u32 = conn.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0))?;
    let began = Instant::now();
    let mut written = 0;
    while began.elapsed() < time {
        let id = format!("{:032x}", first + written);
        let transaction = conn.transaction()?;
        match rows {
            Rows::One => {
                transaction
                    .prepare_cached(ONE)?
                    .execute(params![id, prompt, written])?;
            }
            Rows::Job => write_job(&transaction, &id, prompt, written)?,
        }
        transaction.commit()?;
        written += 1;
    }
    Ok(f64::from(written) / began.elapsed().as_secs_f64())
}

fn write_job(conn: &Connection, id: &str, prompt: &str, at: u32) -> Result<()> {
    conn.prepare_cached(JOB)?.execute(params![id, at])?;
    let seq = conn.last_insert_rowid();
    conn.prepare_cached(PROMPT)?.execute(params![seq, prompt])?;
    conn.prepare_cached(HISTORY)?.execute(params![seq, at])?;
    Ok(())
}

fn open(path: &Path, rows: Rows) -> Result<Connection> {
    let is_new = !path.exists();
    let conn = Connection::open(path)?;
    conn.execute_batch(PRAGMAS)?;
    match rows {
        _ if !is_new => {}
        Rows::One => conn.execute_batch(ONE_SCHEMA)?,
        Rows::Job => {
            conn.execute_batch(JOB_SCHEMA)?;
            conn.execute(CLIENT, [])?;
        }
    }
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_to_those_of_an_earlier_round() {
        let dir = tempfile::tempdir().unwrap();
        for rows in [Rows::One, Rows::Job] {
            let path = dir.path().join(format!("{rows:?}.db"));
            for _ in 0..2 {
                let time = Duration::from_millis(20);
                assert!(commits_a_second(&path, rows, "a prompt", time).unwrap() > 0.0);
            }
        }
    }
}
