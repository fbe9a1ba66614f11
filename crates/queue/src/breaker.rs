//! How many callbacks each endpoint gets at the same time: two while it answers, none for a while
//! once it has failed often in a row, then one to see how it is.
//!
//! Kept in memory only. After a restart every endpoint counts as answering until it fails again.

use std::collections::HashMap;
use std::time::Duration;

use agent_domain::{Ids, Timestamp, jittered};

/// Tries under way at the same time for one endpoint.
pub(crate) const AT_ONCE: usize = 2;
/// Failures in a row after which an endpoint is left alone.
const FAILURES: u32 = 5;
/// How long the first time; each further time twice as long as the one before.
const FIRST: Duration = Duration::from_secs(30);
/// How long at most, before jitter.
const LONGEST: Duration = Duration::from_mins(10);
/// A failure so long ago says nothing about now.
const STALE: Duration = Duration::from_hours(1);

/// The endpoints that are being tried or have failed lately.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(HashMap<String, Endpoint>);

#[derive(Debug, Default)]
struct Endpoint {
    under_way: usize,
    /// Failures since the last answer.
    failures: u32,
    /// How often in a row it was left alone.
    rounds: u32,
    breaker: Breaker,
    /// Of the last failure, or the time until which it is left alone.
    last: Timestamp,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Breaker {
    #[default]
    Closed,
    /// Left alone until then; after that one try decides.
    Open { until: Timestamp },
}

/// What the outcome of a try changed about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It has failed too often, and is left alone until then.
    Opened { until: Timestamp },
    /// It answers again.
    Closed,
}

impl Endpoints {
    /// Notes that a try begins.
    pub(crate) fn begin(&mut self, endpoint: &str) {
        self.0.entry(endpoint.to_owned()).or_default().under_way += 1;
    }

    /// Notes that a try has ended, and whether the endpoint has shown itself alive.
    pub(crate) fn end(
        &mut self,
        endpoint: &str,
        alive: bool,
        now: Timestamp,
        ids: &dyn Ids,
    ) -> Option<Turn> {
        let known = self.0.entry(endpoint.to_owned()).or_default();
        known.under_way = known.under_way.saturating_sub(1);
        if alive {
            let was = std::mem::take(&mut known.breaker);
            (known.failures, known.rounds) = (0, 0);
            return (was != Breaker::Closed).then_some(Turn::Closed);
        }
        // What began before it was left alone says nothing new.
        if known.open_until(now).is_some() {
            return None;
        }
        known.failures = known.failures.saturating_add(1);
        known.last = now;
        if known.breaker == Breaker::Closed && known.failures < FAILURES {
            return None;
        }
        let wait = FIRST.saturating_mul(1 << known.rounds.min(16)).min(LONGEST);
        let until = now
            .checked_add(jittered(wait, ids))
            .unwrap_or(Timestamp::MAX);
        known.rounds = known.rounds.saturating_add(1);
        known.breaker = Breaker::Open { until };
        known.last = until;
        Some(Turn::Opened { until })
    }

    /// The endpoints with room for less than [`AT_ONCE`] further tries, and for how many.
    pub(crate) fn room(&self, now: Timestamp) -> HashMap<String, usize> {
        let room = self
            .0
            .iter()
            .map(|(name, known)| (name.clone(), known.room(now)));
        room.filter(|(_, room)| *room < AT_ONCE).collect()
    }

    /// The time until which an endpoint is left alone, if it is.
    pub(crate) fn open_until(&self, endpoint: &str, now: Timestamp) -> Option<Timestamp> {
        self.0.get(endpoint)?.open_until(now)
    }

    /// When the next endpoint may be tried that is left alone now.
    pub(crate) fn next_opportunity(&self, now: Timestamp) -> Option<Timestamp> {
        self.0
            .values()
            .filter_map(|known| known.open_until(now))
            .min()
    }

    /// Lets an endpoint that is left alone be tried at once, by one try: somebody asked for it.
    pub(crate) fn try_now(&mut self, endpoint: &str, now: Timestamp) {
        if let Some(known) = self.0.get_mut(endpoint)
            && let Breaker::Open { until } = &mut known.breaker
        {
            *until = now.min(*until);
        }
    }

    /// How many endpoints have failed too often and have not answered since.
    pub(crate) fn failing(&self) -> usize {
        let open = |known: &&Endpoint| known.breaker != Breaker::Closed;
        self.0.values().filter(open).count()
    }

    /// Forgets the endpoints of which nothing is to be known any more.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        self.0.retain(|_, known| {
            let age = now.duration_since(known.last).unsigned_abs();
            known.under_way > 0 || (known.failures > 0 && age < STALE)
        });
    }
}

impl Endpoint {
    fn room(&self, now: Timestamp) -> usize {
        let most = match self.breaker {
            Breaker::Closed => AT_ONCE,
            Breaker::Open { .. } if self.open_until(now).is_some() => 0,
            Breaker::Open { .. } => 1,
        };
        most.saturating_sub(self.under_way)
    }

    fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let Breaker::Open { until } = self.breaker else {
            return None;
        };
        // Further off than any wait is: the clock was set back, and nobody should wait for that.
        let left = Duration::try_from(until.duration_since(now)).ok()?;
        (!left.is_zero() && left <= LONGEST * 2).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes every jitter this much: 0 is 80 %, 200 is 100 %, 400 is 120 %.
    struct Permille(u16);

    impl Ids for Permille {
        fn fresh(&self) -> [u8; 16] {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&self.0.to_le_bytes());
            bytes
        }
    }

    const EVEN: Permille = Permille(200);
    const A: &str = "http://a";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn fails(endpoints: &mut Endpoints, second: i64) -> Option<Turn> {
        endpoints.begin(A);
        endpoints.end(A, false, at(second), &EVEN)
    }

    fn answers(endpoints: &mut Endpoints, second: i64) -> Option<Turn> {
        endpoints.begin(A);
        endpoints.end(A, true, at(second), &EVEN)
    }

    fn room(endpoints: &Endpoints, second: i64) -> usize {
        let room = endpoints.room(at(second));
        room.get(A).copied().unwrap_or(AT_ONCE)
    }

    /// Left alone until second 30.
    fn opened() -> Endpoints {
        let mut endpoints = Endpoints::default();
        for _ in 1..FAILURES {
            assert_eq!(fails(&mut endpoints, 0), None);
        }
        let opened = Some(Turn::Opened { until: at(30) });
        assert_eq!(fails(&mut endpoints, 0), opened);
        endpoints
    }

    #[test]
    fn an_endpoint_gets_two_tries_at_once_and_takes_no_room_of_another() {
        let mut endpoints = Endpoints::default();
        assert_eq!(room(&endpoints, 0), 2);
        endpoints.begin(A);
        assert_eq!(room(&endpoints, 0), 1);
        endpoints.begin(A);
        assert_eq!(endpoints.room(at(0)), HashMap::from([(A.to_owned(), 0)]));
        endpoints.end(A, true, at(0), &EVEN);
        assert_eq!(room(&endpoints, 0), 1);
    }

    #[test]
    fn five_failures_in_a_row_leave_it_alone_and_an_answer_in_between_begins_the_row_anew() {
        let mut endpoints = Endpoints::default();
        for _ in 0..3 {
            for _ in 1..FAILURES {
                assert_eq!(fails(&mut endpoints, 0), None);
            }
            assert_eq!(room(&endpoints, 0), 2);
            assert_eq!(answers(&mut endpoints, 0), None);
        }
        let endpoints = opened();
        assert_eq!((room(&endpoints, 0), room(&endpoints, 29)), (0, 0));
        assert_eq!(endpoints.open_until(A, at(29)), Some(at(30)));
        assert_eq!(endpoints.next_opportunity(at(29)), Some(at(30)));
        assert_eq!(endpoints.failing(), 1);
    }

    #[test]
    fn afterwards_one_try_decides() {
        let mut endpoints = opened();
        assert_eq!(room(&endpoints, 30), 1);
        assert_eq!(endpoints.next_opportunity(at(30)), None);
        endpoints.begin(A);
        assert_eq!(room(&endpoints, 30), 0);
        assert_eq!(
            endpoints.end(A, true, at(31), &EVEN),
            Some(Turn::Closed),
            "its success"
        );
        assert_eq!((room(&endpoints, 31), endpoints.failing()), (2, 0));

        let mut endpoints = opened();
        let again = Some(Turn::Opened { until: at(100) });
        assert_eq!(fails(&mut endpoints, 40), again, "its failure");
        assert_eq!((room(&endpoints, 99), room(&endpoints, 100)), (0, 1));
    }

    #[test]
    fn each_time_it_is_left_alone_for_twice_as_long_up_to_a_limit() {
        let mut endpoints = opened();
        let (mut now, mut waits) = (30, Vec::new());
        for _ in 0..40 {
            let Some(Turn::Opened { until }) = fails(&mut endpoints, now) else {
                panic!("it stays open");
            };
            waits.push(until.as_second() - now);
            now = until.as_second();
        }
        assert_eq!(waits[..6], [60, 120, 240, 480, 600, 600]);
        assert_eq!(waits.last(), Some(&600));
        answers(&mut endpoints, now);
        for _ in 1..FAILURES {
            fails(&mut endpoints, now);
        }
        let anew = Timestamp::from_second(now + 30).unwrap();
        assert_eq!(
            fails(&mut endpoints, now),
            Some(Turn::Opened { until: anew })
        );
    }

    #[test]
    fn waits_are_spread() {
        for (permille, until) in [(Permille(0), 24), (Permille(400), 36)] {
            let mut endpoints = Endpoints::default();
            let turns = [(); 5].map(|()| endpoints.end(A, false, at(0), &permille));
            assert_eq!(turns[4], Some(Turn::Opened { until: at(until) }));
        }
    }

    #[test]
    fn a_try_that_began_before_it_was_left_alone_lengthens_nothing_and_can_end_it() {
        let mut endpoints = Endpoints::default();
        endpoints.begin(A);
        endpoints.begin(A);
        for _ in 0..FAILURES {
            fails(&mut endpoints, 0);
        }
        assert_eq!(endpoints.end(A, false, at(5), &EVEN), None);
        assert_eq!(endpoints.open_until(A, at(5)), Some(at(30)));
        assert_eq!(endpoints.end(A, true, at(6), &EVEN), Some(Turn::Closed));
    }

    #[test]
    fn who_asks_for_a_try_gets_one_at_once() {
        let mut endpoints = opened();
        endpoints.try_now(A, at(10));
        endpoints.try_now("http://other", at(10));
        assert_eq!(room(&endpoints, 10), 1);
        let longer = Some(Turn::Opened { until: at(70) });
        assert_eq!(fails(&mut endpoints, 10), longer);
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nobody_waiting() {
        let endpoints = opened();
        assert_eq!(room(&endpoints, -100_000), 1);
        assert_eq!(endpoints.open_until(A, at(-100_000)), None);
    }

    #[test]
    fn nothing_is_kept_of_endpoints_that_answer_or_failed_long_ago() {
        let mut endpoints = Endpoints::default();
        answers(&mut endpoints, 0);
        endpoints.forget(at(0));
        assert!(endpoints.0.is_empty());
        fails(&mut endpoints, 0);
        endpoints.forget(at(3599));
        assert_eq!(endpoints.0.len(), 1);
        endpoints.begin(A);
        endpoints.forget(at(3600));
        assert_eq!(endpoints.0.len(), 1, "a try is under way");
        endpoints.end(A, false, at(3600), &EVEN);
        endpoints.forget(at(7200));
        assert!(endpoints.0.is_empty());
    }
}
