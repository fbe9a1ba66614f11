//! A run's events, from the domain to the wire.

use agent_client::wire;
use agent_domain::{EventContent, Timestamp, iso_millis};
use agent_queue::{EventPage, Logged, LoggedEvent};
use serde_json::Value;

/// A page of events.
pub(crate) fn page(page: EventPage) -> wire::EventPage {
    wire::EventPage {
        events: page.events.into_iter().map(event).collect(),
        next: page.next,
        is_last: page.is_last,
    }
}

fn event(event: LoggedEvent) -> wire::Event {
    let (message_id, parent_call_id, content) = match event.logged {
        Logged::Event(event) => {
            let content = content(event.content);
            (event.message_id, event.parent_call_id, content)
        }
        Logged::Line { stream, text } => {
            let stream = stream.as_str().to_owned();
            (None, None, wire::EventContent::Output { stream, text })
        }
    };
    wire::Event {
        attempt: event.attempt,
        created_at: iso_millis(event.at),
        message_id,
        parent_call_id,
        content,
    }
}

#[expect(clippy::too_many_lines, reason = "one table, field for field")]
fn content(content: EventContent) -> wire::EventContent {
    use wire::EventContent as Wire;
    match content {
        EventContent::Init {
            session_id,
            model,
            cli_version,
            permission_mode,
            tools,
            mcp_servers,
        } => Wire::Init {
            session_id,
            model,
            cli_version,
            permission_mode,
            tools,
            mcp_servers: mcp_servers
                .into_iter()
                .map(|(name, status)| wire::McpServer { name, status })
                .collect(),
        },
        EventContent::Text { text, error } => Wire::Text { text, error },
        EventContent::Thinking { text } => Wire::Thinking { text },
        EventContent::ToolCall { id, name, input } => Wire::ToolCall {
            call_id: id,
            name,
            input: input.as_deref().map_or(Value::Null, json),
        },
        EventContent::ToolResult {
            call_id,
            is_error,
            text,
        } => Wire::ToolResult {
            call_id,
            is_error,
            text,
        },
        EventContent::Task {
            id,
            call_id,
            status,
            summary,
        } => Wire::Task {
            task_id: id,
            call_id,
            status,
            summary,
        },
        EventContent::ApiRetry {
            attempt,
            max_retries,
            delay_ms,
            status,
            error,
        } => Wire::ApiRetry {
            retry: attempt,
            max_retries,
            delay_ms,
            status,
            error,
        },
        EventContent::RateLimit {
            status,
            kind,
            resets_at,
            utilization,
        } => Wire::RateLimit {
            status,
            kind,
            resets_at: resets_at
                .and_then(|second| Timestamp::from_second(second).ok())
                .map(iso_millis),
            utilization,
        },
        EventContent::PermissionDenied {
            tool,
            call_id,
            message,
        } => Wire::PermissionDenied {
            tool,
            call_id,
            message,
        },
        EventContent::Result {
            subtype,
            is_error,
            text,
            num_turns,
            cost_usd,
            duration_ms,
            denied_tools,
        } => Wire::Result {
            subtype,
            is_error,
            text,
            num_turns,
            cost_usd,
            duration_ms,
            denied_tools,
        },
        EventContent::Other { kind, subtype } => Wire::Other { kind, subtype },
    }
}

/// The input of a tool; what serde_json cannot hold, such as half a surrogate pair, stays text.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}
