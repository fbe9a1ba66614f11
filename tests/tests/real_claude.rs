//! The real Claude Code CLI, talking to our stand-in for the Messages API.
//!
//! `REAL_CLAUDE` names the native binary; `cargo xtask test` installs it and sets that, and only it runs
//! these tests.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use agent_tests::messages_api::MessagesApi;
use agent_tests::server::Builder;
use serde_json::{Value, json};

const CONTENT: &str = "Grüße from the model.\nTwo lines.\n";
/// Keeps the CLI from calling anyone but the API it is pointed at.
const QUIET: &str = "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC";

fn real_claude() -> PathBuf {
    let path = std::env::var_os("REAL_CLAUDE");
    path.expect("REAL_CLAUDE must name the CLI's binary; cargo xtask test --real-claude does")
        .into()
}

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
        .args([
            "--permission-mode",
            "bypassPermissions",
            "--model",
            "claude-sonnet-5-5",
        ])
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

#[test]
fn a_job_of_the_server_runs_the_real_cli_and_pushes_what_it_wrote() {
    let claude = real_claude();
    let api = MessagesApi::writing("notes/from model.txt", CONTENT, "I wrote the note.").unwrap();
    let server = Builder::new()
        .unwrap()
        .env("CLAUDE_BIN", claude)
        .env("ANTHROPIC_BASE_URL", api.url())
        .env("CLAUDE_MODEL", "claude-sonnet-5-5")
        .env(QUIET, "1")
        .env("AGENT_ENV", QUIET);
    let tmp = server.dir().join("tmp");
    std::fs::create_dir(&tmp).unwrap();
    let server = server.env("TMPDIR", tmp);
    let repo = server.repo("acme", "app").unwrap();
    let server = server.start().unwrap();
    let job = json!({
        "githubOrg": "acme", "githubRepo": "app", "branchName": "feature/note",
        "title": "Add a note", "prompt": "Write a note.",
    });
    let id = server.submit(&job).unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(
        (&job["status"], &job["exitCode"]),
        (&"completed".into(), &0.into()),
        "{job:#}"
    );
    assert_eq!(
        repo.show("feature/note", "notes/from model.txt").unwrap(),
        CONTENT.as_bytes()
    );
    assert_eq!(repo.subject("feature/note").unwrap(), "Add a note");
    assert_eq!(
        (&job["model"], &job["cliVersion"]),
        (&"claude-sonnet-5-5".into(), &"2.1.329".into())
    );
    let messages = server.messages(&id).unwrap().join("\n");
    assert!(messages.contains("I wrote the note."), "{messages}");
}
