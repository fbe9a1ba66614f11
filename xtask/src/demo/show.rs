//! What the demo prints.

use std::fmt::Display;
use std::io::{IsTerminal as _, stdout};

use serde_json::Value;

/// Prints what comes next.
pub(super) fn heading(text: &str) {
    if stdout().is_terminal() {
        println!("\n\x1b[1m== {text}\x1b[0m");
    } else {
        println!("\n== {text}");
    }
}

/// Prints something with its name.
pub(super) fn fact(name: &str, value: impl Display) {
    println!("{name:<18} {value}");
}

/// Prints a text as it is.
pub(super) fn text(text: &str) {
    println!("{text}");
}

/// Prints a document for people.
pub(super) fn json(document: &Value) {
    println!("{document:#}");
}

/// Says how to go on with a real server.
pub(super) fn next_steps() {
    heading("All of this is gone again. For a server of your own");
    println!(
        "  cargo install --locked --path bins/agent-server
  cargo install --locked --path bins/agent-admin
  npm install -g @anthropic-ai/claude-code && claude login

  export AGENT_API_SECRET=$(openssl rand -hex 32)
  export GITHUB_TOKEN=...            # opens pull requests; or log in with gh
  export WEBHOOK_SECRET=$(openssl rand -hex 32)
  agent-server

  agent-admin jobs submit --help     # or POST /jobs, as README.md shows"
    );
}
