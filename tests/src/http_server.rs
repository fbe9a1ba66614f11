//! A small HTTP/1.1 server: a thread per connection, one request per connection.
//!
//! Small on purpose: what a fake service puts on the wire should be readable in one place, and
//! faults such as a connection cut in the middle should be easy.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;

use crate::tls::Certificate;

/// Largest body taken, to keep a mistake in a test from eating the machine.
const MAX_BODY_BYTES: u64 = 1 << 30;
/// How often a hanging connection looks whether the server has ended.
const HANG_POLL: Duration = Duration::from_millis(50);

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Header names as sent, and values.
    pub headers: Vec<(String, String)>,
    /// The body, without transfer coding.
    pub body: Vec<u8>,
    /// When its head had been read.
    pub at: SystemTime,
}

impl Request {
    /// The path without the query, as sent.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query without its question mark, as sent; empty when there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The first value of a query parameter, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query().split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
    }

    /// The first value of a header, its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `None` when it is not.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Decodes percent signs and `+` of a query.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|two| {
            let two = std::str::from_utf8(two).ok()?;
            u8::from_str_radix(two, 16).ok()
        });
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes a body piece by piece.
type Writer = Arc<dyn Fn(&mut dyn Write) -> io::Result<()> + Send + Sync>;

/// An answer.
#[derive(Clone)]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    writer: Option<Writer>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &String::from_utf8_lossy(&self.body))
            .finish_non_exhaustive()
    }
}

impl Response {
    /// An answer with no body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            writer: None,
        }
    }

    /// A JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status)
            .header("content-type", "application/json; charset=utf-8")
            .body(body.to_string().into_bytes())
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with this body.
    #[must_use]
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// The same with a body written piece by piece, ended by closing the connection.
    #[must_use]
    pub fn stream(
        mut self,
        writer: impl Fn(&mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.writer = Some(Arc::new(writer));
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    fn write_to(&self, stream: &mut dyn Write, head_only: bool) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, phrase(self.status));
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if self.writer.is_none() && self.status != 204 {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        head += "connection: close\r\n\r\n";
        stream.write_all(head.as_bytes())?;
        if !head_only {
            stream.write_all(&self.body)?;
            if let Some(writer) = &self.writer {
                writer(stream)?;
            }
        }
        stream.flush()
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200..=299 => "OK",
        300..=399 => "Redirect",
        400..=499 => "Client Error",
        _ => "Server Error",
    }
}

/// What a handler does with a request.
#[derive(Debug)]
pub enum Answer {
    /// This is sent.
    Respond(Response),
    /// The connection is closed without a word.
    Drop,
    /// Nothing is sent until the caller or the server ends.
    Hang,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}

type Handler = dyn Fn(Request) -> Answer + Send + Sync;

/// A listening server; dropping it stops it.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    scheme: &'static str,
    stop: Arc<AtomicBool>,
    accept: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(handler: impl Fn(Request) -> Answer + Send + Sync + 'static) -> io::Result<Self> {
        Self::listen(None, Arc::new(handler))
    }

    /// The same behind TLS.
    pub fn start_tls(
        certificate: &Certificate,
        handler: impl Fn(Request) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::listen(Some(certificate), Arc::new(handler))
    }

    fn listen(certificate: Option<&Certificate>, handler: Arc<Handler>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let service = Arc::new(Service {
            handler,
            tls: certificate.map(Certificate::server),
            stop: Arc::clone(&stop),
        });
        let accept = thread::spawn(move || accept_all(&listener, &service));
        Ok(Self {
            address,
            scheme: certificate.map_or("http", |_| "https"),
            stop,
            accept: Some(accept),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`; `https` where it speaks TLS.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits in accept.
        drop(TcpStream::connect(self.address));
        if let Some(accept) = self.accept.take() {
            drop(accept.join());
        }
    }
}

/// What every connection is served with.
struct Service {
    handler: Arc<Handler>,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: Arc<AtomicBool>,
}

fn accept_all(listener: &TcpListener, service: &Arc<Service>) {
    while let Ok((stream, _)) = listener.accept() {
        if service.stop.load(Ordering::SeqCst) {
            return;
        }
        let service = Arc::clone(service);
        // A connection that breaks is the caller's business.
        thread::spawn(move || drop(service.serve(stream)));
    }
}

impl Service {
    fn serve(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let mut plain = socket.try_clone()?;
        match &self.tls {
            None => self.converse(&mut plain, &socket)?,
            Some(config) => {
                let connection = ServerConnection::new(Arc::clone(config));
                let connection = connection.map_err(io::Error::other)?;
                let mut tls = StreamOwned::new(connection, plain);
                self.converse(&mut tls, &socket)?;
                tls.conn.send_close_notify();
                tls.flush()?;
            }
        }
        socket.shutdown(Shutdown::Both)
    }

    /// One request and its answer on `stream`, which runs over `socket`.
    fn converse(&self, stream: &mut (impl Read + Write), socket: &TcpStream) -> io::Result<()> {
        let Some(request) = read_request(stream)? else {
            return Ok(());
        };
        let head_only = request.method == "HEAD";
        match (self.handler)(request) {
            Answer::Respond(response) => response.write_to(stream, head_only),
            Answer::Drop => Ok(()),
            Answer::Hang => hang(socket, &self.stop),
        }
    }
}

fn hang(mut stream: &TcpStream, stop: &AtomicBool) -> io::Result<()> {
    stream.set_read_timeout(Some(HANG_POLL))?;
    while !stop.load(Ordering::SeqCst) {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_request(stream: &mut (impl Read + Write)) -> io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    let Some(first) = read_line(&mut reader)? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    while let Some(line) = read_line(&mut reader)?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Request {
        method,
        target,
        headers,
        body: Vec::new(),
        at: SystemTime::now(),
    };
    if request.header("expect").is_some() {
        let writer = reader.get_mut();
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        writer.flush()?;
    }
    request.body = read_body(&mut reader, &request)?;
    Ok(Some(request))
}

/// One line without its end; `None` at the end of the stream.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.take(64 * 1024).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&line);
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn read_body(reader: &mut impl BufRead, request: &Request) -> io::Result<Vec<u8>> {
    let chunked = request
        .header("transfer-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let mut body = Vec::new();
    if !chunked {
        let length = request.header("content-length").map_or(Ok(0), str::parse);
        let length: u64 = length.map_err(|_| io::ErrorKind::InvalidData)?;
        reader
            .take(length.min(MAX_BODY_BYTES))
            .read_to_end(&mut body)?;
        // Whoever sent it may have died midway.
        if (body.len() as u64) < length.min(MAX_BODY_BYTES) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        return Ok(body);
    }
    loop {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            while read_line(reader)?.is_some_and(|line| !line.is_empty()) {}
            return Ok(body);
        }
        if body.len() as u64 + size > MAX_BODY_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        reader.take(size).read_to_end(&mut body)?;
        read_line(reader)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(server: &HttpServer, text: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn echo() -> HttpServer {
        HttpServer::start(|request| {
            Response::new(200)
                .body([request.target.as_bytes(), b" ", &request.body].concat())
                .into()
        })
        .unwrap()
    }

    #[test]
    fn a_body_with_a_length_and_a_chunked_one_arrive_alike() {
        let server = echo();
        let plain = talk(
            &server,
            "POST /a HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
        );
        let chunked = talk(
            &server,
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        );
        assert!(plain.ends_with("\r\n\r\n/a hello"), "{plain}");
        assert_eq!(plain, chunked);
    }

    #[test]
    fn a_request_whose_body_was_cut_off_is_none() {
        let server = echo();
        let cut = "POST /a HTTP/1.1\r\ncontent-length: 6\r\n\r\nhello";
        assert_eq!(talk(&server, cut), "");
    }

    #[test]
    fn a_query_is_decoded() {
        let request = Request {
            method: "GET".into(),
            target: "/p?head=o%3Afeature%2Fx&q=a+b&flag".into(),
            headers: vec![],
            body: vec![],
            at: SystemTime::now(),
        };
        assert_eq!(request.path(), "/p");
        assert_eq!(request.parameter("head").as_deref(), Some("o:feature/x"));
        assert_eq!(request.parameter("q").as_deref(), Some("a b"));
        assert_eq!(request.parameter("flag").as_deref(), Some(""));
        assert_eq!(request.parameter("none"), None);
    }

    #[test]
    fn a_hanging_request_ends_with_the_server() {
        let server = HttpServer::start(|_| Answer::Hang).unwrap();
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        drop(server);
        let mut rest = Vec::new();
        assert_eq!(stream.read_to_end(&mut rest).unwrap_or(0), 0);
    }
}
