//! The `Idempotency-Key` header: what tells a request from others, and the first answer again.

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONTENT_TYPE, ContentType, HeaderMap, HeaderName, HeaderValue, TryIntoHeaderValue as _,
};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use agent_domain::{Answer, IdempotencyKey, OnceRequest};
use agent_queue::{Once, Reply};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::auth;
use crate::problem::Problem;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// On an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Reads the header of a request that asks for something new; `answer` puts what is done into
/// the answer that is kept.
pub(crate) fn asked<T>(
    request: &HttpRequest,
    body: &Bytes,
    answer: impl Fn(&T) -> Answer + Send + Sync + 'static,
) -> Result<Option<Once<T>>, Problem> {
    let Some(key) = key(request.headers())? else {
        return Ok(None);
    };
    let kind = request.headers().get(CONTENT_TYPE);
    let asked = OnceRequest {
        scope: digest(&[
            auth::CALLER.as_bytes(),
            request.method().as_str().as_bytes(),
            request.path().as_bytes(),
            key.as_str().as_bytes(),
        ]),
        content: digest(&[
            request.query_string().as_bytes(),
            kind.map_or(&[], HeaderValue::as_bytes),
            body,
        ]),
        seal: None,
    };
    Ok(Some(Once::new(asked, answer)))
}

/// An answer as it is kept.
pub(crate) fn answer(status: StatusCode, body: &impl Serialize) -> Answer {
    Answer {
        status: status.as_u16(),
        // Wire types are texts and numbers, which always encode.
        body: serde_json::to_string(body).unwrap_or_default(),
    }
}

/// Sends what was done now, or the first answer again.
pub(crate) fn respond<T>(
    reply: Reply<T>,
    answer: impl Fn(&T) -> Answer,
) -> Result<HttpResponse, Problem> {
    let (answer, again) = match reply {
        Reply::First(done) => (answer(&done), false),
        Reply::Again(first) => (first, true),
    };
    let status = StatusCode::from_u16(answer.status)
        .map_err(|_| Problem::internal("the kept answer has no status"))?;
    let mut response = HttpResponse::build(status);
    if let Ok(json) = ContentType::json().try_into_value() {
        response.insert_header((CONTENT_TYPE, json));
    }
    if again {
        response.insert_header((REPLAYED, HeaderValue::from_static("true")));
    }
    Ok(response.body(answer.body))
}

fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let refuse = |what: String| {
        let detail = format!("Idempotency-Key {what}");
        Problem::invalid("invalid_idempotency_key", detail).on(KEY.as_str())
    };
    let mut values = headers.get_all(&KEY);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(refuse("is given twice".to_owned()));
    }
    let text = std::str::from_utf8(value.as_bytes()).unwrap_or("\u{fffd}");
    let key: Result<IdempotencyKey, _> = text.trim_ascii().parse();
    key.map(Some).map_err(|error| refuse(error.to_string()))
}

/// A hash of several texts that no other several texts have.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_one_part_never_counts_as_another() {
        let digests = [
            digest(&[b"ab", b"c"]),
            digest(&[b"a", b"bc"]),
            digest(&[b"abc"]),
            digest(&[b"ab", b"c", b""]),
        ];
        for (at, one) in digests.iter().enumerate() {
            assert!(!digests[at + 1..].contains(one));
        }
    }
}
