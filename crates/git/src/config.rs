//! What git needs to know, and the handle everything is asked of.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_domain::{JobId, RepoSlug, Secret};
use tokio::sync::OnceCell;

use crate::GitError;
use crate::command::Program;
use crate::lock::Locks;
use crate::opened::Opened;
use crate::remote::{Access, Remote, check_token};

/// Name and address on commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As in `user.name`.
    pub name: String,
    /// As in `user.email`.
    pub email: String,
}

/// Settings of [`Git`].
#[derive(Debug, Clone)]
pub struct GitConfig {
    /// Mirrors stand here, as `<org>/<repo>.git`.
    pub repos_dir: PathBuf,
    /// Workspaces stand here, as `<org>/<repo>/<job>`.
    pub worktrees_dir: PathBuf,
    /// What `<org>/<repo>.git` is appended to: `git@host:`, `ssh://`, `http(s)://` or `file://`
    /// and so on, or an absolute path.
    pub remote_base: String,
    /// The whole environment of git: PATH, HOME, SSH_AUTH_SOCK, proxies. Nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// For http(s) remotes, sent to `remote_base` only, as the password of `x-access-token`.
    pub token: Option<Secret>,
    /// Author and committer; without it what git is configured with, else `agent-server`.
    pub identity: Option<Identity>,
    /// Longest run of one git command, and longest wait for a repository's lock.
    pub timeout: Duration,
}

/// Mirrors, workspaces, commits and pushes; cheap to clone and safe to use from many tasks.
#[derive(Clone)]
pub struct Git {
    pub(crate) inner: Arc<Inner>,
    /// In the place of the server's.
    token: Option<Secret>,
}

pub(crate) struct Inner {
    pub(crate) repos_dir: PathBuf,
    pub(crate) worktrees_dir: PathBuf,
    pub(crate) remote: Remote,
    pub(crate) program: Program,
    pub(crate) locks: Locks,
    pub(crate) opened: Opened,
    pub(crate) given_identity: Option<Identity>,
    pub(crate) identity: OnceCell<Identity>,
    pub(crate) timeout: Duration,
}

impl Git {
    /// Checks the settings and finds the `git` program; touches no repository.
    pub fn new(config: GitConfig) -> Result<Self, GitError> {
        let token = config.token.as_ref();
        let remote = Remote::parse(&config.remote_base, token)?;
        let inner = Inner {
            repos_dir: absolute(&config.repos_dir)?,
            worktrees_dir: absolute(&config.worktrees_dir)?,
            program: Program::find(&config.env, config.timeout)?,
            remote,
            locks: Locks::default(),
            opened: Opened::default(),
            given_identity: config.identity,
            identity: OnceCell::new(),
            timeout: config.timeout,
        };
        Ok(Self {
            inner: Arc::new(inner),
            token: None,
        })
    }

    /// The same, speaking to remotes with `token` instead of the server's own: a job's. Remotes that
    /// are not reached by http(s) know no token, and see none.
    pub fn with_token(&self, token: &Secret) -> Result<Self, GitError> {
        check_token(token)?;
        Ok(Self {
            inner: Arc::clone(&self.inner),
            token: Some(token.clone()),
        })
    }

    /// How a command gets in at the remote.
    pub(crate) fn access(&self) -> Option<Access> {
        self.inner.remote.access(self.token.as_ref())
    }

    /// The URL of a repository; holds no secret.
    pub fn remote_url(&self, repo: &RepoSlug) -> String {
        self.inner.remote.url(repo)
    }

    /// Where the workspace of a job is or would be.
    pub fn workspace_path(&self, repo: &RepoSlug, job: JobId) -> PathBuf {
        self.workspaces_of(repo).join(job.to_string())
    }

    /// Where the workspaces of a repository stand.
    pub(crate) fn workspaces_of(&self, repo: &RepoSlug) -> PathBuf {
        self.inner.worktrees_dir.join(repo.org()).join(repo.repo())
    }

    /// Where the mirror of a repository is or would be.
    pub(crate) fn mirror_path(&self, repo: &RepoSlug) -> PathBuf {
        self.inner
            .repos_dir
            .join(repo.org())
            .join(format!("{}.git", repo.repo()))
    }
}

/// Makes a directory's path absolute; git's own files cannot hold one with a line feed.
fn absolute(dir: &Path) -> Result<PathBuf, GitError> {
    if dir.as_os_str().as_encoded_bytes().contains(&b'\n') {
        return Err(GitError::Config(
            "a directory's name has a line feed".into(),
        ));
    }
    std::path::absolute(dir).map_err(|source| GitError::io("find", dir, source))
}
