//! Keys that a job brings: taken, handed to its worker, asked for again, and never told.

use agent_domain::{AgentKey, Ending, Facts, Secret, SecretKinds};
use serde_json::{Value, json};

use crate::exchange::Answer;
use crate::stage::{Stage, id_of};

const KEY: &str = "sk-ant-canary-0123456789";
const TOKEN: &str = "ghp_canary0123456789";

fn body(branch: &str, secrets: &Value) -> String {
    let body = json!({
        "githubOrg": "acme", "githubRepo": "shop", "prompt": "do it", "branchName": branch,
        "secrets": secrets,
    });
    body.to_string()
}

async fn submit(stage: &Stage, branch: &str, secrets: &Value) -> Answer {
    stage.send("POST", "/jobs", &body(branch, secrets)).await
}

/// Looks through every file of the stage.
fn assert_not_stored(stage: &Stage) {
    for entry in std::fs::read_dir(stage.dir.path())
        .expect("a directory")
        .flatten()
    {
        let content = std::fs::read(entry.path()).unwrap_or_default();
        for canary in [KEY, TOKEN] {
            let found = content
                .windows(canary.len())
                .any(|part| part == canary.as_bytes());
            assert!(!found, "{canary} in {}", entry.path().display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_reach_the_jobs_worker_and_no_answer_and_no_file() {
    let stage = Stage::new().await;
    let secrets = json!({"claudeCodeOauthToken": KEY, "gitToken": TOKEN});
    let created = submit(&stage, "a", &secrets).await;
    let id = id_of(&created);
    let job = stage.get(&format!("/jobs/{id}")).await;
    assert_eq!(job["hasSecrets"], true);
    let plain = stage.job("b").await;
    assert_eq!(
        stage.get(&format!("/jobs/{plain}")).await["hasSecrets"],
        false
    );
    let assignment = stage.claim().await;
    assert_eq!(
        assignment.secrets.agent,
        Some(AgentKey::OauthToken(Secret::new(KEY)))
    );
    assert_eq!(assignment.secrets.git_token, Some(Secret::new(TOKEN)));
    let both = SecretKinds {
        agent: true,
        git: true,
    };
    assert_eq!(assignment.brought, both);
    assert!(!format!("{assignment:?}").contains("canary"));
    assert_not_stored(&stage);
    stage
        .finish(&assignment, Ending::Completed, Facts::default())
        .await;
    let history = stage.get(&format!("/jobs/{id}/history")).await;
    let told = format!("{:?}{job}{history}", created.json());
    assert!(!told.contains("canary"), "{told}");
    assert_not_stored(&stage);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_none_are_refused_without_repeating_them() {
    let stage = Stage::new().await;
    let long = "k".repeat(16 * 1024 + 1);
    for (secrets, code, field) in [
        (
            json!({"anthropicApiKey": KEY, "claudeCodeOauthToken": KEY}),
            "invalid_field",
            "secrets",
        ),
        (
            json!({"anthropicApiKey": ""}),
            "invalid_field",
            "secrets.anthropicApiKey",
        ),
        (
            json!({"gitToken": format!("{TOKEN}\n")}),
            "invalid_field",
            "secrets.gitToken",
        ),
        (
            json!({"gitToken": format!("{TOKEN}\0")}),
            "invalid_field",
            "secrets.gitToken",
        ),
        (
            json!({"claudeCodeOauthToken": long}),
            "invalid_field",
            "secrets.claudeCodeOauthToken",
        ),
        (
            json!({"gitToken": [KEY]}),
            "invalid_field",
            "secrets.gitToken",
        ),
        (json!({KEY: TOKEN}), "unknown_field", "secrets"),
        (json!(KEY), "invalid_field", "secrets"),
    ] {
        let refused = submit(&stage, "a", &secrets).await;
        let problem = refused.json();
        assert_eq!(
            (refused.status, &problem["code"]),
            (400, &json!(code)),
            "{problem}"
        );
        assert_eq!(problem["field"], field, "{problem}");
        assert!(!problem.to_string().contains("canary"), "{problem}");
    }
    assert_eq!(stage.get("/jobs").await["total"], 0);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_job_with_keys_needs_them_again() {
    let stage = Stage::new().await;
    let secrets = json!({"anthropicApiKey": KEY, "gitToken": TOKEN});
    let id = id_of(&submit(&stage, "a", &secrets).await);
    stage.send("POST", &format!("/jobs/{id}/cancel"), "").await;
    let path = format!("/jobs/{id}/retry");
    for given in [
        "",
        "{}",
        r#"{"secrets":{"gitToken":"x"}}"#,
        r#"{"secrets":{"anthropicApiKey":"x"}}"#,
    ] {
        let refused = stage.send("POST", &path, given).await;
        let problem = refused.json();
        assert_eq!(
            (refused.status, &problem["code"]),
            (400, &json!("secrets_required")),
            "{given}"
        );
        assert_eq!(problem["field"], "secrets");
    }
    // The other way to pay is one too.
    let body = json!({"secrets": {"claudeCodeOauthToken": KEY, "gitToken": TOKEN}});
    let retried = stage.send("POST", &path, &body.to_string()).await;
    assert_eq!(retried.status, 201);
    let assignment = stage.claim().await;
    assert_eq!(assignment.lease.job.to_string(), id_of(&retried));
    assert_eq!(
        assignment.secrets.agent,
        Some(AgentKey::OauthToken(Secret::new(KEY)))
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_queued_jobs_with_keys_have_failed_and_running_ones_go_on() {
    let stage = Stage::new().await;
    let secrets = json!({"gitToken": TOKEN});
    let running = id_of(&submit(&stage, "a", &secrets).await);
    let held = stage.claim().await;
    let mut queued = Vec::new();
    for n in 0..3 {
        queued.push(id_of(&submit(&stage, &format!("q{n}"), &secrets).await));
    }
    let plain = stage.job("plain").await;
    let next = stage.again().await;
    for id in queued {
        let job = next.get(&format!("/jobs/{id}")).await;
        assert_eq!(
            (&job["status"], &job["reason"]),
            (&json!("failed"), &json!("credentials_lost"))
        );
    }
    assert_eq!(
        next.get(&format!("/jobs/{running}")).await["status"],
        "running"
    );
    // Its run is lost, so it begins anew; its worker sees what is missing.
    let lost = Ending::Lost {
        error: "gone".into(),
    };
    next.finish(&held, lost, Facts::default()).await;
    next.clock.forward(3600);
    let claimed = [next.claim().await, next.claim().await];
    for assignment in claimed {
        let id = assignment.lease.job.to_string();
        let missing = assignment.brought.without(assignment.secrets.kinds());
        assert_eq!(missing.git, id == running, "{id}, not {plain}");
    }
    next.close().await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_with_other_keys_is_another_request() {
    let stage = Stage::new().await;
    let header = [("idempotency-key", "k")];
    let with = |secrets: Value| body("a", &secrets);
    let first = stage
        .send_with("POST", "/jobs", &header, &with(json!({"gitToken": TOKEN})))
        .await;
    assert_eq!(first.status, 201);
    for other in [
        json!({"gitToken": KEY}),
        json!({"anthropicApiKey": TOKEN}),
        json!({}),
    ] {
        let refused = stage
            .send_with("POST", "/jobs", &header, &with(other))
            .await;
        assert_eq!(refused.status, 422, "{}", refused.json());
    }
    let again = stage
        .send_with("POST", "/jobs", &header, &with(json!({"gitToken": TOKEN})))
        .await;
    assert_eq!(again.body, first.body);
    assert_not_stored(&stage);
    // What cannot be compared any more is not held against it; what can be, is.
    let next = stage.again().await;
    let again = next
        .send_with("POST", "/jobs", &header, &with(json!({"gitToken": TOKEN})))
        .await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    let other = next
        .send_with(
            "POST",
            "/jobs",
            &header,
            &with(json!({"anthropicApiKey": TOKEN})),
        )
        .await;
    assert_eq!(other.status, 422);
    next.close().await;
    stage.close().await;
}
