//! A server that is about to stop.

use std::time::Duration;

use serde_json::json;

use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn while_draining_new_work_is_refused_and_reads_and_cancellations_go_on() {
    let stage = Stage::new().await;
    stage.client().await;
    let ended = stage.job("a").await;
    stage
        .send("POST", &format!("/jobs/{ended}/cancel"), "")
        .await;
    let queued = stage.job("b").await;
    stage.engine.drain();
    let job = r#"{"githubOrg":"acme","githubRepo":"shop","prompt":"p","branchName":"c"}"#;
    let client = r#"{"name":"x","githubOrg":"acme","githubRepo":"other"}"#;
    for (path, body) in [
        ("/jobs".to_owned(), job),
        ("/clients".to_owned(), client),
        ("/sync".to_owned(), ""),
        (format!("/jobs/{ended}/retry"), ""),
    ] {
        let answer = stage.send("POST", &path, body).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (503, &json!("draining")),
            "{path}"
        );
        assert_eq!(answer.header("retry-after"), Some("30"), "{path}");
    }
    assert_eq!(stage.get("/health").await["status"], json!("draining"));
    assert_eq!(stage.get("/jobs").await["total"], json!(2));
    let cancelled = stage
        .send("POST", &format!("/jobs/{queued}/cancel"), "")
        .await;
    assert_eq!(cancelled.status, 200);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_breaks_off_a_follower_in_a_way_it_can_tell_from_an_end() {
    let mut stage = Stage::new().await;
    let id = stage.job("a").await;
    let assignment = stage.claim().await;
    let written = stage.write_log(&assignment, &[(agent_domain::LogStream::Stdout, "one")]);
    let api = stage.api.take().unwrap();
    let path = format!("/jobs/{id}/log?follow=true");
    let stop = async {
        // Enough for the first bytes; if not, the follower sees none and the test still holds.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = tokio::time::Instant::now();
        api.stop(Duration::from_secs(10)).await;
        begun.elapsed()
    };
    let (followed, took) = tokio::join!(stage.send("GET", &path, ""), stop);
    assert!(!followed.whole);
    assert_eq!(followed.body, written);
    assert!(took < Duration::from_secs(8), "{took:?}");
    stage.close().await;
}
