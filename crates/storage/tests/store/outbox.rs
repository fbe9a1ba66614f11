//! Callbacks.

use agent_domain::{DeliveryId, Event, Timestamp};
use agent_storage::{DeliveryLog, DeliveryState, DeliveryTry, NewDelivery, Store};

use crate::kit::{at, bytes, change, client, create, job, store};

pub(crate) fn delivery(number: u64, due_at: Timestamp) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::from_bytes(bytes(number)),
        url: format!("http://receiver.example/{number}").parse().unwrap(),
        body: format!("{{\"n\":{number}}}"),
        due_at,
    }
}

fn id(number: u64) -> DeliveryId {
    DeliveryId::from_bytes(bytes(number))
}

fn made(second: i64) -> DeliveryTry {
    DeliveryTry {
        at: at(second),
        duration_ms: 17,
        status: Some(503),
        error: Some("said no".into()),
        signed: true,
    }
}

/// Cancels job `number` with a callback of the same number.
async fn ends(store: &Store, number: u64, due_at: Timestamp) {
    let queued = job(number, &client(1));
    create(store, &queued).await;
    let mut cancel = change(&queued, Event::CancelRequested, at(20));
    cancel.delivery = Some(delivery(number, due_at));
    assert_eq!(store.commit(cancel).await, Ok(true));
}

async fn due(store: &Store, now: i64, limit: u32, in_flight: &[DeliveryId]) -> Vec<DeliveryId> {
    let due = store
        .due_deliveries(at(now), limit, in_flight)
        .await
        .unwrap();
    due.into_iter().map(|delivery| delivery.id).collect()
}

#[tokio::test]
async fn a_callback_becomes_due_with_the_change_that_brought_it() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    assert_eq!(store.next_delivery_due(&[]).await, Ok(None));
    ends(&store, 1, at(30)).await;
    assert_eq!(store.next_delivery_due(&[]).await, Ok(Some(at(30))));
    assert_eq!(due(&store, 29, 10, &[]).await, []);
    let found = store
        .due_deliveries(at(30), 10, &[])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (found.id, found.job_id, found.tries),
        (id(1), job(1, &client(1)).id, 0)
    );
    assert_eq!(found.url.as_str(), "http://receiver.example/1");
    assert_eq!(found.body, "{\"n\":1}");
}

#[tokio::test]
async fn the_longest_due_come_first_and_those_in_flight_not_at_all() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    for (number, due_at) in [(1, 33), (2, 31), (3, 32), (4, 90)] {
        ends(&store, number, at(due_at)).await;
    }
    assert_eq!(due(&store, 40, 10, &[]).await, [id(2), id(3), id(1)]);
    assert_eq!(due(&store, 40, 2, &[]).await, [id(2), id(3)]);
    assert_eq!(due(&store, 40, 2, &[id(2), id(9)]).await, [id(3), id(1)]);
    assert_eq!(store.next_delivery_due(&[id(2)]).await, Ok(Some(at(32))));
    let all_due = [id(1), id(2), id(3)];
    assert_eq!(store.next_delivery_due(&all_due).await, Ok(Some(at(90))));
    assert_eq!(due(&store, 40, 10, &all_due).await, []);
}

#[tokio::test]
async fn every_try_is_logged_and_the_schedule_goes_on() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    ends(&store, 1, at(30)).await;
    let again = DeliveryState::Pending { due_at: at(50) };
    assert_eq!(store.record_try(id(1), made(31), again).await, Ok(true));
    assert_eq!(due(&store, 49, 10, &[]).await, []);
    let found = store.due_deliveries(at(50), 10, &[]).await.unwrap();
    assert_eq!(found[0].tries, 1);
    let taken = DeliveryTry {
        status: Some(200),
        error: None,
        signed: false,
        ..made(51)
    };
    let delivered = DeliveryState::Delivered;
    assert_eq!(
        store.record_try(id(1), taken.clone(), delivered).await,
        Ok(true)
    );
    assert_eq!(due(&store, 99, 10, &[]).await, []);
    assert_eq!(store.next_delivery_due(&[]).await, Ok(None));
    let log = DeliveryLog {
        id: id(1),
        url: delivery(1, at(30)).url,
        state: DeliveryState::Delivered,
        created_at: at(20),
        tries: vec![made(31), taken],
    };
    assert_eq!(
        store.deliveries_of(job(1, &client(1)).id).await,
        Ok(vec![log])
    );
    assert_eq!(store.record_try(id(9), made(1), delivered).await, Ok(false));
}

#[tokio::test]
async fn a_delivery_can_be_begun_anew() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    ends(&store, 1, at(30)).await;
    let given_up = store
        .record_try(id(1), made(31), DeliveryState::GivenUp)
        .await;
    assert_eq!(given_up, Ok(true));
    assert_eq!(due(&store, 99, 10, &[]).await, []);
    assert_eq!(
        store
            .redeliver(job(1, &client(1)).id, id(1), at(60), None)
            .await,
        Ok(true)
    );
    let found = store.due_deliveries(at(60), 10, &[]).await.unwrap();
    assert_eq!((found[0].id, found[0].tries), (id(1), 0));
    let log = store.deliveries_of(job(1, &client(1)).id).await.unwrap();
    assert_eq!(log[0].tries.len(), 1, "what was tried stays in the log");
    assert_eq!(
        store
            .redeliver(job(1, &client(1)).id, id(9), at(60), None)
            .await,
        Ok(false)
    );
}
