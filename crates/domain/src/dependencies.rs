//! Jobs that wait for other jobs.

use crate::transition::{Effect, Refused, Transition, ended, step};
use crate::{Job, JobId, Reason, State, Status, Timestamp};

/// What is known of the jobs that a job waits for, once one of them has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// All of them are completed.
    Completed,
    /// One has ended in another way, so the job cannot be done.
    Ended {
        /// Which.
        job: JobId,
        /// How.
        status: Status,
    },
}

/// The job waits for others no longer.
pub(crate) fn awaited(job: &Job, awaited: Awaited, now: Timestamp) -> Result<Transition, Refused> {
    let State::Queued {
        not_before,
        reason: Some(Reason::WaitingForJobs),
    } = job.state
    else {
        return Err(Refused::Unfit(job.state.status()));
    };
    let Awaited::Ended { job: other, status } = awaited else {
        let state = State::Queued {
            not_before,
            reason: None,
        };
        let effects = vec![Effect::Ready, Effect::DirectiveChanged];
        return Ok(step(job, state, now, "dependencies_met", effects));
    };
    let error = format!("it was to begin when job {other} is completed, which has {status}");
    let state = State::Failed {
        at: now,
        reason: Reason::DependencyFailed,
        error: match status {
            Status::Cancelled => error.replace("has cancelled", "was cancelled"),
            Status::Queued | Status::Running | Status::Completed | Status::Failed => error,
        },
    };
    Ok(ended(job, state, now, "failed"))
}
