//! Asking the CLI for its version and whether it is logged in.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt as _;
use tokio::process::{ChildStdout, Command};

use crate::Runner;
use crate::event::Object;

/// Longest wait for an answer; a start of the CLI takes up to five seconds on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Longest wait for its end once it has answered.
const END_WITHIN: Duration = Duration::from_secs(1);
/// Longest answer that is read.
const ANSWER_MAX: u64 = 64 * 1024;

/// What the CLI says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// The version number; `None` when the CLI cannot be run.
    pub version: Option<String>,
    /// Whether it has credentials; not whether they are valid.
    pub authenticated: bool,
}

impl Runner {
    /// Asks the CLI, in the agent's environment; never takes longer than about 40 seconds.
    pub async fn probe(&self) -> Probe {
        self.probe_within(ANSWER_WITHIN).await
    }

    /// Like [`Runner::probe`], with a limit of one's own for each of the two questions.
    pub async fn probe_within(&self, limit: Duration) -> Probe {
        let version = self.ask(&["--version"], limit).await.ok();
        let version = version.and_then(|said| {
            let first = said.split_whitespace().next()?;
            first
                .starts_with(|c: char| c.is_ascii_digit())
                .then(|| first.to_owned())
        });
        if version.is_none() {
            return Probe::default();
        }
        let status = self
            .ask(&["auth", "status"], limit)
            .await
            .unwrap_or_default();
        let logged_in = Object::parse(status.trim()).and_then(|status| status.flag("loggedIn"));
        Probe {
            version,
            authenticated: logged_in.unwrap_or(false),
        }
    }

    async fn ask(&self, args: &[&str], limit: Duration) -> io::Result<String> {
        let mut child = Command::new(&self.config.claude)
            .args(args)
            .env_clear()
            .envs(
                self.config
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            // Not where someone's project settings may lie.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|pid| i32::try_from(pid).ok());
        let group = group.and_then(Pid::from_raw);
        let output = child.stdout.take();
        let answer = tokio::time::timeout(limit, read(output)).await;
        // Until the child has been waited for, the number is that of no other group.
        if answer.is_err() {
            kill(group);
        }
        if tokio::time::timeout(END_WITHIN, child.wait())
            .await
            .is_err()
        {
            kill(group);
        }
        answer?
    }
}

async fn read(output: Option<ChildStdout>) -> io::Result<String> {
    let mut said = Vec::new();
    if let Some(output) = output {
        output.take(ANSWER_MAX).read_to_end(&mut said).await?;
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        rustix::process::kill_process_group(group, Signal::KILL).ok();
    }
}
