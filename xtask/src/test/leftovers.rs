//! What a test run must not leave: processes, and changes in the checkout.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// Names of programs that only tests of this project start, as far as the kernel keeps them: 15
/// characters.
const OURS: &[&str] = &[
    "agent-server",
    "agent-admin",
    "fake-claude",
    "runner-test-sup",
];

/// The checkout's state and our processes at one moment.
pub(super) struct Snapshot {
    status: String,
    processes: BTreeSet<String>,
}

impl Snapshot {
    /// Looks now.
    pub(super) fn take() -> Result<Self> {
        Ok(Self {
            status: git_status()?,
            processes: processes(),
        })
    }

    /// Fails when there is something now that was not there then.
    pub(super) fn compare(&self) -> Result<()> {
        let now = Self::take()?;
        let left: Vec<_> = now.processes.difference(&self.processes).collect();
        ensure!(left.is_empty(), "processes are left: {left:?}");
        ensure!(
            now.status == self.status,
            "the checkout has changed:\nbefore:\n{}\nafter:\n{}",
            self.status,
            now.status
        );
        Ok(())
    }
}

fn git_status() -> Result<String> {
    let mut git = Command::new("git");
    git.current_dir(workspace::root())
        .args(["status", "--porcelain"]);
    let output = git.output().context("cannot run git status")?;
    ensure!(
        output.status.success(),
        "git status failed: {}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Our living programs as `pid name`; empty where there is no `/proc`.
fn processes() -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let dead = rest.trim_start().starts_with(['Z', 'X']);
        (OURS.contains(&name) && !dead).then(|| format!("{pid} {name}"))
    })
    .collect()
}
