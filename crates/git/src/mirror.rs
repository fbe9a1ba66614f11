//! Mirrors: bare copies of remote repositories, made whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_domain::{BranchName, CommitId, RepoSlug};

use crate::lock::RepoLock;
use crate::refs::{REMOTE, Refs};
use crate::stale::{self, Scope};
use crate::{Git, GitError, Identity, trash};

/// All branches of the remote, below `refs/remotes/origin`: jobs' branches have `refs/heads` to
/// themselves.
const REFSPEC: &str = "+refs/heads/*:refs/remotes/origin/*";

impl Git {
    /// Brings the mirror up to date, making it if there is none, and returns the commit that
    /// `base` is at on the remote now.
    pub async fn fetch_base(
        &self,
        repo: &RepoSlug,
        base: &BranchName,
    ) -> Result<CommitId, GitError> {
        self.fetch_mirror(repo).await?;
        let mirror = self.mirror_path(repo);
        let name = format!("{REMOTE}{base}");
        let found = blocking(move || Refs::open(&mirror)?.commit(&name)).await?;
        found.ok_or_else(|| GitError::MissingBase { base: base.clone() })
    }

    /// The commit that a branch of the remote was at when it was last fetched.
    pub async fn remote_branch(
        &self,
        repo: &RepoSlug,
        branch: &BranchName,
    ) -> Result<Option<CommitId>, GitError> {
        self.commit_of(repo, format!("{REMOTE}{branch}")).await
    }

    /// The commit that unfinished work was kept as.
    pub async fn kept_work(
        &self,
        repo: &RepoSlug,
        name: &str,
    ) -> Result<Option<CommitId>, GitError> {
        self.commit_of(repo, name.to_owned()).await
    }

    async fn commit_of(&self, repo: &RepoSlug, name: String) -> Result<Option<CommitId>, GitError> {
        let mirror = self.mirror_path(repo);
        blocking(move || Refs::open(&mirror)?.commit(&name)).await
    }

    /// Brings the mirror up to date, making it if there is none, and makes sure that a branch of the
    /// remote leads to `commit`.
    pub async fn fetch_commit(
        &self,
        repo: &RepoSlug,
        commit: &CommitId,
    ) -> Result<CommitId, GitError> {
        self.fetch_mirror(repo).await?;
        let (mirror, wanted) = (self.mirror_path(repo), commit.clone());
        let is_there = blocking(move || Ok(Refs::open(&mirror)?.tree(&wanted).is_ok())).await?;
        if is_there && self.is_on_remote(repo, commit).await? {
            return Ok(commit.clone());
        }
        let commit = commit.clone();
        Err(GitError::MissingCommit { commit })
    }

    /// Whether a branch of the remote led to a commit of the mirror when that was last brought up
    /// to date. Jobs have commits in it, too.
    async fn is_on_remote(&self, repo: &RepoSlug, commit: &CommitId) -> Result<bool, GitError> {
        let command = self.inner.program.command("for-each-ref");
        let found = command
            .args(["--count=1", "--format=%(refname)", "--contains"])
            .args([commit.as_str(), REMOTE])
            .git_dir(self.mirror_path(repo))
            .run_ok()
            .await?;
        Ok(!found.stdout.is_empty())
    }

    /// Counts the files that differ between two commits. A renamed file counts once, as on
    /// GitHub: files at least half alike are a rename.
    pub async fn files_changed(
        &self,
        repo: &RepoSlug,
        base: &CommitId,
        head: &CommitId,
    ) -> Result<u64, GitError> {
        let (mirror, base, head) = (self.mirror_path(repo), base.clone(), head.clone());
        blocking(move || Refs::open(&mirror)?.files_changed(&base, &head)).await
    }

    /// Makes the mirror if there is none, else fetches.
    pub(crate) async fn fetch_mirror(&self, repo: &RepoSlug) -> Result<(), GitError> {
        let mirror = self.mirror_path(repo);
        let lock = self.lock(repo).await?;
        if is_complete(&mirror) {
            self.settle(repo, &lock).await?;
            self.fetch(repo, &mirror, &lock).await
        } else {
            self.clone_mirror(repo, &lock).await
        }
    }

    /// Makes the mirror if there is none.
    pub(crate) async fn ensure_mirror(&self, repo: &RepoSlug) -> Result<(), GitError> {
        let mirror = self.mirror_path(repo);
        if is_complete(&mirror) {
            return Ok(());
        }
        let lock = self.lock(repo).await?;
        if is_complete(&mirror) {
            return Ok(());
        }
        self.clone_mirror(repo, &lock).await
    }

    /// Removes the mirror with all that is in it; returns whether there was one.
    pub(crate) async fn remove_mirror(&self, repo: &RepoSlug) -> Result<bool, GitError> {
        let mirror = self.mirror_path(repo);
        let lock = self.lock(repo).await?;
        let aside = mirror.clone();
        let there = blocking_under(lock, move || Ok(trash::set_aside(&aside)?.is_some())).await?;
        blocking(move || trash::empty(&mirror)).await?;
        Ok(there)
    }

    /// Waits for the lock of a repository.
    pub(crate) async fn lock(&self, repo: &RepoSlug) -> Result<Arc<RepoLock>, GitError> {
        let mirror = self.mirror_path(repo);
        self.inner.locks.acquire(&mirror, self.inner.timeout).await
    }

    /// Where lock files of killed gits may be removed.
    pub(crate) fn scope(&self, repo: &RepoSlug) -> Scope {
        Scope {
            mirror: self.mirror_path(repo),
            workspaces: self.workspaces_of(repo),
            private: None,
        }
    }

    /// Clones beside the final place, and takes that in one step at the end.
    async fn clone_mirror(&self, repo: &RepoSlug, lock: &Arc<RepoLock>) -> Result<(), GitError> {
        let mirror = self.mirror_path(repo);
        let begun = unfinished(&mirror);
        let config = self.config_of(repo, "bare = true").await?;
        let (fresh, aside) = (begun.clone(), mirror.clone());
        blocking_under(Arc::clone(lock), move || {
            // Left by a clone or a removal that was killed: we hold the lock, so nobody is at
            // work on it.
            trash::delete(&fresh)?;
            trash::empty(&aside)?;
            write_skeleton(&fresh, &config, NO_HEAD)
        })
        .await?;
        let fetched = self.fetch(repo, &begun, lock).await;
        blocking_under(Arc::clone(lock), move || {
            let placed = fetched.and_then(|()| {
                trash::set_aside(&mirror)?;
                fs::rename(&begun, &mirror).map_err(|source| GitError::io("rename", &begun, source))
            });
            if placed.is_err() {
                trash::delete(&begun)?;
            }
            placed
        })
        .await
    }

    async fn fetch(
        &self,
        repo: &RepoSlug,
        git_dir: &Path,
        lock: &Arc<RepoLock>,
    ) -> Result<(), GitError> {
        let url = self.remote_url(repo);
        let mut scope = self.scope(repo);
        scope.mirror = git_dir.to_owned();
        stale::past(&scope, || async {
            self.inner
                .program
                .command("fetch")
                .args(["--quiet", "--prune", "--no-tags", "--no-write-fetch-head"])
                .args(["--no-auto-maintenance", "--no-recurse-submodules"])
                .args(["--end-of-options", &url, REFSPEC])
                .git_dir(git_dir)
                .network(self.access())
                .under(lock)
                .run_ok()
                .await
                .map(drop)
        })
        .await
    }

    /// The settings of a git directory of a repository: of its mirror, or of a workspace's own.
    pub(crate) async fn config_of(&self, repo: &RepoSlug, kind: &str) -> Result<String, GitError> {
        Ok(config_text(
            &self.remote_url(repo),
            self.identity().await?,
            kind,
        ))
    }
}

/// Runs something that blocks where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, GitError> + Send + 'static,
) -> Result<T, GitError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(GitError::Repository(error.to_string())),
    }
}

/// As [`blocking`]; the lock is held until it is done, even if its caller has gone.
pub(crate) async fn blocking_under<T: Send + 'static>(
    lock: Arc<RepoLock>,
    work: impl FnOnce() -> Result<T, GitError> + Send + 'static,
) -> Result<T, GitError> {
    blocking(move || {
        let result = work();
        drop(lock);
        result
    })
    .await
}

/// Whether a mirror stands in its final place, where only complete ones get to.
pub(crate) fn is_complete(mirror: &Path) -> bool {
    mirror.join("HEAD").is_file()
}

/// Where a mirror is while it is being cloned.
pub(crate) fn unfinished(mirror: &Path) -> PathBuf {
    let mut name = mirror.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// The HEAD of a mirror: a branch that nobody makes, since no branch there is more than another.
const NO_HEAD: &str = "ref: refs/heads/agent-server/none\n";

/// Writes an empty git directory: what `git init` makes, without what we have no use for.
pub(crate) fn write_skeleton(dir: &Path, config: &str, head: &str) -> Result<(), GitError> {
    let failed = |source| GitError::io("create", dir, source);
    for part in ["objects/info", "objects/pack", "refs/heads", "info"] {
        fs::create_dir_all(dir.join(part)).map_err(failed)?;
    }
    fs::write(dir.join("config"), config).map_err(failed)?;
    fs::write(dir.join("HEAD"), head).map_err(failed)
}

/// The settings of a git directory, which is `bare = true` or something else. Its agents find the remote as `origin`, and commit under the same
/// name as we do; garbage is not collected behind anyone's back.
fn config_text(url: &str, identity: &Identity, kind: &str) -> String {
    let url = quoted(url);
    let (name, email) = (quoted(&identity.name), quoted(&identity.email));
    let folds = if cfg!(target_os = "macos") {
        "\tignorecase = true\n\tprecomposeunicode = true\n"
    } else {
        ""
    };
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\t{kind}\n{folds}\
         [remote \"origin\"]\n\turl = {url}\n\tfetch = {REFSPEC}\n\ttagOpt = --no-tags\n\
         [user]\n\tname = {name}\n\temail = {email}\n\
         [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
    )
}

/// A value of a configuration file; control characters were refused before.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}
