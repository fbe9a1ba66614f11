//! The options of a run that have no column of their own, as one JSON object.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use agent_domain::{JsonText, RunOptions, ToolRule, Usd};
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::rows::Cell;

/// How they are stored. A field once stored keeps its name and its form.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Form {
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_turns: Option<u32>,
    /// Billionths of a dollar.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_tools: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disallowed_tools: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    append_system_prompt: Option<String>,
    /// JSON within JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    agents: Option<String>,
    /// JSON within JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp_servers: Option<String>,
    /// JSON within JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<BTreeMap<String, String>>,
}

/// What is stored of `options`; `None` where there is nothing to store.
pub(crate) fn json(options: &RunOptions) -> Result<Option<String>, StoreError> {
    let form = Form {
        fallback_model: options.fallback_model.clone(),
        max_turns: options.max_turns,
        budget: options.budget.map(Usd::nanos),
        allowed_tools: options.allowed_tools.as_deref().map(texts),
        disallowed_tools: options.disallowed_tools.as_deref().map(texts),
        append_system_prompt: options.append_system_prompt.clone(),
        agents: options.agents.as_ref().map(ToString::to_string),
        mcp_servers: options.mcp_servers.as_ref().map(ToString::to_string),
        output_schema: options.output_schema.as_ref().map(ToString::to_string),
        env: options.env.as_ref().map(|env| {
            let named = env.iter();
            named
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect()
        }),
    };
    if form == Form::default() {
        return Ok(None);
    }
    let json = serde_json::to_string(&form);
    json.map(Some)
        .map_err(|error| StoreError::Internal(error.to_string()))
}

/// The same as a value to be bound.
pub(crate) fn cell<'a>(options: &RunOptions) -> Result<Cell<'a>, StoreError> {
    let json = json(options)?;
    Ok(Cell::Owned(json.map_or(Value::Null, Value::Text)))
}

/// Adds what is stored to those options that have columns of their own.
pub(crate) fn with(columns: RunOptions, stored: Option<&str>) -> Result<RunOptions, String> {
    let Some(stored) = stored else {
        return Ok(columns);
    };
    let form: Form = serde_json::from_str(stored).map_err(|error| error.to_string())?;
    let env = form.env.map(|env| {
        let named = env.into_iter();
        named
            .map(|(name, value)| Ok((parsed(&name)?, value)))
            .collect::<Result<_, String>>()
    });
    Ok(RunOptions {
        fallback_model: form.fallback_model,
        max_turns: form.max_turns,
        budget: form.budget.map(Usd::from_nanos),
        allowed_tools: form.allowed_tools.map(|rules| all(&rules)).transpose()?,
        disallowed_tools: form.disallowed_tools.map(|rules| all(&rules)).transpose()?,
        append_system_prompt: form.append_system_prompt,
        agents: form.agents.map(JsonText::new),
        mcp_servers: form.mcp_servers.map(JsonText::new),
        output_schema: form.output_schema.map(JsonText::new),
        env: env.transpose()?,
        ..columns
    })
}

fn texts(rules: &[ToolRule]) -> Vec<String> {
    rules.iter().map(ToString::to_string).collect()
}

fn all<T: FromStr<Err: Display>>(texts: &[String]) -> Result<Vec<T>, String> {
    texts.iter().map(|text| parsed(text)).collect()
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text:?} {error}"))
}
