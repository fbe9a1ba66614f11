//! `cargo xtask hostile`: the runner's suite of hostile agents, as often as wanted.

use std::num::NonZeroU32;

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// How often.
#[derive(Debug, clap::Args)]
pub(crate) struct Hostile {
    /// Runs altogether; every kind of agent and of ending gets its share.
    #[arg(long, default_value = "1000")]
    runs: NonZeroU32,
}

/// Prints how long each kind took to be ended, and fails when anything is left.
pub(crate) fn run(options: &Hostile) -> Result<()> {
    let mut test = workspace::cargo(&[
        "test",
        "--locked",
        "--package",
        "agent-runner",
        "--test",
        "runs",
        "hostile::",
        "--",
        "--nocapture",
    ]);
    test.env("HOSTILE_RUNS", options.runs.to_string());
    let status = test.status().context("cannot start cargo")?;
    ensure!(status.success(), "something was left behind");
    Ok(())
}
