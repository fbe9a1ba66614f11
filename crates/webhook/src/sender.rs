//! One attempt to deliver one callback.

use std::io;
use std::time::Duration;

use agent_domain::{CallbackUrl, Timestamp};
use ureq::Agent;
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::header::RETRY_AFTER;
use ureq::http::{HeaderMap, Response};
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::unversioned::transport::DefaultConnector;

use crate::resolver::Guarded;
use crate::{Cidr, SigningKey, guard, retry_after, sign};

/// How long an answer's body is read; it changes nothing, so nobody waits long for it.
const BODY_READ: Duration = Duration::from_secs(1);

/// How callbacks are sent.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// Signs them; without one they go unsigned.
    pub key: Option<SigningKey>,
    /// Addresses that may be reached although they are private.
    pub allow: Vec<Cidr>,
    /// How long finding and reaching the receiver may take.
    pub connect_timeout: Duration,
    /// How long the whole attempt may take.
    pub total_timeout: Duration,
    /// How much of an answer is read: of its head, and again of its body. More in the head is a
    /// failure; more in the body is left unread.
    pub max_response_bytes: usize,
    /// The `User-Agent`.
    pub user_agent: String,
}

impl Default for SenderConfig {
    /// Unsigned, to public addresses only, with 5 s to connect and 20 s in all.
    fn default() -> Self {
        Self {
            key: None,
            allow: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(20),
            max_response_bytes: 64 * 1024,
            user_agent: concat!("agent-server/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Sends callbacks. Cheap to share between threads by reference.
#[derive(Debug)]
pub struct Sender {
    agent: Agent,
    key: Option<SigningKey>,
    max_response_bytes: usize,
}

/// One callback to send.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// `webhook-id`: the same on every attempt of one delivery.
    pub id: &'a str,
    /// Where to.
    pub url: &'a CallbackUrl,
    /// A JSON document, sent byte for byte.
    pub body: &'a str,
    /// The time of this attempt.
    pub at: Timestamp,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What follows from it.
    pub verdict: Verdict,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it failed, as a sentence for the delivery log.
    pub error: Option<String>,
    /// Whether it was signed.
    pub signed: bool,
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A 2xx answer.
    Delivered,
    /// Failed; to be tried again.
    Retry {
        /// No earlier than this from now, if the receiver asked for it.
        after: Option<Duration>,
    },
    /// 410: the receiver wants no more of it.
    Gone,
}

impl Sender {
    /// Prepares to send; opens no connection.
    pub fn new(config: SenderConfig) -> Self {
        Self::with_names(config, DefaultResolver::default())
    }

    fn with_names(config: SenderConfig, names: impl Resolver) -> Self {
        let agent_config = agent_config(&config);
        let guarded = Guarded {
            names,
            allow: config.allow,
        };
        Self {
            agent: Agent::with_parts(agent_config, DefaultConnector::default(), guarded),
            key: config.key,
            max_response_bytes: config.max_response_bytes,
        }
    }

    /// Makes one attempt and waits for its end, at most the configured total time.
    pub fn send(&self, post: &Post<'_>) -> Attempt {
        let signed = self.key.is_some();
        match self.answer(post) {
            Ok(answer) => judged(&answer, post.at, signed),
            Err(error) => Attempt {
                verdict: Verdict::Retry { after: None },
                status: None,
                error: Some(error),
                signed,
            },
        }
    }

    fn answer(&self, post: &Post<'_>) -> Result<Response<()>, String> {
        // Called in the URL's normal spelling: the one that was checked when it was submitted.
        let url = guard::normal(post.url).map_err(|error| format!("the URL {error}"))?;
        let seconds = post.at.as_second();
        let mut request = self
            .agent
            .post(url.as_str())
            .header("content-type", "application/json")
            .header("webhook-id", post.id)
            .header("webhook-timestamp", seconds.to_string());
        if let Some(key) = &self.key {
            let signatures = sign(key, post.id, seconds, post.body.as_bytes());
            request = request
                .header("x-agent-signature", signatures.x_agent_signature)
                .header("webhook-signature", signatures.webhook_signature);
        }
        let answer = request.send(post.body).map_err(|error| sentence(&error))?;
        let (head, mut body) = answer.into_parts();
        // Reading a short answer to its end spares the receiver a reset connection. The status is
        // known by now, so whatever happens here changes nothing.
        let limit = u64::try_from(self.max_response_bytes).unwrap_or(u64::MAX);
        let mut rest = io::Read::take(body.as_reader(), limit);
        drop(io::copy(&mut rest, &mut io::sink()));
        Ok(Response::from_parts(head, ()))
    }
}

fn agent_config(config: &SenderConfig) -> Config {
    Agent::config_builder()
        // The environment's proxy would resolve names behind the guard's back.
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // A kept connection would be to an address checked earlier, and may be half closed.
        .max_idle_connections(0)
        .max_response_header_size(config.max_response_bytes)
        .accept_encoding(AutoHeaderValue::None)
        .user_agent(config.user_agent.as_str())
        .timeout_resolve(Some(config.connect_timeout))
        .timeout_connect(Some(config.connect_timeout))
        .timeout_recv_body(Some(BODY_READ))
        .timeout_global(Some(config.total_timeout))
        .build()
}

fn judged(answer: &Response<()>, at: Timestamp, signed: bool) -> Attempt {
    let status = answer.status();
    let verdict = match status.as_u16() {
        200..=299 => Verdict::Delivered,
        410 => Verdict::Gone,
        _ => Verdict::Retry {
            after: asked_wait(answer.headers(), at),
        },
    };
    let error = match status.as_u16() {
        200..=299 => None,
        300..=399 => Some(format!("answered {status}; redirects are not followed")),
        _ => Some(format!("answered {status}")),
    };
    Attempt {
        verdict,
        status: Some(status.as_u16()),
        error,
        signed,
    }
}

fn asked_wait(headers: &HeaderMap, at: Timestamp) -> Option<Duration> {
    retry_after::parse(headers.get(RETRY_AFTER)?.to_str().ok()?, at)
}

fn sentence(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Other(refused) => format!("the URL {refused}"),
        ureq::Error::HostNotFound => "the host name has no address".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use ureq::http::Uri;
    use ureq::unversioned::resolver::ResolvedSocketAddrs;
    use ureq::unversioned::transport::NextTimeout;

    use super::*;

    /// Knows one host, by the given addresses.
    #[derive(Debug)]
    struct Names(Vec<SocketAddr>);

    impl Resolver for Names {
        fn resolve(
            &self,
            _: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let mut found = self.empty();
            self.0.iter().for_each(|address| found.push(*address));
            Ok(found)
        }
    }

    fn send(addresses: &[SocketAddr], allow: &[&str]) -> Attempt {
        let config = SenderConfig {
            key: None,
            allow: allow.iter().map(|range| range.parse().unwrap()).collect(),
            connect_timeout: Duration::from_millis(500),
            total_timeout: Duration::from_secs(1),
            max_response_bytes: 1024,
            user_agent: "test".into(),
        };
        Sender::with_names(config, Names(addresses.to_vec())).send(&Post {
            id: "1",
            url: &"http://innocent.example/".parse().unwrap(),
            body: "{}",
            at: Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn a_public_name_with_a_private_address_is_never_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let attempt = send(&[listener.local_addr().unwrap()], &["10.0.0.0/8"]);
        assert_eq!(attempt.verdict, Verdict::Retry { after: None });
        let error = attempt.error.unwrap();
        assert!(error.contains("127.0.0.1: loopback"), "{error}");
        let seen = listener.accept().map_err(|error| error.kind());
        assert_eq!(seen.unwrap_err(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn of_several_addresses_only_the_permitted_ones_are_tried() {
        let refused = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = TcpListener::bind("127.0.0.2:0").unwrap();
        refused.set_nonblocking(true).unwrap();
        let addresses = [&refused, &wanted].map(|socket| socket.local_addr().unwrap());
        let attempt = send(&addresses, &["127.0.0.2"]);
        // It was connected to, and never answered.
        assert!(attempt.error.unwrap().contains("timeout"));
        assert!(wanted.accept().is_ok());
        assert!(refused.accept().is_err());
    }
}
