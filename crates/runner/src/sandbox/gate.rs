//! The socket through which a supervisor speaks with the first process behind the wall.
//!
//! It lies in the attempt's directory and is bound into the wall, so nothing has to be inherited.
//! The first process connects before the agent exists; after that nobody can: the name is gone.
//! One line of JSON goes in, one comes back once the agent runs; from then on the numbers of
//! signals go in, a line each, until either side ends.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;

use crate::output::is_full;

/// Its name in the attempt's directory.
pub(super) const GATE: &str = "gate";
/// How long a wall may take; it takes 50 ms where there is nothing else to do.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// How long the error of a wall that failed is waited for.
const COMPLAINT_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer that was given before the end may take to be read.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(200);
/// Longest answer, and longest complaint, that is read.
const ANSWER_MAX: u64 = 16 * 1024;

/// What the first process inside is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// The agent and its arguments; without it there is nothing to do but to say that all is well.
    pub(super) program: Option<OsString>,
    pub(super) args: Vec<OsString>,
    /// How long what the agent leaves behind may go on.
    pub(super) drain: Duration,
    /// Whether the way out is the proxy's socket.
    pub(super) proxied: bool,
}

/// What it says to that.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The agent runs.
    Up,
    /// The wall stands, and the agent cannot be started.
    NotStarted(String),
    /// The wall lacks something.
    NotUp(String),
}

/// Why no agent runs behind a wall.
#[derive(Debug)]
pub(crate) enum Closed {
    /// The wall could not be set up.
    Wall(String),
    /// The agent could not be started.
    Agent(String),
    /// There is no room on the disk for what the wall needs.
    NoRoom(String),
}

impl Closed {
    /// Names the failure to raise a wall.
    pub(crate) fn of_wall(error: &io::Error, said: String) -> Self {
        if is_full(error) {
            Self::NoRoom(said)
        } else {
            Self::Wall(said)
        }
    }
}

/// The way to a first process inside that has started the agent.
#[derive(Debug)]
pub(crate) struct Gate {
    stream: StdStream,
}

/// Listens at a path that may be longer than a socket's address.
pub(super) fn listen(folder: &Path, name: &str) -> io::Result<UnixListener> {
    let short = folder.join(name);
    if short.as_os_str().len() < 100 || !cfg!(target_os = "linux") {
        return UnixListener::bind(short);
    }
    let folder = File::open(folder)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

impl Gate {
    /// Waits until the first process inside has started the agent; ends `child`, which is the
    /// wall, if it has not.
    pub(super) async fn open(
        listener: UnixListener,
        folder: &Path,
        child: &mut Child,
        task: &Task,
    ) -> Result<Self, Closed> {
        let wall = |error: io::Error| Closed::Wall(error.to_string());
        let opened = {
            let mut conversation = pin!(converse(&listener, task));
            tokio::select! {
                opened = tokio::time::timeout(UP_WITHIN, &mut conversation) => opened
                    .unwrap_or_else(|_| Err(io::Error::other("nothing answers from inside"))),
                ended = child.wait() => {
                    // An agent that ended at once was there all the same.
                    let said = tokio::time::timeout(LAST_WORDS_WITHIN, conversation).await;
                    let ended = || Err(ended.map_or_else(|error| error, |status| {
                        io::Error::other(status.to_string())
                    }));
                    said.ok().and_then(Result::ok).map_or_else(ended, Ok)
                }
            }
        };
        drop(listener);
        fs::remove_file(folder.join(GATE)).ok();
        let closed = match opened {
            Ok((Answer::Up, stream)) => {
                let stream = stream.into_std().map_err(wall)?;
                return Ok(Self { stream });
            }
            Ok((Answer::NotStarted(error), _)) => Closed::Agent(error),
            Ok((Answer::NotUp(error), _)) => Closed::Wall(error),
            Err(error) => Closed::Wall(complaint(child).await.unwrap_or(error.to_string())),
        };
        child.kill().await.ok();
        Err(closed)
    }

    /// Sends a signal to the agent and what it has in its process group.
    pub(crate) fn signal(&self, signal: Signal) {
        // Where it cannot be sent, the process inside is gone or will be killed.
        (&self.stream)
            .write_all(format!("{}\n", signal.as_raw()).as_bytes())
            .ok();
    }
}

async fn converse(listener: &UnixListener, task: &Task) -> io::Result<(Answer, UnixStream)> {
    let (mut stream, _) = listener.accept().await?;
    let mut line = serde_json::to_vec(task)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = Vec::new();
    let mut input = BufReader::new(&mut stream).take(ANSWER_MAX);
    input.read_until(b'\n', &mut answer).await?;
    if answer.is_empty() {
        return Err(io::Error::other("it ended before it answered"));
    }
    Ok((serde_json::from_slice(&answer)?, stream))
}

/// What the wall said on its standard error.
async fn complaint(child: &mut Child) -> Option<String> {
    let mut text = Vec::new();
    let mut errors = child.stderr.take()?.take(ANSWER_MAX);
    let read = tokio::time::timeout(COMPLAINT_WITHIN, errors.read_to_end(&mut text));
    read.await.ok();
    let text = String::from_utf8_lossy(&text);
    let text = crate::text::shortened(text.trim(), 1000);
    (!text.is_empty()).then_some(text)
}
