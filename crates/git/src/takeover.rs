//! Takes over what an agent has made in a git directory of its own, once all its processes are gone.
//!
//! Afterwards the workspace is a linked worktree of the mirror, whose settings are ours. The
//! agent's directory is moved away first, and no git of ours ever runs in it: its HEAD and branches are
//! read by `relic.rs`, and its commits are fetched, every object checked, through a clean git
//! directory that lends them and the mirror's objects, and nobody else's.
//!
//! Every step can be repeated; the marker goes last.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use agent_domain::CommitId;

use crate::lock::RepoLock;
use crate::mirror::{blocking, blocking_under, write_skeleton};
use crate::refs::{REMOTE, Refs};
use crate::relic::{Relic, keep_objects_only};
use crate::{Git, GitError, Workspace, owned, trash, worktree};

/// The settings of the clean git directory.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
/// The refs of the clean git directory, by what they are for.
const HEADS: &str = "refs/heads/head/";
const OTHERS: &str = "refs/heads/other/";

/// What is to become of work whose commits cannot be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It is an error.
    Refuse,
    /// The files count all the same, on top of what was there before.
    LeaveOut,
}

impl Git {
    /// Makes a linked worktree of a workspace with a git directory of its own.
    pub(crate) async fn take_over(
        &self,
        workspace: &Workspace,
        broken: Broken,
    ) -> Result<(), GitError> {
        if !owned::is_marked(workspace) {
            return Ok(());
        }
        let lock = self.lock(workspace.repo()).await?;
        // One that was broken off may have come to its end while we waited.
        if !owned::is_marked(workspace) {
            return Ok(());
        }
        self.settle(workspace.repo(), &lock).await?;
        let owned = workspace.clone();
        let mut relic = blocking_under(Arc::clone(&lock), move || set_aside(&owned)).await?;
        if let Err(error) = self.import(workspace, &relic, &lock).await {
            if broken == Broken::Refuse || matches!(error, GitError::DiskFull { .. }) {
                return Err(error);
            }
            let job = workspace.job();
            tracing::warn!(%job, %error, "the agent's commits cannot be taken over");
            relic = Relic::default();
        }
        let owned = workspace.clone();
        let merging = relic.merging.clone();
        blocking_under(Arc::clone(&lock), move || adopt(&owned, &relic)).await?;
        self.index_anew(workspace, &merging).await?;
        let owned = workspace.clone();
        blocking_under(lock, move || {
            worktree::link(&owned)?;
            owned::unmark(&owned)?;
            clear(&owned)
        })
        .await
    }

    /// Brings the agent's commits into the mirror.
    async fn import(
        &self,
        workspace: &Workspace,
        relic: &Relic,
        lock: &Arc<RepoLock>,
    ) -> Result<(), GitError> {
        let heads = relic.head.iter().chain(&relic.merging);
        let heads: Vec<CommitId> = heads.cloned().collect();
        self.fetch_from(workspace, HEADS, heads.clone(), lock)
            .await?;
        let mirror = workspace.mirror().to_owned();
        blocking(move || all_commits(&Refs::open(&mirror)?, &heads)).await?;
        let others: Vec<CommitId> = relic.branches.values().cloned().collect();
        // Only besides: what is checked out must not be lost for them.
        if let Err(error) = self.fetch_from(workspace, OTHERS, others, lock).await {
            let job = workspace.job();
            tracing::warn!(%job, %error, "branches an agent made besides its own are lost");
        }
        Ok(())
    }

    /// Fetches `commits` from what the agent has left, unless the remote has given them all.
    async fn fetch_from(
        &self,
        workspace: &Workspace,
        space: &str,
        commits: Vec<CommitId>,
        lock: &Arc<RepoLock>,
    ) -> Result<(), GitError> {
        let (owned, mirror) = (workspace.clone(), workspace.mirror().to_owned());
        let space = space.to_owned();
        let spec = format!("+{space}*:{}*", taken(workspace, &space));
        let prepared = blocking_under(Arc::clone(lock), move || {
            let known = Refs::open(&mirror)?.targets(REMOTE)?;
            let is_new = |id: &&CommitId| {
                *id != owned.base() && !known.values().any(|known| known == id.as_str())
            };
            let new = commits.iter().filter(is_new).enumerate();
            let refs: BTreeMap<String, String> = new
                .map(|(n, id)| (format!("{space}{n}"), id.to_string()))
                .collect();
            if refs.is_empty() {
                return Ok(false);
            }
            prepare_clean(&owned, &refs).map(|()| true)
        });
        if !prepared.await? {
            return Ok(());
        }
        self.inner
            .program
            .command("fetch")
            .config("fetch.fsckObjects=true")
            .config("protocol.file.allow=always")
            .args(["--quiet", "--no-tags", "--no-write-fetch-head"])
            .args(["--no-auto-maintenance", "--no-recurse-submodules"])
            .args(["--end-of-options"])
            .args([clean(workspace).as_os_str(), spec.as_ref()])
            .git_dir(workspace.mirror())
            .under(lock)
            .run_ok()
            .await
            .map(drop)
    }

    /// Makes the index say what HEAD says. It was written with the files, so it still knows which of
    /// them are unchanged.
    async fn index_anew(
        &self,
        workspace: &Workspace,
        merging: &[CommitId],
    ) -> Result<(), GitError> {
        let begin = |verb| {
            let command = self.inner.program.command(verb);
            command
                .git_dir(workspace.admin())
                .work_tree(workspace.path())
        };
        let kept = begin("read-tree").args(["-m", "HEAD"]).run().await?;
        if !kept.success() {
            begin("read-tree").args(["HEAD"]).run_ok().await?;
        }
        self.stage_as_the_agent_did(workspace).await;
        let file = workspace.admin().join("MERGE_HEAD");
        let ids = merging.iter().map(CommitId::as_str);
        let lines: String = ids.flat_map(|id| [id, "\n"]).collect();
        blocking(move || {
            if lines.is_empty() {
                return trash::delete(&file);
            }
            fs::write(&file, lines).map_err(|source| GitError::io("write", &file, source))
        })
        .await
    }
}

/// Git passes over refs that it finds broken; what is checked out must be there.
fn all_commits(refs: &Refs, ids: &[CommitId]) -> Result<(), GitError> {
    for id in ids {
        if refs.tree(id).is_err() {
            let what = format!("the agent has checked out {id}, which is no commit");
            return Err(GitError::Repository(what));
        }
    }
    Ok(())
}

/// Moves the agent's git directory out of the workspace, unless an earlier call has, and reads it.
fn set_aside(workspace: &Workspace) -> Result<Relic, GitError> {
    let tree = workspace.path();
    if !tree.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return Ok(Relic::default());
    }
    let (git_dir, aside) = (tree.join(".git"), aside(workspace));
    if aside.symlink_metadata().is_err() {
        match fs::rename(&git_dir, &aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(GitError::io("set aside", git_dir, error));
            }
            _ => {}
        }
    }
    if aside.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        trash::open_up(&aside);
        keep_objects_only(&aside.join("objects"))?;
    }
    Ok(Relic::read(&aside))
}

/// Makes the clean git directory anew.
fn prepare_clean(workspace: &Workspace, refs: &BTreeMap<String, String>) -> Result<(), GitError> {
    let clean = clean(workspace);
    trash::delete(&clean)?;
    write_skeleton(&clean, CONFIG, "ref: refs/heads/none\n")?;
    let own = aside(workspace).join("objects");
    owned::borrow(&clean, &[&own, &workspace.mirror().join("objects")])?;
    owned::write_refs(&clean, refs)
}

/// Points branch and HEAD to what the agent had checked out.
fn adopt(workspace: &Workspace, relic: &Relic) -> Result<(), GitError> {
    let refs = Refs::open(workspace.mirror())?;
    let own = workspace.branch().full_ref();
    let there = |id: &&CommitId| refs.tree(id).is_ok();
    let head = relic.head.as_ref().filter(there);
    if let Some(tip) = relic.branches.get(&own).filter(there) {
        refs.set(&own, tip)?;
    }
    let text = match head {
        Some(id) if relic.branch.as_deref() != Some(&own) => format!("{id}\n"),
        _ => format!("ref: {own}\n"),
    };
    worktree::write_head(workspace, &text)?;
    for tip in relic.branches.values().filter(there) {
        if Some(tip) != head {
            worktree::keep_left(&refs, tip)?;
        }
    }
    for (name, _) in refs.below(&taken(workspace, ""))? {
        refs.delete(&name)?;
    }
    Ok(())
}

/// Deletes what a takeover has made beside the workspace.
pub(crate) fn clear(workspace: &Workspace) -> Result<(), GitError> {
    trash::delete(&clean(workspace))?;
    trash::delete(&aside(workspace))
}

/// Where fetched commits are held until HEAD, a branch or a ref of ours does.
fn taken(workspace: &Workspace, space: &str) -> String {
    let space = space.strip_prefix("refs/heads/").unwrap_or_default();
    format!("refs/agent/taken/{}/{space}", workspace.job())
}

pub(crate) fn aside(workspace: &Workspace) -> PathBuf {
    beside(workspace, "taken")
}

fn clean(workspace: &Workspace) -> PathBuf {
    beside(workspace, "clean")
}

/// A name beside the workspace, on the same volume, that the agent cannot reach.
fn beside(workspace: &Workspace, what: &str) -> PathBuf {
    let name = format!(".{what}-{}", workspace.job());
    workspace.path().with_file_name(name)
}
