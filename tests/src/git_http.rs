//! The bare repositories under a directory, served over smart HTTP behind a token.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::fault::Faults;
use crate::http_server::{HttpServer, Request, Response};

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct GitHttp {
    server: HttpServer,
    faults: Faults,
    targets: Arc<Mutex<Vec<String>>>,
}

impl GitHttp {
    /// Serves every repository below `root` to whoever comes as `x-access-token` with `token`.
    pub fn start(root: &Path, token: &str) -> Result<Self> {
        let expected = format!(
            "Basic {}",
            STANDARD.encode(format!("x-access-token:{token}"))
        );
        let (faults, targets) = (Faults::default(), Arc::<Mutex<Vec<String>>>::default());
        let backend = Backend {
            root: root.canonicalize()?,
            expected,
        };
        let (due, seen) = (faults.clone(), Arc::clone(&targets));
        let server = HttpServer::start(move |request| {
            let line = format!("{} {}", request.method, request.target);
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
            due.apply(|| backend.answer(&request))
        })?;
        Ok(Self {
            server,
            faults,
            targets,
        })
    }

    /// What stands before `<org>/<repo>.git`, with its last slash.
    pub fn base(&self) -> String {
        format!("{}/", self.server.url())
    }

    /// The same with the token in it, for a plain git client in a test.
    pub fn base_with_token(&self, token: &str) -> String {
        format!("http://x-access-token:{token}@{}/", self.server.address())
    }

    /// Faults for the next requests.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Method and target of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

struct Backend {
    root: PathBuf,
    expected: String,
}

impl Backend {
    fn answer(&self, request: &Request) -> Response {
        if request.header("authorization") != Some(self.expected.as_str()) {
            return Response::new(401)
                .header("www-authenticate", "Basic realm=\"git\"")
                .body(b"bad credentials\n".to_vec());
        }
        self.run(request)
            .unwrap_or_else(|error| Response::new(500).body(format!("{error:#}\n").into_bytes()))
    }

    fn run(&self, request: &Request) -> Result<Response> {
        let mut child = self
            .command(request)
            .spawn()
            .context("failed to start git http-backend")?;
        let mut stdin = child.stdin.take().context("no pipe to git http-backend")?;
        let body = request.body.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&body));
        let output = child.wait_with_output()?;
        // It need not read a body it refuses.
        drop(writer.join());
        parse(&output.stdout)
    }

    fn command(&self, request: &Request) -> Command {
        let mut command = Command::new("git");
        command
            .arg("http-backend")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REMOTE_USER", "x-access-token")
            .env("REMOTE_ADDR", "127.0.0.1")
            .env("REQUEST_METHOD", &request.method)
            .env("PATH_INFO", request.path())
            .env("QUERY_STRING", request.query())
            .env("CONTENT_LENGTH", request.body.len().to_string());
        for (variable, header) in [
            ("CONTENT_TYPE", "content-type"),
            ("HTTP_CONTENT_ENCODING", "content-encoding"),
            ("GIT_PROTOCOL", "git-protocol"),
        ] {
            if let Some(value) = request.header(header) {
                command.env(variable, value);
            }
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
    }
}

/// Turns a CGI answer into an HTTP one.
fn parse(output: &[u8]) -> Result<Response> {
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("git http-backend printed no head")?;
    let head = std::str::from_utf8(&output[..end])?;
    let mut status = 200;
    let mut headers = Vec::new();
    for line in head.lines() {
        let (name, value) = line.split_once(": ").context("a bad header line")?;
        if name.eq_ignore_ascii_case("status") {
            status = value.split(' ').next().unwrap_or_default().parse()?;
        } else {
            headers.push((name, value));
        }
    }
    let response = headers
        .into_iter()
        .fold(Response::new(status), |response, (name, value)| {
            response.header(name, value)
        });
    Ok(response.body(output[end + 4..].to_vec()))
}
