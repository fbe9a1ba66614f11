//! The state machine: from a job and an event to the next state and what follows from it.
//!
//! `queued -> running -> completed | failed | cancelled`, and `running -> queued` when it is
//! parked or its worker was lost. Nothing else decides a job's state.

use crate::{Ending, Facts, Fence, Job, Phase, Reason, State, Status, Timestamp};

/// Runs that may be lost before the job is given up.
const LOST_RUNS_MAX: u32 = 3;

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker takes it from the queue.
    Claimed {
        /// When the worker's lease runs out.
        lease_until: Timestamp,
    },
    /// The worker that held it before a restart takes up the same attempt again.
    Reclaimed {
        /// When the worker's lease runs out.
        lease_until: Timestamp,
    },
    /// The worker is still there.
    Renewed {
        /// The worker's proof.
        fence: Fence,
        /// When its lease now runs out.
        lease_until: Timestamp,
    },
    /// The worker has come further.
    Progressed {
        /// The worker's proof.
        fence: Fence,
        /// What it does now.
        phase: Phase,
        /// What it has found out.
        facts: Facts,
    },
    /// Someone wants it stopped.
    CancelRequested,
    /// The worker has ended the attempt.
    Finished {
        /// The worker's proof.
        fence: Fence,
        /// How it ended.
        ending: Ending,
        /// What it has found out.
        facts: Facts,
    },
}

/// What has to happen together with a change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The job has ended: its callback, if it has one, is due.
    Callback,
    /// Whoever watches what is to be done about the job must look again.
    DirectiveChanged,
    /// There is something to claim.
    Ready,
}

/// The next state of a job, and what follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The job as it is to be stored; its version is one more than before.
    pub job: Job,
    /// What follows.
    pub effects: Vec<Effect>,
    /// A word for the job's history.
    pub event: &'static str,
}

/// Why an event does not fit a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Whoever sent it holds no valid lease.
    #[error("the lease is no longer valid")]
    Stale,
    /// The job has ended.
    #[error("job already {0}")]
    Ended(Status),
    /// The job is not in a state in which this can happen.
    #[error("job is {0}")]
    Unfit(Status),
}

/// Applies `event` to `job`.
pub fn apply(job: &Job, event: Event, now: Timestamp) -> Result<Transition, Refused> {
    match event {
        Event::Claimed { lease_until } => claimed(job, lease_until, now),
        Event::Reclaimed { lease_until } => reclaimed(job, lease_until, now),
        Event::Renewed { fence, lease_until } => {
            let (phase, cancel_requested_at) = held(job, fence)?;
            let state = State::Running {
                phase,
                lease_until,
                cancel_requested_at,
            };
            Ok(step(job, state, now, "renewed", vec![]))
        }
        Event::Progressed {
            fence,
            phase,
            facts,
        } => progressed(job, fence, phase, facts, now),
        Event::CancelRequested => cancel(job, now),
        Event::Finished {
            fence,
            ending,
            facts,
        } => finished(job, fence, ending, facts, now),
    }
}

fn claimed(job: &Job, lease_until: Timestamp, now: Timestamp) -> Result<Transition, Refused> {
    let State::Queued { not_before, .. } = job.state else {
        return Err(Refused::Unfit(job.state.status()));
    };
    if not_before.is_some_and(|at| at > now) {
        return Err(Refused::Unfit(Status::Queued));
    }
    let state = State::Running {
        phase: Phase::Fetching,
        lease_until,
        cancel_requested_at: None,
    };
    let mut next = step(job, state, now, "claimed", vec![]);
    next.job.attempt += 1;
    next.job.fence = Fence(job.fence.0 + 1);
    next.job.started_at = job.started_at.or(Some(now));
    // What an earlier attempt found out is not true of this one, save where its work was kept.
    next.job.facts = Facts {
        saved_ref: job.facts.saved_ref.clone(),
        ..Facts::default()
    };
    Ok(next)
}

fn reclaimed(job: &Job, until: Timestamp, now: Timestamp) -> Result<Transition, Refused> {
    let State::Running {
        phase,
        cancel_requested_at,
        ..
    } = job.state
    else {
        return Err(Refused::Unfit(job.state.status()));
    };
    let state = State::Running {
        phase,
        lease_until: until,
        cancel_requested_at,
    };
    let mut next = step(job, state, now, "reclaimed", vec![]);
    next.job.fence = Fence(job.fence.0 + 1);
    Ok(next)
}

fn progressed(
    job: &Job,
    fence: Fence,
    phase: Phase,
    facts: Facts,
    now: Timestamp,
) -> Result<Transition, Refused> {
    let (_, cancel_requested_at) = held(job, fence)?;
    let State::Running { lease_until, .. } = job.state else {
        return Err(Refused::Stale);
    };
    let state = State::Running {
        phase,
        lease_until,
        cancel_requested_at,
    };
    let mut next = step(job, state, now, phase.as_str(), vec![]);
    next.job.facts = next.job.facts.updated(facts);
    Ok(next)
}

fn cancel(job: &Job, now: Timestamp) -> Result<Transition, Refused> {
    match job.state {
        State::Queued { .. } => {
            let state = State::Cancelled {
                at: now,
                requested_at: now,
            };
            Ok(step(
                job,
                state,
                now,
                "cancelled",
                vec![Effect::Callback, Effect::DirectiveChanged],
            ))
        }
        State::Running {
            phase,
            lease_until,
            cancel_requested_at,
        } => {
            let cancel_requested_at = cancel_requested_at.or(Some(now));
            let state = State::Running {
                phase,
                lease_until,
                cancel_requested_at,
            };
            Ok(step(
                job,
                state,
                now,
                "cancel_requested",
                vec![Effect::DirectiveChanged],
            ))
        }
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => {
            Err(Refused::Ended(job.state.status()))
        }
    }
}

fn finished(
    job: &Job,
    fence: Fence,
    ending: Ending,
    facts: Facts,
    now: Timestamp,
) -> Result<Transition, Refused> {
    let (_, cancelled_at) = held(job, fence)?;
    // What is still at work matters more than that its end was asked for.
    let cancelled_at = cancelled_at.filter(|_| !ending.leaves_processes());
    let (state, event, mut effects) = match (ending, cancelled_at) {
        // What is delivered cannot be called back: the truth is that it completed.
        (Ending::Completed, _) => (
            State::Completed { at: now },
            "completed",
            vec![Effect::Callback],
        ),
        (_, Some(requested_at)) => (
            State::Cancelled {
                at: now,
                requested_at,
            },
            "cancelled",
            vec![Effect::Callback],
        ),
        (Ending::Cancelled, None) => (
            State::Cancelled {
                at: now,
                requested_at: now,
            },
            "cancelled",
            vec![Effect::Callback],
        ),
        (Ending::Failed { reason, error }, None) => (
            State::Failed {
                at: now,
                reason,
                error,
            },
            "failed",
            vec![Effect::Callback],
        ),
        (Ending::Parked { until, reason }, None) => {
            let state = State::Queued {
                not_before: Some(until),
                reason: Some(reason),
            };
            (state, "parked", vec![Effect::Ready])
        }
        (Ending::Lost { .. }, None) if job.attempt < LOST_RUNS_MAX => {
            let state = State::Queued {
                not_before: None,
                reason: Some(Reason::Lost),
            };
            (state, "requeued", vec![Effect::Ready])
        }
        (Ending::Lost { error }, None) => {
            let state = State::Failed {
                at: now,
                reason: Reason::Lost,
                error,
            };
            (state, "failed", vec![Effect::Callback])
        }
    };
    effects.push(Effect::DirectiveChanged);
    let mut next = step(job, state, now, event, effects);
    next.job.facts = next.job.facts.updated(facts);
    Ok(next)
}

/// Checks that the holder of `fence` holds the job; returns its phase and requested cancellation.
fn held(job: &Job, fence: Fence) -> Result<(Phase, Option<Timestamp>), Refused> {
    let State::Running {
        phase,
        cancel_requested_at,
        ..
    } = job.state
    else {
        return Err(Refused::Stale);
    };
    if job.fence == fence {
        Ok((phase, cancel_requested_at))
    } else {
        Err(Refused::Stale)
    }
}

fn step(
    job: &Job,
    state: State,
    now: Timestamp,
    event: &'static str,
    effects: Vec<Effect>,
) -> Transition {
    let job = Job {
        state,
        version: job.version + 1,
        updated_at: now,
        ..job.clone()
    };
    Transition {
        job,
        effects,
        event,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientId, JobId, JobSpec, RunOptions};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn queued() -> Job {
        Job {
            id: JobId::from_bytes([1; 16]),
            client_id: ClientId::from_bytes([2; 16]),
            spec: JobSpec {
                prompt: "do".into(),
                branch: "b".parse().unwrap(),
                title: None,
                os_feature_id: None,
                callback_url: None,
                options: RunOptions::default(),
            },
            retry_of: None,
            version: 0,
            attempt: 0,
            fence: Fence(0),
            state: State::Queued {
                not_before: None,
                reason: None,
            },
            facts: Facts::default(),
            created_at: at(0),
            started_at: None,
            updated_at: at(0),
        }
    }

    fn running() -> Job {
        apply(
            &queued(),
            Event::Claimed {
                lease_until: at(40),
            },
            at(10),
        )
        .unwrap()
        .job
    }

    fn finish(job: &Job, ending: Ending) -> Result<Transition, Refused> {
        let fence = job.fence;
        apply(
            job,
            Event::Finished {
                fence,
                ending,
                facts: Facts::default(),
            },
            at(20),
        )
    }

    #[test]
    fn a_claim_begins_an_attempt_with_a_higher_fence() {
        let job = running();
        assert_eq!(
            (job.attempt, job.fence, job.started_at),
            (1, Fence(1), Some(at(10)))
        );
        assert_eq!(
            apply(
                &job,
                Event::Claimed {
                    lease_until: at(50)
                },
                at(11)
            ),
            Err(Refused::Unfit(Status::Running))
        );
    }

    #[test]
    fn a_parked_job_is_not_claimed_before_its_time() {
        let mut job = queued();
        job.state = State::Queued {
            not_before: Some(at(100)),
            reason: Some(Reason::UsageLimit),
        };
        assert!(apply(&job, Event::Claimed { lease_until: at(0) }, at(99)).is_err());
        assert!(apply(&job, Event::Claimed { lease_until: at(0) }, at(100)).is_ok());
    }

    #[test]
    fn a_reclaim_keeps_the_attempt_and_makes_older_leases_stale() {
        let job = running();
        let again = apply(
            &job,
            Event::Reclaimed {
                lease_until: at(60),
            },
            at(30),
        )
        .unwrap()
        .job;
        assert_eq!((again.attempt, again.fence), (1, Fence(2)));
        let late = Event::Finished {
            fence: Fence(1),
            ending: Ending::Completed,
            facts: Facts::default(),
        };
        assert_eq!(apply(&again, late, at(31)), Err(Refused::Stale));
    }

    #[test]
    fn a_queued_job_is_cancelled_at_once_and_calls_back() {
        let next = apply(&queued(), Event::CancelRequested, at(5)).unwrap();
        assert_eq!(next.job.state.status(), Status::Cancelled);
        assert!(next.effects.contains(&Effect::Callback));
    }

    #[test]
    fn a_running_job_stays_running_until_its_worker_reports() {
        let asked = apply(&running(), Event::CancelRequested, at(15)).unwrap();
        assert_eq!(asked.job.state.status(), Status::Running);
        let ending = Ending::Failed {
            reason: Reason::AgentFailed,
            error: "exit 143".into(),
        };
        let ended = finish(&asked.job, ending).unwrap().job;
        assert_eq!(
            ended.state,
            State::Cancelled {
                at: at(20),
                requested_at: at(15)
            }
        );
    }

    #[test]
    fn a_cancelled_job_of_which_something_lives_on_has_failed() {
        let asked = apply(&running(), Event::CancelRequested, at(15)).unwrap();
        let ended = finish(&asked.job, crate::unkillable(&[7])).unwrap().job;
        let State::Failed { reason, error, .. } = ended.state else {
            panic!("{:?}", ended.state)
        };
        assert_eq!(reason, Reason::Unkillable);
        assert!(error.contains('7'), "{error}");
    }

    #[test]
    fn work_that_was_delivered_before_the_cancellation_took_hold_is_completed() {
        let asked = apply(&running(), Event::CancelRequested, at(15)).unwrap();
        let ended = finish(&asked.job, Ending::Completed).unwrap();
        assert_eq!(ended.job.state.status(), Status::Completed);
    }

    #[test]
    fn an_ended_job_changes_no_more() {
        let ended = finish(&running(), Ending::Completed).unwrap().job;
        assert_eq!(
            apply(&ended, Event::CancelRequested, at(30)),
            Err(Refused::Ended(Status::Completed))
        );
        assert_eq!(finish(&ended, Ending::Completed), Err(Refused::Stale));
    }

    #[test]
    fn a_lost_run_is_tried_again_twice() {
        let mut job = running();
        for attempt in 1..3 {
            assert_eq!(job.attempt, attempt);
            job = finish(
                &job,
                Ending::Lost {
                    error: "gone".into(),
                },
            )
            .unwrap()
            .job;
            assert_eq!(job.state.status(), Status::Queued);
            job = apply(
                &job,
                Event::Claimed {
                    lease_until: at(99),
                },
                at(30),
            )
            .unwrap()
            .job;
        }
        let ended = finish(
            &job,
            Ending::Lost {
                error: "gone".into(),
            },
        )
        .unwrap();
        assert_eq!(ended.job.state.reason(), Some(Reason::Lost));
        assert!(ended.effects.contains(&Effect::Callback));
    }

    #[test]
    fn every_change_counts_the_version_up_by_one() {
        let job = running();
        assert_eq!(job.version, 1);
        let next = apply(
            &job,
            Event::Renewed {
                fence: job.fence,
                lease_until: at(70),
            },
            at(40),
        )
        .unwrap();
        assert_eq!(next.job.version, 2);
    }
}
