//! Forgetting ended jobs leaves nothing of them.

use agent_domain::{DeliveryId, Ending, Event, Facts};
use agent_storage::{DeliveryState, DeliveryTry, NewDelivery};

use crate::kit::*;

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
    assert!(store.expired_jobs(at(31), 10).await.unwrap().is_empty());
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
    assert!(store.expired_jobs(at(30), 10).await.unwrap().is_empty());
    let expired = store.expired_jobs(at(31), 10).await.unwrap();
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
