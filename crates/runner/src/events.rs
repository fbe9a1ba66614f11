//! The CLI's events as what they mean; whatever is not known is passed on by its type.

use agent_domain::{EventContent, TranscriptEvent};

use crate::event::Object;
use crate::transcript::{result, result_text};

/// The events in one line of `type` `kind`.
pub(crate) fn of(event: &Object<'_>, kind: &str) -> Vec<TranscriptEvent> {
    let message = event.object("message");
    let message_id = message.as_ref().and_then(|message| message.text("id"));
    let parts = match (kind, &message) {
        ("assistant", Some(message)) => assistant(event, message),
        ("user", Some(message)) => results(message),
        _ => None,
    };
    let contents = parts.unwrap_or_else(|| vec![single(event, kind)]);
    let parent_call_id = event.text("parent_tool_use_id");
    let with_origin = |content| TranscriptEvent {
        message_id: message_id.clone(),
        parent_call_id: parent_call_id.clone(),
        content,
    };
    contents.into_iter().map(with_origin).collect()
}

/// What the model says; `None` where it has no parts that can be read.
fn assistant(event: &Object<'_>, message: &Object<'_>) -> Option<Vec<EventContent>> {
    let error = event.text("error");
    let part = |block: &Object<'_>| match block.text("type")?.as_str() {
        "text" => Some(EventContent::Text {
            text: block.text("text").filter(|text| !text.is_empty())?,
            error: error.clone(),
        }),
        "thinking" => Some(EventContent::Thinking {
            text: block.text("thinking")?,
        }),
        "tool_use" | "server_tool_use" | "mcp_tool_use" => Some(EventContent::ToolCall {
            id: block.text("id"),
            name: block.text("name")?,
            input: block.raw("input").map(str::to_owned),
        }),
        _ => None,
    };
    let parts: Vec<_> = message.objects("content").iter().filter_map(part).collect();
    (!parts.is_empty()).then_some(parts)
}

/// What tools answer; `None` for anything else the model is told.
fn results(message: &Object<'_>) -> Option<Vec<EventContent>> {
    let part = |block: &Object<'_>| {
        block.text("type").filter(|kind| kind == "tool_result")?;
        Some(EventContent::ToolResult {
            call_id: block.text("tool_use_id"),
            is_error: block.flag("is_error").unwrap_or(false),
            text: result_text(block),
        })
    };
    let parts: Vec<_> = message.objects("content").iter().filter_map(part).collect();
    (!parts.is_empty()).then_some(parts)
}

fn single(event: &Object<'_>, kind: &str) -> EventContent {
    let subtype = event.text("subtype");
    match (kind, subtype.as_deref()) {
        ("system", Some("init")) => init(event),
        ("system", Some("api_retry")) => EventContent::ApiRetry {
            attempt: event.integer("attempt"),
            max_retries: event.integer("max_retries"),
            delay_ms: event.integer("retry_delay_ms"),
            status: event.integer("error_status"),
            error: event.text("error"),
        },
        ("system", Some("permission_denied")) => EventContent::PermissionDenied {
            tool: event.text("tool_name"),
            call_id: event.text("tool_use_id"),
            message: event.text("message"),
        },
        ("system", Some("task_started" | "task_updated" | "task_notification")) => {
            task(event, subtype.as_deref())
        }
        ("rate_limit_event", _) => rate_limit(event),
        ("result", _) => EventContent::Result {
            is_error: event.flag("is_error").unwrap_or(true),
            text: result(event),
            num_turns: event.integer("num_turns"),
            cost_usd: event.number("total_cost_usd"),
            duration_ms: event.integer("duration_ms"),
            denied_tools: named(event, "permission_denials", "tool_name"),
            subtype,
        },
        _ => EventContent::Other {
            kind: kind.to_owned(),
            subtype,
        },
    }
}

fn init(event: &Object<'_>) -> EventContent {
    let server = |server: &Object<'_>| {
        let status = server.text("status").unwrap_or_default();
        Some((server.text("name")?, status))
    };
    let servers = event.objects("mcp_servers");
    EventContent::Init {
        session_id: event.text("session_id"),
        model: event.text("model"),
        cli_version: event.text("claude_code_version"),
        permission_mode: event.text("permissionMode"),
        tools: event.texts("tools"),
        mcp_servers: servers.iter().filter_map(server).collect(),
    }
}

fn task(event: &Object<'_>, subtype: Option<&str>) -> EventContent {
    let status = event
        .text("status")
        .or_else(|| event.object("patch")?.text("status"));
    let started = || (subtype == Some("task_started")).then(|| "started".to_owned());
    EventContent::Task {
        id: event.text("task_id"),
        call_id: event.text("tool_use_id"),
        status: status.or_else(started),
        summary: event.text("summary").or_else(|| event.text("description")),
    }
}

fn rate_limit(event: &Object<'_>) -> EventContent {
    let info = event.object("rate_limit_info");
    let text = |key| info.as_ref().and_then(|info| info.text(key));
    EventContent::RateLimit {
        status: text("status"),
        kind: text("rateLimitType"),
        resets_at: info.as_ref().and_then(|info| info.integer("resetsAt")),
        utilization: info.as_ref().and_then(|info| info.number("utilization")),
    }
}

/// A text of each object in an array.
fn named(event: &Object<'_>, array: &str, key: &str) -> Vec<String> {
    let objects = event.objects(array);
    objects
        .iter()
        .filter_map(|object| object.text(key))
        .collect()
}

#[cfg(test)]
mod tests {
    use agent_domain::TranscriptReader as _;

    use super::*;
    use crate::transcript::ClaudeTranscript;

    fn read(line: &str) -> Vec<TranscriptEvent> {
        ClaudeTranscript.events(line).unwrap()
    }

    fn content(line: &str) -> EventContent {
        let events = read(line);
        assert_eq!(events.len(), 1, "{line}");
        events.into_iter().next().unwrap().content
    }

    #[test]
    fn parts_of_a_message_carry_its_id_and_the_subagents_call() {
        let text = &read(
            r#"{"message":{"content":[{"text":"Look.","type":"text"}],"id":"msg_1"},"type":"assistant"}"#,
        )[0];
        assert_eq!(text.message_id.as_deref(), Some("msg_1"));
        assert_eq!(text.parent_call_id, None);
        let call = &read(
            r#"{"parent_tool_use_id":"toolu_0","type":"assistant","message":{"id":"msg_1","content":[{"input":{"b":1,"a":[2]},"name":"Bash","id":"toolu_1","type":"tool_use"}]}}"#,
        )[0];
        assert_eq!(call.parent_call_id.as_deref(), Some("toolu_0"));
        let expected = EventContent::ToolCall {
            id: Some("toolu_1".into()),
            name: "Bash".into(),
            input: Some(r#"{"b":1,"a":[2]}"#.into()),
        };
        assert_eq!(call.content, expected);
    }

    #[test]
    fn several_results_in_one_line_are_several_events() {
        let events = read(
            r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"one\ntwo"},{"tool_use_id":"b","is_error":true,"content":[{"type":"text","text":"no"},{"type":"image"}],"type":"tool_result"}]}}"#,
        );
        let contents: Vec<_> = events.into_iter().map(|event| event.content).collect();
        let result = |call: &str, is_error, text: &str| EventContent::ToolResult {
            call_id: Some(call.into()),
            is_error,
            text: text.into(),
        };
        assert_eq!(
            contents,
            [
                result("a", false, "one\ntwo"),
                result("b", true, "no\n[image]")
            ]
        );
    }

    #[test]
    fn a_failure_of_the_api_is_told_apart_from_what_the_model_says() {
        let said = content(
            r#"{"type":"assistant","error":"rate_limit","message":{"content":[{"type":"text","text":"You've hit your limit"}]}}"#,
        );
        let expected = EventContent::Text {
            text: "You've hit your limit".into(),
            error: Some("rate_limit".into()),
        };
        assert_eq!(said, expected);
        let retry = content(
            r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":610.7,"error_status":null,"error":"unknown"}"#,
        );
        let expected = EventContent::ApiRetry {
            attempt: Some(1),
            max_retries: Some(10),
            delay_ms: Some(610),
            status: None,
            error: Some("unknown".into()),
        };
        assert_eq!(retry, expected);
    }

    #[test]
    fn the_beginning_the_limits_and_the_end_of_a_run_are_read() {
        let init = content(
            r#"{"type":"system","subtype":"init","session_id":"s","tools":["Task","Bash"],"mcp_servers":[{"name":"db","status":"failed","source":"x"},7],"model":"opus","permissionMode":"default","claude_code_version":"2.1.329"}"#,
        );
        let expected = EventContent::Init {
            session_id: Some("s".into()),
            model: Some("opus".into()),
            cli_version: Some("2.1.329".into()),
            permission_mode: Some("default".into()),
            tools: vec!["Task".into(), "Bash".into()],
            mcp_servers: vec![("db".into(), "failed".into())],
        };
        assert_eq!(init, expected);
        let limit = content(
            r#"{"rate_limit_info":{"utilization":0.5,"status":"rejected","resetsAt":1795213145,"rateLimitType":"five_hour"},"type":"rate_limit_event"}"#,
        );
        let expected = EventContent::RateLimit {
            status: Some("rejected".into()),
            kind: Some("five_hour".into()),
            resets_at: Some(1_795_213_145),
            utilization: Some(0.5),
        };
        assert_eq!(limit, expected);
        let result = content(
            r#"{"duration_ms":5,"total_cost_usd":0.25,"num_turns":4,"permission_denials":[{"tool_name":"Write"},{"tool_name":"Bash"}],"errors":["Reached maximum number of turns (3)"],"is_error":true,"subtype":"error_max_turns","type":"result"}"#,
        );
        let expected = EventContent::Result {
            subtype: Some("error_max_turns".into()),
            is_error: true,
            text: Some("Reached maximum number of turns (3)".into()),
            num_turns: Some(4),
            cost_usd: Some(0.25),
            duration_ms: Some(5),
            denied_tools: vec!["Write".into(), "Bash".into()],
        };
        assert_eq!(result, expected);
    }

    #[test]
    fn denials_and_background_work_are_read() {
        let denied = content(
            r#"{"type":"system","subtype":"permission_denied","tool_name":"Write","tool_use_id":"t","message":"not allowed"}"#,
        );
        let expected = EventContent::PermissionDenied {
            tool: Some("Write".into()),
            call_id: Some("t".into()),
            message: Some("not allowed".into()),
        };
        assert_eq!(denied, expected);
        for (line, status) in [
            (
                r#"{"type":"system","subtype":"task_started","task_id":"b1","description":"Wait"}"#,
                "started",
            ),
            (
                r#"{"type":"system","subtype":"task_updated","task_id":"b1","patch":{"status":"running"}}"#,
                "running",
            ),
            (
                r#"{"type":"system","subtype":"task_notification","task_id":"b1","status":"completed","summary":"Done"}"#,
                "completed",
            ),
        ] {
            let EventContent::Task {
                id, status: found, ..
            } = content(line)
            else {
                panic!("{line}");
            };
            assert_eq!(
                (id.as_deref(), found.as_deref()),
                (Some("b1"), Some(status))
            );
        }
    }

    #[test]
    fn what_is_unknown_or_odd_is_passed_on_by_its_type() {
        for (line, kind, subtype) in [
            (r#"{"type":"unheard_of"}"#, "unheard_of", None),
            (
                r#"{"type":"system","subtype":"compact_boundary"}"#,
                "system",
                Some("compact_boundary"),
            ),
            (r#"{"type":"assistant"}"#, "assistant", None),
            (
                r#"{"type":"assistant","message":{"content":[{"type":"new_kind"}]}}"#,
                "assistant",
                None,
            ),
            (
                r#"{"type":"user","message":{"content":"the prompt"}}"#,
                "user",
                None,
            ),
            (r#"{"type":"user","message":7,"subtype":8}"#, "user", None),
        ] {
            let expected = EventContent::Other {
                kind: kind.into(),
                subtype: subtype.map(Into::into),
            };
            assert_eq!(content(line), expected, "{line}");
        }
        for line in ["", "warning", "{", "{}", "[1]", r#"{"type":1}"#] {
            assert_eq!(ClaudeTranscript.events(line), None, "{line}");
        }
    }

    #[test]
    fn an_event_too_long_for_the_log_is_read_as_far_as_it_goes() {
        let words = "word ".repeat(100_000);
        let line = format!(
            r#"{{"type":"assistant","message":{{"id":"m","content":[{{"type":"text","text":"{words}"}}]}}}}"#
        );
        let EventContent::Text { text, .. } = content(&line[..300_000]) else {
            panic!();
        };
        assert!(text.starts_with("word word") && text.len() > 290_000);
    }
}
