//! What jobs and clients say that has no column of its own, as one JSON object.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use agent_domain::{Base, JobSpec, JsonText, RunOptions, ToolRule, Usd};
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
    delivery: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    draft: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    /// Of a job only.
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    /// Of a job only; JSON within JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<BTreeMap<String, String>>,
}

/// What is stored of a job; `None` where there is nothing to store.
pub(crate) fn of_job(spec: &JobSpec) -> Result<Option<String>, StoreError> {
    json(&Form {
        base: spec.base.as_ref().map(ToString::to_string),
        metadata: spec.metadata.as_ref().map(ToString::to_string),
        ..form(&spec.options)
    })
}

/// What is stored of a client, as a value to be bound.
pub(crate) fn cell<'a>(options: &RunOptions) -> Result<Cell<'a>, StoreError> {
    let json = json(&form(options))?;
    Ok(Cell::Owned(json.map_or(Value::Null, Value::Text)))
}

fn form(options: &RunOptions) -> Form {
    Form {
        fallback_model: options.fallback_model.clone(),
        max_turns: options.max_turns,
        budget: options.budget.map(Usd::nanos),
        allowed_tools: options.allowed_tools.as_deref().map(texts),
        disallowed_tools: options.disallowed_tools.as_deref().map(texts),
        append_system_prompt: options.append_system_prompt.clone(),
        agents: options.agents.as_ref().map(ToString::to_string),
        mcp_servers: options.mcp_servers.as_ref().map(ToString::to_string),
        output_schema: options.output_schema.as_ref().map(ToString::to_string),
        delivery: options.delivery.map(|way| way.to_string()),
        draft: options.draft,
        labels: options.labels.clone(),
        max_attempts: options.max_attempts,
        base: None,
        metadata: None,
        env: options.env.as_ref().map(|env| {
            let named = env.iter();
            named
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect()
        }),
    }
}

fn json(form: &Form) -> Result<Option<String>, StoreError> {
    if *form == Form::default() {
        return Ok(None);
    }
    let json = serde_json::to_string(form);
    json.map(Some)
        .map_err(|error| StoreError::Internal(error.to_string()))
}

/// What was stored.
#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) options: RunOptions,
    pub(crate) base: Option<Base>,
    pub(crate) metadata: Option<JsonText>,
}

/// Adds what is stored to those options that have columns of their own.
pub(crate) fn with(columns: RunOptions, stored: Option<&str>) -> Result<Stored, String> {
    let Some(stored) = stored else {
        return Ok(Stored {
            options: columns,
            ..Stored::default()
        });
    };
    let form: Form = serde_json::from_str(stored).map_err(|error| error.to_string())?;
    let env = form.env.map(|env| {
        let named = env.into_iter();
        named
            .map(|(name, value)| Ok((parsed(&name)?, value)))
            .collect::<Result<_, String>>()
    });
    let options = RunOptions {
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
        delivery: form.delivery.map(|way| parsed(&way)).transpose()?,
        draft: form.draft,
        labels: form.labels,
        max_attempts: form.max_attempts,
        ..columns
    };
    Ok(Stored {
        options,
        base: form.base.map(|base| parsed(&base)).transpose()?,
        metadata: form.metadata.map(JsonText::new),
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
