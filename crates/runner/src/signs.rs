//! What a run shows of itself while it is on, beside its log.

use std::time::Duration;

use agent_domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::Object;

/// How long the CLI can be silent and go on all the same: so long it waits for a model's API that has
/// taken its request and answers nothing.
pub const LONGEST_STALL: Duration = Duration::from_secs(361);

/// What the supervisor tells of a living run, whenever it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Signs {
    /// What keeps the agent from going on, for people; `None`: nothing that is known of.
    pub held_up: Option<String>,
}

/// The API has failed, and the CLI will ask it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiRetry {
    attempt: Option<i64>,
    most: Option<i64>,
    delay_ms: Option<i64>,
    status: Option<i64>,
    error: Option<String>,
}

impl ApiRetry {
    pub(crate) fn read(event: &Object<'_>) -> Self {
        Self {
            attempt: event.integer("attempt"),
            most: event.integer("max_retries"),
            delay_ms: event.integer("retry_delay_ms"),
            status: event.integer("error_status"),
            error: event.text("error"),
        }
    }

    /// The same for people, of an event that was read at `at`. It names the time of the next try, not the
    /// wait, since it is read at any time; that try itself may take minutes.
    pub(crate) fn sentence(&self, at: Timestamp) -> String {
        let cause = self.cause();
        let (Some(attempt), Some(most)) = (self.attempt, self.most) else {
            return cause;
        };
        let next = self.next(at);
        let next = next.map_or_else(String::new, |next| format!(" at {next:.0}"));
        format!("{cause}: try {attempt} of {most}{next}")
    }

    fn next(&self, at: Timestamp) -> Option<Timestamp> {
        let delay = u64::try_from(self.delay_ms?).ok()?;
        at.checked_add(Duration::from_millis(delay)).ok()
    }

    fn cause(&self) -> String {
        let what = match (self.status, self.error.as_deref()) {
            (Some(529), _) | (None, Some("overloaded")) => "the API is overloaded",
            (Some(429), _) | (None, Some("rate_limit")) => "the API takes no more requests for now",
            (Some(401 | 403), _) => "the API refuses the credentials",
            (Some(500..=599), _) => "the API is in trouble",
            (None, _) => "the API does not answer",
            (Some(_), _) => "the API has failed",
        };
        match self.status {
            Some(status) => format!("{what} ({status})"),
            None => what.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(event: &str) -> String {
        let at = "2026-11-21T14:03:00.4Z".parse().unwrap();
        ApiRetry::read(&Object::parse(event).unwrap()).sentence(at)
    }

    #[test]
    fn a_retry_is_told_with_its_cause_its_number_and_its_time() {
        let retry = |status: &str, error: &str| {
            said(&format!(
                r#"{{"attempt":3,"max_retries":10,"retry_delay_ms":12000.7,"error_status":{status},"error":"{error}"}}"#
            ))
        };
        for (status, error, cause) in [
            ("529", "overloaded", "the API is overloaded (529)"),
            (
                "429",
                "rate_limit",
                "the API takes no more requests for now (429)",
            ),
            (
                "401",
                "authentication_failed",
                "the API refuses the credentials (401)",
            ),
            ("502", "server_error", "the API is in trouble (502)"),
            ("418", "teapot", "the API has failed (418)"),
            ("null", "overloaded", "the API is overloaded"),
            ("null", "unknown", "the API does not answer"),
        ] {
            let expected = format!("{cause}: try 3 of 10 at 2026-11-21T14:03:12Z");
            assert_eq!(retry(status, error), expected);
        }
    }

    #[test]
    fn what_is_missing_or_odd_is_left_out() {
        for (event, expected) in [
            ("{}", "the API does not answer"),
            (
                r#"{"attempt":1,"error_status":529}"#,
                "the API is overloaded (529)",
            ),
            (
                r#"{"attempt":1,"max_retries":2,"retry_delay_ms":-5}"#,
                "the API does not answer: try 1 of 2",
            ),
            (
                r#"{"attempt":1,"max_retries":2,"retry_delay_ms":9e300}"#,
                "the API does not answer: try 1 of 2",
            ),
        ] {
            assert_eq!(said(event), expected);
        }
    }
}
