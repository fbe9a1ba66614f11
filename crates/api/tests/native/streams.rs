//! Answers as long as a log.

use std::time::Duration;

use agent_domain::{Ending, Facts, LogStream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::exchange::{PATIENCE, request};
use crate::stage::{Stage, TOKEN};

const ENTRIES: [(LogStream, &str); 4] = [
    (LogStream::System, "starting"),
    (LogStream::Stdout, "hidden"),
    (LogStream::Stdout, "says \"hé\""),
    (LogStream::Stderr, "oops"),
];

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_the_last_member_of_a_job_readable_or_raw() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let path = format!("/jobs/{id}?includeMessages=true");
    assert_eq!(stage.get(&path).await["messages"], json!([]));
    let assignment = stage.claim().await;
    stage.write_log(&assignment, &ENTRIES);
    let job = stage.get(&path).await;
    let message = |kind: &str, content: &str| {
        let at = "2025-01-07T12:00:00.123Z";
        json!({"type": kind, "content": content, "createdAt": at, "attempt": 1})
    };
    let readable = json!([
        message("system", "starting"),
        message("stdout", "SAYS \"HÉ\""),
        message("stderr", "oops"),
    ]);
    assert_eq!(
        (&job["messages"], &job["status"]),
        (&readable, &json!("running"))
    );
    let raw = stage.get(&format!("{path}&raw=true")).await;
    assert_eq!(raw["messages"][1], message("stdout", "hidden"));
    let without = stage.get(&format!("/jobs/{id}")).await;
    assert!(without.get("messages").is_none());
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_page_by_page_and_say_when_there_will_be_no_more() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let path = |after: &Value, more: &str| format!("/jobs/{id}/events?after={after}{more}");
    let none = stage.get(&path(&json!(0), "")).await;
    assert_eq!(none, json!({"events": [], "next": 0, "isLast": false}));
    let assignment = stage.claim().await;
    let entries = [
        (LogStream::System, "starting"),
        (LogStream::Stdout, r#"calls {"command":"ls"}"#),
        (LogStream::Stdout, "not an event"),
    ];
    let written = stage.write_log(&assignment, &entries).len();
    let first = stage.get(&path(&json!(0), "&limit=2")).await;
    let at = "2025-01-07T12:00:00.123Z";
    let expected = json!([
        {"type": "output", "stream": "system", "text": "starting", "createdAt": at, "attempt": 1},
        {
            "type": "tool_call", "callId": "call", "name": "Bash", "input": {"command": "ls"},
            "messageId": "message", "createdAt": at, "attempt": 1,
        },
    ]);
    assert_eq!(
        (&first["events"], &first["isLast"]),
        (&expected, &json!(false))
    );
    let second = stage.get(&path(&first["next"], "")).await;
    assert_eq!(second["events"][0]["text"], "not an event");
    assert_eq!(
        (&second["next"], &second["isLast"]),
        (&json!(written), &json!(false))
    );
    stage
        .finish(&assignment, Ending::Completed, Facts::default())
        .await;
    let end = stage.get(&path(&second["next"], "")).await;
    assert_eq!((&end["events"], &end["isLast"]), (&json!([]), &json!(true)));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_from_any_byte_on() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let assignment = stage.claim().await;
    let written = stage.write_log(&assignment, &ENTRIES);
    for offset in [0, 1, written.len(), written.len() + 1000] {
        let answer = stage
            .send("GET", &format!("/jobs/{id}/log?offset={offset}"), "")
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, written[offset.min(written.len())..]);
        assert!(answer.whole);
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(
            answer.header("x-log-offset"),
            Some(offset.to_string().as_str())
        );
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_what_is_written_later_and_ends_with_the_job() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let assignment = stage.claim().await;
    let mut written = stage.write_log(&assignment, &ENTRIES[..1]);
    let path = format!("/jobs/{id}/log?follow=true");
    let worker = async {
        let mut later = stage.write_log(&assignment, &ENTRIES[1..3]);
        tokio::time::sleep(Duration::from_millis(50)).await;
        later.extend(stage.write_log(&assignment, &ENTRIES[3..]));
        stage
            .finish(&assignment, Ending::Completed, Facts::default())
            .await;
        later
    };
    let (followed, later) = tokio::join!(stage.send("GET", &path, ""), worker);
    written.extend(later);
    assert_eq!(followed.body, written);
    assert!(followed.whole);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_waits_for_its_reader_and_nobody_else_waits_for_it() {
    const LINES: usize = 20_000;
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let assignment = stage.claim().await;
    let line = "x".repeat(1000);
    stage.write_log(
        &assignment,
        &vec![(LogStream::Stdout, line.as_str()); LINES],
    );
    let mut connection = open(&stage, &format!("/jobs/{id}?includeMessages=true")).await;
    let mut first = [0; 4096];
    connection.read_exact(&mut first).await.unwrap();
    // The long answer is stuck behind its reader now.
    for _ in 0..20 {
        assert_eq!(stage.get("/health").await["status"], json!("ok"));
    }
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut rest)).await;
    read.expect("an end in time").unwrap();
    assert!(rest.len() > LINES * 1000);
    assert!(rest.ends_with(b"]}\r\n0\r\n\r\n"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let limits = agent_api::Limits {
        stall_timeout: Duration::from_millis(300),
        ..agent_api::Limits::default()
    };
    let stage = Stage::with(limits).await;
    let id = stage.job("a").await;
    let assignment = stage.claim().await;
    let line = "x".repeat(1000);
    stage.write_log(
        &assignment,
        &vec![(LogStream::Stdout, line.as_str()); 50_000],
    );
    let mut connection = open(&stage, &format!("/jobs/{id}/log")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut bytes)).await;
    // A reset or an end: either way not the end of the answer.
    read.expect("an end in time").ok();
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "{} bytes", bytes.len());
    stage.close().await;
}

async fn open(stage: &Stage, path: &str) -> TcpStream {
    let token = format!("Bearer {TOKEN}");
    let mut connection = TcpStream::connect(stage.address).await.expect("connects");
    let request = request("GET", path, &[("authorization", &token)], b"");
    connection.write_all(&request).await.expect("sent");
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_an_attempt_that_has_ended_is_sealed_with_its_length_and_checksum() {
    use base64::Engine as _;
    use sha2::Digest as _;

    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let first = stage.claim().await;
    let first_log = stage.write_log(&first, &ENTRIES[..2]);
    assert_eq!(stage.get(&format!("/jobs/{id}")).await["logs"], json!([]));
    let lost = Ending::Lost { error: "x".into() };
    stage.finish(&first, lost, Facts::default()).await;
    stage.clock.forward(3600);
    let second = stage.claim().await;
    let second_log = stage.write_log(&second, &ENTRIES[2..]);
    stage
        .finish(&second, Ending::Completed, Facts::default())
        .await;

    // Whoever does not know yet that its attempt is over changes nothing.
    stage.write_log(&first, &ENTRIES);
    stage.write_log(&second, &ENTRIES);
    let job = stage
        .get(&format!("/jobs/{id}?includeMessages=true&raw=true"))
        .await;
    let sealed = |attempt: u32, log: &[u8]| {
        let digits: Vec<String> = sha2::Sha256::digest(log)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        json!({"attempt": attempt, "bytes": log.len(), "sha256": digits.concat()})
    };
    assert_eq!(
        job["logs"],
        json!([sealed(1, &first_log), sealed(2, &second_log)])
    );
    assert_eq!(job["messages"].as_array().unwrap().len(), ENTRIES.len());
    for (query, expected) in [
        ("", [first_log.as_slice(), &second_log].concat()),
        ("?follow=true", [first_log.as_slice(), &second_log].concat()),
        ("?attempt=1", first_log.clone()),
        ("?attempt=2&follow=true", second_log.clone()),
        ("?attempt=2&offset=5", second_log[5..].to_vec()),
        ("?attempt=3", Vec::new()),
    ] {
        let answer = stage
            .send("GET", &format!("/jobs/{id}/log{query}"), "")
            .await;
        assert_eq!((answer.status, &answer.body), (200, &expected), "{query}");
        let digest = sha2::Sha256::digest(&expected);
        let digest = base64::engine::general_purpose::STANDARD.encode(digest);
        let digest = format!("sha-256=:{digest}:");
        let whole = matches!(query, "?attempt=1" | "?attempt=2&follow=true");
        assert_eq!(
            answer.header("repr-digest"),
            whole.then_some(digest.as_str()),
            "{query}"
        );
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_gives_the_bytes_as_they_were_and_messages_what_can_be_shown_of_them() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    let assignment = stage.claim().await;
    let mut written = stage.write_log(&assignment, &ENTRIES[..1]);
    let mut all: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    all.extend_from_slice(b"\r\0 \xf0\x9f\x98");
    let mut entry = b"2025-01-07T12:00:00.123000000Z stderr F ".to_vec();
    entry.extend_from_slice(&all);
    entry.push(b'\n');
    let file = std::fs::OpenOptions::new()
        .append(true)
        .open(&assignment.log);
    std::io::Write::write_all(&mut file.unwrap(), &entry).unwrap();
    written.extend_from_slice(&entry);
    let answer = stage.send("GET", &format!("/jobs/{id}/log"), "").await;
    assert_eq!(answer.body, written);
    let job = stage.get(&format!("/jobs/{id}?includeMessages=true")).await;
    let shown = job["messages"][1]["content"].as_str().unwrap();
    assert_eq!(shown, String::from_utf8_lossy(&all));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_a_number_from_1() {
    let stage = Stage::new().await;
    let id = stage.job("a").await;
    for wrong in ["attempt=0", "attempt=x", "attempt=99999999999"] {
        let answer = stage
            .send("GET", &format!("/jobs/{id}/log?{wrong}"), "")
            .await;
        assert_eq!(answer.status, 400, "{wrong}");
    }
    stage.close().await;
}
