//! What a repository brings for the CLI, and the flags that leave it out.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Done, Place};

/// A working directory that brings a hook, a server and a CLAUDE.md, and a user who has their own.
fn place() -> Place {
    let place = Place::new();
    let hook = json!({"hooks": {"SessionStart": [{"hooks": [
        {"type": "command", "command": "touch hook-ran"},
    ]}]}});
    let server = json!({"mcpServers": {"bad": {"command": "touch", "args": ["server-ran"]}}});
    for (dir, file, content) in [
        (
            place.work().join(".claude"),
            "settings.json",
            hook.to_string(),
        ),
        (place.work(), ".mcp.json", server.to_string()),
        (place.work(), "CLAUDE.md", "from the project".into()),
        (
            place.home().join(".claude"),
            "CLAUDE.md",
            "from the user".into(),
        ),
    ] {
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), content).unwrap();
    }
    place
}

/// Whether the hook ran, whether the server ran, and what the model was told.
fn seen(place: &Place, done: &Done) -> (bool, bool, Value) {
    let ran = |name: &str| place.work().join(name).exists();
    let listed = &done
        .events()
        .into_iter()
        .find(|event| event["subtype"] == "init");
    let servers = listed.as_ref().unwrap()["mcp_servers"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(servers, usize::from(ran("server-ran")));
    let record: Value = serde_json::from_str(&place.read("seen.json")).unwrap();
    (ran("hook-ran"), ran("server-ran"), record["told"].clone())
}

#[test]
fn everything_a_repository_brings_counts_unless_it_is_left_out() {
    let place = place();
    let done = place.script("record seen.json");
    let told = json!({"user": "from the user", "project": "from the project", "appended": null});
    assert_eq!(seen(&place, &done), (true, true, told));
    assert_eq!(done.events()[0]["subtype"], "hook_started", "before init");
}

#[test]
fn a_server_is_left_out_by_itself() {
    let place = place();
    let done = place.script_with(&["--strict-mcp-config"], "record seen.json");
    let (hook, server, _) = seen(&place, &done);
    assert_eq!((hook, server), (true, false));
}

#[test]
fn with_the_users_settings_only_the_repository_brings_nothing() {
    let place = place();
    let flags = [
        "--setting-sources",
        "user",
        "--append-system-prompt",
        "text",
    ];
    let done = place.script_with(&flags, "record seen.json");
    let told = json!({"user": "from the user", "project": null, "appended": "text"});
    assert_eq!(seen(&place, &done), (false, false, told));
    let refused = place.script_with(&["--setting-sources", "team"], "");
    assert_eq!(refused.code(), Some(1));
}
