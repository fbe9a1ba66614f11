//! The options of a run, from the domain to the wire.

use std::collections::BTreeMap;

use agent_client::wire;
use agent_domain::{JsonText, RunOptions, ToolRule, Usd, VariableName};

/// What a job or a client says of its runs.
pub(crate) fn run_options(options: RunOptions) -> wire::RunOptions {
    let rules = |rules: Vec<ToolRule>| rules.iter().map(ToString::to_string).collect();
    wire::RunOptions {
        model: options.model,
        fallback_model: options.fallback_model,
        permission_mode: options.permission_mode.map(|mode| mode.to_string()),
        timeout_seconds: options.timeout.map(|time| time.as_secs()),
        idle_timeout_seconds: options.idle_timeout.map(|time| time.as_secs()),
        max_turns: options.max_turns,
        budget_usd: options.budget.and_then(dollars),
        allowed_tools: options.allowed_tools.map(rules),
        disallowed_tools: options.disallowed_tools.map(rules),
        append_system_prompt: options.append_system_prompt,
        agents: options.agents.as_ref().map(json_object),
        mcp_servers: options.mcp_servers.as_ref().map(json_object),
        output_schema: options.output_schema.as_ref().map(json_object),
        delivery: options.delivery.map(|way| way.to_string()),
        draft: options.draft,
        labels: options.labels,
        max_attempts: options.max_attempts,
        env: options.env.map(variables),
    }
}

/// There is a number for every amount.
pub(crate) fn dollars(amount: Usd) -> Option<wire::Dollars> {
    wire::Dollars::from_f64(amount.dollars())
}

fn variables(env: BTreeMap<VariableName, String>) -> BTreeMap<String, String> {
    let named = env.into_iter();
    named
        .map(|(name, value)| (name.to_string(), value))
        .collect()
}

/// It was an object when it was taken in.
pub(crate) fn json_object(json: &JsonText) -> wire::JsonObject {
    serde_json::from_str(json.as_str()).unwrap_or_default()
}
