//! Starts git: the one place where this crate runs a program.
//!
//! Every command gets an environment of its own, no terminal, its own process group, a time limit
//! and bounded buffers, and neither hooks nor programs that a repository names.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::OnceCell;

use crate::lock::RepoLock;
use crate::remote::Access;
use crate::settings::{self, Operator, OperatorSettings, SETTINGS, environment};
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

/// The git program, and what all its runs share.
pub(crate) struct Program {
    path: PathBuf,
    env: Vec<(OsString, OsString)>,
    operator: OnceCell<OperatorSettings>,
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
    operator: Operator,
    access: Option<Access>,
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
    pub(crate) fn find(env: &[(OsString, OsString)], timeout: Duration) -> Result<Self, GitError> {
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
            operator: OnceCell::new(),
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
            operator: Operator::FiltersOnly,
            access: None,
            lock: None,
        }
    }

    /// The operator's settings as they were when they were first asked for.
    async fn operator(&self) -> Result<&OperatorSettings, GitError> {
        let read = || async {
            let list = self.command("config").args(["--list", "-z"]);
            // A place without a repository.
            let list = list.git_dir("/dev/null").for_operator();
            let listed = list.run_with(&[]).await?.into_result()?;
            Ok(OperatorSettings::parse(&listed.stdout))
        };
        self.operator.get_or_try_init(read).await
    }
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

    /// Lets the operator's settings count as they are now.
    pub(crate) fn for_operator(mut self) -> Self {
        self.operator = Operator::Live;
        self
    }

    /// Says that it speaks to a remote, and how it gets in.
    pub(crate) fn network(mut self, access: Option<Access>) -> Self {
        self.network = true;
        self.operator = if access.is_some() {
            Operator::AtFirst
        } else {
            Operator::Live
        };
        self.access = access;
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
        let mut counting = match self.operator {
            Operator::Live => Vec::new(),
            which => self.program.operator().await?.counting(which),
        };
        counting.extend(
            self.access
                .iter()
                .flat_map(|access| access.settings.clone()),
        );
        self.run_with(&counting).await
    }

    /// Runs it with these settings.
    async fn run_with(self, counting: &[(String, String)]) -> Result<Output, GitError> {
        let (verb, network, program) = (self.verb, self.network, self.program);
        let (mut command, errors) = self.command(counting).map_err(GitError::Spawn)?;
        let mut child = command.spawn().map_err(GitError::Spawn)?;
        // The command holds a handle of the lock file, and of the other end of the channel.
        drop(command);
        let errors = errors.or_else(|| Some(Errors::Pipe(child.stderr.take()?)));
        let mut running = Running {
            group: Some(Group(child)),
            lock: self.lock,
        };
        let limit = program.timeout;
        let finish = running.finish(self.input.unwrap_or_default(), errors);
        let Ok(ended) = tokio::time::timeout(limit, finish).await else {
            running.end().await;
            return Err(GitError::TimedOut { verb, after: limit });
        };
        let (code, stdout, stderr) = ended.map_err(GitError::Spawn)?;
        Ok(Output {
            code,
            stdout,
            stderr: masked(&stderr, self.access.as_ref()),
            verb,
            network,
        })
    }

    /// Runs it and names the failure unless it ended with exit code 0.
    pub(crate) async fn run_ok(self) -> Result<Output, GitError> {
        self.run().await?.into_result()
    }

    /// The command, and where its standard error comes from if not from a pipe.
    fn command(&self, counting: &[(String, String)]) -> std::io::Result<(Command, Option<Errors>)> {
        let (stderr, errors) = match &self.access {
            Some(access) => {
                let (theirs, ours) = access.channel()?;
                (theirs.into(), Some(Errors::Channel(ours)))
            }
            None => (Stdio::piped(), None),
        };
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
            .envs(settings::as_variables(self.operator, counting))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.unwrap_or(Path::new("/")))
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(stderr);
        Ok((command, errors))
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

/// Where git's standard error arrives.
enum Errors {
    Pipe(ChildStderr),
    /// Through the channel by which it is given a token.
    Channel(UnixStream),
}

impl AsyncRead for Errors {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_read(context, buffer),
            Self::Channel(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

fn masked(text: &[u8], access: Option<&Access>) -> String {
    let text = String::from_utf8_lossy(text).into_owned();
    match access {
        Some(access) => text.replace(access.token.expose(), "***"),
        None => text,
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
    async fn finish(
        &mut self,
        input: Vec<u8>,
        errors: Option<Errors>,
    ) -> std::io::Result<(Option<i32>, Vec<u8>, Vec<u8>)> {
        let Some(Group(child)) = &mut self.group else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
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
                    read_end(errors, &mut err)
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
