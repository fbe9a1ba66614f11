//! `agent-admin queue`, `health` and `repos`.

use agent_client::Client;
use agent_client::wire::{CredentialHealth, QueueHealth, VolumeHealth};
use agent_domain::Bytes;

use crate::args::ReposCommand;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Screen;

pub(crate) fn health(client: &Client, screen: &mut Screen) -> Result<Exit, Failure> {
    let health = client.health()?;
    if !screen.json(&health)? {
        let queue = health.queue;
        let claude = match (&health.claude.version, health.claude.authenticated) {
            (None, _) => "not found".into(),
            (Some(version), true) => format!("{version}, logged in"),
            (Some(version), false) => format!("{version}, not logged in"),
        };
        screen.record(&[
            ("status", Some(health.status)),
            (
                "running",
                Some(format!("{} of {}", queue.running, queue.max_concurrent)),
            ),
            ("queued", Some(parked(&queue))),
            ("claude", Some(claude)),
            ("checked", health.claude.checked_at),
            ("credentials", Some(credentials(&health.credentials))),
            ("disk", Some(disk(&health.disk))),
        ])?;
    }
    Ok(Exit::Done)
}

fn credentials(all: &[CredentialHealth]) -> String {
    let each = all.iter().map(|one| match &one.limited_until {
        Some(until) => format!("{} {} until {until}", one.name, one.status),
        None => format!("{} {}", one.name, one.status),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn parked(queue: &QueueHealth) -> String {
    let until = queue.parked_until.as_deref();
    let until = until.map_or_else(String::new, |until| format!(", the first until {until}"));
    format!("{} ({} parked{until})", queue.queued, queue.parked)
}

/// What is wrong with the volumes, or what is free on the one with the least room.
fn disk(volumes: &[VolumeHealth]) -> String {
    let wrong = volumes.iter().filter_map(|volume| {
        let problem = volume.problem.as_ref()?;
        Some(format!("{}: {problem}", volume.path))
    });
    let wrong: Vec<_> = wrong.collect();
    if !wrong.is_empty() {
        return wrong.join("; ");
    }
    let least = volumes.iter().filter_map(|volume| volume.free_bytes).min();
    least.map_or_else(
        || "not watched".into(),
        |free| format!("{} free", Bytes(free)),
    )
}

pub(crate) fn queue(
    client: &Client,
    screen: &mut Screen,
    limit: Option<u32>,
) -> Result<Exit, Failure> {
    let queue = client.queue(limit)?;
    if screen.json(&queue)? {
        return Ok(Exit::Done);
    }
    screen.line(&format!(
        "{} of {} running",
        queue.running.len(),
        queue.max_concurrent
    ))?;
    if !queue.running.is_empty() {
        let rows = queue.running.into_iter().map(|job| {
            let phase = job.phase.unwrap_or_default();
            vec![
                job.id,
                job.client_name,
                job.branch_name,
                phase,
                job.running_for,
            ]
        });
        screen.table(
            &["RUNNING", "CLIENT", "BRANCH", "PHASE", "FOR"],
            rows.collect(),
        )?;
    }
    if !queue.queued.is_empty() {
        let rows = queue.queued.into_iter().map(|job| {
            let place = match (job.position, job.not_before) {
                (Some(position), _) => position.to_string(),
                (None, Some(until)) => match job.reason {
                    Some(reason) => format!("{reason}, until {until}"),
                    None => format!("not before {until}"),
                },
                (None, None) => job.reason.unwrap_or_else(|| "-".into()),
            };
            vec![
                job.id,
                job.client_name,
                job.branch_name,
                place,
                job.created_at,
            ]
        });
        screen.table(
            &["QUEUED", "CLIENT", "BRANCH", "POSITION", "CREATED"],
            rows.collect(),
        )?;
    }
    Ok(Exit::Done)
}

pub(crate) fn repos(
    client: &Client,
    screen: &mut Screen,
    command: ReposCommand,
) -> Result<Exit, Failure> {
    let ReposCommand::Sync = command;
    let result = client.sync()?;
    let failed = result.synced.iter().any(|repo| !repo.success);
    if !screen.json(&result)? {
        let rows = result.synced.into_iter().map(|repo| {
            let outcome = if repo.success {
                "up to date".into()
            } else {
                repo.error.unwrap_or_default()
            };
            vec![format!("{}/{}", repo.github_org, repo.repo), outcome]
        });
        screen.table(&["REPOSITORY", "RESULT"], rows.collect())?;
    }
    Ok(if failed { Exit::Fault } else { Exit::Done })
}
