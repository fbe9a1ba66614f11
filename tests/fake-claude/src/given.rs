//! Subagents and MCP servers that the command line brings, inline or in files.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// The object in `value`, or in the file that it names.
fn object(value: &str) -> Option<Map<String, Value>> {
    let parse = |text: &str| serde_json::from_str(text).ok();
    parse(value).or_else(|| parse(&fs::read_to_string(value).ok()?))
}

/// The subagents of `--agents`, or the complaint of the real one.
pub(crate) fn agents(value: &str) -> Result<Vec<String>, String> {
    let Some(agents) = object(value) else {
        let path = std::env::current_dir().unwrap_or_default().join(value);
        let note = "(a value that is not a JSON object is read as a file path)";
        return Err(format!(
            "Error: --agents file not found: {} {note}",
            path.display()
        ));
    };
    for (name, agent) in &agents {
        let invalid = |what: &str| format!("Error: Invalid --agents configuration:\n{name}{what}");
        if !agent.is_object() {
            return Err(invalid(": Invalid input: expected object"));
        }
        for member in ["description", "prompt"] {
            if !agent[member].is_string() {
                let what = format!(".{member}: Invalid input: expected string, received undefined");
                return Err(invalid(&what));
            }
        }
    }
    Ok(agents.into_iter().map(|(name, _)| name).collect())
}

/// Refuses what the real one does not take for a JSON Schema; it looks deeper.
pub(crate) fn check_schema(value: &str) -> Result<(), String> {
    const TYPES: [&str; 7] = [
        "array", "boolean", "integer", "null", "number", "object", "string",
    ];
    let schema: Value = serde_json::from_str(value)
        .map_err(|error| format!("Error: --json-schema is not valid JSON: {error}"))?;
    let known = |kind: &str| TYPES.contains(&kind);
    if schema["type"].as_str().is_none_or(known) {
        return Ok(());
    }
    let what = "data/type must be equal to one of the allowed values";
    Err(format!(
        "Error: --json-schema is not a valid JSON Schema: {what}"
    ))
}

/// The servers of every `--mcp-config`; one with neither command nor address counts for nothing.
pub(crate) fn servers(configs: &[String]) -> Vec<(String, Value)> {
    let files = configs.iter().filter_map(|config| object(config));
    let servers = files.filter_map(|mut file| match file.remove("mcpServers") {
        Some(Value::Object(servers)) => Some(servers),
        _ => None,
    });
    let usable = |server: &Value| {
        ["command", "url"]
            .iter()
            .any(|key| server[*key].is_string())
    };
    servers
        .flatten()
        .filter(|(_, server)| usable(server))
        .collect()
}

/// Whether a value of `--mcp-config` can be read at all.
pub(crate) fn is_readable(config: &str) -> bool {
    serde_json::from_str::<Value>(config).is_ok() || Path::new(config).exists()
}
