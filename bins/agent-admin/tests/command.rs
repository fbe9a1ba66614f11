//! The command as a process, against a server that answers from a script.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

const JOB: &str = "0123456789abcdef0123456789abcdef";

/// Answers one connection each with the given bytes, and returns what was asked.
struct Script {
    url: String,
    asked: JoinHandle<Vec<String>>,
}

impl Script {
    fn new(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = std::thread::spawn(move || {
            let one = |answer: String| {
                let (mut peer, _) = listener.accept().expect("a connection");
                let request = read_request(&mut peer);
                peer.write_all(answer.as_bytes()).ok();
                request
            };
            answers.into_iter().map(one).collect()
        });
        Self { url, asked }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = admin(&self.url, arguments).spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        child.wait_with_output().expect("ends")
    }

    fn asked(self) -> Vec<String> {
        self.asked.join().expect("every answer was asked for")
    }
}

fn admin(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-admin"));
    command
        .args(arguments)
        .env_clear()
        .env("AGENT_URL", url)
        .env("AGENT_API_SECRET", "secret-token")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn read_request(peer: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return text;
            }
        }
        match peer.read(&mut buffer).expect("more of the request") {
            0 => return text,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn problem(status: &str, code: &str) -> String {
    answer(
        status,
        &format!(r#"{{"error":"It is refused","code":"{code}"}}"#),
    )
}

fn job(status: &str) -> String {
    let body = serde_json::json!({
        "id": JOB, "clientId": "c", "status": status, "prompt": "p", "branchName": "b",
        "client": {"name": "Shop", "githubOrg": "acme", "githubRepo": "shop"},
        "attempt": 1, "error": "it broke", "reason": "agent_failed",
        "createdAt": "2025-01-07T12:00:00.000Z", "updatedAt": "2025-01-07T12:00:00.000Z",
    });
    answer("200 OK", &body.to_string())
}

fn log(chunk: &str, end: &str) -> String {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    format!("{head}{:x}\r\n{chunk}\r\n{end}", chunk.len())
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn clients() -> String {
    let client = |id: &str, name: &str| {
        serde_json::json!({
            "id": id, "osClientId": null, "name": name, "githubOrg": "acme", "githubRepo": name,
            "defaultBranch": "main", "repoExists": true, "createdAt": "2025-01-07T12:00:00.000Z",
        })
    };
    let list = serde_json::json!({"clients": [client("1", "shop"), client("22", "a\u{1b}b")]});
    answer("200 OK", &list.to_string())
}

#[test]
fn a_list_in_a_pipe_is_aligned_and_shows_control_characters() {
    let script = Script::new(vec![clients()]);
    let output = script.run(&["clients", "list"]);
    let expected = "\
ID  NAME      REPOSITORY     BRANCH  CLONED
1   shop      acme/shop      main    yes
22  a\\u{1b}b  acme/a\\u{1b}b  main    yes
";
    assert_eq!(out(&output), expected, "{}", err(&output));
    assert!(script.asked()[0].contains("authorization: Bearer secret-token\r\n"));
}

#[test]
fn json_is_what_the_server_said() {
    let script = Script::new(vec![clients()]);
    let output = script.run(&["--json", "clients", "list"]);
    let list: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(list["clients"][0]["githubRepo"], "shop");
}

#[test]
fn a_client_can_be_named_by_its_repository() {
    let changed = serde_json::json!({
        "id": "1", "osClientId": null, "name": "New", "githubOrg": "acme", "githubRepo": "shop",
        "defaultBranch": "main", "repoExists": true, "createdAt": "2025-01-07T12:00:00.000Z",
    });
    let script = Script::new(vec![clients(), answer("200 OK", &changed.to_string())]);
    let output = script.run(&["clients", "update", "Acme/SHOP", "--name", "New"]);
    assert!(output.status.success(), "{}", err(&output));
    let asked = script.asked();
    assert!(asked[1].starts_with("PATCH /clients/1 "), "{}", asked[1]);
    assert!(asked[1].ends_with(r#"{"name":"New"}"#), "{}", asked[1]);

    let script = Script::new(vec![clients()]);
    let output = script.run(&["clients", "show", "acme/nothing"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        err(&output),
        "error: no client has the repository acme/nothing\n"
    );
}

#[test]
fn a_clients_options_are_set_unset_and_shown() {
    let body = serde_json::json!({
        "id": "1", "osClientId": null, "name": "Shop", "githubOrg": "acme", "githubRepo": "shop",
        "defaultBranch": "main", "repoExists": true, "activeJobs": 0, "totalJobs": 0,
        "createdAt": "2025-01-07T12:00:00.000Z", "model": null, "permissionMode": "plan",
        "timeoutSeconds": 60, "idleTimeoutSeconds": null, "repoCloned": true, "bareRepoPath": "/r",
    });
    let answered = || answer("200 OK", &body.to_string());
    let script = Script::new(vec![answered(), answered(), answered()]);
    let mode = ["--permission-mode", "plan", "--timeout", "60"];
    let add = [&["clients", "add", "acme/shop"], &mode[..]].concat();
    let output = script.run(&add);
    assert!(output.status.success(), "{}", err(&output));
    let both = ["--timeout", "5", "--unset", "timeout"];
    let output = script.run(&[&["clients", "update", "1"], &both[..]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    let change = ["--idle-timeout", "30", "--unset", "model,timeout"];
    let output = script.run(&[&["clients", "update", "1"], &change[..]].concat());
    assert!(output.status.success(), "{}", err(&output));

    let shown = out(&script.run(&["clients", "show", "1"]));
    let named = |name: &str| shown.lines().find(|line| line.starts_with(name));
    let lines = ["permission mode:", "timeout:", "model:", "idle timeout:"].map(named);
    let lines = lines.map(|line| line.map(|line| line.split_once(':').unwrap().1.trim()));
    assert_eq!(lines, [Some("plan"), Some("60 s"), None, None], "{shown}");
    let asked = script.asked();
    for (asked, sent) in asked.iter().zip([
        r#""githubRepo":"shop","permissionMode":"plan","timeoutSeconds":60}"#,
        r#"{"model":null,"timeoutSeconds":null,"idleTimeoutSeconds":30}"#,
    ]) {
        assert!(asked.ends_with(sent), "{asked}");
    }
}

#[test]
fn trust_is_said_in_so_many_words_and_shown() {
    let body = serde_json::json!({
        "id": "1", "osClientId": null, "name": "Shop", "githubOrg": "acme", "githubRepo": "shop",
        "defaultBranch": "main", "repoExists": true, "activeJobs": 0, "totalJobs": 0,
        "createdAt": "2025-01-07T12:00:00.000Z", "trusted": true,
        "repoCloned": true, "bareRepoPath": "/r",
    });
    let answered = || answer("200 OK", &body.to_string());
    let script = Script::new(vec![answered(), answered(), answered(), answered()]);
    for line in [
        &["add", "acme/shop", "--trusted"][..],
        &["update", "1", "--untrusted"],
        &["update", "1", "--trusted"],
    ] {
        let output = script.run(&[&["clients"], line].concat());
        assert!(output.status.success(), "{}", err(&output));
    }
    let both = script.run(&["clients", "update", "1", "--trusted", "--untrusted"]);
    assert_eq!(both.status.code(), Some(2));
    let shown = out(&script.run(&["clients", "show", "1"]));
    let said = shown.lines().find(|line| line.starts_with("trusted:"));
    assert!(said.is_some_and(|line| line.ends_with("yes")), "{shown}");
    for (asked, sent) in script.asked().iter().zip([
        r#""trusted":true}"#,
        r#"{"trusted":false}"#,
        r#"{"trusted":true}"#,
    ]) {
        assert!(asked.ends_with(sent), "{asked}");
    }
}

#[test]
fn refusals_have_exit_codes_of_their_own() {
    for (status, code, exit) in [
        ("400 Bad Request", "invalid_field", 2),
        ("401 Unauthorized", "unauthorized", 5),
        ("404 Not Found", "job_not_found", 3),
        ("409 Conflict", "branch_exists", 4),
        ("500 Internal Server Error", "storage_failed", 9),
        ("503 Service Unavailable", "draining", 6),
    ] {
        let script = Script::new(vec![problem(status, code)]);
        let output = script.run(&["jobs", "retry", JOB]);
        assert_eq!(
            output.status.code(),
            Some(exit),
            "{status}: {}",
            err(&output)
        );
        assert!(
            err(&output).starts_with("error: It is refused"),
            "{}",
            err(&output)
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_error_with_json_is_json_too() {
    let script = Script::new(vec![problem("409 Conflict", "branch_exists")]);
    let output = script.run(&["jobs", "retry", JOB, "--json"]);
    let told: serde_json::Value = serde_json::from_str(&err(&output)).unwrap();
    assert_eq!(
        (&told["code"], &told["exitCode"]),
        (&"branch_exists".into(), &4.into())
    );
}

#[test]
fn a_server_that_is_not_there_is_told_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = admin(&url, &["health"]).output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let expected = format!(
        "error: cannot reach {url}: connection refused. Is agent-server running? \
         Set --url or AGENT_URL to its address.\n"
    );
    assert_eq!(err(&output), expected);
}

#[test]
fn without_a_token_nothing_is_asked() {
    let output = admin("http://127.0.0.1:1", &["health"])
        .env_remove("AGENT_API_SECRET")
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        err(&output).contains("AGENT_API_SECRET"),
        "{}",
        err(&output)
    );
}

#[test]
fn help_lists_the_exit_codes_and_never_the_token() {
    let output = admin("http://127.0.0.1:1", &["--help"]).output().unwrap();
    assert!(out(&output).contains("Exit codes:"));
    assert!(!out(&output).contains("secret-token"));
}

#[test]
fn a_prompt_comes_from_standard_input_as_it_is() {
    let created = format!(
        r#"{{"id":"{JOB}","clientId":"c","status":"queued","position":1,"branchName":"b","createdAt":"x"}}"#
    );
    let script = Script::new(vec![answer("201 Created", &created)]);
    let line = [
        "jobs",
        "submit",
        "--repo",
        "acme/shop",
        "--branch",
        "b",
        "--prompt-file",
        "-",
    ];
    let output = script.run_with(&line, "fix \"it\"\n\u{e9}\n");
    assert_eq!(
        out(&output),
        format!("id:       {JOB}\nposition: 1\nbranch:   b\n")
    );
    let request = script.asked().remove(0);
    let body: serde_json::Value =
        serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    let expected = serde_json::json!({
        "githubOrg": "acme", "githubRepo": "shop", "prompt": "fix \"it\"\n\u{e9}\n", "branchName": "b",
    });
    assert_eq!(body, expected);
}

#[test]
fn waiting_ends_with_the_job_and_tells_its_outcome() {
    for (status, exit) in [("completed", 0), ("failed", 1), ("cancelled", 8)] {
        // The second answer is what a proxy says while the server restarts.
        let answers = vec![job("running"), answer("502 Bad Gateway", ""), job(status)];
        let script = Script::new(answers);
        let output = script.run(&["jobs", "wait", JOB]);
        assert_eq!(output.status.code(), Some(exit), "{}", err(&output));
        assert!(out(&output).starts_with(status), "{}", out(&output));
    }
}

#[test]
fn waiting_gives_up_in_time() {
    let script = Script::new(vec![job("queued")]);
    let output = script.run(&["jobs", "wait", JOB, "--timeout", "0"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(err(&output).contains("still queued"), "{}", err(&output));
}

#[test]
fn following_goes_on_where_the_connection_broke() {
    let one = "2025-01-07T12:00:00.000000001Z stdout F one\n2025-01-07T12:00:00.0";
    let two = "00000002Z stderr F two\n";
    let three = "2025-01-07T12:00:00.000000003Z system F three\n";
    let script = Script::new(vec![
        // Broken in the middle of an entry.
        log(one, ""),
        // Ended in good order while the job still runs: the server was stopped.
        log(two, "0\r\n\r\n"),
        job("running"),
        log(three, "0\r\n\r\n"),
        job("completed"),
    ]);
    let output = script.run(&["jobs", "logs", "-f", JOB]);
    assert_eq!(
        out(&output),
        "one\n[stderr] two\n[system] three\n",
        "{}",
        err(&output)
    );
    assert_eq!(output.status.code(), Some(0));
    let asked = script.asked();
    assert!(asked[0].starts_with(&format!("GET /jobs/{JOB}/log?follow=true ")));
    let second = one.len();
    assert!(
        asked[1].contains(&format!("offset={second} ")),
        "{}",
        asked[1]
    );
    let third = second + two.len();
    assert!(
        asked[3].contains(&format!("offset={third} ")),
        "{}",
        asked[3]
    );
}

#[test]
fn the_raw_log_is_printed_byte_for_byte() {
    let text = "2025-01-07T12:00:00.000000001Z stdout F {\"type\":\"x\"}\n";
    let script = Script::new(vec![log(text, "0\r\n\r\n")]);
    assert_eq!(out(&script.run(&["jobs", "logs", "--raw", JOB])), text);
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let line = "2025-01-07T12:00:00.000000001Z stdout F x\n".repeat(20_000);
    let script = Script::new(vec![log(&line, "0\r\n\r\n")]);
    let mut child = admin(&script.url, &["jobs", "logs", JOB]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
}
