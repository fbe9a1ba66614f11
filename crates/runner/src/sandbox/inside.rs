//! The first process behind the wall.
//!
//! It is process 1 of its namespace: when it ends, everything else in there is killed by the
//! kernel. It starts the agent, passes the supervisor's signals on, collects the dead, and ends
//! with the agent's exit code.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions};
use tokio::io::{AsyncBufReadExt as _, copy_bidirectional};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::gate::{Answer, Task};
use super::kernel;
use super::wall::PROXY_PORT;

const GATE: &str = "/run/agent-server/gate";
const PROXY: &str = "/run/agent-server/proxy";
/// What a shell says of a command that cannot be started.
const NOT_STARTED: u8 = 126;

/// Starts the agent behind a wall and sees it to its end.
///
/// This is what the program named in [`crate::Sandbox::inside`] does, called first thing in
/// `main`; it takes its task from a socket that it finds inside.
pub fn inside() -> ExitCode {
    match begin() {
        Ok(code) => code,
        Err(error) => {
            // The wall's own complaint is read by the supervisor where the agent has not begun.
            writeln!(io::stderr().lock(), "inside the sandbox: {error}").ok();
            ExitCode::from(NOT_STARTED)
        }
    }
}

fn begin() -> io::Result<ExitCode> {
    let mut gate = UnixStream::connect(GATE)?;
    let mut line = String::new();
    BufReader::new(&gate).read_line(&mut line)?;
    let task: Task = serde_json::from_str(&line)?;
    if let Err(error) = close_what_is_open() {
        answer(&mut gate, &Answer::NotUp(error.to_string()))?;
        return Ok(ExitCode::from(NOT_STARTED));
    }
    let Some(program) = task.program else {
        answer(&mut gate, &Answer::Up)?;
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Before the agent starts, so that neither its connections nor its end come too early.
        let mut children = signal(SignalKind::child())?;
        if task.proxied {
            lead_out(TcpListener::bind(("127.0.0.1", PROXY_PORT)).await?);
        }
        let agent = match start(&program, &task.args) {
            Ok(agent) => agent,
            Err(error) => {
                let text = format!("cannot start {}: {error}", program.display());
                answer(&mut gate, &Answer::NotStarted(text))?;
                return Ok(ExitCode::from(NOT_STARTED));
            }
        };
        answer(&mut gate, &Answer::Up)?;
        gate.set_nonblocking(true)?;
        let gate = tokio::net::UnixStream::from_std(gate)?;
        let mut words = tokio::io::BufReader::new(gate).lines();
        let mut end = End::new(agent, task.drain);
        while !end.is_over() {
            tokio::select! {
                _ = children.recv() => end.take_note(),
                word = words.next_line() => match word {
                    Ok(Some(word)) => pass_on(agent, &word),
                    // Without its supervisor, nothing in here is to go on.
                    _ => return Ok(ExitCode::from(NOT_STARTED)),
                },
                () = end.drained() => break,
            }
        }
        Ok(end.exit_code())
    })
}

/// Shuts what bubblewrap leaves open.
fn close_what_is_open() -> io::Result<()> {
    // Neither traced nor read by the agent, which has the same user id.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // A core file, or the program outside that takes it, would hold the agent's credentials.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none)?;
    kernel::scope()
}

fn answer(gate: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    gate.write_all(&line)
}

/// Starts the agent in a process group of its own, which signals are sent to.
fn start(program: &OsString, args: &[OsString]) -> io::Result<Pid> {
    let child = Command::new(program).args(args).process_group(0).spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("it has no number"))
}

fn pass_on(agent: Pid, word: &str) {
    let number = word.parse().ok();
    let Some(signal) = number.and_then(Signal::from_named_raw) else {
        return;
    };
    rustix::process::kill_process_group(agent, signal).ok();
    // A stopped process acts on nothing else.
    rustix::process::kill_process_group(agent, Signal::CONT).ok();
}

/// How far the end has come.
struct End {
    agent: Pid,
    code: Option<u8>,
    /// Nobody else is left.
    alone: bool,
    drain: Duration,
    drained_at: Option<Instant>,
}

impl End {
    fn new(agent: Pid, drain: Duration) -> Self {
        Self {
            agent,
            code: None,
            alone: false,
            drain,
            drained_at: None,
        }
    }

    /// Collects the dead: the agent, and orphans, who all come to process 1.
    fn take_note(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.agent => {
                    let killed = || status.terminating_signal().map(|signal| 128 + signal);
                    let code = status.exit_status().or_else(killed).unwrap_or_default();
                    self.code = u8::try_from(code).ok().or(Some(u8::MAX));
                    self.drained_at = Some(Instant::now() + self.drain);
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return,
                Err(_) => {
                    self.alone = true;
                    return;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.code.is_some() && self.alone
    }

    /// Returns when what the agent has left behind has gone on for long enough.
    async fn drained(&self) {
        match self.drained_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn exit_code(&self) -> ExitCode {
        self.code.map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

/// Leads what is sent to a port in here to the proxy outside.
fn lead_out(listener: TcpListener) {
    tokio::spawn(async move {
        loop {
            let Ok((mut client, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            tokio::spawn(async move {
                if let Ok(mut proxy) = tokio::net::UnixStream::connect(PROXY).await {
                    copy_bidirectional(&mut client, &mut proxy).await.ok();
                }
            });
        }
    });
}
