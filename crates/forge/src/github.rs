//! GitHub's REST API with a token.

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use agent_domain::{PullRequest, RepoSlug, Secret};
use ureq::http::{Method, Request, Response, StatusCode, header};
use ureq::{Agent, Body};
use url::Url;

use crate::wire::{self, ANSWER_MAX, Answer, Opened};
use crate::{ForgeError, PullRequestRequest, network};

/// The version of the REST API whose answers are read here.
const API_VERSION: &str = "2022-11-28";
/// Longest time to reach the API.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Longest time for one answer; opening a pull request in a large repository takes seconds.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// Redirects followed within the API's own server, where a repository was renamed.
const REDIRECTS_MAX: usize = 3;

/// Opens pull requests through the REST API; cheap to clone.
#[derive(Clone)]
pub struct GitHub {
    agent: Agent,
    api: Url,
    token: Secret,
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let api = self.api.as_str();
        f.debug_struct("GitHub")
            .field("api", &api)
            .finish_non_exhaustive()
    }
}

impl GitHub {
    /// Speaks to the API at `api_url`, which may have a path, as GitHub Enterprise has. `env`
    /// says through which proxy, and which certificates are trusted.
    pub fn new(
        api_url: &str,
        token: Secret,
        env: &[(OsString, OsString)],
    ) -> Result<Self, ForgeError> {
        let api = checked(api_url)?;
        check(&token)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Followed here, and only where the token may go.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN))
            // A connection kept since the last job may be dead, and a POST is not repeated.
            .max_idle_connections(0)
            .proxy(network::proxy(&api, env)?)
            .tls_config(network::tls(env)?)
            .build();
        Ok(Self {
            agent: config.new_agent(),
            api,
            token,
        })
    }

    /// The same API with another token.
    pub(crate) fn with_token(&self, token: &Secret) -> Result<Self, ForgeError> {
        check(token)?;
        let token = token.clone();
        Ok(Self {
            token,
            ..self.clone()
        })
    }

    /// Opens a pull request, or finds the one that is open for the branch already.
    pub(crate) async fn pull_request(
        &self,
        request: &PullRequestRequest,
    ) -> Result<PullRequest, ForgeError> {
        let request = request.clone();
        self.blocking(move |own| own.open_or_find(&request)).await
    }

    /// Asks who the token belongs to.
    pub(crate) async fn user(&self) -> Result<String, ForgeError> {
        self.blocking(|own| wire::user(&own.send(&Method::GET, own.below(&["user"])?, &[])?))
            .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Self) -> Result<T, ForgeError> + Send + 'static,
    ) -> Result<T, ForgeError> {
        let own = self.clone();
        let asked = tokio::task::spawn_blocking(move || ask(own)).await;
        asked.map_err(|error| ForgeError::Network(error.to_string()))?
    }

    fn open_or_find(&self, request: &PullRequestRequest) -> Result<PullRequest, ForgeError> {
        let (org, repo) = (request.repo.org(), request.repo.repo());
        let pulls = self.below(&["repos", org, repo, "pulls"])?;
        let answer = self.send(&Method::POST, pulls.clone(), &wire::body(request))?;
        let missing = match wire::opened(&answer)? {
            Opened::New(pull_request) => return Ok(pull_request),
            Opened::Already(missing) => missing,
        };
        let mut list = pulls;
        list.set_query(Some(&wire::query(request)));
        let answer = self.send(&Method::GET, list, &[])?;
        wire::found(&answer, &request.base)?.ok_or(missing)
    }

    /// Adds labels to a pull request, which to GitHub is an issue, too.
    pub(crate) async fn label(
        &self,
        repo: &RepoSlug,
        number: u64,
        labels: &[String],
    ) -> Result<(), ForgeError> {
        let number = number.to_string();
        let way = [
            "repos",
            repo.org(),
            repo.repo(),
            "issues",
            &number,
            "labels",
        ];
        let (url, body) = (self.below(&way)?, wire::labels(labels));
        self.blocking(move |own| wire::expect_success(&own.send(&Method::POST, url, &body)?))
            .await
    }

    /// An address below whatever path the API has.
    fn below(&self, way: &[&str]) -> Result<Url, ForgeError> {
        let mut url = self.api.clone();
        match url.path_segments_mut() {
            Ok(mut path) => path.pop_if_empty().extend(way),
            Err(()) => return Err(ForgeError::Unavailable("the API's URL has no path".into())),
        };
        Ok(url)
    }

    fn send(&self, method: &Method, url: Url, body: &[u8]) -> Result<Answer, ForgeError> {
        let (mut method, mut url) = (method.clone(), url);
        for _ in 0..=REDIRECTS_MAX {
            let response = self.exchange(&method, &url, body)?;
            if !response.status().is_redirection() {
                return self.read(response);
            }
            url = self.redirected(&url, &response)?;
            if response.status() == StatusCode::SEE_OTHER {
                method = Method::GET;
            }
        }
        Err(ForgeError::Unexpected("too many redirects".into()))
    }

    fn exchange(
        &self,
        method: &Method,
        url: &Url,
        body: &[u8],
    ) -> Result<Response<Body>, ForgeError> {
        let authorization = format!("Bearer {}", self.token.expose());
        let agent = concat!("agent-server/", env!("CARGO_PKG_VERSION"));
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(header::ACCEPT, "application/vnd.github+json")
            .header("X-GitHub-Api-Version", API_VERSION)
            .header(header::USER_AGENT, agent)
            .header(header::AUTHORIZATION, authorization);
        let sent = if method == Method::GET {
            let request = request.body(()).map_err(ureq::Error::from);
            request.and_then(|request| self.agent.run(request))
        } else {
            let request = request.header(header::CONTENT_TYPE, "application/json");
            let request = request.body(body).map_err(ureq::Error::from);
            request.and_then(|request| self.agent.run(request))
        };
        sent.map_err(|error| self.failed(&error))
    }

    /// Where a redirect leads, if that is the same server: no other is to see the token.
    fn redirected(&self, from: &Url, response: &Response<Body>) -> Result<Url, ForgeError> {
        let target = response
            .headers()
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|target| from.join(target).ok())
            .ok_or_else(|| ForgeError::Unexpected("a redirect to nowhere".into()))?;
        if target.origin() == self.api.origin() {
            return Ok(target);
        }
        let host = wire::shown(target.host_str().unwrap_or_default());
        Err(ForgeError::Unexpected(format!(
            "a redirect to another server ({host}), which is not to see the token"
        )))
    }

    fn read(&self, response: Response<Body>) -> Result<Answer, ForgeError> {
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let mut answer = Answer {
            status: response.status().as_u16(),
            retry_after: header("retry-after"),
            limit_remaining: header("x-ratelimit-remaining"),
            limit_reset: header("x-ratelimit-reset"),
            date: header("date"),
            body: Vec::new(),
        };
        let body = response.into_body().into_with_config().limit(ANSWER_MAX);
        answer.body = body.read_to_vec().map_err(|error| self.failed(&error))?;
        Ok(answer)
    }

    fn failed(&self, error: &ureq::Error) -> ForgeError {
        let text = error.to_string().replace(self.token.expose(), "***");
        let text = wire::shown(&text);
        match error {
            ureq::Error::Timeout(_)
            | ureq::Error::Io(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Protocol(_) => ForgeError::Network(text),
            _ => ForgeError::Unexpected(text),
        }
    }
}

fn check(token: &Secret) -> Result<(), ForgeError> {
    let text = token.expose();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ForgeError::Unavailable(
            "the token has characters that no token has".into(),
        ));
    }
    Ok(())
}

fn checked(api_url: &str) -> Result<Url, ForgeError> {
    let refuse = |why: &str| ForgeError::Unavailable(format!("the URL of GitHub's API {why}"));
    let api = Url::parse(api_url).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    let plain = api.username().is_empty()
        && api.password().is_none()
        && api.query().is_none()
        && api.fragment().is_none();
    if matches!(api.scheme(), "http" | "https") && plain {
        Ok(api)
    } else {
        Err(refuse("must be http(s), with host and path and no more"))
    }
}

#[cfg(test)]
#[path = "github_tests.rs"]
mod tests;
