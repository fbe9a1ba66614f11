//! A remote, a server's directories and the git under test, all in one temporary directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use agent_domain::{BranchName, CommitId, JobId, RepoSlug};
use agent_git::{Git, GitConfig, Layout, Workspace};

/// Where everything of one test is.
pub(crate) struct Bed {
    dir: tempfile::TempDir,
    pub(crate) repo: RepoSlug,
    pub(crate) git: Git,
    /// How its workspaces are made.
    pub(crate) layout: Layout,
}

/// Runs each of the named tests, which take a bed, once with linked worktrees and once with
/// workspaces that have a git directory of their own.
macro_rules! in_both_layouts {
    ($($name:ident),+ $(,)?) => {
        mod linked {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::bed::Bed::with(agent_git::Layout::Linked)).await;
            })+
        }
        mod owned {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::bed::Bed::with(agent_git::Layout::Owned)).await;
            })+
        }
    };
}
pub(crate) use in_both_layouts;

impl Bed {
    /// A remote with one commit on `main`, reached by its path.
    pub(crate) fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    /// As [`Bed::new`], with workspaces made in this way.
    pub(crate) fn with(layout: Layout) -> Self {
        Self {
            layout,
            ..Self::new()
        }
    }

    /// As [`Bed::new`], in a directory of the caller's choice.
    pub(crate) fn at(dir: tempfile::TempDir) -> Self {
        let base = dir.path().join("remote").display().to_string();
        let git = Git::new(config(dir.path(), &base)).unwrap();
        let repo = RepoSlug::new("org", "repo").unwrap();
        let layout = Layout::Linked;
        let bed = Self {
            dir,
            repo,
            git,
            layout,
        };
        bed.make_remote();
        bed
    }

    fn make_remote(&self) {
        std::fs::create_dir_all(self.remote()).unwrap();
        git(
            &self.remote(),
            &["init", "--quiet", "--bare", "-b", "main", "."],
        );
        let author = self.author();
        std::fs::create_dir_all(author.join("src")).unwrap();
        git(&author, &["init", "--quiet", "-b", "main", "."]);
        std::fs::write(author.join("README"), "hello\n").unwrap();
        std::fs::write(author.join("src/lib.rs"), "// nothing\n".repeat(20)).unwrap();
        git(&author, &["add", "-A"]);
        git(&author, &["commit", "--quiet", "-m", "first"]);
        self.publish("HEAD:refs/heads/main");
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The bare repository everything comes from.
    pub(crate) fn remote(&self) -> PathBuf {
        self.path().join("remote/org/repo.git")
    }

    /// Someone else's clone.
    pub(crate) fn author(&self) -> PathBuf {
        self.path().join("author")
    }

    pub(crate) fn mirror(&self) -> PathBuf {
        self.path().join("repos/org/repo.git")
    }

    /// Pushes from someone else's clone.
    pub(crate) fn publish(&self, refspec: &str) {
        let remote = self.remote().display().to_string();
        git(&self.author(), &["push", "--quiet", &remote, refspec]);
    }

    /// Adds a commit to someone else's clone.
    pub(crate) fn author_commits(&self, file: &str) {
        std::fs::write(self.author().join(file), file).unwrap();
        git(&self.author(), &["add", "-A"]);
        git(&self.author(), &["commit", "--quiet", "-m", file]);
    }

    /// What a branch of the remote points to; empty when there is none.
    pub(crate) fn on_remote(&self, branch: &str) -> String {
        let name = format!("refs/heads/{branch}");
        let found = try_git(&self.remote(), &["rev-parse", "--verify", "--quiet", &name]);
        found.unwrap_or_default()
    }

    /// Another server with the same directories.
    pub(crate) fn other_server(&self) -> Git {
        let base = self.path().join("remote").display().to_string();
        Git::new(config(self.path(), &base)).unwrap()
    }

    pub(crate) async fn fetch(&self) -> CommitId {
        let main = branch("main");
        let fetched = self.git.fetch_base(&self.repo, &main);
        fetched.await.unwrap()
    }

    /// Fetches, and makes the workspace of job `n` on `name`.
    pub(crate) async fn workspace(&self, n: u8, name: &str) -> Workspace {
        let base = self.fetch().await;
        let name = branch(name);
        let made = self
            .git
            .add_workspace(&self.repo, job(n), &name, &base, self.layout);
        made.await.unwrap()
    }
}

/// Settings with nothing of the machine's own.
pub(crate) fn config(dir: &Path, base: &str) -> GitConfig {
    GitConfig {
        repos_dir: dir.join("repos"),
        worktrees_dir: dir.join("worktrees"),
        remote_base: base.to_owned(),
        env: vec![
            ("PATH".into(), path()),
            ("HOME".into(), dir.join("home").into()),
            ("GIT_CONFIG_NOSYSTEM".into(), "1".into()),
        ],
        token: None,
        identity: None,
        timeout: Duration::from_mins(1),
    }
}

fn path() -> OsString {
    std::env::var_os("PATH").unwrap()
}

pub(crate) fn branch(name: &str) -> BranchName {
    name.parse().unwrap()
}

pub(crate) fn job(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

/// Runs git as a person or an agent would, and returns what it prints.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    try_git(dir, args).unwrap_or_else(|| panic!("git {args:?} failed in {}", dir.display()))
}

pub(crate) fn try_git(dir: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(["-c", "user.name=Someone"])
        .args(["-c", "user.email=someone@example.org"])
        .args(["-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let text = text.trim_end().to_owned();
    output.status.success().then_some(text)
}

/// Makes a file one that can be run.
pub(crate) fn make_executable(path: &Path) {
    let status = Command::new("chmod").arg("755").arg(path).status();
    assert!(status.unwrap().success());
}
