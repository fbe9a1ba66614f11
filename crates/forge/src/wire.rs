//! GitHub's REST requests and answers as far as they matter here, whichever way they travel.

use std::time::Duration;

use agent_domain::{BranchName, PullRequest};
use serde::Deserialize;

use crate::{ForgeError, PullRequestRequest};

/// Longest answer read, in bytes: an answer about one branch is far below.
pub(crate) const ANSWER_MAX: u64 = 4 * 1024 * 1024;
/// Longest text shown of what GitHub says, in characters.
const MESSAGE_MAX: usize = 500;

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Retry-After`.
    pub(crate) retry_after: Option<String>,
    /// `X-RateLimit-Remaining`.
    pub(crate) limit_remaining: Option<String>,
    /// `X-RateLimit-Reset`, in seconds since 1970.
    pub(crate) limit_reset: Option<String>,
    /// `Date`, the forge's own clock.
    pub(crate) date: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// What came of asking for a pull request.
pub(crate) enum Opened {
    /// It is there now.
    New(PullRequest),
    /// It was there before; the error if it is not to be found after all.
    Already(ForgeError),
}

#[derive(Deserialize)]
struct Pull {
    number: u64,
    html_url: String,
    #[serde(default)]
    base: Option<Base>,
}

#[derive(Deserialize)]
struct Base {
    #[serde(rename = "ref")]
    name: String,
}

#[derive(Deserialize)]
struct User {
    login: String,
}

#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    message: String,
    /// Texts, or objects with a message, or with field and code only.
    #[serde(default)]
    errors: serde_json::Value,
}

/// The body that asks for a pull request.
pub(crate) fn body(request: &PullRequestRequest) -> Vec<u8> {
    serde_json::json!({
        "title": request.title,
        "body": request.body,
        "head": request.head.as_str(),
        "base": request.base.as_str(),
        "draft": request.draft,
    })
    .to_string()
    .into_bytes()
}

/// The body that asks for labels.
pub(crate) fn labels(labels: &[String]) -> Vec<u8> {
    serde_json::json!({"labels": labels})
        .to_string()
        .into_bytes()
}

/// The query that finds the open pull requests of a branch.
pub(crate) fn query(request: &PullRequestRequest) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .append_pair("state", "open")
        .append_pair("head", &format!("{}:{}", request.repo.org(), request.head))
        .append_pair("per_page", "30")
        .finish()
}

/// Reads the answer to a request for a new pull request.
pub(crate) fn opened(answer: &Answer) -> Result<Opened, ForgeError> {
    if answer.status == 422 {
        let message = message(&answer.body);
        if message
            .to_lowercase()
            .contains("pull request already exists")
        {
            return Ok(Opened::Already(ForgeError::Refused {
                status: 422,
                message,
            }));
        }
    }
    expect_success(answer)?;
    let pull: Pull = parsed(&answer.body)?;
    usable(pull).map(Opened::New)
}

/// Reads the answer to [`query`]: the pull request into `base` if there is one.
pub(crate) fn found(answer: &Answer, base: &BranchName) -> Result<Option<PullRequest>, ForgeError> {
    expect_success(answer)?;
    let mut pulls: Vec<Pull> = parsed(&answer.body)?;
    let into_base = |pull: &Pull| {
        let into = pull.base.as_ref();
        into.is_some_and(|into| into.name == base.as_str())
    };
    let at = pulls.iter().position(into_base).unwrap_or(0);
    if pulls.is_empty() {
        return Ok(None);
    }
    usable(pulls.swap_remove(at)).map(Some)
}

/// Reads the answer to `GET /user`: who we are. The token of an app is good, and nobody's.
pub(crate) fn user(answer: &Answer) -> Result<String, ForgeError> {
    if answer.status == 403 {
        return Ok("an app".into());
    }
    expect_success(answer)?;
    let user: User = parsed(&answer.body)?;
    Ok(shown(&user.login))
}

pub(crate) fn expect_success(answer: &Answer) -> Result<(), ForgeError> {
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    let (status, message) = (answer.status, message(&answer.body));
    let retry_after = wait(answer);
    let busy = |message| ForgeError::Busy {
        status,
        message,
        retry_after,
    };
    Err(match status {
        408 | 429 | 500..=599 => busy(message),
        403 if is_limit(answer, &message) => busy(message),
        401 | 403 => ForgeError::Denied { status, message },
        404 | 410 => ForgeError::NotFound(message),
        300..=399 => ForgeError::Unexpected(format!("a redirect ({status})")),
        _ => ForgeError::Refused { status, message },
    })
}

/// GitHub says 403 for what it denies, and for what it only puts off.
fn is_limit(answer: &Answer, message: &str) -> bool {
    let message = message.to_lowercase();
    answer.retry_after.is_some()
        || answer.limit_remaining.as_deref() == Some("0")
        || message.contains("rate limit")
        || message.contains("abuse detection")
}

/// How long the forge wants us to wait, by its own clock.
fn wait(answer: &Answer) -> Option<Duration> {
    let date = |text: &String| {
        let parsed = jiff::fmt::rfc2822::parse(text).ok();
        parsed.map(|at| at.timestamp().as_second())
    };
    let now = answer.date.as_ref().and_then(date);
    let seconds = match &answer.retry_after {
        Some(text) => match text.trim().parse::<u64>() {
            Ok(seconds) => return Some(Duration::from_secs(seconds)),
            Err(_) => date(text)? - now?,
        },
        None if answer.limit_remaining.as_deref() == Some("0") => answer
            .limit_reset
            .as_ref()?
            .trim()
            .parse::<i64>()
            .ok()?
            .checked_sub(now?)?,
        None => return None,
    };
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ForgeError> {
    serde_json::from_slice(body).map_err(|error| ForgeError::Unexpected(error.to_string()))
}

fn usable(pull: Pull) -> Result<PullRequest, ForgeError> {
    let url = url::Url::parse(&pull.html_url).ok();
    if pull.number == 0 || !url.is_some_and(|url| matches!(url.scheme(), "http" | "https")) {
        return Err(ForgeError::Unexpected("no number or no address".into()));
    }
    Ok(PullRequest {
        number: pull.number,
        url: pull.html_url,
    })
}

/// What GitHub says was wrong: its message and those of the single errors.
fn message(body: &[u8]) -> String {
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let mut parts = vec![refusal.message];
    let errors = match refusal.errors {
        serde_json::Value::Array(errors) => errors,
        _ => Vec::new(),
    };
    parts.extend(errors.iter().map(one_error));
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() {
        parts.push("no reason given".into());
    }
    shown(&parts.join("; "))
}

fn one_error(error: &serde_json::Value) -> String {
    let text = |key: &str| error.get(key).and_then(serde_json::Value::as_str);
    match (error.as_str(), text("message")) {
        (Some(text), _) | (None, Some(text)) => text.to_owned(),
        (None, None) => [text("field"), text("code")]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// A foreign text on one line of bounded length.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MESSAGE_MAX)
        .collect();
    if shown.len() < text.trim().len() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            retry_after: None,
            limit_remaining: None,
            limit_reset: None,
            date: None,
            body: body.into(),
        }
    }

    fn error(answer: &Answer) -> ForgeError {
        opened(answer).err().unwrap()
    }

    #[test]
    fn the_primary_rate_limit_is_waited_out_by_the_forges_own_clock() {
        let limited = Answer {
            limit_remaining: Some("0".into()),
            limit_reset: Some("1736251260".into()),
            date: Some("Tue, 07 Jan 2025 12:00:00 GMT".into()),
            ..answer(403, r#"{"message":"API rate limit exceeded"}"#)
        };
        let error = error(&limited);
        assert!(error.is_transient());
        assert_eq!(error.retry_after(), Some(Duration::from_mins(1)));
    }

    #[test]
    fn every_form_of_error_is_shown() {
        let body = r#"{"message":"Validation Failed","errors":["plain",
            {"message":"No commits between main and x"},{"field":"head","code":"invalid"},7]}"#;
        assert_eq!(
            error(&answer(422, body)),
            ForgeError::Refused {
                status: 422,
                message: "Validation Failed; plain; No commits between main and x; head invalid"
                    .into()
            }
        );
        let html = error(&answer(502, "<html>\u{1b}"));
        assert_eq!(
            html.to_string(),
            "GitHub cannot answer now (502): no reason given"
        );
    }

    #[test]
    fn an_answer_that_is_no_pull_request_is_not_taken_for_one() {
        for body in [
            "",
            "{}",
            "[]",
            r#"{"number":0,"html_url":"https://h/1"}"#,
            r#"{"number":1,"html_url":"javascript:alert(1)"}"#,
        ] {
            assert!(
                matches!(error(&answer(201, body)), ForgeError::Unexpected(_)),
                "{body}"
            );
        }
    }

    #[test]
    fn the_pull_request_into_the_wanted_branch_is_preferred() {
        let body = r#"[{"number":1,"html_url":"https://h/1","base":{"ref":"other"}},
            {"number":2,"html_url":"https://h/2","base":{"ref":"main"}}]"#;
        let of = |base: &str| {
            let found = found(&answer(200, body), &base.parse().unwrap());
            found.unwrap().unwrap().number
        };
        assert_eq!((of("main"), of("nowhere")), (2, 1));
        assert_eq!(
            found(&answer(200, "[]"), &"main".parse().unwrap()),
            Ok(None)
        );
    }
}
