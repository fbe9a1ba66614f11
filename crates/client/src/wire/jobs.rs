//! Jobs, their messages, history and callbacks.

use serde::{Deserialize, Serialize};

use super::{JobSecrets, JsonObject, RunOptions};

with_options! {
    /// Body of `POST /jobs`: `clientId`, or `githubOrg` and `githubRepo`.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct CreateJob {
        /// A client by id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub client_id: Option<String>,
        /// Organisation or user of a repository whose client is created if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub github_org: Option<String>,
        /// Repository, with `githubOrg`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub github_repo: Option<String>,
        /// What the agent is told.
        pub prompt: String,
        /// The branch the work goes to.
        pub branch_name: String,
        /// Title of the pull request and subject of the commit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub title: Option<String>,
        /// The feature's id in the caller's own system.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub os_feature_id: Option<String>,
        /// Where the callback goes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub os_callback_url: Option<String>,
        /// Ids of jobs that must be completed before it begins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub depends_on: Option<Vec<String>>,
        /// How urgent it is, from -100 to 100; its client's unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub priority: Option<i64>,
        /// Branch or commit it starts from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub base: Option<String>,
        /// Time before which it is not started, in RFC 3339.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub not_before: Option<String>,
        /// The caller's own object.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub metadata: Option<JsonObject>,
        /// Keys of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub secrets: Option<JobSecrets>,
    }
}

/// Body of `PATCH /jobs/:id`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateJob {
    /// How urgent it is, from -100 to 100.
    pub priority: i64,
}

/// Body of `POST /jobs/:id/messages`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateMessage {
    /// What the agent is told next.
    pub prompt: String,
    /// Keys of its own, at least of the kinds that the job brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<JobSecrets>,
}

/// Answer to `POST /jobs/:id/messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobContinued {
    /// The new job.
    pub id: String,
    /// The job that the message was sent to.
    pub continued_job_id: String,
    /// Always `queued`.
    pub status: String,
    /// Place in the queue, from 1.
    pub position: u64,
    /// The branch the work goes to: that of the job.
    pub branch_name: String,
}

/// Body of `POST /jobs/:id/retry`; may be left out for a job that brought no keys of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryJob {
    /// Whether to go on in the job's session, with the work that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<bool>,
    /// Keys of its own, at least of the kinds that the job brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<JobSecrets>,
}

/// Answer to `POST /jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCreated {
    /// Ours.
    pub id: String,
    /// Its client.
    pub client_id: String,
    /// Always `queued`.
    pub status: String,
    /// Place in the queue, from 1; null while it is not to be started.
    pub position: Option<u64>,
    /// The branch the work goes to.
    pub branch_name: String,
    /// When it was taken in.
    pub created_at: String,
}

/// Answer to `POST /jobs/:id/retry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRetried {
    /// The new job.
    pub id: String,
    /// The job it repeats.
    pub original_job_id: String,
    /// Always `queued`.
    pub status: String,
    /// Place in the queue, from 1.
    pub position: u64,
    /// The branch the work goes to; another one where the first is taken by now.
    pub branch_name: String,
}

/// Answer to `POST /jobs/:id/cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancelled {
    /// The job.
    pub id: String,
    /// Where it stands: `cancelled`, still `running` with status 202, or `completed` where its
    /// work was delivered before the cancellation took hold.
    pub status: String,
    /// Whether an attempt was under way.
    pub was_running: bool,
    /// When the cancellation was asked for; absent once the job has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested_at: Option<String>,
}

/// Answer to `POST /jobs/:id/release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// The job.
    pub id: String,
    /// Always `queued`: it starts as soon as there is a slot.
    pub status: String,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSummary {
    /// Ours.
    pub id: String,
    /// Its client.
    pub client_id: String,
    /// The client's name.
    pub client_name: String,
    /// `queued`, `running`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// The branch the work goes to.
    pub branch_name: String,
    /// Title asked for.
    pub title: Option<String>,
    /// The feature's id in the caller's own system.
    pub os_feature_id: Option<String>,
    /// When it first began to run.
    pub started_at: Option<String>,
    /// When it was taken in.
    pub created_at: String,
    /// What a running job's worker is doing.
    pub phase: Option<String>,
    /// Stable code: why it waits, failed or was cancelled.
    pub reason: Option<String>,
    /// Time before which a parked job is not started.
    pub not_before: Option<String>,
    /// When it ended.
    pub completed_at: Option<String>,
    /// How urgent it is, from -100 to 100.
    #[serde(default)]
    pub priority: i64,
}

/// Answer to `GET /jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobList {
    /// The jobs, newest first.
    pub jobs: Vec<JobSummary>,
    /// How many jobs fit the filter.
    pub total: u64,
    /// The page size used.
    pub limit: u32,
    /// The offset used.
    pub offset: u32,
    /// Give it as `before` to get the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// What a job's answer says of its client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobClient {
    /// For people.
    pub name: String,
    /// Organisation or user.
    pub github_org: String,
    /// Repository.
    pub github_repo: String,
}

/// Answer to `GET /jobs/:id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobDetails {
    /// Ours.
    pub id: String,
    /// Its client.
    pub client_id: String,
    /// The client, even if it is deleted by now.
    pub client: JobClient,
    /// `queued`, `running`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// What the agent is told.
    pub prompt: String,
    /// The branch the work goes to.
    pub branch_name: String,
    /// Title asked for.
    pub title: Option<String>,
    /// The feature's id in the caller's own system.
    pub os_feature_id: Option<String>,
    /// Where the callback goes.
    pub os_callback_url: Option<String>,
    /// The workspace.
    pub worktree_path: Option<String>,
    /// When it first began to run.
    pub started_at: Option<String>,
    /// When it ended.
    pub completed_at: Option<String>,
    /// Exit code of the CLI.
    pub exit_code: Option<i32>,
    /// Why it failed, as a sentence.
    pub error: Option<String>,
    /// The pull request.
    pub pr_url: Option<String>,
    /// Its number.
    pub pr_number: Option<u64>,
    /// Files that differ from the base.
    pub files_changed: Option<u64>,
    /// Stable code: why it waits, failed or was cancelled.
    pub reason: Option<String>,
    /// What a running job's worker is doing.
    pub phase: Option<String>,
    /// What holds it up in its phase, for people.
    pub phase_detail: Option<String>,
    /// Attempts begun.
    pub attempt: u32,
    /// Time before which a parked job is not started.
    pub not_before: Option<String>,
    /// When cancelling it was asked for.
    pub cancel_requested_at: Option<String>,
    /// The commit the workspace was made from.
    pub base_commit: Option<String>,
    /// The last commit of the branch.
    pub head_commit: Option<String>,
    /// Where unfinished work was kept in the bare repository.
    pub saved_ref: Option<String>,
    /// The CLI's session.
    pub session_id: Option<String>,
    /// The model used, or else the one asked for.
    pub model: Option<String>,
    /// What its last attempt ran on; null: a key of its own, or nothing yet.
    #[serde(default)]
    pub credential: Option<String>,
    /// Branch or commit it starts from, where it says so.
    #[serde(default)]
    pub base: Option<String>,
    /// The caller's own object.
    #[serde(default)]
    pub metadata: Option<JsonObject>,
    /// What it says itself of how the agent is run.
    #[serde(default)]
    pub options: RunOptions,
    /// The CLI's version.
    pub cli_version: Option<String>,
    /// Turns of the conversation.
    pub num_turns: Option<u64>,
    /// The CLI's own estimate in US dollars.
    pub cost_usd: Option<f64>,
    /// The agent's answer, where the job has an `outputSchema`.
    #[serde(default)]
    pub output: Option<serde_json::Value>,
    /// What the agent was not allowed to do in its last attempt.
    #[serde(default)]
    pub permission_denials: Vec<PermissionDenial>,
    /// The job this one repeats.
    pub retry_of: Option<String>,
    /// Jobs that must be completed before it begins.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// How urgent it is, from -100 to 100.
    #[serde(default)]
    pub priority: i64,
    /// The job in whose session it goes on.
    #[serde(default)]
    pub continues: Option<String>,
    /// Whether it brought keys of its own.
    #[serde(default)]
    pub has_secrets: bool,
    /// When it was taken in.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// The logs of attempts that have ended, in order.
    #[serde(default)]
    pub logs: Vec<SealedLog>,
    /// The log, where `includeMessages=true` asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Message>>,
}

/// A tool call that was denied to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionDenial {
    /// The tool.
    pub tool: String,
    /// The beginning of its input, as JSON; null where the CLI has not told.
    pub input: Option<String>,
}

/// The log of an attempt that has ended: it does not change any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedLog {
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// One message of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// `stdout`, `stderr` or `system`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    pub content: String,
    /// When it was written.
    pub created_at: String,
    /// The attempt that wrote it, from 1.
    pub attempt: u32,
}

/// Answer to `GET /jobs/:id/history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobHistory {
    /// Every change, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// One change of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub at: String,
    /// What happened, in a word.
    pub event: String,
    /// The status after it.
    pub status: String,
    /// Attempts begun by then.
    pub attempt: u32,
    /// What there is to say about it; null for most changes.
    pub detail: Option<String>,
}

/// Answer to `GET /jobs/:id/deliveries`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryList {
    /// The job's callbacks.
    pub deliveries: Vec<Delivery>,
}

/// A callback and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The `webhook-id` of every try.
    pub id: String,
    /// Where it goes.
    pub url: String,
    /// `pending`, `delivered` or `given_up`.
    pub state: String,
    /// When a pending one is tried next.
    pub due_at: Option<String>,
    /// When it was created.
    pub created_at: String,
    /// Every try, oldest first.
    pub tries: Vec<DeliveryTry>,
}

/// Answer to `POST /jobs/:id/deliveries/:deliveryId/redeliver`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redelivered {
    /// The `webhook-id`: the same as before.
    pub id: String,
    /// Always `pending`.
    pub state: String,
    /// When it became due.
    pub due_at: String,
}

/// One try of a callback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryTry {
    /// When it began.
    pub at: String,
    /// How long it took.
    pub duration_ms: u64,
    /// The receiver's HTTP status.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
    /// Whether it was signed.
    pub signed: bool,
}
