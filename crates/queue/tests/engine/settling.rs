//! What a restart makes of what was running.

use std::time::Duration;

use agent_domain::{
    Coordinator as _, CoordinatorError, Ending, Facts, Fence, Finding, Found, Holding, JobId,
    Phase, Reason, Report, State, Status, Usd, WorkerId,
};

use crate::stage::{Stage, told};

const LEASE: Duration = Duration::from_secs(30);

fn finding(holding: &Holding, found: Found) -> Finding {
    Finding {
        lease: holding.lease,
        found,
    }
}

fn lost() -> Found {
    Found::Lost {
        seen: "its supervisor was killed".into(),
        facts: Box::new(Facts {
            usage: Some(told(0.25)),
            ..Facts::default()
        }),
    }
}

async fn ready(stage: &Stage) -> Vec<JobId> {
    let queue = stage.store.queue(100).await.unwrap();
    queue.ready.iter().map(|job| job.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_is_told_to_its_own_worker_only() {
    let mut stage = Stage::new(LEASE).await;
    let own = stage.running("a").await.lease;
    stage.restart().await;
    let held = stage.engine.held(&stage.worker).await.unwrap();
    let expected = Holding {
        lease: own,
        phase: Phase::Fetching,
        log: stage.engine.log_path(own.job, own.attempt),
    };
    assert_eq!(held, [expected]);
    let other = WorkerId("other".into());
    assert_eq!(stage.engine.held(&other).await, Ok(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_not_begun_goes_back_to_the_front_in_order_and_at_no_cost() {
    let mut stage = Stage::new(LEASE).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(stage.submit(&format!("b{number}")).await);
    }
    assert_eq!(stage.claim(3).await.len(), 3);
    stage.restart().await;
    let held = stage.engine.held(&stage.worker).await.unwrap();
    let findings = held
        .iter()
        .map(|it| finding(it, Found::Unstarted))
        .collect();
    assert_eq!(
        stage.engine.settle(&stage.worker, findings).await,
        Ok(vec![])
    );
    assert_eq!(ready(&stage).await, ids);
    let job = stage.job(ids[0]).await;
    assert_eq!(job.lost_runs, []);
    assert_eq!(stage.claim(9).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_gets_a_new_fence_and_the_old_one_is_stale() {
    let mut stage = Stage::new(LEASE).await;
    let before = stage.running("a").await;
    let facts = Facts {
        session_id: Some("s".into()),
        ..Facts::default()
    };
    let entered = stage
        .engine
        .progress(&before.lease, Phase::Agent, facts.clone());
    entered.await.unwrap();
    stage.restart().await;
    let held = stage.engine.held(&stage.worker).await.unwrap();
    let findings = vec![finding(&held[0], Found::Kept)];
    let leases = stage
        .engine
        .settle(&stage.worker, findings.clone())
        .await
        .unwrap();
    assert_eq!(
        (leases.len(), leases[0].attempt, leases[0].fence),
        (1, 1, Fence(2))
    );
    let taken = stage.engine.take_up(&leases[0]).await.unwrap();
    assert_eq!(
        (taken.resume_from, taken.facts),
        (Some(Phase::Agent), facts)
    );
    assert_eq!(&*taken.prompt, "do it");
    // The same findings again are those of a worker that lives in the past.
    assert_eq!(
        stage.engine.settle(&stage.worker, findings).await,
        Ok(vec![])
    );
    let old = stage.engine.take_up(&before.lease).await;
    assert_eq!(old, Err(CoordinatorError::Stale(before.lease.job)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_end_for_good_is_given_back_to_its_worker_to_end_it() {
    let mut stage = Stage::new(LEASE).await;
    let cancelled = stage.running("cancelled").await.lease;
    let cancelling = stage.engine.cancel_once(cancelled.job, false, None);
    cancelling.await.unwrap();
    let poison = stage.submit("poison").await;
    for _ in 0..2 {
        stage.clock.step(10);
        let lease = stage.claim(1).await.remove(0).lease;
        let ending = Ending::Lost {
            error: "gone".into(),
        };
        let facts = Facts::default();
        let report = Report { ending, facts };
        stage.engine.finish(&lease, report).await.unwrap();
    }
    stage.clock.step(10);
    stage.claim(1).await.remove(0);
    let lost_once = stage.running("once").await.lease.job;
    stage.restart().await;
    let held = stage.engine.held(&stage.worker).await.unwrap();
    let findings = held.iter().map(|it| finding(it, lost())).collect();
    let leases = stage.engine.settle(&stage.worker, findings).await.unwrap();
    let mut kept: Vec<_> = leases.iter().map(|lease| lease.job).collect();
    let mut expected = [cancelled.job, poison];
    kept.sort();
    expected.sort();
    assert_eq!(kept, expected);
    for job in expected {
        assert_eq!(stage.status(job).await, Status::Running);
    }
    let waiting = stage.job(lost_once).await;
    assert!(
        matches!(
            waiting.state,
            State::Queued {
                not_before: Some(_),
                reason: Some(Reason::Lost)
            }
        ),
        "{waiting:?}"
    );
    assert_eq!(waiting.lost_runs.len(), 1);
    assert_eq!(waiting.facts.cost, Usd::from_dollars(0.25));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_ready_when_everything_is_settled() {
    let mut stage = Stage::new(LEASE).await;
    stage.running("a").await;
    stage.restart().await;
    assert!(!stage.engine.readiness().await.is_ready());
    let held = stage.engine.held(&stage.worker).await.unwrap();
    let findings = vec![finding(&held[0], Found::Unstarted)];
    stage.engine.settle(&stage.worker, findings).await.unwrap();
    assert!(stage.engine.readiness().await.is_ready());
}
