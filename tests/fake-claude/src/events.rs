//! The events of a transcript, with the fields of the real ones.

use serde_json::{Map, Value, json};

use crate::args::Output;
use crate::auth::{self, Login};
use crate::clock;
use crate::outcome::{Outcome, RESETS_IN_SECONDS};
use crate::permission::Tools;
use crate::session::slug;
use crate::state::{Call, Fields, State};

/// `system/init`, which begins every turn.
pub(crate) fn init(state: &mut State, tools: &Tools, servers: &Value) {
    let cwd = std::env::current_dir().unwrap_or_default();
    let memory = auth::config_dir()
        .unwrap_or_default()
        .join(format!("projects/{}/memory/", slug(&cwd)));
    let key = if auth::login() == Login::ApiKey {
        "ANTHROPIC_API_KEY"
    } else {
        "none"
    };
    let mode = if tools.mode == "manual" {
        "default"
    } else {
        &tools.mode
    };
    let pid = std::process::id();
    let mut agents = vec!["claude", "Explore", "general-purpose", "Plan"];
    agents.extend(tools.agents.iter().map(String::as_str));
    let fields: Fields = vec![
        ("type", json!("system")),
        ("subtype", json!("init")),
        ("cwd", json!(cwd)),
        ("session_id", json!(state.session.id)),
        ("tools", json!(tools.listed())),
        ("mcp_servers", servers.clone()),
        ("model", json!(state.model)),
        ("permissionMode", json!(mode)),
        (
            "slash_commands",
            json!(["code-review", "compact", "context", "init", "usage"]),
        ),
        ("apiKeySource", json!(key)),
        ("claude_code_version", json!(crate::VERSION)),
        ("output_style", json!("default")),
        ("agents", json!(agents)),
        ("skills", json!(["code-review", "debug", "verify"])),
        ("plugins", json!([])),
        (
            "capabilities",
            json!(["interrupt_receipt_v1", "msg_lifecycle_v1"]),
        ),
        ("analytics_disabled", json!(true)),
        ("uuid", json!(state.ids.uuid())),
        ("memory_paths", json!({"auto": memory})),
        ("original_cwd", json!(cwd)),
        ("additional_directories", json!([])),
        (
            "messaging_socket_path",
            json!(format!("/tmp/cc-socks/{pid}.sock")),
        ),
        ("fast_mode_state", json!("off")),
    ];
    state.emit(&fields);
}

/// Any `system` event.
pub(crate) fn system(state: &mut State, subtype: &str, more: Fields) {
    let mut fields: Fields = vec![("type", json!("system")), ("subtype", json!(subtype))];
    fields.extend(more);
    fields.extend(state.tail());
    state.emit(&fields);
}

/// One block of an answer of the model; blocks of one answer share the message's id.
pub(crate) fn assistant(state: &mut State, block: &Value) {
    if state.message_id.is_none() {
        state.message_id = Some(state.ids.api("msg"));
    }
    let message = json!({
        "id": state.message_id, "type": "message", "role": "assistant", "model": state.model,
        "content": [block], "stop_reason": null, "stop_sequence": null,
        "usage": {
            "input_tokens": 12, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 2048, "output_tokens": 7,
        },
        "context_management": null,
    });
    let mut fields: Fields = vec![
        ("type", json!("assistant")),
        ("message", message),
        ("parent_tool_use_id", Value::Null),
    ];
    fields.extend(state.tail());
    fields.push(("timestamp", json!(clock::timestamp())));
    fields.push(("request_id", json!(state.ids.api("req"))));
    state.emit(&fields);
    state
        .session
        .note(&json!({"type": "assistant", "content": [block]}));
}

/// A message the CLI puts into the model's mouth to tell of a failure of the API.
pub(crate) fn synthetic(state: &mut State, outcome: &Outcome, text: &str) {
    let Some(error) = outcome.assistant_error else {
        return;
    };
    let message = json!({
        "id": state.ids.uuid(), "type": "message", "role": "assistant", "model": "<synthetic>",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "stop_sequence", "stop_sequence": "",
        "usage": {"input_tokens": 0, "output_tokens": 0},
        "context_management": null,
    });
    let mut fields: Fields = vec![
        ("type", json!("assistant")),
        ("message", message),
        ("parent_tool_use_id", Value::Null),
    ];
    fields.extend(state.tail());
    fields.push(("timestamp", json!(clock::timestamp())));
    fields.push(("error", json!(error)));
    fields.push(("is_api_error_message", json!(true)));
    fields.extend(api_fields(outcome));
    state.emit(&fields);
}

fn api_fields(outcome: &Outcome) -> Fields {
    let mut fields = Fields::new();
    fields.extend(
        outcome
            .api_status
            .map(|status| ("api_error_status", json!(status))),
    );
    fields.extend(
        outcome
            .api_error_type
            .map(|kind| ("api_error_type", json!(kind))),
    );
    fields.extend(outcome.api_error.map(|error| ("api_error", json!(error))));
    fields
}

/// Begins a tool call and returns its id.
pub(crate) fn tool_use(state: &mut State, name: &str, input: &Value) -> String {
    let id = state.ids.api("toolu");
    assistant(
        state,
        &json!({"type": "tool_use", "id": id, "name": name, "input": input}),
    );
    state.call = Some(Call { id: id.clone() });
    id
}

/// What came of a tool call.
pub(crate) struct ToolResult<'a> {
    pub(crate) id: &'a str,
    pub(crate) content: &'a str,
    pub(crate) is_error: bool,
    pub(crate) rejected: bool,
    /// `tool_use_result`, where it is more than the text.
    pub(crate) detail: Option<Value>,
}

/// Ends a tool call.
pub(crate) fn tool_result(state: &mut State, result: ToolResult<'_>) {
    let detail = result.detail.unwrap_or_else(|| {
        if result.is_error {
            json!(format!("Error: {}", result.content))
        } else {
            json!(result.content)
        }
    });
    let decision = if result.rejected { "reject" } else { "accept" };
    let mut meta = json!({
        "id": result.id, "permission_decision": {"decision": decision, "source": "config"},
    });
    if result.rejected {
        meta["non_execution_kind"] = json!("user-rejected");
    }
    let block = json!({
        "type": "tool_result", "tool_use_id": result.id,
        "content": result.content, "is_error": result.is_error,
    });
    user(
        state,
        &json!([block]),
        vec![
            ("tool_use_result", detail),
            ("tool_result_meta", json!([meta])),
        ],
    );
    state.call = None;
    state.message_id = None;
    state.rounds += 1;
}

/// A `user` event.
pub(crate) fn user(state: &mut State, content: &Value, more: Fields) {
    let mut fields: Fields = vec![
        ("type", json!("user")),
        ("message", json!({"role": "user", "content": content})),
        ("parent_tool_use_id", Value::Null),
    ];
    fields.extend(state.tail());
    fields.push(("timestamp", json!(clock::timestamp())));
    fields.extend(more);
    state.emit(&fields);
    state
        .session
        .note(&json!({"type": "user", "content": content}));
}

/// `rate_limit_event`; times are in seconds since 1970.
///
/// Of a window that is used up only its own entry says so. One that the script does not set has some
/// room left.
pub(crate) fn rate_limit(state: &mut State, status: &str, kind: &str, resets_at: i64) {
    let week = clock::unix_seconds() + 5 * 86_400;
    let mut windows = Map::new();
    let mut add = |name: &str, used: f64, resets: i64| {
        let (used, status) = match (name == kind, status) {
            (true, "rejected") => (1.0, status),
            (true, _) => (used, status),
            (false, _) => (used, "allowed"),
        };
        let window = json!({"utilization": used, "resetsAt": resets, "status": status});
        windows.insert(name.to_owned(), window);
    };
    add("five_hour", 0.42, clock::unix_seconds() + 3600);
    add("seven_day", 0.42, week);
    add(kind, 0.42, resets_at);
    for (name, used, seconds) in &state.windows {
        add(name, *used, clock::unix_seconds() + seconds);
    }
    let own = windows[kind].clone();
    let mut info = json!({
        "status": status, "resetsAt": own["resetsAt"], "rateLimitType": kind,
        "overageStatus": "rejected",
        "overageDisabledReason": "org_level_disabled", "isUsingOverage": false,
        "unifiedWindows": windows,
    });
    if status != "rejected" {
        info["utilization"] = own["utilization"].clone();
    }
    let [session, uuid] = state.tail();
    let fields: Fields = vec![
        ("type", json!("rate_limit_event")),
        ("rate_limit_info", info),
        uuid,
        session,
    ];
    state.emit(&fields);
}

/// `system/api_retry`, the `attempt`th of `max`.
pub(crate) fn api_retry(
    state: &mut State,
    attempt: u32,
    max: u32,
    status: Option<u16>,
    error: &str,
) {
    let delay = 500_u64 * (1 << attempt.min(6)) / 2 + (state.ids.next() % 200);
    let more: Fields = vec![
        ("attempt", json!(attempt)),
        ("max_retries", json!(max)),
        ("retry_delay_ms", json!(delay)),
        ("error_status", json!(status)),
        ("error", json!(error)),
    ];
    system(state, "api_retry", more);
}

/// The last word of a turn.
pub(crate) struct Ending<'a> {
    pub(crate) outcome: &'a Outcome,
    pub(crate) text: &'a str,
    /// Set when a background task woke the model.
    pub(crate) notified: bool,
}

/// The result event, its keys in an order of its own.
pub(crate) fn result(state: &mut State, ending: &Ending<'_>) {
    let outcome = ending.outcome;
    let billed = outcome.api_status.is_none() && outcome.assistant_error.is_none();
    let price = if billed { state.price } else { 0.0 };
    state.spent += price;
    state.answers += u64::from(billed);
    let total = state.session.earlier_cost + state.spent;
    let answers = state.session.earlier_answers + state.answers;
    state.session.note_cost(total, answers);
    let mut fields = figures(state, total, answers);
    fields.extend([
        ("subtype", json!(outcome.subtype)),
        ("is_error", json!(outcome.is_error)),
        ("stop_reason", json!(outcome.stop_reason)),
        ("terminal_reason", json!(outcome.terminal_reason)),
    ]);
    if outcome.subtype == "success" {
        fields.push(("result", json!(ending.text)));
    } else {
        fields.push(("errors", json!([ending.text])));
    }
    if outcome.api_status.is_none() {
        fields.push(("api_error_status", Value::Null));
    }
    fields.extend(api_fields(outcome));
    let structured = state.structured.clone();
    fields.extend(structured.map(|value| ("structured_output", value)));
    if state.output == Output::StreamJson {
        let share = by_model(&state.model, price, u64::from(billed));
        fields.push(("model_usage_since_last_result", share));
    }
    if ending.notified {
        fields.push(("origin", json!({"kind": "task-notification"})));
    }
    shuffle(&mut fields, state);
    state.results += 1;
    state.emit(&fields);
}

/// The part of a result that does not depend on how the run ended.
fn figures(state: &mut State, total: f64, answers: u64) -> Fields {
    let elapsed = u64::try_from(state.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let usage = json!({
        "input_tokens": 24, "output_tokens": 14, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4096, "service_tier": "standard",
    });
    let denials = std::mem::take(&mut state.denials);
    let mut fields: Fields = vec![
        ("type", json!("result")),
        ("num_turns", json!(state.rounds + 1)),
        ("total_cost_usd", json!(total)),
        ("usage", usage),
        ("modelUsage", by_model(&state.model, total, answers)),
        ("permission_denials", Value::Array(denials)),
        ("duration_ms", json!(elapsed)),
        ("duration_api_ms", json!(elapsed / 2)),
        ("ttft_ms", json!(127)),
        ("result_index", json!(state.results)),
        ("queued_turn_count", json!(0)),
        ("safety_stops", json!(0)),
        ("fast_mode_state", json!("off")),
        (
            "subagent_stats",
            json!({"spawned": 0, "completed": 0, "failed": 0}),
        ),
    ];
    fields.extend(state.tail());
    fields
}

/// Each answer that is charged for has used the same.
fn by_model(model: &str, cost: f64, answers: u64) -> Value {
    json!({model: {
        "inputTokens": 24 * answers, "outputTokens": 14 * answers,
        "cacheReadInputTokens": 4096 * answers,
        "cacheCreationInputTokens": 0, "webSearchRequests": 0, "costUSD": cost,
        "contextWindow": 1_000_000, "maxOutputTokens": 128_000, "costBasis": "list",
    }})
}

/// Mixes the keys; `type` never comes first, so that nobody gets by with matching prefixes.
fn shuffle(fields: &mut Fields, state: &mut State) {
    for last in (1..fields.len()).rev() {
        fields.swap(last, state.ids.below(last + 1));
    }
    if fields.first().is_some_and(|(key, _)| *key == "type") {
        fields.rotate_left(1);
    }
}

/// When a limit resets that the script says nothing about.
pub(crate) fn default_reset() -> i64 {
    clock::unix_seconds() + RESETS_IN_SECONDS
}
