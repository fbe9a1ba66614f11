//! What jobs run on, how it stands, and letting it go on.

use agent_domain::{CredentialNews, Ending, Facts, LimitWindow, Limited, Reason};
use serde_json::{Value, json};

use crate::stage::Stage;

/// A job of the stage whose run has told this of its credential.
async fn told(stage: &Stage, branch: &str, reason: Reason, news: CredentialNews) -> String {
    let id = stage.job(branch).await;
    let assignment = stage.claim().await;
    let ending = Ending::Parked {
        until: None,
        reason,
    };
    let facts = Facts {
        news: Some(Box::new(news)),
        ..Facts::default()
    };
    stage.finish(&assignment, ending, facts).await;
    id
}

async fn resumed(stage: &Stage) -> Value {
    let path = "/credentials/default/resume";
    let answer = stage.send("POST", path, "").await;
    assert_eq!(answer.status, 200);
    answer.json()
}

fn fresh() -> Value {
    json!({
        "name": "default", "kind": "environment", "status": "ok", "limitedUntil": null,
        "limits": [], "reason": null, "error": null, "stoppedAt": null, "running": 0,
        "maxSessions": null, "clients": null, "windows": [],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_credential_counts_down_in_itself_in_health_queue_and_job() {
    let stage = Stage::new().await;
    let all = stage.get("/credentials").await;
    assert_eq!(all, json!({"credentials": [fresh()]}));
    let until = "2025-01-07T18:00:00Z".parse().unwrap();
    let window = LimitWindow {
        kind: "five_hour".into(),
        used: 1.0,
        resets_at: until,
    };
    let news = CredentialNews {
        limited: Some(Limited {
            family: None,
            until,
        }),
        windows: vec![window],
        ..CredentialNews::default()
    };
    let id = told(&stage, "a", Reason::UsageLimit, news).await;
    let shown = "2025-01-07T18:00:00.000Z";
    let all = stage.get("/credentials").await;
    let mut limited = fresh();
    limited["status"] = json!("limited");
    limited["limitedUntil"] = json!(shown);
    limited["limits"] = json!([{"models": null, "until": shown}]);
    limited["windows"] = json!([{"kind": "five_hour", "used": 1.0, "resetsAt": shown}]);
    assert_eq!(all, json!({"credentials": [limited]}));
    let health = stage.get("/health").await;
    let brief = json!([{"name": "default", "status": "limited", "limitedUntil": shown}]);
    assert_eq!(health["credentials"], brief);
    assert_eq!(health["queue"]["parkedUntil"], shown);
    assert_eq!(stage.get("/queue").await["queued"][0]["notBefore"], shown);
    let job = stage.get(&format!("/jobs/{id}")).await;
    assert_eq!(
        (&job["reason"], &job["notBefore"], &job["credential"]),
        (&json!("usage_limit"), &json!(shown), &json!("default"))
    );
    let mut open = fresh();
    open["windows"] = limited["windows"].clone();
    assert_eq!(resumed(&stage).await, open);
    assert_eq!(stage.claim().await.lease.attempt, 2);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_credential_says_why_and_goes_on_when_told() {
    let stage = Stage::new().await;
    let news = CredentialNews {
        refused: Some((Reason::Billing, "Credit balance is too low".into())),
        ..CredentialNews::default()
    };
    let id = told(&stage, "a", Reason::Billing, news).await;
    let one = stage.get("/credentials").await["credentials"][0].clone();
    assert_eq!(
        (&one["status"], &one["reason"], &one["error"]),
        (
            &json!("stopped"),
            &json!("billing"),
            &json!("Credit balance is too low")
        )
    );
    assert!(one["stoppedAt"].is_string());
    let waiting = &stage.get("/queue").await["queued"][0];
    assert_eq!(
        (
            &waiting["reason"],
            &waiting["notBefore"],
            &waiting["position"]
        ),
        (&json!("billing"), &Value::Null, &Value::Null)
    );
    assert_eq!(resumed(&stage).await, fresh());
    assert_eq!(stage.claim().await.lease.job.to_string(), id);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_credential_is_not_found() {
    let stage = Stage::new().await;
    for path in ["/credentials/other/resume", "/credentials/%20/resume"] {
        let answer = stage.send("POST", path, "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["code"], "credential_not_found");
    }
    let answer = stage.send("GET", "/credentials/default/resume", "").await;
    assert_eq!(answer.status, 405);
    let answer = stage.send("GET", "/credentials?x=1", "").await;
    assert_eq!(answer.json()["code"], "unknown_parameter");
    let body = r#"{"until": 1}"#;
    let answer = stage
        .send("POST", "/credentials/default/resume", body)
        .await;
    assert_eq!(answer.status, 400);
    stage.close().await;
}
