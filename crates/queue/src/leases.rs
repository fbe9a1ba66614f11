//! Leases that nobody renews any more: noticing them, and giving their jobs back to the queue.
//!
//! Silence is measured by this process's own monotonic clock, from the moment a lease was last
//! heard of or first seen. So the wall clock may be set, and differ between machines; and neither
//! the time in which no server was up counts, nor the time in which this process was stopped.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_domain::{Fence, Job, JobId, LOST_WAIT_MAX, Lease, State, Timestamp};
use agent_storage::HeldJob;
use tokio::time::Instant;

use crate::engine::Engine;

/// When each lease was last heard of. Only what is younger than this process is in it: the truth
/// about who holds what is in storage.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<JobId, Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    fence: Fence,
    until: Timestamp,
    heard: Instant,
}

/// A lease of which nothing was heard for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expired {
    /// The job.
    pub(crate) job: JobId,
    /// Which attempt of it.
    pub(crate) attempt: u32,
    /// Its proof.
    pub(crate) fence: Fence,
    /// Its end, as it was stored all that time.
    pub(crate) until: Timestamp,
}

/// What one look at all leases has found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Look {
    /// Those of which nothing was heard for too long.
    expired: Vec<Expired>,
    /// When the next one will be, unless it is heard of.
    next: Option<Instant>,
}

impl Leases {
    /// Notes that a lease was given out or renewed just now.
    pub(crate) fn heard(&self, job: &Job) {
        if let State::Running { lease_until, .. } = job.state {
            let known = Known {
                fence: job.fence,
                until: lease_until,
                heard: Instant::now(),
            };
            self.locked().insert(job.id, known);
        }
    }

    /// Notes that the holders of leases are living although that cannot be stored. Returns false,
    /// and notes nothing, unless it is known that all of them hold what they say.
    pub(crate) fn keep(&self, leases: &[Lease]) -> bool {
        let mut known = self.locked();
        let holds = |lease: &Lease| {
            let found = known.get(&lease.job);
            found.is_some_and(|known| known.fence == lease.fence)
        };
        if !leases.iter().all(holds) {
            return false;
        }
        let now = Instant::now();
        for lease in leases {
            if let Some(known) = known.get_mut(&lease.job) {
                known.heard = now;
            }
        }
        true
    }

    /// Compares what is stored with what was heard.
    fn look(&self, rows: &[HeldJob], now: Instant, patience: Duration) -> Look {
        let mut known = self.locked();
        let mut seen = HashMap::with_capacity(rows.len());
        let mut look = Look::default();
        for row in rows {
            let fresh = Known {
                fence: row.fence,
                until: row.lease_until,
                heard: now,
            };
            // Another server may have renewed it, or given it out again; what is known here may
            // also be newer than the row.
            let unchanged = |old: &Known| {
                old.fence > row.fence || (old.fence, old.until) == (row.fence, row.lease_until)
            };
            let entry = known.remove(&row.id).filter(unchanged).unwrap_or(fresh);
            seen.insert(row.id, entry);
            let ends = entry.heard + patience;
            if ends <= now {
                look.expired.push(Expired {
                    job: row.id,
                    attempt: row.attempt,
                    fence: entry.fence,
                    until: entry.until,
                });
            } else {
                look.next = Some(look.next.map_or(ends, |next| next.min(ends)));
            }
        }
        *known = seen;
        look
    }

    /// Lets every lease begin anew: nobody could be heard for a while.
    fn forgive(&self) {
        let now = Instant::now();
        for known in self.locked().values_mut() {
            known.heard = now;
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<JobId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends leases of which nothing is heard for longer than they last, until the engine stops.
pub(crate) async fn reap(engine: Engine) {
    let terms = engine.inner.config.lease;
    let mut planned = Instant::now();
    loop {
        tokio::select! {
            () = engine.inner.stop.cancelled() => return,
            () = tokio::time::sleep_until(planned) => {}
        }
        engine.call_misdated().await;
        let rows = engine.inner.store.held().await;
        let now = Instant::now();
        let late = now.saturating_duration_since(planned);
        planned = now + terms.margin();
        match rows {
            // Who was stopped or held up for that long has not heard what others said either.
            Ok(_) if late > terms.margin() => {
                tracing::warn!(seconds = late.as_secs(), "held up; every lease begins anew");
                engine.inner.leases.forgive();
            }
            // Its own worker may have left already, and nobody is to run what would be given away:
            // the next server finds out what became of it, and pays nothing twice.
            Ok(_) if engine.is_draining() => {}
            Ok(rows) => {
                let look = engine
                    .inner
                    .leases
                    .look(&rows, now, terms.coordinator_waits());
                planned = look.next.map_or(planned, |next| next.min(planned));
                if let Err(error) = engine.expire(look.expired).await {
                    tracing::warn!(%error, "expired leases not ended");
                }
            }
            Err(error) => tracing::warn!(%error, "leases not looked at"),
        }
    }
}

impl Engine {
    /// Lets jobs go on that wait until a time that a clock has given which was set back since.
    async fn call_misdated(&self) {
        let Ok(latest) = self.inner.clock.now().checked_add(LOST_WAIT_MAX) else {
            return;
        };
        match self.inner.store.promote_misdated(latest).await {
            Ok(0) => {}
            Ok(jobs) => {
                tracing::warn!(jobs, "the clock was set back; jobs go on that waited by it");
                self.inner.ready.notify_waiters();
            }
            Err(error) => tracing::warn!(%error, "jobs that wait by a wrong clock not looked for"),
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_domain::{LeaseTerms, Phase};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn row(fence: u64, until: i64) -> HeldJob {
        HeldJob {
            id: JobId::from_bytes([1; 16]),
            worker: None,
            attempt: 1,
            fence: Fence(fence),
            phase: Phase::Agent,
            lease_until: Timestamp::from_second(until).unwrap(),
        }
    }

    fn expires(leases: &Leases, row: HeldJob, now: Instant) -> bool {
        !leases.look(&[row], now, PATIENCE).expired.is_empty()
    }

    #[test]
    fn a_lease_expires_by_silence_and_not_by_the_wall_clock() {
        let (leases, begin) = (Leases::default(), Instant::now());
        // By the wall clock it ended in 1970, or ends in a hundred years: neither matters.
        for until in [1, 4_900_000_000] {
            let at = |seconds| begin + Duration::from_secs(seconds);
            assert!(!expires(&leases, row(1, until), at(0)));
            assert!(!expires(&leases, row(1, until), at(29)));
            assert!(expires(&leases, row(1, until), at(30)));
        }
    }

    #[test]
    fn a_renewal_by_anyone_begins_the_time_anew() {
        let (leases, begin) = (Leases::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(!expires(&leases, row(1, 50), at(0)));
        assert!(!expires(&leases, row(1, 60), at(30)), "renewed");
        assert!(!expires(&leases, row(1, 60), at(59)));
        assert!(!expires(&leases, row(2, 60), at(64)), "given out again");
        assert!(!expires(&leases, row(2, 60), at(93)));
        assert!(expires(&leases, row(2, 60), at(94)));
    }

    #[test]
    fn what_is_gone_from_storage_is_forgotten() {
        let (leases, now) = (Leases::default(), Instant::now());
        leases.look(&[row(1, 50)], now, PATIENCE);
        assert_eq!(leases.look(&[], now, PATIENCE), Look::default());
        assert!(leases.locked().is_empty());
    }

    #[test]
    fn the_next_look_is_due_when_the_first_lease_ends() {
        let (leases, now) = (Leases::default(), Instant::now());
        let look = leases.look(&[row(1, 50)], now, PATIENCE);
        assert_eq!(look.next, Some(now + PATIENCE));
    }

    #[test]
    fn only_the_known_holder_is_kept_without_storage() {
        let (leases, now) = (Leases::default(), Instant::now());
        let lease = |fence| Lease {
            job: JobId::from_bytes([1; 16]),
            attempt: 1,
            fence: Fence(fence),
            terms: LeaseTerms::DEFAULT,
        };
        assert!(!leases.keep(&[lease(1)]), "nothing is known");
        leases.look(&[row(2, 50)], now, PATIENCE);
        assert!(!leases.keep(&[lease(1)]), "another holds it");
        assert!(leases.keep(&[lease(2)]));
    }

    #[test]
    fn the_worker_gives_up_before_the_coordinator_does() {
        let terms = LeaseTerms::DEFAULT;
        assert_eq!(terms.heartbeat(), Duration::from_secs(10));
        assert_eq!(terms.worker_gives_up_after(), Duration::from_secs(20));
        assert_eq!(terms.coordinator_waits(), Duration::from_secs(30));
    }
}
