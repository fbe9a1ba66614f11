//! Names of repositories, `org/repo`.

use std::fmt;

/// Organisation and repository, each safe as one part of a path and of a URL.
///
/// Compared exactly here; looking a client up ignores case, as GitHub does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepoSlug {
    org: String,
    repo: String,
}

/// Why an organisation or repository name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to 100 letters, digits, '-', '_' or '.', not '.' or '..', not start with '-', and not end in '.git' or '.lock'"
)]
pub struct RepoSlugError;

impl RepoSlug {
    /// Checks both names; see [`RepoSlug::check_part`].
    pub fn new(org: &str, repo: &str) -> Result<Self, RepoSlugError> {
        Self::check_part(org)?;
        Self::check_part(repo)?;
        Ok(Self {
            org: org.into(),
            repo: repo.into(),
        })
    }

    /// Accepts one name: the characters GitHub allows, and nothing that a path, a URL or git
    /// would read in a way of its own.
    pub fn check_part(name: &str) -> Result<(), RepoSlugError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let lower = name.to_ascii_lowercase();
        let odd = matches!(name, "." | "..")
            || name.starts_with('-')
            || lower.strip_suffix(".git").is_some()
            || lower.strip_suffix(".lock").is_some();
        if name.is_empty() || name.len() > 100 || odd || !name.chars().all(legal) {
            return Err(RepoSlugError);
        }
        Ok(())
    }

    /// The organisation or user.
    pub fn org(&self) -> &str {
        &self.org
    }

    /// The repository, without `.git`.
    pub fn repo(&self) -> &str {
        &self.repo
    }
}

impl fmt::Display for RepoSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.repo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_their_directory_are_refused() {
        for bad in [
            "", ".", "..", "a/b", "-x", "a b", "é", "x.git", "x.GIT", "x.lock", "a\0",
        ] {
            assert!(RepoSlug::new("org", bad).is_err(), "{bad:?}");
            assert!(RepoSlug::new(bad, "repo").is_err(), "{bad:?}");
        }
        assert!(RepoSlug::new("org", ".github").is_ok());
        assert!(RepoSlug::new("SupportKings", "french-language_solutions.js").is_ok());
    }
}
