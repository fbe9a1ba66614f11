//! Keeps work that would otherwise go with its workspace.

use std::fs;

use agent_domain::{CommitId, JobId};

use crate::command::Invocation;
use crate::commit::{add_all, identified};
use crate::gitlinks;
use crate::mirror::blocking;
use crate::refs::{Head, REMOTE, Refs};
use crate::takeover::Broken;
use crate::{Git, GitError, Workspace, stale, trash};

impl Git {
    /// Keeps the workspace's uncommitted or unpushed work as `refs/agent/<job>` in the mirror,
    /// and returns that name; `None` when there is none.
    ///
    /// Does what can be done whatever the agent has left: no HEAD, a merge with conflicts, a
    /// broken index, files that cannot be read. The files themselves are not changed.
    pub async fn save_work(
        &self,
        workspace: &Workspace,
        job: JobId,
    ) -> Result<Option<String>, GitError> {
        stale::past(&self.scope_of(workspace), || async {
            self.settle_workspace(workspace).await?;
            self.take_over(workspace, Broken::LeaveOut).await?;
            let head = self.last_known_commit(workspace).await?;
            let snapshot = match self.snapshot(workspace, &head, job).await {
                // Once there is room, all of it can be saved.
                Err(error) if head != *workspace.base() && !error.is_disk_full() => {
                    tracing::warn!(%job, %error, "only committed work could be saved");
                    None
                }
                other => other?,
            };
            let commit = snapshot.unwrap_or(head);
            let workspace = workspace.clone();
            blocking(move || keep(&workspace, job, &commit)).await
        })
        .await
    }

    /// As [`Git::last_commit`], for a workspace that may be broken.
    async fn last_known_commit(&self, workspace: &Workspace) -> Result<CommitId, GitError> {
        let owned = workspace.clone();
        blocking(move || {
            let refs = Refs::open(owned.mirror())?;
            let head = refs.head(&owned.admin()).unwrap_or(Head::Broken);
            let tip = || refs.commit(&owned.branch().full_ref()).ok().flatten();
            let known = head.commit().cloned().filter(|id| refs.tree(id).is_ok());
            Ok(known.or_else(tip).unwrap_or_else(|| owned.base().clone()))
        })
        .await
    }

    /// Makes a commit of all files on top of `head`; `None` when they are those of `head`.
    ///
    /// It goes through an index of its own and not through the workspace's `.git` or HEAD, so
    /// their state does not matter.
    async fn snapshot(
        &self,
        workspace: &Workspace,
        head: &CommitId,
        job: JobId,
    ) -> Result<Option<CommitId>, GitError> {
        if !workspace.path().is_dir() {
            return Ok(None);
        }
        let tree = self.tree_of_files(workspace, head).await;
        let index = workspace.save_index();
        blocking(move || trash::delete(&index)).await?;
        let tree = tree?;
        let (mirror, parent) = (workspace.mirror().to_owned(), head.clone());
        if blocking(move || Refs::open(&mirror)?.tree(&parent)).await? == tree {
            return Ok(None);
        }
        let command = self
            .inner
            .program
            .command("commit-tree")
            .args(["--no-gpg-sign", "-p", head.as_str(), "-F", "-", &tree])
            .git_dir(workspace.mirror());
        let output = identified(command, self.identity().await?)
            .input(format!("Unfinished work of job {job}\n"))
            .run_ok()
            .await?;
        printed(&output.stdout).map(Some)
    }

    /// Writes the workspace's files as a tree. The workspace's own index, where it is sound,
    /// saves reading all that has not changed.
    async fn tree_of_files(
        &self,
        workspace: &Workspace,
        head: &CommitId,
    ) -> Result<String, GitError> {
        let begin = |verb| self.beside(workspace, verb);
        let add = || begin("add").args(["--ignore-errors"]);
        let (own, index) = (workspace.admin().join("index"), workspace.save_index());
        let copied = blocking(move || {
            trash::delete(&index)?;
            Ok(fs::copy(own, index).is_ok())
        })
        .await?;
        let links = gitlinks::of(workspace, workspace.save_index()).await;
        let all = add_all(&add, &links).await?;
        if !copied || !is_enough(all.code, all.failure())? {
            let index = workspace.save_index();
            blocking(move || trash::delete(&index)).await?;
            begin("read-tree").args([head.as_str()]).run_ok().await?;
            let links = gitlinks::of(workspace, workspace.save_index()).await;
            let added = add_all(&add, &links).await?;
            if !is_enough(added.code, added.failure())? {
                return Err(added.failure());
            }
        }
        let links = gitlinks::of(workspace, workspace.save_index()).await;
        links.stage(begin("update-index")).await?;
        let written = begin("write-tree").run_ok().await?;
        Ok(String::from_utf8_lossy(&written.stdout).trim().to_owned())
    }

    /// Begins a command on the workspace's files with the other index.
    fn beside<'a>(&'a self, workspace: &'a Workspace, verb: &'static str) -> Invocation<'a> {
        let command = self.inner.program.command(verb);
        command
            .git_dir(workspace.mirror())
            .env("GIT_INDEX_FILE", workspace.save_index())
            .work_tree(workspace.path())
    }
}

/// Whether all files were added that can be read: exit code 1 says that some cannot. Those that the
/// disk had no room for are none of them.
fn is_enough(code: Option<i32>, failure: GitError) -> Result<bool, GitError> {
    match code {
        Some(0) => Ok(true),
        _ if failure.is_disk_full() => Err(failure),
        code => Ok(code == Some(1)),
    }
}

/// Points `refs/agent/<job>` to `commit` unless that is nothing new. What an earlier attempt of
/// the job has left there stays, under a number.
fn keep(workspace: &Workspace, job: JobId, commit: &CommitId) -> Result<Option<String>, GitError> {
    let refs = Refs::open(workspace.mirror())?;
    let name = format!("refs/agent/{job}");
    let pushed = refs.commit(&format!("{REMOTE}{}", workspace.branch()))?;
    let before = refs.commit(&name)?;
    if commit == workspace.base() || pushed.as_ref() == Some(commit) {
        return Ok(before.map(|_| name));
    }
    if let Some(before) = before.filter(|before| before != commit) {
        if refs.same_tree(&before, commit)? {
            return Ok(Some(name));
        }
        let mut n = 1;
        while refs.commit(&format!("{name}-{n}"))?.is_some() {
            n += 1;
        }
        refs.create(&format!("{name}-{n}"), &before)?;
    }
    refs.set(&name, commit)?;
    Ok(Some(name))
}

fn printed(stdout: &[u8]) -> Result<CommitId, GitError> {
    let text = String::from_utf8_lossy(stdout);
    let parsed = text.trim().parse();
    parsed.map_err(|error| GitError::Repository(format!("git printed no commit id: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict;

    #[test]
    fn what_cannot_be_read_may_be_missing_and_what_the_disk_had_no_room_for_may_not() {
        let added = |code, stderr| {
            let failure = verdict::failure("add", false, code, stderr);
            is_enough(code, failure)
        };
        let unreadable = "error: open(\"a\"): Permission denied";
        assert_eq!(added(Some(0), "").ok(), Some(true));
        assert_eq!(added(Some(1), unreadable).ok(), Some(true));
        assert_eq!(added(Some(128), "fatal: no").ok(), Some(false));
        let full = added(
            Some(1),
            "error: unable to write file: No space left on device",
        );
        assert!(full.is_err_and(|error| error.is_disk_full()));
    }
}
