//! From the domain to the wire.

use agent_client::wire;
use agent_domain::{Client, DeniedCall, Job, JsonText, LogSeal, State, Timestamp, Usd, iso_millis};
use agent_queue::{
    Accepted, CancelOutcome, ClientDetails, ClientView, CreatedClient, DeliveryLog, DeliveryState,
    DiskVolume, Health, HistoryEntry, JobFilter, JobPage, JobSummary, JobWithClient, Message,
    QueueView, Readiness, Synced,
};

use crate::option_map::{dollars, json_object, run_options};

/// A client in a list.
pub(crate) fn client_summary(view: ClientView) -> wire::ClientSummary {
    let ClientView {
        client,
        repo_exists,
    } = view;
    wire::ClientSummary {
        id: client.id.to_string(),
        github_org: client.repo.org().to_owned(),
        github_repo: client.repo.repo().to_owned(),
        default_branch: client.default_branch.to_string(),
        created_at: iso_millis(client.created_at),
        os_client_id: client.os_client_id,
        name: client.name,
        repo_exists,
        trusted: client.trusted,
        priority: client.priority.get().into(),
        max_concurrent: client.max_concurrent,
        budget_daily_usd: client.caps.daily.and_then(dollars),
        budget_monthly_usd: client.caps.monthly.and_then(dollars),
        options: run_options(client.options),
    }
}

/// A client by itself.
pub(crate) fn client_details(details: ClientDetails) -> wire::ClientDetails {
    let ClientDetails {
        client,
        repo_exists,
        counts,
    } = details;
    wire::ClientDetails {
        id: client.id.to_string(),
        github_org: client.repo.org().to_owned(),
        github_repo: client.repo.repo().to_owned(),
        default_branch: client.default_branch.to_string(),
        created_at: iso_millis(client.created_at),
        os_client_id: client.os_client_id,
        name: client.name,
        repo_exists,
        active_jobs: counts.active,
        total_jobs: counts.total,
        trusted: client.trusted,
        priority: client.priority.get().into(),
        max_concurrent: client.max_concurrent,
        budget_daily_usd: client.caps.daily.and_then(dollars),
        budget_monthly_usd: client.caps.monthly.and_then(dollars),
        options: run_options(client.options),
    }
}

/// It was JSON when the worker checked it.
fn json_value(json: &JsonText) -> Option<serde_json::Value> {
    serde_json::from_str(json.as_str()).ok()
}

/// A client just created.
pub(crate) fn client_created(created: CreatedClient) -> wire::ClientCreated {
    let CreatedClient {
        client,
        repo_cloned,
        clone_error,
        bare_repo_path,
    } = created;
    wire::ClientCreated {
        id: client.id.to_string(),
        github_org: client.repo.org().to_owned(),
        github_repo: client.repo.repo().to_owned(),
        default_branch: client.default_branch.to_string(),
        os_client_id: client.os_client_id,
        name: client.name,
        repo_cloned,
        clone_error,
        bare_repo_path: bare_repo_path.display().to_string(),
    }
}

/// A page of jobs; a full page has a cursor to the next one.
pub(crate) fn job_list(page: JobPage, filter: &JobFilter) -> wire::JobList {
    let is_full = page.jobs.len() >= usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let last = page.jobs.last().map(|job| job.id.to_string());
    wire::JobList {
        jobs: page.jobs.into_iter().map(job_summary).collect(),
        total: page.total,
        limit: filter.limit,
        offset: filter.offset,
        next_cursor: last.filter(|_| is_full),
    }
}

fn job_summary(job: JobSummary) -> wire::JobSummary {
    wire::JobSummary {
        id: job.id.to_string(),
        client_id: job.client_id.to_string(),
        client_name: job.client_name,
        status: job.status.to_string(),
        branch_name: job.branch,
        title: job.title,
        os_feature_id: job.os_feature_id,
        started_at: job.started_at.map(iso_millis),
        created_at: iso_millis(job.created_at),
        phase: job.phase.map(|phase| phase.to_string()),
        reason: job.reason.map(|reason| reason.to_string()),
        not_before: job.not_before.map(iso_millis),
        completed_at: job.completed_at.map(iso_millis),
        priority: job.priority.get().into(),
    }
}

/// A job by itself, without its messages.
pub(crate) fn job_details(found: JobWithClient, seals: &[(u32, LogSeal)]) -> wire::JobDetails {
    let JobWithClient { job, client } = found;
    let Standing {
        phase,
        not_before,
        cancel_requested_at,
        error,
    } = standing(&job.state);
    let Job { spec, facts, .. } = job;
    let cost_usd = facts.cost.map(Usd::dollars);
    let (pr_url, pr_number) = facts.pull_request.map(|pr| (pr.url, pr.number)).unzip();
    wire::JobDetails {
        id: job.id.to_string(),
        client_id: job.client_id.to_string(),
        client: job_client(client),
        status: job.state.status().to_string(),
        prompt: spec.prompt.to_string(),
        branch_name: spec.branch.to_string(),
        title: spec.title,
        os_feature_id: spec.os_feature_id,
        os_callback_url: spec.callback_url.map(|url| url.to_string()),
        worktree_path: facts.worktree_path.map(|path| path.display().to_string()),
        started_at: job.started_at.map(iso_millis),
        completed_at: job.state.ended_at().map(iso_millis),
        exit_code: facts.exit_code,
        error,
        pr_url,
        pr_number,
        files_changed: facts.files_changed,
        reason: job.state.reason().map(|reason| reason.to_string()),
        phase_detail: facts.phase_detail.filter(|_| phase.is_some()),
        phase,
        attempt: job.attempt,
        not_before,
        cancel_requested_at,
        base_commit: facts.base_commit.map(|commit| commit.to_string()),
        head_commit: facts.head_commit.map(|commit| commit.to_string()),
        saved_ref: facts.saved_ref,
        session_id: facts.session_id,
        credential: job.paid_by.map(|paid_by| paid_by.name.to_string()),
        model: facts.model.or_else(|| spec.options.model.clone()),
        base: spec.base.map(|base| base.to_string()),
        metadata: spec.metadata.as_ref().map(json_object),
        options: run_options(spec.options),
        cli_version: facts.cli_version,
        num_turns: facts.num_turns,
        cost_usd,
        output: facts.output.as_ref().and_then(json_value),
        permission_denials: facts.denied.into_iter().map(permission_denial).collect(),
        retry_of: job.retry_of.map(|id| id.to_string()),
        depends_on: spec.depends_on.iter().map(ToString::to_string).collect(),
        priority: job.priority.get().into(),
        continues: job.continues.map(|continued| continued.job.to_string()),
        has_secrets: spec.secrets.any(),
        created_at: iso_millis(job.created_at),
        updated_at: iso_millis(job.updated_at),
        logs: seals.iter().map(sealed_log).collect(),
        messages: None,
    }
}

fn permission_denial(call: DeniedCall) -> wire::PermissionDenial {
    wire::PermissionDenial {
        tool: call.tool,
        input: call.input,
    }
}

fn sealed_log((attempt, seal): &(u32, LogSeal)) -> wire::SealedLog {
    wire::SealedLog {
        attempt: *attempt,
        bytes: seal.length,
        sha256: seal.sha256_hex(),
    }
}

fn job_client(client: Client) -> wire::JobClient {
    wire::JobClient {
        github_org: client.repo.org().to_owned(),
        github_repo: client.repo.repo().to_owned(),
        name: client.name,
    }
}

/// What only some states have.
#[derive(Default)]
struct Standing {
    phase: Option<String>,
    not_before: Option<String>,
    cancel_requested_at: Option<String>,
    error: Option<String>,
}

fn standing(state: &State) -> Standing {
    match state {
        State::Queued {
            not_before,
            reason: _,
        } => Standing {
            not_before: not_before.map(iso_millis),
            ..Standing::default()
        },
        State::Running {
            phase,
            cancel_requested_at,
            lease_until: _,
        } => Standing {
            phase: Some(phase.to_string()),
            cancel_requested_at: cancel_requested_at.map(iso_millis),
            ..Standing::default()
        },
        State::Completed { at: _ } => Standing::default(),
        State::Failed {
            error,
            at: _,
            reason: _,
        } => Standing {
            error: Some(error.clone()),
            ..Standing::default()
        },
        State::Cancelled {
            requested_at,
            at: _,
        } => Standing {
            cancel_requested_at: Some(iso_millis(*requested_at)),
            ..Standing::default()
        },
    }
}

/// A job just taken in.
pub(crate) fn job_created(accepted: &Accepted) -> wire::JobCreated {
    wire::JobCreated {
        id: accepted.id.to_string(),
        client_id: accepted.client_id.to_string(),
        status: "queued".to_owned(),
        position: accepted.position,
        branch_name: accepted.branch.to_string(),
        created_at: iso_millis(accepted.created_at),
    }
}

/// What became of a cancellation.
pub(crate) fn cancelled(outcome: &CancelOutcome) -> wire::Cancelled {
    let ended = outcome.job.state.ended_at().is_some();
    wire::Cancelled {
        id: outcome.job.id.to_string(),
        status: outcome.job.state.status().to_string(),
        was_running: outcome.was_running,
        cancel_requested_at: standing(&outcome.job.state)
            .cancel_requested_at
            .filter(|_| !ended),
    }
}

/// One message of a log.
pub(crate) fn message(message: Message) -> wire::Message {
    wire::Message {
        kind: message.stream.as_str().to_owned(),
        content: message.text,
        created_at: iso_millis(message.at),
        attempt: message.attempt,
    }
}

/// One change of a job.
pub(crate) fn history_entry(entry: HistoryEntry) -> wire::HistoryEntry {
    wire::HistoryEntry {
        at: iso_millis(entry.at),
        event: entry.event,
        status: entry.status.to_string(),
        attempt: entry.attempt,
        detail: entry.detail,
    }
}

/// A callback and its tries.
pub(crate) fn delivery(log: DeliveryLog) -> wire::Delivery {
    let (state, due_at) = match log.state {
        DeliveryState::Pending { due_at } => ("pending", Some(iso_millis(due_at))),
        DeliveryState::Delivered => ("delivered", None),
        DeliveryState::GivenUp => ("given_up", None),
    };
    let tries = log.tries.into_iter().map(|one| wire::DeliveryTry {
        at: iso_millis(one.at),
        duration_ms: one.duration_ms,
        status: one.status,
        error: one.error,
        signed: one.signed,
    });
    wire::Delivery {
        id: log.id.to_string(),
        url: log.url.to_string(),
        state: state.to_owned(),
        due_at,
        created_at: iso_millis(log.created_at),
        tries: tries.collect(),
    }
}

/// How the server is.
pub(crate) fn health(health: Health, now: Timestamp) -> wire::Health {
    let low = health.volumes.iter().any(|volume| volume.trouble.is_some());
    let status = match (health.draining, low) {
        (true, _) => "draining",
        (false, true) => "disk_low",
        (false, false) => "ok",
    };
    wire::Health {
        status: status.to_owned(),
        queue: wire::QueueHealth {
            running: health.running,
            queued: health.ready + health.parked,
            parked: health.parked,
            parked_until: health.parked_until.map(iso_millis),
            max_concurrent: health.max_concurrent,
            stale_writes: health.stale_writes,
        },
        callbacks: wire::CallbackHealth {
            failing_endpoints: u64::try_from(health.failing_endpoints).unwrap_or(u64::MAX),
        },
        claude: wire::AgentHealth {
            authenticated: health.agent.authenticated,
            version: health.agent.version,
            checked_at: health.agent.checked_at.map(iso_millis),
        },
        credentials: {
            let credentials = health.credentials.iter();
            credentials
                .map(|view| crate::credentials::brief(view, now))
                .collect()
        },
        disk: health.volumes.into_iter().map(volume).collect(),
    }
}

fn volume(volume: DiskVolume) -> wire::VolumeHealth {
    wire::VolumeHealth {
        name: volume.name.to_owned(),
        path: volume.path.display().to_string(),
        free_bytes: volume.room.map(|room| room.bytes),
        min_free_bytes: volume.min_free,
        problem: volume.trouble.map(|trouble| trouble.to_string()),
    }
}

/// Whether new work would be taken, check by check.
pub(crate) fn readiness(readiness: Readiness) -> wire::Readiness {
    let status = if readiness.is_ready() {
        "ready"
    } else {
        "unready"
    };
    let check = |(name, problem): (&str, Option<String>)| {
        let ok = problem.is_none();
        (name.to_owned(), wire::Check { ok, problem })
    };
    wire::Readiness {
        status: status.to_owned(),
        checks: readiness.checks.into_iter().map(check).collect(),
    }
}

/// What runs and the first `limit` of what waits.
pub(crate) fn queue(
    view: QueueView,
    limit: u32,
    max_concurrent: u32,
    now: Timestamp,
) -> wire::QueueView {
    let ready = (1..)
        .zip(view.ready)
        .map(|(position, job)| queued_job(job, Some(position)));
    let parked = view.parked.into_iter().map(|job| queued_job(job, None));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    wire::QueueView {
        running: view
            .running
            .into_iter()
            .map(|job| running_job(job, now))
            .collect(),
        queued: ready.chain(parked).take(limit).collect(),
        max_concurrent,
    }
}

fn running_job(job: JobSummary, now: Timestamp) -> wire::RunningJob {
    let since = job
        .started_at
        .map_or(0, |at| now.as_second().saturating_sub(at.as_second()));
    wire::RunningJob {
        id: job.id.to_string(),
        client_name: job.client_name,
        branch_name: job.branch,
        started_at: job.started_at.map(iso_millis),
        running_for: running_for(since),
        phase: job.phase.map(|phase| phase.to_string()),
    }
}

fn queued_job(job: JobSummary, position: Option<u64>) -> wire::QueuedJob {
    wire::QueuedJob {
        id: job.id.to_string(),
        client_name: job.client_name,
        branch_name: job.branch,
        position,
        priority: job.priority.get().into(),
        created_at: iso_millis(job.created_at),
        not_before: job.not_before.map(iso_millis),
        reason: job.reason.map(|reason| reason.to_string()),
    }
}

/// One repository brought up to date, or not.
pub(crate) fn synced(one: Synced) -> wire::SyncedRepo {
    wire::SyncedRepo {
        repo: one.repo.repo().to_owned(),
        github_org: one.repo.org().to_owned(),
        success: one.error.is_none(),
        error: one.error,
    }
}

/// Writes a time span like `45s`, `5m 23s` or `26h 0m 5s`; a clock set back shows `0s`.
fn running_for(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}h {minutes}m {seconds}s")
    } else if minutes > 0 {
        format!("{minutes}m {seconds}s")
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_written_as_the_specification_shows() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (45, "45s"),
            (60, "1m 0s"),
            (323, "5m 23s"),
            (7500, "2h 5m 0s"),
            (93_605, "26h 0m 5s"),
            (i64::MAX, "2562047788015215h 30m 7s"),
        ] {
            assert_eq!(running_for(seconds), text);
        }
    }
}
