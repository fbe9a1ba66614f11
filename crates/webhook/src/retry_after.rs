//! The `Retry-After` header: when a receiver wants to be asked again.

use std::time::Duration;

use agent_domain::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The longest wait a receiver may ask for; the whole schedule of a delivery is not much longer.
const LONGEST: Duration = Duration::from_hours(24);

/// The three spellings of a date that RFC 9110 wants understood; all are in GMT.
const DATE_FORMS: [&str; 3] = [
    "%a, %d %b %Y %H:%M:%S GMT",
    "%A, %d-%b-%y %H:%M:%S GMT",
    "%a %b %e %H:%M:%S %Y",
];

/// Reads the header's value at `now`; `None` when it is neither seconds nor a date.
pub(crate) fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number too large for us is as good as the longest wait.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let then = DATE_FORMS.iter().find_map(|form| date(form, value))?;
        Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(LONGEST))
}

fn date(form: &str, value: &str) -> Option<Timestamp> {
    let date = DateTime::strptime(form, value).ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(value: &str) -> Option<u64> {
        let now = Timestamp::from_second(784_111_777).unwrap();
        parse(value, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_all_three_forms_of_a_date_are_understood() {
        for (value, seconds) in [
            ("0", 0),
            ("120", 120),
            (" 7 ", 7),
            ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
            ("Sunday, 06-Nov-94 08:50:37 GMT", 60),
            ("Sun Nov  6 08:50:37 1994", 60),
        ] {
            assert_eq!(wait(value), Some(seconds), "{value:?}");
        }
    }

    #[test]
    fn a_date_in_the_past_means_at_once() {
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0));
        assert_eq!(wait("Sun, 06 Nov 1988 08:49:37 GMT"), Some(0));
    }

    #[test]
    fn no_receiver_can_put_a_delivery_off_for_longer_than_a_day() {
        for far in [
            "86401",
            "99999999999999999999999",
            "Sun, 06 Nov 2061 08:49:37 GMT",
        ] {
            assert_eq!(wait(far), Some(24 * 60 * 60), "{far:?}");
        }
    }

    #[test]
    fn anything_else_is_as_if_it_were_not_there() {
        for bad in [
            "",
            " ",
            "-1",
            "+1",
            "1.5",
            "soon",
            "2061-11-06T08:49:37Z",
            "1s",
            "é",
        ] {
            assert_eq!(wait(bad), None, "{bad:?}");
        }
    }
}
