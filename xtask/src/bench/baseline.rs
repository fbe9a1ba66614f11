//! What the disk gives: one commit for each row, one after the other.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::{Connection, params};

/// A database with a row of about a job's size, as durable as the server's.
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS jobs (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        client_id TEXT NOT NULL,
        branch TEXT NOT NULL,
        prompt TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;";
const INSERT: &str = "
    INSERT INTO jobs (id, client_id, branch, prompt, status, created_at)
    VALUES (?1, ?2, ?3, ?4, 'queued', ?5)";

/// Writes rows for `time`, and returns how many a second were committed.
pub(crate) fn commits_a_second(path: &Path, prompt: &str, time: Duration) -> Result<f64> {
    let conn = Connection::open(path)?;
    conn.execute_batch(SCHEMA)?;
    let first: u32 = conn.query_row("SELECT coalesce(max(seq), 0) FROM jobs", [], |row| {
        row.get(0)
    })?;
    let mut insert = conn.prepare(INSERT)?;
    let began = Instant::now();
    let mut written = 0;
    while began.elapsed() < time {
        let id = format!("{:032x}", first + written);
        let branch = format!("bench/{id}");
        insert.execute(params![
            id,
            "0123456789abcdef0123456789abcdef",
            branch,
            prompt,
            written
        ])?;
        written += 1;
    }
    Ok(f64::from(written) / began.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_to_those_of_an_earlier_round() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        for _ in 0..2 {
            assert!(commits_a_second(&path, "x", Duration::from_millis(20)).unwrap() > 0.0);
        }
    }
}
