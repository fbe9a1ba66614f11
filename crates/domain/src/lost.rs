//! Lost runs: what is remembered of them, when the job is tried again, and when it is given up.
//!
//! A run is lost when its worker or its supervisor is, through no fault that anyone can name. The
//! job is tried again at no cost of its own; but a job whose runs are lost one after the other is
//! likely to be what kills them.

use std::fmt;
use std::time::Duration;

use crate::{Backoff, Ids, JobId, Timestamp, iso_millis, jittered};

/// Runs lost in a row after which a job is given up.
pub const LOST_RUNS_MAX: usize = 3;
/// Longest text kept of what was seen of a lost run, in characters.
const SEEN_CHARS: usize = 300;

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
    let wait = Backoff::LOST.wait_after(lost).unwrap_or_default();
    jittered(wait, &Own(job))
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
}
