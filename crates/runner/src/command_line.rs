//! The CLI's command line.

use std::ffi::OsString;
use std::path::Path;

use agent_domain::{RunOptions, ToolRule, is_session_id};

use crate::Project;

/// The CLI's arguments for one unattended run.
///
/// The prompt comes on standard input, and MCP servers from a file, so that neither shows in a list
/// of processes: the servers' headers and variables are where people keep tokens.
pub fn command_line(
    options: &RunOptions,
    project: &Project,
    mcp_config: Option<&Path>,
) -> Vec<OsString> {
    let mut line = Line::default();
    for fixed in ["-p", "--output-format", "stream-json", "--verbose"] {
        line.word(fixed);
    }
    line.option("--model", options.model.as_deref());
    line.option("--fallback-model", options.fallback_model.as_deref());
    let mode = options.permission_mode.unwrap_or_default();
    line.option("--permission-mode", Some(mode.as_str()));
    let turns = options.max_turns.map(|turns| turns.to_string());
    line.option("--max-turns", turns.as_deref());
    let budget = options.budget.map(|most| most.dollars().to_string());
    line.option("--max-budget-usd", budget.as_deref());
    line.rules("--allowedTools", options.allowed_tools.as_deref());
    line.rules("--disallowedTools", options.disallowed_tools.as_deref());
    let agents = options.agents.as_ref();
    line.option("--agents", agents.map(agent_domain::JsonText::as_str));
    let schema = options.output_schema.as_ref();
    line.option("--json-schema", schema.map(agent_domain::JsonText::as_str));
    for argument in project.arguments() {
        line.word(argument);
    }
    if let Some(file) = mcp_config {
        line.word("--mcp-config");
        line.0.push(file.into());
    }
    let told = [project.told(), options.append_system_prompt.clone()];
    let told: Vec<String> = told.into_iter().flatten().collect();
    let told = (!told.is_empty()).then(|| told.join("\n"));
    line.option("--append-system-prompt", told.as_deref());
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn word(&mut self, word: &str) {
        self.0.push(word.into());
    }

    fn option(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.word(name);
            self.word(value);
        }
    }

    /// The flag takes all that follows up to the next one; without any it is an error.
    fn rules(&mut self, name: &str, rules: Option<&[ToolRule]>) {
        let rules = rules.unwrap_or_default();
        if !rules.is_empty() {
            self.word(name);
        }
        for rule in rules {
            self.word(rule.as_str());
        }
    }
}

/// The arguments by which a run goes on in a session.
pub(crate) fn going_on(session_id: Option<&str>) -> Vec<OsString> {
    let known = session_id.filter(|id| is_session_id(id));
    known.map_or_else(Vec::new, |id| vec!["--resume".into(), id.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conventions;
    use agent_domain::{JsonText, PermissionMode};

    fn written(options: &RunOptions, project: &Project, mcp_config: Option<&Path>) -> String {
        let line = command_line(options, project, mcp_config);
        let joined = line.join(&OsString::from("|")).into_string().unwrap();
        let fixed = "-p|--output-format|stream-json|--verbose|";
        joined.strip_prefix(fixed).unwrap().to_owned()
    }

    #[test]
    fn an_option_is_passed_only_when_it_is_set() {
        let plain = RunOptions::default();
        assert_eq!(
            written(&plain, &Project::Trusted, None),
            "--permission-mode|bypassPermissions"
        );
        let empty = RunOptions {
            allowed_tools: Some(Vec::new()),
            ..RunOptions::default()
        };
        assert_eq!(
            written(&empty, &Project::Trusted, None),
            "--permission-mode|bypassPermissions"
        );
        let rule = |text: &str| text.parse().unwrap();
        let options = RunOptions {
            model: Some("opus".into()),
            fallback_model: Some("sonnet,haiku".into()),
            permission_mode: Some(PermissionMode::Plan),
            max_turns: Some(7),
            allowed_tools: Some(vec![rule("Edit"), rule("Bash(git log:*)")]),
            disallowed_tools: Some(vec![rule("WebFetch")]),
            append_system_prompt: Some("Be brief.".into()),
            agents: Some(JsonText::new(r#"{"a":1}"#)),
            output_schema: Some(JsonText::new("{}")),
            // Goes by the file, whatever it says.
            mcp_servers: Some(JsonText::new(r#"{"secret":1}"#)),
            ..RunOptions::default()
        };
        assert_eq!(
            written(&options, &Project::Trusted, Some(Path::new("/a/mcp.json"))),
            "--model|opus|--fallback-model|sonnet,haiku|--permission-mode|plan|--max-turns|7|\
             --allowedTools|Edit|Bash(git log:*)|--disallowedTools|WebFetch|--agents|{\"a\":1}|\
             --json-schema|{}|--mcp-config|/a/mcp.json|--append-system-prompt|Be brief."
        );
    }

    #[test]
    fn a_jobs_own_servers_and_words_come_beside_what_an_untrusted_repository_says() {
        let conventions = Conventions::new(b"Use tabs.\n", 10);
        let project = Project::Untrusted(Some(conventions));
        let options = RunOptions {
            append_system_prompt: Some("Be brief.".into()),
            ..RunOptions::default()
        };
        let line = written(&options, &project, Some(Path::new("/m")));
        let (flags, told) = line.split_once("|--append-system-prompt|").unwrap();
        assert_eq!(
            flags,
            "--permission-mode|bypassPermissions|--setting-sources|user|--strict-mcp-config|\
             --mcp-config|/m"
        );
        let (first, last) = told.split_once("Use tabs.\n").unwrap();
        assert!(first.contains("CLAUDE.md") && last.ends_with("Be brief."));
    }
}
