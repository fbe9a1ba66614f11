//! What a repository brings for the CLI: hooks, MCP servers, a CLAUDE.md. As with the real one
//! they all count in print mode, nobody is asked, unless the command line leaves them out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::args::Args;
use crate::{auth, given};

/// How long an MCP server is let live; none of them is spoken to.
const SERVER_LIFE: Duration = Duration::from_secs(1);

/// Runs the SessionStart hooks of the user's and the project's settings; returns how many there were.
pub(crate) fn run_hooks(args: &Args) -> usize {
    let user = auth::config_dir().map(|dir| dir.join("settings.json"));
    let user = user.filter(|_| args.reads("user"));
    let project = [
        ("project", ".claude/settings.json"),
        ("local", ".claude/settings.local.json"),
    ];
    let project = project.into_iter().filter(|(source, _)| args.reads(source));
    let files = user
        .into_iter()
        .chain(project.map(|(_, file)| Path::new(file).into()));
    let commands: Vec<String> = files
        .flat_map(|file| session_start(&json_of(&file)))
        .collect();
    for command in &commands {
        let run = Command::new("/bin/sh")
            .args(["-c", command])
            .env(
                "CLAUDE_PROJECT_DIR",
                std::env::current_dir().unwrap_or_default(),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = run {
            eprintln!("fake-claude: hook: {error}");
        }
    }
    commands.len()
}

/// Starts the servers that the command line and the project name, and lists them all as failed, for
/// want of anyone who would speak to them.
pub(crate) fn start_servers(args: &Args) -> Value {
    let dynamic = given::servers(&args.mcp).into_iter();
    let mut servers: Vec<_> = dynamic.map(|server| (server, "dynamic")).collect();
    if !args.strict_mcp && args.reads("project") {
        let config = json_of(Path::new(".mcp.json"));
        let project = config["mcpServers"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        servers.extend(project.into_iter().map(|server| (server, "project")));
    }
    let listed = servers.iter().map(|((name, server), source)| {
        start(server);
        json!({"name": name, "status": "failed", "source": source})
    });
    listed.collect()
}

/// What the model is told besides the prompt.
pub(crate) fn told(args: &Args) -> Value {
    let user = auth::config_dir().map(|dir| dir.join("CLAUDE.md"));
    let read = |source: &str, file: &Path| {
        let text = fs::read_to_string(file).ok();
        text.filter(|_| args.reads(source))
    };
    json!({
        "user": user.and_then(|file| read("user", &file)),
        "project": read("project", Path::new("CLAUDE.md")),
        "appended": args.appended,
    })
}

fn json_of(file: &Path) -> Value {
    let text = fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn session_start(settings: &Value) -> Vec<String> {
    let groups = settings["hooks"]["SessionStart"].as_array();
    let hooks = groups
        .into_iter()
        .flatten()
        .filter_map(|group| group["hooks"].as_array())
        .flatten();
    hooks
        .filter_map(|hook| Some(hook["command"].as_str()?.to_owned()))
        .collect()
}

fn start(server: &Value) {
    let Some(program) = server["command"].as_str() else {
        return;
    };
    let args = server["args"].as_array().into_iter().flatten();
    let started = Command::new(program)
        .args(args.filter_map(Value::as_str))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else { return };
    let deadline = Instant::now() + SERVER_LIFE;
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().ok();
    child.wait().ok();
}
