//! Counters and times, and the report they make.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::account::{Breach, Violation};

/// Everything that was counted and timed.
#[derive(Debug, Default)]
pub(super) struct Figures {
    cycles: u32,
    breaches: BTreeMap<Breach, u64>,
    faults: BTreeMap<&'static str, u64>,
    ends: BTreeMap<String, u64>,
    checked: BTreeMap<&'static str, u64>,
    times: BTreeMap<&'static str, Vec<Duration>>,
}

impl Figures {
    /// A cycle is over.
    pub(super) fn cycle(&mut self, took: Duration) {
        self.cycles += 1;
        self.time("a cycle, with its checks", took);
    }

    /// A promise was not kept.
    pub(super) fn violation(&mut self, violation: &Violation) {
        *self.breaches.entry(violation.breach).or_default() += 1;
    }

    /// How many promises were not kept.
    pub(super) fn violations(&self) -> u64 {
        self.breaches.values().sum()
    }

    /// A fault was made.
    pub(super) fn fault(&mut self, label: &'static str) {
        *self.faults.entry(label).or_default() += 1;
    }

    /// A job has ended like this.
    pub(super) fn end(&mut self, how: String) {
        *self.ends.entry(how).or_default() += 1;
    }

    /// So many more of something were checked.
    pub(super) fn checked(&mut self, label: &'static str, count: usize) {
        *self.checked.entry(label).or_default() += count as u64;
    }

    /// Something took so long.
    pub(super) fn time(&mut self, label: &'static str, took: Duration) {
        self.times.entry(label).or_default().push(took);
    }

    /// All of it, for people.
    pub(super) fn report(&self, seed: u64, took: Duration) -> String {
        let mut out = String::new();
        let jobs: u64 = self.ends.values().sum();
        let (cycles, seconds) = (self.cycles, took.as_secs());
        line(
            &mut out,
            format_args!("{cycles} cycles, {jobs} jobs, seed {seed}, {seconds} s"),
        );
        heading(&mut out, "promises broken");
        for (breach, label) in Breach::ALL {
            let count = self.breaches.get(&breach).copied().unwrap_or_default();
            line(&mut out, format_args!("{count:>8}  {label}"));
        }
        for (title, counts) in [("faults made", &self.faults), ("checked", &self.checked)] {
            heading(&mut out, title);
            for (label, count) in counts {
                line(&mut out, format_args!("{count:>8}  {label}"));
            }
        }
        heading(&mut out, "how jobs ended");
        for (label, count) in &self.ends {
            line(&mut out, format_args!("{count:>8}  {label}"));
        }
        heading(&mut out, "times in ms (min, median, p99, max of how many)");
        for (label, times) in &self.times {
            line(&mut out, format_args!("{}  {label}", spread(times)));
        }
        out
    }
}

fn heading(out: &mut String, title: &str) {
    line(out, format_args!("\n{title}:"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    writeln!(out, "{text}").ok();
}

fn spread(times: &[Duration]) -> String {
    let mut sorted: Vec<_> = times.iter().map(Duration::as_millis).collect();
    sorted.sort_unstable();
    let at = |share: usize| {
        let index = (sorted.len() * share / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or_default()
    };
    format!(
        "{:>8} {:>8} {:>8} {:>8} {:>6}",
        at(0),
        at(50),
        at(99),
        at(100),
        sorted.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_what_was_not_broken_and_how_times_are_spread() {
        let mut figures = Figures::default();
        for ms in 1..=200 {
            figures.time("something", Duration::from_millis(ms));
        }
        figures.violation(&Violation::new(Breach::Lost, "x"));
        let report = figures.report(1, Duration::from_secs(3));
        assert!(report.contains("       1  lost: acknowledged"), "{report}");
        assert!(report.contains("       0  stuck"), "{report}");
        assert!(
            report.contains("       1      101      199      200    200  something"),
            "{report}"
        );
        assert_eq!(figures.violations(), 1);
    }
}
