//! Sending to receivers that behave well, badly, or not at all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;

use std::time::{Duration, Instant, SystemTime};

use agent_domain::{CallbackUrl, Timestamp};
use agent_webhook::{Attempt, Post, Sender, SenderConfig, SigningKey, Verdict};
use fake::Receiver;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &str = "{\"jobId\":\"0f\",\"error\":\"caf\u{e9}\"}";

fn config(key: Option<&str>) -> SenderConfig {
    SenderConfig {
        key: key.map(|secret| SigningKey::parse(secret).unwrap()),
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        trust: None,
        connect_timeout: Duration::from_secs(1),
        total_timeout: Duration::from_secs(2),
        max_response_bytes: 4096,
        user_agent: "agent-server/1.2.3".into(),
    }
}

fn send_to(url: &str, config: SenderConfig) -> Attempt {
    let url: CallbackUrl = url.parse().unwrap();
    let at = Timestamp::try_from(SystemTime::now()).unwrap();
    Sender::new(config).send(&Post {
        id: "msg_1",
        url: &url,
        body: BODY,
        at,
    })
}

fn answered(answer: &'static str) -> Attempt {
    let receiver = Receiver::start(move |_| answer.as_bytes().to_vec());
    send_to(&receiver.url(), config(None))
}

fn retry(seconds: Option<u64>) -> Verdict {
    Verdict::Retry {
        after: seconds.map(Duration::from_secs),
    }
}

#[test]
fn a_public_verifier_accepts_what_arrives() {
    let receiver = Receiver::start(|_| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    let attempt = send_to(&receiver.url(), config(Some(KEY)));
    assert_eq!(attempt.verdict, Verdict::Delivered);
    assert!(attempt.signed);
    let request = receiver.only_request();
    assert!(
        request.head.starts_with("POST /hook?a=b HTTP/1.1\r\n"),
        "{}",
        request.head
    );
    assert_eq!(request.body, BODY.as_bytes());
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("user-agent"), "agent-server/1.2.3");
    let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| (name.parse().unwrap(), request.header(name).parse().unwrap()))
        .into_iter()
        .collect();
    let verifier = standardwebhooks::Webhook::new(KEY).unwrap();
    verifier.verify(BODY.as_bytes(), &headers).unwrap();
    assert!(verifier.verify(b"{}", &headers).is_err());
    assert!(request.header("x-agent-signature").starts_with("sha256="));
}

#[test]
fn without_a_key_nothing_is_signed_and_the_attempt_says_so() {
    let receiver = Receiver::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec());
    let attempt = send_to(&receiver.url(), config(None));
    let expected = Attempt {
        verdict: Verdict::Delivered,
        status: Some(200),
        error: None,
        signed: false,
    };
    assert_eq!(attempt, expected);
    let head = receiver.only_request().head.to_ascii_lowercase();
    assert!(
        head.contains("webhook-id: msg_1\r\n") && !head.contains("signature"),
        "{head}"
    );
}

#[test]
fn only_2xx_is_success_and_410_is_final() {
    for (answer, verdict, status) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Verdict::Delivered,
            200,
        ),
        (
            "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok",
            Verdict::Delivered,
            202,
        ),
        (
            "HTTP/1.1 299 Odd\r\ncontent-length: 0\r\n\r\n",
            Verdict::Delivered,
            299,
        ),
        (
            "HTTP/1.1 300 Many\r\ncontent-length: 0\r\n\r\n",
            retry(None),
            300,
        ),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", retry(None), 304),
        (
            "HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n",
            retry(None),
            400,
        ),
        (
            "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n",
            retry(None),
            404,
        ),
        (
            "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n",
            Verdict::Gone,
            410,
        ),
        (
            "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
            retry(None),
            500,
        ),
    ] {
        let attempt = answered(answer);
        assert_eq!((attempt.verdict, attempt.status), (verdict, Some(status)));
        assert_eq!(
            attempt.error.is_none(),
            verdict == Verdict::Delivered,
            "{status}"
        );
    }
}

#[test]
fn no_redirect_is_followed() {
    for status in [301, 302, 303, 307, 308] {
        let target = Receiver::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec());
        let location = target.url();
        let receiver = Receiver::start(move |_| {
            format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
                .into_bytes()
        });
        let attempt = send_to(&receiver.url(), config(None));
        assert_eq!(
            (attempt.verdict, attempt.status),
            (retry(None), Some(status))
        );
        assert!(
            attempt
                .error
                .unwrap()
                .contains("redirects are not followed")
        );
        assert_eq!(receiver.requests().len(), 1);
        assert_eq!(target.requests().len(), 0);
    }
}

#[test]
fn retry_after_is_honoured_as_seconds_and_as_a_date() {
    let busy = answered("HTTP/1.1 429 Busy\r\nRetry-After: 17\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(busy.verdict, retry(Some(17)));
    let past = answered(
        "HTTP/1.1 503 Down\r\nretry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(past.verdict, retry(Some(0)));
    let odd = answered("HTTP/1.1 503 Down\r\nretry-after: soon\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(odd.verdict, retry(None));
}

#[test]
fn a_body_without_end_is_neither_read_to_its_end_nor_waited_for() {
    let receiver = Receiver::endless(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", 1 << 16);
    let attempt = send_to(&receiver.url(), config(None));
    assert_eq!(attempt.verdict, Verdict::Delivered);
    // What the kernel buffers is beyond our say; an unbounded reader would go on until the end.
    assert!(
        receiver.sent() < 64 << 20,
        "{} bytes taken",
        receiver.sent()
    );
}

#[test]
fn a_body_that_trickles_is_left_though_it_goes_on_and_the_status_counts() {
    let receiver = Receiver::endless(b"HTTP/1.1 503 Down\r\nretry-after: 9\r\n\r\n", 1);
    let begin = Instant::now();
    let patient = SenderConfig {
        total_timeout: Duration::from_mins(2),
        ..config(None)
    };
    let attempt = send_to(&receiver.url(), patient);
    assert_eq!(
        (attempt.verdict, attempt.status),
        (retry(Some(9)), Some(503))
    );
    assert!(begin.elapsed() < Duration::from_mins(1));
}

#[test]
fn a_head_without_end_is_a_failure() {
    let receiver = Receiver::endless(b"HTTP/1.1 200 OK\r\nx: ", 1 << 16);
    let attempt = send_to(&receiver.url(), config(None));
    assert_eq!((attempt.verdict, attempt.status), (retry(None), None));
    assert!(attempt.error.unwrap().contains("header"));
    assert!(
        receiver.sent() < 64 << 20,
        "{} bytes taken",
        receiver.sent()
    );
}

#[test]
fn a_receiver_that_trickles_or_says_nothing_is_left_after_the_time_limit() {
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\nx: "] {
        let receiver = Receiver::endless(answer, 1);
        let begin = Instant::now();
        let attempt = send_to(&receiver.url(), config(None));
        assert_eq!((attempt.verdict, attempt.status), (retry(None), None));
        assert!(attempt.error.unwrap().contains("timeout"));
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{:?}",
            begin.elapsed()
        );
    }
}

#[test]
fn whatever_is_not_http_is_a_failure() {
    for answer in [
        "",
        "\r\n\r\n",
        "SSH-2.0-x\r\n",
        "HTTP/1.1 999999 X\r\n\r\n",
        "HTTP/9 200\r\n\r\n",
    ] {
        let attempt = answered(answer);
        assert_eq!(
            (attempt.verdict, attempt.status),
            (retry(None), None),
            "{answer:?}"
        );
        assert!(attempt.error.is_some());
    }
}

#[test]
fn private_receivers_are_refused_when_they_are_not_allowed() {
    let receiver = Receiver::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec());
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1"] {
        let url = receiver.url().replace("127.0.0.1", host);
        let strict = SenderConfig {
            allow: Vec::new(),
            ..config(None)
        };
        let attempt = send_to(&url, strict);
        assert_eq!(
            (attempt.verdict, attempt.status),
            (retry(None), None),
            "{host}"
        );
        let error = attempt.error.unwrap();
        assert!(error.contains("loopback"), "{host}: {error}");
    }
    assert_eq!(receiver.requests().len(), 0);
}

#[test]
fn a_receiver_that_is_not_there_is_a_failure() {
    let gone = Receiver::start(|_| Vec::new()).url();
    let attempt = send_to(&gone, config(None));
    assert_eq!((attempt.verdict, attempt.status), (retry(None), None));
}
