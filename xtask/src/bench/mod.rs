//! How fast it is: `bench job`, `bench api`, `bench boot` and `bench claim`.
//!
//! They start release builds in a directory of their own below the target directory, measure
//! what a client sees, put it beside a floor measured in the same run, and print tables. They
//! never fail because something is slow: the figures depend on the machine, the ratios less so.

mod api;
mod baseline;
mod boot;
mod claim;
mod course;
mod fill;
mod floor;
mod http;
mod job;
mod load;
mod long_answer;
mod programs;
mod series;
mod server;
mod table;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::workspace;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// A no-op job from POST to completed, against a shell script with the same commands.
    Job(job::JobBench),
    /// Requests per second and latencies, with few and with many jobs in the database.
    Api(api::ApiBench),
    /// The time from a start until every job of a server that crashed is settled.
    Boot(boot::BootBench),
    /// What a claim costs with a million jobs queued.
    Claim(claim::ClaimBench),
}

/// Measures, and prints what came out.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    if cfg!(debug_assertions) {
        return run_optimised();
    }
    match bench {
        Bench::Job(bench) => bench.run(),
        Bench::Api(bench) => bench.run(),
        Bench::Boot(bench) => bench.run(),
        Bench::Claim(bench) => bench.run(),
    }
}

/// Starts the same command again as a release build: a load generator and a baseline that are
/// not optimised would measure themselves.
fn run_optimised() -> Result<()> {
    let status = workspace::cargo(&["run", "--release", "--quiet", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the release build of this command ended with {status}");
    }
    Ok(())
}

/// Prints one aim and whether it is met; `factor` is what was measured.
fn print_aim(aim: &str, factor: f64, is_met: bool) {
    let verdict = if is_met { "met" } else { "missed" };
    println!("aim {aim}: {factor:.2} ({verdict})");
}
