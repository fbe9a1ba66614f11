//! What a job starts from, and what becomes of its work.

use std::fmt;
use std::str::FromStr;

use crate::{BranchName, CommitId};

/// What becomes of the work of a job that has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// `pull_request`: its branch is pushed, and a pull request opened where there is a forge.
    #[default]
    PullRequest,
    /// `branch`: its branch is pushed.
    Branch,
    /// `none`: nothing leaves the machine; the work is kept as `refs/agent/<job>` in the mirror.
    None,
}

impl Delivery {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::PullRequest, Self::Branch, Self::None];

    /// The public spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PullRequest => "pull_request",
            Self::Branch => "branch",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no way of delivery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of pull_request, branch, none")]
pub struct DeliveryError;

impl FromStr for Delivery {
    type Err = DeliveryError;

    fn from_str(text: &str) -> Result<Self, DeliveryError> {
        let found = Self::ALL.into_iter().find(|way| way.as_str() == text);
        found.ok_or(DeliveryError)
    }
}

/// What a job starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A branch of the remote, as it is when the job begins.
    Branch(BranchName),
    /// A commit.
    Commit(CommitId),
}

impl Base {
    /// The branch, if it is one.
    pub const fn branch(&self) -> Option<&BranchName> {
        match self {
            Self::Branch(branch) => Some(branch),
            Self::Commit(_) => None,
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(branch) => branch.fmt(f),
            Self::Commit(commit) => commit.fmt(f),
        }
    }
}

/// A text that is neither a branch nor a commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a branch or the full id of a commit: {0}")]
pub struct BaseError(#[from] crate::BranchNameError);

impl FromStr for Base {
    type Err = BaseError;

    /// What looks like the full id of a commit is one.
    fn from_str(text: &str) -> Result<Self, BaseError> {
        match text.parse() {
            Ok(commit) => Ok(Self::Commit(commit)),
            Err(_) => Ok(Self::Branch(text.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_of_delivery_read_back_as_written() {
        for way in Delivery::ALL {
            assert_eq!(way.to_string().parse(), Ok(way));
        }
        assert!("pr".parse::<Delivery>().is_err());
    }

    #[test]
    fn a_full_id_is_a_commit_and_all_else_a_branch() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(id.parse(), Ok(Base::Commit(id.parse().unwrap())));
        for branch in ["develop", "release/1.2", &id[1..], "ABCDEF"] {
            let base: Base = branch.parse().unwrap();
            assert_eq!(base.branch().map(BranchName::as_str), Some(branch));
            assert_eq!(base.to_string(), branch);
        }
        assert!("a..b".parse::<Base>().is_err() && "".parse::<Base>().is_err());
    }
}
