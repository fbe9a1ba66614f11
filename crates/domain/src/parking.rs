//! Jobs that wait for a time: what is remembered of them meanwhile.

use crate::transition::{Effect, Refused, Transition, ended, step};
use crate::{Facts, Job, Reason, Resume, State, Timestamp, iso_millis};

/// The attempt ends, and the job waits.
pub(crate) fn parked(
    job: &Job,
    until: Timestamp,
    reason: Reason,
    facts: &Facts,
    now: Timestamp,
) -> Transition {
    let state = State::Queued {
        not_before: Some(until),
        reason: Some(reason),
    };
    let effects = vec![Effect::Ready, Effect::DirectiveChanged];
    let mut next = step(job, state, now, "parked", effects);
    // What found no room was not begun: it says nothing about why runs are lost, and goes on where it
    // was to go on.
    if reason != Reason::DiskFull {
        next.job.lost_runs = Vec::new();
        let session = facts.session_id.as_ref().or(job.facts.session_id.as_ref());
        next.job.resume = session.and_then(|id| Resume::parked(id, job.resume.as_ref(), reason));
    }
    next.detail = Some(format!("{reason} until {}", iso_millis(until)));
    next
}

/// The job waits no longer.
pub(crate) fn unparked(job: &Job, now: Timestamp) -> Result<Transition, Refused> {
    let State::Queued {
        not_before: Some(_),
        reason,
    } = job.state
    else {
        return Err(Refused::Unfit(job.state.status()));
    };
    let state = State::Queued {
        not_before: None,
        reason,
    };
    let effects = vec![Effect::Ready, Effect::DirectiveChanged];
    Ok(step(job, state, now, "unparked", effects))
}

/// Only a queued job: one that runs has been given its money.
pub(crate) fn unaffordable(
    job: &Job,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<Transition, Refused> {
    if !matches!(job.state, State::Queued { .. }) {
        return Err(Refused::Unfit(job.state.status()));
    }
    let Some(until) = until else {
        let state = State::Failed {
            at: now,
            reason: Reason::Budget,
            error: "the job has cost as much as it may".to_owned(),
        };
        return Ok(ended(job, state, now, "failed"));
    };
    let state = State::Queued {
        not_before: Some(until),
        reason: Some(Reason::Budget),
    };
    let mut next = step(job, state, now, "parked", vec![]);
    next.detail = Some(format!("{} until {}", Reason::Budget, iso_millis(until)));
    Ok(next)
}
