//! What happens to a job while it runs.

use crate::transition::{Refused, Transition, held, step};
use crate::{Facts, Fence, Job, Phase, State, Timestamp};

/// [`Transition::event`] of a lease that was renewed: nothing for the job's history.
pub const RENEWED: &str = "renewed";
/// [`Transition::event`] of a job whose phase is only held up, or no longer: nothing for its history.
pub const PHASE_DETAIL: &str = "phase_detail";

/// The worker is still there.
pub(crate) fn renewed(
    job: &Job,
    fence: Fence,
    lease_until: Timestamp,
    now: Timestamp,
) -> Result<Transition, Refused> {
    let (phase, cancel_requested_at) = held(job, fence)?;
    let state = State::Running {
        phase,
        lease_until,
        cancel_requested_at,
    };
    Ok(step(job, state, now, RENEWED, vec![]))
}

/// The worker has come further, or says what holds it up.
pub(crate) fn progressed(
    job: &Job,
    fence: Fence,
    phase: Phase,
    facts: Facts,
    now: Timestamp,
) -> Result<Transition, Refused> {
    let (was, cancel_requested_at) = held(job, fence)?;
    let State::Running { lease_until, .. } = job.state else {
        return Err(Refused::Stale);
    };
    let state = State::Running {
        phase,
        lease_until,
        cancel_requested_at,
    };
    let facts = job.facts.clone().updated(facts);
    let known = Facts {
        phase_detail: facts.phase_detail.clone(),
        ..job.facts.clone()
    };
    let event = if was == phase && known == facts {
        PHASE_DETAIL
    } else {
        phase.as_str()
    };
    let mut next = step(job, state, now, event, vec![]);
    next.job.facts = facts;
    // A workspace that is made anew is one in which no session was at work.
    if phase == Phase::Preparing {
        next.job.resume = None;
        next.job.facts.session_id = None;
    }
    Ok(next)
}
