//! The `gh` command and its login, for operators who keep no token in the server's settings.
//!
//! Everything goes through `gh api`, which speaks REST; the request is given on standard input,
//! so no title or branch is ever an argument.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use agent_domain::PullRequest;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::wire::{Answer, NewPull, head_query, pulls_path};
use crate::{ForgeError, PullRequestRequest};

/// Longest time for one call.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// How an operator gets out of it.
const HOW: &str = "set GITHUB_TOKEN, or run: gh auth login";

/// Opens pull requests through `gh`.
#[derive(Debug, Clone)]
pub struct Gh {
    program: PathBuf,
    env: Vec<(OsString, OsString)>,
}

impl Gh {
    /// Runs `program` with nothing but `env` around it.
    pub fn new(program: PathBuf, env: Vec<(OsString, OsString)>) -> Self {
        Self { program, env }
    }

    /// Fails unless `gh` is there and logged in.
    pub(crate) async fn require_login(&self) -> Result<(), ForgeError> {
        let output = self.run(&["auth", "status"], Vec::new()).await?;
        if output.status.success() {
            return Ok(());
        }
        Err(ForgeError::Unavailable(format!(
            "gh is not logged in; {HOW}"
        )))
    }

    /// Opens a pull request, or finds the one that is open for the branch already.
    pub(crate) async fn pull_request(
        &self,
        request: &PullRequestRequest,
    ) -> Result<PullRequest, ForgeError> {
        let path = pulls_path(request);
        let body = serde_json::to_vec(&NewPull::from(request))
            .map_err(|error| ForgeError::Unexpected(error.to_string()))?;
        let made = self
            .api(&["--method", "POST", "--input", "-", &path], body)
            .await?;
        if (200..300).contains(&made.status) {
            return made.pull();
        }
        if !made.says_exists() {
            return Err(made.error());
        }
        let list = format!("{path}?{}", head_query(request));
        let found = self.api(&[&list], Vec::new()).await?;
        if found.status != 200 {
            return Err(found.error());
        }
        found
            .pick(request.base.as_str())?
            .ok_or_else(|| made.error())
    }

    async fn api(&self, args: &[&str], input: Vec<u8>) -> Result<Answer, ForgeError> {
        let all: Vec<_> = ["api", "--include"].iter().chain(args).copied().collect();
        let output = self.run(&all, input).await?;
        parse(&output.stdout).ok_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            ForgeError::Command(said.trim().chars().take(500).collect())
        })
    }

    async fn run(&self, args: &[&str], input: Vec<u8>) -> Result<Output, ForgeError> {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .envs(self.env.iter().cloned());
        command
            .env("GH_PROMPT_DISABLED", "1")
            .env("NO_COLOR", "1")
            .kill_on_drop(true);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            let program = self.program.display();
            ForgeError::Unavailable(format!("{program} cannot be run ({error}); {HOW}"))
        })?;
        let stdin = child.stdin.take();
        let call = async {
            if let Some(mut stdin) = stdin {
                // One that does not read its input says so in its answer.
                stdin.write_all(&input).await.ok();
            }
            child.wait_with_output().await
        };
        match tokio::time::timeout(ANSWER_WITHIN, call).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err(ForgeError::Command(error.to_string())),
            Err(_) => Err(ForgeError::Network("gh did not answer in time".to_owned())),
        }
    }
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
    let status = line()?
        .strip_prefix("HTTP/")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    let (mut retry_after, mut limit_used_up) = (None, false);
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "retry-after" => retry_after = value.trim().parse().ok().map(Duration::from_secs),
            "x-ratelimit-remaining" => limit_used_up = value.trim() == "0",
            _ => {}
        }
    }
    Some(Answer {
        status,
        body: rest.to_vec(),
        retry_after,
        limit_used_up,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_headers_and_body_of_an_answer_are_told_apart() {
        let text =
            b"HTTP/2.0 403 Forbidden\r\nRetry-After: 30\r\nX: y\r\n\r\n{\"message\":\"a\\nb\"}";
        let answer = parse(text).unwrap();
        assert_eq!(answer.status, 403);
        assert_eq!(answer.retry_after, Some(Duration::from_secs(30)));
        assert_eq!(answer.body, br#"{"message":"a\nb"}"#);
    }

    #[test]
    fn an_output_without_a_status_line_is_no_answer() {
        assert!(parse(b"gh: not logged in").is_none());
        assert!(parse(b"HTTP/1.1 abc\n\n").is_none());
        assert!(parse(b"").is_none());
    }
}
