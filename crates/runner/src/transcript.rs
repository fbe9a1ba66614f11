//! The transcript as a person would want to read it.

use std::path::Path;

use agent_domain::{RunSummary, TranscriptEvent, TranscriptReader};

use crate::event::Object;
use crate::run::read_summary;
use crate::{cut, events, text};

/// Longest one-line form of a tool call, in bytes.
const CALL_MAX: usize = 200;
/// Shortest line taken for an event that was too long for the log, in bytes.
const CUT_MIN: usize = 64 * 1024;
/// Lines and bytes shown of a tool's result.
const RESULT_LINES: usize = 5;
const RESULT_MAX: usize = 1000;

/// Reads the events of `claude --output-format stream-json`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClaudeTranscript;

impl TranscriptReader for ClaudeTranscript {
    fn summary(&self, log: &Path) -> RunSummary {
        read_summary(log).unwrap_or_default()
    }

    fn readable(&self, line: &str) -> Option<String> {
        if let Some(shown) = of_event(line, readable) {
            return shown;
        }
        if is_cut(line) {
            Some(text::shortened(line, RESULT_MAX))
        } else {
            Some(line.to_owned())
        }
    }

    fn events(&self, line: &str) -> Option<Vec<TranscriptEvent>> {
        of_event(line, events::of)
    }
}

/// Reads a line that is an event, or the beginning of one.
fn of_event<T>(line: &str, read: fn(&Object<'_>, &str) -> T) -> Option<T> {
    let begun = || is_cut(line).then(|| cut::closed(line)).flatten();
    whole(line, read).or_else(|| whole(&begun()?, read))
}

fn whole<T>(line: &str, read: fn(&Object<'_>, &str) -> T) -> Option<T> {
    let event = Object::parse(line)?;
    let kind = event.text("type")?;
    Some(read(&event, &kind))
}

/// Whether it looks like an event that was too long for the log.
fn is_cut(line: &str) -> bool {
    line.len() >= CUT_MIN && line.starts_with('{') && Object::parse(line).is_none()
}

/// The readable text of an event, which may be nothing.
fn readable(event: &Object<'_>, kind: &str) -> Option<String> {
    match kind {
        "assistant" => message(event, assistant_block),
        "user" => message(event, user_block),
        "system" => system(event),
        "result" => result(event),
        _ => None,
    }
}

fn message(event: &Object<'_>, block: fn(&Object<'_>) -> Option<String>) -> Option<String> {
    let message = event.object("message")?;
    let parts: Vec<String> = message
        .objects("content")
        .iter()
        .filter_map(block)
        .collect();
    (!parts.is_empty()).then(|| parts.join("\n"))
}

fn assistant_block(block: &Object<'_>) -> Option<String> {
    match block.text("type")?.as_str() {
        "text" => block.text("text").filter(|text| !text.is_empty()),
        "tool_use" => Some(tool_call(block)),
        _ => None,
    }
}

/// A call as `Name: what matters`, by the field that says most for the CLI's own tools, and the
/// input itself for any other.
fn tool_call(block: &Object<'_>) -> String {
    let name = block.text("name").unwrap_or_else(|| "tool".to_owned());
    let told = block.object("input").and_then(|input| {
        [
            "command",
            "file_path",
            "notebook_path",
            "pattern",
            "url",
            "query",
            "description",
            "skill",
        ]
        .iter()
        .find_map(|key| input.text(key))
    });
    let input = told.or_else(|| block.raw("input").map(str::to_owned));
    match input.as_deref() {
        None | Some("{}") => name,
        Some(input) => format!("{name}: {}", text::one_line(input, CALL_MAX)),
    }
}

fn user_block(block: &Object<'_>) -> Option<String> {
    if block.text("type")? != "tool_result" {
        return None;
    }
    let content = result_text(block);
    if content.trim().is_empty() {
        return None;
    }
    Some(text::few_lines(&content, RESULT_LINES, RESULT_MAX))
}

/// What a tool's result says, whole.
pub(crate) fn result_text(block: &Object<'_>) -> String {
    block.text("content").unwrap_or_else(|| {
        let parts = block.objects("content");
        let parts: Vec<String> = parts.iter().filter_map(result_part).collect();
        parts.join("\n")
    })
}

fn result_part(part: &Object<'_>) -> Option<String> {
    match part.text("type")?.as_str() {
        "text" => part.text("text"),
        other => Some(format!("[{other}]")),
    }
}

/// Of the CLI's notices only one is for people: why nothing happens while the API is asked again.
fn system(event: &Object<'_>) -> Option<String> {
    if event.text("subtype")? != "api_retry" {
        return None;
    }
    let cause = event.text("error").unwrap_or_else(|| "error".to_owned());
    let status = event
        .integer("error_status")
        .map_or_else(String::new, |status| format!(" {status}"));
    let attempt = event.integer("attempt")?;
    let most = event.integer("max_retries")?;
    let seconds = event.number("retry_delay_ms").unwrap_or_default() / 1000.0;
    Some(format!(
        "The API failed ({cause}{status}); retry {attempt} of {most} in {seconds:.1} s"
    ))
}

pub(crate) fn result(event: &Object<'_>) -> Option<String> {
    let said = event.text("result").filter(|text| !text.is_empty());
    said.or_else(|| event.first_text("errors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<String> {
        ClaudeTranscript.readable(line)
    }

    #[test]
    fn of_an_event_too_long_for_the_log_the_beginning_is_shown() {
        let words = "word ".repeat(CUT_MIN);
        let whole = format!(r#"{{"type":"result","subtype":"success","result":"{words}","n":1}}"#);
        let cut = &whole[..whole.len() / 2];
        let shown = read(cut).unwrap();
        assert!(shown.starts_with("word word") && shown.len() > CUT_MIN);
        assert!(!shown.contains("type"));
        // Where what matters comes after the cut, there is only a glimpse.
        let late = format!(r#"{{"filler":"{words}","type":"result","result":"x"}}"#);
        let shown = read(&late[..CUT_MIN]).unwrap();
        assert!(shown.starts_with(r#"{"filler""#) && shown.len() < 2 * RESULT_MAX);
    }

    const TABLE: &[(&str, Option<&str>)] = &[
        (
            r#"{"message":{"content":[{"text":"I will\nlook.","type":"text"}]},"type":"assistant"}"#,
            Some("I will\nlook."),
        ),
        (
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"description":"Run","command":"cargo test"}}]}}"#,
            Some("Bash: cargo test"),
        ),
        (
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"command":"a\nb"}}]}}"#,
            Some("Bash: a …"),
        ),
        (
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Edit","input":{"file_path":"/w/a.rs","old_string":"x"}}]}}"#,
            Some("Edit: /w/a.rs"),
        ),
        (
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Grep","input":{"pattern":"fn main"}}]}}"#,
            Some("Grep: fn main"),
        ),
        (
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"mcp__a__b","input":{"x":1}}]}}"#,
            Some(r#"mcp__a__b: {"x":1}"#),
        ),
        (
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Odd","input":{}}]}}"#,
            Some("Odd"),
        ),
        (
            r#"{"type":"assistant","message":{"content":[{"type":"thinking","thinking":"hm"}]}}"#,
            None,
        ),
        (
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":""}]}}"#,
            None,
        ),
        (
            r#"{"type":"user","message":{"content":[{"type":"tool_result","content":"1\n2\n3\n4\n5\n6\n7\n"}]}}"#,
            Some("1\n2\n3\n4\n5\n… (2 more lines)"),
        ),
        (
            r#"{"type":"user","message":{"content":[{"type":"tool_result","content":[{"type":"text","text":"ok"},{"type":"image"}]}]}}"#,
            Some("ok\n[image]"),
        ),
        (
            r#"{"type":"user","message":{"content":[{"type":"tool_result","content":""}]}}"#,
            None,
        ),
        (
            r#"{"type":"user","message":{"content":"the prompt"}}"#,
            None,
        ),
        (
            r#"{"type":"result","subtype":"success","result":"All done."}"#,
            Some("All done."),
        ),
        (
            r#"{"errors":["Reached maximum number of turns (3)"],"type":"result","subtype":"error_max_turns"}"#,
            Some("Reached maximum number of turns (3)"),
        ),
        (
            r#"{"type":"result","subtype":"error_during_execution"}"#,
            None,
        ),
        (r#"{"type":"system","subtype":"init","model":"m"}"#, None),
        (
            r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":610.5,"error_status":529,"error":"overloaded"}"#,
            Some("The API failed (overloaded 529); retry 1 of 10 in 0.6 s"),
        ),
        (r#"{"type":"rate_limit_event"}"#, None),
        (r#"{"type":"stream_event","event":{}}"#, None),
        (r#"{"type":"unheard_of"}"#, None),
    ];

    #[test]
    fn each_event_reads_as_a_person_would_want_it() {
        for (line, expected) in TABLE {
            assert_eq!(read(line).as_deref(), *expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_event_is_shown_as_it_is() {
        for line in [
            "",
            "warning: x",
            "{",
            "{}",
            "[1]",
            r#"{"type":1}"#,
            "{\"a\":1} ",
        ] {
            assert_eq!(read(line).as_deref(), Some(line));
        }
    }

    #[test]
    fn long_calls_and_results_are_cut() {
        let call = format!(
            r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","name":"Bash","input":{{"command":"{}"}}}}]}}}}"#,
            "é".repeat(500)
        );
        assert!(read(&call).unwrap().len() < 220);
        let result = format!(
            r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","content":"{}"}}]}}}}"#,
            "é".repeat(5000)
        );
        assert!(read(&result).unwrap().len() < 1100);
    }
}
