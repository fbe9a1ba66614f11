//! Request bodies: bounded in size and time, strictly JSON, refused by the name of what is wrong.

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::web::{Bytes, BytesMut, Data};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::problem::Problem;
use crate::state::{ApiState, Limits};

/// A body that is one JSON object of the shape `T`.
pub(crate) struct JsonBody<T> {
    pub(crate) value: T,
    /// As it came.
    pub(crate) bytes: Bytes,
}

/// A body of the shape `T`, or none: then it is `T`'s default.
pub(crate) struct MaybeBody<T> {
    pub(crate) value: T,
    /// As it came.
    pub(crate) bytes: Bytes,
}

/// The absence of a body; `{}` counts as absent, any field in it does not.
pub(crate) struct NoBody {
    /// As it came.
    pub(crate) bytes: Bytes,
}

/// The shape of a body that says nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl<T: DeserializeOwned> FromRequest for JsonBody<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let checked = check_headers(request).and_then(|()| limits(request));
        let (declared, payload) = (declared_length(request), payload.take());
        Box::pin(async move {
            let bytes = read(payload, declared, checked?).await?;
            let value = parse(&bytes)?;
            Ok(Self { value, bytes })
        })
    }
}

impl<T: DeserializeOwned + Default> FromRequest for MaybeBody<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (limits, headers) = (limits(request), check_headers(request));
        let (declared, payload) = (declared_length(request), payload.take());
        Box::pin(async move {
            let bytes = read(payload, declared, limits?).await?;
            let value = match bytes.trim_ascii() {
                b"" | b"{}" => T::default(),
                _ => {
                    headers?;
                    parse(&bytes)?
                }
            };
            Ok(Self { value, bytes })
        })
    }
}

impl FromRequest for NoBody {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let limits = limits(request);
        let (declared, payload) = (declared_length(request), payload.take());
        Box::pin(async move {
            let bytes = read(payload, declared, limits?).await?;
            if !bytes.trim_ascii().is_empty() {
                parse::<Nothing>(&bytes)?;
            }
            Ok(Self { bytes })
        })
    }
}

fn limits(request: &HttpRequest) -> Result<Limits, Problem> {
    let state = request.app_data::<Data<ApiState>>();
    state
        .map(|state| state.limits)
        .ok_or_else(|| Problem::internal("the API is mounted without its state"))
}

fn check_headers(request: &HttpRequest) -> Result<(), Problem> {
    let refuse = |header: &str, detail: &str| {
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            detail,
        )
        .on(header)
    };
    // Not told apart from a header that cannot be read: neither says JSON.
    if !request
        .content_type()
        .eq_ignore_ascii_case("application/json")
    {
        return Err(refuse(
            CONTENT_TYPE.as_str(),
            "The Content-Type must be application/json",
        ));
    }
    match request.headers().get(CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(refuse(
            CONTENT_ENCODING.as_str(),
            "The body must not be compressed",
        )),
        _ => Ok(()),
    }
}

fn declared_length(request: &HttpRequest) -> Option<usize> {
    let header = request
        .headers()
        .get(actix_web::http::header::CONTENT_LENGTH)?;
    header.to_str().ok()?.trim().parse().ok()
}

async fn read(
    mut payload: Payload,
    declared: Option<usize>,
    limits: Limits,
) -> Result<Bytes, Problem> {
    let limit = limits.body_bytes;
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let collect = async {
        let mut body = BytesMut::with_capacity(declared.unwrap_or(0));
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| {
                Problem::invalid("incomplete_body", "The body ends before its announced end")
            })?;
            if body.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(limits.body_timeout, collect)
        .await
        .unwrap_or_else(|_| {
            let detail = "The body took too long to arrive";
            Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                detail,
            ))
        })
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("The body must be at most {limit} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// Reads one JSON object. Fields that `T` does not know, or that come twice, are refused by `T`.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let detail = format!("The body is not UTF-8 at byte {}", error.valid_up_to());
        Problem::invalid("malformed_json", detail)
    })?;
    // A structure would be read from an array too, by position.
    let begins = text.trim_ascii_start().as_bytes().first();
    if begins
        .is_some_and(|byte| matches!(byte, b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9'))
    {
        return Err(Problem::invalid(
            "invalid_body",
            "The body must be a JSON object",
        ));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| refused(&error.path().to_string(), error.inner()))?;
    reader.end().map_err(|error| refused(".", &error))?;
    Ok(value)
}

fn refused(path: &str, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    if error.classify() != Category::Data {
        return Problem::invalid("malformed_json", format!("The body is not JSON: {text}"));
    }
    // Without the position: what is wrong has a name.
    let what = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(what, _)| what);
    let quoted = what.split('`').nth(1);
    let code = if what.starts_with("missing field") {
        "missing_field"
    } else if what.starts_with("unknown field") {
        "unknown_field"
    } else if what.starts_with("duplicate field") {
        "duplicate_field"
    } else {
        return Problem::field(path, format!("is wrong: {what}"));
    };
    Problem::invalid(code, what).on(quoted.unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use agent_client::wire::{CreateJob, UpdateClient};

    use super::*;

    fn refusal(text: &[u8]) -> (String, String, Option<String>) {
        let problem = parse::<CreateJob>(text).expect_err("refused");
        let body = serde_json::to_value(problem_body(&problem)).expect("encodes");
        let member = |name: &str| body[name].as_str().map(str::to_owned);
        (
            member("code").unwrap_or_default(),
            problem.to_string(),
            member("field"),
        )
    }

    fn problem_body(problem: &Problem) -> agent_client::wire::Problem {
        use actix_web::ResponseError as _;
        use futures_util::FutureExt as _;
        let body = problem.error_response().into_body();
        let bytes = actix_web::body::to_bytes(body)
            .now_or_never()
            .expect("ready")
            .expect("bytes");
        serde_json::from_slice(&bytes).expect("a problem")
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_position() {
        for (text, position) in [
            (&b""[..], "line 1 column 0"),
            (b"{", "line 1 column 1"),
            (b"{\n\"prompt\": }", "line 2 column 11"),
            (br#"{"prompt":"a","branchName":"b"} x"#, "line 1 column 33"),
            (br#"{"prompt":"\ud800"}"#, "line 1 column"),
            (br#"{"prompt":"a"#, "line 1 column 12"),
            (b"{\"prompt\":\"\x01\"}", "line 1 column 12"),
            (b"\xef\xbb\xbf{}", "line 1 column 1"),
        ] {
            let (code, detail, _) = refusal(text);
            assert_eq!(code, "malformed_json", "{text:?}: {detail}");
            assert!(detail.contains(position), "{text:?}: {detail}");
        }
        let (code, detail, _) = refusal(b"{\"prompt\":\"\xff\"}");
        assert_eq!(
            (code.as_str(), detail.as_str()),
            ("malformed_json", "The body is not UTF-8 at byte 11")
        );
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_even_where_it_would_fit_by_position() {
        for text in [
            &br#"["a","b","c","d","e"]"#[..],
            b"null",
            b"\"x\"",
            b"1",
            b"true",
        ] {
            assert_eq!(refusal(text).0, "invalid_body", "{text:?}");
        }
    }

    #[test]
    fn a_field_that_is_wrong_is_named() {
        for (text, code, field) in [
            (&br#"{"prompt":"p"}"#[..], "missing_field", "branchName"),
            (
                br#"{"prompt":"p","branchName":"b","promt":"x"}"#,
                "unknown_field",
                "promt",
            ),
            (
                br#"{"prompt":"p","branchName":"b","__proto__":{}}"#,
                "unknown_field",
                "__proto__",
            ),
            (
                br#"{"prompt":"p","prompt":"p","branchName":"b"}"#,
                "duplicate_field",
                "prompt",
            ),
            (
                br#"{"prompt":1,"branchName":"b"}"#,
                "invalid_field",
                "prompt",
            ),
            (
                br#"{"prompt":null,"branchName":"b"}"#,
                "invalid_field",
                "prompt",
            ),
            (
                br#"{"prompt":{"a":1},"branchName":"b"}"#,
                "invalid_field",
                "prompt",
            ),
            (
                br#"{"prompt":"p","branchName":"b","timeoutSeconds":-1}"#,
                "invalid_field",
                "timeoutSeconds",
            ),
            (
                br#"{"prompt":"p","branchName":"b","timeoutSeconds":1.5}"#,
                "invalid_field",
                "timeoutSeconds",
            ),
            (
                br#"{"prompt":"p","branchName":"b","title":["x"]}"#,
                "invalid_field",
                "title",
            ),
        ] {
            let (got, detail, named) = refusal(text);
            assert_eq!(
                (got.as_str(), named.as_deref()),
                (code, Some(field)),
                "{detail}"
            );
            assert!(detail.contains(field), "{detail}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_costs_nothing() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(
            refusal(format!(r#"{{"prompt":{deep}"#).as_bytes()).0,
            "invalid_field"
        );
        let unknown = format!(r#"{{"x":{deep}"#);
        assert_eq!(refusal(unknown.as_bytes()).0, "unknown_field");
    }

    #[test]
    fn null_for_an_optional_field_means_not_given() {
        let job = parse::<CreateJob>(br#"{"prompt":"p","branchName":"b","title":null}"#);
        assert_eq!(job.expect("accepted").title, None);
        assert!(parse::<UpdateClient>(b" {} ").is_ok());
        assert!(parse::<Nothing>(b"{}").is_ok());
        assert!(parse::<Nothing>(br#"{"wait":false}"#).is_err());
    }
}
