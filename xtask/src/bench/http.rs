//! A raw HTTP/1.1 connection that is kept alive: little enough of a client to measure a server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Longest wait for bytes of an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes of an answer read at a time.
const BUFFER: usize = 64 * 1024;

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// `GET` or `POST`.
    pub(crate) method: &'static str,
    /// Path and query.
    pub(crate) path: String,
    /// JSON, or nothing.
    pub(crate) body: Option<String>,
}

impl Request {
    /// Asks for a resource.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET",
            path: path.into(),
            body: None,
        }
    }

    /// Sends JSON.
    pub(crate) fn post(path: impl Into<String>, body: &Value) -> Self {
        Self {
            method: "POST",
            path: path.into(),
            body: Some(body.to_string()),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    headers: String,
    line: Vec<u8>,
    body: Vec<u8>,
}

impl Connection {
    /// Connects to a server that wants `token`.
    pub(crate) fn open(address: SocketAddr, token: &str) -> Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("cannot reach {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream: BufReader::with_capacity(BUFFER, stream),
            headers: format!("Host: {address}\r\nAuthorization: Bearer {token}\r\n"),
            line: Vec::new(),
            body: Vec::new(),
        })
    }

    /// Asks, and returns the answer's body; any status but 2xx is an error.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<&[u8]> {
        self.send(request)?;
        self.answer(request)
    }

    /// Waits for the answer to `request`, which was sent, and returns its body; any status but
    /// 2xx is an error.
    pub(crate) fn answer(&mut self, request: &Request) -> Result<&[u8]> {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let status = self.answer_into(&mut |bytes| body.extend_from_slice(bytes))?;
        self.body = body;
        let Request { method, path, .. } = request;
        if !(200..300).contains(&status) {
            bail!(
                "{method} {path}: {status} {}",
                String::from_utf8_lossy(&self.body)
            );
        }
        Ok(&self.body)
    }

    /// Asks, and reads the answer as JSON.
    pub(crate) fn json(&mut self, request: &Request) -> Result<Value> {
        Ok(serde_json::from_slice(self.ask(request)?)?)
    }

    /// Asks, gives the answer's body to `sink` piece by piece, and returns the status.
    pub(crate) fn ask_into(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<u16> {
        self.send(request)?;
        self.answer_into(sink)
    }

    fn answer_into(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<u16> {
        self.next_line()?;
        let status = parse_status(&self.line).context("no HTTP/1.1 answer")?;
        let mut length = None;
        let mut is_chunked = false;
        while self.next_line()? > 0 {
            let line = self.line.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix(b"content-length:") {
                length = Some(parse_number(value, 10)?);
            } else if let Some(value) = line.strip_prefix(b"transfer-encoding:") {
                is_chunked = value.trim_ascii() == b"chunked";
            }
        }
        match length {
            Some(length) => self.copy(length, sink)?,
            None if is_chunked => self.copy_chunks(sink)?,
            None => bail!("an answer with neither length nor chunks"),
        }
        Ok(status)
    }

    /// Sends a request without waiting for its answer.
    pub(crate) fn send(&mut self, request: &Request) -> Result<()> {
        let Request { method, path, body } = request;
        let headers = &self.headers;
        let text = match body {
            Some(body) => format!(
                "{method} {path} HTTP/1.1\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            None => format!("{method} {path} HTTP/1.1\r\n{headers}\r\n"),
        };
        Ok(self.stream.get_mut().write_all(text.as_bytes())?)
    }

    /// Reads a line without its end, and returns its length.
    fn next_line(&mut self) -> Result<usize> {
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line)?;
        ensure!(
            self.line.ends_with(b"\n"),
            "the server closed the connection"
        );
        self.line.truncate(self.line.trim_ascii_end().len());
        Ok(self.line.len())
    }

    fn copy_chunks(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        loop {
            self.next_line()?;
            let length = parse_number(&self.line, 16)?;
            if length > 0 {
                self.copy(length, sink)?;
            }
            ensure!(self.next_line()? == 0, "a chunk longer than it said");
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn copy(&mut self, length: u64, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut body = self.stream.by_ref().take(length);
        let mut read = 0;
        while read < length {
            let piece = body.fill_buf()?;
            ensure!(
                !piece.is_empty(),
                "the server closed the connection within an answer"
            );
            sink(piece);
            let count = piece.len();
            body.consume(count);
            read += count as u64;
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }
}

fn parse_status(line: &[u8]) -> Option<u16> {
    let code = line.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}

fn parse_number(text: &[u8], radix: u32) -> Result<u64> {
    let text = std::str::from_utf8(text)?.trim();
    u64::from_str_radix(text, radix).with_context(|| format!("{text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers requests on one connection, each with the next of `answers`; returns the requests.
    fn serve(
        answers: &'static [&'static str],
    ) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let read = |mut stream: &TcpStream| {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes[..count]).into_owned()
            };
            let answer = |answer: &&str| {
                let request = read(&stream);
                stream.write_all(answer.as_bytes()).unwrap();
                request
            };
            answers.iter().map(answer).collect()
        });
        (address, serving)
    }

    #[test]
    fn answers_with_a_length_and_in_chunks_are_read_on_one_connection() {
        let (address, serving) = serve(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ]);
        let mut connection = Connection::open(address, "secret").unwrap();
        assert_eq!(connection.ask(&Request::get("/x?y=1")).unwrap(), b"hello");
        let post = Request::post("/jobs", &serde_json::json!({"a": 1}));
        assert_eq!(connection.ask(&post).unwrap(), b"abc0123456789");
        assert_eq!(connection.ask(&Request::get("/z")).unwrap(), b"");
        let asked = serving.join().unwrap();
        assert!(asked[0].starts_with("GET /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:"));
        assert!(asked[0].contains("\r\nAuthorization: Bearer secret\r\n"));
        assert!(asked[1].ends_with("Content-Length: 7\r\n\r\n{\"a\":1}"));
    }

    #[test]
    fn an_error_status_is_an_error_that_says_what_the_server_said() {
        let (address, serving) = serve(&["HTTP/1.1 409 Conflict\r\nContent-Length: 4\r\n\r\nbusy"]);
        let mut connection = Connection::open(address, "secret").unwrap();
        let error = connection.ask(&Request::get("/x")).unwrap_err();
        assert_eq!(error.to_string(), "GET /x: 409 busy");
        serving.join().unwrap();
    }
}
