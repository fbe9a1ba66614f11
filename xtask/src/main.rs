//! Project tasks: `cargo xtask <task>`.

mod bench;
mod chaos;
mod demo;
mod hostile;
mod interrupt;
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
    /// Build everything and run one job end to end, with claude or a stand-in for it.
    Demo(demo::Demo),
    /// Torment a server and account for every job it took in.
    Chaos(chaos::Chaos),
    /// Run everything CI runs.
    Test(test::Test),
    /// Check the rules of the project that a program can check.
    Tidy,
    /// Run agents that try to leave processes behind, over and over, and look for what is left.
    Hostile(hostile::Hostile),
    /// Measure how fast it is.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Chaos(options) => chaos::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Tidy => tidy::run(workspace::root()),
        Task::Hostile(options) => hostile::run(&options),
        Task::Bench(bench) => bench::run(&bench),
    }
}
