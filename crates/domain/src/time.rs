//! Points in time, and the clock they come from.

pub use jiff::Timestamp;

/// Source of the current time, injected so that tests can set it.
pub trait Clock: Send + Sync {
    /// Returns the current wall-clock time.
    fn now(&self) -> Timestamp;
}

/// Writes a time as ISO 8601 in UTC with milliseconds, the form every API answer uses.
pub fn iso_millis(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Days since 1970 in UTC: what daily figures are added up by.
pub fn utc_day(at: Timestamp) -> i64 {
    const SECONDS: i64 = 86_400;
    at.as_second().div_euclid(SECONDS)
}

/// The first days, as [`utc_day`] counts them, of the month in UTC and of the one after it.
pub fn utc_month(at: Timestamp) -> (i64, i64) {
    let date = jiff::tz::TimeZone::UTC.to_datetime(at).date();
    let first = utc_day(at) - i64::from(date.day()) + 1;
    (first, first + i64::from(date.days_in_month()))
}

/// When a day begins, as [`utc_day`] counts them.
pub(crate) fn start_of(day: i64) -> Option<Timestamp> {
    Timestamp::from_second(day.checked_mul(86_400)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let days = [86_399, 86_400, -1].map(|second| utc_day(at(second)));
        assert_eq!(days, [0, 1, -1]);
    }

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        let at = Timestamp::from_microsecond(1_736_251_200_123_987).unwrap();
        assert_eq!(iso_millis(at), "2025-01-07T12:00:00.123Z");
    }
}
