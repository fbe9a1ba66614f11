//! Which way pull requests are opened.

use std::ffi::OsString;
use std::path::PathBuf;

use agent_domain::{BranchName, PullRequest, RepoSlug, Secret};

use crate::{ForgeError, Gh, GitHub};

/// Where GitHub's own API is.
pub(crate) const GITHUB_API: &str = "https://api.github.com";

/// What decides how pull requests are opened.
#[derive(Debug, Clone)]
pub struct ForgeConfig {
    /// Whether the remote is GitHub; see [`crate::is_github`].
    pub is_github: bool,
    /// Base URL of the REST API, where it is not GitHub's own.
    pub api_url: Option<String>,
    /// Token for the API; without one `gh` is used.
    pub token: Option<Secret>,
    /// The GitHub CLI: a path, or a name looked up in the PATH of `env`.
    pub gh: PathBuf,
    /// The whole environment of `gh`. Its proxy variables and `SSL_CERT_FILE` hold for the REST
    /// API as well.
    pub env: Vec<(OsString, OsString)>,
}

/// A pull request to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestRequest {
    /// The repository.
    pub repo: RepoSlug,
    /// The branch with the work, pushed already.
    pub head: BranchName,
    /// The branch it is to go to.
    pub base: BranchName,
    /// For people; arrives as it is.
    pub title: String,
    /// For people; arrives as it is.
    pub body: String,
    /// Whether it is not yet to be merged.
    pub draft: bool,
}

/// A way to open pull requests.
#[derive(Debug, Clone)]
pub enum Forge {
    /// GitHub's REST API with a token.
    GitHub(GitHub),
    /// The `gh` command and its login.
    Gh(Gh),
    /// The remote is GitHub, and the settings are such that nothing can be opened there: why.
    Unavailable(String),
    /// The remote is no forge we know: a pushed branch is all there is.
    Plain,
}

impl Forge {
    /// Chooses the way.
    pub fn new(config: ForgeConfig) -> Self {
        if !config.is_github {
            return Self::Plain;
        }
        match config.token {
            Some(token) => {
                let api_url = config.api_url.as_deref().unwrap_or(GITHUB_API);
                match GitHub::new(api_url, token, &config.env) {
                    Ok(github) => Self::GitHub(github),
                    Err(error) => Self::Unavailable(error.to_string()),
                }
            }
            None => Self::Gh(Gh::new(config.gh, config.api_url.as_deref(), config.env)),
        }
    }

    /// The same way for a job that brought a token of its own: always the REST API, where there is
    /// any way at all. [`Forge::Unavailable`] when no token looks like that.
    #[must_use]
    pub fn with_token(&self, token: &Secret) -> Self {
        let own = match self {
            Self::GitHub(github) => github.with_token(token),
            Self::Gh(gh) => gh.rest(token),
            Self::Unavailable(_) | Self::Plain => return self.clone(),
        };
        match own {
            Ok(github) => Self::GitHub(github),
            Err(error) => Self::Unavailable(error.to_string()),
        }
    }

    /// Whether pull requests are opened at all; an error when they should be and cannot.
    ///
    /// Asked before an agent is started, so that a job without a way out costs nothing.
    pub async fn ready(&self) -> Result<bool, ForgeError> {
        match self {
            Self::GitHub(_) => Ok(true),
            Self::Gh(gh) => gh.require_login().await.map(|()| true),
            Self::Unavailable(why) => Err(ForgeError::Unavailable(why.clone())),
            Self::Plain => Ok(false),
        }
    }

    /// As [`Forge::ready`], but asks the forge itself, and returns who we are there.
    pub async fn user(&self) -> Result<Option<String>, ForgeError> {
        match self {
            Self::GitHub(github) => github.user().await.map(Some),
            Self::Gh(gh) => gh.user().await.map(Some),
            Self::Unavailable(_) | Self::Plain => self.ready().await.map(|_| None),
        }
    }

    /// Opens a pull request, or finds the one that is open for the branch already.
    pub async fn pull_request(
        &self,
        request: &PullRequestRequest,
    ) -> Result<PullRequest, ForgeError> {
        match self {
            Self::GitHub(github) => github.pull_request(request).await,
            Self::Gh(gh) => gh.pull_request(request).await,
            Self::Unavailable(why) => Err(ForgeError::Unavailable(why.clone())),
            Self::Plain => Err(ForgeError::Unavailable("the remote is not GitHub".into())),
        }
    }

    /// Adds labels to a pull request; those it has stay.
    pub async fn label(
        &self,
        repo: &RepoSlug,
        number: u64,
        labels: &[String],
    ) -> Result<(), ForgeError> {
        match self {
            Self::GitHub(github) => github.label(repo, number, labels).await,
            Self::Gh(gh) => gh.label(repo, number, labels).await,
            Self::Unavailable(why) => Err(ForgeError::Unavailable(why.clone())),
            Self::Plain => Err(ForgeError::Unavailable("the remote is not GitHub".into())),
        }
    }
}
