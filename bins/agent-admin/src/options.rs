//! The options of a run, as flags, as a request and as lines of text.

use std::path::{Path, PathBuf};

use agent_client::wire::{Dollars, JsonObject, Patch, RunOptions, UpdateClient};
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::Value;

use crate::args::Share;
use crate::failure::Failure;
use crate::submit::read_file;

/// How the agent is run: a job's own wishes, or what a client's jobs get without any.
#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    /// Model the agent is to use
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Models to be used where that one is overloaded, separated by commas
    #[arg(long)]
    pub(crate) fallback_model: Option<String>,
    /// Permission mode of the CLI
    #[arg(long)]
    pub(crate) permission_mode: Option<String>,
    /// Longest run of the agent, in seconds
    #[arg(long)]
    pub(crate) timeout: Option<u64>,
    /// Longest silence of the agent, in seconds
    #[arg(long)]
    pub(crate) idle_timeout: Option<u64>,
    /// Turns after which the agent is ended
    #[arg(long)]
    pub(crate) max_turns: Option<u32>,
    /// What a job may cost, in US dollars
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub(crate) budget: Option<Dollars>,
    /// Let the agent use this without asking, such as 'Bash(git *)'; may be repeated
    #[arg(long = "allowed-tool", value_name = "RULE")]
    pub(crate) allowed_tools: Vec<String>,
    /// Do not let the agent use this; may be repeated
    #[arg(long = "disallowed-tool", value_name = "RULE")]
    pub(crate) disallowed_tools: Vec<String>,
    /// Added to the CLI's own system prompt
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) append_system_prompt: Option<String>,
    /// JSON file with subagents by name
    #[arg(long, value_name = "FILE")]
    pub(crate) agents: Option<PathBuf>,
    /// JSON file with MCP servers by name
    #[arg(long, value_name = "FILE")]
    pub(crate) mcp_servers: Option<PathBuf>,
    /// File with a JSON Schema for the agent's answer
    #[arg(long, value_name = "FILE")]
    pub(crate) output_schema: Option<PathBuf>,
    /// What becomes of the work: pull_request, branch or none
    #[arg(long)]
    pub(crate) delivery: Option<String>,
    /// Open the pull request as a draft
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) draft: Option<bool>,
    /// Label of the pull request; may be repeated
    #[arg(long = "label")]
    pub(crate) labels: Vec<String>,
    /// How many runs may be lost in a row
    #[arg(long)]
    pub(crate) max_attempts: Option<u32>,
    /// Variable for the agent's environment, NAME=VALUE; may be repeated. Not for secrets: the
    /// server stores and shows it
    #[arg(long, value_name = "VARIABLE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
}

/// One of [`Run`] or [`Share`], by the name of its option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunOption {
    Model,
    FallbackModel,
    PermissionMode,
    Timeout,
    IdleTimeout,
    MaxTurns,
    Budget,
    AllowedTool,
    DisallowedTool,
    AppendSystemPrompt,
    Agents,
    McpServers,
    OutputSchema,
    Delivery,
    Draft,
    Label,
    MaxAttempts,
    Env,
    MaxConcurrent,
}

/// What is asked for, with the files it is in.
pub(crate) fn read(run: Run) -> Result<RunOptions, Failure> {
    let file = |path: Option<PathBuf>| path.as_deref().map(json_file).transpose();
    let env = (!run.env.is_empty()).then(|| run.env.into_iter().collect());
    Ok(RunOptions {
        model: run.model,
        fallback_model: run.fallback_model,
        permission_mode: run.permission_mode,
        timeout_seconds: run.timeout,
        idle_timeout_seconds: run.idle_timeout,
        max_turns: run.max_turns,
        budget_usd: run.budget,
        allowed_tools: any(run.allowed_tools),
        disallowed_tools: any(run.disallowed_tools),
        append_system_prompt: run.append_system_prompt,
        agents: file(run.agents)?,
        mcp_servers: file(run.mcp_servers)?.map(servers),
        output_schema: file(run.output_schema)?,
        delivery: run.delivery,
        draft: run.draft,
        labels: any(run.labels),
        max_attempts: run.max_attempts,
        env,
    })
}

/// The change of a client that sets what is asked for and clears what is to be left to the server.
pub(crate) fn change(run: Run, share: Share, unset: &[RunOption]) -> Result<UpdateClient, Failure> {
    use RunOption as O;
    let set = read(run)?;
    Ok(UpdateClient {
        model: patch(set.model, O::Model, unset)?,
        fallback_model: patch(set.fallback_model, O::FallbackModel, unset)?,
        permission_mode: patch(set.permission_mode, O::PermissionMode, unset)?,
        timeout_seconds: patch(set.timeout_seconds, O::Timeout, unset)?,
        idle_timeout_seconds: patch(set.idle_timeout_seconds, O::IdleTimeout, unset)?,
        max_turns: patch(set.max_turns, O::MaxTurns, unset)?,
        budget_usd: patch(set.budget_usd, O::Budget, unset)?,
        allowed_tools: patch(set.allowed_tools, O::AllowedTool, unset)?,
        disallowed_tools: patch(set.disallowed_tools, O::DisallowedTool, unset)?,
        append_system_prompt: patch(set.append_system_prompt, O::AppendSystemPrompt, unset)?,
        agents: patch(set.agents, O::Agents, unset)?,
        mcp_servers: patch(set.mcp_servers, O::McpServers, unset)?,
        output_schema: patch(set.output_schema, O::OutputSchema, unset)?,
        delivery: patch(set.delivery, O::Delivery, unset)?,
        draft: patch(set.draft, O::Draft, unset)?,
        labels: patch(set.labels, O::Label, unset)?,
        max_attempts: patch(set.max_attempts, O::MaxAttempts, unset)?,
        env: patch(set.env, O::Env, unset)?,
        priority: share.priority.into(),
        max_concurrent: patch(share.max_concurrent, O::MaxConcurrent, unset)?,
        ..UpdateClient::default()
    })
}

/// Lines that tell of the options that are set.
pub(crate) fn rows(options: &RunOptions) -> Vec<(&'static str, Option<String>)> {
    let seconds = |count: &u64| format!("{count} s");
    let list = |rules: &Vec<String>| rules.join(", ");
    let json = |object: &JsonObject| Value::Object(object.clone()).to_string();
    let env = options.env.as_ref().map(|env| {
        let pairs = env.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(", ")
    });
    vec![
        ("model", options.model.clone()),
        ("fallback model", options.fallback_model.clone()),
        ("permission mode", options.permission_mode.clone()),
        ("timeout", options.timeout_seconds.as_ref().map(seconds)),
        (
            "idle timeout",
            options.idle_timeout_seconds.as_ref().map(seconds),
        ),
        (
            "max turns",
            options.max_turns.map(|turns| turns.to_string()),
        ),
        (
            "budget",
            options.budget_usd.as_ref().map(|most| format!("${most}")),
        ),
        ("allowed tools", options.allowed_tools.as_ref().map(list)),
        (
            "disallowed tools",
            options.disallowed_tools.as_ref().map(list),
        ),
        ("system prompt", options.append_system_prompt.clone()),
        ("agents", options.agents.as_ref().map(json)),
        ("MCP servers", options.mcp_servers.as_ref().map(json)),
        ("output schema", options.output_schema.as_ref().map(json)),
        ("delivery", options.delivery.clone()),
        ("draft", options.draft.map(|draft| draft.to_string())),
        ("labels", options.labels.as_ref().map(list)),
        (
            "max attempts",
            options.max_attempts.map(|most| most.to_string()),
        ),
        ("environment", env),
    ]
}

fn patch<T>(value: Option<T>, option: RunOption, unset: &[RunOption]) -> Result<Patch<T>, Failure> {
    match (value, unset.contains(&option)) {
        (Some(_), true) => Err(Failure::Usage(
            "--unset names an option that is given a value, too".to_owned(),
        )),
        (None, true) => Ok(Patch::Null),
        (value, false) => Ok(value.into()),
    }
}

fn any(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

pub(crate) fn json_file(path: &Path) -> Result<JsonObject, Failure> {
    serde_json::from_str(&read_file(path)?).map_err(|error| {
        let path = path.display();
        Failure::Usage(format!("{path} does not hold a JSON object: {error}"))
    })
}

/// The servers themselves, also where they stand in the CLI's own form of a file.
fn servers(mut file: JsonObject) -> JsonObject {
    match file.get_mut("mcpServers").map(Value::take) {
        Some(Value::Object(servers)) if file.len() == 1 => servers,
        Some(other) => {
            file.insert("mcpServers".to_owned(), other);
            file
        }
        None => file,
    }
}

/// Reads an amount of US dollars.
pub(crate) fn dollars(text: &str) -> Result<Dollars, String> {
    let amount = text.parse().ok().and_then(Dollars::from_f64);
    amount.ok_or_else(|| "an amount of US dollars is wanted, such as 2.50".to_owned())
}

/// As [`dollars`], or `none` for no limit.
pub(crate) fn cap(text: &str) -> Result<Patch<Dollars>, String> {
    match text {
        "none" => Ok(Patch::Null),
        amount => dollars(amount).map(Patch::Value),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> JsonObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_file_of_servers_may_have_the_clis_own_form() {
        let bare = object(json!({"a": {"command": "x"}}));
        assert_eq!(servers(bare.clone()), bare);
        assert_eq!(servers(object(json!({"mcpServers": bare}))), bare);
        let named_so = object(json!({"mcpServers": {"command": "x"}, "b": {}}));
        assert_eq!(servers(named_so.clone()), named_so);
    }

    #[test]
    fn the_value_of_a_variable_may_hold_an_equals_sign_or_nothing() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        assert!(variable("A").is_err());
    }
}
