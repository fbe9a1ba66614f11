//! A run's events.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Answer to `GET /jobs/:id/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventPage {
    /// In order, over all attempts.
    pub events: Vec<Event>,
    /// What to ask for next, as `after`.
    pub next: u64,
    /// Whether there will never be more.
    pub is_last: bool,
}

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it was written down.
    pub created_at: String,
    /// Id of the model's message that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Id of the tool call whose subagent it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_call_id: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub content: EventContent,
}

/// What happened, by `type`. What the CLI did not tell is `null`, its own words are passed on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum EventContent {
    /// A turn begins.
    Init {
        /// The CLI's session.
        session_id: Option<String>,
        /// The model.
        model: Option<String>,
        /// The CLI's version.
        cli_version: Option<String>,
        /// The permission mode.
        permission_mode: Option<String>,
        /// Names of the agent's tools.
        tools: Vec<String>,
        /// Its MCP servers.
        mcp_servers: Vec<McpServer>,
    },
    /// The model says something.
    Text {
        /// What.
        text: String,
        /// Set where the CLI says it because the API failed: the kind of failure.
        error: Option<String>,
    },
    /// The model thinks.
    Thinking {
        /// What.
        text: String,
    },
    /// The model calls a tool.
    ToolCall {
        /// Names the call in its result.
        call_id: Option<String>,
        /// The tool.
        name: String,
        /// Its input.
        input: Value,
    },
    /// A tool call has a result.
    ToolResult {
        /// The call.
        call_id: Option<String>,
        /// Whether it failed, or was denied.
        is_error: bool,
        /// What the model is told.
        text: String,
    },
    /// A subagent or a command in the background.
    Task {
        /// The task.
        task_id: Option<String>,
        /// The tool call that began it.
        call_id: Option<String>,
        /// How it stands.
        status: Option<String>,
        /// What it is or what came of it.
        summary: Option<String>,
    },
    /// The API failed and will be asked again.
    ApiRetry {
        /// Which try this will be.
        retry: Option<i64>,
        /// Of how many.
        max_retries: Option<i64>,
        /// Milliseconds until then.
        delay_ms: Option<i64>,
        /// The HTTP status, if there was an answer.
        status: Option<i64>,
        /// The kind of failure.
        error: Option<String>,
    },
    /// How much of the subscription's quota is used.
    RateLimit {
        /// `allowed`, `allowed_warning` or `rejected`.
        status: Option<String>,
        /// Which quota.
        kind: Option<String>,
        /// When it begins anew.
        resets_at: Option<String>,
        /// The used part, from 0 to 1.
        utilization: Option<f64>,
    },
    /// A tool call was not allowed.
    PermissionDenied {
        /// The tool.
        tool: Option<String>,
        /// The call.
        call_id: Option<String>,
        /// Why.
        message: Option<String>,
    },
    /// The agent is done; another result may still follow.
    Result {
        /// In the CLI's words; `success` alone means nothing.
        subtype: Option<String>,
        /// Whether it failed.
        is_error: bool,
        /// What it says in the end, or what went wrong.
        text: Option<String>,
        /// Turns of this run.
        num_turns: Option<i64>,
        /// The CLI's estimate, in US dollars, over its whole session.
        cost_usd: Option<f64>,
        /// Milliseconds.
        duration_ms: Option<i64>,
        /// Tools of the calls that were denied.
        denied_tools: Vec<String>,
    },
    /// A line of the log that is no event: what the server says, or other output.
    Output {
        /// `stdout`, `stderr` or `system`.
        stream: String,
        /// The text.
        text: String,
    },
    /// Anything else the CLI reports.
    Other {
        /// Its type.
        kind: String,
        /// Its subtype.
        subtype: Option<String>,
    },
}

/// An MCP server of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct McpServer {
    /// Its name.
    pub name: String,
    /// Its status.
    pub status: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_as_it_was_written_and_its_type_is_a_field_beside_the_others() {
        let page = EventPage {
            events: vec![Event {
                attempt: 1,
                created_at: "2026-01-01T00:00:00.000Z".into(),
                message_id: Some("m".into()),
                parent_call_id: None,
                content: EventContent::ToolCall {
                    call_id: Some("c".into()),
                    name: "Bash".into(),
                    input: serde_json::json!({"command": "ls"}),
                },
            }],
            next: 7,
            is_last: false,
        };
        let json = serde_json::to_value(&page).unwrap();
        let expected = serde_json::json!({
            "events": [{
                "attempt": 1, "createdAt": "2026-01-01T00:00:00.000Z", "messageId": "m",
                "type": "tool_call", "callId": "c", "name": "Bash", "input": {"command": "ls"},
            }],
            "next": 7,
            "isLast": false,
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<EventPage>(json).unwrap(), page);
    }
}
