//! Tool calls that were denied to the agent.

/// Most denied calls that are kept of a run.
pub const DENIED_CALLS_MAX: usize = 50;

/// A tool call that was denied. It is no failure: the agent goes on without it, and may report
/// success in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeniedCall {
    /// The CLI's id of the call.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The beginning of its input, as JSON; `None` where the CLI has not told.
    pub input: Option<String>,
}
