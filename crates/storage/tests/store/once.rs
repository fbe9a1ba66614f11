//! Requests that are done at most once.

use agent_domain::{Answer, OnceRequest, Seal, Timestamp};
use agent_storage::{NewJob, NewOnce, OnceProgress, StoreError};

use crate::kit::{at, claimed, client, create, job, open, store};

fn request(scope: u8, seal: Option<Seal>) -> OnceRequest {
    let (scope, content) = ([scope; 32], [7; 32]);
    OnceRequest {
        scope,
        content,
        seal,
    }
}

fn answered(scope: u8, now: Timestamp) -> NewOnce {
    let body = format!("{{\"n\":{scope}}}");
    NewOnce {
        request: request(scope, None),
        progress: OnceProgress::Answered(Answer { status: 201, body }),
        at: now,
        since: at(0),
    }
}

fn begun(scope: u8, now: Timestamp) -> NewOnce {
    let subject = "x".to_owned();
    NewOnce {
        progress: OnceProgress::Begun { subject },
        ..answered(scope, now)
    }
}

#[tokio::test]
async fn a_request_is_remembered_as_it_was_across_a_restart() {
    let (store, dir) = store();
    let seal = Seal {
        key: [1; 16],
        hash: [2; 32],
    };
    let mut sealed = answered(1, at(10));
    sealed.request = request(1, Some(seal));
    store.remember(sealed.clone()).await.unwrap();
    store.remember(begun(2, at(10))).await.unwrap();
    store.close().await;
    let store = open(&dir);
    let first = store.once([1; 32], at(9)).await.unwrap().unwrap();
    assert_eq!(
        (first.request, first.progress),
        (sealed.request, sealed.progress)
    );
    let second = store.once([2; 32], at(9)).await.unwrap().unwrap();
    assert_eq!(second.progress, begun(2, at(10)).progress);
    assert_eq!(store.once([1; 32], at(10)).await, Ok(None), "out of date");
    assert_eq!(store.once([3; 32], at(9)).await, Ok(None));
}

#[tokio::test]
async fn what_is_begun_is_answered_once_and_what_is_out_of_date_makes_room() {
    let (store, _dir) = store();
    store.remember(begun(1, at(10))).await.unwrap();
    store.remember(answered(1, at(11))).await.unwrap();
    let twice = store.remember(answered(1, at(12))).await;
    assert_eq!(twice, Err(StoreError::AnsweredAlready));
    let later = NewOnce {
        since: at(11),
        ..begun(1, at(20))
    };
    store.remember(later.clone()).await.unwrap();
    let found = store.once([1; 32], at(0)).await.unwrap().unwrap();
    assert_eq!(found.progress, later.progress);
}

#[tokio::test]
async fn a_job_and_its_request_are_stored_together_or_not_at_all() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let new = |number| NewJob {
        job: job(number, &client(1)),
        create_client: None,
    };
    let stored = store
        .create_job_once(new(1), |_| answered(1, at(10)), || ())
        .await;
    assert!(stored.is_ok());
    let refused = store
        .create_job_once(new(2), |_| answered(1, at(10)), || ())
        .await;
    assert_eq!(refused, Err(StoreError::AnsweredAlready));
    assert!(store.job(job(2, &client(1)).id).await.unwrap().is_none());
    let held = store
        .create_job_once(new(1), |_| answered(2, at(10)), || ())
        .await;
    assert!(matches!(held, Err(StoreError::BranchHeld(_))));
    assert_eq!(store.once([2; 32], at(0)).await, Ok(None));
}

#[tokio::test]
async fn a_change_that_is_not_made_is_not_remembered() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let queued = job(1, &client(1));
    create(&store, &queued).await;
    let change = claimed(&queued, at(20));
    let made = store.commit_once(change.clone(), answered(1, at(20))).await;
    assert_eq!(made, Ok(true));
    let late = store.commit_once(change, answered(2, at(20))).await;
    assert_eq!(late, Ok(false));
    assert!(store.once([1; 32], at(0)).await.unwrap().is_some());
    assert_eq!(store.once([2; 32], at(0)).await, Ok(None));
    let twice = store
        .insert_client_once(client(1), answered(3, at(20)))
        .await;
    assert!(matches!(twice, Err(StoreError::Taken { .. })));
    assert_eq!(store.once([3; 32], at(0)).await, Ok(None));
}

#[tokio::test]
async fn the_oldest_are_forgotten_first_and_no_more_than_asked_for() {
    let (store, _dir) = store();
    for (scope, second) in [(1, 10), (2, 11), (3, 12), (4, 13)] {
        store.remember(answered(scope, at(second))).await.unwrap();
    }
    assert_eq!(store.forget_once(at(12), 2).await, Ok(2));
    assert_eq!(store.once([2; 32], at(0)).await, Ok(None));
    assert!(store.once([3; 32], at(0)).await.unwrap().is_some());
    assert_eq!(store.forget_once(at(12), 2).await, Ok(1));
    assert_eq!(store.forget_once(at(12), 2).await, Ok(0));
    assert!(store.once([4; 32], at(0)).await.unwrap().is_some());
}
