//! Picks from the transcript what the outcome of a run depends on.

use agent_domain::{DENIED_CALLS_MAX, DeniedCall, ResultSummary, RunSummary, Usd, limits};

use crate::event::Object;
use crate::mask::Masker;
use crate::signs::ApiRetry;
use crate::text;
use crate::usage::Meter;
use crate::windows;

/// Longest result text that is kept, in bytes: it becomes the job's error sentence.
const RESULT_TEXT_MAX: usize = 2000;
/// How much is kept of a denied call's input, and of the names in it, in bytes.
const DENIED_INPUT_MAX: usize = 300;
const DENIED_NAME_MAX: usize = 100;

/// Reads the agent's standard output line by line.
///
/// The last result wins, since a run may report more than one; whatever is not understood is
/// passed over. It reads lines as they come and masks what it keeps, since a mask might fall on the
/// words of the protocol itself.
#[derive(Debug, Default)]
pub struct RunObserver {
    summary: RunSummary,
    meter: Meter,
    masker: Masker,
    retry: Option<ApiRetry>,
    is_done: bool,
    /// No result counts any more but for what it says of the cost.
    is_closed: bool,
}

impl RunObserver {
    /// Masks what it keeps.
    pub fn new(masker: Masker) -> Self {
        Self {
            masker,
            ..Self::default()
        }
    }

    /// Takes in a complete line, without its line feed.
    pub fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let Some(event) = Object::parse(&line) else {
            return;
        };
        let Some(kind) = event.text("type") else {
            return;
        };
        if let Some(session) = self.name(&event, "session_id") {
            self.summary.session_id = Some(session);
        }
        self.note_where_it_is(&event, &kind);
        match kind.as_str() {
            "system" if event.text("subtype").as_deref() == Some("init") => self.init(&event),
            "assistant" => self.assistant(&event),
            "system" if event.text("subtype").as_deref() == Some("permission_denied") => {
                self.denied(&event);
            }
            "system" if event.text("subtype").as_deref() == Some("api_retry") => {
                self.retry = Some(ApiRetry::read(&event));
            }
            "rate_limit_event" => windows::rate_limit(&mut self.summary, &event),
            "result" => {
                let model = self.summary.model.as_deref().unwrap_or_default();
                self.meter.result(&event, model, &self.masker);
                for denied in event.objects("permission_denials") {
                    self.denied(&denied);
                }
                if !self.is_closed {
                    self.summary.result = Some(self.result(&event));
                }
            }
            _ => {}
        }
    }

    /// What is known so far, without what the run used.
    pub fn summary(&self) -> &RunSummary {
        &self.summary
    }

    /// Why the run does not go on at present, where that is because the API is to be asked again.
    pub(crate) fn retry(&self) -> Option<&ApiRetry> {
        self.retry.as_ref()
    }

    /// What the results so far say that the run has cost.
    pub(crate) fn cost(&self) -> Option<Usd> {
        self.meter.cost()
    }

    /// What is known in the end.
    pub fn into_summary(self) -> RunSummary {
        RunSummary {
            usage: self.meter.into_usage(),
            ..self.summary
        }
    }

    /// Whether the agent itself has said nothing since its last result: it is done, but for what it
    /// may wait for in the background.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    /// What is said from here on changes nothing about the result: it is about the ending of the run.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    fn note_where_it_is(&mut self, event: &Object<'_>, kind: &str) {
        let is_begin = kind == "system" && event.text("subtype").as_deref() == Some("init");
        let goes_on = matches!(kind, "assistant" | "user" | "result");
        if goes_on {
            self.retry = None;
        }
        if is_begin || goes_on && event.text("parent_tool_use_id").is_none() {
            self.is_done = kind == "result";
        }
    }

    fn init(&mut self, event: &Object<'_>) {
        let (model, version) = (
            self.name(event, "model"),
            self.name(event, "claude_code_version"),
        );
        let summary = &mut self.summary;
        summary.model = model.or(summary.model.take());
        summary.cli_version = version.or(summary.cli_version.take());
        self.meter.init(event);
    }

    /// A call is told of when it is denied, and once more, with its input, by each result that
    /// follows.
    fn denied(&mut self, denied: &Object<'_>) {
        let text = |key: &str| {
            let text = self.name(denied, key).unwrap_or_default();
            text::shortened(&text, DENIED_NAME_MAX)
        };
        // Masked before it is cut.
        let input = denied.raw("tool_input").map(|json| {
            let masked = self.masker.text(json);
            text::shortened(&masked, DENIED_INPUT_MAX)
        });
        let call = DeniedCall {
            id: text("tool_use_id"),
            tool: text("tool_name"),
            input,
        };
        let known = &mut self.summary.denied;
        if let Some(known) = known.iter_mut().find(|known| known.id == call.id) {
            known.input = call.input.or(known.input.take());
        } else if known.len() < DENIED_CALLS_MAX {
            known.push(call);
        }
    }

    fn assistant(&mut self, event: &Object<'_>) {
        self.meter.message(event, &self.masker);
        // What a subagent met is the agent's business.
        if event.text("parent_tool_use_id").is_none()
            && let Some(error) = self.word(event, "error")
        {
            self.summary.assistant_error = Some(error);
        }
    }

    fn result(&self, event: &Object<'_>) -> ResultSummary {
        let words = event
            .text("result")
            .filter(|words| !words.is_empty())
            .or_else(|| event.first_text("errors"))
            .unwrap_or_default();
        ResultSummary {
            subtype: self.word(event, "subtype").unwrap_or_default(),
            // A result that does not say it is no error is none to rely on.
            is_error: event.flag("is_error").unwrap_or(true),
            terminal_reason: self.word(event, "terminal_reason"),
            stop_reason: self.word(event, "stop_reason"),
            api_error_status: event.integer("api_error_status"),
            api_error: self.word(event, "api_error"),
            // Masked before it is cut: of a secret cut in two, neither half would be known.
            text: text::shortened(&self.masker.text(&words), RESULT_TEXT_MAX),
            num_turns: event
                .integer("num_turns")
                .and_then(|turns| u64::try_from(turns).ok()),
            cost_usd: event.number("total_cost_usd"),
            structured_output: event.raw("structured_output").map(|json| {
                let mut masked = self.masker.text(json).into_owned();
                masked.truncate(masked.floor_char_boundary(limits::OUTPUT_BYTES + 4));
                masked
            }),
            permission_denials: event
                .count("permission_denials")
                .map_or(0, |count| count as u64),
        }
    }

    /// A text that names something.
    fn name(&self, event: &Object<'_>, key: &str) -> Option<String> {
        Some(self.masker.text(&event.text(key)?).into_owned())
    }

    /// A text that should be one of the CLI's own words. What looks like one stays, also where someone
    /// has chosen such a word for a secret: the outcome depends on it.
    fn word(&self, event: &Object<'_>, key: &str) -> Option<String> {
        let text = event.text(key)?;
        let is_word = text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        Some(if is_word {
            text
        } else {
            self.masker.text(&text).into_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(lines: &[&str]) -> RunSummary {
        let mut observer = RunObserver::default();
        for line in lines {
            observer.line(line.as_bytes());
        }
        observer.into_summary()
    }

    #[test]
    fn fields_are_found_whatever_their_order() {
        let summary = observe(&[
            r#"{"claude_code_version":"2.1.329","session_id":"s","subtype":"init","model":"opus","type":"system","tools":["Bash"]}"#,
            r#"{"duration_api_ms":5,"stop_reason":"end_turn","num_turns":4,"total_cost_usd":0.25,"permission_denials":[{},{}],"is_error":false,"result":"done","subtype":"success","terminal_reason":"completed","type":"result","session_id":"s"}"#,
        ]);
        assert_eq!(summary.session_id.as_deref(), Some("s"));
        assert_eq!(summary.model.as_deref(), Some("opus"));
        assert_eq!(summary.cli_version.as_deref(), Some("2.1.329"));
        let result = summary.result.unwrap();
        assert_eq!(
            (result.subtype.as_str(), result.is_error),
            ("success", false)
        );
        assert_eq!((result.num_turns, result.cost_usd), (Some(4), Some(0.25)));
        assert_eq!(
            (result.text.as_str(), result.permission_denials),
            ("done", 2)
        );
    }

    #[test]
    fn a_structured_answer_is_kept_as_json_and_not_endlessly() {
        let answered = |json: &str| {
            let line = format!(r#"{{"structured_output":{json},"type":"result"}}"#);
            observe(&[&line]).result.unwrap().structured_output
        };
        let short = r#"{ "b": [1, "ü"], "a": null }"#;
        assert_eq!(answered(short).as_deref(), Some(short));
        let long = format!(r#"["{}"]"#, "ü".repeat(limits::OUTPUT_BYTES));
        let kept = answered(&long).unwrap().len();
        assert!((limits::OUTPUT_BYTES + 1..limits::OUTPUT_BYTES + 5).contains(&kept));
        assert_eq!(
            observe(&[r#"{"type":"result"}"#])
                .result
                .unwrap()
                .structured_output,
            None
        );
    }

    #[test]
    fn a_denied_call_is_kept_once_with_its_input_where_a_result_tells_it() {
        let secret = agent_domain::Secret::new("hunter2-hunter2");
        let mut observer = RunObserver::new(Masker::new(&[secret]));
        let long = "x".repeat(1000);
        for line in [
            r#"{"type":"system","subtype":"permission_denied","tool_name":"Bash","tool_use_id":"a","message":"no"}"#.to_owned(),
            format!(
                r#"{{"permission_denials":[{{"tool_use_id":"a","tool_name":"Bash","tool_input":{{"command":"login hunter2-hunter2"}}}},{{"tool_name":"Write","tool_use_id":"b","tool_input":{{"content":"{long}"}}}}],"type":"result","subtype":"success","is_error":false}}"#
            ),
            r#"{"type":"result","subtype":"success","is_error":false,"permission_denials":[{"tool_name":"Write","tool_use_id":"b","tool_input":{"content":"x"}}]}"#.to_owned(),
            r#"{"type":"system","subtype":"permission_denied","tool_name":"Edit","tool_use_id":"c"}"#.to_owned(),
        ] {
            observer.line(line.as_bytes());
        }
        let denied = observer.into_summary().denied;
        let brief: Vec<_> = denied.iter().map(|call| (&*call.id, &*call.tool)).collect();
        assert_eq!(brief, [("a", "Bash"), ("b", "Write"), ("c", "Edit")]);
        assert_eq!(
            denied[0].input.as_deref(),
            Some(r#"{"command":"login [masked]"}"#)
        );
        assert_eq!(denied[1].input.as_deref(), Some(r#"{"content":"x"}"#));
        assert_eq!(denied[2].input, None);
    }

    #[test]
    fn of_many_and_long_denied_calls_only_so_much_is_kept() {
        let call = |n: usize| {
            let long = "x".repeat(10_000);
            format!(r#"{{"tool_name":"{long}","tool_use_id":"{n}","tool_input":{{"a":"{long}"}}}}"#)
        };
        let calls: Vec<_> = (0..200).map(call).collect();
        let line = format!(
            r#"{{"type":"result","permission_denials":[{}]}}"#,
            calls.join(",")
        );
        let denied = observe(&[&line]).denied;
        assert_eq!(denied.len(), DENIED_CALLS_MAX);
        let length =
            |call: &DeniedCall| call.tool.len() + call.input.as_ref().map_or(0, String::len);
        assert!(denied.iter().all(|call| (300..500).contains(&length(call))));
    }

    #[test]
    fn the_last_result_wins_and_init_may_come_again() {
        let summary = observe(&[
            r#"{"type":"system","subtype":"init","model":"a"}"#,
            r#"{"type":"result","subtype":"success","is_error":false,"result":"one"}"#,
            r#"{"type":"system","subtype":"init","model":"b"}"#,
            r#"{"type":"result","subtype":"error_max_turns","is_error":true,"errors":["two","three"]}"#,
        ]);
        assert_eq!(summary.model.as_deref(), Some("b"));
        assert_eq!(summary.result.unwrap().text, "two");
    }

    #[test]
    fn what_is_kept_is_masked_and_the_words_of_the_protocol_are_still_understood() {
        let secrets = ["success", "sk-ant-0123456789"].map(agent_domain::Secret::new);
        let mut observer = RunObserver::new(Masker::new(&secrets));
        let text = format!("{} sk-ant-0123456789", "x".repeat(RESULT_TEXT_MAX - 10));
        for line in [
            r#"{"type":"system","subtype":"init","model":"sk-ant-0123456789","session_id":"c2stYW50LTAxMjM0NTY3ODk="}"#.to_owned(),
            format!(r#"{{"type":"result","subtype":"success","is_error":false,"api_error":"sk-ant-0123456789","result":"{text}"}}"#),
        ] {
            observer.line(line.as_bytes());
        }
        let summary = observer.into_summary();
        assert_eq!(summary.model.as_deref(), Some("[masked]"));
        assert_eq!(summary.session_id.as_deref(), Some("[masked]="));
        let result = summary.result.unwrap();
        assert_eq!(result.subtype, "success");
        assert_eq!(result.api_error.as_deref(), Some("[masked]"));
        assert!(result.text.ends_with("x [masked]"), "{}", result.text);
    }

    #[test]
    fn an_agent_is_done_from_a_result_until_it_begins_another_turn() {
        let mut observer = RunObserver::default();
        for (line, is_done) in [
            (r#"{"type":"system","subtype":"init"}"#, false),
            (r#"{"type":"assistant","message":{}}"#, false),
            (
                r#"{"subtype":"success","is_error":false,"result":"one","type":"result"}"#,
                true,
            ),
            (r#"{"type":"system","subtype":"task_updated"}"#, true),
            (
                r#"{"type":"assistant","parent_tool_use_id":"t","message":{}}"#,
                true,
            ),
            (r#"{"type":"system","subtype":"task_notification"}"#, true),
            (r#"{"type":"system","subtype":"init"}"#, false),
            (
                r#"{"subtype":"success","is_error":false,"result":"two","type":"result"}"#,
                true,
            ),
        ] {
            observer.line(line.as_bytes());
            assert_eq!(observer.is_done(), is_done, "{line}");
        }
    }

    #[test]
    fn a_result_said_while_the_run_is_ended_changes_the_cost_only() {
        let mut observer = RunObserver::default();
        observer.line(br#"{"type":"result","subtype":"success","is_error":false,"result":"done","total_cost_usd":0.25}"#);
        observer.close();
        observer.line(br#"{"type":"result","subtype":"error_during_execution","is_error":true,"total_cost_usd":0.5}"#);
        assert_eq!(observer.cost(), Usd::from_dollars(0.5));
        let result = observer.into_summary().result.unwrap();
        assert_eq!(
            (result.subtype.as_str(), result.text.as_str()),
            ("success", "done")
        );
    }

    #[test]
    fn a_retry_counts_until_the_run_goes_on() {
        let retry = r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":610,"error_status":529,"error":"overloaded"}"#;
        for (line, goes_on) in [
            (r#"{"type":"assistant","message":{}}"#, true),
            (r#"{"type":"user","message":{}}"#, true),
            (r#"{"type":"result","subtype":"success"}"#, true),
            (
                r#"{"type":"system","subtype":"status","status":"requesting"}"#,
                false,
            ),
            (r#"{"type":"system","subtype":"model_fallback"}"#, false),
            ("no event", false),
        ] {
            let mut observer = RunObserver::default();
            observer.line(retry.as_bytes());
            assert!(observer.retry().is_some());
            observer.line(line.as_bytes());
            assert_eq!(observer.retry().is_none(), goes_on, "{line}");
        }
    }

    #[test]
    fn a_rejected_limit_is_kept_until_requests_are_allowed_again() {
        let rejected = r#"{"type":"rate_limit_event","rate_limit_info":{"resetsAt":1795213145,"status":"rejected"}}"#;
        let allowed =
            r#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed","resetsAt":1}}"#;
        assert_eq!(observe(&[rejected]).limit_resets_at, Some(1_795_213_145));
        assert_eq!(observe(&[rejected, allowed]).limit_resets_at, None);
    }

    #[test]
    fn the_error_of_a_synthetic_message_is_kept_but_not_a_subagents() {
        let own =
            r#"{"error":"authentication_failed","type":"assistant","parent_tool_use_id":null}"#;
        let sub = r#"{"error":"rate_limit","type":"assistant","parent_tool_use_id":"t"}"#;
        assert_eq!(
            observe(&[own, sub]).assistant_error.as_deref(),
            Some("authentication_failed")
        );
    }

    #[test]
    fn what_is_no_event_of_ours_changes_nothing() {
        let odd = [
            "",
            "plain",
            "{",
            "[]",
            "{}",
            "null",
            "\u{fffd}",
            r#"{"type":3}"#,
            r#"{"type":"result"#,
            r#"{"type":"unheard_of","x":[[[]]]}"#,
        ];
        assert_eq!(observe(&odd), RunSummary::default());
        let mut observer = RunObserver::default();
        observer.line(b"\xff\xfe{\"type\":\"result\"}");
        assert_eq!(observer.into_summary(), RunSummary::default());
    }

    #[test]
    fn a_line_with_bytes_that_are_not_utf8_is_still_read() {
        let mut observer = RunObserver::default();
        observer.line(b"{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"a\xffb\"}");
        assert_eq!(
            observer.summary().result.as_ref().unwrap().text,
            "a\u{fffd}b"
        );
    }
}
