//! Branch names, checked by git's own rules.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// A name `git check-ref-format --branch` accepts, and that no command can take for an option.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BranchName(String);

/// Why a branch name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BranchNameError {
    /// No characters at all.
    #[error("must not be empty")]
    Empty,
    /// Longer than [`limits::BRANCH_BYTES`].
    #[error("must be at most {} bytes", limits::BRANCH_BYTES)]
    TooLong,
    /// Broken rule of git's, in words.
    #[error("is not a branch name git accepts: {0}")]
    Rule(&'static str),
}

impl BranchName {
    /// The name without `refs/heads/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full name of the branch, `refs/heads/<name>`.
    pub fn full_ref(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BranchName {
    type Err = BranchNameError;

    /// Applies the rules of git-check-ref-format(1), and those of `--branch`: no leading dash,
    /// and not `HEAD`.
    fn from_str(name: &str) -> Result<Self, BranchNameError> {
        if name.is_empty() {
            return Err(BranchNameError::Empty);
        }
        if name.len() > limits::BRANCH_BYTES {
            return Err(BranchNameError::TooLong);
        }
        match broken_rule(name) {
            Some(rule) => Err(BranchNameError::Rule(rule)),
            None => Ok(Self(name.into())),
        }
    }
}

fn broken_rule(name: &str) -> Option<&'static str> {
    let forbidden = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    let bad_part = |part: &str| {
        part.is_empty() || part.starts_with('.') || part.strip_suffix(".lock").is_some()
    };
    if name.chars().any(forbidden) {
        Some("no spaces, control characters or any of ~^:?*[\\")
    } else if name.contains("..") || name.ends_with('.') {
        Some("no '..' and no '.' at the end")
    } else if name.contains("@{") || name == "@" || name == "HEAD" {
        Some("no '@{', and neither '@' nor 'HEAD' alone")
    } else if name.starts_with('-') {
        Some("no '-' at the start")
    } else if name.split('/').any(bad_part) {
        Some(
            "each part between slashes is not empty, has no '.' at its start and no '.lock' at its end",
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_and_odd_but_legal_names_are_accepted() {
        for good in [
            "main",
            "feature/quotes-tab",
            "a",
            "ünï/cödé",
            "a@b",
            "x.lock.y",
            "v1.2",
            "a/-b",
            "semi;colon",
            "$(x)",
            "\"q\"",
        ] {
            assert!(good.parse::<BranchName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn names_git_refuses_are_refused() {
        for bad in [
            "", "-x", "a b", "a..b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "/a", "a/",
            "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "@", "a@{b", "HEAD", "a\nb", "a\0b",
            "a\u{7f}",
        ] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "a".repeat(201).parse::<BranchName>(),
            Err(BranchNameError::TooLong)
        );
    }
}
