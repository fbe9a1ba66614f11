//! Errors in the shape GitHub gives them.

use serde_json::{Value, json};

use crate::http_server::Response;

const DOCS: &str = "https://docs.github.com/rest";

fn problem(status: u16, message: &str) -> Response {
    let body = json!({
        "message": message,
        "documentation_url": DOCS,
        "status": status.to_string(),
    });
    Response::json(status, &body)
}

pub(super) fn not_found() -> Response {
    problem(404, "Not Found")
}

pub(super) fn unauthorised(message: &str) -> Response {
    problem(401, message)
}

pub(super) fn bad_json() -> Response {
    problem(400, "Problems parsing JSON")
}

pub(super) fn no_user_agent() -> Response {
    let text = "\r\nRequest forbidden by administrative rules. Please make sure your request has a User-Agent header.\r\n";
    Response::new(403).body(text.as_bytes().to_vec())
}

pub(super) fn secondary_limit(retry_after_seconds: u64) -> Response {
    problem(
        403,
        "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
    )
    .header("retry-after", &retry_after_seconds.to_string())
}

pub(super) fn broken(message: &str) -> Response {
    problem(500, message)
}

fn invalid(error: &Value) -> Response {
    let body = json!({
        "message": "Validation Failed",
        "errors": [error],
        "documentation_url": format!("{DOCS}/pulls/pulls#create-a-pull-request"),
        "status": "422",
    });
    Response::json(422, &body)
}

/// A rule of pull requests was broken; the message says which.
pub(super) fn custom(message: &str) -> Response {
    invalid(&json!({"resource": "PullRequest", "code": "custom", "message": message}))
}

/// A field is not there (`missing_field`) or names nothing (`invalid`).
pub(super) fn field(name: &str, code: &str) -> Response {
    invalid(&json!({"resource": "PullRequest", "field": name, "code": code}))
}
