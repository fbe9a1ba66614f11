//! Settings about money.

use agent_domain::{AtCap, Caps, Spending, Usd};
use anyhow::{Context as _, ensure};
use clap::Args;

/// What an operator can set about money; an empty text counts as not set.
#[derive(Debug, Args)]
pub(crate) struct MoneySettings {
    /// What all jobs together may spend in a day (UTC), in US dollars. No limit where not set.
    #[arg(long, env = "BUDGET_DAILY_USD", default_value = "")]
    budget_daily_usd: String,
    /// What all jobs together may spend in a calendar month (UTC), in US dollars.
    #[arg(long, env = "BUDGET_MONTHLY_USD", default_value = "")]
    budget_monthly_usd: String,
    /// What becomes of a job that may not begin because a cap is reached, its client's or one of these:
    /// wait lets it begin when the day or month is over, fail ends it.
    #[arg(long, env = "BUDGET_REACHED", default_value = "wait", value_parser = ["wait", "fail"])]
    budget_reached: String,
    /// What a job may cost that has no budgetUsd and whose client has none, in US dollars. No limit where
    /// not set.
    #[arg(long, env = "JOB_BUDGET_USD", default_value = "")]
    job_budget_usd: String,
}

impl MoneySettings {
    pub(crate) fn check(&self) -> anyhow::Result<Spending> {
        let job_budget = dollars(&self.job_budget_usd).context("JOB_BUDGET_USD")?;
        ensure!(
            job_budget != Some(Usd::ZERO),
            "JOB_BUDGET_USD must be more than nothing"
        );
        Ok(Spending {
            caps: Caps {
                daily: dollars(&self.budget_daily_usd).context("BUDGET_DAILY_USD")?,
                monthly: dollars(&self.budget_monthly_usd).context("BUDGET_MONTHLY_USD")?,
            },
            job_budget,
            at_cap: match self.budget_reached.as_str() {
                "fail" => AtCap::Fail,
                _ => AtCap::Wait,
            },
        })
    }
}

/// What is set, in words.
pub(crate) fn described(spending: &Spending) -> String {
    let Spending {
        caps,
        job_budget,
        at_cap,
    } = spending;
    let most = |most: Option<Usd>| most.map_or("no limit".to_owned(), |most| most.to_string());
    let then = match at_cap {
        AtCap::Wait => "waits",
        AtCap::Fail => "fails",
    };
    format!(
        "all jobs: {} a day, {} a month; a job that names no budget: {}; one that meets a cap {then}",
        most(caps.daily),
        most(caps.monthly),
        most(*job_budget),
    )
}

fn dollars(text: &str) -> anyhow::Result<Option<Usd>> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let amount = text.trim().parse().ok().and_then(Usd::from_dollars);
    amount
        .map(Some)
        .context("must be an amount of US dollars, 12.50 for instance")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_plain_number_of_dollars() {
        assert_eq!(dollars("").unwrap(), None);
        assert_eq!(dollars(" 12.50 ").unwrap(), Usd::from_dollars(12.5));
        for wrong in ["$5", "-1", "5 USD", "NaN", "1e12"] {
            assert!(dollars(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_set_is_said() {
        let settings = MoneySettings {
            budget_daily_usd: "12.5".into(),
            budget_monthly_usd: String::new(),
            budget_reached: "fail".into(),
            job_budget_usd: "2".into(),
        };
        assert_eq!(
            described(&settings.check().unwrap()),
            "all jobs: $12.5 a day, no limit a month; a job that names no budget: $2; one that meets a \
             cap fails"
        );
        let nothing = MoneySettings {
            job_budget_usd: "0".into(),
            ..settings
        };
        assert!(nothing.check().is_err());
    }
}
