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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        let at = Timestamp::from_microsecond(1_736_251_200_123_987).unwrap();
        assert_eq!(iso_millis(at), "2025-01-07T12:00:00.123Z");
    }
}
