//! `bench claim`: what a claim costs with a million jobs queued, against one with few.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::print_aim;
use super::series::Series;
use super::table::Table;
use crate::workspace;

/// A claim with many queued jobs against one with few, medians.
const AIM: f64 = 2.0;

/// What `bench claim` is told.
#[derive(Debug, Args)]
pub(crate) struct ClaimBench {
    /// Queued jobs in the large database.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10_000..=10_000_000))]
    jobs: u32,
}

impl ClaimBench {
    /// Measures and prints.
    pub(crate) fn run(&self) -> Result<()> {
        let args = ["bench", "--quiet", "--package", "agent-storage"];
        let output = workspace::cargo(&args)
            .args(["--bench", "claim_cost", "--", &self.jobs.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("the measurement ended with {}", output.status);
        }
        let text = String::from_utf8(output.stdout).context("not a text")?;
        let many = format!("{}: median", self.jobs);
        let mut table = Table::new(&["", "20: median", "p99", &many, "p99", "many/few"]);
        let mut ratios = Vec::new();
        for (what, name) in [("claim", "claim one job"), ("job", "store a new job")] {
            let [few, many] = ["few", "many"].map(|side| series(&text, what, side));
            let ratio = many.median() / few.median();
            let cells = [few.median(), few.p99(), many.median(), many.p99()];
            let cells = cells.map(|micros| format!("{micros:.0}"));
            table.row(name, cells.into_iter().chain([format!("{ratio:.2}")]));
            ratios.push(ratio);
        }
        table.print("With so many jobs queued, durable; microseconds");
        let ratio = ratios.first().copied().unwrap_or(f64::NAN);
        let aim = format!("claim, {} / 20 queued jobs, medians, at most 2", self.jobs);
        print_aim(&aim, ratio, ratio <= AIM);
        Ok(())
    }
}

/// The measurements of one kind: lines of what, side and microseconds.
fn series(text: &str, what: &str, side: &str) -> Series {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(what)?.strip_prefix(' ')?;
        rest.strip_prefix(side)?.trim().parse().ok()
    });
    values.collect()
}
