//! The bearer token, checked before anything else of a request is looked at.

use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::middleware::Next;
use actix_web::web::Data;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::problem::Problem;
use crate::state::ApiState;

/// Whoever shows the token: one caller, also when the token is changed.
pub(crate) const CALLER: &str = "root";

/// SHA-256 of the token: comparing digests takes the same time whatever was sent, its length
/// included.
#[derive(Clone, Copy)]
pub(crate) struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of `token`.
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    fn is_digest_of(&self, token: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        self.0.ct_eq(&digest).into()
    }
}

/// Lets a request pass that carries the token, and answers 401 to any other, known route or not.
pub(crate) async fn require_token<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let verdict = match request.app_data::<Data<ApiState>>() {
        Some(state) => check(&state.token, request.headers()),
        None => Err(Problem::internal("the API is mounted without its state")),
    };
    match verdict {
        Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
        Err(problem) => Ok(request.into_response(problem.into_response())),
    }
}

fn check(expected: &TokenDigest, headers: &HeaderMap) -> Result<(), Problem> {
    let mut values = headers.get_all(AUTHORIZATION);
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::unauthorized(false));
    };
    let token = bearer(value.as_bytes()).ok_or_else(|| Problem::unauthorized(false))?;
    if expected.is_digest_of(token) {
        Ok(())
    } else {
        Err(Problem::unauthorized(true))
    }
}

/// The token of a `Bearer` header; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_the_token_itself_passes() {
        let expected = TokenDigest::of("hunter2-hunter2");
        for good in [
            "Bearer hunter2-hunter2",
            "bearer  hunter2-hunter2 ",
            "BEARER hunter2-hunter2",
        ] {
            assert!(check(&expected, &headers(&[good])).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer hunter2",
            "Bearer hunter2-hunter2x",
            "Bearer Hunter2-hunter2",
            "Basic hunter2-hunter2",
            "Bearerhunter2-hunter2",
            "hunter2-hunter2",
        ] {
            assert!(check(&expected, &headers(&[bad])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn two_authorization_headers_are_none() {
        let expected = TokenDigest::of("a");
        assert!(check(&expected, &headers(&["Bearer a", "Bearer b"])).is_err());
        assert!(check(&expected, &headers(&[])).is_err());
    }
}
