//! A table of bad requests: each gets its status, a stable code and the name of what is wrong,
//! and leaves the database as it was.

use serde_json::{Value, json};

use crate::exchange::{request, send_raw};
use crate::stage::{Stage, TOKEN};

/// One row: method, path, body, then the status, code and field of the answer. `{job}`, `{ended}`
/// and `{client}` in path and body stand for ids that exist, `{none}` for one that does not.
type Row<'a> = (&'a str, &'a str, &'a [u8], u16, &'a str, Option<&'a str>);

const PATHS: &[Row<'_>] = &[
    ("GET", "/", b"", 404, "not_found", None),
    ("GET", "/job", b"", 404, "not_found", None),
    ("GET", "/jobs/", b"", 404, "not_found", None),
    ("GET", "/Jobs", b"", 404, "not_found", None),
    ("GET", "/jobs/{job}/nothing", b"", 404, "not_found", None),
    ("GET", "/jobs/{none}", b"", 404, "job_not_found", None),
    ("GET", "/jobs/x", b"", 404, "job_not_found", None),
    ("GET", "/jobs/%00", b"", 404, "job_not_found", None),
    ("GET", "/jobs/%ff%fe", b"", 404, "job_not_found", None),
    ("GET", "/jobs/%2e%2e", b"", 404, "job_not_found", None),
    (
        "GET",
        "/jobs/..%2f..%2fetc%2fpasswd",
        b"",
        404,
        "job_not_found",
        None,
    ),
    (
        "GET",
        "/jobs/'%20OR%201=1--",
        b"",
        404,
        "job_not_found",
        None,
    ),
    ("GET", "/jobs/%zz", b"", 404, "job_not_found", None),
    (
        "GET",
        "/jobs/{none}?includeMessages=true",
        b"",
        404,
        "job_not_found",
        None,
    ),
    ("GET", "/jobs/{none}/log", b"", 404, "job_not_found", None),
    (
        "GET",
        "/jobs/{none}/events",
        b"",
        404,
        "job_not_found",
        None,
    ),
    (
        "GET",
        "/jobs/{none}/history",
        b"",
        404,
        "job_not_found",
        None,
    ),
    (
        "GET",
        "/jobs/{none}/deliveries",
        b"",
        404,
        "job_not_found",
        None,
    ),
    (
        "POST",
        "/jobs/{none}/cancel",
        b"",
        404,
        "job_not_found",
        None,
    ),
    (
        "POST",
        "/jobs/{none}/retry",
        b"",
        404,
        "job_not_found",
        None,
    ),
    (
        "POST",
        "/jobs/{none}/release",
        b"",
        404,
        "job_not_found",
        None,
    ),
    ("GET", "/clients/{none}", b"", 404, "client_not_found", None),
    (
        "GET",
        "/clients/%F0%9F%92%A9",
        b"",
        404,
        "client_not_found",
        None,
    ),
    (
        "PATCH",
        "/clients/{none}",
        b"{}",
        404,
        "client_not_found",
        None,
    ),
    (
        "DELETE",
        "/clients/{none}",
        b"",
        404,
        "client_not_found",
        None,
    ),
    ("PUT", "/jobs", b"", 405, "method_not_allowed", None),
    (
        "DELETE",
        "/jobs/{job}",
        b"",
        405,
        "method_not_allowed",
        None,
    ),
    ("GET", "/sync", b"", 405, "method_not_allowed", None),
    (
        "GET",
        "/jobs/{job}/cancel",
        b"",
        405,
        "method_not_allowed",
        None,
    ),
    ("POST", "/health", b"", 405, "method_not_allowed", None),
    (
        "POST",
        "/clients/{client}",
        b"{}",
        405,
        "method_not_allowed",
        None,
    ),
    ("HEAD", "/queue", b"", 405, "", None),
];

const QUERIES: &[Row<'_>] = &[
    (
        "GET",
        "/jobs?limit=0",
        b"",
        400,
        "invalid_parameter",
        Some("limit"),
    ),
    (
        "GET",
        "/jobs?limit=501",
        b"",
        400,
        "invalid_parameter",
        Some("limit"),
    ),
    (
        "GET",
        "/jobs?limit=-1",
        b"",
        400,
        "invalid_parameter",
        Some("limit"),
    ),
    (
        "GET",
        "/jobs?limit=ten",
        b"",
        400,
        "invalid_parameter",
        Some("limit"),
    ),
    (
        "GET",
        "/jobs?limit=",
        b"",
        400,
        "invalid_parameter",
        Some("limit"),
    ),
    (
        "GET",
        "/jobs?limit=99999999999999999999",
        b"",
        400,
        "invalid_parameter",
        Some("limit"),
    ),
    (
        "GET",
        "/jobs?offset=100001",
        b"",
        400,
        "invalid_parameter",
        Some("offset"),
    ),
    (
        "GET",
        "/jobs?offset=-1",
        b"",
        400,
        "invalid_parameter",
        Some("offset"),
    ),
    (
        "GET",
        "/jobs?status=done",
        b"",
        400,
        "invalid_parameter",
        Some("status"),
    ),
    (
        "GET",
        "/jobs?status=",
        b"",
        400,
        "invalid_parameter",
        Some("status"),
    ),
    (
        "GET",
        "/jobs?status=queued,",
        b"",
        400,
        "invalid_parameter",
        Some("status"),
    ),
    (
        "GET",
        "/jobs?clientId=x",
        b"",
        400,
        "invalid_parameter",
        Some("clientId"),
    ),
    (
        "GET",
        "/jobs?before=x",
        b"",
        400,
        "invalid_parameter",
        Some("before"),
    ),
    (
        "GET",
        "/jobs?before={job}&offset=1",
        b"",
        400,
        "invalid_parameter",
        Some("offset"),
    ),
    (
        "GET",
        "/jobs?limit=1&limit=2",
        b"",
        400,
        "duplicate_parameter",
        Some("limit"),
    ),
    (
        "GET",
        "/jobs?limits=1",
        b"",
        400,
        "unknown_parameter",
        Some("limits"),
    ),
    (
        "GET",
        "/jobs?%00=1",
        b"",
        400,
        "unknown_parameter",
        Some("\0"),
    ),
    (
        "GET",
        "/jobs/{job}?includeMessages=yes",
        b"",
        400,
        "invalid_parameter",
        Some("includeMessages"),
    ),
    (
        "GET",
        "/jobs/{job}?messages=true",
        b"",
        400,
        "unknown_parameter",
        Some("messages"),
    ),
    (
        "GET",
        "/jobs/{job}/log?offset=-5",
        b"",
        400,
        "invalid_parameter",
        Some("offset"),
    ),
    (
        "GET",
        "/jobs/{job}/events?after=x",
        b"",
        400,
        "invalid_parameter",
        Some("after"),
    ),
    (
        "GET",
        "/jobs/{job}/events?limit=1001",
        b"",
        400,
        "invalid_parameter",
        Some("limit"),
    ),
    (
        "GET",
        "/jobs/{job}/log?follow",
        b"",
        400,
        "invalid_parameter",
        Some("follow"),
    ),
    (
        "POST",
        "/jobs/{job}/cancel?wait=0",
        b"",
        400,
        "invalid_parameter",
        Some("wait"),
    ),
    (
        "POST",
        "/jobs/{job}/cancel?force=true",
        b"",
        400,
        "unknown_parameter",
        Some("force"),
    ),
    (
        "DELETE",
        "/clients/{client}?removeRepo=1",
        b"",
        400,
        "invalid_parameter",
        Some("removeRepo"),
    ),
    (
        "GET",
        "/queue?limit=0",
        b"",
        400,
        "invalid_parameter",
        Some("limit"),
    ),
    (
        "GET",
        "/clients?all=true",
        b"",
        400,
        "unknown_parameter",
        Some("all"),
    ),
    ("GET", "/health?x", b"", 400, "unknown_parameter", Some("x")),
    (
        "POST",
        "/sync?repo=x",
        b"",
        400,
        "unknown_parameter",
        Some("repo"),
    ),
];

const CLIENTS: &[Row<'_>] = &[
    ("POST", "/clients", b"", 400, "malformed_json", None),
    ("POST", "/clients", b"{", 400, "malformed_json", None),
    ("POST", "/clients", b"[]", 400, "invalid_body", None),
    (
        "POST",
        "/clients",
        b"{}",
        400,
        "missing_field",
        Some("name"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"o"}"#,
        400,
        "missing_field",
        Some("githubRepo"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"","githubOrg":"o","githubRepo":"r"}"#,
        400,
        "invalid_field",
        Some("name"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":" ","githubOrg":"o","githubRepo":"r"}"#,
        400,
        "invalid_field",
        Some("name"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"a\nb","githubOrg":"o","githubRepo":"r"}"#,
        400,
        "invalid_field",
        Some("name"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"..","githubRepo":"r"}"#,
        400,
        "invalid_field",
        Some("githubOrg"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"o","githubRepo":"../r"}"#,
        400,
        "invalid_field",
        Some("githubRepo"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"-o","githubRepo":"r"}"#,
        400,
        "invalid_field",
        Some("githubOrg"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"o","githubRepo":"r","defaultBranch":"a b"}"#,
        400,
        "invalid_field",
        Some("defaultBranch"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"o","githubRepo":"r","osClientId":"a\u0000"}"#,
        400,
        "invalid_field",
        Some("osClientId"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"o","githubRepo":"r","id":"1"}"#,
        400,
        "unknown_field",
        Some("id"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"o","githubRepo":"r","permissionMode":"root"}"#,
        400,
        "invalid_field",
        Some("permissionMode"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"o","githubRepo":"r","model":"--resume"}"#,
        400,
        "invalid_field",
        Some("model"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"o","githubRepo":"r","timeoutSeconds":0}"#,
        400,
        "invalid_field",
        Some("timeoutSeconds"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"o","githubRepo":"r","idleTimeoutSeconds":86401}"#,
        400,
        "invalid_field",
        Some("idleTimeoutSeconds"),
    ),
    (
        "POST",
        "/clients",
        br#"{"name":"x","githubOrg":"ACME","githubRepo":"SHOP"}"#,
        409,
        "client_exists",
        None,
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"name":null}"#,
        400,
        "invalid_field",
        Some("name"),
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"githubRepo":"x"}"#,
        400,
        "unknown_field",
        Some("githubRepo"),
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"defaultBranch":"-x"}"#,
        400,
        "invalid_field",
        Some("defaultBranch"),
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"permissionMode":"","name":"New"}"#,
        400,
        "invalid_field",
        Some("permissionMode"),
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"trusted":null,"name":"New"}"#,
        400,
        "invalid_field",
        Some("trusted"),
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"trusted":"yes","name":"New"}"#,
        400,
        "invalid_field",
        Some("trusted"),
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"model":"a b"}"#,
        400,
        "invalid_field",
        Some("model"),
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"timeoutSeconds":"60"}"#,
        400,
        "invalid_field",
        Some("timeoutSeconds"),
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"timeoutSeconds":86401}"#,
        400,
        "invalid_field",
        Some("timeoutSeconds"),
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"idleTimeoutSeconds":-1}"#,
        400,
        "invalid_field",
        Some("idleTimeoutSeconds"),
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"priority":null,"name":"New"}"#,
        400,
        "invalid_field",
        Some("priority"),
    ),
    (
        "PATCH",
        "/clients/{client}",
        br#"{"maxConcurrent":0,"name":"New"}"#,
        400,
        "invalid_field",
        Some("maxConcurrent"),
    ),
    ("DELETE", "/clients/{client}", b"", 409, "client_busy", None),
];

const JOBS: &[Row<'_>] = &[
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","dependsOn":["x"]}"#, 400, "invalid_field", Some("dependsOn")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","dependsOn":["{job}","{none}"]}"#, 400, "invalid_field", Some("dependsOn")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","dependsOn":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17","18","19","20","21"]}"#, 400, "invalid_field", Some("dependsOn")),
    ("PATCH", "/jobs/{none}", br#"{"priority":1}"#, 404, "job_not_found", None),
    ("PATCH", "/jobs/{job}", br#"{"priority":101}"#, 400, "invalid_field", Some("priority")),
    ("PATCH", "/jobs/{job}", br#"{"priority":-9223372036854775808}"#, 400, "invalid_field", Some("priority")),
    ("PATCH", "/jobs/{job}", br#"{"priority":"high"}"#, 400, "invalid_field", Some("priority")),
    ("PATCH", "/jobs/{job}", br"{}", 400, "missing_field", Some("priority")),
    ("PATCH", "/jobs/{job}", br#"{"priority":1,"prompt":"p"}"#, 400, "unknown_field", Some("prompt")),
    ("PATCH", "/jobs/{ended}", br#"{"priority":1}"#, 400, "job_ended", None),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","priority":101}"#, 400, "invalid_field", Some("priority")),
    ("POST", "/jobs", br#"{"prompt":"p","branchName":"b"}"#, 400, "missing_field", Some("clientId")),
    ("POST", "/jobs", br#"{"githubOrg":"o","prompt":"p","branchName":"b"}"#, 400, "missing_field", Some("githubRepo")),
    ("POST", "/jobs", br#"{"githubRepo":"r","prompt":"p","branchName":"b"}"#, 400, "missing_field", Some("githubOrg")),
    ("POST", "/jobs", br#"{"clientId":"{client}","githubOrg":"o","githubRepo":"r","prompt":"p","branchName":"b"}"#, 400, "invalid_field", Some("clientId")),
    ("POST", "/jobs", br#"{"clientId":"{none}","prompt":"p","branchName":"b"}"#, 404, "client_not_found", None),
    ("POST", "/jobs", br#"{"clientId":"x","prompt":"p","branchName":"b"}"#, 404, "client_not_found", Some("clientId")),
    ("POST", "/jobs", br#"{"clientId":7,"prompt":"p","branchName":"b"}"#, 400, "invalid_field", Some("clientId")),
    ("POST", "/jobs", br#"{"clientId":"{client}","branchName":"b"}"#, 400, "missing_field", Some("prompt")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"","branchName":"b"}"#, 400, "invalid_field", Some("prompt")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"a\u0000b","branchName":"b"}"#, 400, "invalid_field", Some("prompt")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p"}"#, 400, "missing_field", Some("branchName")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":""}"#, 400, "invalid_field", Some("branchName")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"a..b"}"#, 400, "invalid_field", Some("branchName")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"--force"}"#, 400, "invalid_field", Some("branchName")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"main"}"#, 400, "invalid_field", Some("branchName")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"taken"}"#, 409, "branch_exists", Some("branchName")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"held"}"#, 409, "branch_exists", Some("branchName")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","title":"a\u0007"}"#, 400, "invalid_field", Some("title")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","osCallbackUrl":"ftp://x"}"#, 400, "invalid_field", Some("osCallbackUrl")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","osCallbackUrl":"http://u:p@x.example/"}"#, 400, "invalid_field", Some("osCallbackUrl")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","osCallbackUrl":"http://169.254.169.254/"}"#, 400, "invalid_field", Some("osCallbackUrl")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","permissionMode":"root"}"#, 400, "invalid_field", Some("permissionMode")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","model":"-x"}"#, 400, "invalid_field", Some("model")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","timeoutSeconds":0}"#, 400, "invalid_field", Some("timeoutSeconds")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","timeoutSeconds":"60"}"#, 400, "invalid_field", Some("timeoutSeconds")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","idleTimeoutSeconds":86401}"#, 400, "invalid_field", Some("idleTimeoutSeconds")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b","status":"completed"}"#, 400, "unknown_field", Some("status")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","prompt":"q","branchName":"b"}"#, 400, "duplicate_field", Some("prompt")),
    ("POST", "/jobs", br#"{"clientId":"{client}","prompt":"p","branchName":"b"}{}"#, 400, "malformed_json", None),
    ("POST", "/jobs", b"{\"prompt\":\"\xff\"}", 400, "malformed_json", None),
    ("POST", "/jobs", br#"{"prompt":"\ud83d"}"#, 400, "malformed_json", None),
    ("POST", "/jobs", b"prompt=p&branchName=b", 400, "malformed_json", None),
    ("POST", "/jobs/{ended}/cancel", b"", 400, "job_ended", None),
    ("POST", "/jobs/{job}/cancel", br#"{"wait":false}"#, 400, "unknown_field", Some("wait")),
    ("POST", "/jobs/{job}/retry", b"", 409, "job_unfinished", None),
    ("POST", "/jobs/{job}/retry", br#"{"resume":1}"#, 400, "invalid_field", Some("resume")),
    ("POST", "/jobs/{ended}/retry", br#"{"resume":true}"#, 409, "no_session", None),
    ("POST", "/jobs/{job}/messages", br#"{"prompt":"p"}"#, 409, "job_unfinished", None),
    ("POST", "/jobs/{ended}/messages", br#"{"prompt":"p"}"#, 409, "no_session", None),
    ("POST", "/jobs/{none}/messages", br#"{"prompt":"p"}"#, 404, "job_not_found", None),
    ("POST", "/jobs/{ended}/messages", br#"{"prompt":""}"#, 400, "invalid_field", Some("prompt")),
    ("POST", "/jobs/{ended}/messages", b"{}", 400, "missing_field", Some("prompt")),
    ("POST", "/jobs/{ended}/messages", br#"{"prompt":"p","branchName":"b"}"#, 400, "unknown_field", Some("branchName")),
    ("POST", "/jobs/{job}/release", b"", 409, "job_not_parked", None),
    ("POST", "/jobs/{ended}/release", b"", 409, "job_not_parked", None),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_request_is_refused_by_name_and_changes_nothing() {
    let stage = Stage::new().await;
    let client = stage.client().await;
    let ended = stage.job("ended").await;
    stage
        .send("POST", &format!("/jobs/{ended}/cancel"), "")
        .await;
    let job = stage.job("held").await;
    let none = "0".repeat(32);
    let names = [
        ("{client}", &client),
        ("{ended}", &ended),
        ("{job}", &job),
        ("{none}", &none),
    ];
    let database = stage.database();
    let rows: Vec<&Row<'_>> = [PATHS, QUERIES, CLIENTS, JOBS]
        .into_iter()
        .flatten()
        .collect();
    assert!(rows.len() >= 100, "{} rows", rows.len());
    for &&(method, path, body, status, code, field) in &rows {
        let before = database.version();
        let path = names
            .iter()
            .fold(path.to_owned(), |path, (name, id)| path.replace(name, id));
        let body = fill(body, &names);
        let answer = send(&stage, method, &path, &body).await;
        let row = format!("{method} {path} {}", String::from_utf8_lossy(&body));
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{row}: {told}");
        if method != "HEAD" {
            let problem = answer.json();
            assert_eq!(problem["code"], json!(code), "{row}: {told}");
            assert_eq!(
                problem.get("field").and_then(Value::as_str),
                field,
                "{row}: {told}"
            );
            assert_eq!(problem["error"], problem["detail"], "{row}");
            assert!(!problem["error"].as_str().unwrap().is_empty(), "{row}");
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json"),
                "{row}"
            );
        }
        assert_eq!(answer.header("allow").is_some(), status == 405, "{row}");
        assert_eq!(database.version(), before, "{row} changed the database");
    }
    // The watch would have seen a change.
    let before = database.version();
    stage.job("fine").await;
    assert_ne!(database.version(), before);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_is_refused_with_its_own_status() {
    let stage = Stage::new().await;
    let client = stage.client().await;
    let database = stage.database();
    let job = |member: &str, length: usize| {
        let mut body = json!({"clientId": client, "prompt": "p", "branchName": "b"});
        body[member] = json!("x".repeat(length));
        body.to_string()
    };
    let before = database.version();
    for (body, status, code) in [
        (job("prompt", 1024 * 1024 + 1), 413, "prompt_too_large"),
        (job("prompt", 9 * 1024 * 1024), 413, "body_too_large"),
        (job("title", 257), 400, "invalid_field"),
        (job("branchName", 201), 400, "invalid_field"),
        (job("osFeatureId", 201), 400, "invalid_field"),
        (job(&"y".repeat(100_000), 1), 400, "unknown_field"),
        (
            format!("{{\"prompt\":{}", "[".repeat(1_000_000)),
            400,
            "invalid_field",
        ),
    ] {
        let answer = stage.send("POST", "/jobs", &body).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (status, &json!(code))
        );
        assert!(
            answer.body.len() < 8192,
            "the answer repeats {} bytes",
            answer.body.len()
        );
    }
    let long = format!("/jobs/{}", "x".repeat(5000));
    assert_eq!(stage.send("GET", &long, "").await.status, 404);
    assert_eq!(database.version(), before);
    let longest = job("prompt", 1024 * 1024);
    assert_eq!(stage.send("POST", "/jobs", &longest).await.status, 201);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_is_bounded_too() {
    let stage = Stage::new().await;
    let mut text = format!(
        "POST /jobs HTTP/1.1\r\nhost: t\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 0x10_0000], b"\r\n"].concat();
    for _ in 0..9 {
        text.extend_from_slice(&chunk);
    }
    let answer = send_raw(stage.address, &text).await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (413, &json!("body_too_large"))
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_without_end_keeps_no_connection_of_a_caller_without_token() {
    let stage = Stage::new().await;
    let text =
        b"POST /jobs HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"pro\r\n";
    // Read until the server closes: the test fails if it does not.
    assert_eq!(send_raw(stage.address, text).await.status, 401);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_json_is_taken_for_json() {
    let stage = Stage::new().await;
    let token = format!("Bearer {TOKEN}");
    let body = br#"{"name":"x","githubOrg":"o","githubRepo":"r"}"#;
    let post = async |extra: &[(&str, &str)]| {
        let headers = [&[("authorization", token.as_str())], extra].concat();
        send_raw(stage.address, &request("POST", "/clients", &headers, body)).await
    };
    for extra in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/jsonx")],
        &[("content-type", "\u{e9}")],
        &[
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ],
    ] {
        let answer = post(extra).await;
        assert_eq!(answer.status, 415, "{extra:?}");
        assert_eq!(answer.json()["code"], json!("unsupported_media_type"));
    }
    assert_eq!(
        post(&[("content-type", "Application/JSON; charset=utf-8")])
            .await
            .status,
        201
    );
    stage.close().await;
}

async fn send(stage: &Stage, method: &str, path: &str, body: &[u8]) -> crate::exchange::Answer {
    let token = format!("Bearer {TOKEN}");
    let headers = [
        ("authorization", token.as_str()),
        ("content-type", "application/json"),
    ];
    send_raw(stage.address, &request(method, path, &headers, body)).await
}

fn fill(body: &[u8], names: &[(&str, &String)]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(body) else {
        return body.to_vec();
    };
    names
        .iter()
        .fold(text.to_owned(), |text, (name, id)| text.replace(name, id))
        .into_bytes()
}
