//! `Idempotency-Key` across crashes: whatever a caller gets to see, a repeat does nothing twice.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use agent_tests::client::Reply;
use agent_tests::process::wait_until;
use agent_tests::server::{Builder, SECRET, Server, program};
use serde_json::Value;
use ureq::http::Method;

use crate::scripted;

fn start() -> Server {
    let builder = Builder::new().unwrap();
    builder.repo("acme", "site").unwrap();
    builder.start().unwrap()
}

pub(crate) fn post(server: &Server, key: &str, body: &Value) -> anyhow::Result<Reply> {
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", key),
    ];
    let body = body.to_string().into_bytes();
    server.client().send(Method::POST, "/jobs", &headers, body)
}

/// The ids of the jobs on `branch`.
fn on_branch(server: &Server, branch: &str) -> Vec<Value> {
    let page = server.client().get("/jobs?limit=500").unwrap().json();
    let jobs = page["jobs"].as_array().unwrap().iter();
    let wanted = jobs.filter(|job| job["branchName"] == branch);
    wanted.map(|job| job["id"].clone()).collect()
}

/// Sends a submission and never reads its answer.
fn send_and_hang_up(server: &Server, key: &str, body: &Value) {
    let address = server.url().trim_start_matches("http://");
    let body = body.to_string();
    let mut connection = TcpStream::connect(address).unwrap();
    write!(
        connection,
        "POST /jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    // Gone before the answer, at a time that the caller of `wait_until` below does not know.
    let mut byte = [0];
    connection
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    connection.read_exact(&mut byte).ok();
}

#[test]
fn a_job_whose_answer_was_lost_in_a_crash_is_answered_for_by_its_first_id() {
    let mut server = start();
    let body = scripted("lost/answer", "hang");
    send_and_hang_up(&server, "k", &body);
    let stored = || on_branch(&server, "lost/answer").len() == 1;
    assert!(wait_until(Duration::from_secs(30), stored));
    let id = on_branch(&server, "lost/answer").remove(0);
    server.kill().unwrap();
    server.start().unwrap();
    let again = post(&server, "k", &body).unwrap();
    assert_eq!((again.status, &again.json()["id"]), (201, &id));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(on_branch(&server, "lost/answer").len(), 1);
}

#[test]
fn however_a_kill_meets_a_submission_its_repeat_makes_one_job_of_it() {
    let mut server = start();
    let mut answered = 0;
    for round in 0..12u64 {
        let (branch, key) = (format!("kill/{round}"), format!("key-{round}"));
        let body = scripted(&branch, "hang");
        let first = std::thread::scope(|scope| {
            let posting = scope.spawn(|| post(&server, &key, &body).ok());
            // From before the request arrives to after its answer.
            std::thread::sleep(Duration::from_millis(round * 3));
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(server.pid().unwrap()).unwrap(),
                rustix::process::Signal::KILL,
            )
            .unwrap();
            posting.join().unwrap()
        });
        server.kill().ok();
        server.start().unwrap();
        let again = post(&server, &key, &body).unwrap();
        assert_eq!(again.status, 201, "{}", again.text());
        assert_eq!(on_branch(&server, &branch), [again.json()["id"].clone()]);
        if let Some(first) = first {
            answered += 1;
            assert_eq!(first.json(), again.json());
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
        }
    }
    assert!(answered < 12, "no kill came before its answer");
}

#[test]
fn the_command_line_repeats_a_submission_whose_answer_it_did_not_get() {
    let mut server = start();
    let port = server.url().rsplit_once(':').unwrap().1.to_owned();
    server.kill().unwrap();
    server.set_env("PORT", &port);
    // Takes one request in the server's place and hangs up on it.
    let listener = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let submitting = Command::new(program("agent-admin").unwrap())
        .env_clear()
        .env("AGENT_URL", server.url())
        .env("AGENT_API_SECRET", SECRET)
        .args(["jobs", "submit", "--repo", "acme/site", "--branch", "again"])
        .args(["--prompt", "x", "--json", "--idempotency-key", "mine"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    let mut head = [0; 1024];
    let read = connection.read(&mut head).unwrap();
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    assert!(head.contains("idempotency-key: mine\r\n"), "{head}");
    drop((connection, listener));
    server.start().unwrap();
    let output = submitting.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let created: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(on_branch(&server, "again"), [created["id"].clone()]);
}
