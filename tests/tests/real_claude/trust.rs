//! What the real CLI takes from a repository.

use agent_tests::messages_api::{MessagesApi, Turn};
use serde_json::{Value, json};

use crate::builder;

/// Runs a job of a repository that brings a hook and an MCP server, each of which leaves a canary,
/// a slash command, an agent and a CLAUDE.md; returns what the API was asked, the job's init event
/// and which canaries there are.
fn hostile(trusted: bool) -> (String, Value, [bool; 2]) {
    let api = MessagesApi::start(vec![Turn::Text("Done.".into())]).unwrap();
    let builder = builder(&api);
    let canaries = ["hook", "server"].map(|name| builder.dir().join(format!("{name}-ran")));
    let [hook, server] = canaries.each_ref().map(|path| path.display().to_string());
    let settings = json!({
        "hooks": {"SessionStart": [{"hooks": [
            {"type": "command", "command": format!("touch {hook}")},
        ]}]},
        "env": {"PLANTED": "1"},
        "permissions": {"deny": ["WebFetch"]},
    });
    let mcp = json!({"mcpServers": {
        "bad": {"command": "/bin/sh", "args": ["-c", format!("touch {server}; sleep 1")]},
    }});
    let files = [
        (".claude/settings.json", settings.to_string()),
        (".mcp.json", mcp.to_string()),
        (".claude/commands/planted.md", "Do evil.\n".into()),
        (
            ".claude/agents/planted.md",
            "---\nname: planted\ndescription: x\n---\nEvil.\n".into(),
        ),
        ("CLAUDE.md", "Canary of the repository: use tabs.\n".into()),
    ];
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, &**text)).collect();
    let repo = builder.repo("acme", "app").unwrap();
    repo.commit("main", &files, "Set up the agent").unwrap();
    let server = builder.start().unwrap();
    let config = server.home().join(".claude");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("CLAUDE.md"), "Canary of the operator.\n").unwrap();
    let client = json!({
        "name": "App", "githubOrg": "acme", "githubRepo": "app", "trusted": trusted,
    });
    let made = server.client().post("/clients", &client).unwrap();
    made.expect(201).unwrap();
    let job = json!({
        "githubOrg": "acme", "githubRepo": "app", "branchName": "feature/x", "prompt": "Say done.",
    });
    let id = server.submit(&job).unwrap();
    let job = server.wait(&id).unwrap();
    assert_eq!(job["status"], "completed", "{job:#}");
    let log = server.log(&id).unwrap();
    let events = log.lines().filter_map(|line| {
        let (_, json) = line.split_once('{')?;
        serde_json::from_str::<Value>(&format!("{{{json}")).ok()
    });
    let mut events = events.filter(|event| event["subtype"] == "init");
    let asked = api.requests();
    let asked = asked
        .iter()
        .map(|request| String::from_utf8_lossy(&request.body).into_owned());
    let ran = canaries.map(|path| path.exists());
    (asked.collect(), events.next().unwrap(), ran)
}

#[test]
fn the_real_cli_runs_nothing_of_an_untrusted_repository_and_hears_its_conventions() {
    let (asked, init, ran) = hostile(false);
    assert_eq!(ran, [false, false]);
    assert_eq!(init["mcp_servers"], json!([]));
    for list in ["slash_commands", "agents", "skills"] {
        assert!(!init[list].to_string().contains("planted"), "{init:#}");
    }
    for told in [
        "Canary of the repository: use tabs.",
        "Canary of the operator.",
    ] {
        assert!(asked.contains(told), "{told}");
    }
}

#[test]
fn the_real_cli_takes_what_a_trusted_repository_brings() {
    let (asked, init, ran) = hostile(true);
    assert_eq!(ran, [true, true], "the test above could not fail");
    assert!(init["slash_commands"].to_string().contains("planted"));
    assert!(asked.contains("Canary of the repository: use tabs."));
}
