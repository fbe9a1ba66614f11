//! A small HTTP server around `git http-backend`, with Basic authentication and faults to order.
//!
//! It needs nothing but the standard library, so that other test crates can include it by path.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Serves every bare repository below a directory until it is dropped.
pub(crate) struct HttpBackend {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    root: PathBuf,
    /// The only `Authorization` header that is let in; `None` lets everyone in.
    expected: Option<String>,
    /// Answers to give before anything else: status, and further headers.
    faults: Mutex<Vec<String>>,
    /// Method and target of every request so far, and whether it was let in.
    requests: Mutex<Vec<(String, bool)>>,
    closing: Mutex<bool>,
    /// Whoever is let in waits while it is set.
    paused: Mutex<bool>,
}

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, wanted: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(name, _)| name == wanted)?;
        Some(&found.1)
    }
}

impl HttpBackend {
    /// Serves the repositories below `root` to whoever sends `Authorization: <expected>`.
    pub(crate) fn start(root: &Path, expected: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("no free port");
        let address = listener.local_addr().expect("no address");
        let state = Arc::new(State {
            root: root.to_owned(),
            expected,
            faults: Mutex::default(),
            requests: Mutex::default(),
            closing: Mutex::default(),
            paused: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || accept(&listener, &shared));
        Self {
            address,
            state,
            thread: Some(thread),
        }
    }

    /// `http://127.0.0.1:<port>/`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Answers the next request with `head`: a status, and maybe further headers.
    pub(crate) fn fail_next(&self, head: &str) {
        lock(&self.state.faults).push(head.to_owned());
    }

    /// Lets requests that are let in wait for their answer, or no more.
    pub(crate) fn pause(&self, paused: bool) {
        *lock(&self.state.paused) = paused;
    }

    /// Method and target of every request so far, and whether it was let in.
    pub(crate) fn requests(&self) -> Vec<(String, bool)> {
        lock(&self.state.requests).clone()
    }
}

impl Drop for HttpBackend {
    fn drop(&mut self) {
        *lock(&self.state.closing) = true;
        *lock(&self.state.paused) = false;
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming() {
        if *lock(&state.closing) {
            return;
        }
        let state = Arc::clone(state);
        // Ends with its connection.
        drop(std::thread::spawn(move || {
            stream.map(|stream| state.serve(&stream))
        }));
    }
}

impl State {
    fn serve(&self, mut stream: &TcpStream) {
        let Some(request) = read_request(stream) else {
            return;
        };
        let given = request.header("authorization");
        let known = self.expected.is_none() || given == self.expected.as_deref();
        let line = format!("{} {}", request.method, request.target);
        lock(&self.requests).push((line, known));
        while known && *lock(&self.paused) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let fault = lock(&self.faults).pop();
        let answer = match fault {
            Some(head) => plain(&head),
            None if known => self.backend(request),
            None => plain("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\""),
        };
        // A client that has gone needs no answer.
        drop(stream.write_all(&answer));
    }

    /// Runs `git http-backend` as a CGI program.
    fn backend(&self, request: Request) -> Vec<u8> {
        let target = request.target.split_once('?');
        let (path, query) = target.unwrap_or((&request.target, ""));
        let mut command = Command::new("git");
        command
            .args(["-c", "http.receivepack=true", "http-backend"])
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("REQUEST_METHOD", &request.method)
            .env("REMOTE_USER", "x-access-token")
            .env("REMOTE_ADDR", "127.0.0.1")
            .env("CONTENT_LENGTH", request.body.len().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for (header, variable) in [
            ("content-type", "CONTENT_TYPE"),
            ("content-encoding", "HTTP_CONTENT_ENCODING"),
            ("git-protocol", "GIT_PROTOCOL"),
        ] {
            if let Some(value) = request.header(header) {
                command.env(variable, value);
            }
        }
        let mut child = command.spawn().expect("git http-backend cannot be run");
        let mut stdin = child.stdin.take().expect("no standard input");
        let body = request.body;
        let writer = std::thread::spawn(move || stdin.write_all(&body));
        let output = child.wait_with_output();
        let output = output.expect("git http-backend was lost");
        drop(writer.join());
        from_cgi(&output.stdout)
    }
}

/// Turns the answer of a CGI program into one of HTTP.
fn from_cgi(output: &[u8]) -> Vec<u8> {
    let end = output.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else {
        return plain("500 Internal Server Error");
    };
    let head = String::from_utf8_lossy(&output[..end]);
    let body = &output[end + 4..];
    let (status, headers): (Vec<&str>, Vec<&str>) =
        head.lines().partition(|line| line.starts_with("Status: "));
    let status = status.first().map_or("200 OK", |line| &line[8..]);
    let mut answer = format!("HTTP/1.1 {status}\r\n");
    for line in headers {
        answer.push_str(line);
        answer.push_str("\r\n");
    }
    let length = format!("Content-Length: {}\r\n", body.len());
    answer.push_str(&length);
    answer.push_str("Connection: close\r\n\r\n");
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn plain(head: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

fn read_request(mut stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let first = line(&mut reader)?;
    let mut words = first.split(' ');
    let mut request = Request {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let header = line(&mut reader)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        let header = (name.to_lowercase(), value.trim().to_owned());
        request.headers.push(header);
    }
    if request.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if request.header("transfer-encoding") == Some("chunked") {
        request.body = chunks(&mut reader)?;
    } else if let Some(length) = request.header("content-length") {
        request.body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut request.body).ok()?;
    }
    Some(request)
}

fn chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(reader)?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let begin = body.len();
        body.resize(begin + size, 0);
        reader.read_exact(&mut body[begin..]).ok()?;
        // The line end of the chunk, or the empty trailer after the last one.
        line(reader)?;
        if size == 0 {
            return Some(body);
        }
    }
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut text = String::new();
    let length = reader.read_line(&mut text).ok()?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    (length > 0).then_some(text)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
