//! One exchange over HTTP: address, token, timeouts, and errors told apart.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderValue, Method, Request, Response, header};
use ureq::{Agent, Body};
use url::Url;

use crate::error::ClientError;
use crate::wire::Problem;

/// Longest error answer that is read; ours are under 2 KiB.
const PROBLEM_MAX: u64 = 64 * 1024;

/// How an exchange may be cut short.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// The whole exchange within the configured time.
    Whole(Duration),
    /// Only up to the first byte of the body: the body takes as long as it takes.
    Streaming(Duration),
}

#[derive(Clone)]
pub(crate) struct Transport {
    agent: Agent,
    base: Url,
    authorization: HeaderValue,
    idempotency_key: Option<HeaderValue>,
}

impl Transport {
    pub(crate) fn new(base_url: &str, token: &str, connect: Duration) -> Result<Self, ClientError> {
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
        authorization.set_sensitive(true);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would carry requests, and perhaps the token, to where nobody meant.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The default would read the environment.
            .proxy(None)
            .timeout_connect(Some(connect))
            .user_agent(concat!("agent-client/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: config.into(),
            base: parse_base(base_url)?,
            authorization,
            idempotency_key: None,
        })
    }

    /// The same, with a key on each POST.
    pub(crate) fn once(&self, key: &str) -> Result<Self, ClientError> {
        let refuse = || ClientError::IdempotencyKey(key.to_owned());
        let legal = (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        let value = HeaderValue::from_str(key).ok().filter(|_| legal);
        Ok(Self {
            idempotency_key: Some(value.ok_or_else(refuse)?),
            ..self.clone()
        })
    }

    /// The server's address as people write it.
    pub(crate) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The address of a resource; `path` is made of checked parts only.
    pub(crate) fn url(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Sends a request and returns any answer of the 2xx kind.
    pub(crate) fn exchange<B: Serialize>(
        &self,
        method: Method,
        url: &Url,
        body: Option<&B>,
        patience: Patience,
    ) -> Result<Response<Body>, ClientError> {
        let key = self.idempotency_key.as_ref();
        let key = key.filter(|_| method == Method::POST).cloned();
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::ACCEPT, "application/json, text/plain, */*");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let sent = match body {
            Some(body) => {
                let json = serde_json::to_vec(body)
                    .map_err(|error| self.protocol(format!("request not encodable: {error}")))?;
                let request = request
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(json);
                self.run(request, patience)
            }
            None => self.run(request.body(()), patience),
        };
        let response = sent.map_err(|error| self.failed(error))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refused(response))
        }
    }

    /// Reads a JSON answer whole.
    pub(crate) fn read_json<T: DeserializeOwned>(
        &self,
        response: Response<Body>,
    ) -> Result<T, ClientError> {
        let reader = response
            .into_body()
            .into_with_config()
            .limit(u64::MAX)
            .reader();
        serde_json::from_reader(std::io::BufReader::new(reader)).map_err(|error| {
            if error.is_io() {
                self.failed(ureq::Error::from(std::io::Error::from(error)))
            } else {
                self.protocol(format!("answer not understood: {error}"))
            }
        })
    }

    fn run<S: ureq::AsSendBody>(
        &self,
        request: Result<Request<S>, ureq::http::Error>,
        patience: Patience,
    ) -> Result<Response<Body>, ureq::Error> {
        let config = self.agent.configure_request(request?);
        let request = match patience {
            Patience::Whole(limit) => config.timeout_global(Some(limit)),
            Patience::Streaming(limit) => config
                .timeout_send_body(Some(limit))
                .timeout_recv_response(Some(limit)),
        };
        self.agent.run(request.build())
    }

    fn refused(&self, response: Response<Body>) -> ClientError {
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let text = response
            .into_body()
            .into_with_config()
            .limit(PROBLEM_MAX)
            .lossy_utf8(true)
            .read_to_string();
        let problem = text
            .ok()
            .and_then(|text| serde_json::from_str::<Problem>(&text).ok());
        match problem {
            Some(problem) => ClientError::Refused {
                status: status.as_u16(),
                code: problem.code,
                message: problem.error,
                field: problem.field,
                retry_after,
            },
            None if status.is_client_error() || status.is_server_error() => ClientError::Refused {
                status: status.as_u16(),
                code: String::new(),
                message: format!("the server answered {status}"),
                field: None,
                retry_after,
            },
            None => self.protocol(format!("it answered {status}")),
        }
    }

    fn failed(&self, error: ureq::Error) -> ClientError {
        ClientError::from_transport(self.address(), error)
    }

    fn protocol(&self, problem: String) -> ClientError {
        ClientError::Protocol {
            url: self.address().to_owned(),
            problem,
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("base", &self.address())
            .finish_non_exhaustive()
    }
}

fn parse_base(text: &str) -> Result<Url, ClientError> {
    let refuse = |problem| ClientError::BaseUrl {
        url: text.to_owned(),
        problem,
    };
    let url = Url::parse(text).map_err(|_| refuse("not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not repeated in the message: it may be a password.
        let url = "(hidden)".to_owned();
        return Err(ClientError::BaseUrl {
            url,
            problem: "must not contain credentials",
        });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("must not have a query or a fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(base: &str) -> Result<Transport, ClientError> {
        Transport::new(base, "secret-token", Duration::from_secs(1))
    }

    #[test]
    fn a_base_url_may_have_a_path_and_a_slash_at_its_end() {
        for (base, expected) in [
            ("http://a:1", "http://a:1/jobs"),
            ("http://a:1/", "http://a:1/jobs"),
            ("https://a/x/", "https://a/x/jobs"),
        ] {
            assert_eq!(
                transport(base).unwrap().url("/jobs", &[]).as_str(),
                expected
            );
        }
    }

    #[test]
    fn query_values_are_encoded() {
        let url = transport("http://a")
            .unwrap()
            .url("/jobs", &[("status", "a&b=c".into())]);
        assert_eq!(url.as_str(), "http://a/jobs?status=a%26b%3Dc");
    }

    #[test]
    fn unusable_addresses_and_tokens_are_refused() {
        for bad in [
            "",
            "a:1",
            "ftp://a",
            "http://",
            "http://a/?x",
            "http://a/#x",
        ] {
            assert!(
                matches!(transport(bad), Err(ClientError::BaseUrl { .. })),
                "{bad:?}"
            );
        }
        let with_password = transport("http://u:hunter2@a").unwrap_err().to_string();
        assert!(!with_password.contains("hunter2"), "{with_password}");
        let token = Transport::new("http://a", "a\nb", Duration::from_secs(1));
        assert!(matches!(token, Err(ClientError::Token)));
    }

    #[test]
    fn debug_output_hides_the_token() {
        assert!(!format!("{:?}", transport("http://a").unwrap()).contains("secret-token"));
    }
}
