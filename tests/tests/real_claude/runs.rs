//! A run of the real CLI, on its own and as a job.

use std::process::{Command, Output, Stdio};

use agent_tests::messages_api::MessagesApi;
use serde_json::{Value, json};

use crate::{CONTENT, MODEL, QUIET, builder, real_claude};

fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_stand_in_for_the_api_is_good_enough_for_the_real_cli() {
    let claude = real_claude();
    let api = MessagesApi::writing("notes/from model.txt", CONTENT, "I wrote the note.").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(claude)
        .args(["-p", "--output-format", "stream-json", "--verbose"])
        .args(["--permission-mode", "bypassPermissions", "--model", MODEL])
        .args(["--", "Write a note."])
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", dir.path().join("home"))
        // It leaves sockets and the output of tasks there.
        .env("TMPDIR", dir.path())
        .env("ANTHROPIC_BASE_URL", api.url())
        .env("ANTHROPIC_API_KEY", "sk-ant-test")
        .env(QUIET, "1")
        .env("IS_SANDBOX", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let written = std::fs::read_to_string(dir.path().join("notes/from model.txt")).unwrap();
    assert_eq!(written, CONTENT);
    let events = events(&output);
    let result = events.last().unwrap();
    assert_eq!(
        (&events[0]["subtype"], &result["type"]),
        (&"init".into(), &"result".into())
    );
    assert_eq!(
        (&result["subtype"], &result["is_error"]),
        (&"success".into(), &false.into())
    );
    assert_eq!(result["result"], "I wrote the note.");
    assert_eq!(api.requests().len(), 2, "one per turn and nothing else");
}

/// Runs a job with the real CLI, behind a sandbox of this level.
fn pushes_what_it_wrote(level: &str) {
    let api = MessagesApi::writing("notes/from model.txt", CONTENT, "I wrote the note.").unwrap();
    let builder = builder(&api).behind(level);
    let repo = builder.repo("acme", "app").unwrap();
    let server = builder.start().unwrap();
    let job = json!({
        "githubOrg": "acme", "githubRepo": "app", "branchName": "feature/note",
        "title": "Add a note", "prompt": "Write a note.",
    });
    let id = server.submit(&job).unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(
        (&job["status"], &job["exitCode"]),
        (&"completed".into(), &0.into()),
        "{job:#}\n{}",
        server.log(&id).unwrap()
    );
    assert_eq!(
        repo.show("feature/note", "notes/from model.txt").unwrap(),
        CONTENT.as_bytes()
    );
    assert_eq!(repo.subject("feature/note").unwrap(), "Add a note");
    assert_eq!(
        (&job["model"], &job["cliVersion"]),
        (&MODEL.into(), &"2.1.329".into())
    );
    let messages = server.messages(&id).unwrap().join("\n");
    assert!(messages.contains("I wrote the note."), "{messages}");
    let page = server.client().get(&format!("/jobs/{id}/events")).unwrap();
    let page = page.expect(200).unwrap();
    assert_eq!(page["isLast"], true);
    let events: Vec<&Value> = page["events"].as_array().unwrap().iter().collect();
    let of = |kind: &str| events.iter().find(|event| event["type"] == kind).unwrap();
    assert_eq!(of("init")["cliVersion"], "2.1.329");
    let call = of("tool_call");
    assert_eq!(
        (&call["name"], &call["input"]["content"]),
        (&"Write".into(), &CONTENT.into())
    );
    assert!(call["messageId"].is_string(), "{call}");
    let result = of("tool_result");
    assert_eq!(
        (&result["callId"], &result["isError"]),
        (&call["callId"], &false.into())
    );
    assert_eq!(of("result")["text"], "I wrote the note.");
    let system = |event: &&Value| event["type"] == "output" && event["stream"] == "system";
    assert!(events.iter().any(system));
}

#[test]
fn a_job_of_the_server_runs_the_real_cli_and_pushes_what_it_wrote() {
    pushes_what_it_wrote("off");
}

#[test]
fn the_real_cli_works_behind_a_wall() {
    pushes_what_it_wrote("workspace");
}

#[test]
fn the_real_cli_works_behind_a_wall_with_no_network_but_the_models_api() {
    pushes_what_it_wrote("isolated");
}
