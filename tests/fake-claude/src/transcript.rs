//! The steps of a script that only say something.

use serde_json::{Value, json};

use crate::auth::{self, Login};
use crate::events;
use crate::run::{Flow, Run};
use crate::state::Fields;
use crate::step::Step;

/// Retries where the environment does not say.
const MAX_RETRIES: u32 = 10;

impl Run {
    /// The steps that show in the transcript.
    pub(crate) fn say(&mut self, step: &Step) -> Flow {
        match step {
            Step::Hook(name) => self.hook(name),
            Step::Message => self.shared.lock().message_id = None,
            Step::Text(text) => self.block(&json!({"type": "text", "text": text})),
            Step::Thinking(text) => {
                self.block(&json!({"type": "thinking", "thinking": text, "signature": "c2ln"}));
            }
            Step::Line { bytes, count } => {
                let text = "x".repeat(*bytes);
                (0..*count).for_each(|_| self.block(&json!({"type": "text", "text": text})));
            }
            Step::Retry {
                count,
                status,
                error,
            } => self.retry(*count, *status, error),
            Step::RateLimit { status, kind } => {
                let resets_at = self.resets_at.unwrap_or_else(events::default_reset);
                events::rate_limit(&mut self.shared.lock(), status, kind, resets_at);
            }
            Step::Unknown => self.unknown(),
            Step::Event(text) => self.shared.lock().write(format!("{text}\n").as_bytes()),
            Step::Raw(bytes) => self.shared.lock().write(bytes),
            Step::CloseStdout => close_stdout(),
            _ => return self.work(step),
        }
        self.pace();
        Flow::Continue(())
    }

    pub(crate) fn block(&self, block: &Value) {
        let mut state = self.shared.lock();
        events::assistant(&mut state, block);
        // Subscriptions hear of their limits with the first answer.
        let first = state.rounds == 0 && state.results == 0;
        if first && matches!(auth::login(), Login::OauthToken | Login::Account) {
            let resets_at = self.resets_at.unwrap_or_else(events::default_reset);
            events::rate_limit(&mut state, "allowed", "five_hour", resets_at);
        }
    }

    pub(crate) fn hook(&self, name: &str) {
        let name = if name.is_empty() {
            "SessionStart:startup"
        } else {
            name
        };
        let mut state = self.shared.lock();
        let id = state.ids.uuid();
        let common: Fields = vec![
            ("hook_id", json!(id)),
            ("hook_name", json!(name)),
            ("hook_event", json!("SessionStart")),
        ];
        events::system(&mut state, "hook_started", common.clone());
        let outcome: Fields = vec![
            ("stdout", json!("")),
            ("stderr", json!("")),
            ("exit_code", json!(0)),
            ("outcome", json!("success")),
        ];
        events::system(&mut state, "hook_response", [common, outcome].concat());
    }

    pub(crate) fn unknown(&self) {
        let mut state = self.shared.lock();
        events::system(
            &mut state,
            "invented_tomorrow",
            vec![("payload", json!({"deep": [1, null]}))],
        );
        state.emit(&vec![
            ("type", json!("news")),
            ("text", json!("of a kind not yet known")),
        ]);
        state.emit(&vec![("no_type_at_all", json!(true))]);
    }

    pub(crate) fn retry(&self, count: u32, status: Option<u16>, error: &str) {
        let asked = std::env::var("CLAUDE_CODE_MAX_RETRIES").ok();
        let max = asked
            .and_then(|text| text.parse().ok())
            .unwrap_or(MAX_RETRIES);
        for attempt in 1..=count.min(max) {
            events::api_retry(&mut self.shared.lock(), attempt, max, status, error);
            self.shared.pause(self.retry_silence);
        }
    }
}

fn close_stdout() {
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        rustix::stdio::dup2_stdout(null).ok();
    }
}
