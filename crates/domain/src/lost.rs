//! Lost runs: what is remembered of them, when the job is tried again, and when it is given up.
//!
//! A run is lost when its worker or its supervisor is, through no fault that anyone can name. The
//! job is tried again at no cost of its own; but a job whose runs are lost one after the other is
//! likely to be what kills them.

use std::fmt;
use std::time::Duration;

use crate::{Backoff, Ids, JobId, Reason, Timestamp, iso_millis, jittered};

/// Runs lost in a row after which a job is given up, unless it says otherwise.
pub const LOST_RUNS_MAX: usize = 3;
/// Longest text kept of what was seen of a lost run, in characters.
const SEEN_CHARS: usize = 300;
/// No job whose run was lost is made to wait for longer than this.
pub const LOST_WAIT_MAX: Duration = Duration::from_secs(10);

/// A run that was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRun {
    /// Which attempt it was.
    pub attempt: u32,
    /// When its loss was noticed.
    pub at: Timestamp,
    /// What was seen of it, a clause for people.
    pub seen: String,
}

impl LostRun {
    /// Remembers a run; a long text is cut.
    pub fn new(attempt: u32, at: Timestamp, seen: &str) -> Self {
        let seen = seen.chars().take(SEEN_CHARS).collect();
        Self { attempt, at, seen }
    }
}

impl fmt::Display for LostRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempt, at, seen } = self;
        write!(f, "attempt {attempt} at {}: {seen}", iso_millis(*at))
    }
}

/// Why a job is given up whose last runs were all lost.
pub(crate) fn evidence(runs: &[LostRun]) -> String {
    let runs: Vec<String> = runs.iter().map(ToString::to_string).collect();
    format!(
        "{} runs were lost in a row: {}",
        runs.len(),
        runs.join("; ")
    )
}

/// How long a job waits that has lost `lost` runs in a row. The spread comes from the job's own
/// id, so jobs that were lost together do not come back together.
pub(crate) fn wait_after(lost: usize, job: JobId) -> Duration {
    let waits = Backoff::LOST.0.len();
    let wait = Backoff::LOST
        .wait_after(lost.min(waits))
        .unwrap_or_default();
    jittered(wait, &Own(job))
}

/// Whether a job that waits until `not_before` for this reason may start. After a lost run it waits
/// for seconds only, so a time further off was given by a clock that has been set back since.
pub(crate) fn is_due(not_before: Timestamp, reason: Option<Reason>, now: Timestamp) -> bool {
    let is_misdated = reason == Some(Reason::Lost)
        && now
            .checked_add(LOST_WAIT_MAX)
            .is_ok_and(|latest| not_before > latest);
    not_before <= now || is_misdated
}

/// The random bytes of a job's id, in place of fresh ones.
struct Own(JobId);

impl Ids for Own {
    fn fresh(&self) -> [u8; 16] {
        self.0.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_evidence_names_every_run() {
        let at = Timestamp::from_second(1_736_251_200).unwrap();
        let runs = [
            LostRun::new(2, at, "its supervisor died"),
            LostRun::new(3, at, &"x".repeat(1000)),
        ];
        let text = evidence(&runs);
        let expected = "2 runs were lost in a row: attempt 2 at 2025-01-07T12:00:00.000Z: its \
                        supervisor died; attempt 3 at 2025-01-07T12:00:00.000Z: xxx";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.len() < 500, "{text}");
    }

    #[test]
    fn jobs_lost_together_come_back_apart() {
        let waits: Vec<_> = (0..=255)
            .map(|n| wait_after(1, JobId::from_bytes([n; 16])).as_millis())
            .collect();
        assert!(waits.iter().all(|wait| (800..=1200).contains(wait)));
        assert!(waits.iter().max() > Some(&1150) && waits.iter().min() < Some(&850));
        assert!(wait_after(2, JobId::from_bytes([0; 16])) >= Duration::from_secs(4));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_hold_up_a_job_whose_run_was_lost() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let lost = Some(Reason::Lost);
        for (now, due) in [(100, true), (99, false), (91, false), (89, true), (1, true)] {
            assert_eq!(is_due(at(100), lost, at(now)), due, "{now}");
        }
        assert!(!is_due(at(100), Some(Reason::UsageLimit), at(1)));
    }

    #[test]
    fn no_wait_is_longer_than_the_longest() {
        let waits = (1..=20).map(|lost| wait_after(lost, JobId::from_bytes([255; 16])));
        assert!(waits.max() < Some(LOST_WAIT_MAX));
    }
}
