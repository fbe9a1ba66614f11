//! Jobs that wait for other jobs.

use std::time::Duration;

use agent_domain::{
    Assignment, Coordinator as _, Ending, Facts, JobId, Reason, Report, State, Status,
};
use agent_queue::EngineError;

use crate::stage::Stage;

async fn stage() -> Stage {
    Stage::new(Duration::from_mins(1)).await
}

async fn finish(stage: &Stage, running: &Assignment, ending: Ending) {
    let report = Report {
        ending,
        facts: Facts::default(),
    };
    stage.engine.finish(&running.lease, report).await.unwrap();
}

/// Claims the one job that is ready and completes it.
async fn complete_next(stage: &Stage) -> JobId {
    stage.until_ready(1).await;
    let mut claimed = stage.claim(9).await;
    assert_eq!(claimed.len(), 1, "one and no other is ready");
    let running = claimed.remove(0);
    finish(stage, &running, Ending::Completed).await;
    running.lease.job
}

fn broken() -> Ending {
    Ending::Failed {
        reason: Reason::AgentFailed,
        error: "gave up".into(),
    }
}

/// Why a job failed, once it has.
async fn failure(stage: &Stage, job: JobId) -> (Reason, String) {
    stage.until(job, Status::Failed).await;
    match stage.job(job).await.state {
        State::Failed { reason, error, .. } => (reason, error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_and_a_diamond_run_in_their_order() {
    let stage = stage().await;
    let top = stage.submit("top").await;
    let left = stage.submit_after("left", &[top]).await;
    let right = stage.submit_after("right", &[top]).await;
    let bottom = stage.submit_after("bottom", &[left, right, left]).await;
    let last = stage.submit_after("last", &[bottom, top]).await;
    let queue = stage.engine.queue(9).await.unwrap();
    let shown: Vec<_> = queue
        .parked
        .iter()
        .map(|job| (job.id, job.reason))
        .collect();
    let waiting = Some(Reason::WaitingForJobs);
    assert_eq!(shown, [left, right, bottom, last].map(|job| (job, waiting)));
    assert_eq!(
        stage.job(bottom).await.spec.depends_on.len(),
        2,
        "each once"
    );

    assert_eq!(complete_next(&stage).await, top);
    stage.until_ready(2).await;
    let both = stage.claim(9).await;
    assert_eq!(both[0].lease.job, left);
    finish(&stage, &both[1], Ending::Completed).await;
    assert!(
        stage.claim(9).await.is_empty(),
        "one of the two is not enough"
    );
    finish(&stage, &both[0], Ending::Completed).await;
    assert_eq!(complete_next(&stage).await, bottom);
    assert_eq!(complete_next(&stage).await, last);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_job_fails_or_is_cancelled_all_that_wait_for_it_fail_and_call_back() {
    let stage = stage().await;
    let first = stage.submit("first").await;
    let other = stage.submit("other").await;
    let second = stage.submit_after("second", &[first, other]).await;
    let third = stage.submit_after("third", &[second]).await;
    let running = stage.claim(1).await.remove(0);
    assert_eq!(running.lease.job, first);
    finish(&stage, &running, broken()).await;
    for (job, cause) in [(second, first), (third, second)] {
        let (reason, error) = failure(&stage, job).await;
        assert_eq!(reason, Reason::DependencyFailed);
        assert!(error.contains(&cause.to_string()), "{error}");
        assert_eq!(stage.store.deliveries_of(job).await.unwrap().len(), 1);
    }
    assert_eq!(stage.status(other).await, Status::Queued);

    let fourth = stage.submit_after("fourth", &[other]).await;
    stage.engine.cancel_once(other, true, None).await.unwrap();
    let (_, error) = failure(&stage, fourth).await;
    assert!(error.ends_with("was cancelled"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_for_ended_ones_begins_or_fails_at_once() {
    let stage = stage().await;
    let good = stage.submit("good").await;
    complete_next(&stage).await;
    let after = stage.submit_after("after", &[good]).await;
    assert_eq!(complete_next(&stage).await, after);
    let bad = stage.running("bad").await;
    finish(&stage, &bad, broken()).await;
    let never = stage.submit_after("never", &[good, bad.lease.job]).await;
    assert_eq!(failure(&stage, never).await.0, Reason::DependencyFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_job_cannot_be_waited_for_and_nothing_is_stored() {
    let stage = stage().await;
    let unknown = JobId::from_bytes([7; 16]);
    let refused = stage.try_submit_after("a", &[unknown]).await.unwrap_err();
    assert!(
        matches!(
            refused,
            EngineError::Field {
                field: "dependsOn",
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(stage.engine.health().await.unwrap().parked, 0);
    stage.submit("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_seen_to_before_a_crash_is_seen_to_after_it() {
    let mut stage = stage().await;
    let first = stage.submit("first").await;
    let second = stage.submit_after("second", &[first]).await;
    let running = stage.claim(1).await.remove(0);
    // Nobody is there to see to it: only the end itself is stored.
    stage.engine.stop(Duration::from_secs(1)).await;
    finish(&stage, &running, Ending::Completed).await;
    assert!(!stage.store.dependency_news(9).await.unwrap().is_empty());
    stage.restart().await;
    assert_eq!(complete_next(&stage).await, second);
    assert_eq!(stage.store.dependency_news(9).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_job_that_was_forgotten_meanwhile_still_counts_as_completed() {
    let stage = stage().await;
    let [first, second] = [stage.submit("first").await, stage.submit("second").await];
    let third = stage.submit_after("third", &[first, second]).await;
    let mut both = stage.claim(2).await;
    finish(&stage, &both.remove(0), Ending::Completed).await;
    assert_eq!(stage.store.forget_jobs(vec![first]).await.unwrap(), 1);
    finish(&stage, &both.remove(0), Ending::Completed).await;
    assert_eq!(complete_next(&stage).await, third);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_for_nothing() {
    let stage = stage().await;
    let first = stage.submit("first").await;
    let second = stage.submit_after("second", &[first]).await;
    stage.engine.cancel_once(first, true, None).await.unwrap();
    failure(&stage, second).await;
    let (engine, own) = (&stage.engine, agent_domain::JobSecrets::default());
    let again = Box::pin(engine.retry_once(second, own, false, None));
    assert!(again.await.is_ok());
    let claimed = complete_next(&stage).await;
    assert_eq!(stage.job(claimed).await.retry_of, Some(second));
}
