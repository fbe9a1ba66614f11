//! Forgetting ended jobs: which go, with what, and which stay.

use std::time::Duration;

use agent_domain::{Assignment, Ending, Facts, LogStream};
use agent_queue::Retention;
use serde_json::json;

use crate::stage::{Stage, id_of};

const DAY: i64 = 24 * 60 * 60;
const A_WEEK: Retention = Retention {
    age: Some(Duration::from_hours(7 * 24)),
    logs: None,
};

/// A job that ran, with a log of so many bytes and more.
async fn ended(stage: &Stage, branch: &str, log: usize) -> Assignment {
    stage.job(branch).await;
    end_next(stage, log).await
}

async fn end_next(stage: &Stage, log: usize) -> Assignment {
    let assignment = stage.claim().await;
    stage.write_log(&assignment, &[(LogStream::Stdout, &"x".repeat(log))]);
    let ending = Ending::Completed;
    stage.finish(&assignment, ending, Facts::default()).await;
    assignment
}

async fn status(stage: &Stage, job: &Assignment) -> u16 {
    let path = format!("/jobs/{}", job.lease.job);
    stage.send("GET", &path, "").await.status
}

/// Waits until the first look after the start is over.
async fn looked(stage: &Stage, gone: &Assignment) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while status(stage, gone).await != 404 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("forgotten in time");
}

#[tokio::test]
async fn a_job_is_forgotten_so_long_after_its_end_with_log_saved_work_and_counts() {
    let stage = Stage::new().await;
    let old = ended(&stage, "old", 10).await;
    std::fs::write(&old.session, "{}").unwrap();
    stage.clock.forward(5 * DAY);
    let young = ended(&stage, "young", 10).await;
    let waiting = stage.job("waiting").await;

    let stage = stage.keeping(A_WEEK, 3 * DAY).await;
    looked(&stage, &old).await;
    assert!(!old.session.exists() && !old.log.parent().unwrap().exists());
    assert_eq!(*stage.mirrors.forgotten.lock().unwrap(), [old.lease.job]);
    for path in ["history", "log", "deliveries"] {
        let path = format!("/jobs/{}/{path}", old.lease.job);
        assert_eq!(stage.send("GET", &path, "").await.status, 404, "{path}");
    }
    assert_eq!(status(&stage, &young).await, 200);
    assert!(young.log.exists());
    let left = stage.get("/jobs").await;
    assert_eq!(left["total"], 2, "{left:#}");
    assert_eq!(
        stage.get(&format!("/jobs/{waiting}")).await["status"],
        "queued"
    );
    stage.close().await;
}

#[tokio::test]
async fn a_job_stays_while_its_callback_is_not_delivered_or_an_unfinished_job_repeats_it() {
    let stage = Stage::new().await;
    let plain = ended(&stage, "plain", 1).await;
    let body = json!({
        "githubOrg": "acme", "githubRepo": "shop", "prompt": "do it", "branchName": "calls",
        "osCallbackUrl": "https://nobody.invalid/",
    });
    id_of(&stage.send("POST", "/jobs", &body.to_string()).await);
    let calls = end_next(&stage, 1).await;
    let repeated = ended(&stage, "repeated", 1).await;
    let path = format!("/jobs/{}/retry", repeated.lease.job);
    id_of(&stage.send("POST", &path, "").await);

    let stage = stage.keeping(A_WEEK, 8 * DAY).await;
    looked(&stage, &plain).await;
    assert_eq!(status(&stage, &calls).await, 200);
    assert_eq!(status(&stage, &repeated).await, 200);
    stage.close().await;
}

#[tokio::test]
async fn beyond_their_room_the_longest_ended_jobs_go_until_the_logs_fit() {
    let stage = Stage::new().await;
    let mut jobs = Vec::new();
    // More than one batch, so that it is seen to stop between two.
    for n in 0..120 {
        jobs.push(ended(&stage, &format!("job-{n}"), 10_000).await);
        stage.clock.forward(1);
    }
    let stray = stage.dir.path().join("logs").join("f".repeat(32));
    std::fs::create_dir_all(&stray).unwrap();
    std::fs::write(stray.join("1.log"), vec![b'x'; 10_000_000]).unwrap();

    let keep = Retention {
        age: None,
        logs: Some(800_000),
    };
    let stage = stage.keeping(keep, 1).await;
    looked(&stage, &jobs[49]).await;
    assert!(!stray.exists(), "what belongs to no job is not counted");
    assert_eq!(status(&stage, &jobs[119]).await, 200);
    assert_eq!(status(&stage, &jobs[50]).await, 200);
    stage.close().await;
}

#[tokio::test]
async fn jobs_that_cannot_be_forgotten_hold_up_none_behind_them() {
    let stage = Stage::new().await;
    let mut stuck = Vec::new();
    // More than one batch.
    for n in 0..60 {
        let job = ended(&stage, &format!("job-{n}"), 1).await;
        let logs = job.log.parent().unwrap();
        std::fs::remove_dir_all(logs).unwrap();
        std::fs::write(logs, "no directory, so it is not removed as one").unwrap();
        stuck.push(job);
    }
    stage.clock.forward(1);
    let behind = ended(&stage, "behind", 1).await;
    let stage = stage.keeping(A_WEEK, 8 * DAY).await;
    looked(&stage, &behind).await;
    assert_eq!(status(&stage, &stuck[0]).await, 200);
    stage.close().await;
}

#[tokio::test]
async fn by_default_nothing_is_forgotten_by_an_embedder() {
    let stage = Stage::new().await;
    let old = ended(&stage, "old", 10).await;
    let stage = stage.keeping(Retention::default(), 10_000 * DAY).await;
    assert_eq!(status(&stage, &old).await, 200);
    stage.close().await;
}
