//! Forgetting ended jobs leaves nothing of them.

use agent_domain::{DeliveryId, Ending, Event, Facts, Timestamp};
use agent_storage::{DeliveryState, DeliveryTry, ExpiredJob, ExpiredPlace, NewDelivery, Store};

use crate::kit::*;

const FIRST: ExpiredPlace = ExpiredPlace::FIRST;

async fn expired(store: &Store, before: Timestamp) -> Vec<ExpiredJob> {
    store.expired_jobs(before, FIRST, 10).await.unwrap()
}

#[tokio::test]
async fn a_job_that_is_repeated_again_stays_although_it_was_found_before() {
    let (store, _dir) = store();
    let client = client(1);
    store.insert_client(client.clone()).await.unwrap();
    let first = job(1, &client);
    create(&store, &first).await;
    happens(&store, &first, Event::CancelRequested, at(20)).await;
    let found = expired(&store, at(21)).await;
    assert_eq!(found.len(), 1);
    let again = agent_domain::Job {
        retry_of: Some(first.id),
        ..job(2, &client)
    };
    create(&store, &again).await;
    assert_eq!(store.forget_jobs(vec![first.id]).await.unwrap(), 0);
    happens(&store, &again, Event::CancelRequested, at(22)).await;
    assert_eq!(store.forget_jobs(vec![first.id]).await.unwrap(), 1);
}

#[tokio::test]
async fn those_behind_a_place_are_found_also_where_many_ended_at_once() {
    let (store, _dir) = store();
    let client = client(1);
    store.insert_client(client.clone()).await.unwrap();
    for n in 1..=5 {
        let job = job(n, &client);
        create(&store, &job).await;
        happens(&store, &job, Event::CancelRequested, at(20)).await;
    }
    let (mut place, mut seen) = (FIRST, Vec::new());
    loop {
        let found = store.expired_jobs(at(21), place, 2).await.unwrap();
        let Some(last) = found.last() else { break };
        place = last.place;
        seen.extend(found.iter().map(|job| job.id));
    }
    let all: Vec<_> = (1..=5).map(|n| job(n, &client).id).collect();
    assert_eq!(seen, all);
}

#[tokio::test]
async fn of_a_forgotten_job_no_table_keeps_a_row() {
    let (store, dir) = store();
    let client = client(1);
    store.insert_client(client.clone()).await.unwrap();
    let kept = job(1, &client);
    create(&store, &kept).await;
    let queued = job(2, &client);
    create(&store, &queued).await;
    let running = happens(&store, &queued, claimed_until(at(99)), at(20)).await;
    let event = Event::Finished {
        fence: running.fence,
        ending: Ending::Completed,
        facts: Facts::default(),
    };
    let id = DeliveryId::from_bytes(bytes(7));
    let mut end = change(&running, event, at(30));
    end.delivery = Some(NewDelivery {
        id,
        url: "https://example.com/".parse().unwrap(),
        body: "{}".to_owned(),
        due_at: at(30),
    });
    assert!(store.commit(end).await.unwrap());
    assert!(expired(&store, at(31)).await.is_empty());
    assert_eq!(store.forget_jobs(vec![queued.id]).await.unwrap(), 0);

    let made = DeliveryTry {
        at: at(31),
        duration_ms: 1,
        status: Some(200),
        error: None,
        signed: false,
    };
    store
        .record_try(id, 0, made, DeliveryState::Delivered)
        .await
        .unwrap();
    assert!(expired(&store, at(30)).await.is_empty());
    let expired = expired(&store, at(31)).await;
    assert_eq!(expired.len(), 1);
    assert_eq!((expired[0].id, &expired[0].repo), (queued.id, &client.repo));
    let forgotten = store.forget_jobs(vec![queued.id, kept.id]).await.unwrap();
    assert_eq!(forgotten, 1, "one has not ended");
    assert_eq!(
        store.unknown_jobs(vec![queued.id, kept.id]).await.unwrap(),
        [queued.id]
    );

    let conn = rusqlite::Connection::open(dir.path().join("agent.db")).unwrap();
    for (table, left) in [
        ("jobs", 1),
        ("job_prompts", 1),
        ("job_history", 1),
        ("deliveries", 0),
        ("delivery_tries", 0),
    ] {
        let sql = format!("SELECT count(*) FROM {table}");
        let found: i64 = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(found, left, "{table}");
    }
    assert_eq!(store.counts().await.unwrap().ready, 1);
}
