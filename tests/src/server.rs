//! An `agent-server` process in a clean environment and a temporary directory.
//!
//! ```text
//! <dir>/home            HOME, and with it DATA_DIR, REPOS_DIR and WORKTREES_DIR
//! <dir>/remotes         bare repositories that play the remote
//! <dir>/server.out, .err  what the server printed, over all its starts
//! ```
//!
//! Dropping a [`Server`] kills it and everything it has left, and says on a panicking thread what
//! the server had logged.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::JsonClient;
use crate::process::{self, Process};
use crate::repo::BareRepo;

/// The token of every server started here.
pub const SECRET: &str = "test-secret-of-more-than-thirty-two-characters";
/// How long a server may take to listen, on a machine with much else to do.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How long a job or a stop may take.
const WAIT: Duration = Duration::from_secs(90);

/// What a server is started with.
#[derive(Debug)]
pub struct Builder {
    dir: TempDir,
    env: Vec<(OsString, OsString)>,
}

/// A server and the directory it lives in.
#[derive(Debug)]
pub struct Server {
    dir: TempDir,
    env: Vec<(OsString, OsString)>,
    child: Option<Child>,
    url: String,
}

impl Builder {
    /// A server with the bundled fake in place of the CLI, and remotes served from files.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("agent-server-").tempdir()?;
        let remotes = dir.path().join("remotes");
        let home = dir.path().join("home");
        for made in [&remotes, &home] {
            fs::create_dir_all(made)?;
        }
        let mut base = remotes.clone().into_os_string();
        base.push("/");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let env = vec![
            ("PATH".into(), path),
            ("HOME".into(), home.into()),
            ("LANG".into(), "C.UTF-8".into()),
            ("PORT".into(), "0".into()),
            ("AGENT_API_SECRET".into(), SECRET.into()),
            ("GIT_REMOTE_BASE".into(), base),
            ("GIT_CONFIG_NOSYSTEM".into(), "1".into()),
            ("CLAUDE_BIN".into(), program("fake-claude")?.into()),
            ("ANTHROPIC_API_KEY".into(), "sk-ant-of-the-agent".into()),
            ("WEBHOOK_ALLOW".into(), "127.0.0.1".into()),
            ("LOG_LEVEL".into(), "debug".into()),
            ("DISK_RESERVE".into(), "1M".into()),
            // What is free on the machine that runs the tests is no part of them.
            ("DISK_MIN_FREE".into(), "0".into()),
            // Scripts of many tests speak with the test through files that a wall would hide.
            (
                "SANDBOX".into(),
                std::env::var_os("TEST_SANDBOX").unwrap_or("off".into()),
            ),
        ];
        Ok(Self { dir, env })
    }

    /// Sets a variable of the server's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
        self
    }

    /// Puts a wall around every agent.
    #[must_use]
    pub fn behind(self, level: &str) -> Self {
        self.env("SANDBOX", level)
    }

    /// Leaves a variable out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    /// The environment that the server is to be started in.
    pub fn variables(&self) -> &[(OsString, OsString)] {
        &self.env
    }

    /// The temporary directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the bare repositories are.
    pub fn remotes(&self) -> PathBuf {
        self.dir.path().join("remotes")
    }

    /// Makes a repository on the remote.
    pub fn repo(&self, org: &str, name: &str) -> Result<BareRepo> {
        BareRepo::create(&self.remotes(), org, name)
    }

    /// Starts the server and waits until it listens.
    pub fn start(self) -> Result<Server> {
        let mut server = Server {
            dir: self.dir,
            env: self.env,
            child: None,
            url: String::new(),
        };
        server.start()?;
        Ok(server)
    }
}

impl Server {
    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The temporary directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The server's HOME.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The server's `DATA_DIR`.
    pub fn data_dir(&self) -> PathBuf {
        self.home().join("agent-server")
    }

    /// The mirror of a repository.
    pub fn mirror(&self, repo: &BareRepo) -> PathBuf {
        self.home()
            .join("repos")
            .join(repo.org())
            .join(format!("{}.git", repo.name()))
    }

    /// The workspaces that are there now, of any job.
    pub fn workspaces(&self) -> Vec<PathBuf> {
        let entries = |dir: PathBuf| {
            let found = fs::read_dir(dir).into_iter().flatten().flatten();
            found.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let orgs = entries(self.home().join("worktrees"));
        orgs.into_iter()
            .flat_map(entries)
            .flat_map(entries)
            .collect()
    }

    /// A client with the right token.
    pub fn client(&self) -> JsonClient {
        JsonClient::new(&self.url, Some(SECRET))
    }

    /// Its process id.
    pub fn pid(&self) -> Option<i32> {
        self.child
            .as_ref()
            .and_then(|child| i32::try_from(child.id()).ok())
    }

    /// Submits a job and returns its id.
    pub fn submit(&self, body: &Value) -> Result<String> {
        let made = self.client().post("/jobs", body)?.expect(201)?;
        Ok(made["id"]
            .as_str()
            .context("an answer without an id")?
            .to_owned())
    }

    /// Reads a job.
    pub fn job(&self, id: &str) -> Result<Value> {
        self.client().get(&format!("/jobs/{id}"))?.expect(200)
    }

    /// Waits until a job has ended.
    pub fn wait(&self, id: &str) -> Result<Value> {
        self.wait_for(id, |job| {
            matches!(
                job["status"].as_str(),
                Some("completed" | "failed" | "cancelled")
            )
        })
    }

    /// Waits until a job is as wanted.
    pub fn wait_for(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let found = process::wait_until(WAIT, || {
            if let Ok(job) = self.job(id) {
                last = job;
            }
            wanted(&last)
        });
        ensure!(found, "job {id} is not as wanted after {WAIT:?}: {last:#}");
        Ok(last)
    }

    /// Reads a job's raw log.
    pub fn log(&self, id: &str) -> Result<String> {
        let reply = self.client().get(&format!("/jobs/{id}/log"))?;
        ensure!(reply.status == 200, "no log: {}", reply.text());
        Ok(reply.text())
    }

    /// Reads a job's messages as `type: content` lines.
    pub fn messages(&self, id: &str) -> Result<Vec<String>> {
        let job = self
            .client()
            .get(&format!("/jobs/{id}?includeMessages=true"))?
            .expect(200)?;
        let text = |part: &Value| part.as_str().unwrap_or_default().to_owned();
        let messages = job["messages"].as_array().context("no messages")?;
        let line =
            |message: &Value| format!("{}: {}", text(&message["type"]), text(&message["content"]));
        Ok(messages.iter().map(line).collect())
    }

    /// What the server has printed and logged so far.
    pub fn output(&self) -> String {
        let read = |name| fs::read(self.dir.path().join(name)).unwrap_or_default();
        let both = [read("server.out"), read("server.err")].concat();
        String::from_utf8_lossy(&both).into_owned()
    }

    /// Kills the server, as a crash would; its supervisors live on.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            bail!("the server does not run")
        };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends a signal to the server itself.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            process::signal(pid, signal);
        }
    }

    /// Waits until the server has left by itself.
    pub fn exited(&mut self) -> Result<ExitStatus> {
        let Some(child) = &mut self.child else {
            bail!("the server does not run")
        };
        let mut status = None;
        process::wait_until(WAIT, || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
        self.child = None;
        status.context("the server does not leave")
    }

    /// Asks the server to stop, and waits until it has.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.exited()
    }

    /// Sets a variable for the next start.
    pub fn set_env(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
    }

    /// Starts the server on what is there, and waits until it listens.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the server runs already");
        let printed = self.dir.path().join("server.out");
        File::create(&printed)?;
        let append = |name| {
            let mut options = OpenOptions::new();
            options
                .append(true)
                .create(true)
                .open(self.dir.path().join(name))
        };
        let mut command = Command::new(program("agent-server")?);
        command
            .env_clear()
            .envs(self.env.iter().cloned())
            .current_dir(self.dir.path());
        command
            .stdin(Stdio::null())
            .stdout(append("server.out")?)
            .stderr(append("server.err")?);
        self.child = Some(command.spawn().context("cannot start agent-server")?);
        let mut url = None;
        process::wait_until(START_WITHIN, || {
            let printed = fs::read_to_string(&printed).unwrap_or_default();
            let line = printed
                .lines()
                .find_map(|line| line.strip_prefix("listening on "));
            url = line.filter(|_| printed.ends_with('\n')).map(str::to_owned);
            url.is_some() || self.has_left()
        });
        self.url =
            url.with_context(|| format!("the server does not listen:\n{}", self.output()))?;
        Ok(())
    }

    /// Whether it runs; one that has left by itself still has its process id.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && !self.has_left()
    }

    /// Lets the directory stay when this is dropped, and says where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    /// Kills whatever is left of this server's processes and returns what it had to kill.
    pub fn sweep(&mut self) -> Vec<Process> {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        process::kill_all(self.dir.path(), Duration::from_secs(30))
    }

    fn has_left(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.sweep();
        if std::thread::panicking() {
            eprintln!("--- what the server said:\n{}---", self.output());
        }
    }
}

/// A program of this workspace, beside the running one.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Tests run from a directory below the one with the binaries.
    let dirs = own.ancestors().skip(1).take(3);
    let found = dirs.map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: cargo build --workspace --bins"))
}
