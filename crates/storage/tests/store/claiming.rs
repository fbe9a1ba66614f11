//! The line of ready jobs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use agent_domain::{Ending, Event, Facts, Job, JobId, Reason, Timestamp};
use agent_storage::{Change, JobWithClient, QueueCounts, Store};

use crate::kit::{at, change, claimed, client, create, happens, job, store};

async fn claim(store: &Store, limit: u32, now: Timestamp) -> Vec<JobWithClient> {
    let claims = store.claim(limit, now, move |job| Some(claimed(job, now)));
    claims.await.unwrap()
}

fn ids(jobs: &[JobWithClient]) -> Vec<JobId> {
    jobs.iter().map(|claimed| claimed.job.id).collect()
}

fn id(number: u64) -> JobId {
    job(number, &client(1)).id
}

async fn with_jobs(store: &Store, jobs: u64) {
    store.insert_client(client(1)).await.unwrap();
    for number in 1..=jobs {
        create(store, &job(number, &client(1))).await;
    }
}

async fn park(store: &Store, job: &Job, until: Timestamp, now: Timestamp) -> Job {
    let event = Event::Finished {
        fence: job.fence,
        ending: Ending::Parked {
            until: Some(until),
            reason: Reason::UsageLimit,
        },
        facts: Facts::default(),
    };
    happens(store, job, event, now).await
}

#[tokio::test]
async fn a_lost_run_is_made_up_for_although_the_clock_was_set_back_meanwhile() {
    let (store, _dir) = store();
    with_jobs(&store, 2).await;
    for (ending, now) in [
        (
            Ending::Lost {
                error: "gone".into(),
            },
            1000,
        ),
        (
            Ending::Parked {
                until: Some(at(1000)),
                reason: Reason::UsageLimit,
            },
            30,
        ),
    ] {
        let running = claim(&store, 1, at(20)).await.remove(0).job;
        let event = Event::Finished {
            fence: running.fence,
            ending,
            facts: Facts::default(),
        };
        happens(&store, &running, event, at(now)).await;
    }
    // What waits for a reason of its own waits on.
    assert_eq!(store.promote_misdated(at(1500)).await, Ok(0));
    assert_eq!(store.promote_misdated(at(100)).await, Ok(1));
    assert_eq!(ids(&claim(&store, 2, at(31)).await), [id(1)]);
}

#[tokio::test]
async fn ready_jobs_are_claimed_in_the_order_of_their_creation() {
    let (store, _dir) = store();
    with_jobs(&store, 4).await;
    let first = claim(&store, 3, at(20)).await;
    assert_eq!(ids(&first), [id(1), id(2), id(3)]);
    assert_eq!(first[0].client, client(1));
    let stored = store.job(id(1)).await.unwrap().unwrap();
    assert_eq!(stored, first[0], "what is returned is what is stored");
    assert_eq!(ids(&claim(&store, 3, at(21)).await), [id(4)]);
    assert_eq!(claim(&store, 3, at(22)).await, []);
    let history = store.history(id(4)).await.unwrap();
    assert_eq!(history.last().unwrap().event, "claimed");
}

#[tokio::test]
async fn a_job_nothing_is_decided_for_keeps_its_place() {
    let (store, _dir) = store();
    with_jobs(&store, 3).await;
    let skip_first = |job: &Job| (job.id != id(1)).then(|| claimed(job, at(20)));
    let claims = store.claim(1, at(20), skip_first).await.unwrap();
    assert_eq!(ids(&claims), [id(2)]);
    assert_eq!(ids(&claim(&store, 5, at(21)).await), [id(1), id(3)]);
}

#[tokio::test]
async fn a_decision_for_another_job_claims_nothing() {
    let (store, _dir) = store();
    with_jobs(&store, 2).await;
    let confused = |_: &Job| Some(claimed(&job(2, &client(1)), at(20)));
    let claims = store.claim(1, at(20), confused).await.unwrap();
    assert_eq!(ids(&claims), [id(2)], "only where it fits");
    let queue = store.queue(10).await.unwrap();
    assert_eq!((queue.running.len(), queue.ready.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_claims_never_give_a_job_twice() {
    let (store, _dir) = store();
    with_jobs(&store, 60).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, seen) = (store.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                loop {
                    let claims = claim(&store, 3, at(20)).await;
                    if claims.is_empty() {
                        break;
                    }
                    seen.lock().unwrap().extend(ids(&claims));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 60);
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 60);
}

#[tokio::test]
async fn a_parked_job_waits_for_its_time_and_then_stands_where_it_stood() {
    let (store, _dir) = store();
    with_jobs(&store, 2).await;
    let running = claim(&store, 1, at(20)).await.remove(0).job;
    let parked = park(&store, &running, at(100), at(30)).await;
    assert_eq!(store.next_not_before().await, Ok(Some(at(100))));
    assert_eq!(
        store.counts().await,
        Ok(QueueCounts {
            running: 0,
            ready: 1,
            parked: 1
        })
    );
    let queue = store.queue(10).await.unwrap();
    assert_eq!(queue.parked[0].id, id(1));
    assert_eq!(queue.parked[0].not_before, Some(at(100)));
    assert_eq!(queue.parked[0].reason, Some(Reason::UsageLimit));

    assert_eq!(store.promote(at(99)).await, Ok(0));
    assert_eq!(store.promote(at(100)).await, Ok(1));
    assert_eq!(store.promote(at(100)).await, Ok(0), "once is enough");
    assert_eq!(store.next_not_before().await, Ok(None));
    assert_eq!(
        store.counts().await,
        Ok(QueueCounts {
            running: 0,
            ready: 2,
            parked: 0
        })
    );
    assert_eq!(store.job(id(1)).await.unwrap().unwrap().job, parked);
    let place: Vec<_> = store
        .queue(10)
        .await
        .unwrap()
        .ready
        .iter()
        .map(|j| j.id)
        .collect();
    assert_eq!(place, [id(1), id(2)]);
    assert_eq!(ids(&claim(&store, 5, at(101)).await), [id(1), id(2)]);
}

#[tokio::test]
async fn a_claim_finds_parked_jobs_whose_time_has_come_by_itself() {
    let (store, _dir) = store();
    with_jobs(&store, 2).await;
    for running in claim(&store, 2, at(20)).await {
        let until = if running.job.id == id(1) {
            at(200)
        } else {
            at(100)
        };
        park(&store, &running.job, until, at(30)).await;
    }
    assert_eq!(claim(&store, 5, at(99)).await, []);
    assert_eq!(store.next_not_before().await, Ok(Some(at(100))));
    assert_eq!(ids(&claim(&store, 5, at(300)).await), [id(1), id(2)]);
}

#[tokio::test]
async fn a_new_job_stands_behind_those_that_became_ready_before_it() {
    let (store, _dir) = store();
    with_jobs(&store, 1).await;
    let running = claim(&store, 1, at(20)).await.remove(0).job;
    park(&store, &running, at(100), at(30)).await;
    let mut late = job(2, &client(1));
    late.created_at = at(150);
    assert_eq!(create(&store, &late).await.position, 2);
    assert_eq!(ids(&claim(&store, 5, at(150)).await), [id(1), id(2)]);
}

#[tokio::test]
async fn a_job_parked_until_a_time_that_has_passed_is_ready_at_once() {
    let (store, _dir) = store();
    with_jobs(&store, 1).await;
    let running = claim(&store, 1, at(20)).await.remove(0).job;
    park(&store, &running, at(25), at(30)).await;
    assert_eq!(
        store.counts().await,
        Ok(QueueCounts {
            running: 0,
            ready: 1,
            parked: 0
        })
    );
}

#[tokio::test]
async fn a_job_whose_run_was_lost_has_had_its_turn_and_stands_first_again() {
    let (store, _dir) = store();
    with_jobs(&store, 4).await;
    let running = claim(&store, 2, at(20)).await;
    let fence = running[0].job.fence;
    let lost = Event::Finished {
        fence,
        ending: Ending::Lost {
            error: "gone".into(),
        },
        facts: Facts::default(),
    };
    happens(&store, &running[0].job, lost, at(30)).await;
    happens(&store, &running[1].job, Event::Released { fence }, at(30)).await;
    let place = async || {
        let queue = store.queue(10).await.unwrap();
        queue.ready.iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(place().await, [id(2), id(3), id(4)]);
    assert_eq!(store.promote(at(40)).await, Ok(1));
    assert_eq!(place().await, [id(1), id(2), id(3), id(4)]);
}

#[tokio::test]
async fn a_cancelled_job_leaves_the_line() {
    let (store, _dir) = store();
    with_jobs(&store, 2).await;
    let cancel: Change = change(&job(1, &client(1)), Event::CancelRequested, at(20));
    assert_eq!(store.commit(cancel).await, Ok(true));
    assert_eq!(ids(&claim(&store, 5, at(40)).await), [id(2)]);
}

#[tokio::test]
async fn a_change_in_hand_does_not_undo_that_a_job_waits_for_no_credential_any_more() {
    let (store, _dir) = store();
    with_jobs(&store, 1).await;
    let running = claim(&store, 1, at(20)).await.remove(0).job;
    let event = Event::Finished {
        fence: running.fence,
        ending: Ending::Parked {
            until: None,
            reason: Reason::Auth,
        },
        facts: Facts::default(),
    };
    let waiting = happens(&store, &running, event, at(30)).await;
    assert_eq!(store.counts().await.unwrap().parked, 1);
    let event = Event::Reprioritized(agent_domain::Priority::try_from(3).unwrap());
    let in_hand = change(&waiting, event, at(31));
    store.release_unpowered(at(32)).await.unwrap();
    assert!(!store.commit(in_hand).await.unwrap());
    assert_eq!(claim(&store, 1, at(33)).await.len(), 1);
}
