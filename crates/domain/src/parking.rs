//! Jobs that wait for a time: what is remembered of them meanwhile.

use crate::transition::{Effect, Refused, Transition, ended, step};
use crate::{AtCap, Facts, Job, Lack, Reached, Reason, Resume, State, Timestamp, iso_millis};

/// The attempt ends, and the job waits.
pub(crate) fn parked(
    job: &Job,
    until: Option<Timestamp>,
    reason: Reason,
    facts: &Facts,
    now: Timestamp,
) -> Transition {
    let effects = vec![Effect::Ready, Effect::DirectiveChanged];
    let mut next = waiting(job, until, reason, now, effects);
    // What found no room was not begun: it says nothing about why runs are lost, and goes on where it
    // was to go on.
    if reason != Reason::DiskFull {
        next.job.lost_runs = Vec::new();
        let session = facts.session_id.as_ref().or(job.facts.session_id.as_ref());
        next.job.resume = session.and_then(|id| Resume::parked(id, job.resume.as_ref(), reason));
    }
    next
}

/// Back in the queue, or still in it, until that time; without one until somebody lets it go on.
fn waiting(
    job: &Job,
    until: Option<Timestamp>,
    reason: Reason,
    now: Timestamp,
    effects: Vec<Effect>,
) -> Transition {
    let state = State::Queued {
        not_before: until,
        reason: Some(reason),
    };
    let mut next = step(job, state, now, "parked", effects);
    let until = until.map_or_else(|| "released".to_owned(), iso_millis);
    next.detail = Some(format!("{reason} until {until}"));
    next
}

/// The job waits no longer.
pub(crate) fn unparked(job: &Job, now: Timestamp) -> Result<Transition, Refused> {
    let (State::Queued {
        not_before: Some(_),
        reason,
    }
    | State::Queued {
        not_before: None,
        reason: reason @ Some(Reason::Auth | Reason::Billing),
    }) = job.state
    else {
        return Err(Refused::Unfit(job.state.status()));
    };
    // What it waited for without a time is over.
    let reason = reason.filter(|reason| !reason.is_of_login());
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
    cap: Option<Reached>,
    at_cap: AtCap,
    now: Timestamp,
) -> Result<Transition, Refused> {
    if !matches!(job.state, State::Queued { .. }) {
        return Err(Refused::Unfit(job.state.status()));
    }
    let error = match (cap, at_cap) {
        (Some(cap), AtCap::Wait) => return Ok(waits_for_money(job, cap, now)),
        (Some(cap), AtCap::Fail) => cap.to_string(),
        (None, _) => "the job has cost as much as it may".to_owned(),
    };
    let state = State::Failed {
        at: now,
        reason: Reason::Budget,
        error,
    };
    Ok(ended(job, state, now, "failed"))
}

fn waits_for_money(job: &Job, cap: Reached, now: Timestamp) -> Transition {
    let mut next = waiting(job, Some(cap.until), Reason::Budget, now, vec![]);
    next.detail = Some(format!("{}: {cap}", Reason::Budget));
    next
}

/// Only a queued job: one that runs has its credential.
pub(crate) fn without_credential(
    job: &Job,
    lack: Lack,
    now: Timestamp,
) -> Result<Transition, Refused> {
    if !matches!(job.state, State::Queued { .. }) {
        return Err(Refused::Unfit(job.state.status()));
    }
    match lack {
        Lack::Until(until) => Ok(waiting(job, Some(until), Reason::UsageLimit, now, vec![])),
        Lack::Login(reason) => Ok(waiting(job, None, reason, now, vec![])),
        Lack::ForGood { reason, error } => {
            let detail = format!("{reason}: {error}");
            let state = State::Failed {
                at: now,
                reason,
                error,
            };
            let mut next = ended(job, state, now, "failed");
            next.detail = Some(detail);
            Ok(next)
        }
    }
}
