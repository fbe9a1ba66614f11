//! What happens when on the way from begin to end, over many rounds.

use super::series::Series;
use super::table::Table;

/// Named moments in the order in which they were first seen, each with its times since the begin.
#[derive(Debug, Default)]
pub(crate) struct Course {
    moments: Vec<(String, Series)>,
}

impl Course {
    /// Notes that `moment` came `millis` after the begin.
    pub(crate) fn note(&mut self, moment: &str, millis: f64) {
        match self.moments.iter_mut().find(|(name, _)| name == moment) {
            Some((_, series)) => series.push(millis),
            None => self
                .moments
                .push((moment.to_owned(), [millis].into_iter().collect())),
        }
    }

    /// Each moment with the median of its times, in the order of time.
    pub(crate) fn steps(&self) -> Vec<(&str, f64)> {
        let moments = self.moments.iter();
        let mut steps: Vec<_> = moments
            .map(|(name, at)| (name.as_str(), at.median()))
            .collect();
        steps.sort_by(|one, other| one.1.total_cmp(&other.1));
        steps
    }

    /// Prints when each moment came, and how long after the one before.
    pub(crate) fn print(&self, title: &str) {
        let mut table = Table::new(&["", "at ms", "after ms"]);
        let mut before = 0.0;
        for (name, at) in self.steps() {
            table.row(name, [format!("{at:.1}"), format!("{:.1}", at - before)]);
            before = at;
        }
        table.print(title);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_in_the_order_of_their_medians() {
        let mut course = Course::default();
        for (late, early) in [(9.0, 2.0), (7.0, 1.0), (8.0, 30.0)] {
            course.note("late", late);
            course.note("early", early);
        }
        assert_eq!(course.steps(), [("early", 2.0), ("late", 8.0)]);
    }
}
