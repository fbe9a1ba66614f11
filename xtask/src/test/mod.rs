//! `cargo xtask test`: everything CI runs, one step after the other, each with its time.

mod leftovers;
mod packages;
mod real_claude;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use self::leftovers::Snapshot;
use crate::chaos::{self, Chaos};
use crate::workspace;

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Only the test with the real Claude Code CLI, which is installed from npm if need be.
    #[arg(long)]
    real_claude: bool,
    /// Only tests whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Runs the steps; the first that fails ends the run.
pub(crate) fn run(options: &Test) -> Result<()> {
    let mut steps = Steps::default();
    let before = Snapshot::take()?;
    let result = if options.real_claude {
        steps.real_claude(true)
    } else if let Some(name) = &options.only {
        steps.only(name)
    } else {
        steps.everything()
    };
    let result = result.and_then(|()| steps.step("nothing left behind", || before.compare()));
    steps.summary(&result);
    result
}

#[derive(Default)]
struct Steps {
    done: Vec<(String, Duration)>,
    /// What the reader of a green run must know all the same.
    notes: Vec<String>,
    began: Option<Instant>,
}

impl Steps {
    fn everything(&mut self) -> Result<()> {
        self.step("programs", packages::require)?;
        self.step("format", || cargo(&["fmt", "--all", "--check"]))?;
        self.step("tidy", || crate::tidy::run(workspace::root()))?;
        self.step("clippy", || {
            cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ])
        })?;
        self.binaries()?;
        self.step("tests", || {
            cargo(&["test", "--workspace", "--locked", "--no-fail-fast"])
        })?;
        if cfg!(target_os = "linux") {
            self.step("chaos", || chaos::run(&Chaos::brief(false)))?;
            self.step("a fault at every step", || chaos::run(&Chaos::brief(true)))?;
        }
        self.step("documentation", || {
            let mut doc = workspace::cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
            checked(doc.env("RUSTDOCFLAGS", "-D warnings"))
        })?;
        self.real_claude(false)
    }

    fn only(&mut self, name: &str) -> Result<()> {
        self.step("programs", packages::require)?;
        self.binaries()?;
        self.step("tests", || {
            cargo(&["test", "--workspace", "--locked", name])
        })
    }

    /// End-to-end tests run the binaries, which building the tests alone does not make.
    fn binaries(&mut self) -> Result<()> {
        self.step("binaries", || {
            cargo(&["build", "--workspace", "--bins", "--examples", "--locked"])
        })
    }

    /// Runs one job with the real CLI. Where it cannot be installed that is an error if it was
    /// asked for, and else a note at the end of the run.
    fn real_claude(&mut self, asked_for: bool) -> Result<()> {
        if asked_for {
            self.binaries()?;
        }
        let claude = match real_claude::install() {
            Ok(claude) => claude,
            Err(error) if !asked_for => {
                self.notes
                    .push(format!("THE REAL CLAUDE WAS NOT TESTED: {error:#}"));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.step("real claude", || {
            let mut test =
                workspace::cargo(&["test", "--workspace", "--locked", "--test", "real_claude"]);
            checked(test.env("REAL_CLAUDE", &claude))
        })
    }

    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.began.get_or_insert_with(Instant::now);
        println!("\n=== {name}");
        let began = Instant::now();
        let result = work().with_context(|| format!("step \"{name}\" failed"));
        self.done.push((name.to_owned(), began.elapsed()));
        result
    }

    fn summary(&self, result: &Result<()>) {
        println!("\n=== summary");
        for (name, took) in &self.done {
            println!("{:>7.1} s  {name}", took.as_secs_f64());
        }
        let total = self.began.map(|began| began.elapsed()).unwrap_or_default();
        println!("{:>7.1} s  in all", total.as_secs_f64());
        for note in &self.notes {
            println!("\n!!! {note}");
        }
        println!(
            "\n{}",
            if result.is_ok() {
                "everything passed"
            } else {
                "FAILED"
            }
        );
    }
}

fn cargo(args: &[&str]) -> Result<()> {
    checked(&mut workspace::cargo(args))
}

fn checked(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Finds a program on the PATH.
fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut dirs: Vec<_> = std::env::split_paths(&path).collect();
    // Daemons are installed where an ordinary PATH does not look.
    dirs.extend(["/usr/sbin", "/sbin"].map(Into::into));
    dirs.into_iter()
        .map(|dir| dir.join(program))
        .find(|found| found.is_file())
}

fn require_program(program: &str, how: &str) -> Result<()> {
    if find(program).is_none() {
        bail!("{program} is missing. {how}");
    }
    Ok(())
}

/// Whether this is Debian or one of its descendants.
fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists()
}
