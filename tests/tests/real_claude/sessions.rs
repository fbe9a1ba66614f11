//! Sessions of the real CLI that go on.

use agent_tests::messages_api::{ApiError, MessagesApi, Turn};
use agent_tests::server::Server;
use serde_json::{Value, json};

use crate::{CONTENT, builder};

/// Submits a job and returns its id.
fn submit(server: &Server, prompt: &str) -> String {
    let job = json!({
        "githubOrg": "acme", "githubRepo": "app", "branchName": "fix/it", "prompt": prompt,
    });
    server.submit(&job).unwrap()
}

/// Sends a message to an ended job and waits for the job that comes of it.
fn tell(server: &Server, id: &str, prompt: &str) -> Value {
    let path = format!("/jobs/{id}/messages");
    let message = server.client().post(&path, &json!({ "prompt": prompt }));
    let next = message.unwrap().expect(201).unwrap();
    completed(server, next["id"].as_str().unwrap())
}

fn completed(server: &Server, id: &str) -> Value {
    let done = server.wait(id).unwrap();
    let log = server.log(id).unwrap();
    assert_eq!(done["status"], "completed", "{done:#}\n{log}");
    done
}

/// What the API was asked last.
fn asked(api: &MessagesApi) -> String {
    let all = api.requests();
    String::from_utf8_lossy(&all.last().unwrap().body).into_owned()
}

/// A job meets a limit, waits, goes on in its session, and is told something more after its end.
fn goes_on_after_a_limit_and_with_a_message(level: &str) {
    let limit = ApiError::new(429, "rate_limit_error", "limit")
        .header("anthropic-ratelimit-unified-status", "rejected")
        .header("anthropic-ratelimit-unified-reset", "1999999999")
        .header(
            "anthropic-ratelimit-unified-representative-claim",
            "five_hour",
        );
    let write = Turn::Tool {
        name: "Write".into(),
        input: json!({"file_path": "first.txt", "content": "1\n"}),
    };
    let api = MessagesApi::by_prompt(vec![
        ("heliotrope", vec![Turn::Error(limit)]),
        ("Go on with the task", vec![write.clone(), write]),
        ("And a second thing", vec![]),
    ])
    .unwrap();
    let builder = builder(&api)
        .behind(level)
        .without("ANTHROPIC_API_KEY")
        .env("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-test");
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let id = submit(&server, "Remember the word heliotrope.");
    let settled = |job: &Value| job["notBefore"].is_string() || job["completedAt"].is_string();
    let parked = server.wait_for(&id, settled).unwrap();
    let log = server.log(&id).unwrap();
    assert_eq!(parked["reason"], "usage_limit", "{parked:#}\n{log}");
    let release = format!("/jobs/{id}/release");
    let released = server.client().post(&release, &json!({})).unwrap();
    released.expect(200).unwrap();
    let done = completed(&server, &id);
    assert_eq!(done["sessionId"], parked["sessionId"]);
    assert_eq!(repo.show("fix/it", "first.txt").unwrap(), b"1\n");
    for word in ["heliotrope", "Go on with the task"] {
        assert!(asked(&api).contains(word), "{word}");
    }
    let next = tell(&server, &id, "And a second thing.");
    assert_eq!(next["sessionId"], done["sessionId"]);
    for word in ["heliotrope", "And a second thing"] {
        assert!(asked(&api).contains(word), "{word}");
    }
}

#[test]
fn the_real_cli_goes_on_in_its_session_after_a_limit_and_with_a_message() {
    goes_on_after_a_limit_and_with_a_message("off");
}

#[test]
fn behind_a_wall_the_real_cli_goes_on_after_a_limit_and_with_a_message() {
    goes_on_after_a_limit_and_with_a_message("workspace");
}

#[test]
fn with_no_network_the_real_cli_goes_on_after_a_limit_and_with_a_message() {
    goes_on_after_a_limit_and_with_a_message("isolated");
}

/// What the CLI says in the end that its session has cost.
fn told_total(server: &Server, id: &Value) -> f64 {
    let path = format!("/jobs/{}/events", id.as_str().unwrap());
    let page = server.client().get(&path).unwrap().expect(200).unwrap();
    let events = page["events"].as_array().unwrap();
    let mut results = events.iter().filter(|event| event["type"] == "result");
    results.next_back().unwrap()["costUsd"].as_f64().unwrap()
}

fn nanos(dollars: f64) -> f64 {
    (dollars * 1e9).round()
}

#[test]
fn a_message_is_booked_at_what_the_real_clis_total_has_grown_by() {
    let api = MessagesApi::writing("note.md", CONTENT, "Done.").unwrap();
    for level in ["off", "workspace"] {
        let builder = builder(&api).behind(level);
        builder.repo("acme", "app").unwrap();
        let server = builder.start().unwrap();
        let first = completed(&server, &submit(&server, "Write a note."));
        let cost = |job: &Value| job["costUsd"].as_f64().unwrap();
        assert!(cost(&first) > 0.0, "{first:#}");
        let mut sum = cost(&first);
        for prompt in ["Write it again.", "And again."] {
            let next = tell(&server, first["id"].as_str().unwrap(), prompt);
            assert_eq!(next["sessionId"], first["sessionId"]);
            assert!(cost(&next) > 0.0, "{next:#}");
            sum += cost(&next);
            let total = told_total(&server, &next["id"]);
            assert_eq!(nanos(sum), nanos(total), "{level}: {next:#}");
        }
        let usage = server.client().get("/usage").unwrap().expect(200).unwrap();
        let booked = usage["total"]["costUsd"].as_f64().unwrap();
        assert_eq!(nanos(booked), nanos(sum), "{level}");
    }
}
