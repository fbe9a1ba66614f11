//! A blocking JSON client that treats every status as an answer.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request};

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Talks to one server.
#[derive(Debug, Clone)]
pub struct JsonClient {
    agent: Agent,
    base: String,
    token: Option<String>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body as sent.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as JSON; `Null` when it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON, when the status is the expected one.
    pub fn expect(&self, status: u16) -> Result<Value> {
        anyhow::ensure!(
            self.status == status,
            "status {} instead of {status}: {}",
            self.status,
            self.text()
        );
        Ok(self.json())
    }
}

impl JsonClient {
    /// A client for `base` (no slash at its end) that sends `token` as bearer token.
    pub fn new(base: &str, token: Option<&str>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .proxy(None)
            .build();
        Self {
            agent: config.into(),
            base: base.to_owned(),
            token: token.map(str::to_owned),
        }
    }

    /// Sends a request without a body.
    pub fn get(&self, path: &str) -> Result<Reply> {
        self.send(Method::GET, path, &[], Vec::new())
    }

    /// Sends JSON.
    pub fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.send_json(Method::POST, path, body)
    }

    /// Sends JSON with any method.
    pub fn send_json(&self, method: Method, path: &str, body: &Value) -> Result<Reply> {
        let headers = [("content-type", "application/json")];
        self.send(method, path, &headers, body.to_string().into_bytes())
    }

    /// Sends anything.
    pub fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Reply> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // Without a body no length must be sent, which an empty one would do.
        let response = if body.is_empty() {
            self.agent.run(request.body(())?)
        } else {
            self.agent.run(request.body(body)?)
        };
        let mut response = response.with_context(|| format!("no answer from {url}"))?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            })
            .collect();
        Ok(Reply {
            status: response.status().as_u16(),
            headers,
            body: response
                .body_mut()
                .with_config()
                .limit(u64::MAX)
                .read_to_vec()?,
        })
    }
}
