//! How runs of the real CLI end that meet trouble.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use agent_tests::messages_api::{ApiError, MessagesApi, Turn};
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};

use crate::{QUIET, builder, real_claude};

/// What the API does, and the reason that a job of the real CLI then has. Each is told to the model
/// by its name in the prompt.
fn troubles() -> Vec<(&'static str, ApiError, &'static str)> {
    let error = ApiError::new;
    vec![
        (
            "of_an_overloaded_api",
            error(529, "overloaded_error", "Overloaded"),
            "api",
        ),
        (
            "of_a_broken_api",
            error(500, "api_error", "Internal server error"),
            "api",
        ),
        (
            "of_a_bad_gateway",
            error(502, "api_error", "Bad gateway"),
            "api",
        ),
        (
            "of_a_rate_limit",
            error(429, "rate_limit_error", "Too many requests").header("retry-after", "1"),
            "api",
        ),
        (
            "of_a_wrong_key",
            error(401, "authentication_error", "invalid x-api-key"),
            "auth",
        ),
        (
            "of_a_forbidden_call",
            error(403, "permission_error", "Not allowed"),
            "auth",
        ),
        (
            "of_an_empty_account",
            error(
                400,
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
            ),
            "billing",
        ),
        (
            "of_an_unknown_model",
            error(404, "not_found_error", "model: gone"),
            "model_not_found",
        ),
        (
            "of_a_long_prompt",
            error(
                400,
                "invalid_request_error",
                "prompt is too long: 250000 tokens > 200000 maximum",
            ),
            "prompt_too_long",
        ),
    ]
}

/// A server that has nothing to pay with, and whose CLI tries again once where it would ten times.
fn quick_server(api: &MessagesApi) -> (Server, BareRepo) {
    let builder = builder(api)
        .without("ANTHROPIC_API_KEY")
        .env("CLAUDE_CODE_MAX_RETRIES", "1")
        .env("CLAUDE_CODE_MAX_TURNS", "2")
        .env("AGENT_ENV", format!("{QUIET} CLAUDE_CODE_MAX_TURNS"));
    let repo = builder.repo("acme", "app").unwrap();
    (builder.start().unwrap(), repo)
}

fn own_key() -> Value {
    json!({"anthropicApiKey": "sk-ant-of-the-agent"})
}

/// Runs a job for each word, and checks its reason; one that is to complete has none.
///
/// Each is given `secrets`: what becomes of a key of its own has to do with no other job.
fn have_reasons(
    server: &Server,
    repo: &BareRepo,
    secrets: &Value,
    cases: &[(&str, Option<&str>)],
) -> Vec<Value> {
    let ids: Vec<String> = cases
        .iter()
        .map(|(word, _)| {
            let job = json!({
                "githubOrg": repo.org(), "githubRepo": repo.name(),
                "branchName": format!("x/{word}"), "prompt": format!("Speak {word}."),
                "secrets": secrets,
            });
            server.submit(&job).unwrap()
        })
        .collect();
    let judged = |job: &Value| job["reason"].is_string() || job["status"] == "completed";
    let jobs = ids.iter().map(|id| server.wait_for(id, judged).unwrap());
    let jobs: Vec<Value> = jobs.collect();
    for ((word, reason), job) in cases.iter().zip(&jobs) {
        assert_eq!(job["reason"].as_str(), *reason, "{word}: {job:#}");
    }
    jobs
}

#[test]
fn each_trouble_of_the_api_has_its_reason_with_the_real_cli() {
    let scripts = troubles()
        .into_iter()
        .map(|(word, error, _)| (word, vec![Turn::Error(error)]));
    let api = MessagesApi::by_prompt(scripts.collect()).unwrap();
    let (server, repo) = quick_server(&api);
    let cases: Vec<_> = troubles()
        .into_iter()
        .map(|(word, _, reason)| (word, Some(reason)))
        .collect();
    for job in have_reasons(&server, &repo, &own_key(), &cases) {
        assert_eq!(job["exitCode"], 1, "{job:#}");
        assert!(job["sessionId"].is_string(), "{job:#}");
    }
}

#[test]
fn each_way_the_model_ends_has_its_reason_with_the_real_cli() {
    let write = |path: &str| Turn::Tool {
        name: "Write".into(),
        input: json!({"file_path": path, "content": "x"}),
    };
    let api = MessagesApi::by_prompt(vec![
        ("of_a_refusal", vec![Turn::Stopped("refusal")]),
        ("of_a_long_answer", vec![Turn::Stopped("max_tokens")]),
        ("of_garbage", vec![Turn::Garbage]),
        ("of_many_turns", ["a", "b", "c", "d"].map(write).into()),
        ("of_success", vec![Turn::Text("Well.".into())]),
    ])
    .unwrap();
    let (server, repo) = quick_server(&api);
    let cases = [
        ("of_a_refusal", Some("refused")),
        ("of_a_long_answer", Some("max_output_tokens")),
        ("of_garbage", Some("agent_failed")),
        ("of_many_turns", Some("max_turns")),
        ("of_success", None),
    ];
    have_reasons(&server, &repo, &own_key(), &cases);
}

#[test]
fn a_login_that_is_missing_or_refused_is_told_from_all_else_with_the_real_cli() {
    let refused = ApiError::new(401, "authentication_error", "OAuth token has been revoked");
    let api = MessagesApi::start(vec![Turn::Error(refused)]).unwrap();
    let (server, repo) = quick_server(&api);
    have_reasons(&server, &repo, &json!({}), &[("of_nobody", Some("auth"))]);
    assert!(api.requests().is_empty(), "there is nothing to ask with");
    let job = json!({
        "githubOrg": "acme", "githubRepo": "app", "branchName": "x/own", "prompt": "Speak.",
        "secrets": {"claudeCodeOauthToken": "sk-ant-oat01-revoked"},
    });
    let id = server.submit(&job).unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(job["reason"], "auth", "{job:#}");
    let asked = api.requests();
    assert!(!asked.is_empty());
    for request in asked {
        let bearer = Some("Bearer sk-ant-oat01-revoked");
        assert_eq!(request.header("authorization"), bearer);
        assert_eq!(request.header("x-api-key"), None);
    }
}

#[test]
fn the_retries_of_the_real_cli_are_shown_while_the_job_runs() {
    let error = ApiError::new(500, "api_error", "Internal server error");
    let api = MessagesApi::start(vec![Turn::Error(error)]).unwrap();
    let builder = builder(&api);
    builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let job = json!({
        "githubOrg": "acme", "githubRepo": "app", "branchName": "x/it", "prompt": "Speak.",
    });
    let id = server.submit(&job).unwrap();
    let is_told = |job: &Value| {
        let detail = job["phaseDetail"].as_str().unwrap_or_default();
        detail.starts_with("the API is in trouble (500): try 3 of 10 at 2")
    };
    server.wait_for(&id, is_told).unwrap();
    let cancel = format!("/jobs/{id}/cancel");
    let cancelled = server.client().post(&cancel, &json!({})).unwrap();
    cancelled.expect(200).unwrap();
    assert_eq!(server.job(&id).unwrap()["phaseDetail"], Value::Null);
}

/// Without the setting by which the server keeps the CLI from running anything in the background.
fn with_background(builder: Builder) -> Builder {
    let wrapper = builder.dir().join("claude");
    let text = format!(
        "#!/bin/sh\nunset CLAUDE_CODE_DISABLE_BACKGROUND_TASKS\nexec {} \"$@\"\n",
        real_claude().display()
    );
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    builder.env("CLAUDE_BIN", wrapper)
}

/// Runs a job whose agent starts `command` in the background, writes a file, and says two more words
/// if it is asked to; returns it with its log.
fn with_command_in_background(command: &str) -> (Value, String) {
    let bash = Turn::Tool {
        name: "Bash".into(),
        input: json!({"command": command, "run_in_background": true, "description": "wait"}),
    };
    let write = Turn::Tool {
        name: "Write".into(),
        input: json!({"file_path": "a.txt", "content": "a"}),
    };
    let [first, last] = ["I wait for it.", "It is over."].map(|text| Turn::Text(text.into()));
    let api = MessagesApi::start(vec![bash, write, first, last]).unwrap();
    let builder = with_background(builder(&api));
    builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let job = json!({
        "githubOrg": "acme", "githubRepo": "app", "branchName": "x/it", "prompt": "Speak.",
        "idleTimeoutSeconds": 15,
    });
    let id = server.submit(&job).unwrap();
    let job = server.wait(&id).unwrap();
    let log = server.log(&id).unwrap();
    assert_eq!(
        (&job["status"], &job["filesChanged"]),
        (&json!("completed"), &json!(1)),
        "{job:#}\n{log}"
    );
    (job, log)
}

/// A call is 12 tokens in and 7 out.
const CALL: f64 = 0.000_094;

#[test]
fn of_the_two_results_of_the_real_cli_around_a_command_in_the_background_the_last_counts() {
    let (job, log) = with_command_in_background("sleep 3");
    assert_eq!(log.matches(r#""subtype":"init""#).count(), 2, "{log}");
    assert!(!log.contains("since its result"), "{log}");
    let cost = job["costUsd"].as_f64().unwrap();
    assert!((cost - 4.0 * CALL).abs() < 1e-9, "{cost}");
}

#[test]
fn the_real_cli_is_ended_with_its_result_where_a_command_in_the_background_keeps_it() {
    let (job, log) = with_command_in_background("sleep 500");
    assert!(log.contains("silent for 15 s since its result"), "{log}");
    let cost = job["costUsd"].as_f64().unwrap();
    assert!((cost - 3.0 * CALL).abs() < 1e-9, "{cost}");
}
