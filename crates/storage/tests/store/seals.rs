//! Seals of logs: stored with the end of an attempt, once, and found wanting where there is none.

use agent_domain::{Ending, Event, Facts, Fence, Job, LogSeal};
use agent_storage::{Change, Store, Unsealed};

use crate::kit::{at, change, claimed_until, client, create, happens, job, store};

fn seal(length: u64) -> LogSeal {
    LogSeal {
        length,
        sha256: [7; 32],
    }
}

fn finished(fence: u64, ending: Ending) -> Event {
    Event::Finished {
        fence: Fence(fence),
        ending,
        facts: Facts::default(),
    }
}

async fn running(store: &Store, number: u64) -> Job {
    let new = job(number, &client(1));
    create(store, &new).await;
    happens(store, &new, claimed_until(at(60)), at(20)).await
}

async fn unsealed(store: &Store) -> Vec<(Job, Vec<u32>)> {
    let mut found = Vec::new();
    for Unsealed { job, attempts, .. } in store.unsealed(0, 100).await.unwrap() {
        found.push((store.job(job).await.unwrap().unwrap().job, attempts));
    }
    found
}

#[tokio::test]
async fn a_seal_is_stored_with_the_end_of_its_attempt_or_not_at_all() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let running = running(&store, 1).await;
    let lost = Ending::Lost { error: "x".into() };
    let end = Change {
        seal: Some(seal(10)),
        ..change(&running, finished(1, lost), at(30))
    };
    let queued = end.job.clone();
    let other = change(&running, Event::CancelRequested, at(29));
    assert!(store.commit(other).await.unwrap());
    assert!(
        !store.commit(end.clone()).await.unwrap(),
        "somebody was first"
    );
    assert_eq!(store.seals(running.id).await, Ok(vec![]));

    let now = store.job(running.id).await.unwrap().unwrap().job;
    let version = now.version + 1;
    let job = Job { version, ..queued };
    assert!(
        store
            .commit(Change {
                job: job.clone(),
                ..end
            })
            .await
            .unwrap()
    );
    assert_eq!(store.seals(running.id).await, Ok(vec![(1, seal(10))]));
    let again = happens(&store, &job, claimed_until(at(60)), at(40)).await;
    assert_eq!(again.attempt, 2);
    let end = Change {
        seal: Some(seal(20)),
        ..change(&again, finished(2, Ending::Completed), at(50))
    };
    assert!(store.commit(end).await.unwrap());
    let both = vec![(1, seal(10)), (2, seal(20))];
    assert_eq!(store.seals(running.id).await, Ok(both));
}

#[tokio::test]
async fn what_ended_without_a_seal_is_found_until_it_has_one() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    let (first, second) = (running(&store, 1).await, running(&store, 2).await);
    create(&store, &job(3, &client(1))).await;
    assert_eq!(unsealed(&store).await, []);
    assert!(
        !store.seal(first.id, 1, seal(1), None).await.unwrap(),
        "it runs"
    );

    let lost = |job: &Job| {
        let ending = Ending::Lost { error: "x".into() };
        finished(job.fence.0, ending)
    };
    let queued = happens(&store, &first, lost(&first), at(30)).await;
    let again = happens(&store, &queued, claimed_until(at(60)), at(31)).await;
    assert_eq!(unsealed(&store).await, [(again.clone(), vec![1])]);
    let done = happens(&store, &again, finished(2, Ending::Completed), at(32)).await;
    let other = happens(&store, &second, finished(1, Ending::Cancelled), at(33)).await;
    let both = [(done.clone(), vec![1, 2]), (other.clone(), vec![1])];
    assert_eq!(unsealed(&store).await, both);

    assert!(store.seal(done.id, 2, seal(2), None).await.unwrap());
    let both = [(done.clone(), vec![1]), (other.clone(), vec![1])];
    assert_eq!(unsealed(&store).await, both);
    let page = store.unsealed(0, 1).await.unwrap();
    let next = store.unsealed(page[0].place, 1).await.unwrap();
    assert_eq!((page[0].job, next[0].job), (done.id, other.id));
    assert!(store.seal(done.id, 1, seal(1), None).await.unwrap());
    assert!(store.seal(other.id, 1, seal(3), None).await.unwrap());
    assert_eq!(unsealed(&store).await, []);
    assert!(
        !store.seal(other.id, 1, seal(4), None).await.unwrap(),
        "sealed"
    );
    assert_eq!(store.seals(other.id).await, Ok(vec![(1, seal(3))]));
}
