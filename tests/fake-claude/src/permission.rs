//! Which tools there are, and which of them may be used.

use crate::args::Args;

const TOOLS: [&str; 22] = [
    "Task",
    "Bash",
    "CronCreate",
    "CronDelete",
    "CronList",
    "Edit",
    "EnterWorktree",
    "ExitWorktree",
    "ListAgents",
    "Monitor",
    "NotebookEdit",
    "Read",
    "ReportFindings",
    "ScheduleWakeup",
    "SendMessage",
    "Skill",
    "TaskStop",
    "ToolSearch",
    "WebFetch",
    "WebSearch",
    "Workflow",
    "Write",
];

/// What the command line says about tools.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) mode: String,
    allowed: Vec<String>,
    disallowed: Vec<String>,
    only: Option<Vec<String>>,
    /// Names of the subagents there are beside the CLI's own.
    pub(crate) agents: Vec<String>,
    /// Whether there is the tool by which an answer of a form is given.
    structured: bool,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// Would have to be asked, and nobody is there.
    Denied,
    /// There is no such tool.
    Unknown,
}

impl Tools {
    pub(crate) fn new(args: &Args) -> Self {
        Self {
            mode: args.mode.clone(),
            allowed: args.allowed.clone(),
            disallowed: args.disallowed.clone(),
            only: args.tools.clone(),
            agents: args.agents.clone(),
            structured: args.structured,
        }
    }

    /// What the init event lists.
    pub(crate) fn listed(&self) -> Vec<&'static str> {
        let structured = self.structured.then_some("StructuredOutput");
        let tools = TOOLS.into_iter().filter(|tool| self.exists(tool));
        tools.chain(structured).collect()
    }

    fn exists(&self, tool: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|one| one == tool);
        !named(&self.disallowed) && self.only.as_deref().is_none_or(named)
    }

    pub(crate) fn verdict(&self, tool: &str) -> Verdict {
        if !self.exists(tool) {
            return Verdict::Unknown;
        }
        let reads = ["Read", "Task", "Skill", "ToolSearch", "Glob", "Grep"].contains(&tool);
        let edits = ["Write", "Edit", "NotebookEdit"].contains(&tool);
        let free = match self.mode.as_str() {
            "bypassPermissions" | "auto" => true,
            "acceptEdits" => reads || edits,
            _ => reads,
        };
        if free || self.allowed.iter().any(|one| one == tool) {
            Verdict::Allowed
        } else {
            Verdict::Denied
        }
    }
}
