//! Whose turn it is: between clients, by priority, and within each client's limit.

use agent_domain::{Client, Edit, Ending, Event, Facts, Job, JobId, Priority, Timestamp};
use agent_storage::{JobWithClient, Store};
use rusqlite::Connection;

use crate::kit::{at, claimed, client, create, happens, job, open, store};

async fn claim(store: &Store, limit: u32) -> Vec<Job> {
    let claims = store.claim(limit, at(100), |job| Some(claimed(job, at(100))));
    let taken = |found: JobWithClient| found.job;
    claims.await.unwrap().into_iter().map(taken).collect()
}

async fn claim_one(store: &Store) -> Job {
    claim(store, 1).await.remove(0)
}

/// One after the other, by client and number.
async fn order(store: &Store, count: usize) -> Vec<(u64, u64)> {
    let mut order = Vec::new();
    for _ in 0..count {
        let job = claim_one(store).await;
        let owner = (1..=9).find(|number| client(*number).id == job.client_id);
        let branch = job.spec.branch.as_str().trim_start_matches("job-");
        order.push((owner.unwrap(), branch.parse().unwrap()));
    }
    order
}

async fn with_clients(store: &Store, count: u64) {
    for number in 1..=count {
        store.insert_client(client(number)).await.unwrap();
    }
}

fn of(owner: u64, number: u64, priority: i64) -> Job {
    Job {
        priority: Priority::try_from(priority).unwrap(),
        ..job(number, &client(owner))
    }
}

async fn end(store: &Store, running: &Job) {
    let event = Event::Finished {
        fence: running.fence,
        ending: Ending::Completed,
        facts: Facts::default(),
    };
    happens(store, running, event, at(101)).await;
}

/// Adds queued jobs as rows, as the store would have: through it, a hundred thousand take minutes.
fn add_rows(path: &std::path::Path, owner: &Client, count: u64) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(&format!(
        "BEGIN;
         INSERT INTO jobs (seq, id, client_id, branch, version, attempt, fence, status, ready_seq,
             created_at, updated_at)
         WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
         SELECT n, printf('%032x', n + 1000000), '{id}', 'row-' || n, 0, 0, 0, 'queued',
             1152921504606846976 + 10000000, 10000000, 10000000
         FROM n;
         INSERT INTO job_prompts SELECT seq, 'do it' FROM jobs;
         INSERT INTO job_history (job_seq, version, at, event, status, attempt)
         SELECT seq, 0, created_at, 'created', 'queued', 0 FROM jobs;
         INSERT INTO job_counts (client_id, bucket, jobs)
         VALUES ('{id}', 'ready', {count}), ('', 'ready', {count});
         INSERT INTO lanes (client_id, tag, head, head_seq, turn, open)
         SELECT client_id, 0, min(ready_seq), seq, 0, 1 FROM jobs;
         COMMIT",
        id = owner.id,
    ))
    .unwrap();
}

#[tokio::test]
async fn the_first_job_of_a_client_is_next_although_another_has_a_hundred_thousand_waiting() {
    let (store, dir) = store();
    with_clients(&store, 3).await;
    store.close().await;
    drop(store);
    add_rows(&dir.path().join("agent.db"), &client(1), 100_000);
    let store = open(&dir);
    let running = claim(&store, 2).await;
    assert_eq!(running.len(), 2, "both slots are the busy client's");

    let first = of(2, 1, 0);
    assert_eq!(create(&store, &first).await.position, 1);
    end(&store, &running[0]).await;
    assert_eq!(
        claim_one(&store).await.id,
        first.id,
        "at one slot's turnover"
    );

    // Also when it had a turn just now, or when the busy one's jobs are all more urgent.
    let second = of(2, 2, 0);
    assert_eq!(create(&store, &second).await.position, 2);
    assert_eq!(claim_one(&store).await.client_id, client(1).id);
    assert_eq!(claim_one(&store).await.id, second.id);
    let other = of(3, 3, 0);
    assert_eq!(create(&store, &other).await.position, 1);
    assert_eq!(claim_one(&store).await.id, other.id);
}

#[tokio::test]
async fn clients_take_turns_and_each_has_its_jobs_in_the_order_of_their_creation() {
    let (store, _dir) = store();
    with_clients(&store, 3).await;
    for (number, owner) in [1, 1, 1, 1, 2, 2, 3].into_iter().enumerate() {
        create(&store, &of(owner, number as u64, 0)).await;
    }
    let expected = [(1, 0), (2, 4), (3, 6), (1, 1), (2, 5), (1, 2), (1, 3)];
    assert_eq!(order(&store, 7).await, expected);
}

#[tokio::test]
async fn what_is_shown_as_the_queue_is_the_order_in_which_it_is_taken() {
    let (store, _dir) = store();
    with_clients(&store, 4).await;
    for number in 0..60_u64 {
        let priority = i64::try_from(number * 37 % 201).unwrap() - 100;
        create(&store, &of(number % 7 % 4 + 1, number, priority)).await;
    }
    let shown = store.queue(500).await.unwrap().ready;
    assert_eq!(shown.len(), 60);
    let first = store.queue(7).await.unwrap().ready;
    assert_eq!(first, shown[..7]);
    for expected in shown {
        assert_eq!(claim_one(&store).await.id, expected.id);
    }
}

#[tokio::test]
async fn the_more_urgent_job_goes_first_and_by_no_more_than_its_priority_is_worth() {
    let (store, _dir) = store();
    with_clients(&store, 1).await;
    let accepted = |hour: i64, number: u64, priority: i64| Job {
        created_at: at(hour * 3600),
        ..of(1, number, priority)
    };
    for (hour, number, priority) in [(0, 0, 0), (1, 1, 0), (5, 2, 0), (6, 3, 4), (6, 4, -3)] {
        create(&store, &accepted(hour, number, priority)).await;
    }
    let line: Vec<_> = order(&store, 5).await.iter().map(|(_, job)| *job).collect();
    assert_eq!(line, [0, 1, 3, 2, 4]);
}

#[tokio::test]
async fn a_waiting_job_can_be_made_urgent() {
    let (store, _dir) = store();
    with_clients(&store, 2).await;
    for number in 0..3 {
        create(&store, &of(1, number, 0)).await;
    }
    create(&store, &of(2, 3, 0)).await;
    let urgent = Event::Reprioritized(Priority::MOST);
    happens(&store, &of(1, 2, 0), urgent, at(20)).await;
    let id = |number| job(number, &client(1)).id;
    let shown: Vec<JobId> = store
        .queue(9)
        .await
        .unwrap()
        .ready
        .iter()
        .map(|j| j.id)
        .collect();
    // Its client is served at once, and has had its turn with that.
    assert_eq!(shown, [id(2), id(3), id(0), id(1)]);
    assert_eq!(order(&store, 4).await, [(1, 2), (2, 3), (1, 0), (1, 1)]);
}

#[tokio::test]
async fn a_client_has_no_more_jobs_running_than_it_may_and_nobody_waits_for_it() {
    let (store, _dir) = store();
    let limited = Client {
        max_concurrent: Some(2),
        ..client(1)
    };
    store.insert_client(limited).await.unwrap();
    store.insert_client(client(2)).await.unwrap();
    for number in 0..6 {
        create(&store, &of(1, number, 100)).await;
    }
    for number in 6..9 {
        create(&store, &of(2, number, -100)).await;
    }
    let running = claim(&store, 9).await;
    let of_first = |jobs: &[Job]| {
        jobs.iter()
            .filter(|job| job.client_id == client(1).id)
            .count()
    };
    assert_eq!((running.len(), of_first(&running)), (5, 2));
    assert_eq!(claim(&store, 9).await, []);
    end(&store, &running[0]).await;
    assert_eq!(of_first(&claim(&store, 9).await), 1);

    let wider = agent_domain::ClientChange {
        max_concurrent: Edit::Set(3),
        ..Default::default()
    };
    store
        .update_client(client(1).id, wider, at(102))
        .await
        .unwrap();
    assert_eq!(claim(&store, 9).await.len(), 1);
    let unlimited = agent_domain::ClientChange {
        max_concurrent: Edit::Clear,
        ..Default::default()
    };
    store
        .update_client(client(1).id, unlimited, at(103))
        .await
        .unwrap();
    assert_eq!(claim(&store, 9).await.len(), 2);
}

#[tokio::test]
async fn a_client_that_was_at_its_limit_has_saved_up_no_turns() {
    let (store, _dir) = store();
    let limited = Client {
        max_concurrent: Some(1),
        ..client(1)
    };
    store.insert_client(limited).await.unwrap();
    store.insert_client(client(2)).await.unwrap();
    for number in 0..10 {
        create(&store, &of(1, number, 0)).await;
    }
    for number in 10..40 {
        create(&store, &of(2, number, 0)).await;
    }
    assert_eq!(claim(&store, 12).await.len(), 12);
    let unlimited = agent_domain::ClientChange {
        max_concurrent: Edit::Clear,
        ..Default::default()
    };
    store
        .update_client(client(1).id, unlimited, at(102))
        .await
        .unwrap();
    let owners = order(&store, 8).await;
    let of_first = owners.iter().filter(|(owner, _)| *owner == 1).count();
    assert!((4..=5).contains(&of_first), "{owners:?}");
}

#[tokio::test]
async fn jobs_of_a_client_that_nothing_can_be_decided_for_hold_nobody_up() {
    let (store, _dir) = store();
    with_clients(&store, 2).await;
    for number in 0..5 {
        create(&store, &of(1, number, 0)).await;
    }
    create(&store, &of(2, 5, 0)).await;
    let now: Timestamp = at(100);
    let only = move |job: &Job| {
        let second = job.client_id == client(2).id;
        let last = job.spec.branch.as_str() == "job-4";
        (second || last).then(|| claimed(job, now))
    };
    let claims = store.claim(9, now, only).await.unwrap();
    let branches: Vec<_> = claims
        .iter()
        .map(|found| found.job.spec.branch.as_str())
        .collect();
    assert_eq!(branches, ["job-4", "job-5"]);
    assert_eq!(claim(&store, 9).await.len(), 4);
}
