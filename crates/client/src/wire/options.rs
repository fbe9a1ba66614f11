//! The options of a run, which jobs and clients have alike: one list, from which the fields of
//! every body are made.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A JSON object whose members are the caller's own affair.
pub type JsonObject = Map<String, Value>;

/// An amount of US dollars.
pub type Dollars = serde_json::Number;

/// Passes what it is given, in braces, and the list of options on to the macro named first.
macro_rules! each_option {
    ($form:ident $($given:tt)*) => {
        $form! {
            { $($given)* }
            /// Model the agent is to use.
            model: String,
            /// Models to be used where that one is overloaded, separated by commas.
            fallback_model: String,
            /// Permission mode of the CLI.
            permission_mode: String,
            /// Longest run of the agent.
            timeout_seconds: u64,
            /// Longest silence of the agent.
            idle_timeout_seconds: u64,
            /// Turns after which the agent is ended.
            max_turns: u32,
            /// What a job may cost, all its attempts together.
            budget_usd: $crate::wire::Dollars,
            /// Rules for tools that may be used without asking, as the CLI has them.
            allowed_tools: Vec<String>,
            /// Rules for tools that must not be used.
            disallowed_tools: Vec<String>,
            /// Added to the CLI's own system prompt.
            append_system_prompt: String,
            /// Subagents by name, as the CLI has them.
            agents: $crate::wire::JsonObject,
            /// MCP servers by name, as the CLI has them.
            mcp_servers: $crate::wire::JsonObject,
            /// JSON Schema of the answer that is wanted.
            output_schema: $crate::wire::JsonObject,
            /// `pull_request`, `branch` or `none`.
            delivery: String,
            /// Whether the pull request is a draft.
            draft: bool,
            /// Labels of the pull request.
            labels: Vec<String>,
            /// How many runs of a job may be lost in a row.
            max_attempts: u32,
            /// Variables for the agent's environment.
            env: std::collections::BTreeMap<String, String>,
        }
    };
}

/// Makes a structure with the given fields and every option, each of which may be left out.
macro_rules! with_options {
    ($($item:tt)*) => {
        each_option! { option_fields $($item)* }
    };
}

/// As [`with_options`], for a change: an option may be null as well.
macro_rules! with_option_patches {
    ($($item:tt)*) => {
        each_option! { option_patches $($item)* }
    };
}

macro_rules! option_fields {
    (
        { $(#[$attribute:meta])* pub struct $name:ident { $($own:tt)* } }
        $($(#[$doc:meta])* $option:ident: $type:ty,)*
    ) => {
        $(#[$attribute])*
        pub struct $name {
            $($own)*
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $option: Option<$type>,
            )*
        }

        impl $name {
            /// Takes the options out.
            pub fn take_options(&mut self) -> $crate::wire::RunOptions {
                $crate::wire::RunOptions { $($option: self.$option.take(),)* }
            }

            /// The same with these options.
            #[must_use]
            pub fn with_options(self, options: $crate::wire::RunOptions) -> Self {
                Self { $($option: options.$option,)* ..self }
            }
        }
    };
}

macro_rules! option_patches {
    (
        { $(#[$attribute:meta])* pub struct $name:ident { $($own:tt)* } }
        $($(#[$doc:meta])* $option:ident: $type:ty,)*
    ) => {
        $(#[$attribute])*
        pub struct $name {
            $($own)*
            $(
                $(#[$doc])*
                /// Null clears it.
                #[serde(default, skip_serializing_if = "Patch::is_absent")]
                pub $option: Patch<$type>,
            )*
        }
    };
}

macro_rules! options {
    ({} $($(#[$doc:meta])* $option:ident: $type:ty,)*) => {
        /// What a job or a client says of how the agent is run; null leaves it to the client, or
        /// else to the server.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct RunOptions {
            $(
                $(#[$doc])*
                #[serde(default)]
                pub $option: Option<$type>,
            )*
        }
    };
}

each_option! { options }
