//! A process that is killed while it writes loses nothing it has acknowledged.
//!
//! The program runs itself again as the process to be killed, so it has a `main` of its own.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that meets an error has failed; the standard output is the acknowledgement"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use agent_domain::{Answer, JobId, OnceRequest, Status};
use agent_storage::{JobFilter, NewJob, NewOnce, OnceProgress, Store, StoreConfig};
use rusqlite::Connection;

#[path = "store/samples.rs"]
mod samples;

use samples::{at, claimed, client, job};

/// How often the writing process is killed.
const KILLS: u64 = 6;
/// Writes under way at once, so that commits have several rows in them.
const TASKS: u64 = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, path, first] = &arguments[..]
        && role == "write"
    {
        write(Path::new(path), first.parse().unwrap());
    } else {
        every_acknowledged_write_is_there_after_each_kill();
        println!("test every_acknowledged_write_is_there_after_each_kill ... ok");
    }
}

/// Creates and claims jobs until killed; names each one on standard output once it is stored.
#[tokio::main(flavor = "current_thread")]
async fn write(path: &Path, first: u64) {
    let path = path.to_owned();
    let store = Store::open(StoreConfig { path, readers: 1 }).unwrap();
    if store.clients().await.unwrap().is_empty() {
        store.insert_client(client(1)).await.unwrap();
    }
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(write_some(store.clone(), first + task)))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn write_some(store: Store, first: u64) {
    for number in (first..).step_by(usize::try_from(TASKS).unwrap()) {
        let new = job(number, &client(1));
        let create_client = None;
        let stored = NewJob {
            job: new.clone(),
            create_client,
        };
        let once = move |_: &_| remembered(number);
        store.create_job_once(stored, once, || ()).await.unwrap();
        acknowledge("created", new.id);
        if number % 2 == 0 {
            assert!(store.commit(claimed(&new, at(20))).await.unwrap());
            acknowledge("claimed", new.id);
        }
    }
}

/// The request that job `number` was made for.
fn remembered(number: u64) -> NewOnce {
    let mut scope = [0; 32];
    scope[..8].copy_from_slice(&number.to_be_bytes());
    NewOnce {
        request: OnceRequest {
            scope,
            content: [0; 32],
            seal: None,
        },
        progress: OnceProgress::Answered(Answer {
            status: 201,
            body: JobId::from_bytes(samples::bytes(number)).to_string(),
        }),
        at: at(10),
        since: at(0),
    }
}

fn acknowledge(what: &str, id: JobId) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what} {id}").unwrap();
    out.flush().unwrap();
}

fn every_acknowledged_write_is_there_after_each_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        // A different number of rows each time, so that the kills fall at different places.
        let enough = 40 + usize::try_from(round).unwrap() * 37;
        let child = start(&path, round * 1_000_000);
        acknowledged.extend(kill_after(child, enough));
        check(&path, &acknowledged);
    }
    assert!(acknowledged.len() > 500);
}

fn start(path: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg("write")
        .arg(path)
        .arg(first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills the process once it has acknowledged `enough` writes; returns all it acknowledged.
fn kill_after(mut child: Child, enough: usize) -> Vec<(Status, JobId)> {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // The last line may be cut short: it was not acknowledged then.
        if let Some((what, id)) = line.trim_end().split_once(' ')
            && line.ends_with('\n')
        {
            let status = match what {
                "created" => Status::Queued,
                _ => Status::Running,
            };
            acknowledged.push((status, id.parse().unwrap()));
        }
        line.clear();
        if acknowledged.len() == enough {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= enough, "the process ended by itself");
    acknowledged
}

#[tokio::main(flavor = "current_thread")]
async fn check(path: &Path, acknowledged: &[(Status, JobId)]) {
    let config = StoreConfig {
        path: path.to_owned(),
        readers: 1,
    };
    let store = Store::open(config).unwrap();
    for (status, id) in acknowledged {
        let read = store.job(*id).await.unwrap().unwrap();
        let is = read.job.state.status();
        assert!(is == *status || is == Status::Running, "{id} is {is}");
        let history = store.history(*id).await.unwrap();
        assert_eq!(history.len() as u64, read.job.version + 1);
        assert_eq!(history.last().unwrap().status, is);
    }
    let counts = store.counts().await.unwrap();
    for (status, counted) in [
        (Status::Queued, counts.ready),
        (Status::Running, counts.running),
    ] {
        assert_eq!(count(&store, status).await, counted, "{status}");
    }
    drop(store);
    let whole: String = Connection::open(path)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
    // Those that were not acknowledged too: a job without its request would be made twice by a
    // repeat, a request without its job never.
    let torn: i64 = Connection::open(path)
        .unwrap()
        .query_row(
            "SELECT count(*) FROM jobs j FULL JOIN idempotency_keys k ON k.body = j.id
             WHERE j.id IS NULL OR k.scope IS NULL",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(torn, 0);
}

/// Counts jobs by listing them all.
async fn count(store: &Store, status: Status) -> u64 {
    let mut filter = JobFilter {
        statuses: vec![status],
        limit: 500,
        ..JobFilter::default()
    };
    let mut counted = 0;
    loop {
        let page = store.list_jobs(filter.clone()).await.unwrap();
        let Some(last) = page.jobs.last() else {
            return counted;
        };
        counted += page.jobs.len() as u64;
        filter.before = Some(last.id);
    }
}
