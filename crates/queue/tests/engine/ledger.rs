//! What an attempt has spent is booked with its end, whoever tells of it and however often.

use std::time::Duration;

use agent_domain::{
    Coordinator as _, Ending, Facts, Finding, Found, Lease, Phase, Report, RunUsage, Status, Usd,
};

use crate::stage::{Stage, told};

const SHORT: Duration = Duration::from_millis(600);
const LONG: Duration = Duration::from_secs(30);

fn report(usage: Option<RunUsage>) -> Report {
    let facts = Facts {
        usage,
        ..Facts::default()
    };
    Report {
        ending: Ending::Completed,
        facts,
    }
}

async fn cost(stage: &Stage, lease: &Lease) -> Option<f64> {
    stage.job(lease.job).await.facts.cost.map(Usd::dollars)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_booked_once_and_a_stale_one_not_at_all() {
    let stage = Stage::new(LONG).await;
    let lease = stage.running("a").await.lease;
    let engine = &stage.engine;
    assert_eq!(
        engine.finish(&lease, report(Some(told(0.25)))).await,
        Ok(())
    );
    assert!(
        engine
            .finish(&lease, report(Some(told(0.25))))
            .await
            .is_err()
    );
    assert_eq!(cost(&stage, &lease).await, Some(0.25));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_lease_expires_is_booked_with_what_its_log_tells() {
    let stage = Stage::new(SHORT).await;
    let first = stage.running("a").await;
    Stage::write_log(&first.log, "0.25");
    stage.until(first.lease.job, Status::Queued).await;
    assert_eq!(cost(&stage, &first.lease).await, Some(0.25));
    let late = stage
        .engine
        .finish(&first.lease, report(Some(told(0.25))))
        .await;
    assert!(late.is_err());
    stage.clock.step(2);
    let again = stage.claim(1).await.remove(0).lease;
    let done = stage.engine.finish(&again, report(Some(told(0.5)))).await;
    assert_eq!(done, Ok(()));
    assert_eq!(cost(&stage, &first.lease).await, Some(0.75));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_found_lost_after_a_restart_is_booked_with_what_its_log_tells() {
    let mut stage = Stage::new(LONG).await;
    let first = stage.running("a").await;
    let entered = stage
        .engine
        .progress(&first.lease, Phase::Agent, Facts::default());
    entered.await.unwrap();
    Stage::write_log(&first.log, "0.25");
    stage.restart().await;
    let held = stage.engine.held(&stage.worker).await.unwrap();
    let seen = "its supervisor was killed".to_owned();
    let finding = Finding {
        lease: held[0].lease,
        found: Found::Lost {
            seen,
            facts: Box::default(),
        },
    };
    for _ in 0..2 {
        let settled = stage.engine.settle(&stage.worker, vec![finding.clone()]);
        assert_eq!(settled.await, Ok(vec![]));
        assert_eq!(cost(&stage, &first.lease).await, Some(0.25));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_without_a_figure_is_booked_with_what_the_log_tells() {
    let stage = Stage::new(LONG).await;
    let run = stage.running("a").await;
    // Told with a phase, and forgotten with the server it was told to.
    let facts = report(Some(told(0.125))).facts;
    let entered = stage.engine.progress(&run.lease, Phase::Delivering, facts);
    entered.await.unwrap();
    assert_eq!(cost(&stage, &run.lease).await, None);
    Stage::write_log(&run.log, "0.25");
    let done = stage.engine.finish(&run.lease, report(None)).await;
    assert_eq!(done, Ok(()));
    assert_eq!(cost(&stage, &run.lease).await, Some(0.25));
}
