//! What is learned about a job while it runs.

use std::path::PathBuf;

use crate::{CommitId, CredentialNews, DeniedCall, JsonText, RunUsage, Usd};

/// A pull request at a forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// The forge's number for it.
    pub number: u64,
    /// Where people find it.
    pub url: String,
}

/// What is known about a job's execution so far; a field is learned at most once an attempt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The commit the workspace was made from.
    pub base_commit: Option<CommitId>,
    /// The last commit of the job's branch.
    pub head_commit: Option<CommitId>,
    /// Where unfinished work was kept, `refs/agent/<job>` in the mirror.
    pub saved_ref: Option<String>,
    /// The workspace.
    pub worktree_path: Option<PathBuf>,
    /// Exit code of the CLI; `128 + n` when signal `n` ended it.
    pub exit_code: Option<i32>,
    /// What was delivered.
    pub pull_request: Option<PullRequest>,
    /// Files that differ between base and head.
    pub files_changed: Option<u64>,
    /// The CLI's session.
    pub session_id: Option<String>,
    /// The model the CLI said it uses.
    pub model: Option<String>,
    /// The CLI's version.
    pub cli_version: Option<String>,
    /// Turns of the conversation, as the CLI counts them.
    pub num_turns: Option<u64>,
    /// What this attempt's run told of what it used, until the attempt ends: then it goes into the
    /// ledger.
    pub usage: Option<RunUsage>,
    /// What this attempt's run has told of the credential it was started on; stored with that, not with
    /// the job.
    pub news: Option<Box<CredentialNews>>,
    /// What all attempts that have ended cost, by the ledger; `None` while none of them has told.
    pub cost: Option<Usd>,
    /// What this attempt may cost at most, where that is limited.
    pub allotted: Option<Usd>,
    /// The agent's answer, where the job has asked for one of a certain form.
    pub output: Option<JsonText>,
    /// What the agent was not allowed to do.
    pub denied: Vec<DeniedCall>,
    /// What holds the attempt up in its phase, for people; unlike all others it is told anew each
    /// time.
    pub phase_detail: Option<String>,
}

impl Facts {
    /// Takes over every field that `newer` knows.
    #[must_use]
    pub fn updated(self, newer: Self) -> Self {
        Self {
            base_commit: newer.base_commit.or(self.base_commit),
            head_commit: newer.head_commit.or(self.head_commit),
            saved_ref: newer.saved_ref.or(self.saved_ref),
            worktree_path: newer.worktree_path.or(self.worktree_path),
            exit_code: newer.exit_code.or(self.exit_code),
            pull_request: newer.pull_request.or(self.pull_request),
            files_changed: newer.files_changed.or(self.files_changed),
            session_id: newer.session_id.or(self.session_id),
            model: newer.model.or(self.model),
            cli_version: newer.cli_version.or(self.cli_version),
            num_turns: newer.num_turns.or(self.num_turns),
            usage: newer.usage.or(self.usage),
            news: newer.news.or(self.news),
            // Nobody but the ledger knows better.
            cost: self.cost,
            allotted: self.allotted,
            output: newer.output.or(self.output),
            denied: if newer.denied.is_empty() {
                self.denied
            } else {
                newer.denied
            },
            phase_detail: newer.phase_detail,
        }
    }
}
