//! Commits what an agent has left in its workspace.

use agent_domain::CommitId;

use crate::command::{Invocation, Output};
use crate::gitlinks::{self, Gitlinks};
use crate::mirror::blocking;
use crate::refs::Refs;
use crate::takeover::Broken;
use crate::{Git, GitError, Identity, Workspace, stale};

/// Repositories without a commit that an agent may leave inside its workspace; git adds nothing
/// while one is there, so they are left out one by one.
const NESTED_MAX: usize = 20;

impl Git {
    /// Commits everything in the workspace under `message`, byte for byte, if there is anything
    /// to commit, and returns the last commit: the agent's own, or the base if nothing happened.
    ///
    /// Whatever branch or commit the agent has checked out is the one that counts.
    pub async fn commit_all(
        &self,
        workspace: &Workspace,
        message: &str,
    ) -> Result<CommitId, GitError> {
        stale::past(&self.scope_of(workspace), || async {
            self.settle_workspace(workspace).await?;
            self.take_over(workspace, Broken::Refuse).await?;
            if self.has_changes(workspace).await? {
                let links = gitlinks::of(workspace, workspace.admin().join("index")).await;
                let add = || self.in_workspace(workspace, "add");
                add_all(&add, &links).await?.into_result()?;
                let update = self.in_workspace(workspace, "update-index");
                links.stage(update).await?;
                self.commit(workspace, message).await?;
            }
            self.last_commit(workspace).await
        })
        .await
    }

    /// Begins a command in a workspace, whatever its agent has made of its `.git`.
    pub(crate) fn in_workspace<'a>(
        &'a self,
        workspace: &'a Workspace,
        verb: &'static str,
    ) -> Invocation<'a> {
        let command = self.inner.program.command(verb);
        command
            .git_dir(workspace.admin())
            .work_tree(workspace.path())
    }

    /// Whether there is anything that a commit would take up: one process for a job that has
    /// changed nothing, where adding first would take two.
    async fn has_changes(&self, workspace: &Workspace) -> Result<bool, GitError> {
        // A merge the agent has not concluded is a change although no file may differ.
        if workspace.admin().join("MERGE_HEAD").exists() {
            return Ok(true);
        }
        let output = self
            .in_workspace(workspace, "status")
            .args(["--porcelain", "-z", "--untracked-files=normal"])
            .args(["--no-renames", "--ignore-submodules=dirty"])
            .run_ok()
            .await?;
        Ok(!output.stdout.is_empty())
    }

    async fn commit(&self, workspace: &Workspace, message: &str) -> Result<(), GitError> {
        let command = self
            .in_workspace(workspace, "commit")
            .config("i18n.commitEncoding=UTF-8")
            .args(["--quiet", "--no-verify", "--no-gpg-sign", "--no-status"])
            .args(["--cleanup=verbatim", "--file=-"]);
        let output = identified(command, self.identity().await?)
            .input(with_line_end(message))
            .run()
            .await?;
        if output.success() || self.nothing_is_staged(workspace).await? {
            return Ok(());
        }
        Err(output.failure())
    }

    /// Whether what looked like a change is none to git after all, such as other line ends.
    async fn nothing_is_staged(&self, workspace: &Workspace) -> Result<bool, GitError> {
        let diff = self.in_workspace(workspace, "diff").args([
            "--cached",
            "--quiet",
            "--no-ext-diff",
            "--no-textconv",
        ]);
        Ok(diff.run().await?.success())
    }

    /// The commit of HEAD; the branch of the job, or its base, where HEAD has none.
    pub(crate) async fn last_commit(&self, workspace: &Workspace) -> Result<CommitId, GitError> {
        let workspace = workspace.clone();
        blocking(move || {
            let refs = Refs::open(workspace.mirror())?;
            if let Some(commit) = refs.head(&workspace.admin())?.commit() {
                return Ok(commit.clone());
            }
            let tip = refs.commit(&workspace.branch().full_ref())?;
            Ok(tip.unwrap_or_else(|| workspace.base().clone()))
        })
        .await
    }
}

/// Stages everything but `links`: `add` begins an add command. Ends as soon as git does not complain
/// about a repository without commits any more.
pub(crate) async fn add_all<'a>(
    add: &impl Fn() -> Invocation<'a>,
    links: &Gitlinks,
) -> Result<Output, GitError> {
    let mut left_out = links.paths.clone();
    let most = left_out.len() + NESTED_MAX;
    loop {
        let mut paths = b".\0".to_vec();
        for path in &left_out {
            paths.extend_from_slice(b":(exclude,top,literal)");
            paths.extend_from_slice(path);
            paths.push(0);
        }
        let command = add().args(["--all", "--pathspec-from-file=-", "--pathspec-file-nul"]);
        let output = command.input(paths).run().await?;
        match nested_repository(&output.stderr) {
            Some(dir) if !left_out.contains(&dir) && left_out.len() < most => {
                let shown = String::from_utf8_lossy(&dir).into_owned();
                tracing::warn!(dir = shown, "a repository without commits is left out");
                left_out.push(dir);
            }
            _ => return Ok(output),
        }
    }
}

/// Signs a command's commits with `identity`.
pub(crate) fn identified<'a>(command: Invocation<'a>, identity: &Identity) -> Invocation<'a> {
    command
        .env("GIT_AUTHOR_NAME", &identity.name)
        .env("GIT_AUTHOR_EMAIL", &identity.email)
        .env("GIT_COMMITTER_NAME", &identity.name)
        .env("GIT_COMMITTER_EMAIL", &identity.email)
}

fn nested_repository(stderr: &str) -> Option<Vec<u8>> {
    let (before, _) = stderr.split_once("' does not have a commit checked out")?;
    // The name itself may have line ends and quotes.
    let (_, dir) = before.split_once("error: '")?;
    Some(dir.trim_end_matches('/').into())
}

/// Git expects the last line of a message to end.
fn with_line_end(message: &str) -> String {
    let end = if message.ends_with('\n') { "" } else { "\n" };
    format!("{message}{end}")
}
