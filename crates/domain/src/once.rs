//! Requests that are done at most once, however often they are sent.
//!
//! A caller that does not know what became of a request sends it again under the same
//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), and gets the first answer.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limits;

/// How long an answer is kept for repeats of its request.
pub const ONCE_KEPT: Duration = Duration::from_hours(24);

/// The name a caller gives a request: visible ASCII, equal with and without the quotes of a
/// structured field's string (RFC 8941, 3.3.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// Why a text is no [`IdempotencyKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdempotencyKeyError {
    /// Empty, or longer than [`limits::IDEMPOTENCY_KEY_BYTES`].
    #[error("must have 1 to {} characters", limits::IDEMPOTENCY_KEY_BYTES)]
    Length,
    /// Holds a space, a control character or anything beyond ASCII.
    #[error("must be visible ASCII characters only")]
    Character,
    /// Begins with a quote and is no quoted string.
    #[error("must be one string; its quotes do not close it")]
    Quotes,
}

impl IdempotencyKey {
    /// The key, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;

    fn from_str(text: &str) -> Result<Self, IdempotencyKeyError> {
        let key = match text.strip_prefix('"') {
            Some(rest) => unquoted(rest)?,
            None => text.to_owned(),
        };
        if key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_BYTES {
            return Err(IdempotencyKeyError::Length);
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(IdempotencyKeyError::Character);
        }
        Ok(Self(key))
    }
}

/// Reads a quoted string behind its first quote; only quotes and backslashes may be escaped.
fn unquoted(rest: &str) -> Result<String, IdempotencyKeyError> {
    let mut key = String::with_capacity(rest.len());
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' if characters.as_str().is_empty() => return Ok(key),
            '"' => return Err(IdempotencyKeyError::Quotes),
            '\\' => match characters.next() {
                Some(escaped @ ('"' | '\\')) => key.push(escaped),
                _ => return Err(IdempotencyKeyError::Quotes),
            },
            _ => key.push(character),
        }
    }
    Err(IdempotencyKeyError::Quotes)
}

/// A request that is to be done at most once, by what tells it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnceRequest {
    /// A hash of caller, method, path and key together.
    pub scope: [u8; 32],
    /// A hash of everything else that says what is asked for, but for the values of secrets.
    pub content: [u8; 32],
    /// Stands for the values of secrets, if it has any.
    pub seal: Option<Seal>,
}

/// A keyed hash of secrets. Its key lives in memory only, so whoever reads a stored seal cannot
/// try guesses on it; after a restart nobody can compare it any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Names the key.
    pub key: [u8; 16],
    /// The hash.
    pub hash: [u8; 32],
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(***)")
    }
}

impl OnceRequest {
    /// Whether `other`, of the same scope, asks for the same. Seals under different keys cannot be
    /// compared, and count as equal.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        let seals_fit = match (self.seal, other.seal) {
            (Some(one), Some(two)) => one.key != two.key || one.hash == two.hash,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.content == other.content && seals_fit
    }
}

/// An answer as it was first given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON document.
    pub body: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<String, IdempotencyKeyError> {
        text.parse::<IdempotencyKey>()
            .map(|key| key.as_str().to_owned())
    }

    #[test]
    fn a_key_is_the_same_with_and_without_quotes() {
        for (given, read) in [
            (
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
            ),
            ("\"8e03978e\"", "8e03978e"),
            ("a\"b", "a\"b"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("!~", "!~"),
        ] {
            assert_eq!(key(given).as_deref(), Ok(read));
        }
        assert!(key(&"k".repeat(255)).is_ok());
    }

    #[test]
    fn anything_that_is_not_one_visible_string_is_refused() {
        use IdempotencyKeyError::{Character, Length, Quotes};
        for (given, error) in [
            ("", Length),
            ("\"\"", Length),
            ("a b", Character),
            ("\"a b\"", Character),
            ("a\tb", Character),
            ("é", Character),
            ("\"a", Quotes),
            ("\"", Quotes),
            ("\"a\"b", Quotes),
            ("\"a\";x=1", Quotes),
            (r#""a\""#, Quotes),
            (r#""a\b""#, Quotes),
        ] {
            assert_eq!(key(given), Err(error), "{given:?}");
        }
        assert_eq!(key(&"k".repeat(256)), Err(Length));
    }

    #[test]
    fn requests_are_the_same_by_content_and_by_secrets_that_can_be_compared() {
        let seal = |key, hash| {
            Some(Seal {
                key: [key; 16],
                hash: [hash; 32],
            })
        };
        let request = |content, seal| OnceRequest {
            scope: [0; 32],
            content: [content; 32],
            seal,
        };
        let same = |one: &OnceRequest, two: &OnceRequest| {
            assert_eq!(one.asks_the_same_as(two), two.asks_the_same_as(one));
            one.asks_the_same_as(two)
        };
        assert!(same(&request(1, None), &request(1, None)));
        assert!(!same(&request(1, None), &request(2, None)));
        assert!(same(&request(1, seal(1, 1)), &request(1, seal(1, 1))));
        assert!(!same(&request(1, seal(1, 1)), &request(1, seal(1, 2))));
        assert!(same(&request(1, seal(1, 1)), &request(1, seal(2, 2))));
        assert!(!same(&request(1, seal(1, 1)), &request(2, seal(2, 1))));
        assert!(!same(&request(1, seal(1, 1)), &request(1, None)));
    }
}
