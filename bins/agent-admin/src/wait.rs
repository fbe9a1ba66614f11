//! `agent-admin jobs wait`: until a job has ended, through restarts of the server.

use std::thread::sleep;
use std::time::{Duration, Instant};

use agent_client::wire::JobDetails;
use agent_client::{Client, ClientError};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Screen;

/// First pause between two looks, doubled up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause: what a person hardly notices at the end of a job of minutes.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a server may be away before waiting for it makes no sense.
pub(crate) const AWAY_MAX: Duration = Duration::from_mins(1);

pub(crate) fn run(
    client: &Client,
    screen: &mut Screen,
    job: &str,
    timeout: Option<Duration>,
) -> Result<Exit, Failure> {
    let ended = until_ended(client, job, timeout)?;
    if !screen.json(&ended)? {
        screen.line(&summary(&ended))?;
    }
    Ok(Exit::of_job(&ended.status))
}

/// Whether a job with this status changes no more.
pub(crate) fn is_ended(status: &str) -> bool {
    !matches!(status, "queued" | "running")
}

fn until_ended(
    client: &Client,
    job: &str,
    timeout: Option<Duration>,
) -> Result<JobDetails, Failure> {
    let begun = Instant::now();
    let mut pause = PAUSE_MIN;
    let mut seen = begun;
    let mut status = "not known".to_owned();
    loop {
        match client.job(job) {
            Ok(details) if is_ended(&details.status) => return Ok(details),
            Ok(details) => {
                status = details.status;
                seen = Instant::now();
            }
            Err(error) if may_come_back(&error, seen.elapsed()) => {}
            Err(error) => return Err(error.into()),
        }
        let left = timeout.map_or(Duration::MAX, |limit| limit.saturating_sub(begun.elapsed()));
        if left.is_zero() {
            return Err(Failure::WaitedTooLong {
                job: job.to_owned(),
                status,
            });
        }
        sleep(pause.min(left));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether a server that does not answer may just be restarting.
pub(crate) fn may_come_back(error: &ClientError, away: Duration) -> bool {
    error.is_transient() && away < AWAY_MAX
}

fn summary(job: &JobDetails) -> String {
    match job.status.as_str() {
        "completed" => match (&job.pr_url, job.files_changed) {
            (Some(url), Some(files)) => format!("completed: {url} ({files} files changed)"),
            (Some(url), None) => format!("completed: {url}"),
            (None, Some(0)) => format!("completed: nothing changed, branch {}", job.branch_name),
            (None, _) => format!("completed: branch {}", job.branch_name),
        },
        "failed" => format!(
            "failed ({}): {}",
            job.reason.as_deref().unwrap_or("no reason given"),
            job.error.as_deref().unwrap_or("no message")
        ),
        other => other.to_owned(),
    }
}
