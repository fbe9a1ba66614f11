//! The options of a run, each checked by itself.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use agent_client::wire::{self, Dollars, JsonObject, Patch, UpdateClient};
use agent_domain::{
    Delivery, Edit, JsonText, PermissionMode, RunOptions, RunOptionsChange, ToolRule, Usd,
    VariableName, limits,
};
use serde_json::Value;

use super::{field, text};
use crate::problem::Problem;

/// From the one list of options (the domain's name, the wire's, the check): the reading of a set of
/// them, and of a change.
macro_rules! options {
    ($($name:ident = $wire:ident: $check:expr,)*) => {
        /// Checks what a job or a client asks for.
        pub(super) fn checked(asked: wire::RunOptions) -> Result<RunOptions, Problem> {
            Ok(RunOptions {
                $($name: asked.$wire.map($check).transpose()?,)*
            })
        }

        /// Checks a change of a client's options, and takes it out of `body`.
        pub(super) fn changed(body: &mut UpdateClient) -> Result<RunOptionsChange, Problem> {
            Ok(RunOptionsChange {
                $($name: edit(&mut body.$wire, $check)?,)*
            })
        }
    };
}

options! {
    model = model: model,
    fallback_model = fallback_model: fallback_model,
    permission_mode = permission_mode: |name| field::<PermissionMode>("permissionMode", &name),
    timeout = timeout_seconds: |value| seconds("timeoutSeconds", value),
    idle_timeout = idle_timeout_seconds: |value| seconds("idleTimeoutSeconds", value),
    max_turns = max_turns: max_turns,
    budget = budget_usd: |amount| budget(&amount),
    allowed_tools = allowed_tools: |rules| tool_rules("allowedTools", &rules),
    disallowed_tools = disallowed_tools: |rules| tool_rules("disallowedTools", &rules),
    append_system_prompt = append_system_prompt: append_system_prompt,
    agents = agents: |agents| named("agents", &agents, subagent),
    mcp_servers = mcp_servers: |servers| named("mcpServers", &servers, mcp_server),
    output_schema = output_schema: output_schema,
    delivery = delivery: |way| field::<Delivery>("delivery", &way),
    draft = draft: Ok::<bool, Problem>,
    labels = labels: labels,
    max_attempts = max_attempts: max_attempts,
    env = env: env,
}

pub(super) fn edit<T, U>(
    value: &mut Patch<T>,
    check: impl FnOnce(T) -> Result<U, Problem>,
) -> Result<Edit<U>, Problem> {
    Ok(match std::mem::take(value) {
        Patch::Absent => Edit::Keep,
        Patch::Null => Edit::Clear,
        Patch::Value(value) => Edit::Set(check(value)?),
    })
}

fn model(name: String) -> Result<String, Problem> {
    argument("model", name)
}

fn fallback_model(names: String) -> Result<String, Problem> {
    let names = argument("fallbackModel", names)?;
    if names.split(',').any(str::is_empty) {
        let problem = "must be names of models separated by commas";
        return Err(Problem::field("fallbackModel", problem));
    }
    Ok(names)
}

/// What becomes an argument of a command must not look like an option.
fn argument(name: &str, value: String) -> Result<String, Problem> {
    let value = text(name, value, limits::NAME_CHARS)?;
    if value.starts_with('-') || value.contains(char::is_whitespace) {
        return Err(Problem::field(
            name,
            "must not begin with '-' or contain spaces",
        ));
    }
    Ok(value)
}

fn seconds(name: &str, value: u64) -> Result<Duration, Problem> {
    if (1..=limits::TIMEOUT_SECONDS_MAX).contains(&value) {
        Ok(Duration::from_secs(value))
    } else {
        let what = format!("must be from 1 to {}", limits::TIMEOUT_SECONDS_MAX);
        Err(Problem::field(name, what))
    }
}

fn max_turns(turns: u32) -> Result<u32, Problem> {
    if (1..=limits::TURNS_MAX).contains(&turns) {
        Ok(turns)
    } else {
        let what = format!("must be from 1 to {}", limits::TURNS_MAX);
        Err(Problem::field("maxTurns", what))
    }
}

fn budget(amount: &Dollars) -> Result<Usd, Problem> {
    match dollars("budgetUsd", amount)? {
        Usd::ZERO => Err(Problem::field("budgetUsd", "must be more than nothing")),
        amount => Ok(amount),
    }
}

/// An amount of US dollars, nothing included.
pub(super) fn dollars(name: &str, amount: &Dollars) -> Result<Usd, Problem> {
    let amount = amount.as_f64().and_then(Usd::from_dollars);
    amount
        .filter(|amount| *amount <= limits::BUDGET_MAX)
        .ok_or_else(|| {
            let what = format!("must be from 0 to {}", limits::BUDGET_MAX.dollars());
            Problem::field(name, what)
        })
}

/// Reads the change of a cap.
pub(super) fn cap(name: &str, value: Patch<Dollars>) -> Result<Edit<Usd>, Problem> {
    let mut value = value;
    edit(&mut value, |amount| dollars(name, &amount))
}

fn labels(labels: Vec<String>) -> Result<Vec<String>, Problem> {
    if labels.len() > limits::LABELS {
        let what = format!("must be at most {} labels", limits::LABELS);
        return Err(Problem::field("labels", what));
    }
    let label = |(at, label)| text(&format!("labels[{at}]"), label, limits::LABEL_CHARS);
    labels.into_iter().enumerate().map(label).collect()
}

fn max_attempts(attempts: u32) -> Result<u32, Problem> {
    if (1..=limits::ATTEMPTS_MAX).contains(&attempts) {
        Ok(attempts)
    } else {
        let what = format!("must be from 1 to {}", limits::ATTEMPTS_MAX);
        Err(Problem::field("maxAttempts", what))
    }
}

fn tool_rules(name: &str, rules: &[String]) -> Result<Vec<ToolRule>, Problem> {
    if rules.len() > limits::TOOL_RULES {
        let what = format!("must be at most {} rules", limits::TOOL_RULES);
        return Err(Problem::field(name, what));
    }
    let rule = |(at, rule): (usize, &String)| field(&format!("{name}[{at}]"), rule);
    rules.iter().enumerate().map(rule).collect()
}

fn append_system_prompt(prompt: String) -> Result<String, Problem> {
    let name = "appendSystemPrompt";
    if prompt.len() > limits::SYSTEM_PROMPT_BYTES {
        let what = format!("must be at most {} bytes", limits::SYSTEM_PROMPT_BYTES);
        return Err(Problem::field(name, what));
    }
    agent_domain::prompt(&prompt).map_err(|error| Problem::field(name, error))?;
    Ok(prompt)
}

/// An object whose members have names that the CLI can use in names of tools.
fn named(
    name: &str,
    members: &JsonObject,
    check: fn(&JsonObject) -> Result<(), &'static str>,
) -> Result<JsonText, Problem> {
    for (key, member) in members {
        let path = member_of(name, key);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        if key.is_empty() || key.len() > limits::NAME_CHARS || !key.chars().all(is_name) {
            let what = "must have a name of letters, digits, '_' and '-'";
            return Err(Problem::field(&path, what));
        }
        let object = member.as_object().ok_or("must be an object");
        let checked = object.and_then(check);
        checked.map_err(|what| Problem::field(&path, what))?;
    }
    argument_json(name, &Value::Object(members.clone()))
}

/// JSON that becomes an argument of a program.
fn argument_json(name: &str, value: &Value) -> Result<JsonText, Problem> {
    let json = value.to_string();
    if json.len() > limits::OPTION_JSON_BYTES {
        let what = format!("must be at most {} bytes", limits::OPTION_JSON_BYTES);
        return Err(Problem::field(name, what));
    }
    if json.contains("\\u0000") {
        return Err(Problem::field(name, "must not contain NUL"));
    }
    Ok(JsonText::new(json))
}

/// A schema by which an answer can be checked, with nothing fetched for it.
fn output_schema(schema: JsonObject) -> Result<JsonText, Problem> {
    let schema = Value::Object(schema);
    let json = argument_json("outputSchema", &schema)?;
    let refused = |error: jsonschema::ValidationError<'_>| {
        let text = format!("is not a JSON Schema that can be used: {error}");
        Problem::field("outputSchema", text.chars().take(500).collect::<String>())
    };
    jsonschema::validator_for(&schema).map_err(refused)?;
    Ok(json)
}

/// Where in a body something is wrong; a name that is too long to be right is cut.
fn member_of(name: &str, key: &str) -> String {
    let key: String = key.chars().take(limits::NAME_CHARS).collect();
    format!("{name}.{key}")
}

/// Of a subagent the CLI demands these; what else it knows is between it and the caller.
fn subagent(agent: &JsonObject) -> Result<(), &'static str> {
    let has = |key: &str| agent.get(key).is_some_and(Value::is_string);
    if has("description") && has("prompt") {
        Ok(())
    } else {
        Err("must have a description and a prompt")
    }
}

/// The CLI passes over a server that has neither, and says so nowhere.
fn mcp_server(server: &JsonObject) -> Result<(), &'static str> {
    let kind = server.get("type").map_or(Some("stdio"), Value::as_str);
    let text = |key: &str| server.get(key).and_then(Value::as_str);
    let has_command = text("command").is_some_and(|command| !command.is_empty());
    let is_url = |url: &str| url.starts_with("http://") || url.starts_with("https://");
    match kind {
        Some("stdio") if has_command => Ok(()),
        Some("http" | "sse") if text("url").is_some_and(is_url) => Ok(()),
        Some("stdio") => Err("must have a command, or the type http or sse"),
        Some("http" | "sse") => Err("must have a url that begins with http:// or https://"),
        Some(_) | None => Err("must have one of the types stdio, http, sse"),
    }
}

fn env(variables: BTreeMap<String, String>) -> Result<BTreeMap<VariableName, String>, Problem> {
    let lengths = variables
        .iter()
        .map(|(name, value)| name.len() + value.len());
    if variables.len() > limits::VARIABLES || lengths.sum::<usize>() > limits::VARIABLES_BYTES {
        let (count, bytes) = (limits::VARIABLES, limits::VARIABLES_BYTES);
        let what = format!("must be at most {count} variables of {bytes} bytes together");
        return Err(Problem::field("env", what));
    }
    let checked = |(name, value): (String, String)| {
        let path = member_of("env", &name);
        let problem = |what: &str| Problem::field(&path, what);
        let name = VariableName::from_str(&name).map_err(|error| problem(&error.to_string()))?;
        if value.contains('\0') {
            return Err(problem("must not contain NUL"));
        }
        Ok((name, value))
    };
    variables.into_iter().map(checked).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Reads options as a body has them, down to their checks.
    fn read(options: Value) -> Result<RunOptions, Problem> {
        checked(serde_json::from_value(options).unwrap())
    }

    fn wrong_words() -> Vec<(Value, &'static str)> {
        let many = vec!["Edit"; 101];
        let long = "x".repeat(64 * 1024);
        vec![
            (json!({"timeoutSeconds": 0}), "timeoutSeconds "),
            (json!({"idleTimeoutSeconds": 86_401}), "idleTimeoutSeconds "),
            (json!({"permissionMode": "yolo"}), "permissionMode "),
            (json!({"model": "--resume"}), "model "),
            (json!({"model": "a b"}), "model "),
            (json!({"fallbackModel": "--x"}), "fallbackModel "),
            (json!({"fallbackModel": "opus,,haiku"}), "fallbackModel "),
            (json!({"maxTurns": 0}), "maxTurns "),
            (json!({"budgetUsd": 0}), "budgetUsd "),
            (json!({"budgetUsd": -1}), "budgetUsd "),
            (json!({"budgetUsd": 1_000_000.5}), "budgetUsd "),
            (json!({"maxTurns": 10_001}), "maxTurns "),
            (json!({"allowedTools": ["Edit", "--x"]}), "allowedTools[1] "),
            (json!({"allowedTools": many}), "allowedTools "),
            (json!({"disallowedTools": [""]}), "disallowedTools[0] "),
            (json!({"appendSystemPrompt": " "}), "appendSystemPrompt "),
            (json!({"appendSystemPrompt": "a\0"}), "appendSystemPrompt "),
            (json!({"appendSystemPrompt": long}), "appendSystemPrompt "),
        ]
    }

    fn wrong_objects() -> Vec<(Value, &'static str)> {
        let long = "x".repeat(64 * 1024);
        let agent = |agent: Value| json!({"agents": {"a": agent}});
        let server = |server: Value| json!({"mcpServers": {"s": server}});
        vec![
            (json!({"agents": {"a b": {}}}), "agents.a b "),
            (agent(json!(1)), "agents.a "),
            (agent(json!({"description": "d"})), "agents.a "),
            (
                agent(json!({"description": "d", "prompt": long})),
                "agents ",
            ),
            (
                agent(json!({"description": "d", "prompt": "\0"})),
                "agents ",
            ),
            (json!({"mcpServers": {"a__b/": {}}}), "mcpServers.a__b/ "),
            (server(json!({})), "mcpServers.s "),
            (server(json!({"command": ""})), "mcpServers.s "),
            (server(json!({"type": "http"})), "mcpServers.s "),
            (
                server(json!({"type": "sse", "url": "file:///"})),
                "mcpServers.s ",
            ),
            (
                server(json!({"type": "ws", "url": "http://a"})),
                "mcpServers.s ",
            ),
            (server(json!({"type": 1, "command": "x"})), "mcpServers.s "),
            (
                json!({"outputSchema": {"type": "nonsense"}}),
                "outputSchema ",
            ),
            (
                json!({"outputSchema": {"$ref": "https://example.org/x"}}),
                "outputSchema ",
            ),
            (
                json!({"outputSchema": {"$ref": "file:///etc/passwd"}}),
                "outputSchema ",
            ),
            (json!({"outputSchema": {"pattern": "("}}), "outputSchema "),
            (json!({"outputSchema": {"const": long}}), "outputSchema "),
            (json!({"env": {"LD_PRELOAD": "x"}}), "env.LD_PRELOAD "),
            (json!({"env": {"a-b": "x"}}), "env.a-b "),
            (json!({"env": {"A": "x\0"}}), "env.A "),
            (json!({"env": {"A": long}}), "env "),
        ]
    }

    #[test]
    fn an_option_that_is_wrong_is_named() {
        for (options, wrong) in wrong_words().into_iter().chain(wrong_objects()) {
            let refused = read(options.clone()).map(drop).unwrap_err().to_string();
            assert!(refused.starts_with(wrong), "{options}: {refused}");
        }
    }

    #[test]
    fn options_that_are_right_arrive_as_they_are() {
        let options = read(json!({
            "model": "opus[1m]", "fallbackModel": "sonnet,haiku", "timeoutSeconds": 86_400,
            "maxTurns": 10_000, "allowedTools": ["Edit", "Bash(git log:*)"],
            "appendSystemPrompt": "Be brief.\n\tAlways.", "agents": {},
            "mcpServers": {"a-b": {"command": "x"}, "c": {"type": "http", "url": "https://a"}},
            "env": {"CI": "", "B": "two words\n"},
        }));
        let options = options.unwrap();
        assert_eq!(options.timeout, Some(Duration::from_hours(24)));
        assert_eq!(options.max_turns, Some(10_000));
        assert_eq!(
            options.allowed_tools.unwrap()[1].as_str(),
            "Bash(git log:*)"
        );
        assert_eq!(options.agents, Some(JsonText::new("{}")));
        assert_eq!(
            options.mcp_servers.unwrap().as_str(),
            r#"{"a-b":{"command":"x"},"c":{"type":"http","url":"https://a"}}"#
        );
        let env: Vec<_> = options.env.unwrap().into_values().collect();
        assert_eq!(env, ["two words\n", ""]);
        assert_eq!(options.disallowed_tools, None);
    }

    #[test]
    fn null_clears_an_option_of_a_client_and_a_value_is_checked() {
        let mut change = UpdateClient {
            model: Patch::Null,
            timeout_seconds: Patch::Value(60),
            ..UpdateClient::default()
        };
        let expected = RunOptionsChange {
            model: Edit::Clear,
            timeout: Edit::Set(Duration::from_mins(1)),
            ..RunOptionsChange::default()
        };
        assert_eq!(changed(&mut change).unwrap(), expected);
        let mut bad = UpdateClient {
            permission_mode: Patch::Value("yolo".into()),
            ..UpdateClient::default()
        };
        let refused = changed(&mut bad).unwrap_err().to_string();
        assert!(refused.starts_with("permissionMode"), "{refused}");
    }
}
