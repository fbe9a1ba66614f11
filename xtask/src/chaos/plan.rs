//! What a cycle does and when, drawn from its seed.

use fastrand::Rng;

use super::faults::Fault;
use super::kinds::Kind;

/// How long clients and faults are at work in a cycle.
pub(super) const ACTIVE_MS: u64 = 1_500;

/// One cycle's schedule.
#[derive(Debug)]
pub(super) struct Plan {
    /// Its number.
    pub(super) cycle: u32,
    /// The jobs, in the order they are submitted.
    pub(super) jobs: Vec<PlannedJob>,
    /// What clients do, by time.
    pub(super) acts: Vec<(u64, Act)>,
    /// What goes wrong, by time; each end of a fault stands for itself.
    pub(super) faults: Vec<(u64, Turn)>,
}

/// A job to be submitted.
#[derive(Debug, Clone)]
pub(super) struct PlannedJob {
    /// What its agent does.
    pub(super) kind: Kind,
    /// Which repository it works on.
    pub(super) repo: usize,
    /// Whether somebody wants to be called back.
    pub(super) callback: bool,
    /// Whether it is submitted with an `Idempotency-Key`.
    pub(super) keyed: bool,
}

/// What a client does; the number is that of the job in the cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Submits a job.
    Submit(usize),
    /// Cancels it, and waits for its end or not.
    Cancel(usize, bool),
    /// Submits it again once it has ended.
    Retry(usize),
    /// Reads on in its log.
    Follow(usize),
    /// Reads its messages.
    Messages(usize),
    /// Reads lists.
    Lists,
    /// Somebody lets what waits for the usage limit go on.
    Resume,
}

/// A fault begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It begins.
    Begin(Fault),
    /// It ends.
    End(Fault),
}

/// Repositories in use at a time.
pub(super) const REPOS: usize = 3;

impl Plan {
    /// Draws the cycle's schedule.
    pub(super) fn new(seed: u64, cycle: u32, jobs: usize) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9).wrapping_add(cycle.into()));
        let jobs: Vec<_> = (0..jobs).map(|_| PlannedJob::draw(&mut rng)).collect();
        let mut acts = Vec::new();
        for number in 0..jobs.len() {
            let at = rng.u64(0..ACTIVE_MS * 2 / 3);
            acts.push((at, Act::Submit(number)));
            let mut later = |share: u64, act: Act| {
                if rng.u64(0..100) < share {
                    acts.push((rng.u64(at + 1..ACTIVE_MS), act));
                }
            };
            later(20, Act::Cancel(number, true));
            later(10, Act::Cancel(number, false));
            later(15, Act::Retry(number));
            later(40, Act::Messages(number));
            for _ in 0..4 {
                later(60, Act::Follow(number));
            }
        }
        for _ in 0..5 {
            acts.push((rng.u64(0..ACTIVE_MS), Act::Lists));
            acts.push((rng.u64(0..ACTIVE_MS), Act::Resume));
        }
        acts.sort_by_key(|(at, _)| *at);
        Self {
            cycle,
            jobs,
            acts,
            faults: draw_faults(&mut rng),
        }
    }
}

impl PlannedJob {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            kind: Kind::draw(rng),
            repo: rng.usize(0..REPOS),
            callback: rng.u8(0..10) < 7,
            keyed: rng.bool(),
        }
    }
}

fn draw_faults(rng: &mut Rng) -> Vec<(u64, Turn)> {
    let mut turns = Vec::new();
    for _ in 0..rng.usize(1..=4) {
        let fault = Fault::draw(rng);
        let at = rng.u64(0..ACTIVE_MS);
        turns.push((at, Turn::Begin(fault)));
        if let Some(length) = fault.length(rng) {
            turns.push((at + length, Turn::End(fault)));
        }
    }
    turns.sort_by_key(|(at, _)| *at);
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_one_another() {
        let shown = |seed, cycle| format!("{:?}", Plan::new(seed, cycle, 6));
        assert_eq!(shown(1, 1), shown(1, 1));
        assert_ne!(shown(1, 1), shown(1, 2));
        assert_ne!(shown(1, 1), shown(2, 1));
    }

    #[test]
    fn every_job_is_submitted_before_anything_else_is_done_with_it() {
        for cycle in 0..200 {
            let plan = Plan::new(7, cycle, 6);
            for number in 0..6 {
                let of_job = |act: &Act| match *act {
                    Act::Submit(n)
                    | Act::Cancel(n, _)
                    | Act::Retry(n)
                    | Act::Follow(n)
                    | Act::Messages(n) => n == number,
                    Act::Lists | Act::Resume => false,
                };
                let first = plan.acts.iter().find(|(_, act)| of_job(act));
                assert_eq!(first.map(|(_, act)| *act), Some(Act::Submit(number)));
            }
        }
    }
}
