//! A receiver of callbacks: records them, answers as told, checks their signatures.
//!
//! The checks come from public libraries that the product does not use for signing, so that both
//! sides cannot be wrong in the same way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use standardwebhooks::Webhook;

use crate::fault::{Fault, Faults};
use crate::http_server::{HttpServer, Request, Response};
use crate::process;

/// A running receiver; dropping it stops it.
#[derive(Debug)]
pub struct Receiver {
    server: HttpServer,
    answers: Faults,
    received: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// Starts one that answers 204 to everything.
    pub fn start() -> Result<Self> {
        let (answers, received) = (Faults::default(), Arc::<Mutex<Vec<Request>>>::default());
        let (due, seen) = (answers.clone(), Arc::clone(&received));
        let server = HttpServer::start(move |request| {
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(request);
            due.apply(|| Response::new(204))
        })?;
        Ok(Self {
            server,
            answers,
            received,
        })
    }

    /// Where to send callbacks.
    pub fn url(&self) -> String {
        format!("{}/callback", self.server.url())
    }

    /// Answers the next `count` callbacks like this.
    pub fn answer_next(&self, count: usize, answer: &Fault) {
        self.answers.next(count, answer);
    }

    /// Answers the next `count` callbacks with this status.
    pub fn refuse_next(&self, count: usize, status: u16) {
        self.answers.next(count, &Fault::status(status));
    }

    /// Answers the next callback with a redirect.
    pub fn redirect_next(&self, location: &str) {
        let answer = Response::new(307).header("location", location);
        self.answers.next(1, &Fault::Respond(answer));
    }

    /// Answers the next callback with a request to come back later.
    pub fn delay_next(&self, status: u16, retry_after: &str) {
        let answer = Response::new(status).header("retry-after", retry_after);
        self.answers.next(1, &Fault::Respond(answer));
    }

    /// Every callback so far, answered well or not.
    pub fn received(&self) -> Vec<Request> {
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for `count` callbacks and returns all there are.
    pub fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<Request>> {
        if process::wait_until(limit, || self.received().len() >= count) {
            return Ok(self.received());
        }
        bail!(
            "{} callbacks within {limit:?}, not {count}",
            self.received().len()
        )
    }
}

/// Checks both signatures of a callback and returns its body.
pub fn verify(request: &Request, secret: &str) -> Result<Value> {
    let key = key(secret)?;
    verify_agent(request, &key)?;
    verify_standard(request, key)?;
    request.json().context("the body is not JSON")
}

/// The bytes a secret stands for: base64 after `whsec_`, else its own.
pub fn key(secret: &str) -> Result<Vec<u8>> {
    match secret.strip_prefix("whsec_") {
        Some(coded) => Ok(STANDARD.decode(coded)?),
        None => Ok(secret.as_bytes().to_vec()),
    }
}

/// Checks `X-Agent-Signature: sha256=<hex>` over the body as it arrived.
pub fn verify_agent(request: &Request, key: &[u8]) -> Result<()> {
    let given = request
        .header("x-agent-signature")
        .context("no X-Agent-Signature")?;
    let mac = hmac_sha256::HMAC::mac(&request.body, key);
    let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(
        given == format!("sha256={hex}"),
        "X-Agent-Signature is wrong: {given}"
    );
    Ok(())
}

/// Checks the Standard Webhooks headers, the age of the timestamp among them.
pub fn verify_standard(request: &Request, key: Vec<u8>) -> Result<()> {
    let mut headers = http::HeaderMap::new();
    for (name, value) in &request.headers {
        let name: http::HeaderName = name.parse()?;
        headers.append(name, value.parse()?);
    }
    Webhook::from_bytes(key)?.verify(&request.body, &headers)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn signed(body: &[u8], age_seconds: i64) -> Request {
        let key = key(SECRET).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let timestamp = i64::try_from(now.as_secs()).unwrap() - age_seconds;
        let standard = Webhook::new(SECRET).unwrap().sign("msg_1", timestamp, body);
        let mac = hmac_sha256::HMAC::mac(body, &key);
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        Request {
            method: "POST".into(),
            target: "/callback".into(),
            headers: vec![
                ("X-Agent-Signature".into(), format!("sha256={hex}")),
                ("webhook-id".into(), "msg_1".into()),
                ("webhook-timestamp".into(), timestamp.to_string()),
                ("webhook-signature".into(), standard.unwrap()),
            ],
            body: body.to_vec(),
            at: SystemTime::now(),
        }
    }

    #[test]
    fn a_signed_callback_is_accepted() {
        let body = verify(&signed(br#"{"status":"completed"}"#, 0), SECRET).unwrap();
        assert_eq!(body["status"], "completed");
    }

    #[test]
    fn the_published_example_of_hmac_sha256_is_accepted() {
        // Test case 2 of RFC 4231.
        let mut request = signed(b"what do ya want for nothing?", 0);
        request.headers[0].1 =
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843".into();
        verify_agent(&request, b"Jefe").unwrap();
    }

    #[test]
    fn a_changed_body_key_header_or_age_is_refused() {
        let good = signed(br#"{"a":1}"#, 0);
        let mut body = good.clone();
        body.body = br#"{"a":2}"#.to_vec();
        assert!(verify(&body, SECRET).is_err());
        assert!(verify(&good, "whsec_AAAA").is_err());
        for header in 0..good.headers.len() {
            let mut less = good.clone();
            less.headers.remove(header);
            assert!(verify(&less, SECRET).is_err(), "{header}");
            let mut wrong = good.clone();
            wrong.headers[header].1 += "0";
            assert!(verify(&wrong, SECRET).is_err(), "{header}");
        }
        assert!(verify(&signed(b"{}", 3600), SECRET).is_err());
    }

    #[test]
    fn the_receiver_answers_as_told_and_keeps_what_came() {
        let receiver = Receiver::start().unwrap();
        receiver.refuse_next(2, 500);
        receiver.delay_next(429, "7");
        receiver.redirect_next("http://127.0.0.1:1/");
        let url = receiver.url();
        let client = crate::client::JsonClient::new(url.trim_end_matches("/callback"), None);
        let replies: Vec<_> = (0..5)
            .map(|n| {
                client
                    .post("/callback", &serde_json::json!({"n": n}))
                    .unwrap()
            })
            .collect();
        let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [500, 500, 429, 307, 204]);
        assert_eq!(replies[2].header("retry-after"), Some("7"));
        let seen = receiver.wait_for(5, Duration::from_secs(5)).unwrap();
        assert_eq!(seen[4].body, br#"{"n":4}"#);
        assert!(receiver.wait_for(6, Duration::ZERO).is_err());
    }
}
