//! Money: US dollars in whole billionths, so that sums are exact.

use std::fmt;
use std::iter::Sum;

/// Billionths in a dollar. The price of one token is a whole number of them.
const NANOS: f64 = 1e9;
/// No single figure is larger, in US dollars; a sum of very many still fits.
const DOLLARS_MAX: f64 = 1e9;

/// An amount of US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many billionths.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// In billionths.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Reads a figure in dollars, as the CLI and callers give it; `None` for what is no amount.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be within bounds"
    )]
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        let fits = (0.0..=DOLLARS_MAX).contains(&dollars);
        fits.then(|| Self((dollars * NANOS).round() as u64))
    }

    /// In dollars: the nearest figure there is, which is written with the digits of the amount.
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact for less than nine million dollars"
    )]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / NANOS
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left after `other` is taken off; nothing when that is more.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.dollars())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_runs_add_up_to_the_cent() {
        // As floats this sum is off: 0.1 has no exact form.
        let dime = Usd::from_dollars(0.1).unwrap();
        let sum: Usd = std::iter::repeat_n(dime, 1_000_000).sum();
        assert_eq!(sum, Usd::from_dollars(100_000.0).unwrap());
        let floats: f64 = std::iter::repeat_n(0.1, 1_000_000).sum();
        assert!(floats.total_cmp(&100_000.0).is_ne());
    }

    #[test]
    fn a_figure_keeps_its_digits() {
        for (read, written) in [
            (0.000_140_000_000_000_000_01, "$0.00014"),
            (7.000_000_000_000_001e-5, "$0.00007"),
            (1.6, "$1.6"),
            (0.0, "$0"),
        ] {
            assert_eq!(Usd::from_dollars(read).unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for dollars in [-0.01, f64::NAN, f64::INFINITY, 1e10] {
            assert_eq!(Usd::from_dollars(dollars), None, "{dollars}");
        }
        assert_eq!(Usd::ZERO.minus(Usd::from_nanos(1)), Usd::ZERO);
    }
}
