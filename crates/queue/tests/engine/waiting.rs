//! The order of waiting jobs, over hours, and how they are waited for.

use std::time::Duration;

use agent_domain::{
    ClientChange, Coordinator as _, Edit, Ending, Facts, JobId, Priority, Reason, Report, Status,
};

use crate::stage::Stage;

const HOUR: i64 = 3600;

async fn submit(stage: &Stage, branch: &str, priority: i64) -> JobId {
    let id = stage.submit(branch).await;
    let priority = Priority::try_from(priority).unwrap();
    stage.engine.reprioritize(id, priority).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_waited_longer_than_another_is_urgent_goes_first_so_that_nobody_waits_for_ever() {
    let stage = Stage::new(Duration::from_secs(30)).await;
    let patient = submit(&stage, "patient", 0).await;
    let unhurried = submit(&stage, "unhurried", -2).await;
    let mut order = Vec::new();
    // Every hour one is done and a more urgent one comes in.
    for hour in 0..7 {
        let urgent = submit(&stage, &format!("urgent-{hour}"), 3).await;
        let run = stage.claim(1).await.remove(0);
        order.push(match run.lease.job {
            id if id == urgent => "urgent",
            id if id == patient => "patient",
            id if id == unhurried => "unhurried",
            _ => "urgent before",
        });
        let report = Report {
            ending: Ending::Completed,
            facts: Facts::default(),
        };
        stage.engine.finish(&run.lease, report).await.unwrap();
        stage.clock.step(HOUR);
    }
    // After three hours, and five, the two are as urgent as what comes in then, and were there first.
    let before = "urgent before";
    let expected = [
        "urgent",
        "urgent",
        "urgent",
        "patient",
        before,
        before,
        "unhurried",
    ];
    assert_eq!(order, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_at_the_end_of_a_wait_has_a_holder() {
    let stage = Stage::new(Duration::from_secs(30)).await;
    let claim = || stage.engine.claim(&stage.worker, 1, Duration::ZERO);
    assert_eq!(claim().await.unwrap(), []);
    let id = stage.submit("a").await;
    assert_eq!(claim().await.unwrap()[0].lease.job, id);
    assert_eq!(stage.status(id).await, Status::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_time_has_no_place_before_it_and_the_place_of_its_acceptance_then() {
    let stage = Stage::new(Duration::from_secs(30)).await;
    let later = stage.submit_in("later", 7200).await;
    assert_eq!(later.position, None);
    let due = stage.submit_in("due", 0).await;
    assert_eq!(
        due.position,
        Some(1),
        "a time that has come is none to wait for"
    );
    assert_eq!(stage.claim(9).await.len(), 1);
    stage.clock.step(2 * HOUR - 1);
    stage.submit("young").await;
    let young = stage.claim(9).await;
    assert_eq!(
        (young.len(), stage.status(later.id).await),
        (1, Status::Queued)
    );
    stage.submit("younger").await;
    stage.clock.step(1);
    assert_eq!(stage.claim(1).await[0].lease.job, later.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_runs_may_be_lost_is_the_jobs_else_its_clients_when_it_was_taken_in() {
    let stage = Stage::new(Duration::from_secs(30)).await;
    let before = stage.running("before").await;
    let client = stage.job(before.lease.job).await.client_id;
    let mut change = ClientChange::default();
    change.options.max_attempts = Edit::Set(1);
    stage.engine.update_client(client, change).await.unwrap();
    let after = stage.running("after").await;
    for (run, expected) in [(before, Reason::Lost), (after, Reason::Poison)] {
        let ending = Ending::Lost {
            error: "killed".into(),
        };
        let facts = Facts::default();
        let report = Report { ending, facts };
        stage.engine.finish(&run.lease, report).await.unwrap();
        let job = stage.job(run.lease.job).await;
        assert_eq!(job.state.reason(), Some(expected));
    }
}
