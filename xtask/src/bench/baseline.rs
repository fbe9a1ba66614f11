//! What the disk gives: one commit for each row, one after the other.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rusqlite::{Connection, TransactionBehavior, params};

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
const JOB_SCHEMA: [&str; 3] = [
    include_str!("../../../migrations/sqlite/0001_jobs.sql"),
    include_str!("../../../migrations/sqlite/0006_log_seals.sql"),
    include_str!("../../../migrations/sqlite/0010_counted_by_code.sql"),
];
const COUNTS: &str = "INSERT INTO job_counts VALUES ('c', 'ready', 0), ('', 'ready', 0)";
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
const COUNT: &str =
    "UPDATE job_counts SET jobs = jobs + 1 WHERE client_id = ?1 AND bucket = 'ready'";

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
        let conn = create(path, rows)?;
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
        commit(&mut self.conn, self.rows, &id, &self.prompt, self.written)?;
        self.written += 1;
        Ok(())
    }
}

/// As many connections as a load has, each with a commit of its own for each request, the usual
/// way without a single writer: SQLite lets one write at a time and the others try again.
pub(crate) struct Crowd {
    path: PathBuf,
    rows: Rows,
    prompt: String,
    turns: u32,
}

impl Crowd {
    /// Makes a new database at `path`.
    pub(crate) fn open(path: &Path, rows: Rows, prompt: String) -> Result<Self> {
        create(path, rows)?;
        Ok(Self {
            path: path.to_owned(),
            rows,
            prompt,
            turns: 0,
        })
    }

    /// Commits for `time` over so many connections, and returns how many a second.
    pub(crate) fn commits_a_second(&mut self, connections: usize, time: Duration) -> Result<f64> {
        self.turns += 1;
        let began = Instant::now();
        let written = thread::scope(|scope| -> Result<u32> {
            let one = |number| {
                let own = &*self;
                scope.spawn(move || own.commit_until(number, began + time))
            };
            let threads: Vec<_> = (0..connections).map(one).collect();
            threads.into_iter().try_fold(0, |sum, thread| {
                let written = thread.join().map_err(|_| anyhow!("a writer panicked"))??;
                Ok(sum + written)
            })
        })?;
        Ok(f64::from(written) / began.elapsed().as_secs_f64())
    }

    fn commit_until(&self, number: usize, end: Instant) -> Result<u32> {
        let mut conn = Connection::open(&self.path)?;
        conn.busy_timeout(Duration::from_secs(30))?;
        conn.execute_batch(PRAGMAS)?;
        let mut written = 0;
        while Instant::now() < end {
            let id = format!("{:08x}{number:08x}{written:016x}", self.turns);
            commit(&mut conn, self.rows, &id, &self.prompt, written)?;
            written += 1;
        }
        Ok(written)
    }
}

fn create(path: &Path, rows: Rows) -> Result<Connection> {
    let conn = Connection::open(path)?;
    conn.execute_batch(PRAGMAS)?;
    match rows {
        Rows::One => conn.execute_batch(ONE_SCHEMA)?,
        Rows::Job => {
            for schema in JOB_SCHEMA {
                conn.execute_batch(schema)?;
            }
            conn.execute(CLIENT, [])?;
            conn.execute(COUNTS, [])?;
        }
    }
    Ok(conn)
}

fn commit(conn: &mut Connection, rows: Rows, id: &str, prompt: &str, at: u32) -> Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match rows {
        Rows::One => {
            transaction
                .prepare_cached(ONE)?
                .execute(params![id, prompt, at])?;
        }
        Rows::Job => write_job(&transaction, id, prompt, at)?,
    }
    Ok(transaction.commit()?)
}

fn write_job(conn: &Connection, id: &str, prompt: &str, at: u32) -> Result<()> {
    conn.prepare_cached(JOB)?.execute(params![id, at])?;
    let seq = conn.last_insert_rowid();
    conn.prepare_cached(PROMPT)?.execute(params![seq, prompt])?;
    conn.prepare_cached(HISTORY)?.execute(params![seq, at])?;
    for client in ["c", ""] {
        conn.prepare_cached(COUNT)?.execute([client])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_commits_each_request_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crowd.db");
        let mut crowd = Crowd::open(&path, Rows::Job, "a prompt".to_owned()).unwrap();
        for _ in 0..2 {
            assert!(
                crowd
                    .commits_a_second(3, Duration::from_millis(50))
                    .unwrap()
                    > 0.0
            );
        }
        let conn = Connection::open(&path).unwrap();
        let turns: u32 = conn
            .query_row(
                "SELECT count(DISTINCT substr(id, 1, 8)) FROM jobs",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(turns, 2);
    }

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
