//! GitHub's REST answers, as far as they matter here, and what an error answer means.

use std::time::Duration;

use agent_domain::PullRequest;
use serde::{Deserialize, Serialize};

use crate::{ForgeError, PullRequestRequest};

/// Longest text taken over from an answer into an error.
const MESSAGE_MAX: usize = 500;

/// The body of `POST /repos/{owner}/{repo}/pulls`.
#[derive(Debug, Serialize)]
pub(crate) struct NewPull<'a> {
    title: &'a str,
    head: &'a str,
    base: &'a str,
    body: &'a str,
}

impl<'a> From<&'a PullRequestRequest> for NewPull<'a> {
    fn from(request: &'a PullRequestRequest) -> Self {
        Self {
            title: &request.title,
            head: request.head.as_str(),
            base: request.base.as_str(),
            body: &request.body,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Pull {
    number: u64,
    html_url: String,
    #[serde(default)]
    base: Base,
}

#[derive(Debug, Default, Deserialize)]
struct Base {
    #[serde(default, rename = "ref")]
    name: String,
}

#[derive(Debug, Default, Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<serde_json::Value>,
}

/// An answer of the API, whoever fetched it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) retry_after: Option<Duration>,
    /// `x-ratelimit-remaining: 0`.
    pub(crate) limit_used_up: bool,
}

impl Answer {
    /// Reads a pull request that was just made.
    pub(crate) fn pull(&self) -> Result<PullRequest, ForgeError> {
        let pull: Pull = self.parse()?;
        Ok(PullRequest {
            number: pull.number,
            url: pull.html_url,
        })
    }

    /// Reads a list, and picks the pull request into `base`, or else the first.
    pub(crate) fn pick(&self, base: &str) -> Result<Option<PullRequest>, ForgeError> {
        let pulls: Vec<Pull> = self.parse()?;
        let into_base = pulls.iter().find(|pull| pull.base.name == base);
        let picked = into_base.or(pulls.first());
        Ok(picked.map(|pull| PullRequest {
            number: pull.number,
            url: pull.html_url.clone(),
        }))
    }

    /// Whether GitHub says that there is an open pull request for the branch already.
    pub(crate) fn says_exists(&self) -> bool {
        self.status == 422 && self.message().contains("already exists")
    }

    /// What an answer that is no success means.
    pub(crate) fn error(&self) -> ForgeError {
        let (status, message) = (self.status, self.message());
        let limited = message.to_ascii_lowercase().contains("rate limit");
        let asked_to_wait = self.retry_after.is_some() || self.limit_used_up || limited;
        match status {
            429 | 500..=599 => self.busy(message),
            403 if asked_to_wait => self.busy(message),
            401 | 403 => ForgeError::Denied { status, message },
            404 => ForgeError::NotFound(message),
            300..=399 => ForgeError::Unexpected(format!("a redirect ({status})")),
            _ => ForgeError::Refused { status, message },
        }
    }

    fn busy(&self, message: String) -> ForgeError {
        ForgeError::Busy {
            status: self.status,
            message,
            retry_after: self.retry_after,
        }
    }

    fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ForgeError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| ForgeError::Unexpected(error.to_string()))
    }

    /// `message`, and the messages of its `errors`, which say what is really wrong.
    fn message(&self) -> String {
        let failure: Failure = serde_json::from_slice(&self.body).unwrap_or_default();
        let detail = |error: &serde_json::Value| {
            let text = error
                .get("message")
                .or_else(|| error.get("code"))
                .unwrap_or(error);
            text.as_str().map(str::to_owned)
        };
        let details: Vec<_> = failure.errors.iter().filter_map(detail).collect();
        let message = match (failure.message.is_empty(), details.is_empty()) {
            (true, true) => "no reason given".to_owned(),
            (false, true) => failure.message,
            (true, false) => details.join("; "),
            (false, false) => format!("{}: {}", failure.message, details.join("; ")),
        };
        message
            .chars()
            .filter(|c| !c.is_control())
            .take(MESSAGE_MAX)
            .collect()
    }
}

/// The path below the API's base for a repository's pull requests.
pub(crate) fn pulls_path(request: &PullRequestRequest) -> String {
    format!("repos/{}/{}/pulls", request.repo.org(), request.repo.repo())
}

/// The query that lists the open pull requests of a branch.
pub(crate) fn head_query(request: &PullRequestRequest) -> String {
    let head = format!("{}:{}", request.repo.org(), request.head);
    let encoded: String = url::form_urlencoded::byte_serialize(head.as_bytes()).collect();
    format!("state=open&per_page=100&head={encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            body: body.into(),
            retry_after: None,
            limit_used_up: false,
        }
    }

    #[test]
    fn the_reason_behind_a_validation_failure_is_shown() {
        let refused = answer(
            422,
            r#"{"message":"Validation Failed","errors":[{"resource":"PullRequest","code":"custom","message":"No commits between main and x"}]}"#,
        );
        let text = refused.error().to_string();
        assert!(
            text.contains("Validation Failed: No commits between main and x"),
            "{text}"
        );
        assert!(!refused.error().is_transient() && !refused.says_exists());
    }

    #[test]
    fn limits_and_server_errors_are_worth_another_try() {
        let limited = answer(
            403,
            r#"{"message":"You have exceeded a secondary rate limit"}"#,
        );
        assert!(limited.error().is_transient());
        assert!(answer(429, "").error().is_transient());
        assert!(answer(502, "<html>").error().is_transient());
        let mut told = answer(403, "{}");
        told.retry_after = Some(Duration::from_secs(7));
        assert_eq!(told.error().retry_after(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn refused_credentials_and_missing_repositories_are_final() {
        for status in [401, 403, 404, 422] {
            assert!(!answer(status, "{}").error().is_transient(), "{status}");
        }
    }

    #[test]
    fn the_pull_request_into_the_wanted_base_is_picked() {
        let list = answer(
            200,
            r#"[{"number":1,"html_url":"u1","base":{"ref":"dev"}},{"number":2,"html_url":"u2","base":{"ref":"main"}}]"#,
        );
        assert_eq!(list.pick("main").unwrap().unwrap().number, 2);
        assert_eq!(list.pick("other").unwrap().unwrap().number, 1);
        assert_eq!(answer(200, "[]").pick("main").unwrap(), None);
        assert!(answer(200, "{").pick("main").is_err());
    }
}
