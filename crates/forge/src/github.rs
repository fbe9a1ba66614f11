//! GitHub's REST API with a token.

use std::sync::Arc;
use std::time::Duration;

use agent_domain::{PullRequest, Secret};
use ureq::Agent;
use ureq::http::{HeaderMap, Response};

use crate::wire::{Answer, NewPull, head_query, pulls_path};
use crate::{ForgeError, PullRequestRequest};

/// The version of the REST API whose answers are read here.
const API_VERSION: &str = "2022-11-28";
/// Longest time to reach the API.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Longest time for one answer; opening a pull request in a large repository takes seconds.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// Longest answer that is read.
const ANSWER_MAX: u64 = 4 * 1024 * 1024;

/// Opens pull requests through the REST API.
#[derive(Debug, Clone)]
pub struct GitHub {
    agent: Agent,
    api_url: Arc<str>,
    token: Secret,
}

impl GitHub {
    /// Speaks to the API at `api_url`, which may have a path, as GitHub Enterprise has.
    pub fn new(api_url: &str, token: Secret) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would carry the token to wherever it points.
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN))
            .user_agent(concat!("agent-server/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.into(),
            api_url: api_url.trim_end_matches('/').into(),
            token,
        }
    }

    /// Opens a pull request, or finds the one that is open for the branch already.
    pub(crate) async fn pull_request(
        &self,
        request: &PullRequestRequest,
    ) -> Result<PullRequest, ForgeError> {
        let (own, request) = (self.clone(), request.clone());
        let asked = tokio::task::spawn_blocking(move || own.open_or_find(&request)).await;
        asked.map_err(|error| ForgeError::Network(error.to_string()))?
    }

    fn open_or_find(&self, request: &PullRequestRequest) -> Result<PullRequest, ForgeError> {
        let made = self.post(&pulls_path(request), &NewPull::from(request))?;
        if made.status == 201 {
            return made.pull();
        }
        if !made.says_exists() {
            return Err(made.error());
        }
        let found = self.get(&format!("{}?{}", pulls_path(request), head_query(request)))?;
        if found.status != 200 {
            return Err(found.error());
        }
        found
            .pick(request.base.as_str())?
            .ok_or_else(|| made.error())
    }

    fn post(&self, path: &str, body: &NewPull<'_>) -> Result<Answer, ForgeError> {
        let request = self.agent.post(self.url(path));
        let headers = self.headers();
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, value)
        });
        answer(request.send_json(body))
    }

    fn get(&self, path: &str) -> Result<Answer, ForgeError> {
        let request = self.agent.get(self.url(path));
        let headers = self.headers();
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, value)
        });
        answer(request.call())
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.api_url)
    }

    fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("authorization", format!("Bearer {}", self.token.expose())),
            ("accept", "application/vnd.github+json".to_owned()),
            ("x-github-api-version", API_VERSION.to_owned()),
        ]
    }
}

fn answer(sent: Result<Response<ureq::Body>, ureq::Error>) -> Result<Answer, ForgeError> {
    let network = |error: ureq::Error| ForgeError::Network(error.to_string());
    let mut response = sent.map_err(network)?;
    let (retry_after, limit_used_up) = limits(response.headers());
    let body = response
        .body_mut()
        .with_config()
        .limit(ANSWER_MAX)
        .read_to_vec()
        .map_err(network)?;
    Ok(Answer {
        status: response.status().as_u16(),
        body,
        retry_after,
        limit_used_up,
    })
}

fn limits(headers: &HeaderMap) -> (Option<Duration>, bool) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = text("retry-after").and_then(|seconds| seconds.trim().parse().ok());
    (
        seconds.map(Duration::from_secs),
        text("x-ratelimit-remaining") == Some("0"),
    )
}
