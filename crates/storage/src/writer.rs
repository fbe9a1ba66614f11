//! The writer thread: takes whatever waits, and commits it together.
//!
//! Each request runs in a savepoint of its own, so one that fails undoes only itself. Nobody is
//! told of success before the commit has reached the disk.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::{StoreError, sql};

/// Requests that may wait before a caller has to wait to ask. Also the largest group.
const WAITING_MAX: usize = 256;

/// Tells the caller how the commit went.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// Does the work within the savepoint, or fails as told; says whether to keep what it did, and
/// whom to tell.
type Request =
    Box<dyn FnOnce(Result<&Connection, StoreError>) -> (Result<(), StoreError>, Answer) + Send>;

/// A handle of the writer thread.
pub(crate) struct Writer {
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread. It owns the lock: the database is free again when the thread has ended.
    pub(crate) fn start(conn: Connection, lock: File) -> Result<Self, StoreError> {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                write_all(&conn, waiting);
                drop(conn);
                drop(lock);
            })
            .map_err(|error| StoreError::io("cannot start the writer thread", &error))?;
        Ok(Self {
            requests: Mutex::new(Some(requests)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Runs `work` in the writer and returns its result once it is committed.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.run_then(work, || ()).await
    }

    /// As [`Writer::run`], and calls `committed` in between, in the writer: also when the caller
    /// has gone meanwhile.
    pub(crate) async fn run_then<T, F>(
        &self,
        work: F,
        committed: impl FnOnce() + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let request: Request = Box::new(move |conn| {
            let result = conn.and_then(work);
            let kept = result.as_ref().map(|_| ()).map_err(Clone::clone);
            let tell: Answer = Box::new(move |outcome| {
                let told = outcome.and(result);
                if told.is_ok() {
                    committed();
                }
                // A caller that has gone away does not want to know.
                drop(answer.send(told));
            });
            (kept, tell)
        });
        let requests = locked(&self.requests).clone().ok_or(StoreError::Closed)?;
        requests
            .send(request)
            .await
            .map_err(|_| StoreError::Closed)?;
        drop(requests);
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Takes no more requests, commits those that wait, and ends the thread. Blocks meanwhile.
    pub(crate) fn stop(&self) {
        drop(locked(&self.requests).take());
        let Some(thread) = locked(&self.thread).take() else {
            return;
        };
        // A request may own the last handle of the store; a thread cannot wait for itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A panic elsewhere cannot leave an `Option` half written.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_all(conn: &Connection, mut requests: mpsc::Receiver<Request>) {
    let mut group = VecDeque::with_capacity(WAITING_MAX);
    while let Some(first) = requests.blocking_recv() {
        group.push_back(first);
        while group.len() < WAITING_MAX
            && let Ok(next) = requests.try_recv()
        {
            group.push_back(next);
        }
        while !group.is_empty() {
            commit_group(conn, &mut group);
        }
    }
}

/// Commits as many requests of `group` as one transaction holds, and answers them.
fn commit_group(conn: &Connection, group: &mut VecDeque<Request>) {
    if let Err(error) = sql::run(conn, "BEGIN IMMEDIATE", []) {
        tracing::warn!(%error, requests = group.len(), "cannot begin a transaction");
        for request in group.drain(..) {
            let (_, answer) = request(Err(error.clone()));
            answer(Ok(()));
        }
        return;
    }
    let mut answers = Vec::with_capacity(group.len());
    let mut outcome = Ok(());
    while let Some(request) = group.pop_front() {
        let (kept, answer) = run_alone(conn, request);
        answers.extend(answer);
        if conn.is_autocommit() {
            // SQLite gave the whole transaction up (a full disk, say), so what was done before
            // in it is undone too. The requests behind get a transaction of their own.
            let by_itself = || StoreError::Internal("the transaction ended by itself".to_owned());
            outcome = Err(kept.err().unwrap_or_else(by_itself));
            break;
        }
    }
    let outcome = outcome.and_then(|()| commit(conn));
    if let Err(error) = &outcome {
        tracing::warn!(%error, requests = answers.len(), "a commit failed");
    }
    for answer in answers {
        answer(outcome.clone());
    }
}

/// Runs one request in a savepoint, and undoes what it did if it fails. One that panics is
/// answered by losing its `Answer`.
fn run_alone(conn: &Connection, request: Request) -> (Result<(), StoreError>, Option<Answer>) {
    if let Err(error) = sql::run(conn, "SAVEPOINT request", []) {
        let (_, answer) = request(Err(error.clone()));
        return (Err(error), Some(answer));
    }
    let (kept, answer) = match catch_unwind(AssertUnwindSafe(|| request(Ok(conn)))) {
        Ok((kept, answer)) => (kept, Some(answer)),
        Err(_) => (
            Err(StoreError::Internal("a request panicked".to_owned())),
            None,
        ),
    };
    let mut settled = Ok(0);
    if kept.is_err() && !conn.is_autocommit() {
        settled = sql::run(conn, "ROLLBACK TO request", []);
    }
    if !conn.is_autocommit() {
        settled = settled.and_then(|_| sql::run(conn, "RELEASE request", []));
    }
    if let Err(error) = settled {
        // What is in the transaction is now unknown, so none of it may stay.
        roll_back(conn);
        return (Err(error), answer);
    }
    (kept, answer)
}

fn commit(conn: &Connection) -> Result<(), StoreError> {
    let committed = sql::run(conn, "COMMIT", []);
    if committed.is_err() {
        roll_back(conn);
    }
    committed.map(drop)
}

fn roll_back(conn: &Connection) {
    if !conn.is_autocommit()
        && let Err(error) = sql::run(conn, "ROLLBACK", [])
    {
        // The next BEGIN fails and its callers hear of it.
        tracing::error!(%error, "cannot roll back");
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::open;

    /// A writer on a database that cannot grow beyond `pages` pages.
    fn small(pages: u32) -> (Writer, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let opened = open::open(&dir.path().join("agent.db")).unwrap();
        opened
            .writer
            .execute_batch("CREATE TABLE t (x INTEGER PRIMARY KEY, y BLOB)")
            .unwrap();
        opened
            .writer
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .unwrap();
        let writer = Writer::start(opened.writer, opened.lock).unwrap();
        (writer, dir)
    }

    async fn put(writer: &Writer, x: i64, bytes: i64) -> Result<usize, StoreError> {
        writer
            .run(move |conn| sql::run(conn, "INSERT INTO t VALUES (?1, zeroblob(?2))", [x, bytes]))
            .await
    }

    async fn kept(writer: &Writer) -> Vec<i64> {
        let read = |conn: &Connection| {
            sql::all(
                conn,
                "SELECT x FROM t ORDER BY x",
                [],
                |row| Ok(row.get(0)?),
            )
        };
        writer.run(read).await.unwrap()
    }

    #[tokio::test]
    async fn what_follows_a_commit_happens_though_the_caller_has_gone() {
        let (writer, _dir) = small(100);
        let (told, hears) = std::sync::mpsc::channel();
        let (entered, enters) = std::sync::mpsc::channel();
        let (go, goes) = std::sync::mpsc::channel::<()>();
        let work = move |conn: &Connection| {
            entered.send(()).unwrap();
            goes.recv().unwrap();
            sql::run(conn, "INSERT INTO t VALUES (1, NULL)", [])
        };
        let mut asking = Box::pin(writer.run_then(work, move || told.send(()).unwrap()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(asking.as_mut().poll(&mut context).is_pending());
        enters.recv().unwrap();
        drop(asking);
        go.send(()).unwrap();
        hears.recv().unwrap();
        assert_eq!(kept(&writer).await, [1]);
    }

    #[tokio::test]
    async fn nothing_follows_a_request_that_failed() {
        let (writer, _dir) = small(100);
        let (told, hears) = std::sync::mpsc::channel::<()>();
        let work = |conn: &Connection| sql::run(conn, "INSERT INTO nowhere VALUES (1)", []);
        let asking = writer.run_then(work, move || told.send(()).unwrap());
        assert!(asking.await.is_err());
        assert!(hears.recv().is_err());
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_what_fits_is_still_stored() {
        let (writer, _dir) = small(100);
        put(&writer, 1, 10).await.unwrap();
        assert_eq!(put(&writer, 2, 1_000_000).await, Err(StoreError::DiskFull));
        put(&writer, 3, 10).await.unwrap();
        assert_eq!(kept(&writer).await, [1, 3]);
    }

    #[tokio::test]
    async fn a_request_is_never_acknowledged_when_a_neighbour_ends_the_transaction() {
        let (writer, _dir) = small(100);
        let ends_all = writer.run(|conn| {
            conn.execute_batch("INSERT INTO t VALUES (2, NULL); ROLLBACK")?;
            Err::<(), _>(StoreError::DiskFull)
        });
        let results = tokio::join!(put(&writer, 1, 1), ends_all, put(&writer, 3, 1));
        // Whether the first shares the second's transaction is a matter of timing; that it is
        // stored exactly if it was acknowledged is not.
        assert_eq!(results.1, Err(StoreError::DiskFull));
        let acknowledged: Vec<i64> = [(1, results.0), (3, results.2)]
            .into_iter()
            .filter_map(|(x, result)| result.is_ok().then_some(x))
            .collect();
        assert_eq!(kept(&writer).await, acknowledged);
    }

    #[tokio::test]
    async fn a_request_that_panics_fails_alone() {
        let (writer, _dir) = small(100);
        let panics = writer.run(|conn| -> Result<(), StoreError> {
            conn.execute_batch("INSERT INTO t VALUES (2, NULL)")?;
            panic!("on purpose")
        });
        let results = tokio::join!(put(&writer, 1, 1), panics, put(&writer, 3, 1));
        assert_eq!(results, (Ok(1), Err(StoreError::Closed), Ok(1)));
        assert_eq!(kept(&writer).await, [1, 3]);
    }

    #[tokio::test]
    async fn what_waits_when_the_writer_is_stopped_is_still_committed() {
        let (writer, dir) = small(1000);
        let writer = std::sync::Arc::new(writer);
        let waiting: Vec<_> = (0..50)
            .map(|x| {
                let writer = std::sync::Arc::clone(&writer);
                tokio::spawn(async move { put(&writer, x, 1).await })
            })
            .collect();
        // Each task now runs up to where it waits for its answer.
        tokio::task::yield_now().await;
        writer.stop();
        for request in waiting {
            assert_eq!(request.await.unwrap(), Ok(1));
        }
        assert_eq!(put(&writer, 99, 1).await, Err(StoreError::Closed));
        let opened = open::open(&dir.path().join("agent.db")).unwrap();
        let rows: i64 = opened
            .writer
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 50);
    }
}
