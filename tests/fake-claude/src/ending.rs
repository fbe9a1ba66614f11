//! How turns and runs end.

use std::time::Duration;

use serde_json::json;

use crate::events::{self, Ending};
use crate::outcome::{self, Outcome};
use crate::run::{Flow, Run};
use crate::state::Fields;
use crate::{SCRIPT_ERROR, signals};

/// A pause without end, in pieces.
const AGES: Duration = Duration::from_secs(3600);

impl Run {
    /// Says a result; the process goes on until the script ends.
    pub(crate) fn end(&mut self, name: &str, text: Option<String>) -> Flow {
        let Some(outcome) = outcome::find(name) else {
            return Flow::Break(SCRIPT_ERROR);
        };
        let (outcome, text) = match self.over_budget().filter(|_| !outcome.is_error) {
            Some((budget, text)) => (budget, text),
            None => {
                let text = text.unwrap_or_else(|| self.sentence(&outcome));
                (outcome, text)
            }
        };
        if let Some(retries) = outcome.retries {
            self.retry(retries.count, retries.status, retries.error);
        }
        self.finish_turn(&outcome, &text, false);
        Flow::Continue(())
    }

    pub(crate) fn finish_turn(&mut self, outcome: &Outcome, text: &str, notified: bool) {
        let mut state = self.shared.lock();
        if let Some(kind) = outcome.limit {
            let resets_at = self.resets_at.unwrap_or_else(events::default_reset);
            events::rate_limit(&mut state, "rejected", kind, resets_at);
        }
        events::synthetic(&mut state, outcome, text);
        let plain = match (outcome.name, outcome.plain) {
            ("max_turns", _) => text.replace(
                "Reached maximum number of turns",
                "Error: Reached max turns",
            ),
            ("budget", _) => {
                text.replace("Reached maximum budget ($", "Error: Exceeded USD budget (")
            }
            (_, plain) => plain.unwrap_or(text).to_owned(),
        };
        state.say_at_end(plain);
        events::result(
            &mut state,
            &Ending {
                outcome,
                text,
                notified,
            },
        );
        drop(state);
        (self.ended, self.code) = (true, outcome.exit_code);
    }

    pub(crate) fn sentence(&self, outcome: &Outcome) -> String {
        if outcome.limit.is_none() {
            return outcome.text.to_owned();
        }
        let resets_at = self.resets_at.unwrap_or_else(events::default_reset);
        format!(
            "{} · resets {}",
            outcome.text,
            crate::clock::clock_face(resets_at)
        )
    }

    /// Checked after the money is spent, as in the real one.
    pub(crate) fn over_budget(&self) -> Option<(Outcome, String)> {
        let asked = self.args.max_budget.as_ref()?;
        let budget: f64 = asked.parse().ok()?;
        let state = self.shared.lock();
        if state.spent + state.price <= budget {
            return None;
        }
        let text = format!("Reached maximum budget (${asked})");
        Some((outcome::find("budget")?, text))
    }

    pub(crate) fn max_turns(&self) -> Option<u64> {
        let asked = std::env::var("CLAUDE_CODE_MAX_TURNS").ok();
        self.args.max_turns.or_else(|| asked?.parse().ok())
    }

    pub(crate) fn check_turns(&mut self) -> Flow {
        let Some(max) = self
            .max_turns()
            .filter(|max| self.shared.lock().rounds >= *max)
        else {
            return Flow::Continue(());
        };
        let text = format!("Reached maximum number of turns ({max})");
        self.end("max_turns", Some(text))?;
        self.leave(self.code)
    }

    pub(crate) fn leave(&self, code: u8) -> Flow {
        Flow::Break(code)
    }

    pub(crate) fn die(&self, name: &str) {
        let number = signals::number(name).unwrap_or(9);
        // For KILL there is no handler to emulate; the signal itself does it.
        signal_hook::low_level::emulate_default_handler(number).ok();
        if let Some(signal) = rustix::process::Signal::from_named_raw(number) {
            rustix::process::kill_process(rustix::process::getpid(), signal).ok();
        }
        self.shared.pause(AGES);
    }

    /// The process stays for its background commands, and each brings one more turn.
    pub(crate) fn await_background(&mut self) -> Flow {
        for (running, task, id) in std::mem::take(&mut self.background) {
            let code = self.wait_for(running).map_or(-1, |(code, _)| code);
            let status = if code == 0 { "completed" } else { "failed" };
            let summary = format!("Background command completed (exit code {code})");
            let mut state = self.shared.lock();
            let patch = json!({"status": status});
            let updated: Fields = vec![("task_id", json!(task)), ("patch", patch)];
            events::system(&mut state, "task_updated", updated);
            let noted: Fields = vec![
                ("task_id", json!(task)),
                ("tool_use_id", json!(id)),
                ("status", json!(status)),
                ("output_file", json!("")),
                ("summary", json!(summary)),
            ];
            events::system(&mut state, "task_notification", noted);
            events::system(
                &mut state,
                "background_tasks_changed",
                vec![("tasks", json!([]))],
            );
            (state.rounds, state.message_id) = (0, None);
            let servers = self.servers.clone().unwrap_or_default();
            events::init(&mut state, &self.tools, &servers);
            let text = "The background command has finished.";
            events::assistant(&mut state, &json!({"type": "text", "text": text}));
            drop(state);
            if let Some(ok) = outcome::find("ok") {
                self.finish_turn(&ok, text, true);
            }
        }
        Flow::Continue(())
    }
}
