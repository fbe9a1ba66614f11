//! The client against a server that answers from a script, byte for byte.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use agent_client::wire::{CreateJob, Patch, UpdateClient};
use agent_client::{Client, ClientError, JobQuery, Settings};

/// Answers one connection with `answer` and returns what was asked.
fn script(answer: impl Into<Vec<u8>>) -> (Client, JoinHandle<String>) {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("a connection");
        let request = read_request(&mut peer);
        peer.write_all(&answer).expect("the answer goes out");
        request
    });
    let mut settings = Settings::new(base, "secret-token");
    settings.timeout = Duration::from_secs(5);
    (Client::new(&settings).expect("a usable address"), server)
}

fn read_request(peer: &mut std::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return String::from_utf8(bytes).expect("a request in UTF-8");
            }
        }
        let count = peer.read(&mut buffer).expect("more of the request");
        assert!(count > 0, "the request ends early: {bytes:?}");
        bytes.extend_from_slice(&buffer[..count]);
    }
}

fn json(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_request_carries_the_token_and_an_encoded_query() {
    let (client, server) = script(json(
        "200 OK",
        r#"{"jobs":[],"total":0,"limit":5,"offset":0,"nextCursor":null}"#,
    ));
    let query = JobQuery {
        statuses: vec!["queued".into(), "running".into()],
        limit: Some(5),
        ..JobQuery::default()
    };
    assert_eq!(client.jobs(&query).unwrap().limit, 5);
    let request = server.join().unwrap();
    assert!(request.starts_with("GET /jobs?status=queued%2Crunning&limit=5 HTTP/1.1\r\n"));
    assert!(
        request.contains("authorization: Bearer secret-token\r\n"),
        "{request}"
    );
}

#[test]
fn absent_fields_are_not_sent_and_null_is() {
    let (client, server) = script(json("400 Bad Request", "{}"));
    let change = UpdateClient {
        name: Patch::Null,
        timeout_seconds: Patch::Value(60),
        idle_timeout_seconds: Patch::Null,
        ..UpdateClient::default()
    };
    assert!(client.update_client("abc", &change).is_err());
    let body = r#"{"name":null,"timeoutSeconds":60,"idleTimeoutSeconds":null}"#;
    let request = server.join().unwrap();
    assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");

    let (client, server) = script(json("400 Bad Request", "{}"));
    let job = CreateJob {
        prompt: "p".into(),
        branch_name: "b".into(),
        ..CreateJob::default()
    };
    assert!(client.create_job(&job).is_err());
    let request = server.join().unwrap();
    assert!(
        request.ends_with("\r\n\r\n{\"prompt\":\"p\",\"branchName\":\"b\"}"),
        "{request}"
    );
}

#[test]
fn a_change_tells_absent_null_and_value_apart() {
    let read = |text: &str| serde_json::from_str::<UpdateClient>(text);
    assert_eq!(read("{}").unwrap().name, Patch::Absent);
    assert_eq!(read(r#"{"name":null}"#).unwrap().name, Patch::Null);
    assert_eq!(
        read(r#"{"name":"x"}"#).unwrap().name,
        Patch::Value("x".into())
    );
    assert!(
        read(r#"{"nam":"x"}"#)
            .unwrap_err()
            .to_string()
            .contains("nam")
    );
}

#[test]
fn a_refusal_keeps_status_code_sentence_field_and_retry_after() {
    let body = r#"{"error":"Server is shutting down","code":"draining","type":"about:blank",
        "title":"Service Unavailable","status":503,"detail":"Server is shutting down"}"#;
    let answer = json("503 Service Unavailable\r\nretry-after: 7", body);
    let (client, _server) = script(answer);
    let error = client.retry("abc").unwrap_err();
    assert_eq!(error.to_string(), "Server is shutting down");
    assert_eq!(
        (error.status(), error.code()),
        (Some(503), Some("draining"))
    );
    assert!(error.is_transient());
    assert!(matches!(
        error,
        ClientError::Refused {
            retry_after: Some(7),
            field: None,
            ..
        }
    ));
}

#[test]
fn an_error_page_of_something_else_is_still_a_refusal_with_its_status() {
    let (client, _server) = script("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>");
    let error = client.health().unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(502), None));
    assert_eq!(error.to_string(), "the server answered 502 Bad Gateway");
}

#[test]
fn an_answer_of_another_shape_is_a_protocol_error() {
    let (client, _server) = script(json("200 OK", r#"{"status":"ok"}"#));
    assert!(matches!(client.health(), Err(ClientError::Protocol { .. })));
}

#[test]
fn a_redirect_is_reported_and_not_followed() {
    let (client, _server) =
        script("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    let error = client.health().unwrap_err();
    assert!(matches!(&error, ClientError::Protocol { problem, .. } if problem.contains("302")));
}

#[test]
fn nobody_listening_is_unreachable_and_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(&Settings::new(base.clone(), "t")).unwrap();
    let error = client.health().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot reach {base}: connection refused")
    );
    assert!(error.is_transient());
}

#[test]
fn a_server_that_never_answers_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = Settings::new(format!("http://{}", listener.local_addr().unwrap()), "t");
    settings.timeout = Duration::from_millis(100);
    let error = Client::new(&settings).unwrap().health().unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
}

#[test]
fn a_log_counts_the_offset_and_ends_at_its_end() {
    let answer =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab\nc\xff\r\n0\r\n\r\n";
    let (client, server) = script(*answer);
    let mut log = client.log("abc", 10, true).unwrap();
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"ab\nc\xff");
    assert_eq!(log.offset(), 15);
    assert!(
        server
            .join()
            .unwrap()
            .starts_with("GET /jobs/abc/log?follow=true&offset=10 ")
    );
}

#[test]
fn a_log_whose_connection_breaks_is_an_error_and_not_an_end() {
    let (client, _server) =
        script("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let mut log = client.log("abc", 0, true).unwrap();
    let mut bytes = Vec::new();
    assert!(log.read_to_end(&mut bytes).is_err());
    assert_eq!((bytes.as_slice(), log.offset()), (&b"abc"[..], 3));
}
