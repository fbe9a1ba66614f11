//! The `Idempotency-Key` header: what tells a request from others, and the first answer again.

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONTENT_TYPE, ContentType, HeaderMap, HeaderName, HeaderValue, TryIntoHeaderValue as _,
};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use agent_client::wire::JobSecrets;
use agent_domain::{Answer, IdempotencyKey, OnceRequest, Seal};
use agent_queue::{Once, Reply};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::auth;
use crate::problem::Problem;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// On an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What a request asks for, as far as its body says so.
pub(crate) struct Content {
    /// Without the values of secrets.
    body: Bytes,
    seal: Option<Seal>,
}

/// A key in memory, under which the values of secrets are hashed.
#[derive(Clone)]
pub(crate) struct SealKey {
    name: [u8; 16],
    key: [[u8; 16]; 2],
}

impl SealKey {
    /// Makes one from fresh bytes.
    pub(crate) fn new(fresh: impl Fn() -> [u8; 16]) -> Self {
        Self {
            name: fresh(),
            key: [fresh(), fresh()],
        }
    }

    fn seal(&self, secrets: &JobSecrets) -> Option<Seal> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_flattened()).ok()?;
        let values = [
            &secrets.anthropic_api_key,
            &secrets.claude_code_oauth_token,
            &secrets.git_token,
        ];
        for value in values.into_iter().flatten() {
            mac.update(&value.len().to_be_bytes());
            mac.update(value.as_bytes());
        }
        Some(Seal {
            key: self.name,
            hash: mac.finalize().into_bytes().into(),
        })
    }
}

impl Content {
    /// All of a body, which holds no secrets.
    pub(crate) fn whole(body: &Bytes) -> Self {
        Self {
            body: body.clone(),
            seal: None,
        }
    }

    /// A body whose `secrets` are hashed apart under `key`; `public` is the body with their names
    /// in their place.
    pub(crate) fn sealed<T: Serialize>(
        body: &Bytes,
        secrets: Option<&JobSecrets>,
        key: &SealKey,
        public: impl FnOnce(JobSecrets) -> T,
    ) -> Self {
        let Some(secrets) = secrets else {
            return Self::whole(body);
        };
        let public = serde_json::to_vec(&public(secrets.names_only()));
        Self {
            body: public.unwrap_or_default().into(),
            seal: key.seal(secrets),
        }
    }
}

/// Reads the header of a request that asks for something new; `answer` puts what is done into
/// the answer that is kept.
pub(crate) fn asked<T>(
    request: &HttpRequest,
    content: impl FnOnce() -> Content,
    answer: impl Fn(&T) -> Answer + Send + Sync + 'static,
) -> Result<Option<Once<T>>, Problem> {
    let Some(key) = key(request.headers())? else {
        return Ok(None);
    };
    let kind = request.headers().get(CONTENT_TYPE);
    let Content { body, seal } = content();
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
            &body,
        ]),
        seal,
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
