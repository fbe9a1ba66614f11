//! Asking the CLI for its version and which credentials it finds.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use agent_domain::CredentialName;
use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt as _;
use tokio::process::{ChildStdout, Command};

use crate::Runner;
use crate::event::Object;
use crate::login::Login;

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
    /// Whether it has any credential; not whether that is valid.
    pub authenticated: bool,
    /// Of each credential whether it is there; `None` where it gave no answer.
    pub logins: Vec<(CredentialName, Option<bool>)>,
}

impl Runner {
    /// Asks the CLI, in the environment of each credential; never takes longer than about 20 seconds
    /// for its version and for each of them. Those with a secret are there for good once they have
    /// been found.
    pub async fn probe(&self) -> Probe {
        self.probe_within(ANSWER_WITHIN).await
    }

    /// Like [`Runner::probe`], with a limit of one's own for each of the questions.
    pub async fn probe_within(&self, limit: Duration) -> Probe {
        let environment = &self.config.environment;
        let version = self.ask(&["--version"], environment, limit).await.ok();
        let version = version.and_then(|said| {
            let first = said.split_whitespace().next()?;
            first
                .starts_with(|c: char| c.is_ascii_digit())
                .then(|| first.to_owned())
        });
        let mut logins = Vec::new();
        // Two that ask at the same time ask once.
        let mut known = self.known_logins.lock().await;
        for (name, login) in &self.config.logins {
            let found = match known.get(name) {
                Some(found) => Some(*found),
                None if version.is_none() => None,
                None => self.is_there(login, limit).await,
            };
            if let (Some(found), false) = (found, login.can_change()) {
                known.insert(name.clone(), found);
            }
            logins.push((name.clone(), found));
        }
        Probe {
            authenticated: version.is_some()
                && logins.iter().any(|(_, found)| *found == Some(true)),
            version,
            logins,
        }
    }

    /// Whether the CLI finds a login; `None` where it does not say.
    async fn is_there(&self, login: &Login, limit: Duration) -> Option<bool> {
        let environment = login.applied(self.config.environment.clone());
        let status = self.ask(&["auth", "status"], &environment, limit).await;
        Object::parse(status.ok()?.trim())?.flag("loggedIn")
    }

    async fn ask(
        &self,
        args: &[&str],
        environment: &[(OsString, OsString)],
        limit: Duration,
    ) -> io::Result<String> {
        let mut child = Command::new(&self.config.claude)
            .args(args)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
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
