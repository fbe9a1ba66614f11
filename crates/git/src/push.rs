//! Pushes a job's branch, which must not be on the remote yet.

use std::time::Duration;

use agent_domain::{BranchName, CommitId, RepoSlug};

use crate::mirror::blocking;
use crate::refs::{REMOTE, Refs};
use crate::{Git, GitError};

/// What remotes say when the branch, or one it cannot stand beside, has come into being
/// meanwhile.
const TAKEN: &[&str] = &[
    "stale info",
    "already exists",
    "fetch first",
    "non-fast-forward",
    "exists; cannot create",
    "directory file conflict",
    "directory/file conflict",
    "there is a non-empty directory",
    "reference broken",
    "cannot lock ref",
    "incorrect old value",
];

/// When to look again whether a branch that was in the way is our own; a push that has come as
/// far as locking the ref is done within moments.
const LOOK_AGAIN: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

impl Git {
    /// Pushes `head` as the new branch `branch`.
    ///
    /// The remote is told to take it only if it has no such branch, so nobody's work is ever
    /// replaced: [`GitError::BranchExists`]. A branch that is there with this very commit is a
    /// success: an earlier push got through and its answer did not.
    ///
    /// [`GitError::DiskFull`] may also mean that the branch is pushed but not noted in the mirror,
    /// without which a repetition of the job would ask for the same branch; push again then.
    pub async fn push(
        &self,
        repo: &RepoSlug,
        head: &CommitId,
        branch: &BranchName,
    ) -> Result<(), GitError> {
        self.push_onto(repo, head, branch, None).await
    }

    /// As [`Git::push`], of a branch that the remote has at `onto`, as work of ours: only what is on top
    /// of that, and only while it is there. [`GitError::BranchMoved`] says that it is not.
    pub async fn push_onto(
        &self,
        repo: &RepoSlug,
        head: &CommitId,
        branch: &BranchName,
        onto: Option<&CommitId>,
    ) -> Result<(), GitError> {
        self.ensure_settled(repo).await?;
        if let Some(onto) = onto {
            self.descends(repo, head, onto).await?;
        }
        let mut pauses = LOOK_AGAIN.into_iter();
        loop {
            let pushed = self.push_once(repo, head, branch, onto).await;
            let taken = matches!(pushed, Err(GitError::BranchExists { .. }));
            match pauses.next() {
                // Perhaps it was taken by this very commit: the push of a server that was killed
                // goes on without it. Then the next push finds everything up to date.
                Some(pause) if taken => tokio::time::sleep(pause).await,
                _ if taken && onto.is_some() => {
                    let branch = branch.clone();
                    return Err(GitError::BranchMoved { branch });
                }
                _ => return pushed,
            }
        }
    }

    async fn push_once(
        &self,
        repo: &RepoSlug,
        head: &CommitId,
        branch: &BranchName,
        onto: Option<&CommitId>,
    ) -> Result<(), GitError> {
        let onto = onto.map_or("", CommitId::as_str);
        let target = branch.full_ref();
        let output = self
            .inner
            .program
            .command("push")
            .config("push.followTags=false")
            .config("push.gpgSign=false")
            .args(["--porcelain", "--no-verify", "--recurse-submodules=no"])
            .args([format!("--force-with-lease={target}:{onto}")])
            .args(["--end-of-options", &self.remote_url(repo)])
            .args([format!("{head}:{target}")])
            .git_dir(self.mirror_path(repo))
            .network(self.access())
            .run()
            .await?;
        if !output.success() {
            let answer = String::from_utf8_lossy(&output.stdout);
            return Err(match refusal(&answer) {
                Some(why) => judge(branch, why, &output.stderr),
                None => output.failure(),
            });
        }
        self.remember(repo, head, branch).await
    }

    /// A lease lets git replace what is there; this keeps it to adding to it.
    async fn descends(
        &self,
        repo: &RepoSlug,
        head: &CommitId,
        onto: &CommitId,
    ) -> Result<(), GitError> {
        let asked = self
            .inner
            .program
            .command("merge-base")
            .args(["--is-ancestor", onto.as_str(), head.as_str()])
            .git_dir(self.mirror_path(repo))
            .run()
            .await?;
        match asked.code {
            Some(0) => Ok(()),
            Some(1) => Err(GitError::Rewritten { onto: onto.clone() }),
            _ => Err(asked.failure()),
        }
    }

    /// Notes the pushed branch as one of the remote's; git's own lock of the ref is enough. Fails
    /// only for want of room: that passes, and for anything else there is the next fetch.
    async fn remember(
        &self,
        repo: &RepoSlug,
        head: &CommitId,
        branch: &BranchName,
    ) -> Result<(), GitError> {
        let (mirror, head) = (self.mirror_path(repo), head.clone());
        let name = format!("{REMOTE}{branch}");
        match blocking(move || Refs::open(&mirror)?.set(&name, &head)).await {
            Err(error) if !error.is_disk_full() => {
                tracing::warn!(%repo, %branch, %error, "a pushed branch could not be noted");
                Ok(())
            }
            other => other,
        }
    }
}

/// The reason in git's line `!<tab>from:to<tab>[rejected] (reason)`.
fn refusal(porcelain: &str) -> Option<&str> {
    let line = porcelain
        .lines()
        .find_map(|line| line.strip_prefix("!\t"))?;
    line.split('\t').nth(1)
}

fn judge(branch: &BranchName, why: &str, stderr: &str) -> GitError {
    let all = format!("{why}\n{stderr}").to_lowercase();
    if TAKEN.iter().any(|pattern| all.contains(pattern)) {
        return GitError::BranchExists {
            existing: branch.to_string(),
        };
    }
    // The last lines only repeat that something was refused.
    let said: Vec<&str> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("remote:"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut message = why.to_owned();
    if !said.is_empty() {
        message = format!("{why}: {}", crate::verdict::shortened(&said.join("\n")));
    }
    GitError::Rejected { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_a_taken_branch_from_a_rule_of_the_remote() {
        let branch: BranchName = "a/b".parse().unwrap();
        let why = refusal("To /x\n!\tabc:refs/heads/a/b\t[rejected] (stale info)\nDone\n");
        assert_eq!(why, Some("[rejected] (stale info)"));
        assert!(matches!(
            judge(&branch, why.unwrap(), ""),
            GitError::BranchExists { .. }
        ));
        let rule = judge(
            &branch,
            "[remote rejected] (pre-receive hook declined)",
            "remote: GH001: Large files detected.\nerror: failed to push some refs",
        );
        assert_eq!(
            rule.to_string(),
            "push refused by the remote: [remote rejected] (pre-receive hook declined): GH001: Large files detected."
        );
    }
}
