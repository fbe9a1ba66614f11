//! The one place that turns an error into an answer.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use agent_client::wire;
use agent_domain::Class;
use agent_queue::EngineError;

/// Longest sentence, in bytes: parts of it may be the caller's own text.
const DETAIL_MAX: usize = 500;
/// Seconds after which to ask again when the server is about to stop: a restart takes as long.
const RETRY_DRAINING: u32 = 30;
/// Seconds after which to ask again when the disk is nearly full: someone has to make room.
const RETRY_DISK: u32 = 60;
/// Seconds after which to ask again in any other case.
const RETRY_SOON: u32 = 2;

/// An error on its way to becoming an answer; boxed, as it travels through results everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: String,
    field: Option<String>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with a status of its own.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = shortened(detail.into());
        Self(Box::new(Parts {
            status,
            code,
            detail,
            field: None,
            header: None,
        }))
    }

    /// A bad request, with a stable code.
    pub(crate) fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// A field of the body that is wrong; the sentence is the field's name and `what`.
    pub(crate) fn field(name: &str, what: impl fmt::Display) -> Self {
        Self::invalid("invalid_field", format!("{name} {what}")).on(name)
    }

    /// A field of the body that is not there.
    pub(crate) fn missing(name: &str, detail: impl Into<String>) -> Self {
        Self::invalid("missing_field", detail).on(name)
    }

    /// A parameter of the query that is wrong; the sentence is its name and `what`.
    pub(crate) fn parameter(name: &str, what: impl fmt::Display) -> Self {
        Self::invalid("invalid_parameter", format!("{name} {what}")).on(name)
    }

    /// A missing (`wrong` is false) or wrong token.
    pub(crate) fn unauthorized(wrong: bool) -> Self {
        let (detail, challenge) = if wrong {
            (
                "The bearer token is wrong",
                r#"Bearer realm="agent-server", error="invalid_token""#,
            )
        } else {
            (
                "A bearer token is required",
                r#"Bearer realm="agent-server""#,
            )
        };
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// An unknown route.
    pub(crate) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "There is no such resource",
        )
    }

    /// A known route, but not with this method.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("Only {allow} is allowed here");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            .with(ALLOW, HeaderValue::from_static(allow))
    }

    /// A fault of ours.
    pub(crate) fn internal(detail: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Names the field or parameter that is wrong.
    pub(crate) fn on(mut self, field: &str) -> Self {
        self.0.field = Some(shortened(field.to_owned()));
        self
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    fn wire(&self) -> wire::Problem {
        wire::Problem {
            error: self.0.detail.clone(),
            code: self.0.code.to_owned(),
            kind: "about:blank".to_owned(),
            title: self
                .0
                .status
                .canonical_reason()
                .unwrap_or("Error")
                .to_owned(),
            status: self.0.status.as_u16(),
            detail: self.0.detail.clone(),
            field: self.0.field.clone(),
        }
    }

    /// The answer.
    pub(crate) fn into_response(self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.0.status);
        if let Some(header) = self.0.header.clone() {
            answer.insert_header(header);
        }
        answer.content_type("application/problem+json");
        match serde_json::to_vec(&self.wire()) {
            Ok(body) => answer.body(body),
            // Strings and a number always encode.
            Err(_) => answer.finish(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        self.clone().into_response()
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let class = error.class();
        if class == Class::Bug {
            tracing::error!(error.code = error.code(), %error, "request failed");
        }
        let mut problem = Self::new(status_of(class), error.code(), error.to_string());
        problem.0.field = error.field().map(str::to_owned);
        let in_flight = matches!(error, EngineError::IdempotencyInFlight);
        if class == Class::Unavailable || in_flight {
            let seconds = match error {
                EngineError::Draining => RETRY_DRAINING,
                EngineError::DiskLow(_) => RETRY_DISK,
                _ => RETRY_SOON,
            };
            return problem.with(RETRY_AFTER, HeaderValue::from(seconds));
        }
        problem
    }
}

/// The status of a class of errors.
fn status_of(class: Class) -> StatusCode {
    match class {
        Class::NotFound => StatusCode::NOT_FOUND,
        Class::Conflict => StatusCode::CONFLICT,
        Class::Invalid => StatusCode::BAD_REQUEST,
        Class::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        Class::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Class::Denied => StatusCode::UNAUTHORIZED,
        Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Class::Bug => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > DETAIL_MAX {
        text.truncate(text.floor_char_boundary(DETAIL_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;

    #[actix_web::test]
    async fn an_answer_has_the_specified_member_and_those_of_the_rfc() {
        let answer = Problem::field("branchName", "must not be empty").into_response();
        assert_eq!(answer.status(), 400);
        assert_eq!(
            answer.headers().get("content-type").unwrap(),
            "application/problem+json"
        );
        let body: Value =
            serde_json::from_slice(&to_bytes(answer.into_body()).await.unwrap()).unwrap();
        assert_eq!(
            body,
            json!({
                "error": "branchName must not be empty",
                "code": "invalid_field",
                "type": "about:blank",
                "title": "Bad Request",
                "status": 400,
                "detail": "branchName must not be empty",
                "field": "branchName",
            })
        );
    }

    #[test]
    fn a_server_about_to_stop_says_when_to_ask_again() {
        let answer = Problem::from(EngineError::Draining).into_response();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers().get("retry-after").unwrap(), "30");
    }

    #[test]
    fn an_ended_job_is_answered_with_400_as_the_specification_says() {
        let problem = Problem::from(EngineError::JobEnded(agent_domain::Status::Completed));
        assert_eq!(problem.0.status, 400);
        assert_eq!(problem.0.detail, "Job already completed");
        assert_eq!(problem.0.code, "job_ended");
    }

    #[test]
    fn a_long_sentence_is_cut_between_characters() {
        let problem = Problem::field("é", "é".repeat(1000));
        assert!(problem.0.detail.len() <= DETAIL_MAX + 3);
        assert!(problem.0.detail.ends_with('…'));
    }
}
