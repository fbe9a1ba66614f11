//! `cargo xtask chaos`: a real server under attack, and every job it took in accounted for.
//!
//! Each cycle submits, cancels, retries and reads while processes are killed and stopped, the clock
//! is wrong, writes fail, the disk is full, and the remote, GitHub and the receiver of callbacks do
//! not do their part. Then everything is let run to quiet, and each promise is checked from outside:
//! over the API, on the remote, at the receiver, in `/proc`, on the disk, and against an account
//! the agents themselves keep. The first violation ends the run with the job's whole story.

mod account;
mod agents;
mod audit;
mod book;
mod checks;
mod clients;
mod faults;
mod figures;
mod kinds;
mod log;
mod plan;
mod receiver;
mod steps;
mod story;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

use self::figures::Figures;
use self::plan::Plan;
use self::world::World;
use crate::interrupt::Interrupt;
use crate::workspace;

/// How long to torment it, and with what.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Chaos {
    /// How many cycles; each takes a few seconds.
    #[arg(long, default_value_t = 25)]
    pub(crate) cycles: u32,
    /// The same number gives the same schedule; a fresh one where it is not given.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Number of the first cycle: to begin where an earlier run with the same seed went wrong.
    #[arg(long, default_value_t = 1)]
    pub(crate) from: u32,
    /// Jobs submitted in each cycle.
    #[arg(long, default_value_t = 6)]
    pub(crate) jobs: usize,
    /// Cycles on one database before a new one is begun.
    #[arg(long, default_value_t = 100)]
    pub(crate) same_server: u32,
    /// Instead of drawn faults, one at every step of a job's life.
    #[arg(long)]
    pub(crate) every_step: bool,
    /// Take only every so many of these steps.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) stride: u64,
    /// Go on after a violation, and count.
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Write the figures to this file, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

impl Chaos {
    /// A part that fits into a test run, always the same.
    pub(crate) fn brief(every_step: bool) -> Self {
        Self {
            cycles: 25,
            seed: Some(1),
            from: 1,
            jobs: 6,
            same_server: 25,
            every_step,
            stride: 41,
            keep_going: false,
            report: None,
        }
    }
}

/// Runs the cycles, prints the figures; an error where a promise was not kept.
pub(crate) fn run(options: &Chaos) -> Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "chaos looks at /proc: it runs on Linux only"
    );
    build()?;
    let seed = options.seed.unwrap_or_else(fresh_seed);
    let began = Instant::now();
    let mut figures = Figures::default();
    // What is mounted and what runs must go, whoever ends this.
    let interrupt = Interrupt::watch()?;
    let result = if options.every_step {
        let first = seed % options.stride + 1;
        println!("chaos: steps from {first} on, every {}", options.stride);
        let steps = (first, options.stride);
        steps::run(steps, options.keep_going, &interrupt, &mut figures)
    } else {
        println!("chaos: {} cycles, seed {seed}", options.cycles);
        cycles(options, seed, &mut figures, &interrupt)
    };
    let report = figures.report(seed, began.elapsed());
    println!("\n{report}");
    if let Some(path) = &options.report {
        std::fs::write(path, &report)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    result?;
    if figures.violations() > 0 {
        bail!("{} violations", figures.violations());
    }
    Ok(())
}

fn cycles(options: &Chaos, seed: u64, figures: &mut Figures, interrupt: &Interrupt) -> Result<()> {
    let last = options.from + options.cycles;
    let mut next = options.from;
    while next < last {
        let until = last.min(next + options.same_server);
        let mut world = World::begin(options.keep_going, interrupt)?;
        while next < until {
            let began = Instant::now();
            let plan = Plan::new(seed, next, options.jobs);
            world
                .cycle(&plan, figures)
                .with_context(|| format!("cycle {next}, seed {seed}"))?;
            figures.cycle(began.elapsed());
            next += 1;
        }
        world
            .close(figures)
            .with_context(|| format!("after cycle {}, seed {seed}", next - 1))?;
    }
    Ok(())
}

/// What [`World`] starts lies beside this program, so it is built as this program was.
fn build() -> Result<()> {
    let mut build = workspace::cargo(&["build", "--quiet", "--locked", "--workspace", "--bins"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let status = build.status().context("cannot start cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(())
}

fn fresh_seed() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::from(since.subsec_nanos())
}
