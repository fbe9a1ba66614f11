//! Requests that wait together are committed together.

use std::sync::mpsc;

use agent_storage::{NewJob, Store, StoreError};
use tempfile::TempDir;

use crate::kit::{at, client, create, job, store};

/// Counts the commits in SQLite's write-ahead log: a frame that ends one says how large the
/// database is after it.
fn commits(dir: &TempDir) -> usize {
    const HEADER: usize = 32;
    const FRAME: usize = 24 + 4096;
    let log = std::fs::read(dir.path().join("agent.db-wal")).unwrap();
    let frames = log[HEADER..].chunks_exact(FRAME);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

/// Makes the writer wait until the returned end is dropped, having written nothing.
async fn hold(store: &Store) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (release, released) = mpsc::channel::<()>();
    let (began, begins) = tokio::sync::oneshot::channel();
    let mut began = Some(began);
    let store = store.clone();
    let holding = tokio::spawn(async move {
        let decide = move |_: &agent_domain::Job| {
            if let Some(began) = began.take() {
                began.send(()).unwrap();
                assert!(released.recv().is_err());
            }
            None
        };
        assert_eq!(store.claim(1, at(20), decide).await, Ok(vec![]));
    });
    begins.await.unwrap();
    (release, holding)
}

#[tokio::test]
async fn requests_that_wait_share_one_commit_and_one_that_fails_fails_alone() {
    let (store, dir) = store();
    store.insert_client(client(1)).await.unwrap();
    create(&store, &job(1, &client(1))).await;

    let (release, holding) = hold(&store).await;
    let before = commits(&dir);
    let waiting: Vec<_> = (2..=41)
        .map(|number| {
            let mut new = job(number, &client(1));
            if number == 20 {
                new.spec.branch = job(1, &client(1)).spec.branch;
            }
            let store = store.clone();
            tokio::spawn(async move {
                let create_client = None;
                store
                    .create_job(NewJob {
                        job: new,
                        create_client,
                    })
                    .await
            })
        })
        .collect();
    // Each task now runs up to where it waits for its answer.
    tokio::task::yield_now().await;
    drop(release);
    for (number, task) in (2..).zip(waiting) {
        let created = task.await.unwrap();
        if number == 20 {
            assert_eq!(created, Err(StoreError::BranchHeld(job(1, &client(1)).id)));
        } else {
            assert!(created.is_ok(), "{created:?}");
        }
        let there = store.job(job(number, &client(1)).id).await.unwrap();
        assert_eq!(there.is_some(), number != 20);
    }
    holding.await.unwrap();
    assert_eq!(commits(&dir) - before, 1);
    assert_eq!(store.counts().await.unwrap().ready, 40);
}

#[tokio::test]
async fn a_decision_that_panics_fails_its_claim_and_nothing_else() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    create(&store, &job(1, &client(1))).await;
    let claims = store.claim(1, at(20), |_| panic!("on purpose"));
    assert_eq!(claims.await, Err(StoreError::Closed));
    create(&store, &job(2, &client(1))).await;
    assert_eq!(store.counts().await.unwrap().ready, 2);
}
