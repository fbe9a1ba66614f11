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

#[test]
fn servers_and_subagents_of_the_command_line_count_beside_a_strict_configuration() {
    let place = place();
    let servers = json!({"mcpServers": {
        "mine": {"command": "touch", "args": ["mine-ran"]}, "nothing": {},
    }});
    fs::write(place.work().join("mcp.json"), servers.to_string()).unwrap();
    let flags = [
        "--strict-mcp-config",
        "--mcp-config",
        "mcp.json",
        "--agents",
        r#"{"critic":{"description":"d","prompt":"p"}}"#,
        "--disallowedTools",
        "WebFetch",
        "Bash(rm:*)",
    ];
    let done = place.script_with(&flags, "");
    let init = done
        .events()
        .into_iter()
        .find(|event| event["subtype"] == "init");
    let init = init.unwrap();
    let mine = json!([{"name": "mine", "status": "failed", "source": "dynamic"}]);
    assert_eq!(init["mcp_servers"], mine);
    let ran = ["mine-ran", "server-ran"].map(|name| place.work().join(name).exists());
    assert_eq!(ran, [true, false]);
    let holds = |list: &str, name: &str| {
        let list = init[list].as_array().unwrap();
        list.contains(&name.into())
    };
    assert!(holds("agents", "critic") && holds("tools", "Bash") && !holds("tools", "WebFetch"));
}

#[test]
fn subagents_that_are_none_are_refused_before_anything_begins() {
    let place = place();
    for (agents, complaint) in [
        ("nowhere.json", "Error: --agents file not found: "),
        (r#"{"a":1}"#, "Error: Invalid --agents configuration:\na: "),
        (
            r#"{"a":{"description":"d"}}"#,
            "Error: Invalid --agents configuration:\na.prompt: ",
        ),
    ] {
        let done = place.script_with(&["--agents", agents], "");
        assert_eq!((done.code(), done.text().as_str()), (Some(1), ""));
        assert!(done.stderr.starts_with(complaint), "{}", done.stderr);
    }
    for (schema, complaint) in [
        ("x", "is not valid JSON"),
        (r#"{"type":"x"}"#, "JSON Schema"),
    ] {
        let done = place.script_with(&["--json-schema", schema], "");
        assert!(done.stderr.contains(complaint), "{}", done.stderr);
    }
    let done = place.script_with(&["--allowedTools", "--verbose"], "");
    assert!(done.stderr.contains("argument missing"), "{}", done.stderr);
}
