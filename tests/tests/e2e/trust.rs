//! What a repository brings for the CLI, for clients that are trusted and that are not.

use std::path::Path;

use agent_tests::server::{Builder, Server};
use serde_json::{Value, json};
use ureq::http::Method;

use crate::scripted;

/// A server whose repository `acme/site` brings a hook and an MCP server that leave a canary, and a
/// CLAUDE.md; the operator has a CLAUDE.md, too.
fn start() -> Server {
    let builder = Builder::new().unwrap();
    let repo = builder.repo("acme", "site").unwrap();
    let canary = |name: &str| builder.dir().join(name).display().to_string();
    let hook = json!({"hooks": {"SessionStart": [{"hooks": [
        {"type": "command", "command": format!("touch {}", canary("hook-ran"))},
    ]}]}});
    let server = json!({"mcpServers": {
        "bad": {"command": "touch", "args": [canary("server-ran")]},
    }});
    let files = [
        (".claude/settings.json", hook.to_string()),
        (".mcp.json", server.to_string()),
        ("CLAUDE.md", "Use tabs everywhere.\n".into()),
    ];
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, &**text)).collect();
    repo.commit("main", &files, "Set up the agent").unwrap();
    let server = builder.start().unwrap();
    let config = server.home().join(".claude");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("CLAUDE.md"), "I am the operator.\n").unwrap();
    server
}

/// What the agent of one job was told besides its prompt, and whether hook and server ran.
fn run(server: &Server, branch: &str) -> (Value, [bool; 2]) {
    let record = server.dir().join(format!("{branch}.json"));
    // An agent's own change of the file is not what counts.
    let script = format!("write CLAUDE.md changed\nrecord {}", record.display());
    let id = server.submit(&scripted(branch, &script)).unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(job["status"], "completed", "{job:#}");
    let ran = ["hook-ran", "server-ran"].map(|name| server.dir().join(name).exists());
    (told(&record), ran)
}

fn told(record: &Path) -> Value {
    let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    record["told"].clone()
}

#[test]
fn an_untrusted_repository_runs_nothing_of_its_own_and_its_conventions_count() {
    let server = start();
    let (told, ran) = run(&server, "untrusted");
    assert_eq!(ran, [false, false]);
    assert_eq!(told["user"], "I am the operator.\n");
    assert_eq!(told["project"], Value::Null);
    let appended = told["appended"].as_str().unwrap();
    assert!(appended.contains("Use tabs everywhere.\n"), "{appended}");

    let clients = server
        .client()
        .get("/clients")
        .unwrap()
        .expect(200)
        .unwrap();
    let id = clients["clients"][0]["id"].as_str().unwrap();
    let trust = json!({"trusted": true});
    let path = format!("/clients/{id}");
    let changed = server.client().send_json(Method::PATCH, &path, &trust);
    changed.unwrap().expect(200).unwrap();
    let (told, ran) = run(&server, "trusted");
    assert_eq!(ran, [true, true]);
    assert_eq!(told["project"], "changed\n");
    assert_eq!(told["appended"], Value::Null);
}
