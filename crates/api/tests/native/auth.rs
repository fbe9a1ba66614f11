//! The token comes before everything else.

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::exchange::{read_answer, request, send_raw};
use crate::stage::{Stage, TOKEN};

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_every_path_and_method_is_401() {
    let stage = Stage::new().await;
    let id = "0".repeat(32);
    for path in [
        "/",
        "/clients",
        "/jobs",
        "/health",
        "/queue",
        "/sync",
        "/nowhere",
        "/jobs/%00",
        "//",
        &format!("/jobs/{id}"),
        &format!("/jobs/{id}/cancel"),
        &format!("/clients/{id}"),
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            for token in [
                None,
                Some("Bearer wrong"),
                Some("Basic dGVzdA=="),
                Some(TOKEN),
            ] {
                let headers: Vec<_> = token
                    .iter()
                    .map(|token| ("authorization", *token))
                    .collect();
                let answer = send_raw(stage.address, &request(method, path, &headers, b"")).await;
                assert_eq!(answer.status, 401, "{method} {path} {token:?}");
                assert!(
                    answer
                        .header("www-authenticate")
                        .unwrap()
                        .starts_with("Bearer ")
                );
                assert_eq!(answer.json()["code"], json!("unauthorized"));
            }
        }
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_wrong_token_does_not_wait_for_the_body() {
    let stage = Stage::new().await;
    let mut connection = TcpStream::connect(stage.address).await.unwrap();
    let head =
        b"POST /jobs HTTP/1.1\r\nhost: t\r\nconnection: close\r\nauthorization: Bearer x\r\n\
        content-type: application/json\r\ncontent-length: 5000000\r\n\r\n";
    connection.write_all(head).await.unwrap();
    assert_eq!(read_answer(&mut connection).await.status, 401);
    stage.close().await;
}
