//! What a job, its client or the server may set about a run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Delivery, JsonText, PermissionMode, ToolRule, Usd, VariableName};

/// From the one list of options: the set of them, how sets are laid over each other, and a change.
macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// What a job, its client or the server may set about a run; `None` means not set here.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct RunOptions {
            $($(#[$doc])* pub $name: Option<$type>,)*
        }

        impl RunOptions {
            /// Fills what is not set here from `fallback`: job, then client, then server. Each
            /// option counts as a whole: a list is not added to another.
            #[must_use]
            pub fn or(self, fallback: &Self) -> Self {
                Self {
                    $($name: self.$name.or_else(|| fallback.$name.clone()),)*
                }
            }
        }

        /// What to change about options; by default nothing.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct RunOptionsChange {
            $($(#[$doc])* pub $name: Edit<$type>,)*
        }

        impl RunOptionsChange {
            /// Returns what becomes of `options`.
            #[must_use]
            pub fn applied_to(self, options: RunOptions) -> RunOptions {
                RunOptions {
                    $($name: self.$name.applied_to(options.$name),)*
                }
            }
        }
    };
}

options! {
    /// Passed as `--model`; without it the CLI picks one by the kind of credential.
    model: String,
    /// Passed as `--fallback-model`: used where the other is overloaded.
    fallback_model: String,
    /// Passed as `--permission-mode`.
    permission_mode: PermissionMode,
    /// Longest run of the agent, by the wall clock.
    timeout: Duration,
    /// Longest silence of the agent.
    idle_timeout: Duration,
    /// Passed as `--max-turns`.
    max_turns: u32,
    /// What a job may cost, all its attempts together. What is left of it, or less where a cap
    /// leaves less, is passed as `--max-budget-usd`.
    budget: Usd,
    /// Passed as `--allowedTools`: what may be done without asking.
    allowed_tools: Vec<ToolRule>,
    /// Passed as `--disallowedTools`: what must not be done.
    disallowed_tools: Vec<ToolRule>,
    /// Added to the CLI's own system prompt.
    append_system_prompt: String,
    /// Passed as `--agents`: an object of subagents by name.
    agents: JsonText,
    /// Passed as `--mcp-config`, through a file: an object of MCP servers by name.
    mcp_servers: JsonText,
    /// Passed as `--json-schema`: the form that the agent's answer must have.
    output_schema: JsonText,
    /// What becomes of the work.
    delivery: Delivery,
    /// Whether the pull request is a draft.
    draft: bool,
    /// Labels of the pull request.
    labels: Vec<String>,
    /// How many runs of a job may be lost in a row. The client's counts when the job is taken in.
    max_attempts: u32,
    /// Variables that the agent has beside those of the server.
    env: BTreeMap<VariableName, String>,
}

/// What to do with a value that need not be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Edit<T> {
    /// Leave it as it is.
    #[default]
    Keep,
    /// Remove it.
    Clear,
    /// Replace it.
    Set(T),
}

impl<T> Edit<T> {
    /// Returns what becomes of `value`.
    pub fn applied_to(self, value: Option<T>) -> Option<T> {
        match self {
            Self::Keep => value,
            Self::Clear => None,
            Self::Set(new) => Some(new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(model: &str, mode: PermissionMode, seconds: u64) -> RunOptions {
        RunOptions {
            model: Some(model.into()),
            permission_mode: Some(mode),
            timeout: Some(Duration::from_secs(seconds)),
            idle_timeout: Some(Duration::from_secs(seconds + 1)),
            env: Some([("FROM".parse().unwrap(), model.into())].into()),
            ..RunOptions::default()
        }
    }

    #[test]
    fn each_option_is_the_jobs_else_the_clients_else_the_servers() {
        let server = options("server", PermissionMode::BypassPermissions, 30);
        let client = RunOptions {
            model: Some("client".into()),
            permission_mode: Some(PermissionMode::Plan),
            timeout: Some(Duration::from_secs(20)),
            max_turns: Some(7),
            env: Some([("CI".parse().unwrap(), "1".into())].into()),
            ..RunOptions::default()
        };
        let job = RunOptions {
            model: Some("job".into()),
            ..RunOptions::default()
        };
        let wanted = RunOptions {
            model: Some("job".into()),
            permission_mode: Some(PermissionMode::Plan),
            timeout: Some(Duration::from_secs(20)),
            idle_timeout: Some(Duration::from_secs(31)),
            max_turns: Some(7),
            // As a whole: the server's variable is not added to the client's.
            env: client.env.clone(),
            ..RunOptions::default()
        };
        assert_eq!(job.or(&client).or(&server), wanted);

        let full = options("job", PermissionMode::Auto, 10);
        let filled = full.clone().or(&client).or(&server);
        assert_eq!(filled, full.clone().or(&client));
        assert_eq!(RunOptions::default().or(&full), full);
    }

    #[test]
    fn each_option_is_kept_cleared_or_set_by_itself() {
        let before = options("a", PermissionMode::Plan, 10);
        let change = RunOptionsChange {
            model: Edit::Clear,
            permission_mode: Edit::Set(PermissionMode::Auto),
            idle_timeout: Edit::Clear,
            max_turns: Edit::Set(3),
            env: Edit::Clear,
            ..RunOptionsChange::default()
        };
        let after = RunOptions {
            permission_mode: Some(PermissionMode::Auto),
            timeout: before.timeout,
            max_turns: Some(3),
            ..RunOptions::default()
        };
        assert_eq!(change.applied_to(before.clone()), after);
        assert_eq!(
            RunOptionsChange::default().applied_to(before.clone()),
            before
        );
        let back = RunOptionsChange {
            model: Edit::Set("a".into()),
            permission_mode: Edit::Set(PermissionMode::Plan),
            idle_timeout: Edit::Set(Duration::from_secs(11)),
            max_turns: Edit::Clear,
            env: Edit::Set(before.env.clone().unwrap()),
            ..RunOptionsChange::default()
        };
        assert_eq!(back.applied_to(after), before);
    }
}
