//! Bare repositories with some history, made by git without any of the operator's settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Every commit made here has this date, so that the same files give the same ids.
const DATE: &str = "2026-01-02T03:04:05+00:00";

/// A git command that sees no configuration of this machine or its user.
///
/// `PATH` is the only variable taken over.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Sample Author")
        .env("GIT_AUTHOR_EMAIL", "author@example.com")
        .env("GIT_AUTHOR_DATE", DATE)
        .env("GIT_COMMITTER_NAME", "Sample Author")
        .env("GIT_COMMITTER_EMAIL", "author@example.com")
        .env("GIT_COMMITTER_DATE", DATE)
        .stdin(Stdio::null());
    command
}

/// Runs git and returns what it printed, without the last line end.
pub fn git(dir: &Path, args: &[&str]) -> Result<String> {
    run(command(dir).args(args))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("failed to start git")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {}", output.status, said.trim());
    }
    let text = String::from_utf8(output.stdout).context("git printed bytes that are not UTF-8")?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// A bare repository `<root>/<org>/<name>.git` that plays the remote.
#[derive(Debug, Clone)]
pub struct BareRepo {
    path: PathBuf,
    org: String,
    name: String,
}

impl BareRepo {
    /// Makes one with two commits on `main`.
    pub fn create(root: &Path, org: &str, name: &str) -> Result<Self> {
        let repo = Self::create_empty(root, org, name)?;
        repo.commit(
            "main",
            &[
                ("README.md", "# Sample\n\nA small program.\n"),
                (".gitignore", "target/\n"),
                (
                    "src/main.rs",
                    "fn main() {\n    // TODO: greet by name\n    println!(\"hello\");\n}\n",
                ),
            ],
            "First version",
        )?;
        repo.commit("main", &[("docs/notes.md", "Nothing yet.\n")], "Add notes")?;
        Ok(repo)
    }

    /// Makes one without a commit; its HEAD names `main`.
    pub fn create_empty(root: &Path, org: &str, name: &str) -> Result<Self> {
        let path = root.join(org).join(format!("{name}.git"));
        fs::create_dir_all(&path)?;
        git(
            &path,
            &["init", "--quiet", "--bare", "--initial-branch=main"],
        )?;
        // Without this git refuses a push over http that comes with no user of its own.
        git(&path, &["config", "http.receivepack", "true"])?;
        Ok(Self {
            path,
            org: org.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The bare repository itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who owns it.
    pub fn org(&self) -> &str {
        &self.org
    }

    /// Its name without `.git`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs git in it.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        git(&self.path, args)
    }

    /// Commits files to a branch, on top of it where it exists, and returns the commit's id.
    pub fn commit(&self, branch: &str, files: &[(&str, &str)], message: &str) -> Result<String> {
        let parent = self.rev(branch);
        self.commit_on(parent.as_deref(), branch, files, message)
    }

    /// Begins a branch at another branch with one commit, and returns the commit's id.
    pub fn branch(&self, branch: &str, from: &str, files: &[(&str, &str)]) -> Result<String> {
        let parent = self
            .rev(from)
            .with_context(|| format!("no branch {from}"))?;
        self.commit_on(Some(&parent), branch, files, &format!("Work on {branch}"))
    }

    fn commit_on(
        &self,
        parent: Option<&str>,
        branch: &str,
        files: &[(&str, &str)],
        message: &str,
    ) -> Result<String> {
        let scratch = tempfile::tempdir()?;
        let index = scratch.path().join("index");
        let git = |args: &[&str]| run(command(&self.path).env("GIT_INDEX_FILE", &index).args(args));
        if let Some(parent) = parent {
            git(&["read-tree", parent])?;
        }
        for (path, content) in files {
            let file = scratch.path().join("content");
            fs::write(&file, content)?;
            let file = file.to_str().context("temporary path is not UTF-8")?;
            let blob = git(&["hash-object", "-w", "--no-filters", file])?;
            git(&[
                "update-index",
                "--add",
                "--cacheinfo",
                &format!("100644,{blob},{path}"),
            ])?;
        }
        let tree = git(&["write-tree"])?;
        let mut args = vec!["commit-tree", "-m", message];
        if let Some(parent) = parent {
            args.extend(["-p", parent]);
        }
        args.push(&tree);
        let id = git(&args)?;
        git(&["update-ref", &format!("refs/heads/{branch}"), &id])?;
        Ok(id)
    }

    /// The commit a branch points at; `None` when there is no such branch.
    pub fn rev(&self, branch: &str) -> Option<String> {
        self.git(&[
            "rev-parse",
            "--verify",
            "--quiet",
            &format!("refs/heads/{branch}^{{commit}}"),
        ])
        .ok()
    }

    /// Every branch, sorted.
    pub fn branches(&self) -> Result<Vec<String>> {
        let text = self.git(&["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads"])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Every reference with its commit, sorted: compare two of these to see that nothing moved.
    pub fn refs(&self) -> Result<Vec<String>> {
        let text = self.git(&["for-each-ref", "--format=%(refname) %(objectname)"])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// A file's content on a branch, byte for byte.
    pub fn show(&self, branch: &str, path: &str) -> Result<Vec<u8>> {
        let output = command(&self.path)
            .args(["cat-file", "blob", &format!("refs/heads/{branch}:{path}")])
            .output()?;
        if !output.status.success() {
            bail!("{branch} has no file {path}");
        }
        Ok(output.stdout)
    }

    /// Every path in a branch's tree, sorted.
    pub fn files(&self, branch: &str) -> Result<Vec<String>> {
        let text = self.git(&[
            "ls-tree",
            "-r",
            "--name-only",
            &format!("refs/heads/{branch}"),
        ])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The subject of a branch's last commit.
    pub fn subject(&self, branch: &str) -> Result<String> {
        self.git(&["log", "-1", "--format=%s", &format!("refs/heads/{branch}")])
    }

    /// How many commits `head` has that `base` has not.
    pub fn ahead(&self, base: &str, head: &str) -> Result<u64> {
        let range = format!("refs/heads/{base}..refs/heads/{head}");
        Ok(self.git(&["rev-list", "--count", &range])?.parse()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_ids_wherever_they_are_made() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let one = BareRepo::create(one.path(), "acme", "app").unwrap();
        let two = BareRepo::create(two.path(), "other", "name").unwrap();
        assert_eq!(one.rev("main"), two.rev("main"));
        assert_eq!(one.files("main").unwrap().len(), 4);
    }

    #[test]
    fn a_branch_stands_on_its_base_and_the_base_stays() {
        let dir = tempfile::tempdir().unwrap();
        let repo = BareRepo::create(dir.path(), "acme", "app").unwrap();
        let before = repo.rev("main");
        repo.branch("feature/x", "main", &[("a b.txt", "one\n")])
            .unwrap();
        repo.commit("feature/x", &[("a b.txt", "two\n")], "Second")
            .unwrap();
        assert_eq!(repo.ahead("main", "feature/x").unwrap(), 2);
        assert_eq!(repo.show("feature/x", "a b.txt").unwrap(), b"two\n");
        assert_eq!(repo.subject("feature/x").unwrap(), "Second");
        assert_eq!(repo.rev("main"), before);
        assert_eq!(repo.branches().unwrap(), ["feature/x", "main"]);
        assert_eq!(repo.rev("nope"), None);
    }
}
