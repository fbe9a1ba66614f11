//! The `gh` command and its login, for operators who keep no token in the server's settings.
//!
//! Everything goes through `gh api`, which speaks REST; the request is given on standard input,
//! so no title is ever an argument.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use agent_domain::{PullRequest, RepoSlug, Secret};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::forge::GITHUB_API;
use crate::wire::{self, ANSWER_MAX, Answer, Opened};
use crate::{ForgeError, GitHub, PullRequestRequest};

/// Longest time for one call.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// Where `gh` is asked to look when nobody says otherwise.
const HOST: &str = "github.com";
/// What `gh` says of a network that fails.
const NETWORK_FAULTS: &[&str] = &[
    "error connecting to",
    "dial tcp",
    "timeout",
    "connection re",
    "EOF",
];

/// Opens pull requests through `gh`.
#[derive(Clone)]
pub struct Gh {
    program: PathBuf,
    env: Vec<(OsString, OsString)>,
    /// The host it speaks to, its `GH_HOST`.
    host: String,
    /// Base URL of that host's REST API.
    api: String,
    timeout: Duration,
}

impl fmt::Debug for Gh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = &self.program;
        f.debug_struct("Gh")
            .field("program", program)
            .finish_non_exhaustive()
    }
}

/// How a run of `gh` ended.
struct Output {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Gh {
    /// Runs `program` with nothing but `env` around it, against the host of `api_url` unless
    /// `env` has a `GH_HOST`.
    pub fn new(
        program: PathBuf,
        api_url: Option<&str>,
        mut env: Vec<(OsString, OsString)>,
    ) -> Self {
        for (name, value) in [("GH_PROMPT_DISABLED", "1"), ("NO_COLOR", "1")] {
            env.retain(|(given, _)| given != name);
            env.push((name.into(), value.into()));
        }
        // To gh, an empty one is none.
        env.retain(|(name, value)| name != "GH_HOST" || !value.is_empty());
        let given = env.iter().find(|(name, _)| name == "GH_HOST");
        let host = match given {
            Some((_, host)) => host.to_string_lossy().into_owned(),
            None => api_url.and_then(host).unwrap_or_else(|| HOST.into()),
        };
        let api = match api_url {
            Some(url) => url.to_owned(),
            None if host == HOST => GITHUB_API.to_owned(),
            None => format!("https://{host}/api/v3"),
        };
        if given.is_none() {
            env.push(("GH_HOST".into(), host.clone().into()));
        }
        Self {
            program,
            env,
            host,
            api,
            timeout: ANSWER_WITHIN,
        }
    }

    /// The REST API of the host it speaks to, with a token in place of its login.
    pub(crate) fn rest(&self, token: &Secret) -> Result<GitHub, ForgeError> {
        GitHub::new(&self.api, token.clone(), &self.env)
    }

    /// Fails unless `gh` is there and logged in.
    ///
    /// It asks who it is and not `gh auth status`, which calls a login invalid whenever the host
    /// cannot be reached, and fails for the login of any other host it knows. What passes by is
    /// no refusal: it is met again, with patience, when a pull request is opened.
    pub(crate) async fn require_login(&self) -> Result<(), ForgeError> {
        match self.user().await {
            Err(error @ (ForgeError::Unavailable(_) | ForgeError::Command(_))) => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks who is logged in.
    pub(crate) async fn user(&self) -> Result<String, ForgeError> {
        match self.api(&["--method", "GET", "user"], Vec::new()).await? {
            answer if answer.status == 401 => Err(self.not_logged_in()),
            answer => wire::user(&answer),
        }
    }

    fn not_logged_in(&self) -> ForgeError {
        let (host, how) = (&self.host, self.how());
        ForgeError::Unavailable(format!("gh is not logged in to {host}; {how}"))
    }

    /// How an operator gets out of it.
    fn how(&self) -> String {
        let host = &self.host;
        format!("set GITHUB_TOKEN, or run: gh auth login --hostname {host}")
    }

    /// Opens a pull request, or finds the one that is open for the branch already.
    pub(crate) async fn pull_request(
        &self,
        request: &PullRequestRequest,
    ) -> Result<PullRequest, ForgeError> {
        let path = format!("repos/{}/pulls", request.repo);
        let post = ["--method", "POST", "--input", "-", &path];
        let answer = self.api(&post, wire::body(request)).await?;
        let missing = match wire::opened(&answer)? {
            Opened::New(pull_request) => return Ok(pull_request),
            Opened::Already(missing) => missing,
        };
        let list = format!("{path}?{}", wire::query(request));
        let answer = self.api(&["--method", "GET", &list], Vec::new()).await?;
        wire::found(&answer, &request.base)?.ok_or(missing)
    }

    /// Adds labels to a pull request.
    pub(crate) async fn label(
        &self,
        repo: &RepoSlug,
        number: u64,
        labels: &[String],
    ) -> Result<(), ForgeError> {
        let path = format!("repos/{repo}/issues/{number}/labels");
        let post = ["--method", "POST", "--input", "-", &path];
        wire::expect_success(&self.api(&post, wire::labels(labels)).await?)
    }

    async fn api(&self, args: &[&str], input: Vec<u8>) -> Result<Answer, ForgeError> {
        let all: Vec<_> = ["api", "--include"].iter().chain(args).copied().collect();
        let output = self.run(&all, input).await?;
        parse(&output.stdout).ok_or_else(|| self.no_answer(&output))
    }

    async fn run(&self, args: &[&str], input: Vec<u8>) -> Result<Output, ForgeError> {
        let child = Command::new(&self.program)
            .args(args)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let (program, how) = (self.program.display(), self.how());
                ForgeError::Unavailable(format!("{program} cannot be run ({error}); {how}"))
            })?;
        let mut group = Group(child);
        let ended = tokio::time::timeout(self.timeout, group.finish(&input)).await;
        ended.unwrap_or_else(|_| Err(ForgeError::Network("gh did not answer in time".into())))
    }

    /// What is wrong when `gh` has got no answer.
    fn no_answer(&self, output: &Output) -> ForgeError {
        let said = wire::shown(&output.stderr);
        // Exit code 4: it wants to be logged in.
        if output.code == Some(4) || said.contains("gh auth login") {
            self.not_logged_in()
        } else if NETWORK_FAULTS.iter().any(|fault| said.contains(fault)) {
            ForgeError::Network(said)
        } else {
            ForgeError::Command(said)
        }
    }
}

/// A running `gh` with whatever it has started; killed when dropped before its end.
struct Group(Child);

impl Group {
    async fn finish(&mut self, input: &[u8]) -> Result<Output, ForgeError> {
        let child = &mut self.0;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // One that does not read its input says so in its answer.
                stdin.write_all(input).await.ok();
            }
            Ok(())
        };
        let ((), stdout, stderr) = tokio::try_join!(write, read(stdout), read(stderr))?;
        let failed = |error: std::io::Error| ForgeError::Command(error.to_string());
        Ok(Output {
            code: child.wait().await.map_err(failed)?.code(),
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id.and_then(Pid::from_raw) {
            // It may have ended by itself.
            kill_process_group(id, Signal::KILL).ok();
        }
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, ForgeError> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut pipe = pipe.take(ANSWER_MAX + 1);
        let read = pipe.read_to_end(&mut bytes).await;
        read.map_err(|error| ForgeError::Command(error.to_string()))?;
    }
    if bytes.len() as u64 > ANSWER_MAX {
        return Err(ForgeError::Unexpected("an answer without end".into()));
    }
    Ok(bytes)
}

/// The host `gh` knows an API by: GitHub's own has another name than its website.
fn host(api_url: &str) -> Option<String> {
    let url = url::Url::parse(api_url).ok()?;
    let host = url.host_str().filter(|host| *host != "api.github.com")?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

/// Reads what `gh api --include` prints: a status line, headers, an empty line, the body.
fn parse(output: &[u8]) -> Option<Answer> {
    let mut rest = output;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        Some(String::from_utf8_lossy(line).trim_end().to_owned())
    };
    let first = line()?;
    let status = first.strip_prefix("HTTP/")?.split(' ').nth(1)?;
    let mut answer = Answer {
        status: status.parse().ok()?,
        retry_after: None,
        limit_remaining: None,
        limit_reset: None,
        date: None,
        body: Vec::new(),
    };
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        let field = match name.to_ascii_lowercase().as_str() {
            "retry-after" => &mut answer.retry_after,
            "x-ratelimit-remaining" => &mut answer.limit_remaining,
            "x-ratelimit-reset" => &mut answer.limit_reset,
            "date" => &mut answer.date,
            _ => continue,
        };
        *field = Some(value.trim().to_owned());
    }
    answer.body = rest.to_vec();
    Some(answer)
}

#[cfg(test)]
#[path = "gh_tests.rs"]
mod tests;
