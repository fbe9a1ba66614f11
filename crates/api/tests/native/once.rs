//! `Idempotency-Key`: what is asked for twice is done once.

use std::time::Duration;

use agent_domain::{Coordinator as _, Directive, Ending, Facts};
use serde_json::{Value, json};

use crate::exchange::Answer;
use crate::stage::{Stage, id_of};

const DAY: i64 = 24 * 60 * 60;

fn body(branch: &str) -> String {
    let body = json!({
        "githubOrg": "acme", "githubRepo": "shop", "prompt": "do it", "branchName": branch,
    });
    body.to_string()
}

async fn post(stage: &Stage, path: &str, key: &str, body: &str) -> Answer {
    let headers = [("idempotency-key", key)];
    stage.send_with("POST", path, &headers, body).await
}

async fn jobs(stage: &Stage) -> usize {
    let page = stage.get("/jobs").await;
    page["jobs"].as_array().expect("jobs").len()
}

/// Says that `again` is `first` once more.
fn assert_replayed(first: &Answer, again: &Answer) {
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.header("content-type"), first.header("content-type"));
}

fn assert_refused(answer: &Answer, status: u16, code: &str) {
    let problem = answer.json();
    assert_eq!(
        (answer.status, &problem["code"]),
        (status, &json!(code)),
        "{problem}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_submission_is_one_job_with_one_answer() {
    let stage = Stage::new().await;
    let first = post(&stage, "/jobs", "k-1", &body("a")).await;
    // A job in front of it changes the position that is told; the first answer is told again.
    stage.job("b").await;
    let again = post(&stage, "/jobs", "k-1", &body("a")).await;
    let quoted = post(&stage, "/jobs", "\"k-1\"", &body("a")).await;
    assert_eq!(first.status, 201);
    assert_replayed(&first, &again);
    assert_replayed(&first, &quoted);
    assert_eq!(jobs(&stage).await, 2);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_one_request_only() {
    let stage = Stage::new().await;
    let id = id_of(&post(&stage, "/jobs", "k", &body("a")).await);
    let other = post(&stage, "/jobs", "k", &body("b")).await;
    assert_refused(&other, 422, "idempotency_key_reused");
    let spaced = post(&stage, "/jobs", "k", &format!("{} ", body("a"))).await;
    assert_refused(&spaced, 422, "idempotency_key_reused");
    assert_eq!(jobs(&stage).await, 1);
    // On another path the same key is another one; there, the query counts as content.
    let path = format!("/jobs/{id}/cancel");
    let cancelled = post(&stage, &path, "k", "").await;
    assert_eq!(cancelled.status, 200);
    let unlike = post(&stage, &format!("{path}?wait=false"), "k", "").await;
    assert_refused(&unlike, 422, "idempotency_key_reused");
    assert_replayed(&cancelled, &post(&stage, &path, "k", "").await);
    let unnamed = stage.send("POST", &path, "").await;
    assert_refused(&unnamed, 400, "job_ended");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_may_be_tried_again_under_the_same_key() {
    let stage = Stage::new().await;
    let taken = post(&stage, "/jobs", "k", &body("taken")).await;
    assert_refused(&taken, 409, "branch_exists");
    let malformed = post(&stage, "/jobs", "k", "{").await;
    assert_refused(&malformed, 400, "malformed_json");
    let first = post(&stage, "/jobs", "k", &body("free")).await;
    assert_eq!(first.status, 201);
    assert_replayed(&first, &post(&stage, "/jobs", "k", &body("free")).await);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_none_is_refused_and_changes_nothing() {
    let stage = Stage::new().await;
    let long = "k".repeat(256);
    for bad in ["", "a b", "\"a", "\"a\";b=1", "k\u{e9}", long.as_str()] {
        let refused = post(&stage, "/jobs", bad, &body("a")).await;
        assert_refused(&refused, 400, "invalid_idempotency_key");
        assert_eq!(refused.json()["field"], "idempotency-key", "{bad:?}");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "a")];
    let refused = stage.send_with("POST", "/jobs", &twice, &body("a")).await;
    assert_refused(&refused, 400, "invalid_idempotency_key");
    assert_eq!(jobs(&stage).await, 0);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_equal_submissions_at_once_are_one_job() {
    let stage = Stage::new().await;
    let body = body("a");
    let posts = (0..64).map(|_| post(&stage, "/jobs", "k", &body));
    let answers = futures_util::future::join_all(posts).await;
    let mut ids: Vec<Value> = Vec::new();
    let mut firsts = 0;
    for answer in &answers {
        if answer.status == 201 {
            ids.push(answer.json()["id"].clone());
            firsts += usize::from(answer.header("idempotent-replayed").is_none());
        } else {
            assert_refused(answer, 409, "idempotency_in_flight");
            assert!(answer.header("retry-after").is_some());
        }
    }
    ids.dedup();
    assert_eq!((firsts, ids.len(), jobs(&stage).await), (1, 1, 1));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_first_request_is_being_done_a_repeat_is_told_to_wait() {
    let stage = Stage::new().await;
    let body = r#"{"name":"Slow","githubOrg":"acme","githubRepo":"slow"}"#;
    let repeat = async {
        let answer = post(&stage, "/clients", "k", body).await;
        // Whoever came first waits for the clone.
        assert_refused(&answer, 409, "idempotency_in_flight");
        assert_eq!(answer.header("retry-after"), Some("2"));
        stage.mirrors.slow.notify_one();
    };
    let first = async {
        let first = post(&stage, "/clients", "k", body);
        tokio::pin!(first);
        // Under way for certain once the client is there.
        while stage.get("/clients").await["clients"] == json!([]) {
            tokio::select! {
                biased;
                answer = &mut first => return answer,
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
        let (answer, ()) = tokio::join!(first, repeat);
        answer
    };
    let first = first.await;
    assert_eq!(first.status, 201);
    assert_replayed(&first, &post(&stage, "/clients", "k", body).await);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_for_a_day() {
    let stage = Stage::new().await;
    let first = post(&stage, "/jobs", "k", &body("a")).await;
    let id = id_of(&first);
    stage.send("POST", &format!("/jobs/{id}/cancel"), "").await;
    stage.clock.forward(DAY - 1);
    assert_replayed(&first, &post(&stage, "/jobs", "k", &body("a")).await);
    stage.clock.forward(1);
    let next = post(&stage, "/jobs", "k", &body("a")).await;
    assert_eq!(next.header("idempotent-replayed"), None);
    assert_ne!(id_of(&next), id);
    assert_replayed(&next, &post(&stage, "/jobs", "k", &body("a")).await);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_outlive_the_server_and_are_given_while_it_stops() {
    let stage = Stage::new().await;
    let first = post(&stage, "/jobs", "k", &body("a")).await;
    let path = format!("/jobs/{}/cancel", id_of(&first));
    let cancelled = post(&stage, &path, "k", "").await;
    let retry = path.replace("cancel", "retry");
    let retried = post(&stage, &retry, "k", "").await;
    let synced = post(&stage, "/sync", "k", "").await;
    assert_eq!(
        (cancelled.status, retried.status, synced.status),
        (200, 201, 200)
    );
    let next = stage.again().await;
    next.engine.drain();
    assert_replayed(&first, &post(&next, "/jobs", "k", &body("a")).await);
    assert_replayed(&cancelled, &post(&next, &path, "k", "").await);
    assert_replayed(&retried, &post(&next, &retry, "k", "").await);
    assert_replayed(&synced, &post(&next, "/sync", "k", "").await);
    assert_refused(
        &post(&next, "/jobs", "new", &body("c")).await,
        503,
        "draining",
    );
    next.close().await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_server_died_during_the_clone_is_not_created_twice() {
    let stage = Stage::new().await;
    let body = r#"{"name":"Slow","githubOrg":"acme","githubRepo":"slow"}"#;
    let mut first = Box::pin(post(&stage, "/clients", "k", body));
    let mut listed = json!([]);
    while listed == json!([]) {
        tokio::select! {
            _ = &mut first => panic!("answered without a clone"),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        listed = stage.get("/clients").await["clients"].clone();
    }
    let next = stage.again().await;
    next.mirrors.slow.notify_one();
    let again = post(&next, "/clients", "k", body).await;
    assert_eq!(id_of(&again), listed[0]["id"].as_str().expect("an id"));
    assert_eq!(again.json()["repoCloned"], true);
    assert_replayed(&again, &post(&next, "/clients", "k", body).await);
    let other = post(&next, "/clients", "k", &body.replace("Slow", "Other")).await;
    assert_refused(&other, 422, "idempotency_key_reused");
    stage.mirrors.slow.notify_one();
    first.await;
    next.close().await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_cancellation_is_the_first_one_again_and_kills_nothing() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let running = stage.claim().await;
    let path = format!("/jobs/{id}/cancel?wait=false");
    let first = post(&stage, &path, "k", "").await;
    assert_eq!(first.status, 202);
    assert_replayed(&first, &post(&stage, &path, "k", "").await);
    let directive = stage.engine.directive(&running.lease, Directive::Continue);
    assert_eq!(directive.await, Ok(Directive::Cancel));

    // One that waits is broken off by a crash; its repeat waits for the same end.
    let path = format!("/jobs/{id}/cancel");
    let next = stage.again().await;
    let mut broken_off = Box::pin(post(&stage, &path, "w", ""));
    let asked = async {
        while next.get(&format!("/jobs/{id}/history")).await["history"]
            .as_array()
            .is_none_or(|history| history.len() < 4)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = &mut broken_off => panic!("answered while the job runs"),
        () = asked => {}
    }
    let ends = async {
        let seen = next
            .engine
            .directive(&running.lease, Directive::Continue)
            .await;
        assert_eq!(seen, Ok(Directive::Cancel));
        next.finish(&running, Ending::Cancelled, Facts::default())
            .await;
    };
    let (again, ()) = tokio::join!(post(&next, &path, "w", ""), ends);
    assert_eq!(
        (again.status, &again.json()["wasRunning"]),
        (200, &json!(true))
    );
    assert_replayed(&again, &post(&next, &path, "w", "").await);
    drop(broken_off);
    // The first server would wait on for an end that another one has seen.
    stage.engine.log_grew(&running.lease);
    next.close().await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_is_sent_once_more_under_its_old_id() {
    let stage = Stage::new().await;
    let mut job: Value = serde_json::from_str(&body("a")).expect("JSON");
    job["osCallbackUrl"] = json!("http://nobody.invalid/");
    let id = id_of(&stage.send("POST", "/jobs", &job.to_string()).await);
    stage.send("POST", &format!("/jobs/{id}/cancel"), "").await;
    let path = format!("/jobs/{id}/deliveries");
    let delivery = stage.get(&path).await["deliveries"][0]["id"].clone();
    let path = format!("{path}/{}/redeliver", delivery.as_str().expect("an id"));
    let first = post(&stage, &path, "k", "").await;
    assert_eq!((first.status, &first.json()["id"]), (202, &delivery));
    assert_replayed(&first, &post(&stage, &path, "k", "").await);
    let other = stage.job("b").await;
    let foreign = stage.send("POST", &path.replace(&id, &other), "").await;
    assert_refused(&foreign, 404, "delivery_not_found");
    let nobody = stage.send("POST", &path.replace(&id, "x"), "").await;
    assert_refused(&nobody, 404, "job_not_found");
    stage.close().await;
}
