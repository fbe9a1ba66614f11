//! The real Claude Code CLI, talking to our stand-in for the Messages API.
//!
//! `REAL_CLAUDE` names the native binary; `cargo xtask test` installs it and sets that, and only it runs
//! these tests.

mod credentials;
mod money;
mod outcomes;
mod runs;
mod sessions;
mod trust;

use std::path::PathBuf;

use agent_tests::messages_api::MessagesApi;
use agent_tests::server::Builder;

/// Keeps the CLI from calling anyone but the API it is pointed at.
const QUIET: &str = "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC";
const MODEL: &str = "claude-sonnet-5-5";
const CONTENT: &str = "Grüße from the model.\nTwo lines.\n";

fn real_claude() -> PathBuf {
    let path = std::env::var_os("REAL_CLAUDE");
    path.expect("REAL_CLAUDE must name the CLI's binary; cargo xtask test --real-claude does")
        .into()
}

/// A server whose agent is the real CLI, with a key for the stand-in.
fn builder(api: &MessagesApi) -> Builder {
    let builder = Builder::new()
        .unwrap()
        .env("CLAUDE_BIN", real_claude())
        .env("ANTHROPIC_BASE_URL", api.url())
        .env("CLAUDE_MODEL", MODEL)
        .env(QUIET, "1")
        .env("AGENT_ENV", QUIET);
    // It leaves sockets and the output of tasks there.
    let tmp = builder.dir().join("tmp");
    std::fs::create_dir(&tmp).unwrap();
    builder.env("TMPDIR", tmp)
}
