//! What an agent's transcript says, event by event.

use std::path::Path;

use crate::RunSummary;

/// Turns lines the agent wrote into what they mean.
///
/// The runner knows the CLI's format and implements this; whoever shows logs is given it.
pub trait TranscriptReader: Send + Sync {
    /// Returns the readable text of one line of the agent's standard output (without its line
    /// end), `None` when there is nothing in it for a person, and the line itself when it is not
    /// an event.
    fn readable(&self, line: &str) -> Option<String>;

    /// Returns the events of one line of the agent's standard output, in order; `None` when it is
    /// not an event.
    fn events(&self, line: &str) -> Option<Vec<TranscriptEvent>>;

    /// Returns what the transcript in the log of an attempt said, as far as it can be read. It reads
    /// the whole file.
    fn summary(&self, log: &Path) -> RunSummary;
}

/// One event of a transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct TranscriptEvent {
    /// Id of the model's message that it is a part of; the parts of a message come one by one.
    pub message_id: Option<String>,
    /// Id of the tool call whose subagent it comes from; `None`: from the agent itself.
    pub parent_call_id: Option<String>,
    /// What happened.
    pub content: EventContent,
}

/// What happened in a run. Fields are absent where the CLI did not tell.
#[derive(Debug, Clone, PartialEq)]
pub enum EventContent {
    /// A turn begins; repeated when the run goes on after a result.
    Init {
        /// The CLI's session.
        session_id: Option<String>,
        /// The model.
        model: Option<String>,
        /// The CLI's version.
        cli_version: Option<String>,
        /// The permission mode, in the CLI's words.
        permission_mode: Option<String>,
        /// Names of the tools the agent has.
        tools: Vec<String>,
        /// MCP servers: name and status, in the CLI's words.
        mcp_servers: Vec<(String, String)>,
    },
    /// The model says something.
    Text {
        /// What.
        text: String,
        /// Set where the CLI says it in the model's place, because the API failed: the kind of
        /// failure, in the CLI's words.
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
        id: Option<String>,
        /// The tool.
        name: String,
        /// Its input, as JSON.
        input: Option<String>,
    },
    /// A tool call has a result.
    ToolResult {
        /// The call.
        call_id: Option<String>,
        /// Whether it failed, or was denied.
        is_error: bool,
        /// What the model is told; of anything but text only the kind, in brackets.
        text: String,
    },
    /// A subagent, or a command in the background, has begun, is at work or has ended.
    Task {
        /// The task.
        id: Option<String>,
        /// The tool call that began it.
        call_id: Option<String>,
        /// `started`, or in the CLI's words.
        status: Option<String>,
        /// What it is or what came of it.
        summary: Option<String>,
    },
    /// The API failed and will be asked again.
    ApiRetry {
        /// Which try this will be, from 1.
        attempt: Option<i64>,
        /// How many there are.
        max_retries: Option<i64>,
        /// Milliseconds until then.
        delay_ms: Option<i64>,
        /// The HTTP status; `None`: no answer at all.
        status: Option<i64>,
        /// The kind of failure, in the CLI's words.
        error: Option<String>,
    },
    /// How much of the subscription's quota is used.
    RateLimit {
        /// `allowed`, `allowed_warning` or `rejected`.
        status: Option<String>,
        /// Which quota, in the CLI's words.
        kind: Option<String>,
        /// When it begins anew, in seconds since 1970.
        resets_at: Option<i64>,
        /// The used part, from 0 to 1.
        utilization: Option<f64>,
    },
    /// A tool call was not allowed. The run goes on all the same.
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
        /// The CLI's own estimate, in US dollars, over the whole session.
        cost_usd: Option<f64>,
        /// How long it took, in milliseconds.
        duration_ms: Option<i64>,
        /// Tools of the calls that were denied.
        denied_tools: Vec<String>,
    },
    /// Anything else the CLI reports.
    Other {
        /// Its type.
        kind: String,
        /// Its subtype.
        subtype: Option<String>,
    },
}
