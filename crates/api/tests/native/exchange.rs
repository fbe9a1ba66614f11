//! One HTTP exchange, byte for byte, so that a test can also send what no client would.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No exchange of a test takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body reached the end it announced.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Sends `request` as it is and reads until the server closes the connection.
pub(crate) async fn send_raw(address: SocketAddr, request: &[u8]) -> Answer {
    let mut connection = TcpStream::connect(address).await.expect("connects");
    // The server may answer, and close, before it has read everything.
    connection.write_all(request).await.ok();
    read_answer(&mut connection).await
}

/// Reads an answer until the server closes the connection.
pub(crate) async fn read_answer(connection: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let reading = async {
        // A reset after the answer is the server's right when it has not read everything.
        connection.read_to_end(&mut bytes).await.ok();
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("an answer in time");
    parse(&bytes)
}

/// A request that asks for the connection to be closed after its answer.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    if !body.is_empty() || method != "GET" {
        text.extend(["content-length: ", &body.len().to_string(), "\r\n"]);
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .expect("a status line");
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
    let rest = &bytes[end + 4..];
    let (body, whole) = if chunked {
        dechunk(rest)
    } else {
        (rest.to_vec(), true)
    };
    Answer {
        status: status.parse().expect("a status"),
        headers,
        body,
        whole,
    }
}

fn dechunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|two| two == b"\r\n") else {
            return (body, false);
        };
        let size = std::str::from_utf8(&rest[..line]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        rest = &rest[line + 2..];
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = rest.get(..size) else {
            body.extend_from_slice(rest);
            return (body, false);
        };
        body.extend_from_slice(chunk);
        rest = rest.get(size + 2..).unwrap_or_default();
    }
}
