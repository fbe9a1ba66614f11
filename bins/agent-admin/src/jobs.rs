//! `agent-admin jobs`, but for submitting, waiting and logs.

use agent_client::wire::{
    CreateMessage, JobDetails, JobList, JsonObject, PermissionDenial, RetryJob, RunOptions,
    UpdateJob,
};
use agent_client::{Client, JobQuery};
use agent_runner::ClaudeTranscript;

use crate::args::{JobsCommand, Keys};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::{clients, logs, once, options, submit, wait};

pub(crate) fn run(
    client: &Client,
    screen: &mut Screen,
    command: JobsCommand,
) -> Result<Exit, Failure> {
    match command {
        JobsCommand::Submit(args) => submit::run(client, screen, *args),
        JobsCommand::List {
            status,
            client: which,
            limit,
            offset,
            before,
        } => {
            let client_id = which
                .map(|which| clients::resolve(client, which))
                .transpose()?;
            let query = JobQuery {
                statuses: status,
                client_id,
                limit,
                offset,
                before,
            };
            list(screen, client.jobs(&query)?)
        }
        JobsCommand::Show { job } => show(screen, client.job(&job)?),
        JobsCommand::Cancel { job, no_wait } => cancel(client, screen, &job, !no_wait),
        JobsCommand::Release { job } => release(client, screen, &job),
        JobsCommand::Update { job, priority } => {
            show(screen, client.update_job(&job, &UpdateJob { priority })?)
        }
        JobsCommand::Message {
            job,
            prompt,
            keys,
            idempotency_key,
        } => message(client, screen, &job, (prompt, &keys), idempotency_key),
        JobsCommand::Retry {
            job,
            resume,
            keys,
            idempotency_key,
        } => retry(client, screen, &job, (resume, &keys), idempotency_key),
        JobsCommand::Logs {
            job,
            follow,
            raw,
            offset,
        } => {
            let wanted = logs::Wanted {
                follow,
                raw,
                offset,
            };
            logs::run(client, screen, &ClaudeTranscript, &job, wanted)
        }
        JobsCommand::Wait { job, timeout } => wait::run(client, screen, &job, timeout),
    }
}

fn list(screen: &mut Screen, list: JobList) -> Result<Exit, Failure> {
    if screen.json(&list)? {
        return Ok(Exit::Done);
    }
    let shown = list.jobs.len();
    let rows = list.jobs.into_iter().map(|job| {
        let status = match job.reason {
            Some(reason) if job.status != "cancelled" => format!("{} ({reason})", job.status),
            _ => job.status,
        };
        let title = job.title.unwrap_or_default();
        vec![
            job.id,
            status,
            job.client_name,
            job.branch_name,
            title,
            job.created_at,
        ]
    });
    let head = ["ID", "STATUS", "CLIENT", "BRANCH", "TITLE", "CREATED"];
    screen.table(&head, rows.collect())?;
    if let (Some(cursor), true) = (list.next_cursor, screen.is_terminal()) {
        screen.line(&format!(
            "{shown} of {}; older ones: --before {cursor}",
            list.total
        ))?;
    }
    Ok(Exit::Done)
}

fn show(screen: &mut Screen, job: JobDetails) -> Result<Exit, Failure> {
    if screen.json(&job)? {
        return Ok(Exit::Done);
    }
    let repository = format!("{}/{}", job.client.github_org, job.client.github_repo);
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let mut rows = vec![
        ("id", Some(job.id)),
        ("status", Some(job.status)),
        ("phase", job.phase),
        ("held up by", job.phase_detail),
        ("reason", job.reason),
        ("error", job.error),
        ("client", Some(job.client.name)),
        ("repository", Some(repository)),
        ("branch", Some(job.branch_name)),
        ("title", job.title),
        ("priority", Some(job.priority.to_string())),
        ("attempt", Some(job.attempt.to_string())),
        ("created", Some(job.created_at)),
        ("not before", job.not_before),
        ("started", job.started_at),
        ("cancel requested", job.cancel_requested_at),
        ("ended", job.completed_at),
        ("exit code", job.exit_code.map(|code| code.to_string())),
        ("pull request", job.pr_url),
        ("files changed", number(job.files_changed)),
        ("base", job.base),
        ("base commit", job.base_commit),
        ("head commit", job.head_commit),
        ("saved work", job.saved_ref),
        ("workspace", job.worktree_path),
        ("model", job.model),
        ("credential", job.credential),
        ("session", job.session_id),
        ("turns", number(job.num_turns)),
        ("cost", job.cost_usd.map(|cost| format!("${cost:.4}"))),
        ("output", job.output.map(|output| output.to_string())),
        ("metadata", job.metadata.map(json)),
        ("denied", denied(&job.permission_denials)),
        ("retry of", job.retry_of),
        ("continues", job.continues),
        (
            "waits for",
            (!job.depends_on.is_empty()).then(|| job.depends_on.join(", ")),
        ),
        (
            "own keys",
            job.has_secrets
                .then(|| "in the server's memory only".to_owned()),
        ),
    ];
    // The model it has asked for is above, beside the one it got.
    let asked = RunOptions {
        model: None,
        ..job.options
    };
    rows.extend(options::rows(&asked));
    rows.push(("prompt", Some(job.prompt)));
    screen.record(&rows)?;
    Ok(Exit::Done)
}

fn json(object: JsonObject) -> String {
    serde_json::Value::Object(object).to_string()
}

/// What the agent was not allowed to do, if anything.
fn denied(calls: &[PermissionDenial]) -> Option<String> {
    let shown = |call: &PermissionDenial| match &call.input {
        Some(input) => format!("{} {input}", call.tool),
        None => call.tool.clone(),
    };
    let shown: Vec<String> = calls.iter().map(shown).collect();
    (!shown.is_empty()).then(|| shown.join("; "))
}

fn cancel(client: &Client, screen: &mut Screen, job: &str, wait: bool) -> Result<Exit, Failure> {
    let cancelled = client.cancel(job, wait)?;
    if !screen.json(&cancelled)? {
        let text = match (cancelled.status.as_str(), cancelled.was_running) {
            ("cancelled", true) => "cancelled; it was running".to_owned(),
            ("running", _) => "is being cancelled".to_owned(),
            (status, _) => status.to_owned(),
        };
        screen.line(&format!("job {} {text}", cancelled.id))?;
    }
    Ok(Exit::Done)
}

fn release(client: &Client, screen: &mut Screen, job: &str) -> Result<Exit, Failure> {
    let released = client.release(job)?;
    if !screen.json(&released)? {
        screen.line(&format!("job {} waits no longer", released.id))?;
    }
    Ok(Exit::Done)
}

fn message(
    client: &Client,
    screen: &mut Screen,
    job: &str,
    (prompt, keys): (String, &Keys),
    key: Option<String>,
) -> Result<Exit, Failure> {
    let secrets = submit::keys(keys)?;
    let body = CreateMessage { prompt, secrets };
    let continued = once::call(client, key, |client| client.message(job, &body))?;
    if !screen.json(&continued)? {
        screen.record(&[
            ("id", Some(continued.id)),
            ("continues", Some(continued.continued_job_id)),
            ("position", Some(continued.position.to_string())),
            ("branch", Some(continued.branch_name)),
        ])?;
    }
    Ok(Exit::Done)
}

fn retry(
    client: &Client,
    screen: &mut Screen,
    job: &str,
    (resume, keys): (bool, &Keys),
    key: Option<String>,
) -> Result<Exit, Failure> {
    let secrets = submit::keys(keys)?;
    let resume = resume.then_some(true);
    let body = RetryJob { resume, secrets };
    let retried = once::call(client, key, |client| client.retry_with(job, &body))?;
    if !screen.json(&retried)? {
        screen.record(&[
            ("id", Some(retried.id)),
            ("retry of", Some(retried.original_job_id)),
            ("position", Some(retried.position.to_string())),
            ("branch", Some(retried.branch_name)),
        ])?;
    }
    Ok(Exit::Done)
}
