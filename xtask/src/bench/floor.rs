//! The floor: a shell script with the same git and claude commands, one by one.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use agent_tests::repo::{self, BareRepo};
use anyhow::{Context, Result, ensure};

use super::course::Course;
use super::server;

const SCRIPT: &str = include_str!("floor.sh");

/// Where the script works: a remote, a mirror and workspaces laid out as the server's.
#[derive(Debug)]
pub(crate) struct Floor {
    root: PathBuf,
    mirror: PathBuf,
    claude: PathBuf,
}

impl Floor {
    /// Prepares `root`, with a copy of the server's own mirror that has a remote of its own.
    pub(crate) fn prepare(root: &Path, mirror: &Path, claude: &Path, prompt: &str) -> Result<Self> {
        let remote = BareRepo::create(&root.join("remote"), "acme", "app")?;
        let own = root.join("repos/acme/app.git");
        fs::create_dir_all(own.parent().context("a mirror has a parent")?)?;
        let copied = Command::new("cp").arg("-a").args([mirror, &own]).status()?;
        ensure!(copied.success(), "cp ended with {copied}");
        let url = remote
            .path()
            .to_str()
            .context("the directory is not UTF-8")?;
        repo::git(&own, &["config", "remote.origin.url", url])?;
        let refspec = "+refs/heads/*:refs/remotes/origin/*";
        repo::git(
            &own,
            &["config", "--replace-all", "remote.origin.fetch", refspec],
        )?;
        fs::write(root.join("floor.sh"), SCRIPT)?;
        fs::write(root.join("prompt"), prompt)?;
        Ok(Self {
            root: root.to_owned(),
            mirror: own,
            claude: claude.to_owned(),
        })
    }

    /// Its remote.
    pub(crate) fn remote(&self) -> PathBuf {
        self.root.join("remote/acme/app.git")
    }

    /// Runs the script once; returns the time it took in milliseconds, and notes its steps.
    pub(crate) fn run(&self, number: u32, course: &mut Course) -> Result<f64> {
        let branch = format!("bench/{number}");
        let workspace = self
            .root
            .join("worktrees/acme/app")
            .join(number.to_string());
        let mut script = Command::new("sh");
        server::environment(&mut script, &self.root)
            // What the server sets for the CLI.
            .env("IS_SANDBOX", "1")
            .env("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1")
            .env("DISABLE_AUTOUPDATER", "1")
            .arg(self.root.join("floor.sh"))
            .args([&self.mirror, &workspace])
            .arg(&branch)
            .args([
                &self.claude,
                &self.root.join("prompt"),
                &self.root.join("output"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let began = Instant::now();
        let mut running = script.spawn().context("cannot start sh")?;
        let steps = running.stdout.take().context("the script has no output")?;
        for step in BufReader::new(steps).lines() {
            course.note(&step?, began.elapsed().as_secs_f64() * 1e3);
        }
        let status = running.wait()?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        ensure!(status.success(), "the script ended with {status}");
        Ok(took)
    }

    /// How many files the last commit on a branch of the remote changed.
    pub(crate) fn files_changed(&self, number: u32) -> Result<usize> {
        files_changed(
            &self.root.join("remote/acme/app.git"),
            &format!("bench/{number}"),
        )
    }
}

/// How many files differ between `main` and a branch.
pub(crate) fn files_changed(remote: &Path, branch: &str) -> Result<usize> {
    let range = format!("refs/heads/main..refs/heads/{branch}");
    Ok(repo::git(remote, &["diff", "--name-only", &range])?
        .lines()
        .count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_pushes_a_branch_with_what_the_agent_changed_and_leaves_no_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let first = BareRepo::create(&dir.path().join("first"), "acme", "app").unwrap();
        let claude = dir.path().join("claude");
        fs::write(&claude, "#!/bin/sh\ncat >made.txt\n").unwrap();
        let made = Command::new("chmod")
            .arg("755")
            .arg(&claude)
            .status()
            .unwrap();
        assert!(made.success());
        let root = dir.path().join("floor");
        let floor = Floor::prepare(&root, first.path(), &claude, "hello").unwrap();
        server::prepare_home(&root).unwrap();
        let mut course = Course::default();
        assert!(floor.run(1, &mut course).unwrap() > 0.0);
        assert_eq!(floor.files_changed(1).unwrap(), 1);
        assert_eq!(
            first.branches().unwrap(),
            ["main"],
            "only the floor's own remote is written"
        );
        assert!(!root.join("worktrees/acme/app/1").exists());
        assert_eq!(course.steps().len(), 8);
    }
}
