//! What an attempt may spend: its job's budget, and the caps of its client and of everybody.
//!
//! Money under a cap is reserved when an attempt begins and comes free, as far as it was not
//! spent, when the attempt ends. So attempts that run at the same time cannot each spend all of it.

use std::fmt;

use crate::{Timestamp, Usd, iso_millis, time, utc_day};

/// The least an attempt is given where a cap leaves that much: with less it would hardly begin.
const LEAST: Usd = Usd::from_nanos(100_000_000);

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
    let mut left: Option<Usd> = None;
    let mut longest: Option<Reached> = None;
    for (period, reserved) in accounts.iter().flat_map(|account| periods(account, now)) {
        let Reached { cap, spent, .. } = period;
        if cap <= spent && longest.is_none_or(|other| other.until < period.until) {
            longest = Some(period);
        }
        let rest = cap.minus(spent.plus(reserved));
        left = Some(left.map_or(rest, |least| least.min(rest)));
    }
    match (longest, left) {
        (Some(reached), _) => Allotted::Reached(reached),
        (None, Some(Usd::ZERO)) => Allotted::Later,
        (None, Some(left)) => {
            let part = Usd::from_nanos(left.nanos() / u64::from(free.max(1)));
            let part = part.max(left.min(LEAST));
            Allotted::Most(of_job.map_or(part, |of_job| of_job.min(part)))
        }
        (None, None) => of_job.map_or(Allotted::All, Allotted::Most),
    }
}

/// Whether it is not its job's budget that limits what an attempt may spend.
pub fn is_capped(allotted: Option<Usd>, budget: Option<Usd>, cost: Option<Usd>) -> bool {
    let of_job = budget.map(|budget| budget.minus(cost.unwrap_or_default()));
    allotted.is_some_and(|most| of_job.is_none_or(|of_job| most < of_job))
}

/// The caps of an account, as they stand, and what is reserved under each.
fn periods(account: &Account, now: Timestamp) -> impl Iterator<Item = (Reached, Usd)> + use<> {
    let Account {
        whose,
        caps,
        today,
        this_month,
        reserved,
    } = *account;
    let (_, next_month) = time::utc_month(now);
    let of = move |period, cap, spent, turn| {
        let until = time::start_of(turn).unwrap_or(Timestamp::MAX);
        let reached = Reached {
            whose,
            period,
            cap,
            spent,
            until,
        };
        (reached, reserved)
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

    #[test]
    fn attempts_at_the_same_time_share_what_a_cap_leaves() {
        let mut reserved = 0.0;
        for (free, expected) in [(4, 2.5), (3, 2.5), (2, 2.5), (1, 2.5)] {
            let given = allot(
                None,
                Usd::ZERO,
                &[account(10.0, 0.0, reserved)],
                free,
                now(),
            );
            assert_eq!(given, Allotted::Most(usd(expected)));
            reserved += expected;
        }
        let more = allot(None, Usd::ZERO, &[account(10.0, 0.0, 10.0)], 1, now());
        assert_eq!(more, Allotted::Later);
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
    fn an_attempt_gets_no_less_than_it_can_begin_with_where_there_is_as_much() {
        let given = |left: f64| {
            let account = account(10.0, 10.0 - left, 0.0);
            allot(None, Usd::ZERO, &[account], 100, now())
        };
        assert_eq!(given(1.0), Allotted::Most(LEAST));
        assert_eq!(given(0.01), Allotted::Most(usd(0.01)));
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
