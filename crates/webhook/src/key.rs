//! The key that callbacks are signed with.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What Standard Webhooks puts before a key written in base64.
const PREFIX: &str = "whsec_";

/// The key of both signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Vec<u8>);

/// Why a signing key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// No bytes: anyone could sign with it.
    #[error("must not be empty")]
    Empty,
    /// Begins as a key in base64 does, and is none: whoever wrote it meant other bytes than its own.
    #[error("begins with whsec_, but what follows is not padded base64")]
    Base64,
}

impl SigningKey {
    /// Reads a configured secret: `whsec_` and padded base64 stand for the decoded bytes; a value
    /// without that prefix stands for its own bytes.
    pub fn parse(secret: &str) -> Result<Self, SigningKeyError> {
        let bytes = match secret.strip_prefix(PREFIX) {
            Some(encoded) => STANDARD
                .decode(encoded)
                .map_err(|_| SigningKeyError::Base64)?,
            None => secret.as_bytes().to_vec(),
        };
        if bytes.is_empty() {
            return Err(SigningKeyError::Empty);
        }
        Ok(Self(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(secret: &str) -> Vec<u8> {
        SigningKey::parse(secret).unwrap().bytes().to_vec()
    }

    #[test]
    fn a_prefixed_key_is_decoded_and_any_other_stands_for_its_bytes() {
        assert_eq!(bytes("whsec_aGVsbG8="), b"hello");
        assert_eq!(bytes("hello"), b"hello");
        assert_eq!(bytes("aGVsbG8="), b"aGVsbG8=");
        assert_eq!(bytes(" hello\n"), b" hello\n");
        for broken in ["whsec_aGVsbG8", "whsec_not base64", "whsec_a-_b", "whsec_é"] {
            assert_eq!(SigningKey::parse(broken), Err(SigningKeyError::Base64));
        }
    }

    #[test]
    fn an_empty_key_is_refused() {
        for empty in ["", "whsec_"] {
            assert_eq!(SigningKey::parse(empty), Err(SigningKeyError::Empty));
        }
    }

    #[test]
    fn debug_output_hides_the_key() {
        let shown = format!("{:?}", SigningKey::parse("hunter2").unwrap());
        assert_eq!(shown, "SigningKey(***)");
    }
}
