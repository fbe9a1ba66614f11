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

/// Reads a day, `YYYY-MM-DD`, as [`utc_day`] counts them.
pub fn utc_date(text: &str) -> Option<i64> {
    if text.len() != "YYYY-MM-DD".len() {
        return None;
    }
    let midnight: Timestamp = format!("{text}T00:00:00Z").parse().ok()?;
    Some(utc_day(midnight))
}

/// Writes a day as [`utc_date`] reads it.
pub fn utc_date_text(day: i64) -> String {
    let midnight = start_of(day).unwrap_or(Timestamp::MAX);
    midnight.strftime("%Y-%m-%d").to_string()
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
    fn a_day_is_read_as_it_is_written() {
        for text in ["2026-11-21", "1970-01-01", "2028-02-29"] {
            assert_eq!(utc_date_text(utc_date(text).unwrap()), text);
        }
        for wrong in ["2026-02-30", "2026-1-1", "20261121", "2026-11-21T", ""] {
            assert_eq!(utc_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        let at = Timestamp::from_microsecond(1_736_251_200_123_987).unwrap();
        assert_eq!(iso_millis(at), "2025-01-07T12:00:00.123Z");
    }
}
