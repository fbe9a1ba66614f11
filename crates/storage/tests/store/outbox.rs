//! Callbacks.

use std::collections::HashMap;

use agent_domain::{DeliveryId, Event, Timestamp};
use agent_storage::{
    DeliveryLog, DeliveryState, DeliveryTry, NewDelivery, OutboxLook, OutboxSeen, Store,
};

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

fn look(now: i64) -> OutboxLook {
    OutboxLook {
        now: at(now),
        places: 10,
        each: 10,
        fewer: HashMap::new(),
        in_flight: Vec::new(),
    }
}

async fn seen(store: &Store, look: OutboxLook) -> OutboxSeen {
    store.look_at_outbox(look).await.unwrap()
}

async fn found(store: &Store, look: OutboxLook) -> (Vec<DeliveryId>, Option<Timestamp>) {
    let seen = seen(store, look).await;
    let ids = seen.due.into_iter().map(|delivery| delivery.id);
    (ids.collect(), seen.next)
}

#[tokio::test]
async fn a_callback_becomes_due_with_the_change_that_brought_it() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    assert_eq!(found(&store, look(29)).await, (vec![], None));
    ends(&store, 1, at(30)).await;
    assert_eq!(found(&store, look(29)).await, (vec![], Some(at(30))));
    let due = seen(&store, look(30)).await.due.remove(0);
    assert_eq!(
        (due.id, due.job_id, due.tries, due.round),
        (id(1), job(1, &client(1)).id, 0, 0)
    );
    assert_eq!(due.url.as_str(), "http://receiver.example/1");
    assert_eq!(due.endpoint, "http://receiver.example");
    assert_eq!(due.body, "{\"n\":1}");
}

#[tokio::test]
async fn the_longest_due_come_first_and_those_in_flight_not_at_all() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    for (number, due_at) in [(1, 33), (2, 31), (3, 32), (4, 90)] {
        ends(&store, number, at(due_at)).await;
    }
    let all_due = vec![id(2), id(3), id(1)];
    let (found_due, next) = found(&store, look(40)).await;
    assert_eq!((found_due, next), (all_due.clone(), Some(at(90))));
    for (places, each) in [(2, 10), (10, 2)] {
        let (places, each) = (places, each);
        let some = OutboxLook {
            places,
            each,
            ..look(40)
        };
        assert_eq!(found(&store, some).await.0, [id(2), id(3)]);
    }
    let some = OutboxLook {
        each: 2,
        in_flight: vec![id(2), id(9)],
        ..look(40)
    };
    assert_eq!(found(&store, some).await, (vec![id(3), id(1)], None));
    let none = OutboxLook {
        in_flight: all_due,
        ..look(40)
    };
    assert_eq!(found(&store, none).await, (vec![], Some(at(90))));
}

#[tokio::test]
async fn an_endpoint_without_room_hides_no_other_however_much_it_has_due() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    for number in 1..=300 {
        ends(&store, number, at(30)).await;
    }
    let queued = job(301, &client(1));
    create(&store, &queued).await;
    let mut cancel = change(&queued, Event::CancelRequested, at(20));
    cancel.delivery = Some(NewDelivery {
        url: "https://other.example/x".parse().unwrap(),
        ..delivery(301, at(31))
    });
    assert_eq!(store.commit(cancel).await, Ok(true));
    let (others, next) = found(&store, look(40)).await;
    assert_eq!((others.len(), next), (10, None));
    for room in [0, 1] {
        let tight = OutboxLook {
            fewer: HashMap::from([("http://receiver.example".to_owned(), room)]),
            ..look(40)
        };
        let (due, next) = found(&store, tight).await;
        assert_eq!((due.len(), next), (room + 1, None));
        assert_eq!(due.last(), Some(&id(301)));
    }
    // What comes later of an endpoint without room is nobody's business now.
    let early = OutboxLook {
        fewer: HashMap::from([("http://receiver.example".to_owned(), 0)]),
        ..look(29)
    };
    assert_eq!(found(&store, early).await, (vec![], Some(at(31))));
}

#[tokio::test]
async fn every_try_is_logged_and_the_schedule_goes_on() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    ends(&store, 1, at(30)).await;
    let again = DeliveryState::Pending { due_at: at(50) };
    assert_eq!(store.record_try(id(1), 0, made(31), again).await, Ok(true));
    assert_eq!(found(&store, look(49)).await, (vec![], Some(at(50))));
    assert_eq!(seen(&store, look(50)).await.due[0].tries, 1);
    let taken = DeliveryTry {
        status: Some(200),
        error: None,
        signed: false,
        ..made(51)
    };
    let delivered = DeliveryState::Delivered;
    assert_eq!(
        store.record_try(id(1), 0, taken.clone(), delivered).await,
        Ok(true)
    );
    assert_eq!(found(&store, look(99)).await, (vec![], None));
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
    assert_eq!(
        store.record_try(id(9), 0, made(1), delivered).await,
        Ok(false)
    );
}

#[tokio::test]
async fn a_delivery_can_be_begun_anew() {
    let (store, _dir) = store();
    store.insert_client(client(1)).await.unwrap();
    ends(&store, 1, at(30)).await;
    let given_up = store
        .record_try(id(1), 0, made(31), DeliveryState::GivenUp)
        .await;
    assert_eq!(given_up, Ok(true));
    assert_eq!(found(&store, look(99)).await, (vec![], None));
    assert_eq!(
        store
            .redeliver(job(1, &client(1)).id, id(1), at(60), None)
            .await,
        Ok(Some("http://receiver.example".to_owned()))
    );
    let due = seen(&store, look(60)).await.due;
    assert_eq!((due[0].id, due[0].tries, due[0].round), (id(1), 0, 1));
    let log = store.deliveries_of(job(1, &client(1)).id).await.unwrap();
    assert_eq!(log[0].tries.len(), 1, "what was tried stays in the log");
    assert_eq!(
        store
            .redeliver(job(1, &client(1)).id, id(9), at(60), None)
            .await,
        Ok(None)
    );
}

#[tokio::test]
async fn a_try_that_began_before_a_delivery_was_begun_anew_is_logged_and_changes_nothing() {
    let job = job(1, &client(1)).id;
    for outcome in [
        DeliveryState::Delivered,
        DeliveryState::GivenUp,
        DeliveryState::Pending { due_at: at(900) },
    ] {
        let (store, _dir) = store();
        store.insert_client(client(1)).await.unwrap();
        ends(&store, 1, at(30)).await;
        let again = store.redeliver(job, id(1), at(60), None).await.unwrap();
        assert!(again.is_some());
        assert_eq!(
            store.record_try(id(1), 0, made(31), outcome).await,
            Ok(true)
        );
        let log = store.deliveries_of(job).await.unwrap().remove(0);
        assert_eq!(log.tries, [made(31)]);
        assert_eq!(log.state, DeliveryState::Pending { due_at: at(60) });
        let due = seen(&store, look(60)).await.due;
        assert_eq!((due[0].tries, due[0].round), (0, 1));
        assert_eq!(
            store.record_try(id(1), 1, made(61), outcome).await,
            Ok(true)
        );
        let log = store.deliveries_of(job).await.unwrap().remove(0);
        assert_eq!((log.tries.len(), log.state), (2, outcome));
    }
}
