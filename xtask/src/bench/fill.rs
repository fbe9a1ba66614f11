//! Fills a server's database with ended jobs while no server uses it.
//!
//! They are written as rows, in one transaction and not through the API: ended jobs cannot be
//! asked for, and each would otherwise have to be queued, claimed and ended.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rusqlite::{Connection, Statement, params};

/// Clients the jobs are spread over.
pub(crate) const CLIENTS: u32 = 4;

/// Within `FULL`, a hundred thousand jobs still are one write to the disk.
const PRAGMAS: &str = "PRAGMA foreign_keys = ON; PRAGMA cache_size = -262144;";

const CLIENT: &str = "
    INSERT INTO clients (id, name, github_org, github_repo, default_branch, created_at, updated_at)
    VALUES (?1, ?2, 'bench', ?2, 'main', 0, 0)";
const JOB: &str = "
    INSERT INTO jobs (seq, id, client_id, branch, title, version, attempt, fence, status, reason,
        error, cancel_requested_at, ended_at, base_commit, head_commit, worktree_path, exit_code,
        files_changed, session_id, model, cli_version, num_turns, cost_usd, created_at, started_at,
        updated_at, seals)
    VALUES (?1, ?2, ?3, ?4, 'Make the thing better', 6, 1, 1, ?5, ?6, ?7, ?8, ?9,
        '0123456789012345678901234567890123456789', '9876543210987654321098765432109876543210',
        '/srv/worktrees/bench/app/' || ?2, 0, 3, '01234567-89ab-cdef-0123-456789abcdef',
        'claude-opus', '2.1.0', 12, 0.25, ?10, ?10, ?9, ?1 > 1)";
const PROMPT: &str = "INSERT INTO job_prompts (job_seq, prompt) VALUES (?1, ?2)";
const HISTORY: &str = "
    INSERT INTO job_history (job_seq, version, at, event, status, attempt)
    VALUES (?1, ?2, ?3, ?4, ?5, 1)";
/// What the server would otherwise do for each job while it is measured.
const SEAL: &str = "INSERT INTO log_seals (job_seq, attempt, bytes, sha256) VALUES (?1, 1, 0, ?2)";
/// SHA-256 of nothing.
const EMPTY: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// What the server keeps up to date with every change.
const COUNTS: &str = "
    DELETE FROM job_counts;
    INSERT INTO job_counts (client_id, bucket, jobs)
    SELECT client_id, bucket, count(*) FROM jobs GROUP BY client_id, bucket;
    INSERT INTO job_counts (client_id, bucket, jobs)
    SELECT '', bucket, sum(jobs) FROM job_counts GROUP BY bucket;";

/// Microseconds.
const SECOND: i64 = 1_000_000;
/// How long ago the first job began: past jobs that no server has reason to forget yet.
const AGO: Duration = Duration::from_hours(48);

/// Who is in the database.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    /// Ids of the clients.
    pub(crate) clients: Vec<String>,
    /// Ids of the jobs, all of them ended.
    pub(crate) jobs: Vec<String>,
    /// The one of them whose log is not sealed; the others have none.
    pub(crate) unsealed: String,
}

/// Adds clients and `count` ended jobs: of ten jobs seven completed, two failed, one cancelled.
pub(crate) fn fill(database: &Path, count: u32, prompt: &str) -> Result<Filled> {
    let start = (SystemTime::now() - AGO).duration_since(UNIX_EPOCH)?;
    let start = i64::try_from(start.as_micros())?;
    let mut conn = Connection::open(database)?;
    conn.execute_batch(PRAGMAS)?;
    let transaction = conn.transaction()?;
    let mut filled = Filled::default();
    for number in 0..CLIENTS {
        let id = id(u64::from(number) | 1 << 32);
        transaction.execute(CLIENT, params![id, format!("client{number}")])?;
        filled.clients.push(id);
    }
    let [mut job, mut prompts, mut history, mut seals] = [
        transaction.prepare(JOB)?,
        transaction.prepare(PROMPT)?,
        transaction.prepare(HISTORY)?,
        transaction.prepare(SEAL)?,
    ];
    for number in 0..count {
        let id = id(number.into());
        let client = &filled.clients[(number / 10 % CLIENTS) as usize];
        let begun = start + i64::from(number) * SECOND;
        insert_job(&mut job, (number, begun), &id, client)?;
        prompts.execute(params![number + 1, prompt])?;
        for (version, event) in (0..).zip(["created", "claimed", "ended"]) {
            history.execute(params![number + 1, version, begun, event, "running"])?;
        }
        if number == 0 {
            filled.unsealed.clone_from(&id);
        } else {
            seals.execute(params![number + 1, EMPTY])?;
        }
        filled.jobs.push(id);
    }
    drop((job, prompts, history, seals));
    recount(&transaction)?;
    transaction.commit()?;
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(filled)
}

/// Counts all jobs anew.
pub(crate) fn recount(conn: &Connection) -> Result<()> {
    Ok(conn.execute_batch(COUNTS)?)
}

fn insert_job(
    job: &mut Statement<'_>,
    (number, begun): (u32, i64),
    id: &str,
    client: &str,
) -> Result<()> {
    let ended = begun + 60 * SECOND;
    let (status, reason, error, cancelled_at) = match number % 10 {
        0..7 => ("completed", None, None, None),
        7..9 => (
            "failed",
            Some("agent_failed"),
            Some("the agent gave up"),
            None,
        ),
        _ => ("cancelled", Some("cancelled_by_user"), None, Some(begun)),
    };
    let branch = format!("feature/{number}");
    let values = params![
        number + 1,
        id,
        client,
        branch,
        status,
        reason,
        error,
        cancelled_at,
        ended,
        begun
    ];
    job.execute(values)?;
    Ok(())
}

/// A fixed id that looks random, so that the index on ids is as scattered as it really is.
pub(crate) fn id(number: u64) -> String {
    format!("{:016x}{:016x}", mix(number), mix(!number))
}

/// The finishing step of a well-known generator: every number goes to another one.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Picks an index below `count` for a request's number, scattered and the same in every run.
pub(crate) fn scattered(number: u64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    usize::try_from(mix(number) % count.max(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_fit_the_servers_schema_and_its_counters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        for schema in [
            include_str!("../../../migrations/sqlite/0001_jobs.sql"),
            include_str!("../../../migrations/sqlite/0006_log_seals.sql"),
            include_str!("../../../migrations/sqlite/0010_counted_by_code.sql"),
        ] {
            let conn = Connection::open(&path).unwrap();
            conn.execute_batch(schema).unwrap();
        }
        let filled = fill(&path, 80, "hello").unwrap();
        assert_eq!((filled.clients.len(), filled.jobs.len()), (4, 80));
        let conn = Connection::open(&path).unwrap();
        let count = "SELECT bucket, jobs FROM job_counts WHERE client_id = ?1 ORDER BY bucket";
        let mut counts = conn.prepare(count).unwrap();
        let rows = counts
            .query_map([&filled.clients[3]], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        let counted: Vec<(String, u32)> = rows.map(Result::unwrap).collect();
        let expected = [("cancelled", 2), ("completed", 14), ("failed", 4)];
        assert_eq!(
            counted,
            expected.map(|(bucket, jobs)| (bucket.to_owned(), jobs))
        );
    }
}
