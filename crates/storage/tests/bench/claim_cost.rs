//! Measures what a claim and a new job cost with few and with many jobs queued; `cargo xtask bench
//! claim` runs it and prints what came out.
//!
//! Prints a line for each measurement: what it was, `few` or `many`, and microseconds.

use std::path::Path;
use std::time::{Duration, Instant};

use agent_domain::{Event, Job, JobId, State, Timestamp, WorkerId, apply};
use agent_storage::{Change, NewJob, Store, StoreConfig, StoreError};
use rusqlite::{Connection, params};

type Failure = Box<dyn std::error::Error>;

/// Queued jobs in the small database, as good as empty: two of each client, so that one is left when one
/// is taken.
const FEW: u64 = 20;
const ROUNDS: u64 = 500;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    // Without a number, as when all there is is run to see whether it works: few on both sides.
    let many = std::env::args().find_map(|arg| arg.parse().ok());
    let many = many.unwrap_or(FEW);
    let dir = tempfile::tempdir()?;
    let mut sides = Vec::new();
    for (name, jobs) in [("few", FEW), ("many", many)] {
        let path = dir.path().join(name);
        open(&path)?.close().await;
        fill(&path, jobs)?;
        sides.push((name, open(&path)?));
    }
    for round in 0..ROUNDS {
        for (name, store) in &sides {
            let begun = Instant::now();
            let claimed = claim(store).await?;
            tell("claim", name, begun.elapsed());
            let new = like(&claimed, round)?;
            let begun = Instant::now();
            store.create_job(new).await?;
            tell("job", name, begun.elapsed());
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what it has measured is its output")]
fn tell(what: &str, side: &str, took: Duration) {
    println!("{what} {side} {}", took.as_micros());
}

fn open(path: &Path) -> Result<Store, StoreError> {
    let path = path.join("agent.db");
    Store::open(StoreConfig { path, readers: 1 })
}

/// Some time after the jobs were accepted.
fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_hours(1)
}

async fn claim(store: &Store) -> Result<Job, Failure> {
    let decide = |job: &Job| {
        let event = Event::Claimed {
            worker: WorkerId("bench".into()),
            lease_until: now(),
            paid_by: None,
        };
        let next = apply(job, event, now()).ok()?;
        Some(Change {
            job: next.job,
            event: next.event,
            detail: next.detail,
            delivery: None,
            seal: None,
            booking: None,
            news: None,
        })
    };
    let claimed = store.claim(1, now(), decide).await?.pop();
    Ok(claimed.ok_or("nothing to claim")?.job)
}

/// A new job of the same client.
fn like(job: &Job, number: u64) -> Result<NewJob, Failure> {
    let mut job = job.clone();
    job.id = JobId::from_bytes(u128::from(number).to_be_bytes());
    job.spec.branch = format!("new-{number}").parse()?;
    (job.version, job.attempt) = (0, 0);
    (job.worker, job.started_at) = (None, None);
    job.state = State::Queued {
        not_before: None,
        reason: None,
    };
    (job.created_at, job.updated_at) = (now(), now());
    let create_client = None;
    Ok(NewJob { job, create_client })
}

/// Queues jobs of ten clients as rows, as the store would have: through it, a million take an hour.
fn fill(path: &Path, jobs: u64) -> Result<(), Failure> {
    let conn = Connection::open(path.join("agent.db"))?;
    conn.execute_batch("PRAGMA cache_size = -262144; BEGIN")?;
    conn.execute_batch(
        "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 9)
         INSERT INTO clients (id, name, github_org, github_repo, default_branch, created_at, updated_at)
         SELECT printf('%032x', n), 'app-' || n, 'bench', 'app-' || n, 'main', 0, 0 FROM n",
    )?;
    conn.execute(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
         INSERT INTO jobs (seq, id, client_id, branch, version, attempt, fence, status, ready_seq,
             created_at, updated_at)
         SELECT n, printf('%032x', n * 7919 % 1000000007 + 1000000), printf('%032x', n % 10), 'b-' || n,
             0, 0, 0, 'queued', 1152921504606846976 + n, n, n
         FROM n",
        params![i64::try_from(jobs)?],
    )?;
    conn.execute_batch(
        "INSERT INTO job_prompts SELECT seq, 'do it' FROM jobs;
         INSERT INTO job_history (job_seq, version, at, event, status, attempt)
         SELECT seq, 0, created_at, 'created', 'queued', 0 FROM jobs;
         INSERT INTO job_counts (client_id, bucket, jobs)
         SELECT client_id, 'ready', count(*) FROM jobs GROUP BY client_id;
         INSERT INTO job_counts (client_id, bucket, jobs)
         SELECT '', 'ready', sum(jobs) FROM job_counts;
         INSERT INTO lanes (client_id, tag, head, head_seq, turn, open)
         SELECT client_id, 0, min(ready_seq), seq, 0, 1 FROM jobs GROUP BY client_id;
         COMMIT",
    )?;
    Ok(())
}
