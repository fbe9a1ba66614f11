//! What jobs and clients say of how the agent is run: given, shown, changed, told to workers.

use std::time::Duration;

use agent_domain::{JsonText, PermissionMode, RunOptions};
use serde_json::{Value, json};

use crate::stage::{Stage, id_of};

/// Every option there is.
fn every() -> Value {
    json!({
        "model": "opus", "fallbackModel": "sonnet,haiku", "permissionMode": "plan",
        "timeoutSeconds": 60, "idleTimeoutSeconds": 30, "maxTurns": 7, "budgetUsd": 2.5,
        "allowedTools": ["Edit", "Bash(git log:*)"], "disallowedTools": ["WebFetch"],
        "appendSystemPrompt": "Be brief.\n",
        "agents": {"critic": {"description": "Reads", "prompt": "Read.", "model": "haiku"}},
        "mcpServers": {"tracker": {"type": "http", "url": "https://t.example", "headers": {"a": "b"}}},
        "outputSchema": {"type": "object", "properties": {"a": {"type": "integer"}}},
        "delivery": "branch", "draft": true, "labels": ["bot", "needs review"],
        "maxAttempts": 5,
        "env": {"CI": "1", "EMPTY": ""},
    })
}

/// None of them, as answers show it.
pub(crate) fn none() -> Value {
    let names = every().as_object().expect("an object").clone();
    names
        .into_iter()
        .map(|(name, _)| (name, Value::Null))
        .collect()
}

fn with(mut body: Value, options: &Value) -> String {
    let options = options.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(options);
    body.to_string()
}

/// Of a client's answer, what it says of its options.
fn shown(client: &Value) -> Value {
    let names = every().as_object().expect("an object").clone();
    names
        .into_iter()
        .map(|(name, _)| (name.clone(), client[&name].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_options_are_given_shown_changed_and_cleared() {
    let stage = Stage::new().await;
    let body = json!({"name": "Shop", "githubOrg": "acme", "githubRepo": "shop"});
    let made = stage.send("POST", "/clients", &with(body, &every())).await;
    let path = format!("/clients/{}", id_of(&made));
    assert_eq!(shown(&stage.get("/clients").await["clients"][0]), every());
    assert_eq!(shown(&stage.get(&path).await), every());

    let change = json!({
        "model": null, "permissionMode": "acceptEdits", "timeoutSeconds": 86_400,
        "env": {"B": "2"}, "agents": null,
    });
    let changed = stage.send("PATCH", &path, &change.to_string()).await;
    let expected: Value = serde_json::from_str(&with(every(), &change)).unwrap();
    assert_eq!(
        (changed.status, shown(&changed.json())),
        (200, expected.clone())
    );
    let renamed = stage.send("PATCH", &path, r#"{"name":"New"}"#).await;
    assert_eq!(shown(&renamed.json()), expected);
    stage.send("PATCH", &path, &none().to_string()).await;
    assert_eq!(shown(&stage.get(&path).await), none());
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_options_are_shown_as_given_and_a_retry_has_them_too() {
    let stage = Stage::new().await;
    let client = stage.client().await;
    let body = json!({"clientId": client, "prompt": "p", "branchName": "a"});
    let id = id_of(&stage.send("POST", "/jobs", &with(body, &every())).await);
    assert_eq!(stage.get(&format!("/jobs/{id}")).await["options"], every());
    stage.send("POST", &format!("/jobs/{id}/cancel"), "").await;
    let again = id_of(&stage.send("POST", &format!("/jobs/{id}/retry"), "").await);
    assert_eq!(
        stage.get(&format!("/jobs/{again}")).await["options"],
        every()
    );
    let plain = json!({"clientId": client, "prompt": "p", "branchName": "b"});
    let plain = id_of(&stage.send("POST", "/jobs", &plain.to_string()).await);
    assert_eq!(
        stage.get(&format!("/jobs/{plain}")).await["options"],
        none()
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_told_the_jobs_options_before_the_clients() {
    let stage = Stage::new().await;
    let body = json!({
        "name": "Shop", "githubOrg": "acme", "githubRepo": "shop", "model": "haiku",
        "permissionMode": "plan", "timeoutSeconds": 60, "maxTurns": 9,
        "env": {"A": "client", "B": "client"}, "allowedTools": ["Edit"], "agents": {},
    });
    let client = id_of(&stage.send("POST", "/clients", &body.to_string()).await);
    let job = json!({
        "clientId": client, "prompt": "p", "branchName": "a", "model": "opus",
        "idleTimeoutSeconds": 30, "env": {"A": "job"}, "allowedTools": [],
    });
    stage.send("POST", "/jobs", &job.to_string()).await;
    let change = r#"{"timeoutSeconds":90,"idleTimeoutSeconds":45}"#;
    let path = format!("/clients/{client}");
    stage.send("PATCH", &path, change).await;
    let expected = RunOptions {
        model: Some("opus".into()),
        permission_mode: Some(PermissionMode::Plan),
        timeout: Some(Duration::from_secs(90)),
        idle_timeout: Some(Duration::from_secs(30)),
        max_turns: Some(9),
        env: Some([("A".parse().unwrap(), "job".into())].into()),
        allowed_tools: Some(Vec::new()),
        agents: Some(JsonText::new("{}")),
        ..RunOptions::default()
    };
    assert_eq!(stage.claim().await.options, expected);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_option_that_is_wrong_is_named_and_nothing_changes() {
    let stage = Stage::new().await;
    let client = stage.client().await;
    let path = format!("/clients/{client}");
    let before = (stage.get("/jobs").await, stage.get(&path).await);
    for (option, field) in [
        (json!({"fallbackModel": "-x"}), "fallbackModel"),
        (json!({"maxTurns": 0}), "maxTurns"),
        (json!({"maxTurns": 1.5}), "maxTurns"),
        (json!({"allowedTools": "Edit"}), "allowedTools"),
        (json!({"allowedTools": [1]}), "allowedTools[0]"),
        (
            json!({"disallowedTools": ["Edit", "--x"]}),
            "disallowedTools[1]",
        ),
        (json!({"appendSystemPrompt": ""}), "appendSystemPrompt"),
        (json!({"agents": []}), "agents"),
        (json!({"agents": {"a": {"prompt": "p"}}}), "agents.a"),
        (json!({"mcpServers": {"a": {}}}), "mcpServers.a"),
        (json!({"mcpServers": "file.json"}), "mcpServers"),
        (json!({"outputSchema": {"type": 7}}), "outputSchema"),
        (json!({"outputSchema": true}), "outputSchema"),
        (json!({"delivery": "pr"}), "delivery"),
        (json!({"draft": "yes"}), "draft"),
        (json!({"labels": ["bot", ""]}), "labels[1]"),
        (json!({"labels": ["x".repeat(51)]}), "labels[0]"),
        (json!({"labels": vec!["x"; 21]}), "labels"),
        (json!({"maxAttempts": 0}), "maxAttempts"),
        (json!({"maxAttempts": 11}), "maxAttempts"),
        (json!({"env": {"GIT_DIR": "x"}}), "env.GIT_DIR"),
        (json!({"env": {"CI": 1}}), "env.CI"),
    ] {
        let job = json!({"clientId": client, "prompt": "p", "branchName": "b"});
        let new = json!({"name": "x", "githubOrg": "o", "githubRepo": "r"});
        for (method, path, body) in [
            ("POST", "/jobs", with(job, &option)),
            ("POST", "/clients", with(new, &option)),
            ("PATCH", path.as_str(), option.to_string()),
        ] {
            let refused = stage.send(method, path, &body).await;
            assert_eq!(
                (
                    refused.status,
                    &refused.json()["code"],
                    &refused.json()["field"]
                ),
                (400, &json!("invalid_field"), &json!(field)),
                "{method} {body}"
            );
        }
    }
    assert_eq!((stage.get("/jobs").await, stage.get(&path).await), before);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_job_says_is_checked_shown_and_told_to_a_worker() {
    let stage = Stage::new().await;
    let client = stage.client().await;
    let fixed = json!({"clientId": client, "prompt": "p", "branchName": "a"});
    let before = stage.get("/jobs").await;
    for (own, field) in [
        (json!({"base": "a..b"}), "base"),
        (json!({"base": "a"}), "branchName"),
        (json!({"notBefore": "tomorrow"}), "notBefore"),
        (json!({"notBefore": "2026-01-31T08:00:00"}), "notBefore"),
        (json!({"metadata": []}), "metadata"),
        (
            json!({"metadata": {"a": "x".repeat(16 * 1024)}}),
            "metadata",
        ),
    ] {
        let refused = stage
            .send("POST", "/jobs", &with(fixed.clone(), &own))
            .await;
        let told = (refused.status, refused.json()["field"].clone());
        assert_eq!(told, (400, json!(field)), "{own}");
    }
    assert_eq!(stage.get("/jobs").await, before);

    let own = json!({"base": "release/1", "metadata": {"ticket": {"id": 7}}});
    let id = id_of(&stage.send("POST", "/jobs", &with(fixed, &own)).await);
    let shown = stage.get(&format!("/jobs/{id}")).await;
    for member in ["base", "metadata"] {
        assert_eq!(shown[member], own[member]);
    }
    let assignment = stage.claim().await;
    assert_eq!(assignment.base, "release/1".parse().unwrap());
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_for_later_is_parked_until_then() {
    let stage = Stage::new().await;
    let client = stage.client().await;
    // Five seconds from the stage's now, told by another clock.
    let job = json!({
        "clientId": client, "prompt": "p", "branchName": "a",
        "notBefore": "2025-01-07T14:00:05.123+02:00",
    });
    let made = stage.send("POST", "/jobs", &job.to_string()).await;
    assert_eq!(made.json()["position"], Value::Null);
    let path = format!("/jobs/{}", id_of(&made));
    let shown = stage.get(&path).await;
    assert_eq!(shown["notBefore"], "2025-01-07T12:00:05.123Z");
    assert_eq!(
        (&shown["status"], &shown["reason"]),
        (&json!("queued"), &Value::Null)
    );
    assert_eq!(stage.get("/health").await["queue"]["parked"], 1);
    let past = json!({
        "clientId": client, "prompt": "p", "branchName": "b",
        "notBefore": "2025-01-07T11:00:00Z",
    });
    let past = stage.send("POST", "/jobs", &past.to_string()).await;
    assert_eq!(past.json()["position"], 1);
    assert_eq!(stage.claim().await.branch.as_str(), "b");
    stage.clock.forward(5);
    assert_eq!(stage.claim().await.branch.as_str(), "a");
    stage.close().await;
}
