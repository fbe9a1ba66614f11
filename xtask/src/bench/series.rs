//! A series of measurements of the same thing, and what is said about it.

/// Measured values in no particular order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    values: Vec<f64>,
}

impl Series {
    /// Adds a value.
    pub(crate) fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Adds all values of another series.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.values.append(&mut other.values);
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// The smallest value.
    pub(crate) fn min(&self) -> f64 {
        self.quantile(0, 100)
    }

    /// The value in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(50, 100)
    }

    /// The largest value.
    pub(crate) fn max(&self) -> f64 {
        self.quantile(100, 100)
    }

    /// The value that 99 of 100 do not exceed.
    pub(crate) fn p99(&self) -> f64 {
        self.quantile(99, 100)
    }

    /// The smallest value that `part` of `whole` do not exceed; not a number without values.
    fn quantile(&self, part: usize, whole: usize) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * part).div_ceil(whole).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self {
            values: values.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(series: &Series) -> [String; 4] {
        [series.min(), series.median(), series.p99(), series.max()].map(|value| value.to_string())
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let series: Series = (1..=200).rev().map(f64::from).collect();
        assert_eq!(series.len(), 200);
        assert_eq!(said(&series), ["1", "100", "198", "200"]);
    }

    #[test]
    fn a_single_value_is_every_quantile_and_none_is_no_number() {
        let one: Series = [7.0].into_iter().collect();
        assert_eq!(said(&one), ["7"; 4]);
        assert!(Series::default().median().is_nan());
    }
}
