//! When to try again.

use std::time::Duration;

use crate::Ids;

/// A fixed list of waits, one per further try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff(pub &'static [Duration]);

impl Backoff {
    /// For network faults inside an attempt: three more tries, after 1 s, 5 s and 25 s.
    pub const NETWORK: Self = Self(&[
        Duration::from_secs(1),
        Duration::from_secs(5),
        Duration::from_secs(25),
    ]);

    /// For runs that were lost: a job is tried again twice.
    pub const LOST: Self = Self(&[Duration::from_secs(1), Duration::from_secs(5)]);

    /// Returns the wait before try number `tries_made + 1`, or `None` when there are no more.
    pub fn wait_after(self, tries_made: usize) -> Option<Duration> {
        self.0.get(tries_made.checked_sub(1)?).copied()
    }
}

/// Spreads `wait` evenly over 80 % to 120 %, so that many failures do not come back at once.
pub fn jittered(wait: Duration, ids: &dyn Ids) -> Duration {
    let [low, high, ..] = ids.fresh();
    let permille = 800 + u32::from(u16::from_le_bytes([low, high])) % 401;
    wait.saturating_mul(permille) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_faults_get_three_more_tries() {
        let waits: Vec<_> = (1..5)
            .map(|made| Backoff::NETWORK.wait_after(made))
            .collect();
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(waits, [seconds(1), seconds(5), seconds(25), None]);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        struct Fixed(u8);
        impl Ids for Fixed {
            fn fresh(&self) -> [u8; 16] {
                [self.0; 16]
            }
        }
        let waits: Vec<_> = (0..=255)
            .map(|n| jittered(Duration::from_secs(100), &Fixed(n)).as_millis())
            .collect();
        assert!(
            waits.iter().all(|wait| (80_000..=120_000).contains(wait)),
            "{waits:?}"
        );
        assert!(waits.iter().max() > Some(&115_000) && waits.iter().min() < Some(&85_000));
    }
}
