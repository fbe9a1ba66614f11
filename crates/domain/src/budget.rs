//! What an attempt may spend: its job's budget, and the caps of its client and of everybody.
//!
//! Money under a cap is reserved when an attempt begins and comes free, as far as it was not
//! spent, when the attempt ends. So attempts that run at the same time cannot each spend all of it.
//! What a run has spent is known after a call of the model, so it may go beyond its part by one: each
//! reserves that call too, and where there is no room for it, a run goes alone. So a cap is exceeded
//! by one call at most.

use std::fmt;

use crate::{Timestamp, Usd, iso_millis, time, utc_day};

/// What one call of the model is taken to cost at most.
const CALL: Usd = Usd::from_nanos(1_000_000_000);
/// The least part of what a cap leaves for which attempts run side by side: with less a run is broken
/// off too soon.
const LEAST: Usd = Usd::from_nanos(1_000_000_000);

/// What may be spent in a day and in a calendar month, in UTC; `None` is as much as one likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// In a day.
    pub daily: Option<Usd>,
    /// In a month.
    pub monthly: Option<Usd>,
}

impl Caps {
    /// Whether there is none.
    pub const fn is_none(self) -> bool {
        self.daily.is_none() && self.monthly.is_none()
    }
}

/// What becomes of a job that may not begin because a cap is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AtCap {
    /// It waits until the cap's day or month is over.
    #[default]
    Wait,
    /// It fails.
    Fail,
}

/// What the server's own settings let jobs spend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spending {
    /// All jobs together.
    pub caps: Caps,
    /// A job, where neither itself nor its client says.
    pub job_budget: Option<Usd>,
    /// See [`AtCap`].
    pub at_cap: AtCap,
}

/// Whose jobs a cap is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Whose {
    /// Those of one client.
    Client,
    /// All there are.
    #[default]
    Everyone,
}

/// How long a cap's figure lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// A day.
    Day,
    /// A calendar month.
    Month,
}

/// A cap that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// For whom it is.
    pub whose: Whose,
    /// For how long.
    pub period: Period,
    /// How much it is.
    pub cap: Usd,
    /// How much is spent.
    pub spent: Usd,
    /// When it begins anew.
    pub until: Timestamp,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let jobs = match self.whose {
            Whose::Client => "the client's jobs",
            Whose::Everyone => "all jobs together",
        };
        let (so_far, each) = match self.period {
            Period::Day => ("today", "a day"),
            Period::Month => ("this month", "a month"),
        };
        let Self { cap, spent, .. } = self;
        let until = iso_millis(self.until);
        write!(
            f,
            "{jobs} have cost {spent} {so_far} and may cost {cap} {each}: there is money again from {until}"
        )
    }
}

/// How those stand to whom caps apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Who they are.
    pub whose: Whose,
    /// The caps.
    pub caps: Caps,
    /// Spent today.
    pub today: Usd,
    /// Spent this month.
    pub this_month: Usd,
    /// What attempts under way may spend still.
    pub reserved: Usd,
    /// How many of them there are.
    pub running: u64,
}

/// What an attempt that is to begin may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allotted {
    /// As much as it likes.
    All,
    /// At most this.
    Most(Usd),
    /// Nothing before this cap's day or month is over.
    Reached(Reached),
    /// Nothing as long as attempts under way have reserved what is left.
    Later,
    /// Nothing any more: the job's budget is used up.
    UsedUp,
}

/// Decides what an attempt may spend whose job has this budget and has cost so much, where `free`
/// more could begin now, this one included.
///
/// It gets an equal part of what the caps leave, and no more than its job's budget leaves.
pub fn allot(
    budget: Option<Usd>,
    cost: Usd,
    accounts: &[Account],
    free: u32,
    now: Timestamp,
) -> Allotted {
    let of_job = budget.map(|budget| budget.minus(cost));
    if of_job == Some(Usd::ZERO) {
        return Allotted::UsedUp;
    }
    let mut part: Option<Usd> = None;
    let mut longest: Option<Reached> = None;
    let mut later = false;
    for account in accounts {
        for period in periods(account, now) {
            let left = period.cap.minus(period.spent);
            if left == Usd::ZERO && longest.is_none_or(|other| other.until < period.until) {
                longest = Some(period);
            }
            match share(left, account, free) {
                Some(share) => part = Some(part.map_or(share, |least| least.min(share))),
                None => later = true,
            }
        }
    }
    match (longest, part) {
        (Some(reached), _) => Allotted::Reached(reached),
        _ if later => Allotted::Later,
        (None, Some(part)) => Allotted::Most(of_job.map_or(part, |of_job| of_job.min(part))),
        (None, None) => of_job.map_or(Allotted::All, Allotted::Most),
    }
}

/// The part of what a cap leaves for one of `free` attempts, beside those under way; `None` while
/// there is none for it.
fn share(left: Usd, account: &Account, free: u32) -> Option<Usd> {
    let calls = CALL.nanos().saturating_mul(account.running);
    let reserved = account.reserved.plus(Usd::from_nanos(calls));
    let rest = left.minus(reserved);
    let fit = rest.nanos() / LEAST.plus(CALL).nanos();
    let shares = fit.min(u64::from(free.max(1)));
    match shares {
        // Nobody is beside it, and whoever comes finds all reserved.
        0 | 1 if account.running == 0 => Some(left),
        0 => None,
        shares => Some(Usd::from_nanos(rest.nanos() / shares).minus(CALL)),
    }
}

/// Whether it is not its job's budget that limits what an attempt may spend.
pub fn is_capped(allotted: Option<Usd>, budget: Option<Usd>, cost: Option<Usd>) -> bool {
    let of_job = budget.map(|budget| budget.minus(cost.unwrap_or_default()));
    allotted.is_some_and(|most| of_job.is_none_or(|of_job| most < of_job))
}

/// The caps of an account, as they stand.
fn periods(account: &Account, now: Timestamp) -> impl Iterator<Item = Reached> + use<> {
    let Account {
        whose,
        caps,
        today,
        this_month,
        ..
    } = *account;
    let (_, next_month) = time::utc_month(now);
    let of = move |period, cap, spent, turn| Reached {
        whose,
        period,
        cap,
        spent,
        until: time::start_of(turn).unwrap_or(Timestamp::MAX),
    };
    let day = caps
        .daily
        .map(|cap| of(Period::Day, cap, today, utc_day(now) + 1));
    let month = caps
        .monthly
        .map(|cap| of(Period::Month, cap, this_month, next_month));
    day.into_iter().chain(month)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(dollars: f64) -> Usd {
        Usd::from_dollars(dollars).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn account(daily: f64, today: f64, reserved: f64) -> Account {
        Account {
            whose: Whose::Client,
            caps: Caps {
                daily: Some(usd(daily)),
                monthly: None,
            },
            today: usd(today),
            this_month: usd(today),
            reserved: usd(reserved),
            running: u64::from(reserved > 0.0),
        }
    }

    fn reached(given: Allotted) -> Option<Reached> {
        if let Allotted::Reached(cap) = given {
            return Some(cap);
        }
        None
    }

    fn now() -> Timestamp {
        at("2026-12-31T23:00:00Z")
    }

    #[test]
    fn without_any_limit_there_is_none() {
        let nobody = Account::default();
        assert_eq!(allot(None, usd(5.0), &[nobody], 2, now()), Allotted::All);
    }

    #[test]
    fn a_jobs_budget_is_given_less_what_it_has_cost_until_it_is_used_up() {
        for (cost, expected) in [
            (0.0, Allotted::Most(usd(2.0))),
            (1.5, Allotted::Most(usd(0.5))),
            (2.0, Allotted::UsedUp),
            (2.1, Allotted::UsedUp),
        ] {
            let given = allot(Some(usd(2.0)), usd(cost), &[], 1, now());
            assert_eq!(given, expected, "{cost}");
        }
    }

    /// What attempts are given that are claimed together, until there is none for the next.
    fn parts(left: f64, slots: u32) -> Vec<f64> {
        let mut account = account(left, 0.0, 0.0);
        let mut parts = Vec::new();
        for free in (1..=slots).rev() {
            let Allotted::Most(part) = allot(None, Usd::ZERO, &[account], free, now()) else {
                break;
            };
            account.reserved = account.reserved.plus(part);
            account.running += 1;
            parts.push(part.dollars());
        }
        parts
    }

    #[test]
    fn attempts_at_the_same_time_share_what_a_cap_leaves_and_reserve_a_call_each() {
        assert_eq!(parts(40.0, 4), [9.0; 4]);
        assert_eq!(parts(10.0, 4), [1.5; 4]);
        // Fewer where it does not go round.
        assert_eq!(parts(5.0, 4), [1.5; 2]);
    }

    #[test]
    fn near_a_cap_and_in_the_only_slot_an_attempt_has_all_that_is_left_and_is_alone() {
        for (left, slots) in [(3.9, 4), (0.01, 4), (40.0, 1)] {
            assert_eq!(parts(left, slots), [left], "{left}");
        }
        // Others are under way: it waits for them.
        let given = |reserved: f64| {
            let account = account(10.0, 0.0, reserved);
            allot(None, Usd::ZERO, &[account], 1, now())
        };
        assert_eq!(given(7.5), Allotted::Later);
        assert_eq!(given(7.0), Allotted::Most(usd(1.0)));
    }

    #[test]
    fn runs_that_all_go_beyond_their_parts_by_a_call_stay_under_the_cap_unless_one_is_alone() {
        for tenths in 1..400_u32 {
            for slots in 1..12 {
                let cap = f64::from(tenths) / 10.0;
                let parts = parts(cap, slots);
                let spent: f64 = parts.iter().map(|part| part + CALL.dollars()).sum();
                assert!(parts.len() == 1 || spent <= cap + 1e-6, "{cap} {parts:?}");
            }
        }
    }

    #[test]
    fn the_least_that_any_cap_or_the_budget_leaves_counts() {
        let accounts = [account(10.0, 4.0, 0.0), account(8.0, 7.0, 0.0)];
        let given = |budget| allot(budget, Usd::ZERO, &accounts, 1, now());
        assert_eq!(given(None), Allotted::Most(usd(1.0)));
        assert_eq!(given(Some(usd(0.5))), Allotted::Most(usd(0.5)));
        assert_eq!(given(Some(usd(5.0))), Allotted::Most(usd(1.0)));
    }

    #[test]
    fn a_cap_that_is_reached_holds_until_its_day_or_month_is_over() {
        let mut both = account(10.0, 10.0, 1.0);
        let given = |account| allot(None, Usd::ZERO, &[account], 1, now());
        let until = |allotted| reached(allotted).map(|cap| cap.until);
        let new_year = Some(at("2027-01-01T00:00:00Z"));
        assert_eq!(until(given(both)), new_year);
        both.caps.monthly = Some(usd(10.0));
        let at_noon = |day: &str| at(&format!("{day}T12:00:00Z"));
        for (day, turn) in [
            ("2026-12-31", "2027-01-01T00:00:00Z"),
            ("2026-12-01", "2027-01-01T00:00:00Z"),
            ("2028-02-10", "2028-03-01T00:00:00Z"),
        ] {
            let given = allot(None, Usd::ZERO, &[both], 1, at_noon(day));
            assert_eq!(until(given), Some(at(turn)), "{day}");
        }
    }

    #[test]
    fn the_cap_that_holds_longest_is_named_with_whose_it_is_and_how_much() {
        let client = account(10.0, 10.5, 0.0);
        let everyone = Account {
            whose: Whose::Everyone,
            caps: Caps {
                daily: None,
                monthly: Some(usd(20.0)),
            },
            ..client
        };
        let noon = at("2026-12-01T12:00:00Z");
        let said = |accounts: &[Account]| {
            let given = allot(None, Usd::ZERO, accounts, 1, noon);
            reached(given).unwrap().to_string()
        };
        assert_eq!(
            said(&[client, everyone]),
            "the client's jobs have cost $10.5 today and may cost $10 a day: there is money again \
             from 2026-12-02T00:00:00.000Z"
        );
        let spent = Account {
            this_month: usd(20.0),
            ..everyone
        };
        assert_eq!(
            said(&[client, spent]),
            "all jobs together have cost $20 this month and may cost $20 a month: there is money \
             again from 2027-01-01T00:00:00.000Z"
        );
    }

    #[test]
    fn a_run_is_capped_where_it_may_spend_less_than_its_budget_leaves() {
        let (one, two) = (Some(usd(1.0)), Some(usd(2.0)));
        assert!(is_capped(one, None, None) && is_capped(one, two, None));
        assert!(!is_capped(one, two, one) && !is_capped(None, None, None));
        assert!(!is_capped(two, two, None));
    }
}
