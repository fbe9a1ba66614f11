//! Runs the Claude Code CLI so that neither a crash of the server nor anything the agent starts
//! gets out of hand.
//!
//! Each run has a supervisor: a small process of its own that owns the agent's process tree,
//! writes its log, enforces its limits and outlives the server that started it. [`Runner`] starts
//! supervisors and finds them again; [`supervise()`] is what they do.

mod attempt;
mod cgroup;
mod child;
mod command_line;
mod cut;
mod environment;
mod error;
mod event;
mod events;
mod framing;
mod limits;
pub mod log;
mod login;
mod mask;
mod observer;
mod output;
mod probe;
mod process_control;
mod processes;
mod project;
mod record;
mod run;
mod runner;
mod sandbox;
mod sessions;
mod signs;
mod socket;
mod supervise;
mod supervision;
mod survey;
mod text;
mod transcript;
mod tree;
mod usage;
mod windows;

pub use command_line::command_line;
pub use environment::agent_environment;
pub use error::RunnerError;
pub use limits::Limits;
pub use log::LogWriter;
pub use login::{Login, Logins, unused_token};
pub use mask::{MASK, MaskStream, Masker, SECRET_MIN};
pub use observer::RunObserver;
pub use probe::Probe;
pub use process_control::{Means, ProcessControl, process_control};
pub use project::{CLAUDE_MD_MAX, Conventions, Project};
pub use run::Run;
pub use runner::{
    Ladder, LogLimits, LostRun, Program, Reconnected, RunRequest, Runner, RunnerConfig,
};
pub use sandbox::{
    Ground, HostRule, HostRuleError, Level, LevelError, Sandbox, inside, try_sandbox,
};
pub use sessions::OwnSessions;
pub use signs::{LONGEST_STALL, Signs};
pub use supervise::supervise;
pub use survey::{Survey, Surveyed};
pub use transcript::ClaudeTranscript;
