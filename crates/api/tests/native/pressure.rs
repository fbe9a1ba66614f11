//! Many at once, slow ones, and connections that are used again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::exchange::read_answer;
use crate::stage::{Stage, TOKEN};

#[tokio::test(flavor = "multi_thread")]
async fn jobs_from_64_connections_at_once_are_all_accepted_in_one_order() {
    let stage = Arc::new(Stage::new().await);
    stage.client().await;
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..64 {
        let stage = Arc::clone(&stage);
        callers.spawn(async move {
            let body = json!({
                "githubOrg": "acme", "githubRepo": "shop", "prompt": "p", "branchName": format!("b{n}"),
            });
            let answer = stage.send("POST", "/jobs", &body.to_string()).await;
            assert_eq!(answer.status, 201);
            answer.json()["position"].as_u64().unwrap()
        });
    }
    let positions: HashSet<u64> = callers.join_all().await.into_iter().collect();
    assert_eq!(positions, (1..=64).collect());
    Arc::into_inner(stage).unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_is_given_up() {
    let limits = agent_api::Limits {
        body_timeout: Duration::from_millis(200),
        ..agent_api::Limits::default()
    };
    let stage = Stage::with(limits).await;
    let mut connection = TcpStream::connect(stage.address).await.unwrap();
    let head = format!(
        "POST /jobs HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{{"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let answer = read_answer(&mut connection).await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (408, &json!("body_timeout"))
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_arrive_is_given_up() {
    let limits = agent_api::Limits {
        head_timeout: Duration::from_millis(200),
        ..agent_api::Limits::default()
    };
    let stage = Stage::with(limits).await;
    let mut connection = TcpStream::connect(stage.address).await.unwrap();
    connection
        .write_all(b"GET /health HTTP/1.1\r\nhost: t\r\nx: ")
        .await
        .unwrap();
    assert_eq!(read_answer(&mut connection).await.status, 408);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_requests_one_after_the_other() {
    let stage = Stage::new().await;
    let mut connection = TcpStream::connect(stage.address).await.unwrap();
    let one = |close: &str| {
        format!("GET /health HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {TOKEN}\r\n{close}\r\n")
    };
    let both = format!("{}{}", one(""), one("connection: close\r\n"));
    connection.write_all(both.as_bytes()).await.unwrap();
    let answer = read_answer(&mut connection).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(
        text.matches("HTTP/1.1 200 OK").count(),
        1,
        "the second answer follows the first"
    );
    stage.close().await;
}
