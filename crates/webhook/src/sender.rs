//! One attempt to deliver one callback.

use std::io;
use std::time::Duration;

use agent_domain::{CallbackUrl, Cidr, Timestamp};
use ureq::Agent;
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::header::RETRY_AFTER;
use ureq::http::{HeaderMap, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::unversioned::transport::DefaultConnector;

use crate::resolver::Guarded;
use crate::{SigningKey, Trust, guard, retry_after, sign};

/// How long an answer's body is read; it changes nothing, so nobody waits long for it.
const BODY_READ: Duration = Duration::from_secs(1);

/// How callbacks are sent.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// Signs them; without one they go unsigned.
    pub key: Option<SigningKey>,
    /// Addresses that may be reached although they are private.
    pub allow: Vec<Cidr>,
    /// Whose certificates are trusted; without it, Mozilla's list as built in.
    pub trust: Option<Trust>,
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
            trust: None,
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
    let trusted = config.trust.clone().map(|trust| trust.0);
    let tls = TlsConfig::builder()
        .root_certs(trusted.unwrap_or(RootCerts::WebPki))
        .build();
    Agent::config_builder()
        // The environment's proxy would resolve names behind the guard's back.
        .proxy(None)
        .tls_config(tls)
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ureq::http::Uri;
    use ureq::unversioned::resolver::ResolvedSocketAddrs;
    use ureq::unversioned::transport::NextTimeout;

    use super::*;

    /// Answers the first look-up with the first list, and so on; the last one again and again.
    #[derive(Debug, Default)]
    struct Names {
        answers: Vec<Vec<SocketAddr>>,
        asked: Arc<AtomicUsize>,
    }

    impl Resolver for Names {
        fn resolve(
            &self,
            _: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let asked = self.asked.fetch_add(1, Ordering::SeqCst);
            let mut found = self.empty();
            let answer = self.answers.get(asked).or(self.answers.last()).unwrap();
            for address in answer {
                found.push(*address);
            }
            Ok(found)
        }
    }

    fn sender(names: Names, allow: &[&str]) -> Sender {
        let config = SenderConfig {
            key: None,
            allow: allow.iter().map(|range| range.parse().unwrap()).collect(),
            trust: None,
            connect_timeout: Duration::from_millis(500),
            total_timeout: Duration::from_secs(1),
            max_response_bytes: 1024,
            user_agent: "test".into(),
        };
        Sender::with_names(config, names)
    }

    fn post(sender: &Sender, url: &str) -> Attempt {
        sender.send(&Post {
            id: "1",
            url: &url.parse().unwrap(),
            body: "{}",
            at: Timestamp::UNIX_EPOCH,
        })
    }

    fn send(addresses: &[SocketAddr], allow: &[&str]) -> Attempt {
        let names = Names {
            answers: vec![addresses.to_vec()],
            ..Names::default()
        };
        post(&sender(names, allow), "http://innocent.example/")
    }

    /// Listens on this address and does not wait for anybody.
    fn listen(address: &str) -> TcpListener {
        let listener = TcpListener::bind((address, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    #[test]
    fn a_name_that_changes_its_address_is_connected_to_where_it_was_checked_only() {
        let (public, private) = (listen("127.0.0.2"), listen("127.0.0.1"));
        let [good, bad] = [&public, &private].map(|socket| socket.local_addr().unwrap());
        let names = Names {
            answers: vec![vec![good], vec![bad], vec![good, bad], vec![bad, good]],
            ..Names::default()
        };
        let asked = Arc::clone(&names.asked);
        let sender = sender(names, &["127.0.0.2"]);
        for (attempt, reached) in [true, false, true, true].into_iter().enumerate() {
            let outcome = post(&sender, "http://rebound.example/");
            assert_eq!(outcome.verdict, Verdict::Retry { after: None });
            // Looked up once: what was checked is what is connected to.
            assert_eq!(asked.load(Ordering::SeqCst), attempt + 1);
            assert_eq!(public.accept().is_ok(), reached, "{attempt}");
            assert!(private.accept().is_err(), "{attempt}");
        }
    }

    #[test]
    fn a_name_of_a_special_address_is_refused_when_it_is_resolved() {
        for (name, address) in [
            ("metadata.google.internal", "169.254.169.254:80"),
            ("metadata.google.internal.", "169.254.169.254:80"),
            ("localhost.", "127.0.0.1:80"),
            ("app.localhost", "[::1]:80"),
            ("innocent.example", "[::ffff:127.0.0.1]:80"),
            ("innocent.example:8443", "[64:ff9b::7f00:1]:8443"),
            ("printer", "192.168.1.9:9100"),
        ] {
            let names = Names {
                answers: vec![vec![address.parse().unwrap()]],
                ..Names::default()
            };
            let attempt = post(&sender(names, &[]), &format!("http://{name}/x"));
            assert_eq!(attempt.verdict, Verdict::Retry { after: None });
            let error = attempt.error.unwrap();
            assert!(
                error.contains("private or special address"),
                "{name}: {error}"
            );
        }
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
