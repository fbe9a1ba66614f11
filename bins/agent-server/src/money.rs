//! Settings about money.

use agent_domain::{Caps, Usd};
use anyhow::Context as _;
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
}

impl MoneySettings {
    pub(crate) fn check(&self) -> anyhow::Result<Caps> {
        Ok(Caps {
            daily: dollars(&self.budget_daily_usd).context("BUDGET_DAILY_USD")?,
            monthly: dollars(&self.budget_monthly_usd).context("BUDGET_MONTHLY_USD")?,
        })
    }
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
}
