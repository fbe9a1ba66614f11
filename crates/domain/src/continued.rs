//! Going on in the session of a job that has ended, as a new job.

use crate::{CommitId, Delivery, Facts, Job, JobId, PullRequest, Status, is_session_id};

/// What a job goes on from that continues the session of an ended one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continued {
    /// The first job of the session; of all jobs with the same one only one is unfinished.
    pub root: JobId,
    /// The job whose session it is as that left it.
    pub job: JobId,
    /// The CLI's id of the session.
    pub session_id: String,
    /// The commit that job's own work started from.
    pub base: CommitId,
    /// Its last commit.
    pub head: Option<CommitId>,
    /// What jobs of the session are known to have pushed as the branch.
    pub pushed: Option<CommitId>,
    /// Where its unfinished work was kept.
    pub saved_ref: Option<String>,
    /// The pull request that its branch has.
    pub pull_request: Option<PullRequest>,
    /// What the agent is told in place of the prompt, which the session knows.
    pub told: Option<String>,
}

impl Continued {
    /// What a message to `job` goes on from: the same branch, which the remote has where its
    /// `delivery` was to push it. `None` for a job without a session.
    pub fn message(job: &Job, delivery: Delivery) -> Option<Self> {
        let Facts {
            session_id,
            base_commit,
            head_commit,
            saved_ref,
            pull_request,
            ..
        } = job.facts.clone();
        let earlier = job.continues.as_ref();
        let is_pushed = job.state.status() == Status::Completed && delivery != Delivery::None;
        let pushed = earlier.and_then(|earlier| earlier.pushed.clone());
        Some(Self {
            root: earlier.map_or(job.id, |earlier| earlier.root),
            job: job.id,
            session_id: session_id.filter(|id| is_session_id(id))?,
            base: base_commit?,
            pushed: if is_pushed {
                head_commit.clone()
            } else {
                pushed
            },
            head: head_commit,
            saved_ref: saved_ref.filter(|_| !is_pushed),
            pull_request: pull_request
                .or_else(|| earlier.and_then(|earlier| earlier.pull_request.clone())),
            told: None,
        })
    }

    /// What a repetition of `job` goes on from: a branch of its own.
    pub fn retry(job: &Job, delivery: Delivery, told: &str) -> Option<Self> {
        let message = Self::message(job, delivery)?;
        Some(Self {
            head: message.head.or(message.pushed),
            pushed: None,
            pull_request: None,
            told: Some(told.to_owned()),
            ..message
        })
    }

    /// What the branch on the remote must be at, so that nobody's work is lost by a push on top of it;
    /// `tip` is what it is at. The error is that it is somewhere else.
    pub fn expects(&self, tip: Option<&CommitId>) -> Result<(), BranchMoved> {
        let known = [self.pushed.as_ref(), self.head.as_ref()];
        match tip {
            None if self.pushed.is_none() => Ok(()),
            Some(_) if known.contains(&tip) => Ok(()),
            None | Some(_) => Err(BranchMoved),
        }
    }

    /// What the branch on the remote was at when the work on top of it began, of a job whose work is
    /// counted from `base`; `None` where there was no such branch.
    pub fn lease<'a>(&self, base: &'a CommitId) -> Option<&'a CommitId> {
        let is_pushed = self.pushed.as_ref() == Some(base);
        let is_head = self.head.as_ref() == Some(base) && self.base != *base;
        (is_pushed || is_head).then_some(base)
    }
}

/// The branch on the remote is not where the session's jobs have left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the branch on the remote is not at the commit that the session's last job pushed")]
pub struct BranchMoved;

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(digit: &str) -> CommitId {
        digit.repeat(40).parse().unwrap()
    }

    fn continued(head: Option<&str>, pushed: Option<&str>) -> Continued {
        Continued {
            root: JobId::from_bytes([1; 16]),
            job: JobId::from_bytes([1; 16]),
            session_id: String::new(),
            base: commit("a"),
            head: head.map(commit),
            pushed: pushed.map(commit),
            saved_ref: None,
            pull_request: None,
            told: None,
        }
    }

    #[test]
    fn a_branch_is_gone_on_with_only_where_it_is_what_we_pushed() {
        let (b, c) = (commit("b"), commit("c"));
        let done = continued(Some("b"), Some("b"));
        assert_eq!(done.expects(Some(&b)), Ok(()));
        assert_eq!(done.expects(Some(&c)), Err(BranchMoved));
        assert_eq!(done.expects(None), Err(BranchMoved), "somebody removed it");
        // It failed, perhaps after its push.
        let failed = continued(Some("b"), None);
        assert!(failed.expects(None).is_ok() && failed.expects(Some(&b)).is_ok());
        assert!(failed.expects(Some(&c)).is_err());
        let early = continued(None, None);
        assert!(early.expects(None).is_ok() && early.expects(Some(&b)).is_err());
    }

    #[test]
    fn a_push_names_the_commit_that_the_work_is_on_top_of() {
        let (a, b) = (commit("a"), commit("b"));
        assert_eq!(continued(Some("b"), Some("b")).lease(&b), Some(&b));
        assert_eq!(continued(Some("b"), None).lease(&b), Some(&b));
        assert_eq!(continued(Some("b"), None).lease(&a), None, "a new branch");
        // Nothing was changed and the branch pushed all the same, or not.
        assert_eq!(continued(Some("a"), Some("a")).lease(&a), Some(&a));
        assert_eq!(continued(Some("a"), None).lease(&a), None);
    }
}
