//! The state machine: from a job and an event to the next state and what follows from it.
//!
//! `queued -> running -> completed | failed | cancelled`, and `running -> queued` when it is
//! parked or its run was lost. Nothing else decides a job's state.

use crate::dependencies::{Awaited, awaited};
use crate::lost::{self, LOST_RUNS_MAX, LostRun};
use crate::parking::{parked, unaffordable, unparked, without_credential};
use crate::progress::{progressed, renewed};
use crate::{
    AtCap, Ending, Facts, Fence, Job, Lack, PaidBy, Phase, Priority, Reached, Reason, State,
    Status, Timestamp, WorkerId,
};

/// What there is to say of a job whose keys are gone.
pub const CREDENTIALS_LOST: &str = "the keys given with the job were kept in memory only, and are \
     gone with the server that had them: retry it with its secrets";

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker takes it from the queue.
    Claimed {
        /// Who.
        worker: WorkerId,
        /// When the worker's lease runs out.
        lease_until: Timestamp,
        /// What it runs on, where it brought no key of its own.
        paid_by: Option<PaidBy>,
    },
    /// The worker that held it before a restart takes up the same attempt again.
    Reclaimed {
        /// The worker's proof; from now on it needs a newer one.
        fence: Fence,
        /// When the worker's lease runs out.
        lease_until: Timestamp,
    },
    /// The worker that held it before a restart has found that no agent was ever started.
    Released {
        /// The worker's proof.
        fence: Fence,
    },
    /// Nothing was heard of the worker for longer than its lease lasts.
    LeaseExpired {
        /// The lease's proof.
        fence: Fence,
        /// The end of the lease when the silence began; one that was renewed since is living.
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
    /// It cannot begin for want of money.
    Unaffordable {
        /// The cap that is reached; `None`: its own budget is used up.
        cap: Option<Reached>,
        /// What becomes of it at a cap.
        at_cap: AtCap,
    },
    /// It cannot begin for want of a credential to run on.
    NoCredential(Lack),
    /// Someone wants it stopped.
    CancelRequested,
    /// Someone wants it to wait no longer.
    Unparked,
    /// Of the jobs it waits for enough have ended to know.
    Awaited(Awaited),
    /// Someone wants it to start earlier or later than it would.
    Reprioritized(Priority),
    /// The keys of its own that it brought are gone, with the server that had them in memory.
    CredentialsLost,
    /// The worker has ended the attempt.
    Finished {
        /// The worker's proof.
        fence: Fence,
        /// How it ended.
        ending: Ending,
        /// What it has found out.
        facts: Facts,
    },
    /// After its end, unfinished work of it was found and kept.
    Kept {
        /// Where.
        saved_ref: String,
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
    /// What there is to say about it, for people.
    pub detail: Option<String>,
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
        Event::Claimed {
            worker,
            lease_until,
            paid_by,
        } => claimed(job, worker, lease_until, paid_by, now),
        Event::Reclaimed { fence, lease_until } => reclaimed(job, fence, lease_until, now),
        Event::Released { fence } => released(job, fence, now),
        Event::LeaseExpired { fence, lease_until } => expired(job, fence, lease_until, now),
        Event::Renewed { fence, lease_until } => renewed(job, fence, lease_until, now),
        Event::Progressed {
            fence,
            phase,
            facts,
        } => progressed(job, fence, phase, facts, now),
        Event::Unaffordable { cap, at_cap } => unaffordable(job, cap, at_cap, now),
        Event::NoCredential(lack) => without_credential(job, lack, now),
        Event::CancelRequested => cancel(job, now),
        Event::Unparked => unparked(job, now),
        Event::Awaited(what) => awaited(job, what, now),
        Event::Reprioritized(priority) => reprioritized(job, priority, now),
        Event::CredentialsLost => credentials_lost(job, now),
        Event::Finished {
            fence,
            ending,
            facts,
        } => finished(job, fence, ending, facts, now),
        Event::Kept { saved_ref } => kept(job, saved_ref, now),
    }
}

fn kept(job: &Job, saved_ref: String, now: Timestamp) -> Result<Transition, Refused> {
    if !job.state.status().is_terminal() {
        return Err(Refused::Unfit(job.state.status()));
    }
    let mut next = step(job, job.state.clone(), now, "kept", vec![]);
    next.detail = Some(format!("unfinished work as {saved_ref}"));
    next.job.facts.saved_ref = Some(saved_ref);
    Ok(next)
}

fn claimed(
    job: &Job,
    worker: WorkerId,
    lease_until: Timestamp,
    paid_by: Option<PaidBy>,
    now: Timestamp,
) -> Result<Transition, Refused> {
    let State::Queued { not_before, reason } = job.state else {
        return Err(Refused::Unfit(job.state.status()));
    };
    if job.state.waits_for_others() || not_before.is_some_and(|at| !lost::is_due(at, reason, now)) {
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
    next.job.worker = Some(worker);
    next.job.paid_by = paid_by;
    // What an earlier attempt found out is not true of this one, save where its work was kept,
    // where it may lie still (a workspace can only be read with the commit it was made from), and
    // what was spent. A session that it goes on in is its own from the beginning.
    next.job.facts = Facts {
        session_id: job.resume.as_ref().map(|it| it.session_id.clone()),
        saved_ref: job.facts.saved_ref.clone(),
        base_commit: job.facts.base_commit.clone(),
        worktree_path: job.facts.worktree_path.clone(),
        cost: job.facts.cost,
        ..Facts::default()
    };
    Ok(next)
}

fn reclaimed(
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
    let mut next = step(job, state, now, "reclaimed", vec![]);
    next.job.fence = Fence(job.fence.0 + 1);
    Ok(next)
}

/// Back to the queue as if the attempt had not been: what it has cost is a little time.
fn released(job: &Job, fence: Fence, now: Timestamp) -> Result<Transition, Refused> {
    let (phase, cancelled_at) = held(job, fence)?;
    if let Some(requested_at) = cancelled_at {
        return Ok(cancelled(job, requested_at, now));
    }
    let state = State::Queued {
        not_before: None,
        reason: Some(Reason::Lost),
    };
    let effects = vec![Effect::Ready, Effect::DirectiveChanged];
    let mut next = step(job, state, now, "released", effects);
    next.detail = Some("no agent had been started yet".to_owned());
    // Whoever goes on in a session has found its workspace, with work in it.
    if phase != Phase::Fetching && job.resume.is_none() {
        next.job.facts = unmade(job);
    }
    Ok(next)
}

fn expired(
    job: &Job,
    fence: Fence,
    seen_until: Timestamp,
    now: Timestamp,
) -> Result<Transition, Refused> {
    let (phase, cancelled_at) = held(job, fence)?;
    if !matches!(job.state, State::Running { lease_until, .. } if lease_until == seen_until) {
        return Err(Refused::Stale);
    }
    if let Some(requested_at) = cancelled_at {
        return Ok(cancelled(job, requested_at, now));
    }
    let worker = job.worker.as_ref().map_or("its worker", |name| &name.0);
    let seen = format!("{worker} was not heard of any more, in phase {phase}");
    let mut next = lost(job, &seen, now);
    if phase == Phase::Fetching {
        // Nothing was done in the session yet.
        next.job.resume.clone_from(&job.resume);
    }
    if phase == Phase::Preparing {
        next.job.facts = unmade(job);
    }
    Ok(next)
}

/// The facts of a job in whose workspace no agent has worked: there is nothing to keep in it. Until
/// it is begun, the facts may still tell of the workspace of an earlier attempt.
fn unmade(job: &Job) -> Facts {
    Facts {
        base_commit: None,
        worktree_path: None,
        ..job.facts.clone()
    }
}

/// A run was lost: the job is tried again, unless too many were in a row.
fn lost(job: &Job, seen: &str, now: Timestamp) -> Transition {
    let run = LostRun::new(job.attempt, now, seen);
    let detail = Some(run.to_string());
    let mut lost_runs = job.lost_runs.clone();
    lost_runs.push(run);
    let own = job.spec.options.max_attempts;
    let most = own.and_then(|most| usize::try_from(most).ok());
    let mut next = if lost_runs.len() < most.unwrap_or(LOST_RUNS_MAX) {
        let wait = lost::wait_after(lost_runs.len(), job.id);
        let state = State::Queued {
            not_before: Some(now.checked_add(wait).unwrap_or(now)),
            reason: Some(Reason::Lost),
        };
        let effects = vec![Effect::Ready, Effect::DirectiveChanged];
        step(job, state, now, "requeued", effects)
    } else {
        let state = State::Failed {
            at: now,
            reason: Reason::Poison,
            error: lost::evidence(&lost_runs),
        };
        ended(job, state, now, "failed")
    };
    next.job.lost_runs = lost_runs;
    // Its agent may be what was lost in it.
    next.job.resume = None;
    next.detail = detail;
    next
}

fn cancel(job: &Job, now: Timestamp) -> Result<Transition, Refused> {
    match job.state {
        State::Queued { .. } => Ok(cancelled(job, now, now)),
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

/// It keeps its state: only whoever waits can start earlier.
fn reprioritized(job: &Job, priority: Priority, now: Timestamp) -> Result<Transition, Refused> {
    match job.state.status() {
        Status::Queued => {}
        status @ Status::Running => return Err(Refused::Unfit(status)),
        status @ (Status::Completed | Status::Failed | Status::Cancelled) => {
            return Err(Refused::Ended(status));
        }
    }
    let mut next = step(job, job.state.clone(), now, "reprioritized", vec![]);
    next.job.priority = priority;
    next.detail = Some(format!("from {} to {priority}", job.priority));
    Ok(next)
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
    let mut next = match (ending, cancelled_at) {
        // What is delivered cannot be called back: the truth is that it completed.
        (Ending::Completed, _) => ended(job, State::Completed { at: now }, now, "completed"),
        (_, Some(requested_at)) => cancelled(job, requested_at, now),
        (Ending::Cancelled, None) => cancelled(job, now, now),
        (Ending::Failed { reason, error }, None) => {
            let detail = Some(format!("{reason}: {error}"));
            let state = State::Failed {
                at: now,
                reason,
                error,
            };
            let mut next = ended(job, state, now, "failed");
            next.detail = detail;
            next
        }
        (Ending::Parked { until, reason }, None) => parked(job, until, reason, &facts, now),
        (Ending::Lost { error }, None) => lost(job, &error, now),
    };
    next.job.facts = next.job.facts.updated(facts);
    Ok(next)
}

/// Only a queued job fails by itself: an agent that runs has its keys already.
fn credentials_lost(job: &Job, now: Timestamp) -> Result<Transition, Refused> {
    let waits = matches!(job.state, State::Queued { .. });
    if !waits || !job.spec.secrets.any() {
        return Err(Refused::Unfit(job.state.status()));
    }
    let state = State::Failed {
        at: now,
        reason: Reason::CredentialsLost,
        error: CREDENTIALS_LOST.to_owned(),
    };
    Ok(ended(job, state, now, "failed"))
}

fn cancelled(job: &Job, requested_at: Timestamp, now: Timestamp) -> Transition {
    let state = State::Cancelled {
        at: now,
        requested_at,
    };
    ended(job, state, now, "cancelled")
}

/// A change to a state that is final.
pub(crate) fn ended(job: &Job, state: State, now: Timestamp, event: &'static str) -> Transition {
    let effects = vec![Effect::Callback, Effect::DirectiveChanged];
    let mut next = step(job, state, now, event, effects);
    next.job.lost_runs = Vec::new();
    next
}

/// Checks that the holder of `fence` holds the job; returns its phase and requested cancellation.
pub(crate) fn held(job: &Job, fence: Fence) -> Result<(Phase, Option<Timestamp>), Refused> {
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

pub(crate) fn step(
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
        detail: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ClientId, Continued, Delivery, JobId, JobSpec, PHASE_DETAIL, Period, RunOptions,
        SecretKinds, Usd, Whose,
    };

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
                base: None,
                metadata: None,
                options: RunOptions::default(),
                secrets: SecretKinds::default(),
                depends_on: Vec::new(),
            },
            retry_of: None,
            priority: Priority::default(),
            version: 0,
            attempt: 0,
            fence: Fence(0),
            worker: None,
            lost_runs: Vec::new(),
            resume: None,
            continues: None,
            paid_by: None,
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

    fn claim(lease_until: i64) -> Event {
        Event::Claimed {
            worker: WorkerId("w".into()),
            lease_until: at(lease_until),
            paid_by: None,
        }
    }

    fn running() -> Job {
        apply(&queued(), claim(40), at(10)).unwrap().job
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

    fn waiting() -> Job {
        let state = State::Queued {
            not_before: None,
            reason: Some(Reason::WaitingForJobs),
        };
        Job { state, ..queued() }
    }

    #[test]
    fn a_job_that_waits_for_others_begins_when_they_are_completed_and_not_before() {
        assert!(apply(&waiting(), claim(40), at(10)).is_err());
        assert!(apply(&waiting(), Event::Unparked, at(10)).is_err());
        let met = Event::Awaited(Awaited::Completed);
        let next = apply(&waiting(), met.clone(), at(11)).unwrap();
        assert_eq!(next.job.state, queued().state);
        assert!(next.effects.contains(&Effect::Ready));
        assert!(apply(&next.job, claim(40), at(12)).is_ok());
        for other in [&queued(), &running(), &next.job] {
            assert!(apply(other, met.clone(), at(12)).is_err());
        }
    }

    #[test]
    fn a_job_fails_when_one_it_waits_for_ends_otherwise() {
        for (status, word) in [
            (Status::Failed, "has failed"),
            (Status::Cancelled, "was cancelled"),
        ] {
            let job = JobId::from_bytes([9; 16]);
            let missed = Event::Awaited(Awaited::Ended { job, status });
            let next = apply(&waiting(), missed.clone(), at(11)).unwrap();
            let State::Failed { reason, error, .. } = next.job.state else {
                panic!("not failed")
            };
            assert_eq!(reason, Reason::DependencyFailed);
            assert!(
                error.contains(&job.to_string()) && error.ends_with(word),
                "{error}"
            );
            assert!(next.effects.contains(&Effect::Callback));
            assert!(apply(&running(), missed, at(12)).is_err());
        }
    }

    #[test]
    fn only_a_queued_job_gets_another_priority_and_stays_as_it_is_otherwise() {
        let higher = Priority::try_from(7).unwrap();
        let event = Event::Reprioritized(higher);
        let next = apply(&queued(), event.clone(), at(5)).unwrap();
        assert_eq!((next.job.priority, next.effects), (higher, vec![]));
        assert_eq!(next.job.state, queued().state);
        assert_eq!(next.detail.unwrap(), "from 0 to 7");
        let refused = apply(&running(), event.clone(), at(11));
        assert_eq!(refused, Err(Refused::Unfit(Status::Running)));
        let ended = apply(&queued(), Event::CancelRequested, at(5)).unwrap().job;
        let refused = apply(&ended, event, at(6));
        assert_eq!(refused, Err(Refused::Ended(Status::Cancelled)));
    }

    #[test]
    fn a_claim_begins_an_attempt_with_a_higher_fence() {
        let job = running();
        assert_eq!(
            (job.attempt, job.fence, job.started_at),
            (1, Fence(1), Some(at(10)))
        );
        assert_eq!(
            apply(&job, claim(50), at(11)),
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
        assert!(apply(&job, claim(0), at(99)).is_err());
        assert!(apply(&job, claim(0), at(100)).is_ok());
    }

    #[test]
    fn a_reclaim_keeps_the_attempt_and_makes_older_leases_stale() {
        let job = running();
        let again = apply(
            &job,
            Event::Reclaimed {
                fence: job.fence,
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

    fn lose(job: &Job) -> Transition {
        finish(
            job,
            Ending::Lost {
                error: "gone".into(),
            },
        )
        .unwrap()
    }

    /// Claims a waiting job as soon as it may be.
    fn again(job: &Job) -> Job {
        let State::Queued { not_before, .. } = job.state else {
            panic!("{:?}", job.state);
        };
        let now = not_before.unwrap_or(at(30));
        apply(job, claim(99), now).unwrap().job
    }

    #[test]
    fn what_attempts_that_did_not_deliver_have_cost_stays_spent() {
        let mut job = running();
        let cost = Some(Usd::from_nanos(25));
        job.facts.cost = cost;
        let lost = Event::Finished {
            fence: job.fence,
            ending: Ending::Lost {
                error: "gone".into(),
            },
            // What a worker says of it counts for nothing.
            facts: Facts {
                cost: Some(Usd::ZERO),
                ..Facts::default()
            },
        };
        job = again(&apply(&job, lost, at(20)).unwrap().job);
        assert_eq!(job.facts.cost, cost);
        let done = finish(&job, Ending::Completed).unwrap().job;
        assert_eq!(done.facts.cost, cost);
    }

    #[test]
    fn a_job_may_say_how_many_of_its_runs_may_be_lost() {
        for most in [1, 2, 10] {
            let mut job = running();
            job.spec.options.max_attempts = Some(most);
            for _ in 1..most {
                job = again(&lose(&job).job);
            }
            let lost = lose(&job).job;
            assert_eq!(lost.state.reason(), Some(Reason::Poison), "{most}");
        }
    }

    #[test]
    fn three_runs_lost_in_a_row_are_poison_and_the_error_names_them() {
        let mut job = running();
        for attempt in 1..3 {
            assert_eq!(job.attempt, attempt);
            job = lose(&job).job;
            assert_eq!(job.state.reason(), Some(Reason::Lost));
            let early = apply(&job, claim(99), at(20));
            assert_eq!(early, Err(Refused::Unfit(Status::Queued)), "it waits a bit");
            job = again(&job);
        }
        let ended = lose(&job);
        let State::Failed { reason, error, .. } = &ended.job.state else {
            panic!("{:?}", ended.job.state);
        };
        assert_eq!(*reason, Reason::Poison);
        for attempt in ["attempt 1 at", "attempt 2 at", "attempt 3 at"] {
            assert!(error.contains(attempt), "{error}");
        }
        assert!(ended.effects.contains(&Effect::Callback));
        assert!(ended.detail.unwrap().contains("gone"));
    }

    #[test]
    fn a_run_that_ends_otherwise_ends_the_row_of_lost_ones() {
        let job = again(&lose(&again(&lose(&running()).job)).job);
        assert_eq!(job.lost_runs.len(), 2);
        let ending = Ending::Parked {
            until: Some(at(50)),
            reason: Reason::UsageLimit,
        };
        let parked = finish(&job, ending).unwrap().job;
        assert_eq!(parked.lost_runs, []);
        let unbegun = Ending::Parked {
            until: Some(at(50)),
            reason: Reason::DiskFull,
        };
        let unbegun = finish(&job, unbegun).unwrap().job;
        assert_eq!(unbegun.lost_runs, job.lost_runs);
        let job = again(&lose(&again(&parked)).job);
        assert_eq!(job.state.status(), Status::Running);
    }

    #[test]
    fn attempts_themselves_are_not_counted() {
        let mut job = running();
        for _ in 0..10 {
            let released = Event::Released { fence: job.fence };
            job = apply(&job, released, at(20)).unwrap().job;
            assert_eq!(job.lost_runs, []);
            job = again(&job);
        }
        assert_eq!((job.attempt, job.fence), (11, Fence(11)));
        assert_eq!(lose(&job).job.state.status(), Status::Queued);
    }

    const SESSION: &str = "11111111-1111-4111-8111-11111111111a";

    fn park(job: &Job, reason: Reason) -> Job {
        let parked = Event::Finished {
            fence: job.fence,
            ending: Ending::Parked {
                until: Some(at(50)),
                reason,
            },
            facts: Facts {
                session_id: Some(SESSION.into()),
                base_commit: "0".repeat(40).parse().ok(),
                worktree_path: Some("/w".into()),
                ..Facts::default()
            },
        };
        apply(job, parked, at(20)).unwrap().job
    }

    fn enter(job: &Job, phase: Phase) -> Job {
        let entered = Event::Progressed {
            fence: job.fence,
            phase,
            facts: Facts::default(),
        };
        apply(job, entered, at(60)).unwrap().job
    }

    #[test]
    fn a_message_goes_on_with_what_was_not_pushed_where_it_was_kept() {
        let commit = |digit: &str| digit.repeat(40).parse().ok();
        let mut job = finish(&running(), Ending::Completed).unwrap().job;
        job.facts = Facts {
            session_id: Some(SESSION.into()),
            base_commit: commit("a"),
            head_commit: commit("b"),
            saved_ref: Some("refs/agent/x".into()),
            ..Facts::default()
        };
        let pushed = Continued::message(&job, Delivery::Branch).unwrap();
        assert_eq!((pushed.pushed, pushed.saved_ref), (commit("b"), None));
        let kept = Continued::message(&job, Delivery::None).unwrap();
        assert!(kept.expects(None).is_ok(), "the remote has no such branch");
        assert_eq!(kept.saved_ref.as_deref(), Some("refs/agent/x"));
    }

    #[test]
    fn what_only_holds_a_phase_up_is_told_apart_from_what_the_history_keeps() {
        let tell = |job: &Job, phase, facts| {
            let fence = job.fence;
            let event = Event::Progressed {
                fence,
                phase,
                facts,
            };
            apply(job, event, at(60)).unwrap()
        };
        let held_up = || Facts {
            phase_detail: Some("overloaded".into()),
            ..Facts::default()
        };
        let entered = tell(&running(), Phase::Agent, held_up());
        assert_eq!(entered.event, "agent", "it is another phase");
        let same = tell(&entered.job, Phase::Agent, Facts::default());
        assert_eq!(
            (same.event, &same.job.facts.phase_detail),
            (PHASE_DETAIL, &None)
        );
        let more = Facts {
            num_turns: Some(1),
            ..held_up()
        };
        let learned = tell(&same.job, Phase::Agent, more);
        assert_eq!(learned.event, "agent", "it is known more");
    }

    #[test]
    fn a_parked_job_goes_on_in_its_session_and_its_workspace() {
        let mut job = running();
        for times in [1, 2] {
            job = again(&park(&job, Reason::Api));
            let resume = job.resume.clone().unwrap();
            assert_eq!(
                (resume.session_id.as_str(), resume.retries),
                (SESSION, times)
            );
            assert_eq!(job.facts.session_id.as_deref(), Some(SESSION));
            assert!(job.facts.base_commit.is_some() && job.facts.worktree_path.is_some());
        }
        assert_eq!((job.attempt, job.lost_runs.len()), (3, 0));
        assert_eq!(
            again(&park(&job, Reason::UsageLimit))
                .resume
                .unwrap()
                .retries,
            0
        );
    }

    #[test]
    fn what_happens_before_the_session_goes_on_changes_nothing_about_it() {
        let job = again(&park(&running(), Reason::UsageLimit));
        let lease_until = at(99);
        let fence = job.fence;
        let expired = Event::LeaseExpired { fence, lease_until };
        let ending = Ending::Parked {
            until: Some(at(70)),
            reason: Reason::DiskFull,
        };
        let full = finish(&job, ending).unwrap().job;
        for waits in [
            apply(&job, Event::Released { fence }, at(90)).unwrap().job,
            apply(&job, expired, at(100)).unwrap().job,
            apply(
                &enter(&job, Phase::Agent),
                Event::Released { fence },
                at(90),
            )
            .unwrap()
            .job,
            full,
        ] {
            let next = again(&waits);
            assert_eq!(next.resume, job.resume);
            assert!(next.facts.base_commit.is_some(), "{:?}", waits.state);
        }
    }

    #[test]
    fn a_workspace_made_anew_and_a_lost_run_end_the_session() {
        let job = again(&park(&running(), Reason::UsageLimit));
        let anew = enter(&job, Phase::Preparing);
        assert_eq!((anew.resume, anew.facts.session_id), (None, None));
        assert_eq!(lose(&enter(&job, Phase::Agent)).job.resume, None);
    }

    #[test]
    fn a_job_that_waits_can_be_told_to_wait_no_longer() {
        let parked = park(&running(), Reason::UsageLimit);
        let next = apply(&parked, Event::Unparked, at(21)).unwrap().job;
        assert!(apply(&next, claim(99), at(21)).is_ok());
        assert_eq!(next.resume, parked.resume);
        let refused = apply(&next, Event::Unparked, at(22));
        assert_eq!(
            refused,
            Err(Refused::Unfit(Status::Queued)),
            "it does not wait"
        );
    }

    fn expire(job: &Job, lease_until: i64) -> Result<Transition, Refused> {
        let event = Event::LeaseExpired {
            fence: job.fence,
            lease_until: at(lease_until),
        };
        apply(job, event, at(90))
    }

    #[test]
    fn a_lease_that_was_renewed_meanwhile_does_not_expire() {
        let job = running();
        assert_eq!(expire(&job, 39), Err(Refused::Stale));
        let requeued = expire(&job, 40).unwrap();
        assert_eq!(requeued.job.state.reason(), Some(Reason::Lost));
        assert_eq!(requeued.job.lost_runs.len(), 1);
        assert!(requeued.detail.unwrap().contains("w was not heard of"));
        let late = Event::Finished {
            fence: job.fence,
            ending: Ending::Completed,
            facts: Facts::default(),
        };
        assert_eq!(apply(&requeued.job, late, at(91)), Err(Refused::Stale));
    }

    #[test]
    fn a_job_that_was_to_be_cancelled_does_not_come_back() {
        let asked = apply(&running(), Event::CancelRequested, at(15))
            .unwrap()
            .job;
        let released = Event::Released { fence: asked.fence };
        for ended in [expire(&asked, 40), apply(&asked, released, at(90))] {
            let ended = ended.unwrap();
            assert_eq!(ended.job.state.status(), Status::Cancelled);
            assert!(ended.effects.contains(&Effect::Callback));
        }
    }

    /// One job in each state a job can be in.
    fn every_state() -> Vec<Job> {
        let running = running();
        let asked = apply(&running, Event::CancelRequested, at(15)).unwrap().job;
        let failed = Ending::Failed {
            reason: Reason::Git,
            error: "no".into(),
        };
        let mut parked = queued();
        parked.state = State::Queued {
            not_before: Some(at(500)),
            reason: Some(Reason::Lost),
        };
        vec![
            queued(),
            parked,
            finish(&running, Ending::Completed).unwrap().job,
            finish(&running, failed).unwrap().job,
            finish(&running, Ending::Cancelled).unwrap().job,
            asked,
            running,
        ]
    }

    /// Every event, with the given proof.
    fn every_event(fence: Fence) -> Vec<Event> {
        let endings = [
            Ending::Completed,
            Ending::Cancelled,
            Ending::Failed {
                reason: Reason::Git,
                error: "no".into(),
            },
            Ending::Parked {
                until: Some(at(60)),
                reason: Reason::UsageLimit,
            },
            Ending::Lost {
                error: "gone".into(),
            },
        ];
        let lease_until = at(40);
        let facts = Facts::default();
        let mut events = vec![
            claim(70),
            Event::CancelRequested,
            Event::Unparked,
            Event::Reclaimed { fence, lease_until },
            Event::Released { fence },
            Event::LeaseExpired { fence, lease_until },
            Event::Renewed { fence, lease_until },
            Event::Progressed {
                fence,
                phase: Phase::Agent,
                facts: facts.clone(),
            },
        ];
        events.extend(endings.map(|ending| Event::Finished {
            fence,
            ending,
            facts: facts.clone(),
        }));
        events
    }

    #[test]
    fn every_event_in_every_state_is_refused_or_keeps_the_rules() {
        for job in every_state() {
            for stale in [true, false] {
                let fence = Fence(job.fence.0 - u64::from(stale && job.fence.0 > 0));
                let is_current = fence == job.fence && job.state.status() == Status::Running;
                for event in every_event(fence) {
                    let from_outside = matches!(
                        event,
                        Event::Claimed { .. } | Event::CancelRequested | Event::Unparked
                    );
                    let said = format!("{event:?} of {:?}", job.state);
                    match apply(&job, event, at(45)) {
                        Ok(next) => {
                            assert!(from_outside || is_current, "{said}");
                            assert!(!job.state.status().is_terminal(), "{said}");
                            assert_eq!(next.job.version, job.version + 1, "{said}");
                            assert!(next.job.fence >= job.fence, "{said}");
                            let ended = next.job.state.ended_at().is_some();
                            assert_eq!(next.effects.contains(&Effect::Callback), ended, "{said}");
                            let waits = next.job.state.status() == Status::Queued;
                            assert_eq!(next.effects.contains(&Effect::Ready), waits, "{said}");
                            assert_eq!((&next.job.spec, next.job.id), (&job.spec, job.id));
                        }
                        Err(Refused::Stale) => assert!(!from_outside && !is_current, "{said}"),
                        Err(Refused::Ended(status) | Refused::Unfit(status)) => {
                            assert!(from_outside, "{said}");
                            assert_eq!(status, job.state.status(), "{said}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_queued_job_whose_keys_are_gone_fails_and_calls_back() {
        let mut job = queued();
        let event = || Event::CredentialsLost;
        let refused = apply(&job, event(), at(5));
        assert_eq!(
            refused,
            Err(Refused::Unfit(Status::Queued)),
            "it brought none"
        );
        job.spec.secrets.git = true;
        let next = apply(&job, event(), at(5)).unwrap();
        assert_eq!(next.job.state.reason(), Some(Reason::CredentialsLost));
        assert!(next.effects.contains(&Effect::Callback));
        let mut running = running();
        running.spec.secrets.agent = true;
        let refused = apply(&running, event(), at(15));
        assert_eq!(refused, Err(Refused::Unfit(Status::Running)));
        assert!(apply(&next.job, event(), at(6)).is_err());
    }

    #[test]
    fn a_job_that_cannot_be_paid_waits_or_has_failed_and_one_that_runs_goes_on() {
        let cap = Reached {
            whose: Whose::Client,
            period: Period::Day,
            cap: Usd::ZERO,
            spent: Usd::ZERO,
            until: at(90),
        };
        let event = |cap, at_cap| Event::Unaffordable { cap, at_cap };
        let next = |cap, at_cap| apply(&queued(), event(cap, at_cap), at(15)).unwrap();
        let parked = next(Some(cap), AtCap::Wait);
        assert_eq!(parked.job.state.reason(), Some(Reason::Budget));
        assert!(parked.detail.unwrap().contains("may cost $0 a day"));
        assert!(apply(&parked.job, claim(99), at(89)).is_err());
        assert!(apply(&parked.job, claim(99), at(90)).is_ok());
        for (cap, at_cap, why) in [
            (None, AtCap::Wait, "as much as it may"),
            (Some(cap), AtCap::Fail, "may cost $0 a day"),
        ] {
            let failed = next(cap, at_cap);
            assert!(failed.effects.contains(&Effect::Callback));
            let State::Failed { reason, error, .. } = failed.job.state else {
                panic!("{:?}", failed.job.state);
            };
            assert_eq!(reason, Reason::Budget);
            assert!(error.contains(why), "{error}");
        }
        let refused = apply(&running(), event(None, AtCap::Wait), at(15));
        assert_eq!(refused, Err(Refused::Unfit(Status::Running)));
    }

    #[test]
    fn work_found_after_the_end_is_noted_and_changes_nothing_else() {
        let found = Event::Kept {
            saved_ref: "refs/agent/x".into(),
        };
        let refused = apply(&running(), found.clone(), at(30));
        assert_eq!(refused, Err(Refused::Unfit(Status::Running)));
        let ended = finish(&running(), Ending::Cancelled).unwrap().job;
        let next = apply(&ended, found, at(30)).unwrap();
        assert_eq!(next.job.facts.saved_ref.as_deref(), Some("refs/agent/x"));
        assert_eq!((&next.job.state, next.effects.len()), (&ended.state, 0));
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
