//! The order in which ready jobs are taken: fair between clients, by priority and time within one.
//!
//! Each client's ready jobs are a line of their own, in the order of their [`Place`]s. Between the
//! lines goes start-time fair queueing: each has a [`Tag`] that grows with every job that is taken
//! from it, and the line with the smallest is next, so a client with many jobs gets no more turns
//! than one with few. A client that had nothing waiting gets no credit for that, but its first job
//! goes before the next round.
//!
//! Priority works twice, and both times by a bounded amount, so nothing starves: within its
//! client's line a point is worth an hour of waiting, and between the lines ten points of the first
//! job are worth one turn.

use std::fmt;

use crate::Timestamp;

/// How urgent a job is: from -100 to 100, 0 unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Priority(i8);

/// A number that is no priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be from {} to {}", Priority::LEAST.0, Priority::MOST.0)]
pub struct PriorityError;

impl Priority {
    /// The smallest.
    pub const LEAST: Self = Self(-100);
    /// The greatest.
    pub const MOST: Self = Self(100);

    /// The number.
    pub const fn get(self) -> i8 {
        self.0
    }
}

impl TryFrom<i64> for Priority {
    type Error = PriorityError;

    fn try_from(number: i64) -> Result<Self, PriorityError> {
        let priority = i8::try_from(number).map(Self).map_err(|_| PriorityError)?;
        if (Self::LEAST..=Self::MOST).contains(&priority) {
            Ok(priority)
        } else {
            Err(PriorityError)
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a ready job stands in its client's line: the smallest is first, of equal ones the job that
/// was accepted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(i64);

/// What a point of priority is worth, in microseconds of waiting.
const POINT: i64 = 3_600_000_000;
/// Added to the time of acceptance, so that every place of a job that comes back is before every
/// place of one that does not, and all are positive.
const RETURNED: i64 = 1 << 59;
const ORDINARY: i64 = 1 << 60;
/// Between the two.
const BORDER: i64 = RETURNED + (RETURNED >> 1);

impl Place {
    /// The place of a job that was accepted at `accepted`. One that comes back from a run that was
    /// lost has had its turn: it goes before all others.
    pub fn new(accepted: Timestamp, priority: Priority, comes_back: bool) -> Self {
        let base = if comes_back { RETURNED } else { ORDINARY };
        Self(base + accepted.as_microsecond() - i64::from(priority.0) * POINT)
    }

    /// As it is stored.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// From what [`get`](Self::get) gave.
    pub const fn stored(place: i64) -> Self {
        Self(place)
    }

    const fn comes_back(self) -> bool {
        self.0 < BORDER
    }
}

/// How far a client has come in taking turns: its next one is due when all others have come as far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tag(pub i64);

/// By how much a turn raises a tag, in points of priority.
const TURN: i64 = 10;
/// Before every other one.
const AT_ONCE: i64 = -(1 << 40);

impl Tag {
    /// When the client is to be served whose first job is this one: the smallest is next, of equal
    /// ones that with the smaller place.
    pub fn turn(self, priority: Priority, first: Place) -> i64 {
        if first.comes_back() {
            AT_ONCE
        } else {
            self.0 - i64::from(priority.0)
        }
    }

    /// The tag of a client that has something waiting again, where `served` was the greatest that
    /// was served: nothing is saved up, but it goes before the next round.
    #[must_use]
    pub fn back_in_line(self, served: Self) -> Self {
        self.max(Self(served.0 - 1))
    }

    /// What `served` becomes when nothing waited and nothing ran: all begin anew, in the order in
    /// which they come.
    #[must_use]
    pub fn opens(self, served: Self) -> Self {
        served.max(Self(self.0 + 1))
    }

    /// The tag after a job at `place` was taken, and the greatest that was served. A job that came
    /// back had its turn already.
    #[must_use]
    pub fn taken(self, place: Place, served: Self) -> (Self, Self) {
        if place.comes_back() {
            return (self, served);
        }
        let served = self.max(served);
        (Self(served.0 + TURN), served)
    }

    /// How many of the `waiting` jobs of a client with this tag have their turn at `turn` or before,
    /// where its first one has it at `first` and all have the same priority.
    pub fn turns_until(self, turn: i64, first: i64, waiting: u64, served: Self) -> u64 {
        if first > turn {
            return 0;
        }
        let priority = if first == AT_ONCE { 0 } else { self.0 - first };
        let more = (turn + priority - self.max(served).0).div_euclid(TURN);
        waiting.min(1 + u64::try_from(more).unwrap_or(0))
    }

    /// The turn of the job before which `ahead` of the same client go, of which the first has it at
    /// `first`.
    pub fn turn_after(self, ahead: u64, priority: Priority, first: i64, served: Self) -> i64 {
        if ahead == 0 {
            return first;
        }
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        let turns = ahead.saturating_mul(TURN);
        (self.max(served).0 - i64::from(priority.0)).saturating_add(turns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn priority(number: i64) -> Priority {
        number.try_into().unwrap()
    }

    fn place(second: i64, number: i64) -> Place {
        Place::new(at(second), priority(number), false)
    }

    #[test]
    fn priorities_are_from_minus_to_plus_a_hundred() {
        for number in [-100, 0, 100] {
            assert_eq!(i64::from(priority(number).get()), number);
        }
        for number in [-101, 101, 128, i64::MIN, i64::MAX] {
            assert!(Priority::try_from(number).is_err(), "{number}");
        }
    }

    #[test]
    fn a_point_of_priority_is_worth_an_hour_of_waiting_and_no_more() {
        assert!(place(3599, 1) < place(0, 0));
        assert!(place(3601, 1) > place(0, 0));
        assert!(place(3600 * 200, 100) == place(0, -100));
        assert!(place(0, 0) < place(1, 0));
    }

    #[test]
    fn what_comes_back_goes_before_everything_else_in_its_own_order() {
        let late = at(253_402_207_200);
        let back = Place::new(late, Priority::LEAST, true);
        assert!(back < Place::new(at(0), Priority::MOST, false));
        assert!(Place::new(at(0), Priority::MOST, true).get() > 0);
        let turn = Tag(1 << 30).turn(Priority::LEAST, back);
        assert!(turn < Tag(0).turn(Priority::MOST, place(0, 100)));
        assert_eq!(Tag(7).taken(back, Tag(90)), (Tag(7), Tag(90)));
    }

    /// Clients that always have jobs waiting.
    struct Busy {
        tags: Vec<(Tag, Priority)>,
        served: Tag,
    }

    impl Busy {
        fn next(&mut self) -> usize {
            let turn = |index: &usize| {
                let (tag, priority) = self.tags[*index];
                tag.turn(priority, place(0, 0))
            };
            let index = (0..self.tags.len()).min_by_key(turn).unwrap();
            let (tag, _) = self.tags[index];
            (self.tags[index].0, self.served) = tag.taken(place(0, 0), self.served);
            index
        }
    }

    fn busy(priorities: &[i64]) -> Busy {
        let tags = priorities.iter().map(|number| (Tag(0), priority(*number)));
        Busy {
            tags: tags.collect(),
            served: Tag(0),
        }
    }

    #[test]
    fn clients_take_turns() {
        let mut clients = busy(&[0, 0, 0]);
        let order: Vec<_> = (0..9).map(|_| clients.next()).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn who_had_nothing_waiting_is_next_and_has_saved_nothing_up() {
        let mut clients = busy(&[0, 0, 0]);
        for _ in 0..1000 {
            clients.next();
        }
        let new = Tag(0).back_in_line(clients.served);
        clients.tags.push((new, Priority::default()));
        let order: Vec<_> = (0..5).map(|_| clients.next()).collect();
        assert_eq!(order[0], 3);
        assert_eq!(order[1..4].iter().filter(|&&client| client == 3).count(), 0);
    }

    #[test]
    fn the_highest_priority_against_the_lowest_still_leaves_every_one_and_twentieth_turn() {
        let mut clients = busy(&[100, -100]);
        let order: Vec<_> = (0..2100).map(|_| clients.next()).collect();
        let low = order.iter().filter(|&&client| client == 1).count();
        assert!((95..=105).contains(&low), "{low}");
        let waits = order.split(|&client| client == 1).map(<[usize]>::len);
        assert_eq!(waits.max(), Some(21));
    }

    #[test]
    fn a_place_far_behind_is_found_without_taking_turns() {
        // Another one with five jobs at the same stage: all of them are before the sixth of ours.
        let (ours, theirs, served) = (Tag(20), Tag(20), Tag(10));
        let mine = ours.turn_after(5, Priority::default(), 20, served);
        assert_eq!(mine, 70);
        assert_eq!(theirs.turns_until(mine, 20, 5, served), 5);
        assert_eq!(theirs.turns_until(mine, 20, 100, served), 6);
        assert_eq!(theirs.turns_until(19, 20, 100, served), 0);
        assert_eq!(theirs.turns_until(20, AT_ONCE, 100, served), 1);
    }
}
