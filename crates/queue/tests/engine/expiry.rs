//! A lease ends when its holder is silent, and only then.

use std::time::Duration;

use agent_domain::{
    Class, Coordinator as _, CoordinatorError, Directive, Ending, Facts, Fence, Lease, Phase,
    Reason, Report, Status,
};

use crate::stage::Stage;

const SHORT: Duration = Duration::from_millis(600);
const LONG: Duration = Duration::from_secs(3);

fn report() -> Report {
    Report {
        ending: Ending::Completed,
        facts: Facts::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_run_was_lost_goes_on_although_the_clock_was_set_back_meanwhile() {
    let stage = Stage::new(SHORT).await;
    let lease = stage.running("a").await.lease;
    stage.until(lease.job, Status::Queued).await;
    stage.clock.step(-3600);
    let engine = &stage.engine;
    let claimed = engine.claim(&stage.worker, 1, Duration::from_mins(1)).await;
    assert_eq!(claimed.unwrap()[0].lease.attempt, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_nobody_renews_is_queued_again_and_its_old_holder_is_refused_and_counted() {
    let stage = Stage::new(SHORT).await;
    let lease = stage.running("a").await.lease;
    stage.until(lease.job, Status::Queued).await;
    let job = stage.job(lease.job).await;
    assert_eq!(job.state.reason(), Some(Reason::Lost));
    assert!(
        job.lost_runs[0].seen.contains("w was not heard of"),
        "{job:?}"
    );

    // It waits for a second or so of the wall clock before it is handed out again.
    assert!(stage.claim(1).await.is_empty());
    stage.clock.step(2);
    let again = stage.claim(1).await.remove(0);
    assert_eq!((again.lease.attempt, again.lease.fence), (2, Fence(2)));

    let engine = &stage.engine;
    let refusal = CoordinatorError::Stale(lease.job);
    assert_eq!(refusal.class(), Class::Conflict);
    let refused = Err(refusal);
    assert_eq!(engine.heartbeat(&[lease]).await, Ok(vec![lease.job]));
    let facts = Facts {
        exit_code: Some(99),
        ..Facts::default()
    };
    assert_eq!(
        engine.progress(&lease, Phase::Delivering, facts).await,
        refused
    );
    assert_eq!(engine.finish(&lease, report()).await, refused);
    assert_eq!(stage.stale_writes().await, 3);
    assert!(engine.directive(&lease, Directive::Continue).await.is_err());
    let after = stage.job(lease.job).await;
    assert_eq!(after.facts, Facts::default(), "nothing of it was stored");
    assert_eq!(engine.finish(&again.lease, report()).await, Ok(()));
    assert_eq!(stage.status(lease.job).await, Status::Completed);
    assert_eq!(stage.stale_writes().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_about_to_stop_leaves_what_its_worker_held_to_the_next_one() {
    let stage = Stage::new(SHORT).await;
    let lease = stage.running("a").await.lease;
    stage.engine.drain();
    tokio::time::sleep(SHORT * 4).await;
    assert_eq!(stage.status(lease.job).await, Status::Running);
    assert_eq!(stage.engine.heartbeat(&[lease]).await, Ok(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_hold_a_lease_however_the_wall_clock_jumps() {
    let stage = Stage::new(LONG).await;
    let lease = stage.running("a").await.lease;
    for seconds in [3600, -7200, 86400, 0, -1, 0, 0, 0, 0, 0, 0, 0] {
        stage.clock.step(seconds);
        tokio::time::sleep(LONG / 6).await;
        assert_eq!(stage.engine.heartbeat(&[lease]).await, Ok(vec![]));
    }
    let job = stage.job(lease.job).await;
    assert_eq!((job.attempt, job.fence), (1, lease.fence));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_does_not_keep_the_job_of_a_dead_worker() {
    let stage = Stage::new(SHORT).await;
    let lease = stage.running("a").await.lease;
    stage.clock.step(-86400);
    stage.until(lease.job, Status::Queued).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_in_which_no_server_was_up_does_not_count() {
    let mut stage = Stage::new(LONG).await;
    let lease = stage.running("a").await.lease;
    stage.engine.stop(Duration::from_secs(1)).await;
    stage.clock.step(3600);
    tokio::time::sleep(LONG + LONG / 3).await;
    stage.restart().await;
    tokio::time::sleep(LONG / 3).await;
    assert_eq!(stage.status(lease.job).await, Status::Running);
    assert_eq!(stage.engine.heartbeat(&[lease]).await, Ok(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lives_on_in_memory_while_nothing_can_be_written() {
    let stage = Stage::new(SHORT).await;
    let lease = stage.running("a").await.lease;
    stage.store.close().await;
    assert_eq!(stage.engine.heartbeat(&[lease]).await, Ok(vec![]));
    let other = Lease {
        fence: Fence(7),
        ..lease
    };
    let refused = stage.engine.heartbeat(&[other]).await.unwrap_err();
    assert_eq!(refused.class(), Class::Unavailable);
    assert_eq!(stage.stale_writes().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_lost_in_a_row_are_poison_and_the_callers_told() {
    let stage = Stage::new(SHORT).await;
    let job = stage.submit("a").await;
    for _ in 0..3 {
        stage.clock.step(10);
        assert_eq!(stage.claim(1).await.len(), 1);
        let waits = if stage.job(job).await.attempt < 3 {
            Status::Queued
        } else {
            Status::Failed
        };
        stage.until(job, waits).await;
    }
    let ended = stage.job(job).await;
    assert_eq!(ended.state.reason(), Some(Reason::Poison), "{ended:?}");
    let history = stage.engine.history(job).await.unwrap();
    let details: Vec<_> = history
        .iter()
        .filter_map(|entry| entry.detail.as_deref())
        .collect();
    assert_eq!(details.len(), 3, "{history:?}");
    assert!(details[2].starts_with("attempt 3 at "), "{details:?}");
}
