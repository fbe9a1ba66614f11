//! `/livez`, `/readyz`, and a server without room on its disk.

use std::time::Duration;

use agent_api::Limits;
use agent_domain::{Coordinator as _, Ending, Facts, Finding, Found, Watermark, WorkerId};
use serde_json::{Value, json};

use crate::exchange::{request, send_raw};
use crate::stage::Stage;

async fn probe(stage: &Stage, path: &str) -> (u16, Value) {
    let answer = send_raw(stage.address, &request("GET", path, &[], b"")).await;
    (answer.status, answer.json())
}

fn fine() -> Value {
    json!({"ok": true, "problem": null})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_work_says_so_to_whoever_asks() {
    let stage = Stage::new().await;
    let (status, body) = probe(&stage, "/readyz").await;
    let checks =
        json!({"accepting": fine(), "database": fine(), "disk": fine(), "settled": fine()});
    assert_eq!(
        (status, body),
        (200, json!({"status": "ready", "checks": checks}))
    );
    let alive = json!({"status": "alive", "checks": {}});
    assert_eq!(probe(&stage, "/livez").await, (200, alive));
    for (method, path, status) in [
        ("POST", "/readyz", 405),
        ("DELETE", "/livez", 405),
        ("GET", "/readyz?x=1", 400),
    ] {
        let answer = send_raw(stage.address, &request(method, path, &[], b"")).await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_about_to_stop_is_alive_and_not_ready() {
    let stage = Stage::new().await;
    stage.engine.drain();
    let (status, body) = probe(&stage, "/readyz").await;
    assert_eq!((status, &body["status"]), (503, &json!("unready")));
    assert_eq!(body["checks"]["accepting"]["ok"], json!(false));
    assert_eq!(body["checks"]["disk"], fine());
    assert_eq!(probe(&stage, "/livez").await.0, 200);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_makes_the_server_not_ready() {
    let stage = Stage::new().await;
    let other = rusqlite::Connection::open(stage.dir.path().join("agent.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (status, body) = probe(&stage, "/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(body["checks"]["database"]["problem"], json!("no answer"));
    other.execute_batch("ROLLBACK").unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(probe(&stage, "/readyz").await.0, 200);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_on_the_disk_no_new_work_is_taken_and_the_answer_says_why() {
    let stage = Stage::watching(Limits::default(), Watermark(Some(u64::MAX))).await;
    let before = stage.database();
    let version = before.version();
    let id = "0".repeat(32);
    let job = r#"{"githubOrg":"acme","githubRepo":"shop","prompt":"p","branchName":"c"}"#;
    let client = r#"{"name":"x","githubOrg":"acme","githubRepo":"other"}"#;
    for (path, body) in [
        ("/jobs".to_owned(), job),
        ("/clients".to_owned(), client),
        ("/sync".to_owned(), ""),
        (format!("/jobs/{id}/retry"), ""),
    ] {
        let answer = stage.send("POST", &path, body).await;
        let problem = answer.json();
        assert_eq!(
            (answer.status, &problem["code"]),
            (503, &json!("disk_low")),
            "{path}"
        );
        assert_eq!(answer.header("retry-after"), Some("60"), "{path}");
        let sentence = problem["error"].as_str().unwrap();
        let place = stage.dir.path().display().to_string();
        assert!(sentence.contains(&place), "{sentence}");
        assert!(sentence.contains(" free, "), "{sentence}");
    }
    assert_eq!(before.version(), version, "something was stored");
    assert_eq!(stage.get("/health").await["status"], json!("disk_low"));
    let (status, body) = probe(&stage, "/readyz").await;
    assert_eq!(status, 503);
    let problem = body["checks"]["disk"]["problem"].as_str().unwrap();
    assert!(problem.starts_with("data: "), "{problem}");
    let place = stage.dir.path().display().to_string();
    assert!(
        !body.to_string().contains(&place),
        "shown without a token: {body}"
    );
    assert_eq!(probe(&stage, "/livez").await.0, 200);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_waits_for_room_and_what_runs_goes_on() {
    let stage = Stage::new().await;
    let running = stage.job("a").await;
    let queued = stage.job("b").await;
    let assignment = stage.claim().await;
    assert_eq!(assignment.lease.job.to_string(), running);
    let stage = stage.restarted(Watermark(Some(u64::MAX))).await;
    let worker = WorkerId("test".into());
    let (status, body) = probe(&stage, "/readyz").await;
    assert_eq!(
        (status, &body["checks"]["settled"]["ok"]),
        (503, &json!(false))
    );
    let mut held = stage.engine.held(&worker).await.unwrap();
    let finding = Finding {
        lease: held.pop().unwrap().lease,
        found: Found::Kept,
    };
    let leases = stage.engine.settle(&worker, vec![finding]).await.unwrap();
    let again = stage.engine.take_up(&leases[0]).await.unwrap();
    assert_eq!(again.lease.job.to_string(), running);
    let body = probe(&stage, "/readyz").await.1;
    assert_eq!(body["checks"]["settled"]["ok"], json!(true));
    let claim = stage.engine.claim(&worker, 9, Duration::from_millis(300));
    assert!(claim.await.unwrap().is_empty(), "there is no room");
    assert_eq!(
        stage.get(&format!("/jobs/{queued}")).await["status"],
        json!("queued")
    );
    stage
        .finish(&again, Ending::Completed, Facts::default())
        .await;
    stage.close().await;
}
