//! The steps of a script that are calls of tools, carried out for real.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::events::{self, ToolResult};
use crate::permission::Verdict;
use crate::run::{Flow, Run};
use crate::state::Fields;
use crate::step::Step;
use crate::tools::Running;
use crate::{survivor, tools};

impl Run {
    /// The steps that are calls of tools.
    pub(crate) fn work(&mut self, step: &Step) -> Flow {
        match step {
            Step::Tool {
                name,
                input,
                text,
                is_error,
            } => {
                let id = events::tool_use(&mut self.shared.lock(), name, input);
                self.pace();
                self.answer(&id, text, *is_error, None);
            }
            Step::Denied { name, input } => {
                let id = events::tool_use(&mut self.shared.lock(), name, input);
                self.deny(&id, name, input);
            }
            Step::Write { path, text, append } => self.write(path, text, *append),
            Step::Shell(line) => {
                self.shell(line, line);
            }
            Step::Background(line) => self.in_background(line),
            Step::Commit(message) => self.commit(message),
            Step::Survivor { kind, file } => self.survivor(kind, file.as_deref()),
            _ => {}
        }
        self.pace();
        self.check_turns()
    }

    pub(crate) fn answer(&self, id: &str, content: &str, is_error: bool, detail: Option<Value>) {
        let result = ToolResult {
            id,
            content,
            is_error,
            rejected: false,
            detail,
        };
        events::tool_result(&mut self.shared.lock(), result);
    }

    /// Begins a call where it is allowed; else says why not.
    pub(crate) fn permitted(&self, name: &str, input: &Value) -> Option<String> {
        let id = events::tool_use(&mut self.shared.lock(), name, input);
        self.pace();
        match self.tools.verdict(name) {
            Verdict::Allowed => Some(id),
            Verdict::Denied => {
                self.deny(&id, name, input);
                None
            }
            Verdict::Unknown => {
                let text = format!(
                    "<tool_use_error>Error: No such tool available: {name}</tool_use_error>"
                );
                self.answer(&id, &text, true, None);
                None
            }
        }
    }

    /// Not an error of the run: the model is told and goes on.
    pub(crate) fn deny(&self, id: &str, name: &str, input: &Value) {
        let what = input["file_path"]
            .as_str()
            .or(input["command"].as_str())
            .unwrap_or_default();
        let message = format!(
            "Claude requested permissions to use {name} on {what}, but you haven't granted it yet."
        );
        let mut state = self.shared.lock();
        let more: Fields = vec![
            ("tool_name", json!(name)),
            ("tool_use_id", json!(id)),
            ("message", json!(message)),
        ];
        events::system(&mut state, "permission_denied", more);
        let denial = json!({"tool_name": name, "tool_use_id": id, "tool_input": input});
        state.denials.push(denial);
        let result = ToolResult {
            id,
            content: &message,
            is_error: true,
            rejected: true,
            detail: None,
        };
        events::tool_result(&mut state, result);
    }

    pub(crate) fn write(&self, path: &str, text: &str, append: bool) {
        let path: PathBuf = std::env::current_dir().unwrap_or_default().join(path);
        let name = if append && path.exists() {
            "Edit"
        } else {
            "Write"
        };
        let input = json!({"file_path": path, "content": text});
        let Some(id) = self.permitted(name, &input) else {
            return;
        };
        match tools::write(&path, text, append) {
            Ok(is_new) => {
                let kind = if is_new { "create" } else { "update" };
                let said = if is_new {
                    "File created successfully at"
                } else {
                    "The file has been updated"
                };
                let detail =
                    json!({"type": kind, "filePath": path, "content": text, "structuredPatch": []});
                self.answer(
                    &id,
                    &format!("{said}: {}", path.display()),
                    false,
                    Some(detail),
                );
            }
            Err(error) => self.answer(&id, &error.to_string(), true, None),
        }
    }

    pub(crate) fn shell(&self, line: &str, description: &str) -> bool {
        let input = json!({"command": line, "description": description});
        let Some(id) = self.permitted("Bash", &input) else {
            return false;
        };
        match self.start(line).and_then(|running| self.wait_for(running)) {
            Ok((0, output)) => {
                let detail =
                    json!({"stdout": output, "stderr": "", "interrupted": false, "isImage": false});
                self.answer(&id, &output, false, Some(detail));
                true
            }
            Ok((code, output)) => {
                let text = format!("Exit code {code}\n{output}");
                self.answer(&id, text.trim_end(), true, None);
                false
            }
            Err(error) => {
                self.answer(&id, &error.to_string(), true, None);
                false
            }
        }
    }

    pub(crate) fn start(&self, line: &str) -> std::io::Result<Running> {
        // Held while starting, so that a signal finds either no child or its id.
        let mut state = self.shared.lock();
        let running = Running::start(line, &state.session.id)?;
        state.leaders.push(running.pid());
        Ok(running)
    }

    pub(crate) fn wait_for(&self, running: Running) -> std::io::Result<(i32, String)> {
        let pid = running.pid();
        let ended = running.wait();
        self.shared.lock().leaders.retain(|leader| *leader != pid);
        ended
    }

    pub(crate) fn commit(&self, message: &str) {
        if self.shell(&tools::commit_line(message), "Commit everything") {
            let cwd = std::env::current_dir().unwrap_or_default();
            let more: Fields = vec![("kind", json!("commit")), ("cwd", json!(cwd))];
            events::system(&mut self.shared.lock(), "vcs_state_changed", more);
        }
    }

    pub(crate) fn survivor(&self, kind: &str, file: Option<&str>) {
        if !survivor::KINDS.contains(&kind) {
            eprintln!(
                "fake-claude: no survivor {kind:?}, only {:?}",
                survivor::KINDS
            );
        }
        let input = json!({"command": format!("start-{kind} &"), "description": kind});
        if let Some(id) = self.permitted("Bash", &input) {
            survivor::start(kind, file);
            self.answer(&id, "", false, None);
        }
    }

    pub(crate) fn in_background(&mut self, line: &str) {
        let off =
            std::env::var("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS").is_ok_and(|value| value == "1");
        if off {
            self.shell(line, line);
            return;
        }
        let input = json!({"command": line, "description": line, "run_in_background": true});
        let Some(id) = self.permitted("Bash", &input) else {
            return;
        };
        match self.start(line) {
            Ok(running) => {
                let task = self.announce(&id, line);
                self.background.push((running, task, id));
            }
            Err(error) => self.answer(&id, &error.to_string(), true, None),
        }
    }

    pub(crate) fn announce(&self, id: &str, line: &str) -> String {
        let mut state = self.shared.lock();
        let task = format!("b{:08x}", state.ids.next() >> 32);
        let listed = json!([{"task_id": task, "task_type": "local_bash", "description": line}]);
        events::system(
            &mut state,
            "background_tasks_changed",
            vec![("tasks", listed)],
        );
        let started: Fields = vec![
            ("task_id", json!(task)),
            ("tool_use_id", json!(id)),
            ("description", json!(line)),
            ("is_backgrounded", json!(true)),
            ("task_type", json!("local_bash")),
        ];
        events::system(&mut state, "task_started", started);
        drop(state);
        let text = format!("Command running in background with ID: {task}.");
        let detail = json!({"stdout": "", "stderr": "", "backgroundTaskId": task});
        self.answer(id, &text, false, Some(detail));
        task
    }
}
