//! Project tasks: `cargo xtask <task>`.

mod bench;
mod test;
mod tidy;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Project tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run everything CI runs.
    Test(test::Test),
    /// Check the rules of the project that a program can check.
    Tidy,
    /// Measure how fast it is.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Tidy => tidy::run(workspace::root()),
        Task::Bench(bench) => bench::run(&bench),
    }
}
