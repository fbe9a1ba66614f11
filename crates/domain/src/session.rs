//! Going on in a session of the CLI: what of it is remembered, and when.
//!
//! A session that is resumed knows all it has done, so nothing is paid for twice.

use std::time::Duration;

use crate::{Ids, Reason, Timestamp, jittered};

/// Added to the time at which a limit resets: clocks differ, and not all that waits for the same
/// moment comes back at once.
const MARGIN: Duration = Duration::from_mins(1);
/// How long a limit is taken to last of which the CLI does not say when it resets.
const UNTOLD: Duration = Duration::from_mins(30);
/// The longest limits there are last a week; a time further off is a mistake.
const LONGEST: Duration = Duration::from_hours(8 * 24);

/// The session in which an attempt goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The CLI's id of it; see [`is_session_id`].
    pub session_id: String,
    /// How often in a row it was resumed because the model's API had failed.
    pub retries: u32,
}

impl Resume {
    /// The session of an attempt that waits for this reason and then goes on; `earlier` is the one
    /// in which that attempt itself went on.
    pub(crate) fn parked(session_id: &str, earlier: Option<&Self>, reason: Reason) -> Option<Self> {
        let earlier = earlier.filter(|earlier| earlier.session_id == session_id);
        let retries = earlier.map_or(0, |earlier| earlier.retries);
        is_session_id(session_id).then(|| Self {
            session_id: session_id.to_owned(),
            retries: if reason == Reason::Api {
                retries + 1
            } else {
                0
            },
        })
    }
}

/// Whether a text can be the id of a session: it becomes an argument and a file's name.
pub fn is_session_id(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    text.len() == 36 && text.bytes().all(is_part) && !text.starts_with('-')
}

/// When to go on after a limit that resets at `resets_at`, in seconds since 1970.
pub fn after_limit(resets_at: Option<i64>, now: Timestamp, ids: &dyn Ids) -> Timestamp {
    let told = resets_at.and_then(|at| Timestamp::from_second(at).ok());
    let reset = told.or_else(|| now.checked_add(UNTOLD).ok());
    let latest = now.checked_add(LONGEST).unwrap_or(now);
    let reset = reset.unwrap_or(now).clamp(now, latest.max(now));
    reset.checked_add(jittered(MARGIN, ids)).unwrap_or(reset)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "11111111-1111-4111-8111-11111111111a";

    struct Fixed(u8);
    impl Ids for Fixed {
        fn fresh(&self) -> [u8; 16] {
            [self.0; 16]
        }
    }

    #[test]
    fn a_limit_is_waited_for_with_a_margin_and_never_for_too_long() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let wait = |resets_at: Option<i64>, ids| {
            let until = after_limit(resets_at, now, &Fixed(ids));
            until.as_second() - now.as_second()
        };
        for ids in [0, 7, 100, 255] {
            assert!((48..=72).contains(&(wait(Some(1_000_500), ids) - 500)));
            // A reset that is over, or of a clock that is behind.
            assert!((48..=72).contains(&wait(Some(5), ids)));
            assert!((48..=72).contains(&(wait(None, ids) - 1800)));
        }
        assert_ne!(wait(None, 0), wait(None, 255), "they come back apart");
        for odd in [i64::MAX, i64::MIN, 0, -1, 9_000_000_000] {
            assert!(
                (48..=8 * 86_400 + 72).contains(&wait(Some(odd), 3)),
                "{odd}"
            );
        }
    }

    #[test]
    fn only_what_the_cli_calls_a_session_is_one() {
        assert!(is_session_id(ID));
        for odd in [
            "",
            "--continue",
            "[masked]",
            "../../../../../../../../../etc/passwd",
        ] {
            assert!(!is_session_id(odd), "{odd}");
        }
        assert!(!is_session_id(&format!("-{}", &ID[1..])));
        assert!(!is_session_id(&ID.replace('a', "/")));
    }

    #[test]
    fn retries_are_counted_in_a_row_and_a_limit_is_none() {
        let first = Resume::parked(ID, None, Reason::Api).unwrap();
        let second = Resume::parked(ID, Some(&first), Reason::Api).unwrap();
        assert_eq!((first.retries, second.retries), (1, 2));
        let limit = Resume::parked(ID, Some(&second), Reason::UsageLimit).unwrap();
        assert_eq!(limit.retries, 0);
        assert_eq!(Resume::parked("x", None, Reason::Api), None);
    }
}
