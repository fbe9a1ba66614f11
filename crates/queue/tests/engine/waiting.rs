//! The order of waiting jobs, over hours, and how they are waited for.

use std::time::Duration;

use agent_domain::{Coordinator as _, Ending, Facts, JobId, Priority, Report, Status};

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
