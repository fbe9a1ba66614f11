//! Starts git: the one place where this crate runs a program.
//!
//! Every command gets an environment of its own, no terminal, its own process group, a time limit
//! and bounded buffers, and neither hooks nor programs that a repository names.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::lock::RepoLock;
use crate::{GitError, verdict};

/// Standard output kept from its beginning.
const STDOUT_MAX: usize = 64 * 1024;
/// Standard error kept up to its end, where git says what went wrong.
const STDERR_MAX: usize = 32 * 1024;
/// How long git may tidy up its lock files after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long output is awaited after git has ended: a connection that ssh keeps open for the next
/// command holds the pipes.
const LINGER: Duration = Duration::from_millis(300);

/// Settings that keep a repository an agent has touched from running anything of its own.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    "advice.addEmbeddedRepo=false",
];

/// Variables that point git at a repository or at settings; they are ours to set.
const OURS: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_AUTHOR_DATE",
    "GIT_COMMITTER_DATE",
];

/// The git program, and what all its runs share.
pub(crate) struct Program {
    path: PathBuf,
    env: Vec<(OsString, OsString)>,
    secrets: Vec<String>,
    timeout: Duration,
}

/// One run of git, being put together.
pub(crate) struct Invocation<'a> {
    program: &'a Program,
    verb: &'static str,
    settings: Vec<&'static str>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<&'a Path>,
    input: Option<Vec<u8>>,
    network: bool,
    lock: Option<Arc<RepoLock>>,
}

/// How a run of git ended.
pub(crate) struct Output {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// The beginning of its standard output.
    pub(crate) stdout: Vec<u8>,
    /// The end of its standard error, secrets masked.
    pub(crate) stderr: String,
    verb: &'static str,
    network: bool,
}

impl Program {
    /// Looks for git along the PATH of `env`.
    pub(crate) fn find(
        env: &[(OsString, OsString)],
        secrets: Vec<String>,
        timeout: Duration,
    ) -> Result<Self, GitError> {
        let dirs = env.iter().find(|(name, _)| name == "PATH").map_or_else(
            || "/usr/local/bin:/usr/bin:/bin".into(),
            |(_, dirs)| dirs.clone(),
        );
        let path = std::env::split_paths(&dirs)
            .map(|dir| dir.join("git"))
            .find(|program| program.is_absolute() && program.is_file())
            .ok_or_else(|| {
                let why = "no git in any directory of PATH";
                GitError::Spawn(std::io::Error::new(std::io::ErrorKind::NotFound, why))
            })?;
        Ok(Self {
            path,
            env: environment(env),
            secrets,
            timeout,
        })
    }

    /// Begins a run of `git <verb>`.
    pub(crate) fn command<'a>(&'a self, verb: &'static str) -> Invocation<'a> {
        Invocation {
            program: self,
            verb,
            settings: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            input: None,
            network: false,
            lock: None,
        }
    }

    fn masked(&self, text: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(text).into_owned();
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), "***");
        }
        text
    }
}

/// What the binary gave, without what is ours to set, and with what makes git fit to be read by
/// a program and never wait for a person.
fn environment(given: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = given
        .iter()
        .filter(|(name, _)| !OURS.iter().any(|ours| name == ours))
        .filter(|(name, _)| !name.as_encoded_bytes().starts_with(b"LC_"))
        .cloned()
        .collect();
    let has =
        |env: &[(OsString, OsString)], wanted: &str| env.iter().any(|(name, _)| name == wanted);
    if !has(&env, "SSH_ASKPASS") {
        // ssh asks this program instead of a terminal, which would leave it waiting for ever.
        env.push(("SSH_ASKPASS".into(), "false".into()));
        env.push(("SSH_ASKPASS_REQUIRE".into(), "force".into()));
    }
    for (name, value) in [
        ("LC_ALL", "C"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_EDITOR", ":"),
    ] {
        env.retain(|(given, _)| given != name);
        env.push((name.into(), value.into()));
    }
    env
}

impl<'a> Invocation<'a> {
    /// Adds `-c setting`.
    pub(crate) fn config(mut self, setting: &'static str) -> Self {
        self.settings.push(setting);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable for this run only.
    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Names the repository, so that no `.git` an agent has made is looked at.
    pub(crate) fn git_dir(self, dir: impl AsRef<Path>) -> Self {
        self.env("GIT_DIR", dir.as_ref())
    }

    /// Runs in the working tree `dir`.
    pub(crate) fn work_tree(mut self, dir: &'a Path) -> Self {
        self.dir = Some(dir);
        self.env("GIT_WORK_TREE", dir)
    }

    /// Gives `bytes` on standard input, which is empty otherwise.
    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Says that it speaks to a remote, with these credentials.
    pub(crate) fn network(mut self, credentials: Vec<(String, OsString)>) -> Self {
        self.network = true;
        self.env.extend(
            credentials
                .into_iter()
                .map(|(name, value)| (name.into(), value)),
        );
        self
    }

    /// Says that it changes a mirror: the lock lasts as long as the process, even longer than
    /// this server.
    pub(crate) fn under(mut self, lock: &Arc<RepoLock>) -> Self {
        self.lock = Some(Arc::clone(lock));
        self
    }

    /// Runs it; any exit code is a success here.
    pub(crate) async fn run(self) -> Result<Output, GitError> {
        let (verb, network, program) = (self.verb, self.network, self.program);
        let mut command = self.command().map_err(GitError::Spawn)?;
        let child = command.spawn().map_err(GitError::Spawn)?;
        // The command holds a handle of the lock file.
        drop(command);
        let mut running = Running {
            group: Some(Group(child)),
            lock: self.lock,
        };
        let limit = program.timeout;
        let finish = running.finish(self.input.unwrap_or_default());
        let Ok(ended) = tokio::time::timeout(limit, finish).await else {
            running.end().await;
            return Err(GitError::TimedOut { verb, after: limit });
        };
        let (code, stdout, stderr) = ended.map_err(GitError::Spawn)?;
        Ok(Output {
            code,
            stdout,
            stderr: program.masked(&stderr),
            verb,
            network,
        })
    }

    /// Runs it and names the failure unless it ended with exit code 0.
    pub(crate) async fn run_ok(self) -> Result<Output, GitError> {
        self.run().await?.into_result()
    }

    fn command(&self) -> std::io::Result<Command> {
        let stdin = match (&self.input, &self.lock) {
            (Some(_), _) => Stdio::piped(),
            // The lock file is empty, so it reads as no input at all.
            (None, Some(lock)) => lock.share()?.into(),
            (None, None) => Stdio::null(),
        };
        let mut command = Command::new(&self.program.path);
        for setting in SETTINGS.iter().chain(&self.settings) {
            command.arg("-c").arg(setting);
        }
        command
            .arg(self.verb)
            .args(&self.args)
            .env_clear()
            .envs(self.program.env.iter().map(|(name, value)| (name, value)))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.unwrap_or(Path::new("/")))
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }
}

impl Output {
    /// Whether git says it succeeded.
    pub(crate) fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Names the failure if it is one.
    pub(crate) fn into_result(self) -> Result<Self, GitError> {
        if self.success() {
            Ok(self)
        } else {
            Err(self.failure())
        }
    }

    /// Names the failure.
    pub(crate) fn failure(&self) -> GitError {
        verdict::failure(self.verb, self.network, self.code, &self.stderr)
    }
}

/// A process group whose leader is not waited for yet; killed when dropped.
struct Group(Child);

impl Group {
    /// The group's id, for as long as nobody else can have got it.
    fn id(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.0.id()?).ok()?)
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id() {
            // It may have ended by itself.
            kill_process_group(id, signal).ok();
        }
    }

    /// Ends the group: git takes its lock files away when it is asked to end, not when killed.
    async fn end(mut self) {
        self.signal(Signal::TERM);
        let gone = async {
            while self.id().is_some_and(|id| !has_ended(id)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(GRACE, gone).await.ok();
        // The leader is not waited for yet, so the number still stands for this group.
        self.signal(Signal::KILL);
        self.0.wait().await.ok();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Whether a child has ended; leaves it to be waited for.
fn has_ended(id: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    !matches!(waitid(WaitId::Pid(id), options), Ok(None))
}

/// A running git. When it is dropped before its end, whoever asked for it has lost interest: the
/// group is ended behind the caller's back, and keeps the repository's lock until it is gone.
struct Running {
    group: Option<Group>,
    lock: Option<Arc<RepoLock>>,
}

impl Running {
    /// Feeds it, reads it, and waits for it.
    async fn finish(&mut self, input: Vec<u8>) -> std::io::Result<(Option<i32>, Vec<u8>, Vec<u8>)> {
        let Some(Group(child)) = &mut self.group else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = {
            let pipes = async {
                let write = async {
                    if let Some(mut stdin) = stdin {
                        // Git that ends early says why on its standard error.
                        stdin.write_all(&input).await.ok();
                    }
                };
                tokio::join!(
                    write,
                    read_beginning(stdout, &mut out),
                    read_end(stderr, &mut err)
                );
            };
            tokio::pin!(pipes);
            tokio::select! {
                status = child.wait() => {
                    tokio::time::timeout(LINGER, &mut pipes).await.ok();
                    status?
                }
                () = &mut pipes => child.wait().await?,
            }
        };
        self.group = None;
        self.lock = None;
        Ok((status.code(), out, err))
    }

    async fn end(&mut self) {
        if let Some(group) = self.group.take() {
            group.end().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(group), Ok(runtime)) = (self.group.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let lock = self.lock.take();
        runtime.spawn(async move {
            group.end().await;
            drop(lock);
        });
    }
}

async fn read_beginning(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    read(pipe, |piece| {
        let room = STDOUT_MAX - kept.len().min(STDOUT_MAX);
        kept.extend_from_slice(&piece[..piece.len().min(room)]);
    })
    .await;
}

async fn read_end(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    read(pipe, |piece| {
        kept.extend_from_slice(piece);
        if kept.len() > 2 * STDERR_MAX {
            kept.drain(..kept.len() - STDERR_MAX);
        }
    })
    .await;
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = vec![0; 8 * 1024];
    loop {
        match pipe.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => take(&piece[..length]),
        }
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
