//! agent-server: runs the Claude Code CLI unattended on many repositories.
//!
//! This binary is the composition root: it reads settings, builds the parts, wires them and ends
//! them in order. Everything it does is done by a library.

mod credentials;
mod disk;
mod doctor;
mod environment;
mod money;
mod preflight;
mod run_limits;
mod sandbox;
mod secrets;
mod serve;
mod settings;
mod shutdown;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use agent_queue::SystemClock;
use clap::{Parser, Subcommand};

use crate::settings::Settings;

#[derive(Debug, Parser)]
#[command(
    name = "agent-server",
    version,
    about = "Runs the Claude Code CLI unattended on many repositories",
    long_about = "Takes jobs over an HTTP API and turns each into an isolated git workspace, a \
                  supervised run of the Claude Code CLI, a pushed branch with a pull request, and \
                  a signed callback.\n\nWithout a subcommand it serves."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API and run jobs (the default).
    Serve,
    /// Say what works on this machine, and how to get the rest; exits with 1 when something is
    /// missing without which the server does not start or jobs fail.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Own one run of the agent; started by the server itself.
    #[command(hide = true)]
    Supervise {
        /// The attempt's directory.
        dir: PathBuf,
    },
    /// Start the agent behind a wall; started there by a supervisor.
    #[command(hide = true)]
    Inside,
}

fn main() -> ExitCode {
    // Before anything else: a supervisor is started for every run and must be quick and small.
    let first = std::env::args_os().nth(1);
    match first.as_deref().and_then(OsStr::to_str) {
        Some("supervise") => return agent_runner::supervise(Arc::new(SystemClock)),
        Some("inside") => return agent_runner::inside(),
        _ => {}
    }
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Supervise { .. }) => agent_runner::supervise(Arc::new(SystemClock)),
        Some(Command::Doctor { json }) => doctor::run(cli.settings, json),
        Some(Command::Inside) => agent_runner::inside(),
        Some(Command::Serve) | None => match serve::run(cli.settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("agent-server: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
