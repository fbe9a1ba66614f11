//! Texts that must never be shown, and a job's own keys, which are never stored either.

use std::fmt;

use zeroize::Zeroizing;

use crate::limits;

/// Wraps a secret so that `Debug` cannot print it; there is no `Display`. Its memory is
/// overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// Why a text given as a secret was refused; never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Empty, or longer than [`limits::SECRET_BYTES`].
    #[error("must have 1 to {} bytes", limits::SECRET_BYTES)]
    Length,
    /// Holds a line feed, a NUL or another control character.
    #[error("must not contain line breaks or control characters")]
    Control,
}

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// Wraps a caller's `value`, if it can be put into an environment or a header.
    pub fn checked(value: String) -> Result<Self, SecretError> {
        let secret = Self::new(value);
        if secret.0.is_empty() || secret.0.len() > limits::SECRET_BYTES {
            return Err(SecretError::Length);
        }
        if secret.0.chars().any(char::is_control) {
            return Err(SecretError::Control);
        }
        Ok(secret)
    }

    /// Gives the value away; call it only where the value is used.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// How the CLI pays for a job. Never both: the CLI takes the API key and ignores the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentKey {
    /// `ANTHROPIC_API_KEY`.
    ApiKey(Secret),
    /// `CLAUDE_CODE_OAUTH_TOKEN`.
    OauthToken(Secret),
}

impl AgentKey {
    /// The variable in which the CLI looks for it.
    pub const fn variable(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => "ANTHROPIC_API_KEY",
            Self::OauthToken(_) => "CLAUDE_CODE_OAUTH_TOKEN",
        }
    }

    /// The key itself.
    pub const fn secret(&self) -> &Secret {
        match self {
            Self::ApiKey(secret) | Self::OauthToken(secret) => secret,
        }
    }
}

/// A job's own keys, used in place of the server's. They live in memory only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobSecrets {
    /// For the CLI.
    pub agent: Option<AgentKey>,
    /// For fetching and pushing.
    pub git_token: Option<Secret>,
}

/// Which keys of its own a job has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretKinds {
    /// One for the CLI.
    pub agent: bool,
    /// One for git.
    pub git: bool,
}

impl JobSecrets {
    /// Which there are.
    pub const fn kinds(&self) -> SecretKinds {
        SecretKinds {
            agent: self.agent.is_some(),
            git: self.git_token.is_some(),
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<Secret> {
        let agent = self.agent.as_ref().map(AgentKey::secret);
        agent.into_iter().chain(&self.git_token).cloned().collect()
    }
}

impl SecretKinds {
    /// Whether there is any.
    pub const fn any(self) -> bool {
        self.agent || self.git
    }

    /// Those that `other` does not have.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self {
            agent: self.agent && !other.agent,
            git: self.git && !other.git,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_value() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(***)");
        let secrets = JobSecrets {
            agent: Some(AgentKey::ApiKey(Secret::new("hunter2"))),
            git_token: Some(Secret::new("hunter3")),
        };
        assert!(!format!("{secrets:?}").contains("hunter"), "{secrets:?}");
    }

    #[test]
    fn a_callers_secret_is_one_line_of_bounded_length() {
        assert!(Secret::checked("k".to_owned()).is_ok());
        assert!(Secret::checked("k".repeat(limits::SECRET_BYTES)).is_ok());
        for (bad, error) in [
            (String::new(), SecretError::Length),
            ("k".repeat(limits::SECRET_BYTES + 1), SecretError::Length),
            ("a\nb".to_owned(), SecretError::Control),
            ("a\0b".to_owned(), SecretError::Control),
            ("a\r".to_owned(), SecretError::Control),
        ] {
            assert_eq!(Secret::checked(bad), Err(error));
        }
    }

    #[test]
    fn what_is_missing_is_what_one_has_and_the_other_has_not() {
        let kinds = |agent, git| SecretKinds { agent, git };
        assert_eq!(
            kinds(true, true).without(kinds(true, false)),
            kinds(false, true)
        );
        assert_eq!(
            kinds(false, true).without(kinds(true, true)),
            kinds(false, false)
        );
        assert!(!kinds(true, false).without(kinds(true, false)).any());
    }
}
